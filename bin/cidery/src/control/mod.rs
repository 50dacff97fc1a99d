//! The control socket: how the commands talk to the running node.
//!
//! HTTP over a Unix socket in the data directory, so only those who may enter it can speak. Long
//! work answers with [`frame`]s: progress, data, and at the end either the result or the error.

pub mod client;
pub mod frame;
mod long;
pub mod server;
pub mod types;
mod zone;

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// The socket's name in the data directory.
pub const SOCKET: &str = "control.sock";

/// A path to the socket that is short enough for `sun_path` (108 bytes) however deep the data
/// directory is. It is valid while the returned handle to the directory is open.
fn socket_path(data: &Path) -> io::Result<(File, PathBuf)> {
    let directory = File::open(data)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()));
    Ok((directory, path))
}
