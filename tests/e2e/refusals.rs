//! Bad input over HTTP, against the whole program.

use cidery_tests::{Node, http};

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
