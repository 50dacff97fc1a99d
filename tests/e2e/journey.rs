//! The README's first screen, step by step, with a real engine.

use cidery_tests::{
    Engine, Node,
    stock::{Dns, records},
};

/// Push here, pull there, by CID and by domain, and run it.
#[test]
fn push_here_pull_there() {
    let Some(engine) = Engine::start() else { return };
    let here = Node::start(&[]);
    let image = format!("{}/hello:1", here.host());
    engine.build(&image, "hello-from-afar", &[3 << 20, 700]);

    // Push, and pull back.
    engine.run(&["push", "-q", &image]);
    engine.forget();
    engine.run(&["pull", "-q", &image]);
    assert_eq!(engine.greeting(&image), "hello-from-afar");

    // Private until published.
    let there = Node::with_peer(&here.address());
    let root = here.json(&["status"])["namespaces"][0]["root"].as_str().unwrap().to_owned();
    let remote = format!("{}/{root}/hello:1", there.host());
    engine.forget();
    engine.run_err(&["pull", "-q", &remote]);

    // Published: by CID, through the peer.
    let published = here.json(&["publish"]);
    assert_eq!(published["root"], root.as_str());
    assert!(published["pull"][0].as_str().unwrap().ends_with(&format!("/{root}/hello:1")));
    engine.run(&["pull", "-q", &remote]);
    assert_eq!(engine.greeting(&remote), "hello-from-afar");

    // By domain, with no --peer: the name's own records say whom to ask.
    // The records are those that `publish` printed, set at a domain of ours.
    let records = records(&published, "images.test");
    assert_eq!(records.len(), 2);
    let Some(dns) = Dns::start(&records) else { return };
    let third = Node::start(&["--dns", &dns.address]);
    let by_domain = format!("{}/images.test/hello:1", third.host());
    engine.forget();
    engine.run(&["pull", "-q", &by_domain]);
    assert_eq!(engine.greeting(&by_domain), "hello-from-afar");
}

/// The first gateway's records: both on the apex, the hint as a JSON array.
#[test]
fn the_first_gateways_records_work() {
    use cidery_tests::http;
    let here = Node::start(&[]);
    http::push_image(&here.http, "hello", "1", &[b"layer".to_vec()]);
    let dnslink = format!("dnslink=/ipfs/{}", here.publish());
    let hint = format!("ipfsnode=[\"{}\"]", here.address());
    let Some(dns) = Dns::start(&[("images.test", &dnslink), ("images.test", &hint)]) else { return };
    let there = Node::start(&["--dns", &dns.address]);
    there.run(&["pull", "images.test/hello:1"]);
}

/// Later pushes are public by themselves, and `--once` means once.
#[test]
fn publishing_is_continuous() {
    use cidery_tests::http;
    let here = Node::start(&[]);
    let there = Node::with_peer(&here.address());
    let sees = |root: &str, name: &str| {
        http::get(&format!("http://{}/v2/{root}/{name}/manifests/1", there.http)).status == 200
    };
    let root = || here.json(&["status"])["namespaces"][0]["root"].as_str().unwrap().to_owned();

    http::push_image(&here.http, "first", "1", &[b"layer one".to_vec()]);
    let first = here.publish();
    assert!(sees(&first, "first"));
    http::push_image(&here.http, "second", "1", &[b"layer two".to_vec()]);
    let second = root();
    assert_ne!(first, second);
    assert_eq!(here.json(&["status"])["namespaces"][0]["published"], second.as_str());
    assert!(sees(&second, "second"));

    here.run(&["unpublish"]);
    http::push_image(&here.http, "third", "1", &[b"layer three".to_vec()]);
    assert!(!sees(&root(), "third"));
    here.run(&["publish", "--once"]);
    let once = root();
    http::push_image(&here.http, "fourth", "1", &[b"layer four".to_vec()]);
    assert_eq!(here.json(&["status"])["namespaces"][0]["published"], once.as_str());
    assert!(sees(&once, "third") && !sees(&root(), "fourth"));
}
