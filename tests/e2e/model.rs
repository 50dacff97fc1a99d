//! Random pushes, deletes, mounts, publications and restarts, next to a registry as simple as it
//! can be: after each step both answer alike, to the owner, and to a peer that pulls by root CID.
//!
//! `CIDERY_TEST_STEPS` is the number of steps, for long runs by hand; `CIDERY_TEST_SEED` as printed.

mod registry;
mod steps;

use cidery_tests::{
    Node, http,
    process::{free_port, wait_for},
    random::{self, IndexedRandom, StdRng},
};
use registry::{Registry, Repository, Step};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use steps::REPOSITORIES;

/// After so many steps everything is compared, not only what changed.
const EVERY: u64 = 25;

type Contents = BTreeMap<String, Vec<u8>>;
type View = BTreeMap<String, Repository>;

#[test]
fn a_node_does_what_the_model_does() {
    let (seed, steps) = (random::seed(), random::number("CIDERY_TEST_STEPS", 400));
    let mut random = random::choices(seed, 0);
    // The peer stays connected to it, so it comes back at the same port.
    let swarm = format!("/ip4/127.0.0.1/tcp/{}", free_port());
    let mut node = Node::start(&["--swarm", &swarm]);
    let peer = Node::with_peer(&node.address());
    let (mut model, mut contents) = (Registry::new(&REPOSITORIES), steps::blobs());
    // Without a root there is nothing to publish.
    http::push_image(&node.http, "zero", "1", &[]);
    let mut others = Others { peer, root: String::new(), shown: BTreeMap::new(), refused: 0 };
    others.saw(&node, &model);
    for n in 1..=steps {
        let step = steps::choose(&mut model, &mut contents, &mut random);
        println!("{n}: {step:?}");
        let status = steps::take(&mut node, &step, &model, &contents);
        // Blobs that lost their last manifest are taken out of the root at any time.
        assert_eq!(status, model.take(&step, &root(&node, "published")), "{step:?}");
        others.saw(&node, &model);
        let owner = format!("http://{}/v2", node.http);
        if n % EVERY == 0 || n == steps || matches!(step, Step::Restart) {
            for name in REPOSITORIES {
                let digests = all(&model.repositories[name], &contents, &mut random);
                compare(&owner, name, &model.to_owner(), &contents, digests);
            }
            check_lists(&node, &model);
            others.check(&model, &contents, &mut random);
        } else if let Some(name) = changed(&step) {
            let some = contents.keys().collect::<Vec<_>>();
            let digests = some.choose_multiple(&mut random, 5).copied().collect();
            compare(&owner, name, &model.to_owner(), &contents, digests);
        }
    }
    assert_eq!(others.refused, 2, "roots that were never public came up");
}

/// The namespace's current or published root, by the node's own word.
fn root(node: &Node, which: &str) -> String {
    node.json(&["status"])["namespaces"][0][which].as_str().unwrap_or_default().to_owned()
}

fn changed(step: &Step) -> Option<&str> {
    match step {
        Step::PushBlob { repository, .. }
        | Step::PushWrong { repository, .. }
        | Step::Mount { repository, .. }
        | Step::PushManifest { repository, .. }
        | Step::DeleteTag { repository, .. }
        | Step::DeleteManifest { repository, .. }
        | Step::DeleteBlob { repository, .. } => Some(repository),
        Step::Publish { .. } | Step::Unpublish | Step::Collect | Step::Restart => None,
    }
}

