//! A real Kubo, in both directions, on loopback only. `CIDERY_TEST_KUBO` names its binary.

use crate::harness::*;
use cidery_core::{Block, Cid, Scope};
use futures::future::join_all;
use std::{
    ffi::OsString,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command as Daemon},
    time::timeout,
};

/// The binary; without one the test is skipped, except in CI.
fn binary() -> Option<OsString> {
    let binary = std::env::var_os("CIDERY_TEST_KUBO");
    if binary.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs CIDERY_TEST_KUBO, the path of an ipfs binary");
        // Past the capture of the test harness, so that everybody sees it.
        let note = b"\n*** SKIPPED: no Kubo. Set CIDERY_TEST_KUBO to the path of an ipfs binary. ***\n\n";
        std::io::stderr().write_all(note).unwrap();
    }
    binary
}

struct Kubo {
    binary: OsString,
    home: TempDir,
    address: libp2p::Multiaddr,
    id: String,
    _daemon: Child,
}

impl Kubo {
    async fn start() -> Option<Self> {
        let binary = binary()?;
        let home = tempfile::tempdir().unwrap();
        run(&binary, home.path(), &["init", "--profile=test"], None);
        for (key, value) in [
            ("Bootstrap", "[]"),
            ("Routing.Type", "\"none\""),
            ("AutoConf.Enabled", "false"),
            ("AutoTLS.Enabled", "false"),
            ("Discovery.MDNS.Enabled", "false"),
            ("Swarm.DisableNatPortMap", "true"),
            ("Swarm.RelayClient.Enabled", "false"),
            ("Addresses.Swarm", "[\"/ip4/127.0.0.1/tcp/0\"]"),
            ("Addresses.API", "\"/ip4/127.0.0.1/tcp/0\""),
            ("Addresses.Gateway", "\"/ip4/127.0.0.1/tcp/0\""),
            ("Provide.Enabled", "false"),
            ("DNS.Resolvers", "{}"),
            ("Routing.DelegatedRouters", "[]"),
            ("Ipns.DelegatedPublishers", "[]"),
        ] {
            run(&binary, home.path(), &["config", "--json", key, value], None);
        }
        let mut daemon = Daemon::new(&binary)
            .arg("daemon")
            .env("IPFS_PATH", home.path())
            .env("LIBP2P_FORCE_PNET", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains("Daemon is ready") {
                    return;
                }
            }
            panic!("the daemon ended");
        };
        timeout(LIMIT, ready).await.expect("started in time");
        // It goes on writing.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (id, address) = identity(&run(&binary, home.path(), &["id"], None));
        Some(Self { binary, home, address: address.parse().unwrap(), id, _daemon: daemon })
    }

    /// Runs a command against the daemon, off the async threads.
    async fn ipfs(&self, args: &[&str], input: Option<Vec<u8>>) -> Vec<u8> {
        let (binary, home) = (self.binary.clone(), self.home.path().to_owned());
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let done = tokio::task::spawn_blocking(move || {
            run(&binary, &home, &args.iter().map(String::as_str).collect::<Vec<_>>(), input)
        });
        timeout(2 * LIMIT, done).await.expect("done in time").unwrap()
    }

    async fn connect(&self, node: &Node) {
        node.dial(&self.address).await;
        loop {
            let peers = String::from_utf8(self.ipfs(&["swarm", "peers"], None).await).unwrap();
            if peers.contains(&node.id.to_string()) {
                return;
            }
        }
    }
}

/// The peer id and the TCP address in the output of `ipfs id`, without a JSON parser.
fn identity(output: &[u8]) -> (String, String) {
    let text = String::from_utf8(output.to_vec()).unwrap();
    let quoted: Vec<&str> = text.split('"').collect();
    let at = quoted.iter().position(|part| *part == "ID").unwrap();
    let address = quoted.iter().find(|part| part.starts_with("/ip4/127.0.0.1/tcp/")).unwrap();
    (quoted[at + 2].to_owned(), (*address).to_owned())
}

fn run(binary: &OsString, home: &Path, args: &[&str], input: Option<Vec<u8>>) -> Vec<u8> {
    let mut child = Command::new(binary)
        .args(args)
        .env("IPFS_PATH", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input.unwrap_or_default()));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "ipfs {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    writer.join().unwrap().unwrap();
    output.stdout
}

/// One Kubo makes a file, we fetch its blocks from there, and another Kubo fetches them from us.
async fn through_us(data: Vec<u8>, chunker: &str) {
    let Some(source) = Kubo::start().await else { return };
    let out = source.ipfs(&["add", "-Q", "--pin=false", "--raw-leaves", chunker], Some(data.clone())).await;
    let root = String::from_utf8(out).unwrap().trim().to_owned();
    let refs = String::from_utf8(source.ipfs(&["refs", "-r", "-u", &root], None).await).unwrap();
    let cids: Vec<Cid> = refs.lines().chain([root.as_str()]).map(|line| line.parse().unwrap()).collect();
    let node = Node::new().await;
    source.connect(&node).await;
    let session = node.bitswap.session(root.parse().unwrap(), Scope::Owner);
    // All at once.
    for (cid, data) in cids.iter().zip(join_all(cids.iter().map(|cid| fetch(&session, cid))).await) {
        Block::new(*cid, data.unwrap()).unwrap();
    }
    let stats = node.bitswap.stats();
    let count = cids.len() as u64;
    assert_eq!((stats.blocks_received, stats.rejected_blocks), (count, 0));
    assert!(stats.duplicate_blocks * 20 <= count, "{stats:?}");
    assert!(stats.peers.iter().any(|peer| peer.peer.to_string() == source.id && peer.blocks_received == count));
    drop(source);
    let Some(sink) = Kubo::start().await else { return };
    sink.connect(&node).await;
    assert_eq!(sink.ipfs(&["cat", &root], None).await, data);
    let sent = node.bitswap.stats().blocks_sent;
    assert!(sent >= count && sent * 20 <= count * 21, "{sent} sent for {count} blocks");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_blocks() {
    through_us(blocks(50, 1, 32 << 20)[0].data().to_vec(), "--chunker=size-1048576").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_blocks() {
    through_us(blocks(51, 1, 5_000 * 300)[0].data().to_vec(), "--chunker=size-300").await;
}
