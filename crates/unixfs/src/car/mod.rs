//! CAR v1: a stream of blocks with the roots of their DAGs (ipld specs, `transport/car/carv1`).

mod header;
mod read;
mod write;

pub use read::{CarError, Reader};
pub use write::write;
