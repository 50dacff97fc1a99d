//! What each namespace announces. It is compared with what it announced before, on a blocking thread,
//! and the worker is told the differences, a few at a time: a tree of 200,000 blocks takes as long as it
//! takes, and delays nothing else on the swarm.

use crate::{
    drivers::{
        keyspace::{Point, place},
        provide::Change,
    },
    worker::Command,
};
use cidery_bitswap::Bitswap;
use cidery_core::{Cid, Namespace, NetworkError};
use libp2p::kad::RecordKey;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::{mpsc, oneshot};

/// Keys that a node provides, beside roots that it only downloaded.
pub(crate) const MAX_KEYS: usize = 200_000;
/// Keys in one command to the worker.
const STEP: usize = 512;
/// Blocks that Bitswap is told of at a time.
const GROUP: usize = 1_024;

/// A namespace's whole list, which replaces the one before.
pub(crate) struct Announcement {
    pub(crate) namespace: Namespace,
    pub(crate) roots: Vec<Cid>,
    pub(crate) reply: oneshot::Sender<Result<(), NetworkError>>,
}

/// The places of a list's keys, in order.
type Points = Arc<[Point]>;

/// What became of a list: its places, and the difference to those before.
struct Difference {
    points: Points,
    added: Vec<(Point, RecordKey)>,
    gone: Vec<Point>,
}

/// Takes announcements, one after the other, until no handle is left.
pub(crate) async fn run(mut inbox: mpsc::Receiver<Announcement>, bitswap: Bitswap, commands: mpsc::Sender<Command>) {
    let mut held: HashMap<Namespace, Points> = HashMap::new();
    while let Some(Announcement { namespace, roots, reply }) = inbox.recv().await {
        let result = announce(&mut held, namespace, roots, &bitswap, &commands).await;
        // Whoever asked may have gone.
        let _ = reply.send(result);
    }
}

async fn announce(
    held: &mut HashMap<Namespace, Points>,
    namespace: Namespace,
    roots: Vec<Cid>,
    bitswap: &Bitswap,
    commands: &mpsc::Sender<Command>,
) -> Result<(), NetworkError> {
    if commands.is_closed() {
        return Err(NetworkError::Closed);
    }
    let before = held.get(&namespace).cloned().unwrap_or_default();
    let bitswap = bitswap.clone();
    let work = tokio::task::spawn_blocking(move || {
        // Peers may be waiting for what was published just now.
        roots.chunks(GROUP).for_each(|some| bitswap.announce(some.iter().copied()));
        compare(&before, &roots)
    });
    // It ends early only when the runtime stops.
    let Difference { points, added, gone } = work.await.map_err(|_| NetworkError::Closed)?;
    let others: usize = held.iter().filter(|(other, _)| **other != namespace).map(|(_, points)| points.len()).sum();
    if others + points.len() > MAX_KEYS {
        return Err(NetworkError::Invalid(format!("a node can announce at most {MAX_KEYS} blocks")));
    }
    // What is private now goes first.
    let gone = gone.chunks(STEP).map(|gone| Change { added: Vec::new(), gone: gone.to_vec() });
    let added = added.chunks(STEP).map(|added| Change { added: added.to_vec(), gone: Vec::new() });
    for change in gone.chain(added) {
        let (reply, done) = oneshot::channel();
        commands.send(Command::Provide(change, reply)).await.map_err(|_| NetworkError::Closed)?;
        done.await.map_err(|_| NetworkError::Closed)?;
    }
    if points.is_empty() {
        held.remove(&namespace);
    } else {
        held.insert(namespace, points);
    }
    Ok(())
}

fn compare(before: &[Point], roots: &[Cid]) -> Difference {
    let keys = roots.iter().filter(|cid| cidery_core::identity_bytes(cid).is_none());
    let mut keys: Vec<(Point, RecordKey)> =
        keys.map(|cid| RecordKey::from(cid.hash().to_bytes())).map(|key| (place(&key), key)).collect();
    keys.sort_unstable_by_key(|(point, _)| *point);
    keys.dedup_by_key(|(point, _)| *point);
    let points: Points = keys.iter().map(|(point, _)| *point).collect();
    let lacks = |points: &[Point], point: &Point| points.binary_search(point).is_err();
    keys.retain(|(point, _)| lacks(before, point));
    let gone = before.iter().filter(|point| lacks(&points, point)).copied().collect();
    Difference { points, added: keys, gone }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cidery_core::{Block, memory::MemoryStore};

    fn cids(range: std::ops::Range<u32>) -> Vec<Cid> {
        range.map(|n| *Block::raw(n.to_be_bytes().to_vec()).cid()).collect()
    }

    #[tokio::test]
    async fn the_worker_hears_of_differences_only_and_of_few_at_a_time() {
        let store = Arc::new(MemoryStore::new());
        let (_, bitswap) = cidery_bitswap::new(cidery_bitswap::Config::default(), store.clone(), store);
        let (commands, mut worker) = mpsc::channel(1);
        let (changes, mut told) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(command) = worker.recv().await {
                let Command::Provide(change, reply) = command else { panic!("another command") };
                changes.send((change.added.len(), change.gone.len())).await.unwrap();
                reply.send(()).unwrap();
            }
        });
        let (announcements, inbox) = mpsc::channel(1);
        tokio::spawn(run(inbox, bitswap, commands));
        let mut provide = async |name: &str, roots: Vec<Cid>| {
            let (reply, done) = oneshot::channel();
            let namespace = name.parse().unwrap();
            assert!(announcements.send(Announcement { namespace, roots, reply }).await.is_ok());
            let result = done.await.unwrap();
            let mut changes = Vec::new();
            while let Ok(change) = told.try_recv() {
                changes.push(change);
            }
            (result.is_ok(), changes)
        };
        let twice = [cids(0..1000), cids(0..1000)].concat();
        assert_eq!(provide("local", twice).await, (true, vec![(STEP, 0), (1000 - STEP, 0)]));
        assert_eq!(provide("local", cids(0..1000)).await, (true, vec![]));
        assert_eq!(provide("local", cids(1..1002)).await, (true, vec![(0, 1), (2, 0)]));
        // Each namespace counts for itself, and what is too much changes nothing.
        assert_eq!(provide("a.example", cids(0..3)).await, (true, vec![(3, 0)]));
        assert_eq!(provide("a.example", cids(0..MAX_KEYS as u32)).await, (false, vec![]));
        assert_eq!(provide("a.example", cids(0..3)).await, (true, vec![]));
        assert_eq!(provide("a.example", vec![]).await, (true, vec![(0, 3)]));
    }
}
