//! `/dnsaddr/<host>`: addresses that a host's TXT records list (interop §5; multiformats' DNSADDR).

use super::{
    hints::MAX_HINT_LEN,
    txt::{Miss, TxtClient},
};
use cidery_core::ResolveError;
use futures::{StreamExt, stream};
use libp2p::{Multiaddr, multiaddr::Protocol};
use std::time::Duration;

/// Addresses of one expansion.
const MAX_ADDRESSES: usize = 100;
/// How often a dnsaddr may lead to another.
const MAX_DEPTH: usize = 4;
/// TXT queries of one expansion, and how many of them at a time.
const MAX_QUERIES: usize = 32;
const CONCURRENT: usize = 8;

/// The host of an address that begins with `/dnsaddr/`, and what follows it.
pub(super) fn split(text: &str) -> Option<(String, Multiaddr)> {
    if text.len() > MAX_HINT_LEN {
        return None;
    }
    let address: Multiaddr = text.parse().ok()?;
    let mut parts = address.iter();
    match parts.next() {
        Some(Protocol::Dnsaddr(host)) => Some((host.to_ascii_lowercase(), parts.collect())),
        _ => None,
    }
}

/// The addresses behind a dnsaddr, none of them a dnsaddr, each ending as it does.
pub(super) async fn expand(txt: &TxtClient, text: &str) -> Result<(Vec<String>, Duration), ResolveError> {
    let mut level: Vec<(String, Multiaddr)> = split(text).into_iter().collect();
    let mut asked: Vec<(String, Multiaddr)> = Vec::new();
    let mut addresses: Vec<String> = Vec::new();
    let mut ttl = Duration::MAX;
    let mut failure = None;
    for _ in 0..MAX_DEPTH {
        level.retain(|query| !asked.contains(query));
        level.truncate(MAX_QUERIES - asked.len());
        if level.is_empty() {
            break;
        }
        asked.extend_from_slice(&level);
        let mut answers = stream::iter(level.drain(..))
            .map(|(host, suffix)| async move { (txt.lookup(&format!("_dnsaddr.{host}")).await, suffix) })
            .buffered(CONCURRENT);
        let mut next = Vec::new();
        while let Some((answer, suffix)) = answers.next().await {
            let answer = match answer {
                Ok(answer) => answer,
                Err(miss) => {
                    failure = Some(miss);
                    continue;
                }
            };
            ttl = ttl.min(answer.ttl);
            for listed in answer.texts.iter().filter_map(|text| text.strip_prefix("dnsaddr=")) {
                let Some(address) = parse(listed).filter(|address| address.ends_with(&suffix)) else { continue };
                let address = address.to_string();
                match split(&address) {
                    Some(query) if next.len() < MAX_QUERIES && !next.contains(&query) => next.push(query),
                    None if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) => addresses.push(address),
                    _ => {}
                }
            }
        }
        drop(answers);
        level = next;
    }
    match (addresses.is_empty(), failure) {
        (true, Some(Miss::Failed(detail))) => Err(ResolveError::Unavailable { name: text.to_owned(), detail }),
        (true, _) => {
            let detail = "no TXT record \"dnsaddr=…\" that fits".to_owned();
            Err(ResolveError::NotFound { name: text.to_owned(), detail })
        }
        (false, _) => Ok((addresses, ttl)),
    }
}

fn parse(text: &str) -> Option<Multiaddr> {
    (text.len() <= MAX_HINT_LEN).then(|| text.parse().ok())?
}
