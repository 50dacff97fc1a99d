//! Real file systems that are full, fail, or may not be written to: clear errors, reads that go on,
//! and everything that was acknowledged afterwards.

use cidery_tests::{
    Node,
    disk::Disk,
    docker::noise,
    http::{self, Answer, digest},
    process::refusal,
};
use std::fs;

/// What was acknowledged by one node, to be looked for later.
#[derive(Default)]
struct Acknowledged {
    blobs: Vec<Vec<u8>>,
    images: Vec<(String, String)>,
}

impl Acknowledged {
    /// Pushes an image with a layer of so many bytes, and so on until something is refused. The refusal.
    fn push(&mut self, node: &Node, size: usize) -> Result<(), Answer> {
        let n = self.blobs.len();
        let layer = noise("disk", n, size);
        let answered = |answer: Answer| if answer.status == 201 { Ok(()) } else { Err(answer) };
        let upload = http::open_upload(&node.http, "app")?;
        answered(http::close_upload(&upload, &digest(&layer), &layer))?;
        let named = (digest(&layer), layer.len());
        self.blobs.push(layer);
        let manifest = http::manifest((&named.0, named.1), std::slice::from_ref(&named));
        answered(http::push_manifest(&node.http, "app", &format!("v{n}"), &manifest))?;
        self.images.push((format!("v{n}"), digest(&manifest)));
        Ok(())
    }

    /// Pushes until something is refused: with a status of its own and a code, not with a broken connection.
    fn push_until_refused(&mut self, node: &Node, size: usize) -> Answer {
        let refused = (0..2_000).find_map(|_| self.push(node, size).err()).expect("at last it is refused");
        assert!(refused.status >= 500 && !refused.code().is_empty(), "{refused:?}");
        refused
    }

    /// All of it is there.
    fn check(&self, node: &Node) {
        for (n, blob) in self.blobs.iter().enumerate() {
            let answer = http::get(&format!("http://{}/v2/app/blobs/{}", node.http, digest(blob)));
            assert_eq!(answer.status, 200, "blob {n}: {}", String::from_utf8_lossy(&answer.body));
            assert!(answer.body == *blob, "blob {n} came back different");
        }
        for (tag, wanted) in &self.images {
            let answer = http::get(&format!("http://{}/v2/app/manifests/{tag}", node.http));
            assert_eq!((answer.status, &digest(&answer.body)), (200, wanted), "{tag}");
        }
    }
}

/// A disk that fills up in the middle of a push.
#[test]
fn a_full_disk() {
    let Some(disk) = Disk::new(64) else { return };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 12 << 20]).unwrap();
    let data = disk.path().join("data");
    let mut node = Node::start_on(&data, &[]);
    let mut held = Acknowledged::default();
    for size in [0, 1_000, 200_000, 2_500_000] {
        held.push(&node, size).unwrap();
    }
    let upload = http::open_upload(&node.http, "app").unwrap();
    let refused = http::patch(&upload, &noise("full", 1, 80 << 20));
    // A client still sending may see the connection end before it reads the answer (status 0).
    assert!([0, 507].contains(&refused.status), "{refused:?}");
    let closed = http::close_upload(&upload, &digest(b"x"), &[]);
    assert!(closed.status >= 400 && !closed.code().is_empty(), "{closed:?}");
    held.check(&node);
    node.daemon().kill();
    node.restart();
    held.check(&node);
    // Down to the last bytes: then nothing at all fits any more.
    for size in [100_000, 1_000] {
        let refused = held.push_until_refused(&node, size);
        assert_eq!((refused.status, refused.code().as_str()), (507, "UNAVAILABLE"), "{refused:?}");
        assert!(refused.json()["errors"][0]["message"].as_str().unwrap().contains("no space left"), "{refused:?}");
    }
    held.check(&node);
    // Room is all that it takes.
    fs::remove_file(&ballast).unwrap();
    for size in [1_000, 2_500_000] {
        held.push(&node, size).unwrap();
    }
    held.check(&node);
    node.daemon().kill();
    disk.repair();
    node.restart();
    held.check(&node);
}

/// A file system that the kernel makes read-only while the node runs.
#[test]
fn a_disk_that_becomes_read_only() {
    let Some(disk) = Disk::new(64) else { return };
    let data = disk.path().join("data");
    let mut node = Node::start_on(&data, &[]);
    let mut held = Acknowledged::default();
    for size in [0, 1_000, 2_500_000] {
        held.push(&node, size).unwrap();
    }
    disk.abort();
    for size in [1_000, 2_500_000] {
        let refused = held.push_until_refused(&node, size);
        assert_eq!((refused.status, refused.code().as_str()), (500, "UNKNOWN"), "{refused:?}");
    }
    let delete = http::delete(&format!("http://{}/v2/app/manifests/v0", node.http));
    assert_eq!(delete.status, 500, "{delete:?}");
    held.check(&node);
    assert_eq!(node.json(&["images"]).as_array().unwrap().len(), held.images.len());
    node.daemon().kill();
    // Nor does it start there.
    let said = refusal(&mut Node::serve(&data, &[] as &[&str]));
    assert!(said.contains("Read-only file system"), "{said}");
    disk.unmount();
    disk.mount("rw");
    disk.unmount();
    disk.mount("ro");
    let said = refusal(&mut Node::serve(&data, &[] as &[&str]));
    assert!(said.contains("Read-only file system"), "{said}");
    disk.unmount();
    disk.mount("rw");
    node.restart();
    held.check(&node);
    held.push(&node, 1_000).unwrap();
}

/// Writes that fail with an I/O error after the system had taken them: what was not flushed is not
/// acknowledged, and what was acknowledged before is on the disk.
#[test]
fn a_disk_with_write_errors() {
    let Some(disk) = Disk::thin(256, 48) else { return };
    let data = disk.path().join("data");
    let mut node = Node::start_on(&data, &[]);
    let mut held = Acknowledged::default();
    for size in [0, 1_000, 2_500_000] {
        held.push(&node, size).unwrap();
    }
    let refused = held.push_until_refused(&node, 1_500_000);
    assert_ne!(refused.status, 507, "the file system itself has room: {refused:?}");
    held.check(&node);
    // Whatever it does when there is room again: what it acknowledges holds. That takes a start.
    disk.make_room(200);
    for _ in 0..3 {
        let _ = held.push(&node, 1_000);
    }
    held.check(&node);
    node.daemon().kill();
    disk.repair();
    node.restart();
    held.check(&node);
    held.push(&node, 1_500_000).unwrap();
}
