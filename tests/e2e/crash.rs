//! kill -9 while clients push: what was acknowledged is there afterwards, whole.

use cidery_tests::{
    Node,
    docker::noise,
    http::{self, digest},
    process::wait_for,
};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

#[test]
fn nothing_acknowledged_is_lost() {
    const ROUNDS: usize = 12;
    let mut node = Node::start(&[]);
    let acknowledged = Mutex::new(Vec::<(String, usize)>::new());
    for round in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        let host = node.http.clone();
        thread::scope(|scope| {
            for client in 0..4 {
                let (stop, host, acknowledged) = (&stop, &host, &acknowledged);
                scope.spawn(move || {
                    for n in 0.. {
                        if stop.load(Relaxed) {
                            return;
                        }
                        let seed = format!("{round}/{client}/{n}");
                        let size = if n % 3 == 0 { 2_500_000 } else { 1_000 };
                        if http::push_blob(host, "app", &noise(&seed, 0, size)) == 201 {
                            acknowledged.lock().unwrap().push((seed, size));
                        }
                    }
                });
            }
            // Once a few are acknowledged, at a moment that differs from round to round.
            let before = acknowledged.lock().unwrap().len();
            wait_for("acknowledged pushes", || (acknowledged.lock().unwrap().len() > before + 3).then_some(()));
            thread::sleep(Duration::from_millis(37 * (round as u64 % 7)));
            node.daemon().kill();
            stop.store(true, Relaxed);
        });
        node.restart();
    }
    let acknowledged = acknowledged.into_inner().unwrap();
    for (seed, size) in &acknowledged {
        let bytes = noise(seed, 0, *size);
        let answer = http::get(&format!("http://{}/v2/app/blobs/{}", node.http, digest(&bytes)));
        assert_eq!(answer.status, 200, "blob {seed} was acknowledged and is gone");
        assert!(answer.body == bytes, "blob {seed} came back different");
    }
}

/// The same for whole images: every acknowledged manifest is there by its tag, and the last root holds them all.
#[test]
fn acknowledged_images_survive() {
    let mut node = Node::start(&[]);
    let mut expected = Vec::new();
    for round in 0..6 {
        let stop = AtomicBool::new(false);
        let host = node.http.clone();
        let pushed = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for client in 0..4 {
                let (stop, host, pushed) = (&stop, &host, &pushed);
                scope.spawn(move || {
                    for n in 0.. {
                        let tag = format!("r{round}-c{client}-n{n}");
                        match http::try_push_image(host, "app", &tag, &[tag.clone().into_bytes()]) {
                            Some(digest) => pushed.lock().unwrap().push((tag, digest)),
                            None if stop.load(Relaxed) => return,
                            None => {}
                        }
                    }
                });
            }
            wait_for("pushed images", || (pushed.lock().unwrap().len() > 5).then_some(()));
            thread::sleep(Duration::from_millis(29 * round));
            node.daemon().kill();
            stop.store(true, Relaxed);
        });
        expected.extend(pushed.into_inner().unwrap());
        node.restart();
    }
    for (tag, digest) in &expected {
        let answer = http::get(&format!("http://{}/v2/app/manifests/{tag}", node.http));
        assert_eq!((answer.status, http::digest(&answer.body)), (200, digest.clone()), "{tag}");
    }
    assert!(node.json(&["images"]).as_array().unwrap().len() >= expected.len());
}
