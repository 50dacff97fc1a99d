//! What can be allowed.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, ops, str::FromStr};

/// One thing that can be done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// Read it, and know that it is there.
    Pull,
    /// Put new blobs, manifests and tags into it, and thereby make it.
    Create,
    /// Let a tag stand for another manifest than before.
    Overwrite,
    /// Remove tags, manifests and blobs.
    Delete,
}

impl Right {
    const ALL: [(Self, &str); 4] =
        [(Self::Pull, "pull"), (Self::Create, "create"), (Self::Overwrite, "overwrite"), (Self::Delete, "delete")];
}

/// Some of the rights.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Rights(u8);

impl Rights {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(0b1111);
    /// Only to read.
    pub const PULL: Self = Self(1 << Right::Pull as u8);
    /// What a push may need.
    pub const PUSH: Self = Self(1 << Right::Create as u8 | 1 << Right::Overwrite as u8);

    /// Whether `right` is among them.
    pub fn has(self, right: Right) -> bool {
        self.0 & Self::from(right).0 != 0
    }

    /// Whether any of `others` is among them.
    pub fn any_of(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Reads a list of words: the rights' names, `push` for create and overwrite, `all`.
    ///
    /// # Errors
    /// A message that names the wrong word, and the right ones.
    pub fn read<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        words.into_iter().try_fold(Self::NONE, |rights, word| Ok(rights | word.parse()?))
    }
}

impl From<Right> for Rights {
    fn from(right: Right) -> Self {
        Self(1 << right as u8)
    }
}

impl ops::BitOr for Rights {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl ops::BitAnd for Rights {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl FromStr for Rights {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "all" => Ok(Self::ALL),
            "push" => Ok(Self::PUSH),
            _ => match Right::ALL.iter().find(|(_, name)| *name == word) {
                Some((right, _)) => Ok((*right).into()),
                None => Err(format!("{word:?} is no right: there are pull, create, overwrite, delete, push and all")),
            },
        }
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Right::ALL.iter().filter(|(right, _)| self.has(*right)).map(|(_, name)| *name);
        match *self {
            Self::ALL => f.write_str("all"),
            _ => f.write_str(&names.collect::<Vec<_>>().join(",")),
        }
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({self})")
    }
}

impl Serialize for Rights {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(Right::ALL.iter().filter(|(right, _)| self.has(*right)).map(|(_, name)| *name))
    }
}

impl<'de> Deserialize<'de> for Rights {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(from)?;
        Self::read(words.iter().map(String::as_str)).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_rights() {
        assert_eq!(Rights::read(["pull", "push"]), Ok(Rights::PULL | Rights::PUSH));
        assert_eq!(Rights::read(["push"]), Rights::read(["create", "overwrite"]));
        assert_eq!(Rights::read(["pull", "create", "overwrite", "delete"]), Rights::read(["all"]));
        assert_eq!(Rights::read([]), Ok(Rights::NONE));
        let wrong = Rights::read(["pull", "write"]).expect_err("no such right");
        assert!(wrong.contains("\"write\"") && wrong.contains("overwrite"), "{wrong}");
        assert_eq!(
            (Rights::ALL.to_string(), (Rights::PULL | Rights::PUSH).to_string()),
            ("all".into(), "pull,create,overwrite".into())
        );
        assert!(!Rights::PUSH.has(Right::Delete) && Rights::PUSH.any_of(Right::Overwrite.into()));
        assert!((Rights::PUSH & Rights::PULL).is_empty());
    }
}
