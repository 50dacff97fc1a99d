//! Read buffers that are used again: a fresh megabyte for every leaf would cost more in page faults
//! than the read itself.

use bytes::Bytes;
use parking_lot::Mutex;
use std::{ops::Range, sync::Arc};

/// Below this, allocating is cheap enough.
const POOLED: usize = 64 << 10;
/// Room for a 1 MiB leaf with its header; and for the largest block there is.
const SIZES: [usize; 2] = [(1 << 20) + 4096, (2 << 20) + 4096];
/// How many of each size are kept while nobody uses them.
const KEEP: [usize; 2] = [16, 4];

/// A pool of buffers; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Arc<[Mutex<Vec<Vec<u8>>>; 2]>);

impl Buffers {
    /// A buffer of at least `len` bytes with arbitrary contents.
    pub(crate) fn take(&self, len: usize) -> Buffer {
        let class = SIZES.iter().position(|size| (POOLED..=*size).contains(&len));
        let bytes = match class {
            Some(class) => self.0[class].lock().pop().unwrap_or_else(|| vec![0; SIZES[class]]),
            None => vec![0; len],
        };
        Buffer { bytes, home: class.map(|class| (self.clone(), class)) }
    }
}

/// A buffer that goes back to its pool when the last view of it is gone.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Option<(Buffers, usize)>,
}

impl Buffer {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// A view of a part, which keeps the whole buffer until it is dropped.
    pub(crate) fn freeze(mut self, part: Range<usize>) -> Bytes {
        match self.home {
            Some(_) => Bytes::from_owner(self).slice(part),
            None => Bytes::from(std::mem::take(&mut self.bytes)).slice(part),
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some((pool, class)) = self.home.take() {
            let mut kept = pool.0[class].lock();
            if kept.len() < KEEP[class] {
                kept.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_only_after_its_last_view() {
        let pool = Buffers::default();
        let mut buffer = pool.take(1 << 20);
        buffer.as_mut()[..3].copy_from_slice(b"abc");
        let view = buffer.freeze(1..3);
        let other = view.clone();
        drop(view);
        assert!(pool.0[0].lock().is_empty());
        assert_eq!(&other[..], b"bc");
        drop(other);
        assert_eq!(pool.0[0].lock().len(), 1);
        drop(pool.take(1 << 20));
        assert_eq!(pool.0[0].lock().len(), 1);
        // Small ones are not kept.
        drop(pool.take(100).freeze(0..100));
        assert_eq!(pool.0[0].lock().len(), 1);
    }
}
