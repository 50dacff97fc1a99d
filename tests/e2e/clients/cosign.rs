//! cosign, with a key of its own and without a transparency log: nothing leaves this machine.

use super::{digest, image, layout};
use cidery_tests::{Client, Node, http};
use std::fs;

/// What keeps it on this machine.
const SIGN: [&str; 4] = ["--yes", "--key=cosign.key", "--use-signing-config=false", "--tlog-upload=false"];
const VERIFY: [&str; 2] = ["--key=cosign.pub", "--insecure-ignore-tlog=true"];

struct Cosign(Client);

impl Cosign {
    fn start() -> Option<Self> {
        let cosign = Self(Client::built("cosign")?);
        cosign.run(&["generate-key-pair"]);
        Some(cosign)
    }

    fn run(&self, arguments: &[&str]) -> String {
        cidery_tests::run(self.0.command(arguments).env("COSIGN_PASSWORD", "a password"))
    }

    fn sign(&self, how: &[&str], image: &str) {
        self.run(&[&["sign"], &SIGN[..], how, &[image]].concat());
    }
}

/// An image that is pushed by plain HTTP, and its name by digest.
fn push(node: &Node, name: &str) -> Option<(String, String)> {
    let skopeo = Client::packaged("skopeo")?;
    let (layout, pushed) = layout(name);
    super::skopeo::push(&skopeo, &layout, "v1", &format!("{}/{name}:v1", node.host()));
    Some((format!("{}/{name}@{pushed}", node.host()), pushed))
}

fn tags(node: &Node, name: &str) -> Vec<String> {
    let list = http::get(&format!("http://{}/v2/{name}/tags/list", node.http)).json();
    list["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

fn referrers(node: &Node, name: &str, digest: &str) -> Vec<String> {
    let list = http::get(&format!("http://{}/v2/{name}/referrers/{digest}", node.http)).json();
    list["manifests"].as_array().unwrap().iter().map(|one| one["digest"].as_str().unwrap().to_owned()).collect()
}

/// The older way: a tag that is made of the image's digest.
#[test]
fn signs_by_tag_verifies_and_cleans() {
    let Some(cosign) = Cosign::start() else { return };
    let node = Node::start(&[]);
    let Some((image, pushed)) = push(&node, "team/app") else { return };
    let unsigned = cosign.0.run_err(&[&["verify"], &VERIFY[..], &[&image]].concat());
    assert!(unsigned.contains("no signatures"), "{unsigned}");

    cosign.sign(&["--new-bundle-format=false"], &image);
    let tag = format!("{}.sig", pushed.replace(':', "-"));
    assert_eq!(tags(&node, "team/app"), [tag.as_str(), "v1"]);
    let verified = cosign.run(&[&["verify"], &VERIFY[..], &[&image]].concat());
    assert!(verified.contains(&pushed), "{verified}");
    // With another key it is not.
    fs::rename(cosign.0.at("cosign.pub"), cosign.0.at("first.pub")).unwrap();
    fs::remove_file(cosign.0.at("cosign.key")).unwrap();
    cosign.run(&["generate-key-pair"]);
    let other = cosign.0.run_err(&[&["verify"], &VERIFY[..], &[&image]].concat());
    assert!(other.contains("invalid signature") || other.contains("no matching signatures"), "{other}");
    cosign.run(&["verify", "--key=first.pub", VERIFY[1], &image]);

    // Goes along with a copy, and goes.
    let copy = format!("{}/team/copy:v1", node.host());
    cosign.run(&["copy", &image, &copy]);
    cosign.run(&["verify", "--key=first.pub", VERIFY[1], &copy]);
    cosign.run(&["clean", "--force", &image]);
    assert_eq!(tags(&node, "team/app"), ["v1"]);
    cosign.0.run_err(&["verify", "--key=first.pub", VERIFY[1], &image]);
    assert_eq!(digest(&node, "team/app", "v1"), Some(pushed));
}

/// As OCI 1.1 has it: an artifact that refers to the image.
#[test]
fn signs_and_attests_by_reference_and_verifies() {
    let Some(cosign) = Cosign::start() else { return };
    let node = Node::start(&[]);
    let Some((name, pushed)) = push(&node, "team/app") else { return };
    cosign.sign(&[], &name);
    // The registry has the API, so there is no tag.
    assert_eq!(tags(&node, "team/app"), ["v1"]);
    let found = referrers(&node, "team/app", &pushed);
    assert_eq!(found.len(), 1);
    assert!(image(&node, "team/app", &found[0]).len() >= 2);
    let verified = cosign.run(&[&["verify"], &VERIFY[..], &[&name]].concat());
    assert!(verified.contains(&pushed), "{verified}");

    fs::write(cosign.0.at("predicate.json"), "{\"built\": \"here\"}").unwrap();
    let predicate = ["--predicate=predicate.json", "--type=https://example.com/built"];
    cosign.run(&[&["attest"], &SIGN[..], &predicate[..], &[&name]].concat());
    assert_eq!(referrers(&node, "team/app", &pushed).len(), 2);
    cosign.run(&[&["verify-attestation"], &VERIFY[..], &predicate[1..], &[&name]].concat());
    let wrong = ["--type=https://example.com/other"];
    cosign.0.run_err(&[&["verify-attestation"], &VERIFY[..], &wrong[..], &[&name]].concat());
}

/// A signature travels with its image's registry: another node's copy is verified by root CID, cold.
#[test]
fn verifies_on_a_second_node() {
    let Some(cosign) = Cosign::start() else { return };
    let here = Node::start(&[]);
    let Some((name, pushed)) = push(&here, "team/app") else { return };
    cosign.sign(&[], &name);
    cosign.sign(&["--new-bundle-format=false"], &name);
    let root = here.publish();
    let there = Node::with_peer(&here.address());
    let name = format!("{}/{root}/team/app@{pushed}", there.host());
    for format in ["--new-bundle-format=true", "--new-bundle-format=false"] {
        let verified = cosign.run(&[&["verify"], &VERIFY[..], &[format, &name]].concat());
        assert!(verified.contains(&pushed), "{verified}");
    }
}
