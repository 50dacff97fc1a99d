//! htpasswd files as other registries use them: `name:$2y$…` a line, bcrypt only.

use crate::{password::PasswordHash, users::check_name};
use std::collections::BTreeMap;

/// Lines at most.
const MAX_LINES: usize = 100_000;

/// Users and the hashes of their passwords.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Htpasswd(pub(crate) BTreeMap<String, PasswordHash>);

impl Htpasswd {
    /// Reads a file's text. Blank lines and comments are left out.
    ///
    /// # Errors
    /// The number of the first line that cannot be used, why, and what to do. The hash is not shown.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut users = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_end_matches('\r').trim();
            let number = at + 1;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if number > MAX_LINES {
                return Err(format!("line {number}: at most {MAX_LINES} lines are read"));
            }
            let (name, hash) = line.split_once(':').ok_or_else(|| {
                format!("line {number}: there is no colon after the user's name: write it with htpasswd -B")
            })?;
            check_name(name).map_err(|error| format!("line {number}: {error}"))?;
            // Some put more fields behind the hash.
            let hash = hash.split(':').next().unwrap_or(hash);
            let hash: PasswordHash = match hash.parse() {
                Ok(PasswordHash::Argon2(_)) => Err("its password is not hashed with bcrypt"),
                other => other,
            }
            .map_err(|why| {
                format!("line {number}: {name} can't log in, since {why}: set it anew with htpasswd -B FILE {name}")
            })?;
            if users.insert(name.to_owned(), hash).is_some() {
                return Err(format!("line {number}: {name} is there twice: remove one of the two lines"));
            }
        }
        Ok(Self(users))
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(password: &str) -> String {
        bcrypt::hash_with_result(password, 4).expect("hashed").format_for_version(bcrypt::Version::TwoY)
    }

    #[test]
    fn files_are_read() {
        let text = format!("# users\r\nalice:{}\r\n\n bob@example.com:{}:more\n", hash("a"), hash("b"));
        let users = Htpasswd::parse(&text).expect("valid");
        assert_eq!(users.len(), 2);
        assert!(users.0["alice"].verify("a") && users.0["bob@example.com"].verify("b"));
        assert!(Htpasswd::parse("").expect("valid").is_empty());
    }

    #[test]
    fn a_wrong_line_is_named() {
        let good = format!("alice:{}", hash("a"));
        for (line, needles) in [
            ("bob:$apr1$x$y", &["line 2", "bob", "htpasswd -B"][..]),
            ("bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", &["line 2", "htpasswd -B"]),
            ("bob:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo", &["line 2", "htpasswd -B"]),
            ("bob", &["line 2", "colon", "htpasswd -B"]),
            ("anonymous:x", &["line 2", "anonymous"]),
            (&good, &["line 2", "twice"]),
        ] {
            let error = Htpasswd::parse(&format!("{good}\n{line}\n")).expect_err(line);
            assert!(needles.iter().all(|needle| error.contains(needle)), "{error}");
            assert!(!error.contains('$') && !error.contains("W6ph"), "{error}");
        }
    }
}
