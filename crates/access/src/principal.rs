//! Who calls, once that is proven, and what is decided about it.

use crate::{Grant, Rights};
use std::sync::Arc;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user's name; `None` for who did not log in.
    pub user: Option<Arc<str>>,
    /// What his credential is narrowed to, whatever he may do himself.
    pub limit: Rights,
    /// What the bearer token is for that he shows; `None` if he shows none.
    pub grants: Option<Arc<[Grant]>>,
    /// Of a bearer token: ties it to the credential that it was issued for.
    pub(crate) stamp: Option<Arc<str>>,
}

impl Principal {
    /// Who shows nothing.
    pub fn anonymous() -> Self {
        Self { user: None, limit: Rights::ALL, grants: None, stamp: None }
    }

    /// The user's name.
    pub fn name(&self) -> Option<&str> {
        self.user.as_deref()
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is allowed.
    Allowed,
    /// He may, but his bearer token was not issued for it: he is to get another one.
    NeedsToken,
    /// He did not log in: he may try that.
    NeedsLogin,
    /// He may not, and knows that the repository is there.
    Denied,
    /// He may not even know whether the repository is there.
    Hidden,
}
