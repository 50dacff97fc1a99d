//! Honest answers that come after those that are of no use, and the end of a search.

use super::{
    liars::{distrusted, lie, offer},
    *,
};
use crate::network::Fault;
use tokio::time::Instant;

/// The origin takes so long to answer.
fn ponders(pair: &Pair, time: Duration) {
    pair.network.pondering.lock().insert("origin".into(), time);
}

fn fails(pair: &Pair, file: &BlobFile, fault: Fault) {
    pair.network.faults.lock().insert(file.cid, fault);
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_that_comes_after_one_that_is_of_no_use() {
    for (n, fault) in [Fault::Missing, Fault::Stalled, Fault::Never].into_iter().enumerate() {
        let data = noise(40 + n as u64, 3 * MIB);
        let pair = sparse(true, &[&data]).await;
        let file = offer(&pair, &noise(50 + n as u64, 3 * MIB));
        fails(&pair, &file, fault);
        lie(&pair, "useless", &sha256(&data), &[file]);
        ponders(&pair, Duration::from_secs(3));
        let begun = Instant::now();
        let got = pair.node.get(at(&data)).await;
        assert!(got.status == StatusCode::OK && got.body == data, "{n}: {}", got.status);
        assert!(begun.elapsed() < Duration::from_secs(6), "{n}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn also_after_one_that_is_false_and_one_that_does_not_go_on() {
    let data = noise(43, 3 * MIB);
    let pair = sparse(true, &[&data]).await;
    let wrong = offer(&pair, &noise(44, 3 * MIB));
    lie(&pair, "liar", &sha256(&data), &[wrong]);
    let stuck = noise(45, 3 * MIB);
    let file = offer(&pair, &stuck);
    let leaf = *cidery_core::Block::raw(Bytes::copy_from_slice(&stuck[MIB..2 * MIB])).cid();
    pair.network.faults.lock().insert(leaf, Fault::Never);
    lie(&pair, "stuck", &sha256(&data), &[file]);
    ponders(&pair, Duration::from_secs(2));
    let begun = Instant::now();
    assert!(pair.node.get(at(&data)).await.body == data);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(distrusted(&pair), ["liar"]);
}

#[tokio::test]
async fn claims_are_counted() {
    let data = noise(72, 3 * MIB);
    let pair = sparse(true, &[&data]).await;
    let (wrong, gone) = (offer(&pair, &noise(73, 3 * MIB)), offer(&pair, &noise(74, 3 * MIB)));
    fails(&pair, &gone, Fault::Missing);
    lie(&pair, "useless", &sha256(&data), &[gone]);
    lie(&pair, "liar", &sha256(&data), &[wrong]);
    assert!(pair.node.get(at(&data)).await.body == data);
    let samples = crate::metrics::parse(pair.node.get("/metrics").await.text());
    let claims = samples.iter().filter(|sample| sample.name == "cidery_digest_claims_total");
    let claims: Vec<_> = claims.map(|sample| (sample.labels["verdict"].as_str(), sample.value)).collect();
    assert_eq!(claims, [("good", 1.0), ("bad", 1.0), ("unavailable", 1.0)]);
}

/// A file that one peer named and could not give may be had from another that names it.
#[tokio::test(start_paused = true)]
async fn the_right_file_is_tried_again_when_another_names_it() {
    let data = noise(46, 3 * MIB);
    let pair = sparse(true, &[&data]).await;
    let right = pair.origin.registry.digests(Arc::new(pair.origin.store.clone())).files(&sha256(&data)).unwrap()[0];
    fails(&pair, &right, Fault::Missing);
    lie(&pair, "hearsay", &sha256(&data), &[right]);
    ponders(&pair, Duration::from_secs(2));
    let network = pair.network.clone();
    let mend = async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        network.faults.lock().clear();
    };
    let ((), got) = tokio::join!(mend, pair.node.get(at(&data)));
    assert!(got.body == data);
}

#[tokio::test(start_paused = true)]
async fn who_named_what_was_not_to_be_had_is_tried_last() {
    let (first, second) = (noise(47, 3 * MIB), noise(48, 3 * MIB));
    let pair = sparse(true, &[&first, &second]).await;
    let file = offer(&pair, &noise(49, 3 * MIB));
    fails(&pair, &file, Fault::Missing);
    lie(&pair, "useless", &sha256(&first), &[file]);
    assert!(pair.node.get(at(&first)).await.body == first);
    // Now it names files that begin to come, and more of them than anybody.
    pair.network.answering.lock().remove(0);
    let stuck: Vec<_> = (0..4).map(|n| noise(60 + n, 3 * MIB)).collect();
    let files: Vec<_> = stuck.iter().map(|data| offer(&pair, data)).collect();
    for data in &stuck {
        let leaf = *cidery_core::Block::raw(Bytes::copy_from_slice(&data[MIB..2 * MIB])).cid();
        pair.network.faults.lock().insert(leaf, Fault::Never);
    }
    lie(&pair, "useless", &sha256(&second), &files);
    let begun = Instant::now();
    assert!(pair.node.get(at(&second)).await.body == second);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_search_has_an_end_and_says_so() {
    let data = noise(70, 3 * MIB);
    let config = Config { search_timeout: Duration::from_secs(7), ..Config::default() };
    let pair = Pair::with(config, true, &[b"x"]).await;
    name(&pair.node, &[&data]).await;
    let never = offer(&pair, &noise(71, 3 * MIB));
    fails(&pair, &never, Fault::Never);
    lie(&pair, "useless", &sha256(&data), &[never]);
    let begun = Instant::now();
    let answer = pair.node.get(at(&data)).await;
    answer.is_error(504, "UNAVAILABLE");
    assert!(answer.text().contains("did not come in time") || answer.text().contains("in time"), "{}", answer.text());
    let took = begun.elapsed();
    assert!((Duration::from_secs(7)..Duration::from_secs(9)).contains(&took), "{took:?}");
    assert_eq!(pair.network.waiting(), 0, "nobody waits for it any more");
    // Where nobody names anything it is simply not there.
    pair.network.answering.lock().clear();
    pair.node.get(at(&data)).await.is_error(404, "BLOB_UNKNOWN");
    // Many who begin and never end have together no more time than one.
    let stuck: Vec<_> = (0..12).map(|n| noise(80 + n, 3 * MIB)).collect();
    for (n, data_of) in stuck.iter().enumerate() {
        let file = offer(&pair, data_of);
        let leaf = *cidery_core::Block::raw(Bytes::copy_from_slice(&data_of[MIB..2 * MIB])).cid();
        pair.network.faults.lock().insert(leaf, Fault::Never);
        lie(&pair, &format!("stuck {n}"), &sha256(&data), &[file]);
    }
    let begun = Instant::now();
    pair.node.get(at(&data)).await.is_error(504, "UNAVAILABLE");
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
}
