//! Reading a file, or a range of it: in order, one leaf at a time, with leaves fetched ahead.
//!
//! A stream holds the part of the tree that is still to come as a queue of *pieces*. The front one
//! is needed next; a node that arrives is replaced, where it stands, by those of its children that
//! the range needs. So a wide or deep tree costs nothing that is not read, and looking ahead works
//! over leaves and nodes alike.

use super::node::{self, FileNode};
use crate::{UnixfsError, dagpb::MAX_LINKS, error::About, fetch, wire::Defect};
use cidery_core::{Bytes, Cid, FetchError, Fetcher};
use futures::{
    Stream, StreamExt,
    future::{BoxFuture, poll_fn},
    stream::FuturesUnordered,
};
use std::{
    collections::VecDeque,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Levels that are followed. Known writers need five for anything that fits on a disk.
const MAX_DEPTH: u8 = 32;

/// Most pieces that wait in one stream, over all levels: bounds what a hostile tree can cost.
const MAX_PIECES: usize = 2 * MAX_LINKS;

/// Most blocks that one stream asks for at once, however small they are.
const MAX_IN_FLIGHT: usize = 64;

/// A file whose root is here.
#[derive(Clone)]
pub struct FileReader {
    fetcher: Arc<dyn Fetcher>,
    cid: Cid,
    root: Bytes,
    size: u64,
}

impl FileReader {
    /// Gets the root and checks that it is a file.
    pub async fn open(fetcher: Arc<dyn Fetcher>, cid: Cid) -> Result<Self, UnixfsError> {
        let root = fetch::block(&*fetcher, &cid).await?;
        let size = node::decode(&cid, &root)?.size;
        Ok(Self { fetcher, cid, root, size })
    }

    /// Bytes in the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Streams the bytes of `range`, which is cut to the file's size. Leaves after the one that is
    /// needed are fetched at the same time until they make `window` bytes, which the last of them
    /// may exceed; none if it is 0, and none while everything is local.
    ///
    /// Every part must have the size that its parent says; the stream ends in an error where one
    /// has not.
    pub fn read(self, range: Range<u64>, window: usize) -> FileStream {
        let end = range.end.min(self.size);
        let range = range.start.min(end)..end;
        let mut pieces = VecDeque::new();
        if !range.is_empty() {
            let state = State::Block(self.root);
            pieces.push_back(Piece { cid: self.cid, start: 0, size: self.size, depth: 0, state });
        }
        let in_flight = FuturesUnordered::new();
        FileStream { fetcher: self.fetcher, range, window: window as u64, pieces, cold: false, in_flight, tickets: 0 }
    }
}

/// A subtree that is still to be delivered.
struct Piece {
    cid: Cid,
    /// Where its bytes begin in the file.
    start: u64,
    /// How many there are, as its parent says. Never 0: what has no bytes is not visited.
    size: u64,
    depth: u8,
    state: State,
}

enum State {
    Wanted,
    /// Asked for, under this ticket.
    InFlight(u64),
    /// Here, not decoded yet.
    Block(Bytes),
    /// Its bytes of the file.
    Data(Bytes),
    /// Reported once everything before it was delivered.
    Failed(Box<UnixfsError>),
}

/// What came for a ticket.
type Arrival = (u64, Result<Bytes, FetchError>);

/// The bytes of a range of a file. Dropping it withdraws what it asked for.
pub struct FileStream {
    fetcher: Arc<dyn Fetcher>,
    /// What is still to be delivered.
    range: Range<u64>,
    window: u64,
    pieces: VecDeque<Piece>,
    /// Whether a piece had to be waited for. Until then everything is read as it is needed; from
    /// then on the window is kept full.
    cold: bool,
    in_flight: FuturesUnordered<BoxFuture<'static, Arrival>>,
    tickets: u64,
}

impl FileStream {
    /// The next bytes in order, at most one leaf's; `None` at the end of the range.
    /// After an error there is nothing more.
    pub async fn next(&mut self) -> Result<Option<Bytes>, UnixfsError> {
        poll_fn(|cx| self.poll_bytes(cx)).await
    }

    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, UnixfsError>> {
        let result = ready!(self.poll_pieces(cx));
        if result.is_err() {
            self.pieces.clear();
            self.in_flight.clear();
        }
        Poll::Ready(result)
    }

    fn poll_pieces(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, UnixfsError>> {
        loop {
            self.look_here()?;
            self.ask();
            // This also polls what was just asked for: it is under way before anything is delivered.
            while let Poll::Ready(Some((ticket, result))) = self.in_flight.poll_next_unpin(cx) {
                self.arrived(ticket, result);
            }
            if self.expand() {
                continue; // There may be more to ask for now.
            }
            match self.pieces.pop_front() {
                None => return Poll::Ready(Ok(None)),
                Some(Piece { state: State::Data(bytes), start, size, .. }) => {
                    let (from, to) = (self.range.start.max(start), self.range.end.min(start + size));
                    self.range.start = to;
                    // `bytes` has `size` bytes, so both offsets are within it.
                    let cut = (from - start) as usize..(to - start) as usize;
                    return Poll::Ready(Ok(Some(bytes.slice(cut))));
                }
                Some(Piece { state: State::Failed(error), .. }) => return Poll::Ready(Err(*error)),
                Some(waiting) => {
                    self.pieces.push_front(waiting);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Until something has to be waited for, looks whether the front piece is local.
    fn look_here(&mut self) -> Result<(), UnixfsError> {
        if !self.cold
            && let Some(front) = self.pieces.front_mut()
            && matches!(front.state, State::Wanted)
        {
            match self.fetcher.local(&front.cid)? {
                Some(bytes) => front.state = State::Block(bytes),
                None => self.cold = true,
            }
        }
        Ok(())
    }

    /// Asks for everything within the window.
    fn ask(&mut self) {
        if !self.cold {
            return;
        }
        let mut ahead = 0u64;
        for (index, piece) in self.pieces.iter_mut().enumerate() {
            if index > 0 {
                if ahead >= self.window || self.in_flight.len() >= MAX_IN_FLIGHT {
                    break;
                }
                ahead = ahead.saturating_add(piece.size);
            }
            if matches!(piece.state, State::Wanted) {
                let (fetcher, cid, ticket) = (self.fetcher.clone(), piece.cid, self.tickets);
                self.tickets += 1;
                piece.state = State::InFlight(ticket);
                self.in_flight.push(Box::pin(async move { (ticket, fetcher.fetch(&cid).await) }));
            }
        }
    }

    fn arrived(&mut self, ticket: u64, result: Result<Bytes, FetchError>) {
        let asked = |piece: &&mut Piece| matches!(piece.state, State::InFlight(its) if its == ticket);
        if let Some(piece) = self.pieces.iter_mut().find(asked) {
            piece.state = match result {
                Ok(bytes) => State::Block(bytes),
                Err(error) => State::Failed(Box::new(error.into())),
            };
        }
    }

    /// Decodes the blocks that are here near the front, and puts children in the place of their
    /// node. Whether there were any.
    fn expand(&mut self) -> bool {
        let (mut at, mut replaced) = (0, false);
        while at < self.pieces.len().min(MAX_IN_FLIGHT) {
            if let State::Block(block) = &self.pieces[at].state {
                match node::decode(&self.pieces[at].cid, block).and_then(|node| self.replace(at, node)) {
                    Ok(true) => {
                        replaced = true;
                        continue; // What stands here now is a part of it.
                    }
                    Ok(false) => {}
                    Err(error) => self.pieces[at].state = State::Failed(Box::new(error)),
                }
            }
            at += 1;
        }
        replaced
    }

    /// Puts a node's own bytes and its children in its place; whether there were children.
    fn replace(&mut self, at: usize, node: FileNode) -> Result<bool, UnixfsError> {
        let Piece { cid, mut start, size, depth, .. } = self.pieces[at];
        if size != node.size {
            return Err(Defect("it has another size than its parent says")).about(&cid);
        }
        if node.children.is_empty() {
            self.pieces[at].state = State::Data(node.own);
            return Ok(false);
        }
        if depth == MAX_DEPTH {
            return Err(Defect("its tree is too deep")).about(&cid);
        }
        let own = (cid, node.own.len() as u64, State::Data(node.own));
        let children = node.children.into_iter().map(|(cid, size)| (cid, size, State::Wanted));
        let mut parts = Vec::new();
        for (cid, size, state) in std::iter::once(own).chain(children) {
            let end = start + size;
            if size > 0 && start < self.range.end && end > self.range.start {
                parts.push(Piece { cid, start, size, depth: depth + 1, state });
            }
            start = end;
        }
        if self.pieces.len() + parts.len() > MAX_PIECES {
            return Err(UnixfsError::TooMany { cid, what: "parts that wait to be read", limit: MAX_PIECES });
        }
        let mut tail = self.pieces.split_off(at);
        tail.pop_front();
        self.pieces.extend(parts);
        self.pieces.append(&mut tail);
        Ok(true)
    }
}

impl Stream for FileStream {
    type Item = Result<Bytes, UnixfsError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_bytes(cx).map(Result::transpose)
    }
}
