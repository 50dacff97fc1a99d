//! The whole of it: what a server asks.

use crate::{
    Credentials, Decision, Error, Grant, Issued, LoginError, Policy, Principal, Proxies, Right, Rights, Scope, Secret,
    accounts::{Accounts, Directory},
    clock,
    credentials::MAX_PASSWORD,
    keys::Key,
    tokens::Tokens,
    verifier::{Login, Verifier},
};
use std::{fmt, net::IpAddr, path::PathBuf, sync::Arc};

/// How who did not log in is asked to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Challenge {
    /// With a token of the server's own; every client of registries knows how.
    #[default]
    Bearer,
    /// With user and password in each request.
    Basic,
}

/// Where accounts are, and what the rules are.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The file of own accounts; it need not be there.
    pub users: Option<PathBuf>,
    /// An htpasswd file; it must be there.
    pub htpasswd: Option<PathBuf>,
    /// The file with the key of tokens, which is made if need be; without one, tokens end with the process.
    pub key: Option<PathBuf>,
    /// The rules.
    pub policy: Policy,
    /// Proxies whose word about who calls is believed.
    pub proxies: Proxies,
    /// How to ask for a login.
    pub challenge: Challenge,
    /// Whether passwords are taken over connections that others can read.
    pub insecure: bool,
}

/// Who may do what.
pub struct Access {
    policy: Policy,
    proxies: Proxies,
    challenge: Challenge,
    insecure: bool,
    directory: Arc<Directory>,
    verifier: Arc<Verifier>,
    tokens: Tokens,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("users", &self.directory.known().len()).field("policy", &self.policy).finish()
    }
}

impl Access {
    /// Reads the accounts. Blocking.
    ///
    /// # Errors
    /// When a file cannot be read or is not what it should be: a server must not start without its rules.
    pub fn open(config: Config) -> Result<Self, Error> {
        let key = config.key.as_deref().map_or_else(|| Ok(Key::random()), Key::load_or_create)?;
        Ok(Self {
            policy: config.policy,
            proxies: config.proxies,
            challenge: config.challenge,
            insecure: config.insecure,
            directory: Arc::new(Directory::open(config.users, config.htpasswd, key.derive("stamp"))?),
            verifier: Arc::new(Verifier::new()),
            tokens: Tokens::new(&key),
        })
    }

    /// Whether anybody has to log in: there is a file of accounts, even an empty one, or there are rules.
    pub async fn is_required(&self) -> bool {
        self.policy.has_rules() || self.directory.current().await.configured
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.directory.known().len()
    }

    /// Proxies whose word about who calls is believed.
    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// How to ask for a login.
    pub fn challenge(&self) -> Challenge {
        self.challenge
    }

    /// Whether passwords are taken over connections that others can read.
    pub fn is_insecure(&self) -> bool {
        self.insecure
    }

    /// Who shows these credentials, from this address.
    ///
    /// # Errors
    /// [`LoginError`], of which the message tells nothing about who exists.
    pub async fn authenticate(&self, shown: &Credentials, source: IpAddr) -> Result<Principal, LoginError> {
        match shown {
            Credentials::Basic { user, password } => self.log_in(user, password, source).await,
            Credentials::Bearer(token) => self.tokens.verify(token.reveal(), &*self.directory.current().await),
        }
    }

    /// Who shows a user's name and password, or one of his long-lived tokens in its place.
    ///
    /// # Errors
    /// As [`Access::authenticate`].
    pub async fn log_in(&self, user: &str, password: &Secret, source: IpAddr) -> Result<Principal, LoginError> {
        let accounts = self.directory.current().await;
        let result = self.log_in_with(&accounts, user, password, source).await;
        if result != Err(LoginError::Wrong) {
            return result;
        }
        // The user may have been added, or the password changed, a moment ago.
        let newer = self.directory.now().await;
        let result = match newer.generation == accounts.generation {
            true => result,
            false => self.log_in_with(&newer, user, password, source).await,
        };
        if result == Err(LoginError::Wrong) {
            // A name that nobody has may be a password in the wrong place.
            let user = newer.has(user).then_some(user);
            tracing::info!(user, %source, "a login failed");
        }
        result
    }

