//! Bad input over HTTP, against the whole program.

use cidery_tests::{Node, component, docker::noise, http, process::root, run};
use std::process::Command;

/// A name nobody has, a name that does not resolve, a peer that never answers.
#[test]
fn names_that_lead_nowhere() {
    let node = Node::start(&["--dns", "127.0.0.1:9"]);
    let base = format!("http://{}/v2", node.http);
    let unknown = http::get(&format!("{base}/nothing/manifests/1"));
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "MANIFEST_UNKNOWN"));
    let domain = http::get(&format!("{base}/nothing.example/app/manifests/1"));
    assert!(domain.status >= 400 && !domain.code().is_empty(), "{domain:?}");
    for path in ["..%2f..%2fetc/manifests/1", "a/../b/manifests/1", "UPPER/manifests/1", "app/blobs/sha256:..%2f..%2fx"]
    {
        let answer = http::get(&format!("{base}/{path}"));
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
    }
}

/// A disk that fills up in the middle of a push: a clear error, nothing lost, and reads go on.
#[test]
fn a_full_disk() {
    if !root() || component("mount", "mount").is_none() {
        return;
    }
    let directory = tempfile::TempDir::new().unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(directory.path()));
    struct Unmount<'a>(&'a std::path::Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").args(["--lazy"]).arg(self.0).status();
        }
    }
    let _unmount = Unmount(directory.path());
    let mut node = Node::start_on(directory.path(), &[]);
    let small = vec![noise("full", 0, 200_000)];
    http::push_image(&node.http, "app", "1", &small);
    let start = http::post(&format!("http://{}/v2/app/blobs/uploads/", node.http));
    let location = start.headers["location"].clone();
    let url = if location.starts_with('/') { format!("http://{}{location}", node.http) } else { location };
    let refused = http::patch(&url, &noise("full", 1, 80 << 20));
    // A client still sending may see the connection end before it reads the answer (status 0).
    assert!([0, 507].contains(&refused.status), "{refused:?}");
    let closed = http::put(&format!("{url}?digest={}", http::digest(b"x")), "application/octet-stream", &[]);
    assert!(closed.status >= 400 && !closed.code().is_empty(), "{closed:?}");
    let read = |node: &Node| {
        let url = format!("http://{}/v2/app/blobs/{}", node.http, http::digest(&small[0]));
        http::get(&url).body == small[0]
    };
    assert!(read(&node));
    node.daemon().kill();
    node.restart();
    assert!(read(&node), "what was acknowledged before the disk was full is there");
}
