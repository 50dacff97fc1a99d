//! Tests that need a network of their own: the test starts itself again in a network namespace.

use crate::common::*;
use cidery_node::Config;
use std::{future::Future, os::unix::fs::MetadataExt, process::Command};

const INSIDE: &str = "CIDERY_TEST_NAMESPACE";

/// A network with three private addresses of this machine, beside loopback. The other end of the cable is
/// only there so that the link is up.
pub const PRIVATE: &str = "ip link add lan0 type veth peer name far0 && ip link set far0 up && \
    ip addr add 10.77.0.1/24 dev lan0 && ip addr add 10.77.0.2/24 dev lan0 && ip addr add 10.77.0.3/24 dev lan0 && \
    ip link set lan0 up && ip route add default dev lan0";

/// Runs `body` in a fresh network namespace that `setup` (a shell command) has prepared. `test` is the
/// path of the calling test.
pub fn in_namespace(test: &str, setup: &str, body: impl Future<Output = ()>) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(body);
    }
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let flags = if root { "--net" } else { "--net --map-root-user" };
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(flags.split(' ')).args(["sh", "-c", script]);
        command
    };
    let ready = unshare(setup).output();
    match ready {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            return missing(&format!("{test}: no network namespace: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Err(error) => return missing(&format!("{test}: no network namespace: {error}")),
    }
    let output = unshare(&format!("{setup} && exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "in the namespace:\n{text}");
    if let Some(skipped) = text.lines().find(|line| line.starts_with("SKIPPED")) {
        eprintln!("{skipped}");
    }
}

/// A node as `serve` would start it, on one address.
pub fn at(ip: &str, port: u16) -> Config {
    let listen = vec![format!("/ip4/{ip}/tcp/{port}"), format!("/ip4/{ip}/udp/{port}/quic-v1")];
    Config { listen, ..quiet() }
}

#[test]
fn without_any_network_two_nodes_work_on_loopback() {
    let setup = "ip link set lo up";
    in_namespace("namespace::without_any_network_two_nodes_work_on_loopback", setup, async {
        // Everything on, as by default: bootstrap peers, mDNS, the system's DNS.
        let everything = |port| {
            let plain = at("0.0.0.0", port);
            Config { bootstrap: cidery_node::Bootstrap::Default, mdns: true, dns: None, ..plain }
        };
        let a = start(everything(4001)).await;
        let addresses = a.node.addresses().await;
        assert!(addresses.iter().any(|address| address.starts_with("/ip4/127.0.0.1/tcp/4001/")), "{addresses:?}");
        let tree = a.publish(30).await;
        let mut config = everything(4002);
        config.peers = vec![addresses[0].clone()];
        let b = start(config).await;
        tree.fetch(&*b.session(tree.root, &[])).await;
    });
}

#[test]
fn a_node_starts_where_even_loopback_is_down() {
    in_namespace("namespace::a_node_starts_where_even_loopback_is_down", "true", async {
        let mut config = at("0.0.0.0", 4001);
        config.mdns = true;
        let a = start(config).await;
        assert!(a.node.addresses().await.is_empty());
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        eventually("the interface is noticed", || async { !a.node.addresses().await.is_empty() }).await;
    });
}

#[test]
fn nodes_on_one_network_find_each_other() {
    let setup = format!("ip link set lo up && {PRIVATE}");
    in_namespace("namespace::nodes_on_one_network_find_each_other", &setup, async {
        let with_mdns = |ip, port| Config { mdns: true, ..at(ip, port) };
        let a = start(with_mdns("10.77.0.1", 4001)).await;
        let tree = a.publish(31).await;
        let b = start(with_mdns("10.77.0.2", 4002)).await;
        eventually("they meet", || async { b.node.peers().await == 1 && a.node.peers().await == 1 }).await;
        tree.fetch(&*b.session(tree.root, &[])).await;
        // A node that wants no part in it stays alone.
        let c = start(at("10.77.0.3", 4003)).await;
        assert_eq!(c.node.peers().await, 0);
    });
}