/// Everything that is there, and some that is not.
fn all<'a>(repository: &'a Repository, contents: &'a Contents, random: &mut StdRng) -> Vec<&'a String> {
    let known: Vec<_> = contents.keys().collect();
    let some = known.choose_multiple(random, 10).copied();
    repository.blobs.keys().chain(&repository.manifests).chain(some).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Compares a repository: what is there byte for byte, every tag, and of these digests whether they
/// are there at all.
fn compare(base: &str, name: &str, view: &View, contents: &Contents, digests: Vec<&String>) {
    let repository = &view[name];
    let same = |path: String, wanted: Option<&String>| {
        let answer = http::get(&format!("{base}/{name}/{path}"));
        match wanted {
            Some(digest) => {
                assert_eq!(answer.status, 200, "{name}/{path}: {}", String::from_utf8_lossy(&answer.body));
                assert!(answer.whole && answer.body == contents[digest], "{name}/{path} came back different");
            }
            None => assert_eq!(answer.status, 404, "{name}/{path}"),
        }
    };
    for digest in digests.into_iter().filter(|digest| !repository.unsure.contains(*digest)) {
        same(format!("blobs/{digest}"), repository.blobs.contains_key(digest).then_some(digest));
        same(format!("manifests/{digest}"), repository.manifests.contains(digest).then_some(digest));
    }
    for tag in steps::TAGS {
        let digest = repository.tags.get(tag);
        if digest.is_none_or(|digest| !repository.unsure.contains(digest)) {
            same(format!("manifests/{tag}"), digest.filter(|digest| repository.manifests.contains(*digest)));
        }
    }
    let listed = http::get(&format!("{base}/{name}/tags/list"));
    let listed = listed.json()["tags"].as_array().cloned().unwrap_or_default();
    assert_eq!(listed, repository.tags.keys().cloned().map(Value::String).collect::<Vec<_>>(), "the tags of {name}");
}

/// What the owner is listed: images, and repositories.
fn check_lists(node: &Node, model: &Registry) {
    let names = |list: &Value, field: fn(&Value) -> Option<&str>| {
        list.as_array().unwrap().iter().map(|entry| field(entry).unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let images = names(&node.json(&["images"]), |image| image["name"].as_str());
    let tags = model
        .repositories
        .iter()
        .flat_map(|(name, repository)| repository.tags.keys().map(move |tag| format!("{name}:{tag}")));
    assert_eq!(images, tags.chain(["zero:1".into()]).collect());
    let catalog = http::get(&format!("http://{}/v2/_catalog", node.http)).json();
    let catalog = names(&catalog["repositories"], Value::as_str);
    for (name, repository) in &model.repositories {
        assert!(repository.manifests.is_empty() || catalog.contains(name), "{name} is missing in {catalog:?}");
    }
}

/// What others may see: a peer pulls by the root that is public, and can't by one that never was.
struct Others {
    peer: Node,
    /// The namespace's root now.
    root: String,
    /// The roots that were public at some time, and what they show.
    shown: BTreeMap<String, View>,
    /// How often the peer was refused a root that was not.
    refused: u32,
}

impl Others {
    /// Takes note of what is public after a step.
    fn saw(&mut self, node: &Node, model: &Registry) {
        let status = &node.json(&["status"])["namespaces"][0];
        let root = |which: &str| status[which].as_str().map(str::to_owned);
        self.root = root("root").unwrap();
        let public = model.public_root(&self.root).map(str::to_owned);
        assert_eq!(root("published"), public);
        if public.as_ref() == Some(&self.root) {
            self.shown.insert(self.root.clone(), model.in_root());
        }
    }

    fn check(&mut self, model: &Registry, contents: &Contents, random: &mut StdRng) {
        wait_for("the connection", || (self.peer.json(&["status"])["peers"] == 1).then_some(()));
        let below = |root: &str| format!("http://{}/v2/{root}", self.peer.http);
        if let Some(root) = model.public_root(&self.root) {
            let shown = &self.shown[root];
            let view = if root == self.root { shown.clone() } else { model.left_of(shown) };
            for name in REPOSITORIES {
                compare(&below(root), name, &view, contents, all(&view[name], contents, random));
            }
        }
        // Only so often: a peer searches for a while before it says that nobody has it.
        if self.refused < 2 && !self.shown.contains_key(&self.root) {
            self.refused += 1;
            let answer = http::get(&format!("{}/zero/manifests/1", below(&self.root)));
            assert!(answer.status >= 400, "{} is private, and a peer got {answer:?} below it", self.root);
        }
    }
}
