//! Cold pulls between two nodes, with the bytes on the wire counted.

use cidery_tests::{
    Node,
    docker::noise,
    http::{self, digest},
    process::wait_for,
    proxy::Proxy,
};
use std::{io::Read, net::TcpStream, thread, time::Duration};

fn pair(layers: &[Vec<u8>]) -> (Node, Node, Proxy, String) {
    let origin = Node::start(&[]);
    http::push_image(&origin.http, "app", "1", layers);
    let root = origin.publish();
    let address = origin.address();
    let proxy = Proxy::start(&address);
    let node = Node::with_peer(&proxy.through(&address));
    (origin, node, proxy, root)
}

fn blob(node: &Node, root: &str, bytes: &[u8]) -> String {
    format!("http://{}/v2/{root}/app/blobs/{}", node.http, digest(bytes))
}

/// Sixteen clients that want one cold blob cost the origin one copy.
#[test]
fn sixteen_clients_cost_the_origin_one_copy() {
    let layer = noise("sixteen", 0, 48 << 20);
    let (_origin, node, proxy, root) = pair(std::slice::from_ref(&layer));
    let url = blob(&node, &root, &layer);
    // The tree's own nodes first, so that the blob alone is counted.
    assert_eq!(http::get(&format!("http://{}/v2/{root}/app/manifests/1", node.http)).status, 200);
    let before = proxy.sent();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let answer = http::get(&url);
                assert_eq!(answer.status, 200);
                assert!(answer.whole && answer.body == layer);
            });
        }
    });
    let sent = proxy.sent() - before;
    assert!(sent as f64 <= layer.len() as f64 * 1.02, "the origin sent {sent} bytes for {}", layer.len());
}

/// A client that goes away stops the work.
#[test]
fn a_client_that_leaves_stops_the_fetching() {
    let layers: Vec<Vec<u8>> = (0..3).map(|n| noise("leaver", n, 40 << 20)).collect();
    let (_origin, node, proxy, root) = pair(&layers);
    assert_eq!(http::get(&format!("http://{}/v2/{root}/app/manifests/1", node.http)).status, 200);
    let path = blob(&node, &root, &layers[0]);
    let mut client = TcpStream::connect(&node.http).unwrap();
    use std::io::Write;
    let target = path.split_once(&node.http).unwrap().1;
    write!(client, "GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", node.host()).unwrap();
    let mut start = vec![0; 2 << 20];
    client.read_exact(&mut start).unwrap();
    drop(client);
    let at_leaving = proxy.sent();
    // Still for a whole second: nothing is under way any more.
    let mut last = (at_leaving, std::time::Instant::now());
    let end = wait_for("silence on the wire", || {
        let sent = proxy.sent();
        if sent > last.0 + 16_384 {
            last = (sent, std::time::Instant::now());
        }
        (last.1.elapsed() > Duration::from_secs(1)).then_some(sent)
    });
    let more = end - at_leaving;
    assert!(more <= 8 << 20, "{more} bytes were fetched after the client had left");
}

/// A range of a cold blob costs about the range, and is right.
#[test]
fn a_range_of_a_cold_blob() {
    let layer = noise("range", 0, 32 << 20);
    let (_origin, node, proxy, root) = pair(std::slice::from_ref(&layer));
    let url = blob(&node, &root, &layer);
    let answer = http::get_with(&url, &[("range", "bytes=20000000-20000999")]);
    assert_eq!(answer.status, 206);
    assert_eq!(answer.body, layer[20_000_000..20_001_000]);
    assert_eq!(answer.headers["content-range"], format!("bytes 20000000-20000999/{}", layer.len()));
    assert!(proxy.sent() < 6 << 20, "{} bytes for a range of 1,000", proxy.sent());
}

/// An origin that vanishes midway breaks the connection: never a short body that ends well.
#[test]
fn a_vanishing_origin_resets_the_pull() {
    let layer = noise("vanish", 0, 64 << 20);
    let (mut origin, node, proxy, root) = pair(std::slice::from_ref(&layer));
    let url = blob(&node, &root, &layer);
    let target = url.split_once(&node.http).unwrap().1.to_owned();
    let mut client = TcpStream::connect(&node.http).unwrap();
    use std::io::Write;
    write!(client, "GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", node.host()).unwrap();
    let mut start = vec![0; 1 << 20];
    client.read_exact(&mut start).unwrap();
    origin.daemon().kill();
    proxy.cut();
    client.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let mut rest = Vec::new();
    let ended = client.read_to_end(&mut rest);
    assert!(start.len() + rest.len() < layer.len(), "the pull ended before the origin went");
    assert!(ended.is_err() || rest.len() < layer.len(), "{ended:?}");
}

/// What was fetched once is served on, also when the origin is gone.
#[test]
fn what_was_pulled_is_served_on() {
    let layer = noise("on", 0, 3 << 20);
    let (mut origin, node, _proxy, root) = pair(std::slice::from_ref(&layer));
    let name = format!("{root}/app:1");
    node.run(&["pull", &name]);
    origin.daemon().kill();
    let third = Node::with_peer(&node.address());
    third.run(&["pull", &name]);
    assert_eq!(http::get(&blob(&third, &root, &layer)).body, layer);
}
