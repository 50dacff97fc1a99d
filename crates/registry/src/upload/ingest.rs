//! From a request's body into an upload's engine, and from there into a blob.

use super::{Offset, Upload, UploadError, Uploads, engine::Work, save::SAVE_EVERY};
use crate::{
    hash::Hasher,
    patience::{Meter, TooSlow},
    tree::{Blob, TreeError},
};
use axum::body::Body;
use bytes::Bytes;
use cidery_core::{Cid, Digest, Fetcher, StoreError, ports::LocalFetcher};
use cidery_unixfs::{FileReader, UnixfsError};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::task::{JoinHandle, spawn_blocking};

/// What is hashed and stored at once. Two of them are in memory: one fills while one is worked on.
const BATCH: usize = 512 << 10;

/// Most frames in one batch: a client may send them as small as it likes, and each takes some memory.
const FRAMES: usize = 4096;

/// What came of a wait for more of a body.
enum More {
    Batch(Vec<Bytes>),
    End,
    Cut(Vec<Bytes>, Cut),
}

enum Cut {
    Broken(axum::Error),
    Stalled(Duration),
}

impl Uploads {
    /// Takes a body to its end, or to where it breaks; what arrived is kept in either case. After
    /// any other failure `work` is dormant, at the last state that was good.
    pub(super) async fn ingest(
        &self,
        upload: &Upload,
        work: &mut Work,
        Offset { at, length }: Offset,
        mut body: Body,
    ) -> Result<(), UploadError> {
        let received = upload.received();
        if let Some(offset) = at.filter(|offset| *offset != received) {
            return Err(UploadError::Offset { offset, received });
        }
        let engine = work.wake(&self.blocks, &upload.hold).await?;
        let mut taking = tokio::spawn(async move { Ok::<_, UploadError>(engine) });
        let mut meter = self.patience.meter();
        let mut saving: Option<JoinHandle<Result<(), StoreError>>> = None;
        let (engine, cut) = loop {
            let more = more(&mut body, &mut meter).await;
            let engine = taking.await??;
            upload.received.store(engine.written(), Ordering::Release);
            upload.touch();
            *work = Work::Dormant(engine.saved.clone());
            if upload.unsaved(&engine) >= SAVE_EVERY && saving.as_ref().is_none_or(JoinHandle::is_finished) {
                saving = Some(self.store_record(upload, &engine));
            }
            match more {
                More::Batch(batch) => taking = tokio::spawn(engine.take(batch)),
                More::End => break (engine, None),
                More::Cut(rest, cut) => break (engine.take(rest).await?, Some(cut)),
            }
        };
        if let Some(saving) = saving {
            saving.await??;
        }
        let engine = engine.rest().await?;
        upload.received.store(engine.written(), Ordering::Release);
        *work = Work::Active(Box::new(engine));
        let took = upload.received().saturating_sub(received);
        match cut {
            // Only without a Content-Length: else it was compared with that.
            None if length.is_some_and(|said| said != took) => {
                Err(UploadError::Length { said: length.unwrap_or_default(), took })
            }
            None => Ok(()),
            Some(Cut::Broken(source)) => Err(UploadError::Broken { received: upload.received(), source }),
            Some(Cut::Stalled(limit)) => {
                upload.stalled.store(true, Ordering::Release);
                Err(UploadError::Stalled(limit))
            }
        }
    }

    /// Ends the upload in a blob, or, where the digest is wrong, in nothing.
    pub(super) async fn commit<F>(
        &self,
        upload: &Upload,
        work: &mut Work,
        digest: Digest,
        link: impl FnOnce(Blob) -> F + Send,
    ) -> Result<Blob, UploadError>
    where
        F: Future<Output = Result<(), TreeError>> + Send,
    {
        let engine = work.wake(&self.blocks, &upload.hold).await?;
        if digest.is_sha256() {
            let actual = Digest::sha256(&engine.sha256());
            if actual != digest {
                *work = Work::Ended;
                return Err(UploadError::Digest { expected: digest, actual });
            }
        }
        let file = engine.finish().await?;
        if !digest.is_sha256() {
            let actual = self.read_again(file.cid, &digest).await?;
            if actual != digest {
                *work = Work::Ended;
                return Err(UploadError::Digest { expected: digest, actual });
            }
        }
        let blob = Blob { digest, cid: file.cid, size: file.size };
        link(blob.clone()).await?;
        *work = Work::Ended;
        Ok(blob)
    }

    /// A digest in an algorithm that was named only at the end.
    async fn read_again(&self, cid: Cid, digest: &Digest) -> Result<Digest, UploadError> {
        let fetcher: Arc<dyn Fetcher> = Arc::new(LocalFetcher(self.blocks.clone()));
        let mut hasher = Hasher::like(digest);
        let hash = move || {
            futures::executor::block_on(async {
                let file = FileReader::open(fetcher, cid).await?;
                let size = file.size();
                let mut stream = file.read(0..size, 0);
                while let Some(leaf) = stream.next().await? {
                    hasher.update(&leaf);
                }
                Ok::<_, UnixfsError>(hasher.finish())
            })
        };
        Ok(spawn_blocking(hash).await??)
    }
}

/// Waits for the next batch.
async fn more(body: &mut Body, meter: &mut Meter) -> More {
    let (mut batch, mut size) = (Vec::new(), 0);
    while size < BATCH && batch.len() < FRAMES {
        match meter.frame(body).await {
            Err(TooSlow) => return More::Cut(batch, Cut::Stalled(meter.limit())),
            Ok(Some(Err(error))) => return More::Cut(batch, Cut::Broken(error)),
            Ok(None) => break,
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    size += data.len();
                    batch.push(data);
                }
            }
        }
    }
    if batch.is_empty() { More::End } else { More::Batch(batch) }
}
