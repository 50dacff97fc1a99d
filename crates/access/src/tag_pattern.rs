//! Patterns of tags: `v*`, `*-rc*`.

use crate::pattern::is_like;
use serde::{Deserialize, Deserializer, de};
use std::{fmt, str::FromStr};

/// The longest pattern; tags have at most 128 bytes themselves.
const MAX_PATTERN: usize = 128;

/// A pattern of tags. `*` stands for any characters, also none; everything else for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagPattern(String);

impl TagPattern {
    /// Whether a tag fits. Takes time in the product of both lengths, whatever they are.
    pub fn matches(&self, tag: &str) -> bool {
        is_like(self.0.as_bytes(), tag.as_bytes())
    }
}

impl FromStr for TagPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_PATTERN {
            return Err(format!("a pattern of tags has 1 to {MAX_PATTERN} characters"));
        }
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-*".contains(&byte);
        match text.bytes().find(|byte| !known(*byte)) {
            None => Ok(Self(text.to_owned())),
            Some(other) => Err(format!(
                "the pattern {text:?} has {:?}, which no tag has: write \"latest\", \"v*\" or \"*-rc*\"",
                char::from(other)
            )),
        }
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TagPattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_anything() {
        for (pattern, fits, does_not) in [
            ("latest", &["latest"][..], &["Latest", "latest1", "atest"][..]),
            ("v*", &["v", "v1", "v1.2-rc1", "v_-."], &["1v", "V1"]),
            ("*", &["a", "1.0", "_x"], &[]),
            ("v*-rc*", &["v1-rc", "v1-rc2", "v1-rc-rc"], &["v1", "v1-r", "xv1-rc"]),
            ("**", &["a"], &[]),
        ] {
            let pattern: TagPattern = pattern.parse().expect("a pattern");
            assert!(fits.iter().all(|tag| pattern.matches(tag)), "{pattern} fits {fits:?}");
            assert!(!does_not.iter().any(|tag| pattern.matches(tag)), "{pattern} does not fit {does_not:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for wrong in ["", "a/b", "a:b", "a?", "[a]", "v 1", "!v", "é"] {
            assert!(wrong.parse::<TagPattern>().is_err(), "{wrong:?}");
        }
        assert!("a".repeat(129).parse::<TagPattern>().is_err());
    }
}
