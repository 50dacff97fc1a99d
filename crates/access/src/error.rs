//! What can go wrong with accounts.

use std::{io, path::PathBuf, time::Duration};
use thiserror::Error;

/// Why accounts could not be read or changed.
#[derive(Debug, Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{action} {}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what it should be; the text names the line.
    #[error("{}, {detail}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, and what to do.
        detail: String,
    },
    /// What a user or token cannot be called.
    #[error("{0}")]
    Name(String),
    /// What cannot be a password.
    #[error("{0}")]
    Password(String),
    /// There is one of this name.
    #[error("{0}")]
    Exists(String),
    /// There is none of this name.
    #[error("{0}")]
    Unknown(String),
    /// A password could not be hashed.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}

/// Why somebody is not who he says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoginError {
    /// No such user, or not his password, or no such token: it is not said which.
    #[error("the user name or password is wrong, or the token is not valid any more")]
    Wrong,
    /// A bearer token that was issued by somebody else, or has expired, or whose user is gone.
    #[error("the bearer token is not valid, or not any more")]
    Token,
    /// Too many failures from the same place.
    #[error("too many logins from this address failed: wait {} seconds", .0.as_secs())]
    Slowed(Duration),
    /// Too many passwords are being checked.
    #[error("too many logins at the same time: try again in a moment")]
    Busy,
    /// The check itself failed.
    #[error("a password could not be checked")]
    Failed,
}
