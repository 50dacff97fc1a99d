//! The control socket: how the commands talk to the running node.
//!
//! HTTP over a Unix socket in the data directory, so only those who may enter it can speak. Long
//! work answers with [`frame`]s: progress, data, and at the end either the result or the error.

pub mod client;
pub mod frame;
mod long;
mod peers;
mod pin;
mod retention;
pub mod server;
pub mod types;
mod upkeep;
mod zone;

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// The socket's name in the data directory.
pub const SOCKET: &str = "control.sock";

/// What `sun_path` holds, without the closing zero.
const LONGEST: usize = 107;

/// A path to the socket that fits `sun_path`: where the data directory is too deep, by way of an open
/// handle to it, which is returned and keeps the path valid.
fn socket_path(data: &Path) -> io::Result<(File, PathBuf)> {
    let directory = File::open(data)?;
    let plain = data.join(SOCKET);
    let fits = plain.as_os_str().len() <= LONGEST;
    let path = if fits { plain } else { format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()).into() };
    Ok((directory, path))
}
