//! Bitswap.

mod config;
mod skeleton;

pub use config::Config;
pub use skeleton::*;
