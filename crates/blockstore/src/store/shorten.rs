//! Keeping the journal short.

use super::Inner;
use crate::journal::{self, AppendError};

impl Inner {
    /// Writes the journal anew when most of it says nothing any more. Only the leader of a group calls
    /// this, after its answers are durable: nobody appends meanwhile.
    pub(super) fn shorten_journal(&self) {
        let mut journal = self.journal.lock();
        if !journal.is_long(self.options.journal_size) || self.check_sound().is_err() {
            return;
        }
        let now = self.now();
        self.state.write().shorten_history(now, self.options.predecessors, self.options.history);
        let records = {
            let state = self.state.read();
            state.records(journal::to_millis(now), &state.packs)
        };
        let image = journal::image(self.id, &records);
        if !journal.should_become(image.len() as u64) {
            return;
        }
        match journal.replace(&*self.disk, &image) {
            Ok(()) => {
                if let Some(last) = records.last() {
                    self.state.write().sequence = last.sequence;
                }
                tracing::info!(bytes = image.len(), records = records.len(), "the journal was written anew");
            }
            Err(AppendError::Write(error)) => tracing::warn!(%error, "the journal could not be written anew"),
            Err(AppendError::Flush(error)) => self.poison(&error),
        }
    }

    /// Has the journal written anew now.
    #[cfg(test)]
    pub(crate) fn shorten_journal_now(&self) -> Result<(), cidery_core::StoreError> {
        self.journal.lock().forced = true;
        self.submit(super::round::Op::Sync).map(drop).map_err(super::blocks::only_store)
    }

    /// What the journal on a disk says, and what is known here.
    #[cfg(test)]
    pub(crate) fn facts_on(&self, disk: &dyn crate::disk::Disk) -> (Vec<String>, Vec<String>) {
        let replayed = journal::Journal::open(disk, self.id, &mut Default::default());
        (replayed.unwrap_or_else(|error| panic!("{error}")).1.facts(), self.state.read().facts())
    }
}
