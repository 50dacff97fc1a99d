//! Who there is: the accounts of both files, as of one moment.

use crate::{
    Error, Principal, Rights, Secret,
    htpasswd::Htpasswd,
    keys::{Key, to_hex},
    password::PasswordHash,
    users::{Contents, TOKEN_PREFIX, Token},
    watched::Watched,
};
use parking_lot::{Mutex, RwLock};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

/// How often the files are looked at, at most.
const PERIOD: Duration = Duration::from_secs(1);

/// All accounts. Another one whenever a file changes.
#[derive(Default)]
pub(crate) struct Accounts {
    /// Tells this state from all others.
    pub generation: u64,
    accounts: HashMap<Arc<str>, Account>,
    /// Names in a fixed order, for [`Accounts::stand_in`].
    order: Vec<Arc<str>>,
    /// Whether there are files of accounts, be there anybody in them or not.
    pub configured: bool,
}

struct Account {
    password: PasswordHash,
    /// Ties bearer tokens to this password.
    stamp: Arc<str>,
    tokens: Vec<(Token, Arc<str>)>,
}

impl Accounts {
    fn of(generation: u64, users: Option<&Contents>, htpasswd: Option<&Htpasswd>, key: &Key) -> Self {
        let stamp = |parts: [&[u8]; 3]| Arc::from(to_hex(&key.mac(parts)[..8]));
        let mut accounts = HashMap::new();
        for (name, password) in htpasswd.iter().flat_map(|file| &file.0) {
            let stamp = stamp([b"password", name.as_bytes(), password.as_str().as_bytes()]);
            let account = Account { password: password.clone(), stamp, tokens: Vec::new() };
            accounts.insert(Arc::from(name.as_str()), account);
        }
        for user in users.iter().flat_map(|file| &file.users) {
            let name = user.name.as_bytes();
            let tokens = user.tokens.iter().map(|token| (token.clone(), stamp([b"token", name, &token.sha256])));
            let account = Account {
                password: user.password.clone(),
                stamp: stamp([b"password", name, user.password.as_str().as_bytes()]),
                tokens: tokens.collect(),
            };
            if accounts.insert(Arc::from(user.name.as_str()), account).is_some() {
                tracing::warn!(user = user.name, "is in the htpasswd file too: the password of `cidery user` counts");
            }
        }
        let mut order: Vec<_> = accounts.keys().cloned().collect();
        order.sort_unstable();
        Self { generation, accounts, order, configured: users.is_some() || htpasswd.is_some() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether there is one of this name.
    pub fn has(&self, user: &str) -> bool {
        self.accounts.contains_key(user)
    }

    /// Who shows a long-lived token as his password. Nobody guesses 256 bits, so this may be fast.
    pub fn by_token(&self, user: &str, secret: &Secret, now: u64) -> Option<Principal> {
        let secret = secret.reveal();
        if !secret.starts_with(TOKEN_PREFIX) {
            return None;
        }
        let (name, account) = self.accounts.get_key_value(user)?;
        let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let (token, stamp) = account.tokens.iter().find(|(token, _)| token.sha256 == digest && token.is_valid(now))?;
        let limit = token.rights.unwrap_or(Rights::ALL);
        Some(Principal { user: Some(name.clone()), limit, grants: None, stamp: Some(stamp.clone()) })
    }

    /// The user whose password was right.
    pub fn by_password(&self, user: &str) -> Option<Principal> {
        let (name, account) = self.accounts.get_key_value(user)?;
        let stamp = Some(account.stamp.clone());
        Some(Principal { user: Some(name.clone()), limit: Rights::ALL, grants: None, stamp })
    }

    /// The user of a bearer token, if the credential that it was issued for is still good.
    pub fn by_stamp(&self, user: &str, stamp: &str, now: u64) -> Option<Principal> {
        let (name, account) = self.accounts.get_key_value(user)?;
        let (limit, stamp) = if *account.stamp == *stamp {
            (Rights::ALL, &account.stamp)
        } else {
            let mut tokens = account.tokens.iter();
            let (token, stamp) = tokens.find(|(token, known)| **known == *stamp && token.is_valid(now))?;
            (token.rights.unwrap_or(Rights::ALL), stamp)
        };
        Some(Principal { user: Some(name.clone()), limit, grants: None, stamp: Some(stamp.clone()) })
    }

    /// The hash of a user's password.
    pub fn password(&self, user: &str) -> Option<PasswordHash> {
        self.accounts.get(user).map(|account| account.password.clone())
    }

    /// A hash to check in vain for a user who is not there: always the same one of those that are, so that the
    /// time it takes tells nothing.
    pub fn stand_in(&self, user: &str, key: &Key) -> Option<PasswordHash> {
        let mac = key.mac([&b"stand-in"[..], user.as_bytes()]);
        let number = u64::from_le_bytes(mac[..8].try_into().ok()?);
        let at = number.checked_rem(self.order.len() as u64)?;
        self.password(self.order.get(at as usize)?)
    }
}

/// Both files, and what they say.
pub(crate) struct Directory {
    files: Mutex<Files>,
    current: RwLock<Arc<Accounts>>,
    next: Mutex<Instant>,
    key: Key,
}

struct Files {
    users: Option<Watched<Contents>>,
    htpasswd: Option<Watched<Htpasswd>>,
}

impl Directory {
    /// Reads the files: one of own accounts, which need not be there, and an htpasswd file, which must. Blocking.
    pub fn open(users: Option<PathBuf>, htpasswd: Option<PathBuf>, key: Key) -> Result<Self, Error> {
        let users = users.map(|path| Watched::open(path, false, Contents::parse)).transpose()?;
        let htpasswd = htpasswd.map(|path| Watched::open(path, true, Htpasswd::parse)).transpose()?;
        let files = Files { users, htpasswd };
        let current = RwLock::new(Arc::new(files.accounts(1, &key)));
        Ok(Self { files: Mutex::new(files), current, next: Mutex::new(Instant::now() + PERIOD), key })
    }

    /// The accounts, at most a second old.
    pub async fn current(self: &Arc<Self>) -> Arc<Accounts> {
        {
            let (mut next, now) = (self.next.lock(), Instant::now());
            if now < *next {
                return self.known();
            }
            *next = now + PERIOD;
        }
        self.now().await
    }

    /// The accounts as the files have them now.
    pub async fn now(self: &Arc<Self>) -> Arc<Accounts> {
        let directory = self.clone();
        // Fails only when the runtime stops.
        let _ = tokio::task::spawn_blocking(move || directory.check()).await;
        self.known()
    }

    /// The accounts as they were read last.
    pub fn known(&self) -> Arc<Accounts> {
        self.current.read().clone()
    }

    fn check(&self) {
        let mut files = self.files.lock();
        let changed = [files.users.as_mut().map(Watched::check), files.htpasswd.as_mut().map(Watched::check)];
        if changed.contains(&Some(true)) {
            let mut current = self.current.write();
            *current = Arc::new(files.accounts(current.generation + 1, &self.key));
        }
    }
}

impl Files {
    fn accounts(&self, generation: u64, key: &Key) -> Accounts {
        let users = self.users.as_ref().and_then(Watched::value);
        let htpasswd = self.htpasswd.as_ref().and_then(Watched::value);
        Accounts::of(generation, users.as_deref(), htpasswd.as_deref(), key)
    }
}
