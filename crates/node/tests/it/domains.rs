//! Names, answered by a real DNS server (dnsmasq) on loopback.

use crate::common::*;
use cidery_core::{ForeignName, Network, Scope, SessionSpec};
use std::{
    net::{SocketAddr, UdpSocket},
    process::{Child, Command, Stdio},
};

struct Dnsmasq {
    address: SocketAddr,
    child: Child,
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Dnsmasq {
    async fn start(test: &str, records: &[String]) -> Option<Self> {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("dnsmasq")
            .args(["--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--bind-interfaces"])
            .args(["--listen-address=127.0.0.1", "--user=", "--pid-file=", "--local=/test/"])
            .arg(format!("--port={}", address.port()))
            .args(records)
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            missing(&format!("{test}: dnsmasq is not installed"));
            return None;
        };
        let server = Self { address, child };
        eventually("dnsmasq listens", || async { tokio::net::TcpStream::connect(address).await.is_ok() }).await;
        Some(server)
    }
}

#[tokio::test]
async fn a_domain_with_its_hints_is_all_one_needs() {
    let a = start(quiet()).await;
    let tree = a.publish(50).await;
    let at = a.address().await;
    let (host, rest) = at.split_once("/tcp/").unwrap();
    assert_eq!(host, "/ip4/127.0.0.1");
    let records = [
        format!("--txt-record=_dnslink.plain.test,dnslink=/ipfs/{}", tree.root),
        format!("--txt-record=plain.test,ipfsnode={at}"),
        format!("--txt-record=_dnslink.named.test,dnslink=/ipfs/{}", tree.root),
        format!("--txt-record=named.test,ipfsnode=/dns4/host.test/tcp/{rest}"),
        "--host-record=host.test,127.0.0.1".into(),
        format!("--txt-record=_dnslink.listed.test,dnslink=/ipfs/{}", tree.root),
        format!("--txt-record=listed.test,ipfsnode=/dnsaddr/list.test/p2p/{}", a.node.peer_id()),
        format!("--txt-record=_dnsaddr.list.test,dnsaddr={at}"),
    ];
    let Some(dns) = Dnsmasq::start("domains::a_domain_with_its_hints_is_all_one_needs", &records).await else { return };
    for domain in ["plain.test", "named.test", "listed.test"] {
        let mut config = quiet();
        config.dns = Some(dns.address);
        let b = start(config).await;
        let resolved = within(b.node.resolve(&ForeignName::parse(domain).unwrap())).await.unwrap();
        assert_eq!((resolved.root, resolved.hints.len()), (tree.root, 1), "{domain}");
        let spec = SessionSpec { root: resolved.root, hints: resolved.hints, scope: Scope::Public };
        tree.fetch(&*b.node.session(spec)).await;
        b.node.shutdown().await;
    }
}

#[tokio::test]
async fn a_name_does_not_lead_where_an_address_would_not() {
    let a = start(quiet()).await;
    let tree = a.publish(51).await;
    let (_, rest) = a.address().await.split_once("/tcp/").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let records = ["--host-record=host.test,127.0.0.1".to_owned()];
    let test = "domains::a_name_does_not_lead_where_an_address_would_not";
    let Some(dns) = Dnsmasq::start(test, &records).await else { return };
    let mut config = quiet();
    config.dns = Some(dns.address);
    // It does not listen on loopback, so strangers cannot send it there, by a name either.
    config.listen.clear();
    let b = start(config).await;
    let session = b.session(tree.root, &[format!("/dns4/host.test/tcp/{rest}")]);
    assert!(within(session.fetch(&tree.root)).await.is_err());
    assert_eq!(a.node.peers().await, 0);
    // Its owner may, by the same name.
    within(b.node.connect(&format!("/dns4/host.test/tcp/{rest}"))).await.unwrap();
}
