//! The conformance program of the OCI distribution specification: all of it against a fresh node, and what of it
//! reads, against a node that has nothing but a root to pull by.

use cidery_tests::{Node, component, http, process::text};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};
use tempfile::TempDir;

/// How many of its checks pass. More is a newer program: raise it.
const PASSES: usize = 1032;

const REPOSITORY: &str = "conformance/repo1";

/// What the program wrote down; its exit status says little.
struct Outcome {
    /// How many checks came to each end: `tests`, `failures`, `errors`, `skipped`, `disabled`.
    counts: BTreeMap<&'static str, usize>,
    /// Every check that did not pass, with what it said.
    not_passed: Vec<String>,
    /// The end of each API and kind of data, by name.
    results: BTreeMap<String, String>,
}

impl Outcome {
    fn passed(&self) -> usize {
        let of = |count| self.counts[count];
        of("tests") - of("failures") - of("errors") - of("skipped") - of("disabled")
    }
}

/// Runs it against a registry; every optional part is on.
fn check(host: &str, repository: &str, more: &[(&str, &str)]) -> Option<Outcome> {
    let program = component("conformance", "the conformance program with Go, as tests/run does")?;
    let directory = TempDir::with_prefix("cidery-conformance-").unwrap();
    let other = format!("{repository}-other");
    let mut command = Command::new(program);
    command.current_dir(directory.path()).env("OCI_RESULTS_DIR", text(directory.path()));
    command.envs([("OCI_REGISTRY", host), ("OCI_TLS", "disabled"), ("OCI_VERSION", "1.1")]);
    command.envs([("OCI_REPO1", repository), ("OCI_REPO2", &other), ("OCI_DATA_SPARSE", "true")]);
    for flag in ["BLOBS_UPLOAD_CANCEL", "BLOBS_DIGEST_HEADER", "MANIFESTS_DIGEST_HEADER", "MANIFESTS_TAG_PARAM"] {
        command.env(format!("OCI_API_{flag}"), "true");
    }
    let output = command.envs(more.iter().copied()).output().unwrap();
    let read = |name: &str| {
        fs::read_to_string(directory.path().join(name)).unwrap_or_else(|error| {
            panic!("no {name} ({error}); the program said\n{}", String::from_utf8_lossy(&output.stderr))
        })
    };
    Some(outcome(&read("junit.xml"), &read("results.yaml")))
}

fn outcome(junit: &str, results: &str) -> Outcome {
    let suite = junit.split_once("<testsuite ").unwrap().1.split('>').next().unwrap();
    let counts = ["tests", "failures", "errors", "skipped", "disabled"];
    let count = |name| (name, attribute(suite, name).map_or(0, |number| number.parse().unwrap()));
    let cases = junit.split("<testcase ").skip(1);
    let not_passed = cases.filter(|case| attribute(case, "status") != Some("passed")).map(|case| {
        let said = case.split_once("<system-out>").map_or("", |(_, rest)| rest.split("</system-out>").next().unwrap());
        format!("{}: {} {said}", attribute(case, "name").unwrap(), attribute(case, "status").unwrap_or_default())
    });
    let ends = ["Pass", "Skip", "Disabled", "FAIL", "Error", "Unknown"];
    let ended = results.lines().filter_map(|line| line.trim().rsplit_once(": ")).filter(|(_, end)| ends.contains(end));
    Outcome {
        counts: counts.into_iter().map(count).collect(),
        not_passed: not_passed.collect(),
        results: ended.map(|(name, end)| (name.trim_matches('"').to_owned(), end.to_owned())).collect(),
    }
}

fn attribute<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_once(&format!("{name}=\""))?.1.split('"').next()
}

#[test]
fn every_check_passes() {
    let node = Node::start(&[]);
    let Some(outcome) = check(&node.http, REPOSITORY, &[]) else { return };
    assert_eq!(outcome.not_passed, Vec::<String>::new());
    for count in ["failures", "errors", "skipped", "disabled"] {
        assert_eq!(outcome.counts[count], 0, "{count}: {:?}", outcome.counts);
    }
    let results = &outcome.results;
    assert!(results.len() > 30 && results.values().all(|end| end == "Pass"), "{results:?}");
    println!("{} of {} checks passed", outcome.passed(), outcome.counts["tests"]);
    assert!(outcome.passed() >= PASSES, "only {} passed: {:?}", outcome.passed(), outcome.counts);
}

/// What the program pushed, as it can be found by whoever lists and reads.
#[derive(Default)]
struct Content {
    tags: BTreeSet<String>,
    manifests: BTreeSet<String>,
    blobs: BTreeSet<String>,
    subjects: BTreeSet<String>,
}

