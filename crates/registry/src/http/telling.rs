//! Telling of what a request did.

use super::{
    Context,
    fault::{ApiError, Fault},
};
use crate::ops::{Action, Event, HttpOrigin, NoRoom, Origin, Target};
use axum::http::{HeaderMap, header};
use cidery_access::Principal;

/// Longest client's name that is passed on, in bytes.
const MAX_AGENT: usize = 256;

impl Context {
    /// Does something that is to be told of, and tells it if it was done: also when its client goes meanwhile, since
    /// what was done cannot be taken back. `work` says what it was done to; `None` if nothing was.
    pub async fn telling<T, E>(
        &self,
        action: Action,
        work: impl Future<Output = Result<(T, Option<Target>), E>> + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Into<ApiError> + Send + 'static,
    {
        let observers = &self.registry.config.observers;
        if observers.is_empty() {
            return work.await.map(|(done, _)| done).map_err(Into::into);
        }
        let (room, origin) = (observers.room().await?, self.origin());
        let told = async move {
            let (done, target) = work.await?;
            if let Some(target) = target {
                room.tell(Event::new(action, vec![target], origin));
            }
            Ok(done)
        };
        tokio::spawn(told).await?.map_err(E::into)
    }

    /// Tells of a pull whoever wants to know.
    pub fn pulled(&self, target: impl FnOnce() -> Target) {
        self.registry.config.observers.pulled(|| Event::new(Action::Pull, vec![target()], self.origin()));
    }

    fn origin(&self) -> Origin {
        Origin::Http(Box::new(HttpOrigin {
            id: format!("{:016x}", self.id),
            method: self.method.to_string(),
            address: self.address,
            client: self.caller.forwarded,
            host: self.caller.host.clone(),
            https: self.caller.https,
            agent: agent(&self.headers),
            user: self.who.as_ref().and_then(Principal::name).map(str::to_owned),
        }))
    }
}

/// What a client calls itself, cut to what is bearable.
pub fn agent(headers: &HeaderMap) -> Option<String> {
    let agent = String::from_utf8_lossy(headers.get(header::USER_AGENT)?.as_bytes()).into_owned();
    let end = agent.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_AGENT).last();
    Some(agent[..end.unwrap_or(0)].to_owned())
}

impl From<NoRoom> for ApiError {
    fn from(error: NoRoom) -> Self {
        Self::from(Fault::Unobserved).because(error)
    }
}
