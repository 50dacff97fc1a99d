//! What whoever runs a registry sees of it: health, metrics, who did what.
//!
//! ```text
//!   http::meter ──► metrics   counters and histograms, all of them there from the start
//!   Surroundings ─► exposition ──► GET /metrics
//!                └► GET /readyz
//! ```
//!
//! The registry counts its own requests. What lies around it (store, swarm) the program tells through
//! [`Surroundings`]. What is written is told to [`Observers`], as an [`Event`] each; every request to the subscriber of
//! `tracing`, on the target `cidery::access`.

mod events;
pub(crate) mod exposition;
mod histogram;
pub(crate) mod labels;
pub(crate) mod metrics;
mod observers;
mod surroundings;

pub use events::{Action, Event, HttpOrigin, Origin, Room, Target};
pub use observers::{NoRoom, Observer, Observers, Ticket};
pub use surroundings::{Ailment, Kind, Reading, Surroundings};
