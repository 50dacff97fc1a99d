//! The file `users` in the data directory: this program's own accounts.
//!
//! TOML, of which the format is part of the interface (`docs/ARCHITECTURE.md`):
//!
//! ```toml
//! version = 1
//! [[user]]
//! name = "alice"
//! password = "$argon2id$v=19$m=19456,t=2,p=1$…"     # a PHC string
//! created = 1764230400                               # seconds since 1970
//! [[user.token]]
//! name = "ci"
//! sha256 = "9f86…"                                   # of the token as it was printed
//! created = 1764230400
//! expires = 1795766400                               # optional
//! rights = ["pull"]                                  # all of the user's, if absent
//! ```
//!
//! It is changed by [`edit`] only: one at a time, and whole or not at all, whether a node runs or not.

mod edit;

pub use edit::{Account, NewToken, TokenInfo, Users};

use crate::{
    Rights,
    keys::{from_hex, to_hex},
    password::PasswordHash,
};
use serde::{Deserialize, Serialize};

/// The version of the format.
const VERSION: u32 = 1;

/// The longest name of a user or token.
const MAX_NAME: usize = 128;

/// How a long-lived token begins, so that people and scanners know it when they see it.
pub(crate) const TOKEN_PREFIX: &str = "cidery_";

/// Whether somebody can be called this.
///
/// # Errors
/// A message that says what a name is.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with('@')
        && !name.starts_with('-')
        && !["*", crate::policy::ANONYMOUS].contains(&name)
        && !name.chars().any(|c| c == ':' || c.is_control() || c.is_whitespace());
    if fits {
        return Ok(());
    }
    let shown: String = name.chars().take(40).collect();
    Err(format!(
        "{shown:?} cannot be a user's name: it has from 1 to {MAX_NAME} characters, no colon or space, does not begin \
         with @ or -, and is not \"anonymous\""
    ))
}

/// The file's contents.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contents {
    version: u32,
    #[serde(default, rename = "user")]
    pub users: Vec<User>,
}

/// A user.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    pub name: String,
    #[serde(with = "hash_text")]
    pub password: PasswordHash,
    pub created: u64,
    #[serde(default, rename = "token", skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
}

/// A long-lived token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    pub name: String,
    #[serde(with = "digest_text")]
    pub sha256: [u8; 32],
    pub created: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rights: Option<Rights>,
}

impl Token {
    /// Whether it can be used at a time, in seconds since 1970.
    pub fn is_valid(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Default for Contents {
    fn default() -> Self {
        Self { version: VERSION, users: Vec::new() }
    }
}

impl Contents {
    /// Reads a file's text. The error names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let contents: Self = toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            format!(
                "line {line}: {}: restore it from a backup, or remove it and add the users again",
                one_line(error.message())
            )
        })?;
        if contents.version != VERSION {
            return Err(format!("which has version {}: a newer cidery wrote it, use that", contents.version));
        }
        let mut names = std::collections::BTreeSet::new();
        for user in &contents.users {
            check_name(&user.name)?;
            if !names.insert(&user.name) {
                return Err(format!("which has the user {} twice", user.name));
            }
        }
        Ok(contents)
    }

    pub fn to_text(&self) -> Result<String, String> {
        let text = toml::to_string(self).map_err(|error| error.to_string())?;
        Ok(format!("# Accounts of this node: cidery user --help\n{text}"))
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

mod hash_text {
    use super::PasswordHash;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(hash: &PasswordHash, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(hash.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PasswordHash, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

mod digest_text {
    use super::{from_hex, to_hex};
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(digest: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&to_hex(digest))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        from_hex(&String::deserialize(from)?).ok_or_else(|| de::Error::custom("a sha256 is 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["alice", "bob@example.com", "Team-1_x.y", "ä", &"x".repeat(128)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "a:b", "a b", "@ci", "-x", "*", "anonymous", "a\n", "a\0", &"x".repeat(129)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_damaged_file_is_named_by_its_line() {
        for (text, needle) in [
            ("version = 1\nusr = 1", "line 2"),
            ("version = 2", "newer"),
            ("version = 1\n[[user]]\nname = \"a\"\npassword = \"x\"\ncreated = 1", "bcrypt"),
            ("", "line 1"),
        ] {
            let error = Contents::parse(text).expect_err(text);
            assert!(error.contains(needle) && !error.contains('\n'), "{error}");
        }
    }
}
