//! Lists of patterns, with exceptions: `["v*", "!v*-rc*"]`.

use crate::{Pattern, TagPattern};
use serde::{Deserialize, Deserializer, de};
use std::str::FromStr;

/// A pattern of something.
pub trait Fits {
    /// Whether this is one of those it stands for.
    fn fits(&self, text: &str) -> bool;
}

impl Fits for Pattern {
    fn fits(&self, text: &str) -> bool {
        self.matches(text)
    }
}

impl Fits for TagPattern {
    fn fits(&self, text: &str) -> bool {
        self.matches(text)
    }
}

/// What fits one of some patterns, and none of those that begin with `!`. Their order does not matter. Exceptions alone
/// are exceptions from everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection<P> {
    which: Vec<P>,
    except: Vec<P>,
}

impl<P> Default for Selection<P> {
    fn default() -> Self {
        Self::everything()
    }
}

impl<P> Selection<P> {
    /// Whatever there is.
    pub fn everything() -> Self {
        Self { which: Vec::new(), except: Vec::new() }
    }
}

impl<P: Fits> Selection<P> {
    /// Whether it is among them.
    pub fn has(&self, text: &str) -> bool {
        let any = |patterns: &[P]| patterns.iter().any(|pattern| pattern.fits(text));
        (self.which.is_empty() || any(&self.which)) && !any(&self.except)
    }
}

impl<P: FromStr<Err = String>> Selection<P> {
    /// Reads a list.
    ///
    /// # Errors
    /// A list of nothing, and what is no pattern, in a text that says what to write.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut read = Self::everything();
        for text in texts {
            match text.strip_prefix('!') {
                Some(except) => read.except.push(except.parse()?),
                None => read.which.push(text.parse()?),
            }
        }
        if read.which.is_empty() && read.except.is_empty() {
            return Err("an empty list of patterns stands for nothing: leave it out, or write what it is about".into());
        }
        Ok(read)
    }
}

impl<'de, P: FromStr<Err = String>> Deserialize<'de> for Selection<P> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        Self::read(texts.iter().map(String::as_str)).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(texts: &[&str]) -> Selection<TagPattern> {
        Selection::read(texts.iter().copied()).expect("patterns")
    }

    #[test]
    fn exceptions_count_wherever_they_stand() {
        for list in [&["v*", "!v*-rc*"][..], &["!v*-rc*", "v*"]] {
            let tags = tags(list);
            assert!(tags.has("v1") && !tags.has("v1-rc1") && !tags.has("latest"), "{list:?}");
        }
        let most = tags(&["!latest"]);
        assert!(most.has("v1") && !most.has("latest"));
        let all = Selection::<Pattern>::everything();
        assert!(all.has("team/app") && Selection::<Pattern>::default() == all);
        let repositories = Selection::<Pattern>::read(["ci/**", "!ci/base/*"]).expect("patterns");
        assert!(repositories.has("ci/a/b") && !repositories.has("ci/base/a") && !repositories.has("team/a"));
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        for wrong in [&[][..], &[""], &["!"], &["!!v"], &["v*", "a/b"]] {
            assert!(Selection::<TagPattern>::read(wrong.iter().copied()).is_err(), "{wrong:?}");
        }
        assert!(Selection::<Pattern>::read(["Team/*"]).is_err());
    }
}
