//! An upload as it is saved: a version byte, the length of a JSON head (4 bytes, big-endian), the
//! head, and the builder's own state.

use super::{
    Upload,
    engine::{Engine, Work},
};
use cidery_core::{Hold, Namespace, RepositoryName, UploadRecord};
use cidery_unixfs::FileBuilder;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use thiserror::Error;

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    namespace: Namespace,
    repository: RepositoryName,
    /// Seconds since 1970.
    touched: u64,
}

/// A record that is not understood.
#[derive(Debug, Error)]
pub enum RecordError {
    /// Too short, or of another version.
    #[error("it has another format")]
    Format,
    /// The head is not one.
    #[error("its head cannot be read")]
    Head(#[from] serde_json::Error),
    /// The builder's state is not one.
    #[error(transparent)]
    State(#[from] cidery_unixfs::UnixfsError),
}

/// The record of an upload at its last leaf boundary.
pub fn write(upload: &Upload, engine: &Engine) -> UploadRecord {
    let head = Head {
        namespace: upload.namespace.clone(),
        repository: upload.repository.clone(),
        touched: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    };
    // Strings and a number: nothing in it can fail to serialize.
    let head = serde_json::to_vec(&head).unwrap_or_default();
    let (pins, builder) = engine.save();
    let mut state = vec![VERSION];
    state.extend((head.len() as u32).to_be_bytes());
    state.extend(head);
    state.extend(builder);
    UploadRecord { id: upload.id.clone(), pins, state }
}

/// The upload that was saved.
pub fn read(record: &UploadRecord, hold: Arc<dyn Hold>) -> Result<Upload, RecordError> {
    let Some(([VERSION], rest)) = record.state.split_first_chunk() else { return Err(RecordError::Format) };
    let (length, rest) = rest.split_first_chunk().ok_or(RecordError::Format)?;
    let length = u32::from_be_bytes(*length) as usize;
    let (head, builder) = rest.split_at_checked(length).ok_or(RecordError::Format)?;
    let head: Head = serde_json::from_slice(head)?;
    let boundary = FileBuilder::resume(builder)?.boundary();
    Ok(Upload {
        id: record.id.clone(),
        namespace: head.namespace,
        repository: head.repository,
        received: AtomicU64::new(boundary),
        saved: AtomicU64::new(boundary.max(1)),
        touched: Mutex::new(UNIX_EPOCH + Duration::from_secs(head.touched)),
        stalled: AtomicBool::new(false),
        work: Arc::new(tokio::sync::Mutex::new(Work::Dormant(builder.to_vec()))),
        hold,
    })
}

/// How many bytes a builder's saved state stands for.
pub fn boundary(saved: &[u8]) -> u64 {
    if saved.is_empty() { 0 } else { FileBuilder::resume(saved).map(|builder| builder.boundary()).unwrap_or(0) }
}
