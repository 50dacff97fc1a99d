//! Bytes that are made fast, of which no part is like another, and that anybody can check who knows
//! what they were made from.

use crate::docker::noise;
use std::ops::Range;

/// How often they say which part they are.
const PART: usize = 4 << 10;

/// So many bytes that stand for a seed.
pub struct Content {
    part: Vec<u8>,
    /// How many.
    pub size: usize,
}

impl Content {
    /// The same for the same arguments.
    pub fn new(seed: &str, size: usize) -> Self {
        Self { part: noise(seed, 0, PART), size }
    }

    /// All of them.
    pub fn bytes(&self) -> Vec<u8> {
        self.range(0..self.size)
    }

    /// Some of them.
    pub fn range(&self, range: Range<usize>) -> Vec<u8> {
        let first = range.start / PART;
        let mut bytes = self.part.repeat(range.end.div_ceil(PART) - first);
        for (n, part) in bytes.chunks_mut(PART).enumerate() {
            let number = ((first + n) as u64).to_le_bytes();
            part.iter_mut().zip(number).for_each(|(byte, number)| *byte ^= number);
        }
        bytes.truncate(range.end - first * PART);
        bytes.split_off(range.start - first * PART)
    }
}

#[test]
fn a_range_is_a_part_of_all() {
    let content = Content::new("content", 3 * PART + 5);
    let all = content.bytes();
    assert_eq!(all.len(), content.size);
    for range in [0..0, 0..1, 5..PART, PART - 1..PART + 9, PART..content.size, content.size..content.size] {
        assert_eq!(content.range(range.clone()), all[range]);
    }
    assert_ne!(all[..PART], all[PART..2 * PART]);
}
