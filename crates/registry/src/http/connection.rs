//! What the listener knows of a connection.

use std::net::SocketAddr;

/// Goes with each request as an extension, beside `ConnectInfo<SocketAddr>`, which is the other end. A request
/// without it was not sent over a network.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// This end.
    pub local: SocketAddr,
    /// Whether it is encrypted, up to here.
    pub tls: bool,
}

impl Connection {
    /// Whether nobody in between can read what is sent.
    pub fn is_private(self) -> bool {
        self.tls || self.local.ip().to_canonical().is_loopback()
    }
}
