//! How every reader here gets a block: what is local costs no task switch, the rest is waited for.

use cidery_core::{Bytes, Cid, FetchError, Fetcher};

/// The bytes of `cid`: local if they are, fetched if not.
pub(crate) async fn block(fetcher: &dyn Fetcher, cid: &Cid) -> Result<Bytes, FetchError> {
    match fetcher.local(cid)? {
        Some(bytes) => Ok(bytes),
        None => fetcher.fetch(cid).await,
    }
}
