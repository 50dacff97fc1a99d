use super::{
    super::{dnslink, txt::TxtClient},
    responder::{Reply, Responder, cname_record, txt, txt_record},
    *,
};
use hickory_resolver::proto::{
    op::ResponseCode,
    rr::{RData, rdata::TXT},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

fn to_root() -> String {
    format!("dnslink=/ipfs/{ROOT}")
}

/// Resolves without the cache; also gives the TTL.
async fn uncached(server: &Responder, name: &str) -> Result<(Resolved, Duration), ResolveError> {
    let client = TxtClient::new(&DnsConfig { server: Some(server.address) }).unwrap();
    dnslink::resolve(&client, name).await
}

#[tokio::test]
async fn cids_and_ipns_names_need_no_dns() {
    let server = Responder::new([]).await;
    let naming = naming(server.address);
    assert_eq!(naming.resolve(&ForeignName::Cid(root())).await.unwrap(), found(ROOT, &[], &[]));
    let key = ForeignName::parse("k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8").unwrap();
    let text = invalid(naming.resolve(&key).await);
    assert!(text.contains("k51qzi") && text.contains("IPNS") && text.contains("dnslink=/ipfs/"), "{text}");
    assert_eq!(server.all_queries(), 0);
}

#[tokio::test]
async fn the_prefixed_name_wins_and_both_names_give_hints() {
    let other = format!("dnslink=/ipfs/{OTHER_ROOT}");
    let server = Responder::new([
        ("_dnslink.example.com", txt([to_root(), format!("ipfsnode={}", hint(1)), "v=spf1 -all".into()])),
        ("example.com", txt([other, format!("ipfsnode=[\"{}\",\"{}\"]", hint(2), hint(1))])),
    ])
    .await;
    let resolved = naming(server.address).resolve(&domain("example.com")).await.unwrap();
    assert_eq!(resolved, found(ROOT, &[], &[hint(1), hint(2)]));
}

#[tokio::test]
async fn the_apex_serves_where_the_prefixed_name_has_nothing() {
    let nothing = [
        Reply::Code(ResponseCode::NXDomain),
        Reply::Code(ResponseCode::NoError),
        Reply::Code(ResponseCode::Refused),
        txt(["something else"]),
        txt(["dnslink=broken"]),
    ];
    for reply in nothing {
        let server = Responder::new([
            ("_dnslink.example.com", reply),
            ("example.com", txt([to_root(), format!("ipfsnode=[\"{}\"]", hint(1))])),
        ])
        .await;
        let resolved = naming(server.address).resolve(&domain("example.com")).await.unwrap();
        assert_eq!(resolved, found(ROOT, &[], &[hint(1)]));
    }
}

#[tokio::test]
async fn a_failing_prefixed_name_is_not_replaced_by_the_apex() {
    for (reply, said) in [
        (Reply::Code(ResponseCode::ServFail), "SERVFAIL"),
        // Not a DNS message, and a header that promises more than there is.
        (Reply::Bytes(vec![0xff; 7]), "can't be read"),
        (Reply::Bytes(vec![0x81, 0x80, 0, 1, 0xff, 0xff, 0, 0, 0, 0]), "can't be read"),
    ] {
        let server = Responder::new([("_dnslink.example.com", reply), ("example.com", txt([to_root()]))]).await;
        let text = unavailable(naming(server.address).resolve(&domain("example.com")).await);
        assert!(text.contains("_dnslink.example.com") && text.contains(said), "{text}");
    }
}

#[tokio::test]
async fn a_name_without_records_says_which_to_set() {
    let server = Responder::new([("example.com", txt(["v=spf1 -all"]))]).await;
    let naming = naming(server.address);
    let text = not_found(naming.resolve(&domain("example.com")).await);
    assert!(text.contains("_dnslink.example.com") && text.contains("dnslink=/ipfs/<root CID>"), "{text}");
    assert!(!text.contains("does not exist"), "{text}");
    let text = not_found(naming.resolve(&domain("nowhere.com")).await);
    assert!(text.contains("does not exist in DNS"), "{text}");
}

#[tokio::test]
async fn a_server_that_refuses_everything_is_named_as_the_cause() {
    let refused = Reply::Code(ResponseCode::Refused);
    let server = Responder::new([("_dnslink.example.com", refused.clone()), ("example.com", refused)]).await;
    let text = unavailable(naming(server.address).resolve(&domain("example.com")).await);
    assert!(text.contains("refuses"), "{text}");
}

#[tokio::test]
async fn a_silent_server_costs_bounded_time() {
    let server = Responder::new([("_dnslink.example.com", Reply::Silence), ("example.com", Reply::Silence)]).await;
    let started = Instant::now();
    let text = unavailable(naming(server.address).resolve(&domain("example.com")).await);
    assert!(text.contains("answered"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_lost_packet_fails_nothing() {
    let server = Responder::new([
        ("_dnslink.example.com", Reply::AfterLoss(2, Box::new(txt([to_root()])))),
        ("example.com", Reply::AfterLoss(1, Box::new(txt([format!("ipfsnode={}", hint(1))])))),
    ])
    .await;
    let resolved = naming(server.address).resolve(&domain("example.com")).await.unwrap();
    assert_eq!(resolved, found(ROOT, &[], &[hint(1)]));
}

#[tokio::test]
async fn a_silent_apex_neither_fails_nor_blocks_and_is_asked_again_soon() {
    let server = Responder::new([("_dnslink.example.com", txt([to_root()])), ("example.com", Reply::Silence)]).await;
    let started = Instant::now();
    let (resolved, ttl) = uncached(&server, "example.com").await.unwrap();
    assert_eq!(resolved, found(ROOT, &[], &[]));
    assert!(started.elapsed() < Duration::from_millis(2500), "{:?}", started.elapsed());
    assert!(ttl <= Duration::from_secs(10), "{ttl:?}");
}

#[tokio::test]
async fn several_links_are_an_error_that_says_so() {
    let both = [to_root(), format!("dnslink=/ipfs/{OTHER_ROOT}")];
    let server = Responder::new([("_dnslink.a.com", txt(both.clone())), ("b.com", txt(both))]).await;
    let naming = naming(server.address);
    for (name, owner) in [("a.com", "_dnslink.a.com has several"), ("b.com", "b.com has several")] {
        let text = invalid(naming.resolve(&domain(name)).await);
        assert!(text.contains(owner) && text.contains(ROOT) && text.contains(OTHER_ROOT), "{text}");
    }
}

#[tokio::test]
async fn an_unreadable_link_is_quoted() {
    let server = Responder::new([("_dnslink.a.com", txt(["dnslink=/ipfs/nonsense\u{7}"]))]).await;
    let text = invalid(naming(server.address).resolve(&domain("a.com")).await);
    assert!(text.contains("_dnslink.a.com") && text.contains("nonsense\\u{7}") && text.contains("not a CID"), "{text}");
}

#[tokio::test]
async fn links_are_followed_with_their_paths_and_the_least_ttl() {
    let server = Responder::new([
        ("_dnslink.a.com", Reply::Txt(vec!["dnslink=/ipns/b.com/x/y".into()], 300)),
        ("_dnslink.b.com", Reply::Txt(vec!["dnslink=/ipns/C.com/m/".into()], 40)),
        ("b.com", txt([format!("ipfsnode={}", hint(2))])),
        ("_dnslink.c.com", Reply::Txt(vec![format!("dnslink=/ipfs/{ROOT}/p%20q/r")], 200)),
        ("c.com", Reply::Txt(vec![format!("ipfsnode={}", hint(3))], 30)),
    ])
    .await;
    let (resolved, ttl) = uncached(&server, "a.com").await.unwrap();
    assert_eq!(resolved, found(ROOT, &["p%20q", "r", "m", "x", "y"], &[hint(2), hint(3)]));
    assert_eq!(ttl, Duration::from_secs(30));
}

#[tokio::test]
async fn a_link_to_a_key_says_what_to_do() {
    let server = Responder::new([("_dnslink.a.com", txt([format!("dnslink=/ipns/{PEER}")]))]).await;
    let text = invalid(naming(server.address).resolve(&domain("a.com")).await);
    assert!(text.contains("a.com") && text.contains(PEER) && text.contains("can't look up IPNS"), "{text}");
}

#[tokio::test]
async fn circles_end() {
    let server = Responder::new([
        ("_dnslink.self.com", txt(["dnslink=/ipns/self.com"])),
        ("_dnslink.a.com", txt(["dnslink=/ipns/b.com"])),
        ("_dnslink.b.com", txt(["dnslink=/ipns/a.com/x"])),
    ])
    .await;
    let naming = naming(server.address);
    for name in ["self.com", "a.com"] {
        let text = invalid(naming.resolve(&domain(name)).await);
        assert!(text.contains("circle"), "{text}");
    }
    assert!(server.all_queries() <= 6);
}

#[tokio::test]
async fn thirty_two_links_and_no_more() {
    let server = Responder::new([]).await;
    for number in 0..33 {
        let reply = txt([format!("dnslink=/ipns/d{}.com", number + 1)]);
        server.set(&format!("_dnslink.d{number}.com"), reply);
    }
    server.set("_dnslink.d33.com", txt([to_root()]));
    let naming = naming(server.address);
    assert_eq!(naming.resolve(&domain("d2.com")).await.unwrap(), found(ROOT, &[], &[]));
    let text = invalid(naming.resolve(&domain("d1.com")).await);
    assert!(text.contains("more than 32"), "{text}");
}

#[tokio::test]
async fn paths_cannot_grow_without_bound() {
    let long = "/x".repeat(100);
    let server = Responder::new([
        ("_dnslink.a.com", txt([format!("dnslink=/ipns/b.com{long}")])),
        ("_dnslink.b.com", txt([format!("dnslink=/ipfs/{ROOT}{long}")])),
    ])
    .await;
    let text = invalid(naming(server.address).resolve(&domain("a.com")).await);
    assert!(text.contains("128 parts"), "{text}");
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let many: Vec<String> = (1..=200).map(|port| format!("ipfsnode={}", hint(port))).collect();
    let big = txt(many.into_iter().chain([to_root()]));
    let server = Responder::new([("_dnslink.example.com", Reply::OverTcp(Box::new(big)))]).await;
    let resolved = naming(server.address).resolve(&domain("example.com")).await.unwrap();
    assert_eq!(resolved.root, root());
    assert_eq!(resolved.hints.len(), 16);
    assert_eq!(server.over_tcp(), 1);
}

#[tokio::test]
async fn aliases_are_followed_and_records_of_other_names_ignored() {
    let records = vec![
        cname_record("_dnslink.example.com", "links.host.com", 20),
        txt_record("links.host.com", &to_root(), 300),
        txt_record("_dnslink.victim.com", &format!("dnslink=/ipfs/{OTHER_ROOT}"), 300),
        txt_record("example.com", &format!("dnslink=/ipfs/{OTHER_ROOT}"), 300),
    ];
    let server = Responder::new([("_dnslink.example.com", Reply::Records(records))]).await;
    let (resolved, ttl) = uncached(&server, "example.com").await.unwrap();
    assert_eq!(resolved, found(ROOT, &[], &[]));
    assert_eq!(ttl, Duration::from_secs(20));
}

#[tokio::test]
async fn an_alias_that_leads_to_itself_ends() {
    let records =
        vec![cname_record("_dnslink.example.com", "b.com", 20), cname_record("b.com", "_dnslink.example.com", 20)];
    let server =
        Responder::new([("_dnslink.example.com", Reply::Records(records.clone())), ("b.com", Reply::Records(records))])
            .await;
    assert!(naming(server.address).resolve(&domain("example.com")).await.is_err());
    assert!(server.all_queries() < 50, "{}", server.all_queries());
}

#[tokio::test]
async fn many_callers_cost_one_look_up() {
    let go = Arc::new(Notify::new());
    let later = Reply::Later(go.clone(), Box::new(txt([to_root()])));
    let server = Responder::new([("_dnslink.example.com", later)]).await;
    let naming = Arc::new(naming(server.address));
    let mut callers: Vec<_> = (0..50)
        .map(|_| {
            let naming = naming.clone();
            tokio::spawn(async move { naming.resolve(&domain("example.com")).await })
        })
        .collect();
    // The first caller leaves while the server still thinks.
    while server.queries("_dnslink.example.com") == 0 {
        tokio::task::yield_now().await;
    }
    callers.remove(0).abort();
    go.notify_waiters();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), found(ROOT, &[], &[]));
    }
    assert_eq!(naming.resolve(&domain("example.com")).await.unwrap(), found(ROOT, &[], &[]));
    assert_eq!((server.queries("_dnslink.example.com"), server.queries("example.com")), (1, 1));
}

#[tokio::test]
async fn the_last_good_answer_outlives_the_server_and_a_new_one_replaces_it() {
    let own = "_dnslink.example.com";
    let server = Responder::new([(own, Reply::Txt(vec![to_root()], 0))]).await;
    let naming = naming(server.address);
    let name = domain("example.com");
    assert_eq!(naming.resolve(&name).await.unwrap(), found(ROOT, &[], &[]));
    let asked = server.queries(own);

    server.set(own, Reply::Code(ResponseCode::ServFail));
    // The shortest life is one second; from then on every answer is a stand-in.
    while server.queries(own) == asked {
        assert_eq!(naming.resolve(&name).await.unwrap(), found(ROOT, &[], &[]));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(naming.resolve(&name).await.unwrap(), found(ROOT, &[], &[]));

    server.set(own, txt([format!("dnslink=/ipfs/{OTHER_ROOT}")]));
    let deadline = Instant::now() + Duration::from_secs(10);
    while naming.resolve(&name).await.unwrap() != found(OTHER_ROOT, &[], &[]) {
        assert!(Instant::now() < deadline, "the new root was never taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_ignored() {
    let name = "_dnslink.example.com";
    let mut records = vec![txt_record(name, &to_root(), 300)];
    for bytes in [&b"dnslink=\xff\xfe"[..], b"", b"\0"] {
        let mut record = txt_record(name, "", 300);
        record.data = RData::TXT(TXT::from_bytes(vec![bytes]));
        records.push(record);
    }
    let server = Responder::new([(name, Reply::Records(records))]).await;
    let resolved = naming(server.address).resolve(&domain("example.com")).await.unwrap();
    assert_eq!(resolved, found(ROOT, &[], &[]));
}

#[tokio::test]
async fn a_domain_too_long_for_the_prefix_has_its_apex_only() {
    let name = [vec!["a".repeat(61); 4].join("."), "com".into()].join(".");
    assert_eq!(name.len(), 251);
    let server = Responder::new([(name.as_str(), txt([to_root()]))]).await;
    let naming = naming(server.address);
    assert_eq!(naming.resolve(&domain(&name)).await.unwrap(), found(ROOT, &[], &[]));
    let text = invalid(naming.resolve(&domain(&format!("{name}{name}"))).await);
    assert!(text.contains("DNS can't be asked"), "{text}");
}
