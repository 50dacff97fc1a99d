//! Clients at one byte a second.

use cidery_tests::{
    Node,
    docker::noise,
    http,
    process::{memory, run, wait_for},
};
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// How many there are of each kind.
const EACH: usize = 333;

/// Files and connections that a node may have more than before, without them.
const SOME: usize = 20;

struct Slow {
    stream: TcpStream,
    reads: bool,
}

impl Slow {
    fn start(address: &str, head: &str, reads: bool) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { stream, reads }
    }

    /// Sends or takes one byte; whether the connection is still there.
    fn step(&mut self) -> bool {
        let mut bytes = [0; 512];
        // Who sends looks whether there is an answer.
        let most = if self.reads { 1 } else { bytes.len() };
        let here = match self.stream.read(&mut bytes[..most]) {
            Ok(read) => read > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        here && (self.reads || self.stream.write_all(b"x").is_ok())
    }
}

fn raise_open_files() {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    if line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX) < 4096 {
        run(Command::new("prlimit").args(["--pid", &std::process::id().to_string(), "--nofile=4096:"]));
    }
}

/// A thousand of them: with heads, bodies and answers. Others are served meanwhile, all of them are cut off in the
/// end, and the memory that they take is bounded.
#[test]
fn a_thousand_slow_clients_exhaust_nothing() {
    raise_open_files();
    let limits = ["--max-uploads", "64", "--max-downloads", "64"];
    let mut node = Node::start(&[&limits[..], &["--header-timeout", "5s", "--stall-timeout", "12s"]].concat());
    let blob = noise("slow", 0, 24 << 20);
    assert_eq!(http::push_blob(&node.http, "app", &blob), 201);
    let digest = http::digest(&blob);
    let id = node.daemon().id();
    let before = memory(id, "VmRSS");
    // What a client sees of being cut off it sees when it has read what was on its way: so it is the node that is asked.
    let open = || fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
    let files = open();

    let path = format!("/v2/app/blobs/{digest}");
    let mut slow = Vec::new();
    for _ in 0..EACH {
        let upload = format!(
            "POST /v2/app/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n"
        );
        slow.push(Slow::start(&node.http, "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX-", false));
        slow.push(Slow::start(&node.http, &upload, false));
        slow.push(Slow::start(&node.http, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"), true));
    }
    let start = Instant::now();
    wait_for("taking them in", || (open() > files + EACH).then_some(()));
    thread::scope(|scope| {
        scope.spawn(|| {
            while open() > files + SOME {
                assert!(
                    start.elapsed() < Duration::from_secs(100),
                    "{} of {} are still there",
                    open() - files,
                    slow.len()
                );
                slow.retain_mut(Slow::step);
                thread::sleep(Duration::from_secs(1));
            }
        });
        let base = format!("http://{}", node.http);
        assert_eq!(http::get(&format!("{base}/v2/")).status, 200);
        assert_eq!(http::head(&format!("{base}{path}")).status, 200);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        let pulled = http::get(&format!("{base}{path}"));
        assert!(pulled.status == 200 && pulled.body == blob, "{}", pulled.status);
        // A push comes back when it is told to, as clients do.
        wait_for("a push", || match http::push_blob(&node.http, "app", b"pushed meanwhile") {
            201 => Some(()),
            429 => None,
            status => panic!("{status}"),
        });
    });
    let peak = memory(id, "VmHWM");
    let taken = peak.saturating_sub(before) >> 20;
    // At most 3 MiB for each of 64 answers, and 2 MiB for each of 64 uploads; the rest are heads.
    assert!(taken < 64 * 5 + 64, "{taken} MiB");
    // It is as it was before.
    assert_eq!(http::get(&format!("http://{}{path}", node.http)).body.len(), blob.len());
}
