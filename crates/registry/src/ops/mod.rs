//! What whoever runs a registry sees of it: health, metrics, who did what.
//!
//! ```text
//!   http::meter ──► metrics   counters and histograms, all of them there from the start
//!   Surroundings ─► exposition ──► GET /metrics
//!                └► GET /readyz
//! ```
//!
//! The registry counts its own requests. What lies around it (store, swarm) the program tells through
//! [`Surroundings`].

pub(crate) mod exposition;
mod histogram;
pub(crate) mod labels;
pub(crate) mod metrics;
mod surroundings;

pub use surroundings::{Ailment, Kind, Reading, Surroundings};
