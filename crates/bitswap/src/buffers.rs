//! Memory for inbound frames, used again: fresh memory for every block costs its zeroing and a
//! page fault for each of its pages, a tenth of all work at full speed.

use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;

/// Smaller frames come from the allocator.
const WORTH: usize = 64 << 10;
/// Bytes kept for later.
const MOST: usize = 16 << 20;

/// Buffers that are free now.
#[derive(Default)]
pub(crate) struct Buffers(Mutex<Free>);

#[derive(Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    /// A buffer of this length, filled with zeros or with what was in it before.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let mut data = Vec::new();
        if len >= WORTH {
            let mut free = self.0.lock();
            // At most twice the size: a block must not keep much more than itself in memory.
            if let Some(at) = free.buffers.iter().rposition(|buffer| (len..=2 * len).contains(&buffer.len())) {
                data = free.buffers.swap_remove(at);
                free.bytes -= data.len();
            }
        }
        if data.is_empty() {
            // Fresh zeroed memory: what a peer only claims to send costs address space, not memory.
            data = vec![0; len];
        }
        Buffer { data, len, home: self.clone() }
    }

    /// Gives everything back to the allocator.
    pub(crate) fn clear(&self) {
        *self.0.lock() = Free::default();
    }
}

/// A buffer that goes back when the last `Bytes` made of it is dropped.
pub(crate) struct Buffer {
    data: Vec<u8>,
    len: usize,
    home: Arc<Buffers>,
}

impl Buffer {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.data[..self.len]
    }

    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.data[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        let mut free = self.home.0.lock();
        if data.len() >= WORTH && free.bytes + data.len() <= MOST {
            free.bytes += data.len();
            free.buffers.push(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_bytes_go() {
        let buffers = Arc::<Buffers>::default();
        let mut buffer = buffers.take(100_000);
        buffer.as_mut().fill(7);
        let bytes = buffer.freeze();
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert_eq!((buffers.0.lock().bytes, slice.as_ref()), (0, &[7; 10][..]));
        drop(slice);
        assert_eq!(buffers.0.lock().bytes, 100_000);
        assert_eq!(buffers.take(49_999).as_ref().len(), 49_999);
        assert_eq!(buffers.0.lock().bytes, 100_000, "too large for that one");
        let shorter = buffers.take(80_000);
        assert_eq!((buffers.0.lock().bytes, shorter.as_ref().len()), (0, 80_000));
        drop(shorter);
        buffers.clear();
        assert_eq!(buffers.0.lock().bytes, 0);
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let buffers = Arc::<Buffers>::default();
        let many: Vec<Buffer> = (0..30).map(|_| buffers.take(1 << 20)).collect();
        drop(many);
        assert_eq!(buffers.0.lock().bytes, MOST);
    }
}
