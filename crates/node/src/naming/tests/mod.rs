//! Naming against DNS servers: one of its own for hostile answers, and a real dnsmasq.

#![allow(clippy::unwrap_used)]

mod dnsaddr;
mod dnslink;
mod dnsmasq;
mod responder;
mod server_choice;

use super::{DnsConfig, Naming};
use cidery_core::{Cid, ForeignName, ResolveError, Resolved};
use std::net::SocketAddr;

const ROOT: &str = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
const OTHER_ROOT: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
const PEER: &str = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8";

fn naming(server: SocketAddr) -> Naming {
    Naming::new(DnsConfig { server: Some(server) }).unwrap()
}

fn domain(name: &str) -> ForeignName {
    ForeignName::Domain(name.into())
}

fn root() -> Cid {
    ROOT.parse().unwrap()
}

fn hint(port: u16) -> String {
    format!("/ip4/1.2.3.4/tcp/{port}/p2p/{PEER}")
}

fn found(root: &str, path: &[&str], hints: &[String]) -> Resolved {
    let path = path.iter().map(|part| part.to_string()).collect();
    Resolved { root: root.parse().unwrap(), path, hints: hints.to_vec() }
}

/// The error's text, if it is of the expected kind.
fn not_found(result: Result<Resolved, ResolveError>) -> String {
    match result {
        Err(error @ ResolveError::NotFound { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn invalid(result: Result<Resolved, ResolveError>) -> String {
    match result {
        Err(error @ ResolveError::Invalid { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn unavailable(result: Result<Resolved, ResolveError>) -> String {
    match result {
        Err(error @ ResolveError::Unavailable { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}
