//! What every implementation of [`Digests`] must do.

use super::{OK, Store};
use crate::{BlobFile, Digest, Digests, Namespace, PublishMode, RootStore};

/// Digests under test, with what they are read from.
pub trait Answering {
    /// The store.
    type Store: Store;
    /// The store.
    fn store(&self) -> &Self::Store;
    /// What answers.
    fn digests(&self) -> &dyn Digests;
    /// Stores a blob, and commits a root of `local` that holds it and what was pushed before.
    fn push(&mut self, blob: &[u8]) -> (Digest, BlobFile);
}

/// They say what peers may see, and nothing else.
pub fn digests(mut rig: impl Answering) {
    let local = Namespace::local();
    let ask = |rig: &dyn Digests, digest: &Digest| rig.files(digest).expect(OK);
    let (one, first) = rig.push(b"one");
    assert_eq!(ask(rig.digests(), &one), [], "it is private");
    rig.store().publish(&local, PublishMode::Continuous).expect(OK);
    let (two, second) = rig.push(&vec![2; 3 << 20]);
    assert_eq!(second.size, 3 << 20);
    assert_eq!(ask(rig.digests(), &one), [first]);
    assert_eq!(ask(rig.digests(), &two), [second]);
    for unknown in [Digest::sha256(&[9; 32]), Digest::sha512(&[9; 64])] {
        assert_eq!(ask(rig.digests(), &unknown), []);
    }
    rig.store().forget(&[second.cid]).expect(OK);
    assert_eq!(ask(rig.digests(), &two), [], "it was deleted");
    assert_eq!(ask(rig.digests(), &one), [first]);
    rig.store().unpublish(&local).expect(OK);
    assert_eq!(ask(rig.digests(), &one), []);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Blockstore, Cid, Origin,
        memory::{MemoryDigests, MemoryStore},
        suite::{node, raw},
    };

    struct Told {
        store: MemoryStore,
        digests: MemoryDigests,
        files: Vec<Cid>,
    }

    impl Answering for Told {
        type Store = MemoryStore;

        fn store(&self) -> &MemoryStore {
            &self.store
        }

        fn digests(&self) -> &dyn Digests {
            &self.digests
        }

        fn push(&mut self, blob: &[u8]) -> (Digest, BlobFile) {
            // Whatever stands for the file: nothing here reads it.
            let file = raw(&format!("file {} of {} bytes", self.files.len(), blob.len()));
            self.files.push(*file.cid());
            let root = node(&self.files);
            for block in [&file, &root] {
                self.store.put(block, Origin::Pushed).expect(OK);
            }
            let current = self.store.state(&Namespace::local()).expect(OK).root.map(|entry| entry.cid);
            self.store.commit(&Namespace::local(), current, *root.cid(), &[]).expect(OK);
            let digest = Digest::from_multihash(file.cid().hash()).expect("sha2-256");
            let file = BlobFile { cid: *file.cid(), size: blob.len() as u64 };
            self.digests.add(&digest, file);
            (digest, file)
        }
    }

    #[test]
    fn memory_answers() {
        let store = MemoryStore::new();
        digests(Told { digests: MemoryDigests::new(store.clone()), store, files: Vec::new() });
    }
}
