//! What was found wrong, for whoever asks: bounded, whatever fails however often.

use std::collections::BTreeSet;

/// How many notes are kept.
const KEEP: usize = 256;

/// Notes in the order they were made.
#[derive(Default)]
pub(crate) struct Notes {
    kept: Vec<String>,
    known: BTreeSet<String>,
    /// How many were made beyond those kept.
    more: u64,
}

impl Notes {
    /// Logs a note and keeps it, unless it is there already or too many are.
    pub(crate) fn push(&mut self, note: String) {
        tracing::warn!("{note}");
        if self.known.contains(&note) {
            return;
        }
        if self.kept.len() == KEEP {
            self.more += 1;
            return;
        }
        self.known.insert(note.clone());
        self.kept.push(note);
    }

    /// All that were kept, and how many more there were.
    pub(crate) fn list(&self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("and {} more notes, which are in the log", self.more));
        self.kept.iter().cloned().chain(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_and_countless_notes_are_bounded() {
        let mut notes = Notes::default();
        (0..3).for_each(|_| notes.push("the index was made anew".into()));
        assert_eq!(notes.list(), ["the index was made anew"]);
        (0..10_000).for_each(|n| notes.push(format!("byte {n} is damaged")));
        let list = notes.list();
        assert_eq!((list.len(), list[1].as_str()), (KEEP + 1, "byte 0 is damaged"));
        assert_eq!(list[KEEP], format!("and {} more notes, which are in the log", 10_001 - KEEP));
    }
}
