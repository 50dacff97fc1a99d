//! An endpoint's queue: bounded, in order, with retries. It slows nobody.

use super::{
    client::{Client, Failure},
    config::Hook,
};
use anyhow::Result;
use axum::body::Bytes;
use cidery_node::Hosts;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinHandle,
};

/// How fast attempts follow each other.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// After the first failure; twice as long after each further one.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), most: Duration::from_secs(60) }
    }
}

/// What became of an endpoint's events.
#[derive(Debug, Default)]
pub struct Counts {
    pub delivered: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    pub dropped: AtomicU64,
}

struct Item {
    body: Bytes,
    since: Instant,
}

/// One endpoint.
pub struct Endpoint {
    /// What it is and wants.
    pub hook: Hook,
    /// What became of its events.
    pub counts: Arc<Counts>,
    queue: mpsc::Sender<Item>,
    stop: watch::Sender<bool>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Endpoint {
    /// Starts its task.
    pub fn start(hook: Hook, hosts: Arc<Hosts>, pace: Pace) -> Result<Self> {
        let client = Client::new(hook.clone(), hosts)?;
        let (queue, items) = mpsc::channel(hook.queue);
        let (stop, stopping) = watch::channel(false);
        let counts = Arc::<Counts>::default();
        let worker =
            Worker { client, hook: hook.clone(), counts: counts.clone(), pace, stopping, well: true }.run(items);
        let worker = Mutex::new(Some(tokio::spawn(worker)));
        Ok(Self { hook, counts, queue, stop, worker })
    }

    /// Puts an event into the queue, or drops it where that is full.
    pub fn offer(&self, body: Bytes) {
        if self.queue.try_send(Item { body, since: Instant::now() }).is_err() {
            let before = self.counts.dropped.fetch_add(1, Relaxed);
            // The first, and then each time that another thousand is full.
            if before.is_multiple_of(1000) {
                tracing::warn!(host = self.hook.host(), dropped = before + 1, "a webhook's queue is full");
            }
        }
    }

    /// Events that wait.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Sends what waits, each event once, for at most so long, and ends.
    pub async fn close(&self, patience: Duration) {
        // It may have ended by itself.
        let _ = self.stop.send(true);
        let Some(mut worker) = self.worker.lock().await.take() else { return };
        if tokio::time::timeout(patience, &mut worker).await.is_err() {
            worker.abort();
            let left = self.waiting() + 1;
            self.counts.dropped.fetch_add(left as u64, Relaxed);
            tracing::warn!(host = self.hook.host(), left, "a webhook did not take its events before the end");
        }
    }
}

struct Worker {
    client: Client,
    hook: Hook,
    counts: Arc<Counts>,
    pace: Pace,
    stopping: watch::Receiver<bool>,
    /// Whether the last attempt was taken.
    well: bool,
}

impl Worker {
    async fn run(mut self, mut items: mpsc::Receiver<Item>) {
        let mut stopping = self.stopping.clone();
        loop {
            let item = tokio::select! {
                // A dropped sender means the same as the word.
                _ = stopping.wait_for(|stop| *stop) => break,
                item = items.recv() => item,
            };
            let Some(item) = item else { return };
            self.deliver(item).await;
        }
        items.close();
        while let Some(item) = items.recv().await {
            self.deliver(item).await;
        }
    }

    /// Until it is taken, refused, or too old.
    async fn deliver(&mut self, item: Item) {
        let mut pause = self.pace.first;
        loop {
            let failure = match self.client.post(item.body.clone()).await {
                Ok(()) => {
                    self.counts.delivered.fetch_add(1, Relaxed);
                    if !std::mem::replace(&mut self.well, true) {
                        tracing::info!(host = self.hook.host(), "a webhook takes events again");
                    }
                    return;
                }
                Err(failure) => failure,
            };
            self.counts.failed.fetch_add(1, Relaxed);
            let why = match failure {
                Failure::Refused(status) => return self.drop(&format!("it answers {status}")),
                Failure::Passing(why) => why,
            };
            if std::mem::replace(&mut self.well, false) {
                let host = self.hook.host();
                tracing::warn!(host, "a webhook does not take an event; it is tried again: {why}");
            }
            if item.since.elapsed() >= self.hook.retry_for || *self.stopping.borrow() {
                return self.drop(&why);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(self.pace.most),
                // Once more, and then no more.
                _ = self.stopping.wait_for(|stop| *stop) => {}
            }
        }
    }

    fn drop(&self, why: &str) {
        self.counts.dropped.fetch_add(1, Relaxed);
        tracing::warn!(host = self.hook.host(), "an event of a webhook is dropped: {why}");
    }
}
