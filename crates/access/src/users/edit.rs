//! Changes to the file, from the command line: under a lock, and by renaming, so that a reader sees the old
//! file or the new one.

use super::{Contents, TOKEN_PREFIX, Token, User, check_name};
use crate::{Error, Rights, Secret, clock, password::PasswordHash};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::NamedTempFile;

/// The file of one data directory, and how it is changed.
#[derive(Debug, Clone)]
pub struct Users {
    path: PathBuf,
}

/// A user, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// The name.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The user's tokens.
    pub tokens: Vec<TokenInfo>,
}

/// A long-lived token, without the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenInfo {
    /// The name.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it ends, in seconds since 1970.
    pub expires: Option<u64>,
    /// What it is narrowed to; `None` for all that the user may.
    pub rights: Option<Rights>,
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is called.
    pub name: String,
    /// How long it can be used; forever if `None`.
    pub lifetime: Option<Duration>,
    /// What it is narrowed to.
    pub rights: Option<Rights>,
}

impl Users {
    /// The file at a path, which need not be there.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// All users, by name.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Malformed`].
    pub fn list(&self) -> Result<Vec<Account>, Error> {
        let mut accounts: Vec<_> = self.read()?.users.into_iter().map(account).collect();
        accounts.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(accounts)
    }

    /// Adds a user, or gives one another password; says whether he is new. His tokens stay.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Password`], and those of reading and writing.
    pub fn set(&self, name: &str, password: &Secret) -> Result<bool, Error> {
        check_name(name).map_err(Error::Name)?;
        let password = PasswordHash::new(password.reveal())?;
        self.change(|contents| {
            if let Some(user) = contents.users.iter_mut().find(|user| user.name == name) {
                user.password = password;
                return Ok(false);
            }
            contents.users.push(User { name: name.to_owned(), password, created: clock::now(), tokens: Vec::new() });
            Ok(true)
        })
    }

    /// Removes a user with all tokens; says how many users are left.
    ///
    /// # Errors
    /// [`Error::Unknown`], and those of reading and writing.
    pub fn remove(&self, name: &str) -> Result<usize, Error> {
        self.change(|contents| {
            let before = contents.users.len();
            contents.users.retain(|user| user.name != name);
            if contents.users.len() == before {
                return Err(no_user(name));
            }
            Ok(contents.users.len())
        })
    }

