//! Whole trees between blocks and a disk: files, directories and symbolic links, without owners,
//! modes or times.

mod export;
mod import;

pub use export::export;
pub use import::import;

use crate::UnixfsError;
use std::{io, path::Path};

/// Most directories that are followed below each other.
const MAX_DEPTH: usize = 128;

/// Says what was being done to which path.
fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UnixfsError {
    let path = path.to_owned();
    move |source| UnixfsError::io(format!("{what} {}", path.display()), source)
}
