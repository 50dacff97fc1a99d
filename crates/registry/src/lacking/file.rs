//! Fetching the file that peers say holds a digest. Their word counts for nothing: what is linked was hashed here.

use super::{
    Found, Wanted, Way,
    search::{Candidate, Failed, Search},
    standing::Standing,
};
use crate::{
    error::Error,
    foreign::ForeignRoot,
    pin::Keeper,
    registry::Inner,
    stream::{self, Settled, Verify},
    tree::{Blob, Tree},
};
use async_trait::async_trait;
use cidery_core::{Bytes, Cid, Claim, Digest, Hold, RepositoryName, Resolved, Scope};
use cidery_unixfs::{CHUNK, FileReader, UnixfsError};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Where peers do not agree, whoever has begun to send may pause for so long, and then it is another's turn.
const STALL: Duration = Duration::from_secs(5);

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
pub(super) struct Begun {
    file: FileReader,
    verify: Verify,
    root: Arc<ForeignRoot>,
    hold: Arc<dyn Hold>,
}

impl Inner {
    /// Fetches a blob and links it, or leaves it to whoever streams it.
    pub(super) async fn fetch_file(&self, wanted: &Wanted<'_>, stream: bool) -> Result<Option<Found>, Error> {
        let mut search = self.search(wanted).await?;
        let mut round = search.round().await;
        // Nothing can be withheld of a single chunk: it is checked before the answer begins.
        let is_long = |(_, begun): &Candidate| begun.file.size() > CHUNK as u64;
        if stream && search.is_agreed() && round.first().is_some_and(is_long) {
            let coming = |(at, begun)| Found::Coming(Box::new(self.coming(wanted, begun, search.claims(at).to_vec())));
            return Ok(round.pop().map(coming));
        }
        let Some(begun) = self.first_good(&mut search, round).await? else { return search.nothing() };
        let (tree, repository) = wanted.home;
        tree.link_blob(repository, &begun.verify.blob).await?;
        Ok(Some(Found::Here(begun.verify.blob)))
    }

    /// Fetches what has at most `limit` bytes into memory.
    pub(super) async fn fetch_bytes(&self, wanted: &Wanted<'_>, limit: u64) -> Result<Option<Bytes>, Error> {
        if matches!(wanted.way, Way::File(size) if size > limit) {
            return Ok(None);
        }
        let mut search = self.search(wanted).await?;
        let round = search.round().await;
        let Some(begun) = self.first_good(&mut search, round).await? else { return search.nothing() };
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

    fn coming(&self, wanted: &Wanted<'_>, begun: Begun, claims: Vec<Claim>) -> Coming {
        let Begun { file, verify, root, hold } = begun;
        let (tree, repository) = wanted.home;
        let then = Adopt {
            standing: self.standing.clone(),
            home: (tree.clone(), repository.clone()),
            blob: verify.blob.clone(),
            claims,
            _hold: hold,
        };
        Coming { file, verify, root, then: Box::new(then) }
    }

    /// Fetches the first block of a file that may be the one.
    pub(super) async fn begin(&self, digest: &Digest, cid: Cid, size: Option<u64>) -> Result<Begun, Failed> {
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
                return Ok(Begun { file, verify, root, hold });
            }
            // That is what a manifest says, which may be wrong.
            Ok(_) => {
                tracing::debug!(%digest, file = %cid, "what peers name has another size");
                return Err(Failed::Bad);
            }
            Err(error @ (UnixfsError::Fetch(_) | UnixfsError::Store(_))) => {
                tracing::debug!(%digest, %error, "what a manifest names is not to be had");
                return Err(Failed::Vain);
            }
            Err(error) => error.to_string(),
        };
        tracing::debug!(%digest, file = %cid, wrong, "what peers name is something else");
        self.verdicts.refuse(digest, &cid);
        Err(Failed::Bad)
    }

    /// The first of all files that is what it is said to be, whole and here.
    async fn first_good(&self, search: &mut Search<'_>, round: Vec<Candidate>) -> Result<Option<Begun>, Error> {
        let (mut waiting, mut place) = (VecDeque::from(round), None);
        loop {
            if waiting.is_empty() {
                waiting = search.round().await.into();
            }
            let Some((at, begun)) = waiting.pop_front() else { return Ok(None) };
            if search.is_lie(at) {
                search.pass_over(at);
                continue;
            }
            if place.is_none() {
                // As any other that is on its way.
                place = Some(self.downloads.take().await.ok_or(Error::Busy)?);
            }
            match self.read_whole(search, &begun, !waiting.is_empty()).await {
                Some(Ok(())) => {
                    self.standing.good(search.claims(at));
                    return Ok(Some(begun));
                }
                Some(Err(error)) => {
                    tracing::debug!(digest = %begun.verify.blob.digest, %error, "what peers name is of no use");
                    if matches!(error, Error::BadBlob(_)) { search.bad(at) } else { search.vain(at) }
                }
                None => {
                    tracing::debug!(digest = %begun.verify.blob.digest, "what peers name comes too slowly");
                    search.vain(at);
                }
            }
            // What its peers name besides is looked at after the others, also those that came just now.
            waiting.extend(search.come());
            waiting.make_contiguous().sort_by_key(|(at, _)| search.rank(*at));
        }
    }

    /// Reads and checks a file, as far as it comes in time, while the search goes on.
    async fn read_whole(&self, search: &mut Search<'_>, begun: &Begun, others: bool) -> Option<Result<(), Error>> {
        let Begun { file, verify, .. } = begun;
        let come = AtomicU64::new(0);
        let count = |bytes| {
            come.fetch_add(bytes, Relaxed);
        };
        let work = stream::verify(file.clone(), verify.clone(), self.config.window, count);
        tokio::pin!(work);
        let (alone, beside) = (search.limit(file.size(), false), search.limit(file.size(), true));
        let (mut before, mut since) = (0, Instant::now());
        loop {
            let contested = others || !search.is_agreed();
            let limit = if contested { beside } else { alone };
            let until = if contested { limit.min(since + STALL) } else { limit };
            tokio::select! {
                done = &mut work => return Some(done),
                () = search.step(until) => {}
            }
            let (now, all) = (Instant::now(), come.load(Relaxed));
            if all > before {
                (before, since) = (all, now);
            } else if now >= until {
                return None;
            }
            if now >= limit {
                return None;
            }
        }
    }
}

/// Links a blob that was streamed, or remembers who lied.
struct Adopt {
    standing: Arc<Standing>,
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
            return self.standing.bad(&self.claims);
        }
        self.standing.good(&self.claims);
        let (tree, repository) = &self.home;
        if let Err(error) = tree.link_blob(repository, &self.blob).await {
            // The client has all of it nevertheless, and the next one fetches it again.
            tracing::warn!(%repository, digest = %self.blob.digest, %error, "what came from peers is not kept");
        }
    }
}
