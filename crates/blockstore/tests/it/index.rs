//! A real index that is damaged in many small ways.

use cidery_blockstore::{DiskStore, Options};
use cidery_core::{Block, Blockstore, Origin};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{fs, path::Path};

fn blocks() -> Vec<Block> {
    (0..3000_u32).map(|n| Block::raw(format!("block {n}").repeat(5).into_bytes())).collect()
}

fn make(dir: &Path, blocks: &[Block]) {
    let store = DiskStore::open(dir, Options::default()).unwrap();
    for (n, block) in blocks.iter().enumerate() {
        store.put(block, Origin::Pushed).unwrap();
        // Several generations of pages, as in a store that has lived.
        if n == 1000 {
            store.close().unwrap();
            drop(store);
            return make(dir, &blocks[1001..]);
        }
    }
    store.close().unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn damage_anywhere_in_the_index_costs_nothing_but_time() {
    let made = tempfile::tempdir().unwrap();
    let blocks = blocks();
    make(made.path(), &blocks);
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..crate::rounds(24) {
        let dir = tempfile::tempdir().unwrap();
        copy(made.path(), dir.path());
        let file = dir.path().join("index").join(if round % 8 == 7 { "conf" } else { "db" });
        let mut bytes = fs::read(&file).unwrap();
        match round % 4 {
            // One bit; one page; the end cut off; a page of zeros.
            0 => {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
            1 => {
                let at = random.random_range(0..bytes.len().saturating_sub(4096).max(1));
                let end = (at + 4096).min(bytes.len());
                random.fill(&mut bytes[at..end]);
            }
            2 => bytes.truncate(random.random_range(0..bytes.len())),
            _ => {
                let at = random.random_range(0..bytes.len());
                let end = (at + 4096).min(bytes.len());
                bytes[at..end].fill(0);
            }
        }
        fs::write(&file, bytes).unwrap();
        let store = DiskStore::open(dir.path(), Options::default()).unwrap();
        for block in &blocks {
            assert_eq!(store.get(block.cid()).unwrap().as_ref(), Some(block.data()), "round {round}");
        }
        assert_eq!(store.stats().blocks, blocks.len() as u64);
    }
}
