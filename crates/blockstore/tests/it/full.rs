//! A real file system that is full.

use cidery_blockstore::{DiskStore, Options};
use cidery_core::{Block, Blockstore, Origin, RootStore, StoreError, UploadRecord};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A mounted tmpfs of a few megabytes.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            other => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "a tmpfs can't be mounted: {other:?}");
                eprintln!("SKIPPED: a tmpfs can't be mounted here, so the full disk is not tried: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn upload(n: u32) -> UploadRecord {
    UploadRecord { id: format!("u{n}"), pins: Vec::new(), state: Vec::new() }
}

#[test]
fn a_full_file_system_loses_nothing_acknowledged() {
    let Some(small) = Small::mount(24) else { return };
    let ballast: PathBuf = small.path().join("ballast");
    fs::write(&ballast, vec![0; 8 << 20]).unwrap();
    let data = small.path().join("data");
    let store = DiskStore::open(&data, Options::default()).unwrap();
    let leaf = |n: u32| {
        let mut bytes = vec![7; 256 << 10];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        Block::raw(bytes)
    };
    let mut durable = 0;
    let full = (1..).find_map(|n| {
        let written = store.put(&leaf(n), Origin::Pushed).and_then(|()| store.save_upload(&upload(n)));
        if written.is_ok() {
            durable = n;
        }
        written.err()
    });
    assert!(matches!(full, Some(StoreError::Full { .. })), "{full:?}");
    assert!(durable >= 20, "{durable}");
    let check = |store: &DiskStore, upto: u32| {
        for n in 1..=upto {
            assert_eq!(store.get(leaf(n).cid()).unwrap().as_ref(), Some(leaf(n).data()));
        }
        assert!(store.uploads().unwrap().len() >= upto as usize);
    };
    check(&store, durable);
    // Nothing at all fits any more, and reads go on.
    let refused = store.put(&leaf(9999), Origin::Pushed);
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    check(&store, durable);
    fs::remove_file(&ballast).unwrap();
    for n in durable + 1..durable + 10 {
        store.put(&leaf(n), Origin::Pushed).unwrap();
        store.save_upload(&upload(n)).unwrap();
    }
    check(&store, durable + 9);
    drop(store);
    let store = DiskStore::open(&data, Options::default()).unwrap();
    check(&store, durable + 9);
}
