//! What a request shows: `Authorization: Basic …` or `Bearer …`.

use base64::{Engine, engine::general_purpose::STANDARD};
use std::fmt;

/// The longest header that is read: a token for many repositories fits.
const MAX_HEADER: usize = 16 << 10;

/// The longest password, in bytes.
pub(crate) const MAX_PASSWORD: usize = 1024;

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Gives it, for what has to compare or print it on purpose.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a request shows of who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password, or a long-lived token in its place (RFC 7617).
    Basic {
        /// The user.
        user: String,
        /// The password or token.
        password: Secret,
    },
    /// A token of this registry's own (RFC 6750).
    Bearer(Secret),
}

impl Credentials {
    /// Reads the header's value; `None` if it is neither of the two, or not well formed.
    pub fn parse(header: &str) -> Option<Self> {
        if header.len() > MAX_HEADER {
            return None;
        }
        let (scheme, rest) = header.trim().split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Bearer(Secret::new(rest)));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Self::Basic { user: user.to_owned(), password: Secret::new(password) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Basic { user: user.into(), password: Secret::new(password) })
    }

    #[test]
    fn headers_are_read() {
        assert_eq!(Credentials::parse("Basic YWxpY2U6c2VjcmV0"), basic("alice", "secret"));
        assert_eq!(Credentials::parse("bAsIc  YWxpY2U6YTpiOmM="), basic("alice", "a:b:c"));
        assert_eq!(Credentials::parse("Bearer x.y.z"), Some(Credentials::Bearer(Secret::new("x.y.z"))));
        for wrong in ["", "Basic", "Basic !!!", "Basic YWxpY2U=", "Digest x", "YWxpY2U6c2VjcmV0", "Basic /w=="] {
            assert_eq!(Credentials::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(Credentials::parse(&format!("Bearer {}", "x".repeat(MAX_HEADER))), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", [basic("alice", "hunter2"), Credentials::parse("Bearer hunter2")]);
        assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
    }
}
