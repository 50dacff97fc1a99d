//! An inquiry as the rest of the program sees it.

use async_trait::async_trait;
use cidery_core::{Claim, Inquiry};
use tokio::sync::mpsc;

/// The worker notices when it is dropped.
pub(crate) struct NodeInquiry(pub(crate) mpsc::Receiver<Claim>);

#[async_trait]
impl Inquiry for NodeInquiry {
    async fn next(&mut self) -> Option<Claim> {
        self.0.recv().await
    }
}
