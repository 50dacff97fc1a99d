//! Patterns of repository names: `team/*`, `team/**`, `**/cache-*`.

use serde::{Deserialize, Deserializer, de};
use std::{fmt, str::FromStr};

/// The longest pattern; names have at most 512 bytes themselves.
const MAX_PATTERN: usize = 512;

/// A pattern of repository names. `*` stands for any characters within a component, also none; a component
/// `**` for any number of components, also none. Everything else stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    components: Vec<Component>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Component {
    Any,
    Like(String),
}

impl Pattern {
    /// Whether a repository's full name fits. Takes time in the product of both lengths, whatever they are.
    pub fn matches(&self, name: &str) -> bool {
        // After each component of the name: which ends of the pattern's beginnings can be reached.
        let count = self.components.len();
        let mut reached = vec![false; count + 1];
        reached[0] = true;
        self.skip_any(&mut reached);
        for part in name.split('/') {
            let mut next = vec![false; count + 1];
            for (at, component) in self.components.iter().enumerate().filter(|(at, _)| reached[*at]) {
                match component {
                    Component::Any => next[at] = true,
                    Component::Like(like) => next[at + 1] |= is_like(like.as_bytes(), part.as_bytes()),
                }
            }
            self.skip_any(&mut next);
            reached = next;
        }
        reached[count]
    }

    /// Whether every name fits.
    pub fn is_everything(&self) -> bool {
        self.components.iter().all(|component| *component == Component::Any)
    }

    /// `**` may stand for nothing.
    fn skip_any(&self, reached: &mut [bool]) {
        for (at, component) in self.components.iter().enumerate() {
            if reached[at] && *component == Component::Any {
                reached[at + 1] = true;
            }
        }
    }
}

/// Whether `text` is `like`, in which `*` stands for anything. Only the last star is ever tried again: what
/// the ones before it took can stay as it is.
pub(crate) fn is_like(like: &[u8], text: &[u8]) -> bool {
    let (mut l, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        if l < like.len() && like[l] == b'*' {
            star = Some((l, t));
            l += 1;
        } else if l < like.len() && like[l] == text[t] {
            (l, t) = (l + 1, t + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (l, t) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    like[l..].iter().all(|byte| *byte == b'*')
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| Err(format!("the pattern {text:?} {why}: write \"team/app\", \"team/*\" or \"team/**\""));
        if text.len() > MAX_PATTERN {
            return Err(format!("a pattern has at most {MAX_PATTERN} characters"));
        }
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-*/".contains(&byte);
        if let Some(other) = text.bytes().find(|byte| !known(*byte)) {
            return wrong(&format!("has {:?}, which no repository's name has", char::from(other)));
        }
        let component = |part: &str| match part {
            "**" => Component::Any,
            part => Component::Like(part.to_owned()),
        };
        if text.split('/').any(str::is_empty) {
            return wrong("has an empty component");
        }
        if text.split('/').any(|part| part != "**" && part.contains("**")) {
            return wrong("has ** within a component");
        }
        Ok(Self { text: text.to_owned(), components: text.split('/').map(component).collect() })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<Pattern>().expect("a pattern").matches(name)
    }

    #[test]
    fn stars_and_double_stars() {
        for (pattern, fits, does_not) in [
            ("app", &["app"][..], &["apps", "team/app", "ap"][..]),
            ("team/*", &["team/app", "team/b"], &["team", "team/a/b", "teams/app", "xteam/app"]),
            ("team/**", &["team", "team/app", "team/a/b/c"], &["teams", "teams/app", "a/team/app"]),
            ("**", &["a", "a/b/c"], &[]),
            ("*", &["a", "example.com"], &["a/b"]),
            ("**/app", &["app", "a/app", "a/b/app"], &["apps", "app/a"]),
            ("a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["a", "z", "a/b/zz"]),
            ("**/a/**", &["a", "a/b", "b/a", "b/a/c"], &["b", "aa"]),
            ("*-cache", &["my-cache", "-cache"], &["my-cache2", "a/my-cache"]),
            ("a*b*c", &["abc", "aXbXc", "abbcc", "ab-c-c"], &["ab", "acb", "abcd"]),
            ("v1.*", &["v1.0"], &["v1x0", "v1"]),
        ] {
            assert!(fits.iter().all(|name| matches(pattern, name)), "{pattern} fits {fits:?}");
            assert!(!does_not.iter().any(|name| matches(pattern, name)), "{pattern} does not fit {does_not:?}");
        }
        assert!(
            ["**", "**/**"].iter().all(|text| text.parse::<Pattern>().is_ok_and(|pattern| pattern.is_everything()))
        );
        assert!(["*", "a/**", "**/a"].iter().all(|text| text.parse::<Pattern>().is_ok_and(|p| !p.is_everything())));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for wrong in ["", "/", "a//b", "/a", "a/", "Team/*", "a**", "**a/b", "a?", "[a]", "a b", "é"] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong:?}");
        }
        assert!("a".repeat(513).parse::<Pattern>().is_err());
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = vec!["*a*a*a*a*a*a*b"; 28].join("/**/");
        let name = vec!["aaaaaaaaaaaaaaaa"; 30].join("/");
        let start = std::time::Instant::now();
        assert!(!matches(&pattern, &name));
        assert!(start.elapsed().as_secs() < 1);
    }

    /// The definition, word by word: slow, and plainly right.
    fn defined(pattern: &[&str], name: &[&str]) -> bool {
        fn like(pattern: &[u8], text: &[u8]) -> bool {
            match pattern.split_first() {
                None => text.is_empty(),
                Some((b'*', rest)) => (0..=text.len()).any(|taken| like(rest, &text[taken..])),
                Some((byte, rest)) => text.first() == Some(byte) && like(rest, &text[1..]),
            }
        }
        match pattern.split_first() {
            None => name.is_empty(),
            Some((&"**", rest)) => (0..=name.len()).any(|taken| defined(rest, &name[taken..])),
            Some((part, rest)) => name
                .split_first()
                .is_some_and(|(first, others)| like(part.as_bytes(), first.as_bytes()) && defined(rest, others)),
        }
    }

    proptest! {
        #[test]
        fn matching_is_as_defined(pattern in "(\\*\\*|[ab*]{1,4})(/(\\*\\*|[ab]{1,2}|[ab*]{1,4})){0,4}", name in "[ab]{1,4}(/[ab]{1,4}){0,4}") {
            // A part of two stars and more within a component is not a pattern.
            prop_assume!(pattern.parse::<Pattern>().is_ok());
            let parts: Vec<_> = pattern.split('/').collect();
            let name_parts: Vec<_> = name.split('/').collect();
            prop_assert_eq!(matches(&pattern, &name), defined(&parts, &name_parts), "{} {}", pattern, name);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}", name in "\\PC{0,40}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                pattern.matches(&name);
            }
        }
    }
}
