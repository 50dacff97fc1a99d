use super::{
    responder::{Reply, Responder, txt},
    *,
};
use hickory_resolver::proto::op::ResponseCode;

const STRANGER: &str = "QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ";

#[tokio::test]
async fn only_a_dnsaddr_is_expanded() {
    let server = Responder::new([]).await;
    let naming = naming(server.address);
    for address in [hint(1), "nonsense".into()] {
        assert_eq!(naming.dnsaddr(&address).await, [address]);
    }
    assert_eq!(server.all_queries(), 0);
    assert!(naming.dnsaddr("/dnsaddr/nowhere.com").await.is_empty());
}

#[tokio::test]
async fn nested_ones_are_followed_and_other_peers_left_out() {
    let server = Responder::new([
        (
            "_dnsaddr.boot.com",
            txt([
                format!("dnsaddr=/dnsaddr/one.boot.com/p2p/{PEER}"),
                format!("dnsaddr=/dnsaddr/two.boot.com/p2p/{STRANGER}"),
                "dnsaddr=nonsense".into(),
                "v=spf1 -all".into(),
            ]),
        ),
        (
            "_dnsaddr.one.boot.com",
            txt([
                format!("dnsaddr={}", hint(1)),
                format!("dnsaddr={}", hint(2)),
                format!("dnsaddr=/ip4/6.6.6.6/tcp/6/p2p/{STRANGER}"),
                "dnsaddr=/ip4/6.6.6.6/tcp/6".into(),
            ]),
        ),
        ("_dnsaddr.two.boot.com", txt([format!("dnsaddr=/ip4/5.5.5.5/tcp/5/p2p/{STRANGER}")])),
    ])
    .await;
    let naming = naming(server.address);
    let address = format!("/dnsaddr/Boot.com/p2p/{PEER}");
    assert_eq!(naming.dnsaddr(&address).await, [hint(1), hint(2)]);
    assert_eq!(naming.dnsaddr(&address).await, [hint(1), hint(2)]);
    // Kept, and the stranger's host was never asked for.
    assert_eq!((server.queries("_dnsaddr.boot.com"), server.queries("_dnsaddr.two.boot.com")), (1, 0));
    assert_eq!(naming.dnsaddr("/dnsaddr/boot.com").await.len(), 3);
}

#[tokio::test]
async fn circles_depth_and_floods_are_bounded() {
    let flood: Vec<String> = (1..=300).map(|port| format!("dnsaddr={}", hint(port))).collect();
    let server = Responder::new([
        ("_dnsaddr.circle.com", txt(["dnsaddr=/dnsaddr/circle.com".to_owned(), format!("dnsaddr={}", hint(1))])),
        ("_dnsaddr.flood.com", Reply::OverTcp(Box::new(txt(flood)))),
        ("_dnsaddr.fork.com", Reply::OverTcp(Box::new(txt((0..200).map(|n| format!("dnsaddr=/dnsaddr/f{n}.com")))))),
    ])
    .await;
    for depth in 0..10 {
        let next = format!("dnsaddr=/dnsaddr/deep{}.com", depth + 1);
        let here = format!("dnsaddr={}", hint(depth + 1));
        server.set(&format!("_dnsaddr.deep{depth}.com"), txt([next, here]));
    }
    let naming = naming(server.address);
    assert_eq!(naming.dnsaddr("/dnsaddr/circle.com").await, [hint(1)]);
    assert_eq!(server.queries("_dnsaddr.circle.com"), 1);
    assert_eq!(naming.dnsaddr("/dnsaddr/flood.com").await.len(), 100);
    assert_eq!(naming.dnsaddr("/dnsaddr/deep0.com").await, (1..=4).map(hint).collect::<Vec<_>>());
    let before = server.all_queries();
    assert!(naming.dnsaddr("/dnsaddr/fork.com").await.is_empty());
    // The first one was asked for twice: over UDP, and over TCP.
    assert!(server.all_queries() - before <= 33, "{}", server.all_queries() - before);
}

#[tokio::test]
async fn what_can_be_had_is_enough() {
    let server = Responder::new([
        ("_dnsaddr.a.com", txt([format!("dnsaddr=/dnsaddr/dead.com/p2p/{PEER}"), format!("dnsaddr={}", hint(1))])),
        ("_dnsaddr.dead.com", Reply::Code(ResponseCode::ServFail)),
    ])
    .await;
    assert_eq!(naming(server.address).dnsaddr(&format!("/dnsaddr/a.com/p2p/{PEER}")).await, [hint(1)]);
}
