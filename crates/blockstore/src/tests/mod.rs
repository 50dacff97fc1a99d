//! The whole store over a disk that fails, and an index that is gone or wrong.

mod backup;
mod crash;
mod faults;
mod gc;
mod group;
mod in_use;
mod loss;
mod marks;
mod pins;
mod player;
pub(crate) mod rig;
mod scrub;
mod shorten;
mod usage;
