//! Looking for the file that holds a digest among those that peers name. Their word counts for nothing: a file that has
//! begun to come is only worth a look. Whoever answers late is heard all the same, until one file was found good or the
//! time is over.

use super::{PATIENCE, Wanted, Way, file::Begun};
use crate::{error::Error, registry::Inner, stream::Verify, tree::Blob};
use cidery_core::{BlobFile, Cid, Claim, Digest, Inquiry};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{cmp::Reverse, collections::HashSet, time::Duration};
use tokio::{
    sync::SemaphorePermit,
    time::{Instant, sleep_until, timeout},
};

/// After the first answer, others are waited for so long: who lies may be the fastest.
const SETTLE: Duration = Duration::from_millis(250);

/// When the first of several files has begun to come, the others are waited for so long.
const BEGIN: Duration = Duration::from_millis(250);

/// When all files that were named are of no use, another answer is waited for so long.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// Where peers contradict each other, files are read whole before the answer begins: that may take so much longer for
/// each MiB.
const PER_MIB: Duration = Duration::from_secs(1);

/// Files that are tried at a time. One peer names few, and counts only as long as it was not found to lie.
const FILES: usize = 16;

/// Files that one search considers at all.
const SEEN: usize = 256;

/// Peers that are remembered of those that name one file.
const PEERS: usize = 32;

/// A file that may be the one.
struct Named {
    cid: Cid,
    /// Who says that it is.
    claims: Vec<Claim>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is fetched, or looked at.
    Tried,
    /// It was not to be had, or not worth a look. Somebody else who names it may have it.
    Vain,
    /// It is something else.
    Bad,
}

/// Why a file did not begin to come.
pub(super) enum Failed {
    /// It was not to be had.
    Vain,
    /// It is something else than what it was said to be.
    Bad,
}

/// A file that has begun to come, by its number.
pub(super) type Candidate = (usize, Begun);

/// One search.
pub(super) struct Search<'a> {
    registry: &'a Inner,
    digest: &'a Digest,
    /// The blob's size in bytes; `None` if it does not matter, since it is the block with the digest's hash.
    size: Option<u64>,
    /// `None` when nobody else will answer.
    inquiry: Option<Box<dyn Inquiry>>,
    files: Vec<Named>,
    opening: FuturesUnordered<BoxFuture<'a, (usize, Result<Begun, Failed>)>>,
    begun: Vec<Candidate>,
    first_claim: Option<Instant>,
    /// When the first of `begun` had.
    first_begun: Option<Instant>,
    /// Until when there may be nothing to do but to wait for answers.
    patience: Instant,
    started: Instant,
    deadline: Instant,
    liars: HashSet<Box<str>>,
    place: Option<SemaphorePermit<'a>>,
}

impl Inner {
    /// Begins to look for what is wanted.
    pub(super) async fn search<'a>(&'a self, wanted: &Wanted<'a>) -> Result<Search<'a>, Error> {
        let Ok(Ok(place)) = timeout(PATIENCE, self.lacking.acquire()).await else { return Err(Error::Busy) };
        let now = Instant::now();
        let (inquiry, size) = match wanted.way {
            Way::Leaf(_) => (None, None),
            Way::File(size) => (Some(self.network.inquire(wanted.digest).await), Some(size)),
        };
        let mut search = Search {
            registry: self,
            digest: wanted.digest,
            size,
            inquiry,
            files: Vec::new(),
            opening: FuturesUnordered::new(),
            begun: Vec::new(),
            first_claim: None,
            first_begun: None,
            patience: now + PATIENCE,
            started: now,
            deadline: now + self.config.search_timeout,
            liars: HashSet::new(),
            place: Some(place),
        };
        if let Way::Leaf(cid) = wanted.way {
            search.consider(cid, Vec::new());
        }
        Ok(search)
    }
}

impl<'a> Search<'a> {
    /// The files that have begun to come since the last round, the likeliest first. None if there will be no more, or
    /// not in time.
    pub async fn round(&mut self) -> Vec<Candidate> {
        loop {
            let now = Instant::now();
            let settled = match self.first_begun {
                Some(_) => self.next_moment(now).is_none(),
                None => self.opening.is_empty() && (self.inquiry.is_none() || now >= self.patience),
            };
            if settled || now >= self.deadline {
                break;
            }
            let idle = if self.opening.is_empty() { self.patience } else { self.deadline };
            self.step(self.next_moment(now).unwrap_or(idle).min(self.deadline)).await;
        }
        self.place = None;
        let mut round = self.come();
        round.sort_by_key(|(at, _)| self.rank(*at));
        round
    }

    /// Those that are there by now.
    pub fn come(&mut self) -> Vec<Candidate> {
        self.first_begun = None;
        std::mem::take(&mut self.begun)
    }

