//! Names to roots: DNSLink with the hints beside it, and dnsaddr (interop §5). Everything that is read
//! from DNS is hostile: bounded, checked, and never more than a recommendation.
//!
//! [`servers`] says whom to ask, [`txt`] asks, [`records`] reads what the records say, [`dnslink`] and [`dnsaddr`] follow them,
//! [`cache`] keeps what came out, and [`hints`] says which recommended addresses may be dialled.

mod cache;
mod dnsaddr;
mod dnslink;
pub(crate) mod hints;
mod records;
mod servers;
#[cfg(test)]
mod tests;
mod txt;

pub(crate) use self::servers::{Servers, name_servers};
use self::{cache::Cache, txt::TxtClient};
use cidery_core::{ForeignName, NetworkError, ResolveError, Resolved};
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};

/// One resolution, all hops included.
const DEADLINE: Duration = Duration::from_secs(8);
/// Resolutions that query at the same time; each needs a few sockets.
const CONCURRENT: usize = 32;
/// Names and dnsaddrs that are kept. One takes at most some 20 KiB, or 50 KiB.
const NAMES: usize = 512;
const DNSADDRS: usize = 64;

/// Whom to ask.
#[derive(Debug, Clone, Default)]
pub struct DnsConfig {
    /// A DNS server (UDP and TCP), and no other. `None` for the system's servers (`/etc/resolv.conf`,
    /// looked at again when it changes), or public ones where the system names none.
    pub server: Option<SocketAddr>,
}

/// Resolves names, within bounded time and memory. What it resolved is kept for its TTL (1 s to 1 h),
/// and served for another day while DNS can't be reached; concurrent callers share one look-up.
pub struct Naming {
    source: Arc<Source>,
    names: Cache<Resolved>,
    dnsaddrs: Cache<Arc<[String]>>,
}

struct Source {
    txt: TxtClient,
    permits: Semaphore,
}

impl Naming {
    /// Sets up the DNS client. Sends nothing.
    pub fn new(config: DnsConfig) -> Result<Self, NetworkError> {
        let source = Source { txt: TxtClient::new(&config)?, permits: Semaphore::new(CONCURRENT) };
        Ok(Self { source: Arc::new(source), names: Cache::new(NAMES), dnsaddrs: Cache::new(DNSADDRS) })
    }

    /// What a name stands for, within 8 s. Dropping the future does not stop the look-up, which others
    /// may share. Call it within a tokio runtime.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] if the domain has no dnslink, [`ResolveError::Invalid`] if it has
    /// several, one that can't be read, or an IPNS name, and [`ResolveError::Unavailable`] if DNS
    /// can't be asked and the name was not resolved within the last day.
    pub async fn resolve(&self, name: &ForeignName) -> Result<Resolved, ResolveError> {
        let domain = match name {
            ForeignName::Cid(root) => return Ok(Resolved { root: *root, path: Vec::new(), hints: Vec::new() }),
            ForeignName::Ipns(_) => return Err(dnslink::ipns_unsupported(name.to_string())),
            ForeignName::Domain(domain) => domain,
        };
        let load = || {
            let (source, domain) = (self.source.clone(), domain.clone());
            async move {
                let work = dnslink::resolve(&source.txt, &domain);
                bounded(&source.permits, &domain, work).await
            }
        };
        self.names.get(domain, load).await
    }

    /// The addresses behind `/dnsaddr/<host>[/p2p/<id>]`, at most 100, each ending as it does; an
    /// address that is no dnsaddr stands for itself. Empty if there are none or DNS can't be asked.
    /// They come from strangers: see [`hints::usable_hints`].
    pub async fn dnsaddr(&self, address: &str) -> Vec<String> {
        if dnsaddr::split(address).is_none() {
            return vec![address.to_owned()];
        }
        let load = || {
            let (source, address) = (self.source.clone(), address.to_owned());
            async move {
                let work = dnsaddr::expand(&source.txt, &address);
                let (addresses, ttl) = bounded(&source.permits, &address, work).await?;
                Ok((addresses.into(), ttl))
            }
        };
        match self.dnsaddrs.get(address, load).await {
            Ok(addresses) => addresses.to_vec(),
            Err(error) => {
                tracing::debug!(%error, "dnsaddr");
                Vec::new()
            }
        }
    }
}

/// Does the work when it is its turn, within the deadline.
async fn bounded<T>(
    permits: &Semaphore,
    name: &str,
    work: impl Future<Output = Result<T, ResolveError>>,
) -> Result<T, ResolveError> {
    let turn = async {
        // The semaphore is never closed.
        let _permit = permits.acquire().await;
        work.await
    };
    timeout(DEADLINE, turn).await.unwrap_or_else(|_| {
        let detail = format!("DNS took longer than {} s altogether", DEADLINE.as_secs());
        Err(ResolveError::Unavailable { name: name.to_owned(), detail })
    })
}