    async fn log_in_with(
        &self,
        accounts: &Arc<Accounts>,
        user: &str,
        password: &Secret,
        source: IpAddr,
    ) -> Result<Principal, LoginError> {
        if let Some(who) = accounts.by_token(user, password, clock::now()) {
            return Ok(who);
        }
        if password.reveal().len() > MAX_PASSWORD {
            return Err(LoginError::Wrong);
        }
        let login = Login { user, password: password.reveal(), source };
        match self.verifier.verify(&login, accounts).await? {
            true => accounts.by_password(user).ok_or(LoginError::Wrong),
            false => Err(LoginError::Wrong),
        }
    }

    /// Who shows a refresh token.
    ///
    /// # Errors
    /// [`LoginError::Token`].
    pub async fn refresh(&self, token: &Secret) -> Result<Principal, LoginError> {
        self.tokens.verify_refresh(token.reveal(), &*self.directory.current().await)
    }

    /// A bearer token for as much of the scopes as `who` may; and, if it is asked for, one that gets the next.
    /// `canonical` gives a repository's full name for what a client calls it.
    ///
    /// # Errors
    /// [`Error::Hash`] when it cannot be made.
    pub fn issue(
        &self,
        who: &Principal,
        scopes: &[Scope],
        offline: bool,
        canonical: impl Fn(&str) -> Option<String>,
    ) -> Result<Issued, Error> {
        let grant = |scope: &Scope| match scope {
            Scope::Repository { name, rights } => {
                let name = canonical(name)?;
                let rights = *rights & self.rights(who, &name);
                Grant::repository(name, rights)
            }
            Scope::Catalog => self.may_list(who).then(Grant::catalog),
        };
        self.tokens.issue(who, scopes.iter().filter_map(grant).collect(), offline)
    }

    /// What becomes of a request that needs any of these rights on a repository, by its full name.
    pub fn decide(&self, who: &Principal, repository: &str, any_of: Rights) -> Decision {
        let rights = self.rights(who, repository);
        if !rights.any_of(any_of) {
            return match (&who.user, rights.has(Right::Pull)) {
                (None, _) => Decision::NeedsLogin,
                (Some(_), true) => Decision::Denied,
                (Some(_), false) => Decision::Hidden,
            };
        }
        match &who.grants {
            Some(grants) if !(granted(grants, repository) & rights).any_of(any_of) => Decision::NeedsToken,
            _ => Decision::Allowed,
        }
    }

    /// What he may do with a repository now, by the rules, his credential and his bearer token.
    pub fn allowed(&self, who: &Principal, repository: &str) -> Rights {
        let rights = self.rights(who, repository);
        who.grants.as_ref().map_or(rights, |grants| rights & granted(grants, repository))
    }

    /// What becomes of a request for the list of repositories.
    pub fn decide_list(&self, who: &Principal) -> Decision {
        match &who.grants {
            _ if !self.may_list(who) => Decision::NeedsLogin,
            Some(grants) if !grants.iter().any(Grant::is_catalog) => match who.user {
                None => Decision::NeedsLogin,
                Some(_) => Decision::NeedsToken,
            },
            _ => Decision::Allowed,
        }
    }

    /// Whether a repository is in the list that he gets: what a bearer token is for does not matter.
    pub fn is_listed(&self, who: &Principal, repository: &str) -> bool {
        self.rights(who, repository).has(Right::Pull)
    }

    /// Whether he may pull everything that there is.
    pub fn may_pull_everything(&self, who: &Principal) -> bool {
        (self.policy.rights_everywhere(who.name()) & who.limit).has(Right::Pull)
    }

    fn may_list(&self, who: &Principal) -> bool {
        who.user.is_some() || self.policy.may_pull_something(None)
    }

    fn rights(&self, who: &Principal, repository: &str) -> Rights {
        self.policy.rights(who.name(), repository) & who.limit
    }
}

fn granted(grants: &[Grant], repository: &str) -> Rights {
    grants.iter().fold(Rights::NONE, |all, grant| all | grant.rights_on(repository))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