    /// Until when others are waited for, once something has begun to come.
    fn next_moment(&self, now: Instant) -> Option<Instant> {
        let begun = self.first_begun?;
        let others = self.first_claim.filter(|_| self.inquiry.is_some()).map(|first| first + SETTLE);
        let opening = (!self.opening.is_empty()).then(|| begun + BEGIN);
        [others, opening].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Takes the next answer, or a file that has begun to come or failed to, if there is one before `until`.
    pub async fn step(&mut self, until: Instant) {
        let asking = self.inquiry.is_some();
        let inquiry = &mut self.inquiry;
        let answer = async move {
            match inquiry {
                Some(inquiry) => inquiry.next().await,
                None => None,
            }
        };
        tokio::select! {
            claim = answer, if asking => match claim {
                Some(claim) => self.claimed(claim),
                None => self.inquiry = None,
            },
            Some((at, opened)) = self.opening.next(), if !self.opening.is_empty() => self.opened(at, opened),
            () = sleep_until(until) => {}
        }
    }

    fn claimed(&mut self, claim: Claim) {
        let BlobFile { cid, size } = claim.file;
        if !self.may_be(cid, size) {
            tracing::debug!(digest = %self.digest, peer = %claim.peer, file = %cid, "a claim is not considered");
            return;
        }
        self.first_claim.get_or_insert_with(Instant::now);
        match self.files.iter().position(|named| named.cid == cid) {
            Some(at) if self.files[at].state == State::Bad => self.registry.standing.bad(&[claim]),
            Some(at) if self.files[at].claims.len() < PEERS => {
                self.files[at].claims.push(claim);
                if self.files[at].state == State::Vain {
                    self.open(at);
                }
            }
            None if self.files.len() < SEEN && self.tried() < FILES => self.consider(cid, vec![claim]),
            _ => {}
        }
    }

    /// How many files are being tried.
    fn tried(&self) -> usize {
        self.files.iter().filter(|named| named.state == State::Tried).count()
    }

    /// Whether a claim can be true, and its file is not one that is not to be read.
    fn may_be(&self, cid: Cid, claimed: u64) -> bool {
        let blob = Blob { digest: self.digest.clone(), cid, size: claimed };
        let known = Verify { blob, verdicts: self.registry.verdicts.clone() };
        Some(claimed) == self.size && known.is_settled().is_ok() && !self.registry.roots.is_forgotten(&cid)
    }

    fn consider(&mut self, cid: Cid, claims: Vec<Claim>) {
        self.files.push(Named { cid, claims, state: State::Tried });
        self.open(self.files.len() - 1);
    }

    fn open(&mut self, at: usize) {
        let (registry, digest, size) = (self.registry, self.digest, self.size);
        self.files[at].state = State::Tried;
        let cid = self.files[at].cid;
        self.opening.push(async move { (at, registry.begin(digest, cid, size).await) }.boxed());
    }

    fn opened(&mut self, at: usize, opened: Result<Begun, Failed>) {
        match opened {
            Ok(begun) => {
                self.first_begun.get_or_insert_with(Instant::now);
                self.begun.push((at, begun));
            }
            Err(Failed::Vain) => self.vain(at),
            Err(Failed::Bad) => self.bad(at),
        }
    }

    /// A file was not to be had, or came too slowly.
    pub fn vain(&mut self, at: usize) {
        self.registry.standing.vain(&self.files[at].claims);
        self.files[at].state = State::Vain;
        self.patience = self.patience.max(Instant::now() + AFTERWARDS);
    }

    /// A file is something else than what it was said to be.
    pub fn bad(&mut self, at: usize) {
        self.registry.standing.bad(&self.files[at].claims);
        self.files[at].state = State::Bad;
        self.liars.extend(self.files[at].claims.iter().map(|claim| claim.peer.clone()));
        self.patience = self.patience.max(Instant::now() + AFTERWARDS);
    }

    /// A file is not looked at, since all who name it were found to lie.
    pub fn pass_over(&mut self, at: usize) {
        self.files[at].state = State::Vain;
    }

    /// Whether all who name a file were found to lie.
    pub fn is_lie(&self, at: usize) -> bool {
        let claims = &self.files[at].claims;
        !claims.is_empty() && claims.iter().all(|claim| self.liars.contains(&claim.peer))
    }

    /// Those come first that most peers name, not counting peers who named lately what was not to be had.
    pub fn rank(&self, at: usize) -> (Reverse<usize>, Reverse<usize>, usize) {
        let claims = &self.files[at].claims;
        let trusted = claims.iter().filter(|claim| !self.registry.standing.is_doubtful(claim)).count();
        (Reverse(trusted), Reverse(claims.len()), at)
    }

    /// Whether all who answered named the same file.
    pub fn is_agreed(&self) -> bool {
        self.files.len() == 1
    }

    /// Who says that a file is the one.
    pub fn claims(&self, at: usize) -> &[Claim] {
        &self.files[at].claims
    }

    /// From now on files are read whole: until when one of this size has time, if `others` wait or may come.
    pub fn limit(&self, size: u64, others: bool) -> Instant {
        let mebibytes = u32::try_from(size >> 20).unwrap_or(u32::MAX);
        let (now, end) = (Instant::now(), self.deadline + PER_MIB.saturating_mul(mebibytes));
        if others { now + end.saturating_duration_since(now) / 2 } else { end }
    }

    /// What is said when nothing was found: an error if there was not enough time to tell.
    pub fn nothing<T>(&self) -> Result<Option<T>, Error> {
        let now = Instant::now();
        if now < self.deadline || self.files.iter().all(|named| named.state == State::Bad) {
            return Ok(None);
        }
        for named in self.files.iter().filter(|named| named.state == State::Tried) {
            self.registry.standing.vain(&named.claims);
        }
        Err(Error::NotInTime { digest: self.digest.clone(), waited: now - self.started })
    }
}