    /// Makes a token for a user. It is in no file, so this is the only time that it can be seen.
    ///
    /// # Errors
    /// [`Error::Unknown`] without the user, [`Error::Exists`] if he has one of this name, [`Error::Name`], and
    /// those of reading and writing.
    pub fn add_token(&self, name: &str, new: NewToken) -> Result<Secret, Error> {
        check_name(&new.name).map_err(|error| Error::Name(error.replace("user's", "token's")))?;
        let bits: [u8; 32] = rand::random();
        let secret = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bits));
        let created = clock::now();
        let token = Token {
            name: new.name,
            sha256: Sha256::digest(secret.as_bytes()).into(),
            created,
            expires: new.lifetime.map(|lifetime| created.saturating_add(lifetime.as_secs()).min(i64::MAX as u64)),
            rights: new.rights,
        };
        self.change(|contents| {
            let user = contents.users.iter_mut().find(|user| user.name == name).ok_or_else(|| no_user(name))?;
            if user.tokens.iter().any(|other| other.name == token.name) {
                let label = &token.name;
                return Err(Error::Exists(format!(
                    "{name} has a token {label:?}: choose another --name, or end it with cidery user token {name} --revoke {label}"
                )));
            }
            user.tokens.push(token);
            Ok(())
        })?;
        Ok(Secret::new(secret))
    }

    /// Ends a token.
    ///
    /// # Errors
    /// [`Error::Unknown`], and those of reading and writing.
    pub fn revoke_token(&self, name: &str, label: &str) -> Result<(), Error> {
        self.change(|contents| {
            let user = contents.users.iter_mut().find(|user| user.name == name).ok_or_else(|| no_user(name))?;
            let before = user.tokens.len();
            user.tokens.retain(|token| token.name != label);
            if user.tokens.len() == before {
                return Err(Error::Unknown(format!(
                    "{name} has no token {label:?}: see cidery user token {name} --list"
                )));
            }
            Ok(())
        })
    }

    fn read(&self) -> Result<Contents, Error> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Contents::parse(&text).map_err(|detail| Error::Malformed { path: self.path.clone(), detail }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Contents::default()),
            Err(error) => Err(Error::io("reading", &self.path, error)),
        }
    }

    /// Reads, changes and writes; one process at a time.
    fn change<T>(&self, change: impl FnOnce(&mut Contents) -> Result<T, Error>) -> Result<T, Error> {
        let _lock = self.lock()?;
        let mut contents = self.read()?;
        let changed = change(&mut contents)?;
        let text = contents.to_text().map_err(|detail| Error::Malformed { path: self.path.clone(), detail })?;
        self.write(&text).map_err(|error| Error::io("writing", &self.path, error))?;
        Ok(changed)
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Ends with the file that it gives.
    fn lock(&self) -> Result<File, Error> {
        let path = self.path.with_extension("lock");
        let failed = |error| Error::io("locking", &path, error);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(failed)?;
        self.give(&file).map_err(failed)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        Ok(file)
    }

    fn write(&self, text: &str) -> std::io::Result<()> {
        let mut file = NamedTempFile::with_prefix_in("users.", self.directory())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
        self.give(file.as_file())?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        File::open(self.directory())?.sync_all()
    }

    /// To whom the directory belongs: root changes the file of a node that another user runs.
    fn give(&self, file: &File) -> std::io::Result<()> {
        let (owner, own) = (fs::metadata(self.directory())?, file.metadata()?);
        if (owner.uid(), owner.gid()) != (own.uid(), own.gid()) && own.uid() == 0 {
            fchown(file, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    }
}

fn no_user(name: &str) -> Error {
    Error::Unknown(format!("there is no user {name:?} here: see cidery user list, or add one with cidery user add"))
}

fn account(user: User) -> Account {
    let token = |Token { name, created, expires, rights, .. }| TokenInfo { name, created, expires, rights };
    Account { name: user.name, created: user.created, tokens: user.tokens.into_iter().map(token).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> (tempfile::TempDir, Users) {
        let directory = tempfile::tempdir().expect("a directory");
        let users = Users::at(directory.path().join("users"));
        (directory, users)
    }

    fn new(name: &str) -> NewToken {
        NewToken { name: name.into(), lifetime: None, rights: None }
    }

    #[test]
    fn users_come_and_go() {
        let (directory, users) = users();
        assert_eq!(users.list().expect("empty"), []);
        assert!(users.set("bob", &Secret::new("b")).expect("added"));
        assert!(users.set("alice", &Secret::new("a")).expect("added"));
        assert!(!users.set("alice", &Secret::new("other")).expect("changed"));
        let names: Vec<_> = users.list().expect("two").into_iter().map(|account| account.name).collect();
        assert_eq!(names, ["alice", "bob"]);
        let file = directory.path().join("users");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&file).expect("text");
        assert_eq!(text.matches("$argon2id$").count(), 2);
        assert!(matches!(users.set("a:b", &Secret::new("x")), Err(Error::Name(_))));
        assert!(matches!(users.set("carol", &Secret::new("")), Err(Error::Password(_))));
        assert!(matches!(users.remove("carol"), Err(Error::Unknown(_))));
        assert_eq!((users.remove("bob").expect("removed"), users.remove("alice").expect("removed")), (1, 0));
        // The file stays: who had accounts does not become open to everybody by losing the last one.
        assert!(file.exists());
    }

    #[test]
    fn tokens_are_seen_once() {
        let (directory, users) = users();
        assert!(matches!(users.add_token("alice", new("ci")), Err(Error::Unknown(_))));
        users.set("alice", &Secret::new("a")).expect("added");
        let narrowed = NewToken { lifetime: Some(Duration::from_secs(60)), rights: Some(Rights::PULL), ..new("ci") };
        let token = users.add_token("alice", narrowed).expect("made");
        assert!(token.reveal().starts_with("cidery_") && token.reveal().len() == 7 + 43);
        let text = fs::read_to_string(directory.path().join("users")).expect("text");
        assert!(!text.contains(token.reveal()) && text.contains("rights = [\"pull\"]"), "{text}");
        assert!(matches!(users.add_token("alice", new("ci")), Err(Error::Exists(_))));
        users.add_token("alice", new("other")).expect("made");
        users.set("alice", &Secret::new("b")).expect("changed");
        let [account] = &users.list().expect("one")[..] else { panic!("one user") };
        let ci = &account.tokens[0];
        assert_eq!((ci.rights, ci.expires.map(|expires| expires - ci.created)), (Some(Rights::PULL), Some(60)));
        users.revoke_token("alice", "ci").expect("ended");
        assert!(matches!(users.revoke_token("alice", "ci"), Err(Error::Unknown(_))));
        assert_eq!(users.list().expect("one")[0].tokens.len(), 1);
    }

    #[test]
    fn changes_at_the_same_time_are_all_made() {
        let (_directory, users) = users();
        users.set("alice", &Secret::new("a")).expect("added");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let users = &users;
                scope.spawn(move || users.add_token("alice", new(&format!("t{n}"))).expect("made"));
            }
        });
        assert_eq!(users.list().expect("one")[0].tokens.len(), 8);
    }
}
