//! A real Kubo as the third party in the local DHT, in a network namespace with private addresses
//! (its local DHT drops loopback ones).

use crate::{
    common::*,
    namespace::{PRIVATE, at, in_namespace},
};
use cidery_core::Cid;
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

struct Kubo {
    binary: PathBuf,
    repo: tempfile::TempDir,
    daemon: Child,
}

impl Drop for Kubo {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn ipfs(binary: &Path, repo: &Path, args: &[&str]) -> String {
    let output = Command::new(binary).args(args).env("IPFS_PATH", repo).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "ipfs {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Kubo {
    async fn start(binary: PathBuf, ip: &str) -> Self {
        let repo = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| ipfs(&binary, repo.path(), args);
        run(&["init", "--profile=test"]);
        for (key, value) in [
            ("Addresses.Swarm", format!("[\"/ip4/{ip}/tcp/4001\"]")),
            ("Addresses.API", "\"/ip4/127.0.0.1/tcp/5001\"".into()),
            ("Addresses.Gateway", "\"/ip4/127.0.0.1/tcp/0\"".into()),
            ("Routing.Type", "\"dht\"".into()),
            ("AutoConf.Enabled", "false".into()),
            ("AutoTLS.Enabled", "false".into()),
            ("Bootstrap", "[]".into()),
            ("DNS.Resolvers", "{}".into()),
            ("Ipns.DelegatedPublishers", "[]".into()),
            ("Routing.DelegatedRouters", "[]".into()),
            ("Swarm.DisableNatPortMap", "true".into()),
            ("Swarm.RelayClient.Enabled", "false".into()),
        ] {
            run(&["config", "--json", key, &value]);
        }
        let log = std::fs::File::create(repo.path().join("log")).unwrap();
        let daemon = Command::new(&binary)
            .arg("daemon")
            .env("IPFS_PATH", repo.path())
            .env("IPFS_TELEMETRY", "off")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let kubo = Self { binary, repo, daemon };
        eventually("kubo is ready", || async {
            std::fs::read_to_string(kubo.repo.path().join("log")).unwrap().contains("Daemon is ready")
        })
        .await;
        kubo
    }

    fn run(&self, args: &[&str]) -> String {
        ipfs(&self.binary, self.repo.path(), args)
    }
}

#[test]
fn records_travel_through_a_real_kubo() {
    let Some(binary) = std::env::var_os("CIDERY_TEST_KUBO").map(PathBuf::from) else {
        return missing("kubo::records_travel_through_a_real_kubo: CIDERY_TEST_KUBO names no kubo");
    };
    let setup = format!("ip link set lo up && {PRIVATE}");
    in_namespace("kubo::records_travel_through_a_real_kubo", &setup, async {
        let kubo = Kubo::start(binary, "10.77.0.1").await;
        let id = kubo.run(&["id", "-f", "<id>"]);
        let address = format!("/ip4/10.77.0.1/tcp/4001/p2p/{id}");
        // One port each: a dial comes from the port that is listened on, and on one machine from whichever
        // address, so that with equal ports it would meet itself.
        let knows_kubo = |ip, port| {
            let mut config = at(ip, port);
            config.peers = vec![address.clone()];
            config
        };
        let a = start(knows_kubo("10.77.0.2", 4002)).await;
        let tree = a.publish(40).await;
        // Kubo takes our record.
        let root = tree.root.to_string();
        eventually("kubo knows who has it", || async {
            kubo.run(&["routing", "findprovs", "-n", "1", &root]).contains(&a.node.peer_id())
        })
        .await;
        // Another node of ours finds it through Kubo, which does not have the blocks.
        let c = start(knows_kubo("10.77.0.3", 4003)).await;
        eventually("c knows kubo", || async { c.node.peers().await == 1 }).await;
        tree.fetch(&*c.session(tree.root, &[])).await;
        // We take Kubo's record.
        let file = kubo.repo.path().join("file");
        std::fs::write(&file, "from kubo").unwrap();
        let added = kubo.run(&["add", "-Q", "--cid-version=1", file.to_str().unwrap()]);
        let cid: Cid = added.parse().unwrap();
        kubo.run(&["routing", "provide", &added]);
        let ours = a.address().await;
        let kubo_id: libp2p::PeerId = id.parse().unwrap();
        eventually("we know that kubo has it", || async { providers(&ours, &cid).await.contains(&kubo_id) }).await;
        let bytes = within(c.session(cid, &[]).fetch(&cid)).await.unwrap();
        assert_eq!(&bytes[..], b"from kubo");
        // And Kubo fetches from us, found by our record.
        let leaf = tree.blocks[0].cid().to_string();
        let out = Command::new(&kubo.binary)
            .args(["block", "get", &leaf])
            .env("IPFS_PATH", kubo.repo.path())
            .output()
            .unwrap();
        assert_eq!(out.stdout, tree.blocks[0].data()[..]);
    });
}
