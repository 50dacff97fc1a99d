//! From a domain to a root, over as many dnslinks as it takes.

use super::{
    hints::MAX_HINTS,
    records::{Found, Link, add_hints, dnslink, hints, quoted},
    txt::{Miss, Texts, TxtClient},
};
use cidery_core::{ResolveError, Resolved};
use futures::future::{Either, select};
use std::{pin::pin, time::Duration};
use tracing::debug;

/// Domains that are followed from the first to the root (Kubo's limit).
const MAX_HOPS: usize = 32;
/// Segments of the path that all hops together may add.
const MAX_PATH: usize = 128;
/// How long the apex, which may carry hints, is waited for once `_dnslink` has answered. Both were
/// asked at the same time, so it is late already.
const APEX_GRACE: Duration = Duration::from_secs(1);
/// How long an answer is kept for which the apex was not heard: hints may be missing.
const TTL_WITHOUT_APEX: Duration = Duration::from_secs(10);

/// What IPNS gets until it is built.
const NO_IPNS: &str = "this version can't look up IPNS names; pull by the root's CID (bafy…/app), or by a domain \
                       whose TXT record is \"dnslink=/ipfs/<root CID>\"";

/// Follows a domain to its root; also says how long that may be kept, the least of all hops.
pub(super) async fn resolve(txt: &TxtClient, first: &str) -> Result<(Resolved, Duration), ResolveError> {
    let invalid = |detail: String| ResolveError::Invalid { name: first.to_owned(), detail };
    let mut domain: Box<str> = first.into();
    let mut seen: Vec<Box<str>> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut hints: Vec<String> = Vec::new();
    let mut ttl = Duration::MAX;
    loop {
        let hop = lookup(txt, first, &domain).await?;
        debug!(%domain, link = ?hop.link, hints = hop.hints.len(), "dnslink");
        ttl = ttl.min(hop.ttl);
        add_hints(&mut hints, hop.hints.iter().map(String::as_str));
        debug_assert!(hints.len() <= MAX_HINTS);
        let (next, below) = match hop.link {
            Link::Root(root, mut whole) => {
                whole.append(&mut path);
                if whole.len() > MAX_PATH {
                    return Err(invalid(format!("the path has more than {MAX_PATH} parts")));
                }
                return Ok((Resolved { root, path: whole, hints }, ttl));
            }
            Link::Domain(next, below) => (next, below),
            Link::Key(key) => {
                return Err(invalid(format!("{domain} leads to the IPNS name {}, and {NO_IPNS}", quoted(&key))));
            }
        };
        // What this hop adds comes before what was asked of it.
        path.splice(0..0, below);
        if path.len() > MAX_PATH {
            return Err(invalid(format!("the path has more than {MAX_PATH} parts")));
        }
        seen.push(domain);
        if seen.contains(&next) {
            return Err(invalid(format!("its dnslinks go in a circle: {} → {next}", shown(&seen))));
        }
        if seen.len() == MAX_HOPS {
            return Err(invalid(format!("more than {MAX_HOPS} dnslinks in a row: {} → …", shown(&seen))));
        }
        domain = next;
    }
}

/// The error for an IPNS name.
pub(super) fn ipns_unsupported(name: String) -> ResolveError {
    ResolveError::Invalid { name, detail: NO_IPNS.to_owned() }
}

fn shown(domains: &[Box<str>]) -> String {
    domains.iter().take(4).map(|domain| &**domain).collect::<Vec<_>>().join(" → ")
}

struct Hop {
    link: Link,
    hints: Vec<String>,
    ttl: Duration,
}

/// One domain's link and hints, from `_dnslink.<domain>`, else from the domain itself. Both are asked
/// at the same time. A name server that refuses the first name, as one does that knows only the
/// domain itself, counts as one that has nothing there; one that fails does not: what it would have
/// said takes precedence, so an older record of the apex must not stand in for it.
async fn lookup(txt: &TxtClient, first: &str, domain: &str) -> Result<Hop, ResolveError> {
    let own_name = format!("_dnslink.{domain}");
    let (own, apex) = ask(txt, &own_name, domain).await;

    let mut hints_here = Vec::new();
    let mut ttl = Duration::MAX;
    for answer in [Some(&own), apex.as_ref()] {
        match answer {
            Some(Ok(answer)) => {
                let found = hints(&answer.texts);
                if !found.is_empty() {
                    ttl = ttl.min(answer.ttl);
                }
                add_hints(&mut hints_here, found.iter().map(String::as_str));
            }
            None | Some(Err(Miss::Failed(_))) => ttl = ttl.min(TTL_WITHOUT_APEX),
            Some(Err(_)) => {}
        }
    }

    let invalid = |detail| Err(ResolveError::Invalid { name: first.to_owned(), detail });
    let unavailable = |detail| Err(ResolveError::Unavailable { name: first.to_owned(), detail });
    let mut unreadable = None;
    for (name, answer, bare) in [(own_name.as_str(), Some(&own), true), (domain, apex.as_ref(), false)] {
        match answer {
            Some(Ok(answer)) => match dnslink(&answer.texts, bare) {
                Found::One(link) => return Ok(Hop { link, hints: hints_here, ttl: ttl.min(answer.ttl) }),
                Found::Several(which) => {
                    return invalid(format!(
                        "{name} has several dnslink TXT records ({}), and must have one",
                        which.join(", ")
                    ));
                }
                Found::Unreadable(reason) => {
                    unreadable = unreadable.or(Some(format!("TXT record of {name}, {reason}")))
                }
                Found::Nothing => {}
            },
            Some(Err(Miss::Failed(reason))) => return unavailable(format!("TXT query for {name}: {reason}")),
            Some(Err(_)) | None => {}
        }
    }
    if let Some(reason) = unreadable {
        return invalid(reason);
    }
    if matches!((&own, &apex), (Err(Miss::Refused), Some(Err(Miss::Refused)))) {
        return unavailable(format!("the DNS server refuses TXT queries for {own_name} and {domain}"));
    }
    if let Some(Err(Miss::Unaskable(reason))) = apex {
        return invalid(format!("DNS can't be asked for {}: {reason}", quoted(domain)));
    }
    let exists = if apex == Some(Err(Miss::NoName)) { ", which does not exist in DNS" } else { "" };
    Err(ResolveError::NotFound {
        name: first.to_owned(),
        detail: format!(
            "there is no TXT record \"dnslink=…\" at {own_name} nor at {domain}{exists}; its owner sets one at \
             {own_name}, with the value \"dnslink=/ipfs/<root CID>\""
        ),
    })
}

type Answer = Result<Texts, Miss>;

/// Both names' answers; the apex is `None` where it is late and only hints are wanted of it, or where
/// it does not matter any more.
async fn ask(txt: &TxtClient, own: &str, apex: &str) -> (Answer, Option<Answer>) {
    match select(pin!(txt.lookup(own)), pin!(txt.lookup(apex))).await {
        Either::Left((own, apex)) => {
            let apex = match &own {
                Err(Miss::Failed(_)) => None,
                Ok(own) if matches!(dnslink(&own.texts, true), Found::One(_) | Found::Several(_)) => {
                    tokio::time::timeout(APEX_GRACE, apex).await.ok()
                }
                _ => Some(apex.await),
            };
            (own, apex)
        }
        Either::Right((apex, own)) => (own.await, Some(apex)),
    }
}
