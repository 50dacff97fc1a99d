//! Who is told what happens here: access log, audit log, webhooks.

use super::{
    audit::Audit,
    lines::Lines,
    webhook::{Source, Webhooks},
};
use crate::settings::ServeSettings;
use anyhow::Result;
use cidery_node::Hosts;
use cidery_registry::ops::{Observer, Observers, Reading};
use std::{sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// How long webhooks may take their last events at the stop.
const LAST_EVENTS: Duration = Duration::from_secs(5);
/// How long the logs may be written to their ends.
const LAST_LINES: Duration = Duration::from_secs(3);

/// All of them.
#[derive(Debug)]
pub struct Records {
    access: Option<Arc<Lines>>,
    audit: Option<Arc<Audit>>,
    webhooks: Option<Webhooks>,
}

impl Records {
    /// Opens the audit log, and starts the webhooks. `access` is the log that [`crate::serve::init_logging`] opened.
    pub fn open(settings: &ServeSettings, access: Option<Arc<Lines>>, source: Source) -> Result<Arc<Self>> {
        let audit = settings.audit_log.as_ref().map(Audit::open).transpose()?.map(Arc::new);
        let webhooks = match settings.webhooks.as_slice() {
            [] => None,
            hooks => Some(Webhooks::start(hooks, source, Hosts::new(settings.dns)?)?),
        };
        Ok(Arc::new(Self { access, audit, webhooks }))
    }

    /// Who is told of writes.
    pub fn observers(&self) -> Observers {
        let audit = self.audit.clone().map(|audit| audit as Arc<dyn Observer>);
        let webhooks = self.webhooks.clone().map(|webhooks| Arc::new(webhooks) as Arc<dyn Observer>);
        Observers::new(audit.into_iter().chain(webhooks).collect())
    }

    /// Their numbers.
    pub fn readings(&self) -> Vec<Reading> {
        let access = self.access.as_ref().map(|lines| ("access", lines));
        let audit = self.audit.as_ref().map(|audit| ("audit", audit.lines()));
        let logs: Vec<_> = access.into_iter().chain(audit).map(|(log, lines)| (log, lines.counts())).collect();
        let family = |name, help, of: fn((u64, u64)) -> u64| {
            logs.iter().map(move |(log, counts)| Reading::counter(name, help, of(*counts)).with("log", *log))
        };
        let written = family("cidery_log_written_lines", "Lines that were written, by log", |(written, _)| written);
        let lost = family("cidery_log_lost_lines", "Lines that were not, by log", |(_, lost)| lost);
        let mut all: Vec<_> = written.chain(lost).collect();
        all.extend(self.webhooks.iter().flat_map(Webhooks::readings));
        all
    }

    /// Opens the logs by their names again whenever SIGHUP comes, which is what log rotation sends.
    pub fn reopen_on_hangup(self: &Arc<Self>) -> Result<()> {
        let logs: Vec<Arc<Lines>> =
            self.access.iter().chain(self.audit.as_ref().map(|audit| audit.lines())).cloned().collect();
        if logs.is_empty() {
            return Ok(());
        }
        let mut hangups = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                logs.iter().for_each(|lines| lines.reopen());
            }
        });
        Ok(())
    }

    /// Tells what is still to be told, webhooks only if there is no hurry. To be called when nothing more happens.
    pub async fn close(&self, hurry: bool) {
        if let Some(webhooks) = &self.webhooks {
            webhooks.close(if hurry { Duration::ZERO } else { LAST_EVENTS }).await;
        }
        if let Some(audit) = &self.audit {
            audit.lines().close(LAST_LINES).await;
        }
        if let Some(access) = &self.access {
            access.close(LAST_LINES).await;
        }
    }
}
