//! Webhooks: who pushed or deleted what, posted to whoever is configured, in the envelope of Docker's registry.
//!
//! Each endpoint has a queue and a task of its own. An event that does not fit into the queue is dropped and counted:
//! no endpoint slows a push, or another endpoint.

mod client;
mod config;
mod endpoint;
mod envelope;
#[cfg(test)]
mod tests;

pub use config::{Hook, Webhook};
pub use envelope::Source;

use anyhow::{Context, Result};
use async_trait::async_trait;
use cidery_node::Hosts;
use cidery_registry::ops::{Event, NoRoom, Observer, Reading, Ticket};
use config::Said;
use endpoint::{Endpoint, Pace};
use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

/// All of them.
#[derive(Clone)]
pub struct Webhooks(Arc<All>);

struct All {
    endpoints: Vec<Endpoint>,
    source: Source,
}

impl Webhooks {
    /// Starts their tasks.
    pub fn start(hooks: &[Hook], source: Source, hosts: Hosts) -> Result<Self> {
        Self::with(hooks, source, hosts, Pace::default())
    }

    fn with(hooks: &[Hook], source: Source, hosts: Hosts, pace: Pace) -> Result<Self> {
        let hosts = Arc::new(hosts);
        let start = |(at, hook): (usize, &Hook)| {
            let started = Endpoint::start(hook.clone(), hosts.clone(), pace);
            started.with_context(|| format!("webhook {} ({})", at + 1, hook.host()))
        };
        let endpoints = hooks.iter().enumerate().map(start).collect::<Result<_>>()?;
        Ok(Self(Arc::new(All { endpoints, source })))
    }

    /// Sends what waits, for at most so long.
    pub async fn close(&self, patience: Duration) {
        futures::future::join_all(self.0.endpoints.iter().map(|endpoint| endpoint.close(patience))).await;
    }

    /// What became of the events.
    pub fn readings(&self) -> Vec<Reading> {
        type Count = fn(&Endpoint) -> u64;
        let families: [(&str, &str, bool, Count); 4] = [
            ("cidery_webhook_delivered", "Events that an endpoint took", true, |e| e.counts.delivered.load(Relaxed)),
            ("cidery_webhook_failures", "Attempts that failed", true, |e| e.counts.failed.load(Relaxed)),
            ("cidery_webhook_dropped", "Events that were given up", true, |e| e.counts.dropped.load(Relaxed)),
            ("cidery_webhook_waiting", "Events that wait", false, |e| e.waiting() as u64),
        ];
        let mut all = Vec::new();
        for (name, help, counts, read) in families {
            let reading = if counts { Reading::counter } else { Reading::gauge };
            // By number: two may have the same host.
            all.extend(self.0.endpoints.iter().enumerate().map(|(at, endpoint)| {
                let number = (at + 1).to_string();
                reading(name, help, read(endpoint)).with("webhook", number).with("host", endpoint.hook.host())
            }));
        }
        all
    }

    fn tell(&self, event: &Event) {
        for message in envelope::messages(event, &self.0.source) {
            let wanting = self.0.endpoints.iter().filter(|one| one.hook.wants(message.action, message.target));
            wanting.for_each(|endpoint| endpoint.offer(message.body.clone()));
        }
    }
}

#[async_trait]
impl Observer for Webhooks {
    /// There always is: an event that does not fit is dropped.
    async fn room(&self) -> Result<Box<dyn Ticket>, NoRoom> {
        Ok(Box::new(self.clone()))
    }

    fn wants_pulls(&self) -> bool {
        self.0.endpoints.iter().any(|endpoint| endpoint.hook.actions.contains(&Said::Pull))
    }

    fn pulled(&self, event: &Event) {
        Self::tell(self, event);
    }
}

impl Ticket for Webhooks {
    fn tell(self: Box<Self>, event: &Event) {
        Self::tell(&self, event);
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhooks({})", self.0.endpoints.len())
    }
}
