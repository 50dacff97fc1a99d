//! What stands in the way of opening, and what a closed store does.

use cidery_blockstore::{DiskStore, OpenError, Options, Progress, Stage};
use cidery_core::{Block, Blockstore, Origin, RootStore, StoreError};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
};

#[test]
fn a_directory_in_use_names_its_user() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path(), Options::default()).unwrap();
    let Err(error) = DiskStore::open(dir.path(), Options::default()) else { panic!("opened twice") };
    let OpenError::Locked { pid, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, Some(std::process::id()));
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())) && text.contains("stop it first"), "{text}");
    // A writer keeps it open, too.
    let writer = store.writer(Origin::Pushed).unwrap();
    drop(store);
    assert!(matches!(DiskStore::open(dir.path(), Options::default()), Err(OpenError::Locked { .. })));
    drop(writer);
    DiskStore::open(dir.path(), Options::default()).unwrap();
}

#[test]
fn a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(DiskStore::open(dir.path(), Options::default()).unwrap());
    let format = dir.path().join("format");
    let text = fs::read_to_string(&format).unwrap();
    assert!(text.starts_with("cidery-store 1 "), "{text}");
    fs::write(&format, text.replace(" 1 ", " 2 ")).unwrap();
    let Err(error) = DiskStore::open(dir.path(), Options::default()) else { panic!("opened") };
    assert!(matches!(error, OpenError::Newer { found: 2, supported: 1, .. }));
    assert!(error.to_string().contains("use a newer version"), "{error}");
}

#[test]
fn a_file_is_no_data_directory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let Err(error) = DiskStore::open(file.path(), Options::default()) else { panic!("opened") };
    assert!(matches!(error, OpenError::Store(StoreError::Io { .. })), "{error}");
}

#[test]
fn a_closed_store_still_reads() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path(), Options::default()).unwrap();
    let (a, b) = (Block::raw(&b"a"[..]), Block::raw(&b"b"[..]));
    store.put(&a, Origin::Pushed).unwrap();
    store.close().unwrap();
    store.close().unwrap();
    assert_eq!(store.get(a.cid()).unwrap().as_ref(), Some(a.data()));
    assert!(matches!(store.put(&b, Origin::Pushed), Err(StoreError::Poisoned(_))));
    assert!(matches!(store.sync(), Err(StoreError::Poisoned(_))));
    assert!(matches!(store.drop_upload("x"), Err(StoreError::Poisoned(_))));
    assert!(store.writer(Origin::Pushed).is_err());
    drop(store);
    let store = DiskStore::open(dir.path(), Options::default()).unwrap();
    assert_eq!(store.get(a.cid()).unwrap().as_ref(), Some(a.data()), "closing flushes");
    assert_eq!(store.damage(), [""; 0]);
}

#[test]
fn a_rebuild_tells_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path(), Options::default()).unwrap();
    for n in 0..40_u8 {
        store.put(&Block::raw(vec![n; 1 << 20]), Origin::Pushed).unwrap();
    }
    drop(store);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let heard: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let progress = {
        let heard = heard.clone();
        move |progress| heard.lock().unwrap().push(progress)
    };
    let options = Options { progress: Some(Arc::new(progress)), ..Options::default() };
    let store = DiskStore::open(dir.path(), options).unwrap();
    assert_eq!(store.stats().blocks, 40);
    let heard = heard.lock().unwrap();
    assert!(heard.len() >= 3 && heard.is_sorted_by_key(|progress| progress.done), "{heard:?}");
    let last = heard.last().unwrap();
    assert_eq!((last.stage, last.done), (Stage::RebuildIndex, last.total));
}

#[test]
fn what_is_stored_is_open_to_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path(), Options::default()).unwrap();
    store.put(&Block::raw(&b"private"[..]), Origin::Pushed).unwrap();
    store.close().unwrap();
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    for file in ["format", "journal", "packs/0000000000000001.pack"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    for directory in ["packs", "index"] {
        assert_eq!(mode(directory), 0o700, "{directory}");
    }
}
