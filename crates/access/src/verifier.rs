//! Is the password right? That is slow on purpose, so it happens on blocking threads, few at a time, once for
//! all who show the same, and a password that was right is remembered for a minute.

use crate::{LoginError, accounts::Accounts, keys::Key, password::PasswordHash, throttle::Throttle};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// How long a password that was right is not hashed again.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Passwords that are remembered at most.
const MAX_KNOWN: usize = 1024;

/// Passwords that are hashed at once: each takes a core, and argon2id 19 MiB.
const HASHING: usize = 2;

/// Passwords that wait for that at most.
const WAITING: usize = 64;

type Proof = [u8; 32];
type Running = Shared<BoxFuture<'static, Result<bool, LoginError>>>;

/// Checks passwords.
pub(crate) struct Verifier {
    /// Makes proofs worthless outside of this process.
    key: Key,
    state: Mutex<State>,
    hashing: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    throttle: Throttle,
}

#[derive(Default)]
struct State {
    /// Until when a proof is known to be right, and for which accounts.
    known: HashMap<Proof, (Instant, u64)>,
    running: HashMap<Proof, Running>,
}

/// What is to be checked.
pub(crate) struct Login<'a> {
    pub user: &'a str,
    pub password: &'a str,
    pub source: IpAddr,
}

impl Verifier {
    pub fn new() -> Self {
        Self {
            key: Key::random(),
            state: Mutex::default(),
            hashing: Arc::new(Semaphore::new(HASHING)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            throttle: Throttle::default(),
        }
    }

    /// Whether it is this user's password. Who has to wait is not even told whether it would have been right.
    pub async fn verify(self: &Arc<Self>, login: &Login<'_>, accounts: &Arc<Accounts>) -> Result<bool, LoginError> {
        if let Some(wait) = self.throttle.wait(login.source, Instant::now()) {
            return Err(LoginError::Slowed(wait));
        }
        let proof =
            self.key.mac([login.user.as_bytes(), login.password.as_bytes(), &accounts.generation.to_le_bytes()]);
        let running = {
            let mut state = self.state.lock();
            match state.known.get(&proof) {
                Some((until, _)) if *until > Instant::now() => return Ok(true),
                _ => {}
            }
            match state.running.get(&proof) {
                Some(running) => running.clone(),
                None => {
                    let running = self.start(login, accounts, proof)?;
                    state.running.insert(proof, running.clone());
                    running
                }
            }
        };
        running.await
    }

    /// Begins to hash, in a task of its own: it ends also when nobody waits for it any more.
    fn start(
        self: &Arc<Self>,
        login: &Login<'_>,
        accounts: &Arc<Accounts>,
        proof: Proof,
    ) -> Result<Running, LoginError> {
        let place = self.waiting.clone().try_acquire_owned().map_err(|_| LoginError::Busy)?;
        self.throttle.attempt(login.source, Instant::now()).map_err(LoginError::Slowed)?;
        let exists = accounts.has(login.user);
        let hash = accounts.password(login.user).or_else(|| accounts.stand_in(login.user, &self.key));
        let (verifier, source, generation) = (self.clone(), login.source, accounts.generation);
        let password = login.password.to_owned();
        let task = tokio::spawn(async move {
            let right = verifier.hash(hash, password).await.map(|right| right && exists);
            if right == Ok(true) {
                verifier.throttle.succeeded(source);
            }
            let mut state = verifier.state.lock();
            state.running.remove(&proof);
            if right == Ok(true) {
                state.remember(proof, generation);
            }
            drop(place);
            right
        });
        Ok(task.map(|result| result.unwrap_or(Err(LoginError::Failed))).boxed().shared())
    }

    async fn hash(&self, hash: Option<PasswordHash>, password: String) -> Result<bool, LoginError> {
        let Ok(_turn) = self.hashing.acquire().await else { return Err(LoginError::Failed) };
        // Without any user there is nothing to find out by the time it takes.
        let Some(hash) = hash else { return Ok(false) };
        spawn_blocking(move || hash.verify(&password)).await.map_err(|_| LoginError::Failed)
    }
}

impl State {
    /// What was right for former accounts will not be asked for again.
    fn remember(&mut self, proof: Proof, generation: u64) {
        let now = Instant::now();
        if self.known.len() >= MAX_KNOWN {
            self.known.retain(|_, (until, of)| *until > now && *of == generation);
        }
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(proof, (now + REMEMBERED, generation));
    }
}
