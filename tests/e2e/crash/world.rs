//! A node that is killed again and again, as its clients see it.

use cidery_tests::{
    Node,
    http::{self, Answer, digest},
    ledger::{Fact, Ledger, Owed},
    node,
    random::StdRng,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

/// What stands in the ledger for whether the namespace is published. It is not a path below `/v2/`.
pub const PUBLISHED: &str = "published";

/// What the clients share.
pub struct World {
    /// What is owed to them.
    pub ledger: Ledger,
    /// Uploads under way, by client: path and seed of the bytes.
    pub uploads: Mutex<BTreeMap<String, (String, u64)>>,
    /// Every manifest that was pushed, by digest, to push it again.
    pub manifests: Mutex<BTreeMap<String, Vec<u8>>>,
    data: PathBuf,
    host: Mutex<String>,
    acknowledged: AtomicUsize,
    ending: AtomicBool,
}

impl World {
    /// A node, and nothing owed yet.
    pub fn new(node: &Node) -> Self {
        Self {
            ledger: Ledger::default(),
            uploads: Mutex::default(),
            manifests: Mutex::default(),
            data: node.data().to_owned(),
            host: Mutex::default(),
            acknowledged: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
        }
    }

    /// The node runs (again).
    pub fn begin(&self, node: &Node) {
        *self.host.lock().unwrap() = node.http.clone();
        self.ending.store(false, SeqCst);
    }

    /// The node is about to be killed: from now on, and only then, requests may stay without an answer.
    pub fn end(&self) {
        self.ending.store(true, SeqCst);
    }

    /// Whether it is.
    pub fn ending(&self) -> bool {
        self.ending.load(SeqCst)
    }

    /// How many changes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(SeqCst)
    }

    /// Where the registry is.
    pub fn host(&self) -> String {
        self.host.lock().unwrap().clone()
    }

    /// The URL of a path below `/v2/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/v2/{path}", self.host())
    }

    /// The path of a URL: what stays when the node starts on another port.
    pub fn path(&self, url: &str) -> String {
        url.strip_prefix(&format!("http://{}", self.host())).unwrap().to_owned()
    }

    /// Takes an answer with one of these statuses; `None` if the node was killed before it came.
    pub fn answered(&self, answer: Answer, statuses: &[u16]) -> Option<Answer> {
        if answer.status == 0 {
            assert!(self.ending(), "a request stayed without an answer, and nobody had killed the node");
            return None;
        }
        assert!(statuses.contains(&answer.status), "not one of {statuses:?}: {answer:?}");
        Some(answer)
    }

    /// Opens an upload.
    pub fn open_upload(&self, repository: &str) -> Option<String> {
        match http::open_upload(&self.host(), repository) {
            Ok(url) => Some(url),
            Err(refused) => self.answered(refused, &[202]).map(|answer| panic!("no location: {answer:?}")),
        }
    }

    /// Runs a command against the node; `false` if it was killed before the command was done.
    pub fn command(&self, arguments: &[&str]) -> bool {
        let output = node::command(&self.data, arguments).output().unwrap();
        let done = output.status.success();
        assert!(done || self.ending(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        done
    }

    /// Sends what makes these changes, and says whether it was acknowledged.
    pub fn change(&self, changes: Vec<(String, Owed)>, send: impl FnOnce() -> bool) -> bool {
        let request = self.ledger.sent(changes);
        let done = send();
        if done {
            self.ledger.acknowledged(request);
            self.acknowledged.fetch_add(1, SeqCst);
        }
        done
    }

    /// Reads something while others write: what is owed before and after must be what comes.
    pub fn read_any(&self, random: &mut StdRng) {
        let Some(fact) = self.ledger.any(random).filter(|fact| fact.path != PUBLISHED) else { return };
        let answer = http::get(&self.url(&fact.path));
        if answer.status == 0 || !answer.whole {
            assert!(self.ending(), "{}: no whole answer, and nobody had killed the node", fact.path);
        } else if self.ledger.at(&fact.path).as_ref() == Some(&fact) {
            assert_eq!(found(&fact.path, &answer), fact.owed, "{}", fact.path);
        }
    }

    /// What is there now, of a running node.
    pub fn read(&self, path: &str) -> Owed {
        if path == PUBLISHED {
            let output = node::command(&self.data, &["status", "--json"]).output().unwrap();
            let status: Value = serde_json::from_slice(&output.stdout).unwrap();
            let local = &status["namespaces"][0];
            let published = local["published"].as_str()?;
            assert_eq!(Some(published), local["root"].as_str(), "what is public follows the root");
            return Some("all".into());
        }
        let answer = http::get(&self.url(path));
        assert!(answer.whole, "{path}: {}", answer.status);
        found(path, &answer)
    }

    /// Checks that what is owed is there, byte for byte, and what was deleted is not.
    pub fn check<'a>(&self, facts: impl IntoIterator<Item = &'a Fact>) {
        for fact in facts {
            assert_eq!(self.read(&fact.path), fact.owed, "{}", fact.path);
        }
    }
}

fn found(path: &str, answer: &Answer) -> Owed {
    match answer.status {
        200 => Some(digest(&answer.body)),
        404 => None,
        _ => panic!("{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)),
    }
}
