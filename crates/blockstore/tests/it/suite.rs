//! The behaviour suite, with a real reopen, and with the index lost in all sorts of ways before it.

use cidery_blockstore::{DiskStore, Options};
use cidery_core::suite;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{cell::RefCell, fs, path::Path};
use tempfile::TempDir;

/// Runs the suite; `meddle` gets at the closed directory before every reopening.
fn run(meddle: impl Fn(&Path)) {
    let current: RefCell<Option<TempDir>> = RefCell::default();
    suite::store(
        || {
            let dir = tempfile::tempdir().unwrap();
            let store = DiskStore::open(dir.path(), Options::default()).unwrap();
            assert_eq!(store.damage(), [""; 0]);
            // The directory of the suite's previous part goes, with its store.
            *current.borrow_mut() = Some(dir);
            store
        },
        |store| {
            drop(store);
            let dir = current.borrow();
            let path = dir.as_ref().unwrap().path();
            meddle(path);
            DiskStore::open(path, Options::default()).unwrap()
        },
    );
}

fn files_of_index(path: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![path.join("index")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() { open.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files
}

#[test]
fn passes() {
    run(|_| {});
}

#[test]
fn passes_with_the_index_deleted() {
    run(|path| fs::remove_dir_all(path.join("index")).unwrap());
}

#[test]
fn passes_with_the_index_truncated() {
    run(|path| {
        for file in files_of_index(path) {
            let len = fs::metadata(&file).unwrap().len();
            fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(len / 2).unwrap();
        }
    });
}

#[test]
fn passes_with_the_index_emptied() {
    run(|path| files_of_index(path).iter().for_each(|file| fs::write(file, b"").unwrap()));
}

#[test]
fn passes_with_the_index_overwritten_with_garbage() {
    let random = RefCell::new(StdRng::seed_from_u64(1));
    run(|path| {
        for file in files_of_index(path) {
            let mut bytes = vec![0; fs::metadata(&file).unwrap().len() as usize];
            random.borrow_mut().fill(&mut bytes[..]);
            fs::write(&file, bytes).unwrap();
        }
    });
}

#[test]
fn passes_with_a_file_in_place_of_the_index() {
    run(|path| {
        fs::remove_dir_all(path.join("index")).unwrap();
        fs::write(path.join("index"), b"not a directory").unwrap();
    });
}
