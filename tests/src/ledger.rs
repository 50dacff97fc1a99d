//! What a registry owes its clients: what each path must give, by what was acknowledged.

use crate::random::{IndexedRandom, StdRng};
use std::{collections::BTreeMap, sync::Mutex};

/// What a path must give: a body of this digest, or (`None`) that there is nothing.
pub type Owed = Option<String>;

/// One request that was sent: once it is acknowledged all of its changes are owed. If it never is,
/// all of them may have been made, or none.
#[derive(Clone)]
struct Request {
    changes: Vec<(String, Owed)>,
}

/// Paths below `/v2/`, or whatever else whoever reads it takes for a path.
#[derive(Default)]
pub struct Ledger(Mutex<State>);

#[derive(Default)]
struct State {
    owed: BTreeMap<String, Entry>,
    open: BTreeMap<u64, Request>,
    /// All paths, to choose among.
    paths: Vec<String>,
    /// Counts every change of what is owed.
    time: u64,
}

#[derive(Default)]
struct Entry {
    owed: Owed,
    /// When it changed last.
    changed: u64,
    /// Whether a request that changes it is under way, or was when the node was killed.
    open: bool,
}

/// What was owed at some moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Fact {
    /// Where.
    pub path: String,
    /// What.
    pub owed: Owed,
    changed: u64,
}

impl Ledger {
    /// A request is about to be sent. Nobody else may change these paths before it is acknowledged.
    pub fn sent(&self, changes: Vec<(String, Owed)>) -> u64 {
        let mut state = self.0.lock().unwrap();
        state.time += 1;
        let time = state.time;
        for (path, _) in &changes {
            if !state.owed.contains_key(path) {
                state.paths.push(path.clone());
            }
            let entry = state.owed.entry(path.clone()).or_default();
            assert!(!entry.open, "two requests at once change {path}");
            *entry = Entry { owed: entry.owed.take(), changed: time, open: true };
        }
        state.open.insert(time, Request { changes });
        time
    }

    /// It was acknowledged.
    pub fn acknowledged(&self, request: u64) {
        let mut state = self.0.lock().unwrap();
        let Request { changes } = state.open.remove(&request).unwrap();
        state.close(changes);
    }

    /// What is owed at this path, unless it is open.
    pub fn at(&self, path: &str) -> Option<Fact> {
        self.0.lock().unwrap().fact(path)
    }

    /// Everything that is owed and not open, by path from `prefix` on.
    pub fn under(&self, prefix: &str) -> Vec<Fact> {
        let state = self.0.lock().unwrap();
        let paths = state.owed.range(prefix.to_owned()..).take_while(|(path, _)| path.starts_with(prefix));
        paths.filter_map(|(path, _)| state.fact(path)).collect()
    }

    /// Any of it; `None` if it is open.
    pub fn any(&self, random: &mut StdRng) -> Option<Fact> {
        let state = self.0.lock().unwrap();
        state.fact(state.paths.choose(random)?)
    }

    /// A moment, for [`Ledger::since`].
    pub fn now(&self) -> u64 {
        self.0.lock().unwrap().time
    }

    /// What changed after a moment.
    pub fn since(&self, moment: u64) -> Vec<Fact> {
        let state = self.0.lock().unwrap();
        let changed = state.owed.iter().filter(|(_, entry)| entry.changed > moment);
        changed.filter_map(|(path, _)| state.fact(path)).collect()
    }

    /// Looks what became of requests that were never acknowledged; from now on that is owed.
    pub fn settle(&self, read: impl Fn(&str) -> Owed) {
        let mut state = self.0.lock().unwrap();
        for Request { changes } in std::mem::take(&mut state.open).into_values() {
            let found: Vec<_> = changes.iter().map(|(path, _)| (path.clone(), read(path))).collect();
            let before: Vec<_> = found.iter().map(|(path, _)| (path.clone(), state.owed[path].owed.clone())).collect();
            assert!(
                found == changes || found == before,
                "half done: {found:?}\nbefore: {before:?}\nwanted: {changes:?}"
            );
            state.close(found);
        }
    }
}

impl State {
    fn close(&mut self, changes: Vec<(String, Owed)>) {
        self.time += 1;
        for (path, owed) in changes {
            self.owed.insert(path, Entry { owed, changed: self.time, open: false });
        }
    }

    fn fact(&self, path: &str) -> Option<Fact> {
        let entry = self.owed.get(path).filter(|entry| !entry.open)?;
        Some(Fact { path: path.to_owned(), owed: entry.owed.clone(), changed: entry.changed })
    }
}
