//! Fetching the file that peers say holds a digest. Their word counts for nothing: what is linked was hashed here.

use super::{Found, PATIENCE, Wanted, Way, claims::Candidate};
use crate::{
    error::Error,
    foreign::ForeignRoot,
    pin::Keeper,
    registry::Inner,
    stream::{self, Settled, Verify},
    tree::{Blob, Tree},
};
use async_trait::async_trait;
use cidery_core::{Bytes, Claim, Digest, Hold, Network, RepositoryName, Resolved, Scope};
use cidery_unixfs::{CHUNK, FileReader, UnixfsError};
use futures::{StreamExt, stream::FuturesUnordered};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};

/// When the first of several files has begun to come, the others are waited for so long.
const BEGIN: Duration = Duration::from_millis(250);

/// Where peers do not agree, a file has [`PATIENCE`] and this for each MiB: who lies may be slow as well.
const PER_MIB: Duration = Duration::from_secs(1);

/// A blob whose first block is here, and whose others come when it is read.
pub(crate) struct Coming {
    /// Reads it, and keeps it.
    pub file: FileReader,
    /// What must hold of it.
    pub verify: Verify,
    /// Its session.
    pub root: Arc<ForeignRoot>,
    /// Links it.
    pub then: Box<dyn Settled>,
}

/// A file that has begun to come.
struct Begun {
    file: FileReader,
    verify: Verify,
    root: Arc<ForeignRoot>,
    claims: Vec<Claim>,
    hold: Arc<dyn Hold>,
}

impl Inner {
    /// Fetches a blob and links it, or leaves it to whoever streams it.
    pub(super) async fn fetch_file(&self, wanted: &Wanted<'_>, stream: bool) -> Result<Option<Found>, Error> {
        let (mut begun, agreed) = self.begin_all(wanted).await?;
        // Nothing can be withheld of a single chunk: it is checked before the answer begins.
        let stream = stream && agreed && begun.first().is_some_and(|begun| begun.file.size() > CHUNK as u64);
        if stream {
            return Ok(begun.pop().map(|begun| Found::Coming(Box::new(self.coming(wanted, begun)))));
        }
        let Some(begun) = self.first_good(begun, agreed).await? else { return Ok(None) };
        let (tree, repository) = wanted.home;
        tree.link_blob(repository, &begun.verify.blob).await?;
        Ok(Some(Found::Here(begun.verify.blob)))
    }

    /// Fetches what has at most `limit` bytes into memory.
    pub(super) async fn fetch_bytes(&self, wanted: &Wanted<'_>, limit: u64) -> Result<Option<Bytes>, Error> {
        if matches!(wanted.way, Way::File(size) if size > limit) {
            return Ok(None);
        }
        let (begun, agreed) = self.begin_all(wanted).await?;
        let Some(begun) = self.first_good(begun, agreed).await? else { return Ok(None) };
        let size = begun.file.size();
        let mut bytes = Vec::with_capacity(size as usize);
        let mut stream = begun.file.read(0..size, 0);
        loop {
            match stream.next().await {
                Ok(Some(leaf)) => bytes.extend_from_slice(&leaf),
                Ok(None) => return Ok(Some(bytes.into())),
                Err(error) => {
                    tracing::warn!(digest = %wanted.digest, %error, "what came just now can't be read");
                    return Ok(None);
                }
            }
        }
    }

    fn coming(&self, wanted: &Wanted<'_>, begun: Begun) -> Coming {
        let Begun { file, verify, root, claims, hold } = begun;
        let (tree, repository) = wanted.home;
        let then = Adopt {
            network: self.network.clone(),
            home: (tree.clone(), repository.clone()),
            blob: verify.blob.clone(),
            claims,
            _hold: hold,
        };
        Coming { file, verify, root, then: Box::new(then) }
    }

    /// Fetches the first block of each file that may be the one. Those that come, and whether there was only one.
    async fn begin_all(&self, wanted: &Wanted<'_>) -> Result<(Vec<Begun>, bool), Error> {
        let Ok(Ok(_one)) = timeout(PATIENCE, self.lacking.acquire()).await else { return Err(Error::Busy) };
        let candidates = self.candidates(wanted).await;
        let agreed = candidates.len() == 1;
        let each = candidates.into_iter().enumerate();
        let mut opening: FuturesUnordered<_> =
            each.map(|(at, candidate)| async move { (at, self.begin(wanted.digest, candidate).await) }).collect();
        let (mut begun, mut until) = (Vec::new(), Instant::now() + PATIENCE);
        while let Ok(Some((at, opened))) = timeout_at(until, opening.next()).await {
            if let Some(opened) = opened {
                if begun.is_empty() {
                    until = until.min(Instant::now() + BEGIN);
                }
                begun.push((at, opened));
            }
        }
        begun.sort_by_key(|(at, _)| *at);
        Ok((begun.into_iter().map(|(_, begun)| begun).collect(), agreed))
    }