impl Content {
    fn of(host: &str) -> Self {
        let base = format!("http://{host}/v2/{REPOSITORY}");
        let (mut content, mut open) = (Self::default(), Vec::new());
        for tag in http::get(&format!("{base}/tags/list")).json()["tags"].as_array().unwrap() {
            let tag = tag.as_str().unwrap().to_owned();
            open.push(tag.clone());
            content.tags.insert(tag);
        }
        let exists = |kind: &str, digest: &str| http::head(&format!("{base}/{kind}/{digest}")).status == 200;
        while let Some(reference) = open.pop() {
            let answer = http::get(&format!("{base}/manifests/{reference}"));
            let digest = answer.headers["docker-content-digest"].clone();
            if !content.manifests.insert(digest) {
                continue;
            }
            let manifest = answer.json();
            let named = |field: &str| -> Vec<String> {
                let all = match &manifest[field] {
                    Value::Array(all) => all.clone(),
                    one => vec![one.clone()],
                };
                all.iter().filter_map(|descriptor| Some(descriptor["digest"].as_str()?.to_owned())).collect()
            };
            content.subjects.extend(named("subject"));
            // Some of it was never pushed, on purpose.
            open.extend(named("manifests").into_iter().filter(|digest| exists("manifests", digest)));
            let blobs = named("config").into_iter().chain(named("layers"));
            content.blobs.extend(blobs.filter(|digest| exists("blobs", digest)));
        }
        for subject in content.subjects.clone() {
            let about = http::get(&format!("{base}/referrers/{subject}")).json();
            for referrer in about["manifests"].as_array().unwrap() {
                content.manifests.insert(referrer["digest"].as_str().unwrap().to_owned());
            }
        }
        content
    }
}

/// One node takes what the program pushes, and keeps it; another is asked for all of that by the root's CID.
#[test]
fn what_only_reads_passes_through_a_second_node() {
    let origin = Node::start(&[]);
    let keep = ["BLOBS_DELETE", "MANIFESTS_DELETE", "TAGS_DELETE"].map(|api| (format!("OCI_API_{api}"), "false"));
    let keep: Vec<_> = keep.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let Some(pushed) = check(&origin.http, REPOSITORY, &keep) else { return };
    assert_eq!((pushed.counts["failures"], pushed.counts["errors"]), (0, 0), "{:?}", pushed.not_passed);
    let content = Content::of(&origin.http);
    assert!(content.tags.len() > 15 && content.manifests.len() > 30 && content.blobs.len() > 50);
    assert!(content.subjects.len() >= 2);

    let root = origin.publish();
    let node = Node::with_peer(&origin.address());
    let words = |all: &BTreeSet<String>| all.iter().cloned().collect::<Vec<_>>().join(" ");
    let (tags, manifests) = (words(&content.tags), words(&content.manifests));
    let (blobs, subjects) = (words(&content.blobs), words(&content.subjects));
    let mut settings = keep.clone();
    settings.extend([("OCI_API_PUSH", "false"), ("OCI_API_BLOBS_UPLOAD_CANCEL", "false")]);
    // Of content that it did not make itself, the program never looks at the digest's header.
    settings.extend([("OCI_API_BLOBS_DIGEST_HEADER", "false"), ("OCI_API_MANIFESTS_DIGEST_HEADER", "false")]);
    let repository = format!("{root}/{REPOSITORY}");
    // The parts one by one: where others are turned off, or have nothing to do, it ends without writing down its results.
    for (part, passes) in [
        ("ping", 1),
        ("empty", 2),
        // A head and a pull of each, a list of the tags, and the referrers.
        ("read-only", 2 * (content.tags.len() + content.manifests.len() + content.blobs.len()) + 2),
        ("missing-manifest", 2),
    ] {
        let mut settings = settings.clone();
        let part = format!("OCI Conformance Test/{part}");
        settings.push(("OCI_FILTER_TEST", &part));
        if part.ends_with("read-only") {
            settings.extend([("OCI_RO_DATA_TAGS", tags.as_str()), ("OCI_RO_DATA_MANIFESTS", &manifests)]);
            settings.extend([("OCI_RO_DATA_BLOBS", blobs.as_str()), ("OCI_RO_DATA_REFERRERS", &subjects)]);
        }
        let Some(outcome) = check(&node.http, &repository, &settings) else { return };
        for count in ["failures", "errors", "skipped"] {
            assert_eq!(outcome.counts[count], 0, "{part}, {count}: {:?}", outcome.not_passed);
        }
        // Only what writes was turned off.
        let writes = |case: &String| ["/push/", "/delete/"].iter().any(|part| case.contains(part));
        assert!(outcome.not_passed.iter().all(writes), "{part}: {:?}", outcome.not_passed);
        println!("{part}: {} passed", outcome.passed());
        assert_eq!(outcome.passed(), passes, "{part}");
    }
    // So it is looked at here, and that the bytes are the same.
    let get = |node: &Node, name: &str, what: &str| http::get(&format!("http://{}/v2/{name}/{what}", node.http));
    for reference in content.tags.iter().chain(&content.manifests) {
        let what = format!("manifests/{reference}");
        let (one, other) = (get(&origin, REPOSITORY, &what), get(&node, &repository, &what));
        assert_eq!((one.status, other.status), (200, 200), "{what}");
        assert_eq!(one.body, other.body, "{what}");
        for header in ["docker-content-digest", "content-type", "content-length"] {
            assert_eq!(one.headers[header], other.headers[header], "{what}: {header}");
        }
    }
    for digest in &content.blobs {
        let what = format!("blobs/{digest}");
        let (one, other) = (get(&origin, REPOSITORY, &what), get(&node, &repository, &what));
        assert_eq!((other.status, &other.headers["docker-content-digest"]), (200, digest));
        assert_eq!(one.body, other.body, "{what}");
    }
}