    async fn begin(&self, digest: &Digest, candidate: Candidate) -> Option<Begun> {
        let Candidate { cid, size, claims } = candidate;
        let resolved = Resolved { root: cid, path: Vec::new(), hints: Vec::new() };
        // Only what everybody may see, here and elsewhere: a manifest may name what its owner must not read.
        let root = self.foreign.open(resolved, Scope::Public);
        let hold = self.blocks.hold();
        hold.keep_all(&cid);
        let fetcher = Arc::new(Keeper { hold: hold.clone(), fetcher: root.fetcher.clone() });
        let wrong = match FileReader::open(fetcher, cid).await {
            Ok(file) if size.is_none_or(|size| file.size() == size) => {
                let blob = Blob { digest: digest.clone(), cid, size: file.size() };
                let verify = Verify { blob, verdicts: self.verdicts.clone() };
                return Some(Begun { file, verify, root, claims, hold });
            }
            // That is what a manifest says, which may be wrong.
            Ok(_) => {
                tracing::debug!(%digest, file = %cid, "what peers name has another size");
                distrust(&*self.network, &claims);
                return None;
            }
            Err(error @ (UnixfsError::Fetch(_) | UnixfsError::Store(_))) => {
                tracing::debug!(%digest, %error, "what a manifest names is not to be had");
                return None;
            }
            Err(error) => error.to_string(),
        };
        tracing::debug!(%digest, file = %cid, wrong, "what peers name is something else");
        self.verdicts.refuse(digest, &cid);
        distrust(&*self.network, &claims);
        None
    }

    /// The first of these that is what it is said to be, whole and here.
    async fn first_good(&self, all: Vec<Begun>, agreed: bool) -> Result<Option<Begun>, Error> {
        if all.is_empty() {
            return Ok(None);
        }
        // As any other that is on its way.
        let _place = self.downloads.take().await.ok_or(Error::Busy)?;
        let mut liars = HashSet::new();
        for begun in all {
            if !begun.claims.is_empty() && begun.claims.iter().all(|claim| liars.contains(&claim.peer)) {
                continue;
            }
            let Begun { file, verify, claims, .. } = &begun;
            let work = stream::verify(file.clone(), verify.clone(), self.config.window, |_| {});
            let mebibytes = u32::try_from(verify.blob.size >> 20).unwrap_or(u32::MAX);
            let result = match agreed {
                true => Ok(work.await),
                false => timeout(PATIENCE + PER_MIB.saturating_mul(mebibytes), work).await,
            };
            match result {
                Ok(Ok(())) => return Ok(Some(begun)),
                Ok(Err(error)) => {
                    tracing::debug!(digest = %verify.blob.digest, %error, "what peers name is of no use");
                    if matches!(error, Error::BadBlob(_)) {
                        distrust(&*self.network, claims);
                        liars.extend(claims.iter().map(|claim| claim.peer.clone()));
                    }
                }
                Err(_) => tracing::debug!(digest = %verify.blob.digest, "what peers name comes too slowly"),
            }
        }
        Ok(None)
    }
}

fn distrust(network: &dyn Network, claims: &[Claim]) {
    claims.iter().for_each(|claim| network.distrust(claim));
}

/// Links a blob that was streamed, or remembers who lied.
struct Adopt {
    network: Arc<dyn Network>,
    home: (Tree, RepositoryName),
    blob: Blob,
    claims: Vec<Claim>,
    /// Keeps it until it is linked.
    _hold: Arc<dyn Hold>,
}

#[async_trait]
impl Settled for Adopt {
    async fn settled(self: Box<Self>, good: bool) {
        if !good {
            return distrust(&*self.network, &self.claims);
        }
        let (tree, repository) = &self.home;
        if let Err(error) = tree.link_blob(repository, &self.blob).await {
            // The client has all of it nevertheless, and the next one fetches it again.
            tracing::warn!(%repository, digest = %self.blob.digest, %error, "what came from peers is not kept");
        }
    }
}
