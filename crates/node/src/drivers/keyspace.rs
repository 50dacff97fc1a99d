//! The circle of hashes on which keys and peers lie: a place is near another if they share their leading bits.

use libp2p::{
    PeerId,
    kad::{KBucketKey, RecordKey},
};

/// Kademlia's k: peers that hold a record.
pub(super) const REPLICAS: usize = 20;

/// A place on the circle.
pub(crate) type Point = [u8; 32];

/// Where a key lies.
pub(crate) fn place(key: &RecordKey) -> Point {
    let mut point = [0; 32];
    point.copy_from_slice(KBucketKey::from(key.clone()).hashed_bytes());
    point
}

pub(super) fn place_of(peer: &PeerId) -> Point {
    let mut point = [0; 32];
    point.copy_from_slice(KBucketKey::from(*peer).hashed_bytes());
    point
}

pub(super) fn distance(a: &Point, b: &Point) -> Point {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// Leading bits that two places share.
pub(super) fn shared_bits(a: &Point, b: &Point) -> u32 {
    let mut bits = 0;
    for byte in distance(a, b) {
        bits += byte.leading_zeros();
        if byte != 0 {
            break;
        }
    }
    bits
}

/// The first and last place that share `bits` leading bits with `at`.
pub(super) fn range(at: &Point, bits: u32) -> (Point, Point) {
    let mask = |i: usize| {
        let here = bits.saturating_sub(i as u32 * 8).min(8);
        // 8 set bits for a whole byte, none past the prefix.
        !(0xffu16 >> here) as u8
    };
    (std::array::from_fn(|i| at[i] & mask(i)), std::array::from_fn(|i| at[i] | !mask(i)))
}

/// The peers nearest to a key, by their number.
pub(super) fn nearest(key: &Point, places: &[(Point, usize)]) -> impl Iterator<Item = usize> {
    let mut order: Vec<_> = places.iter().map(|(place, i)| (distance(key, place), *i)).collect();
    order.sort_unstable();
    order.into_iter().take(REPLICAS).map(|(_, i)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(first: u8, second: u8) -> Point {
        let mut point = [0; 32];
        (point[0], point[1]) = (first, second);
        point
    }

    #[test]
    fn prefixes() {
        assert_eq!(shared_bits(&point(0, 0), &point(0, 0)), 256);
        assert_eq!(shared_bits(&point(0b1010_0000, 0), &point(0b1010_1000, 0)), 4);
        assert_eq!(shared_bits(&point(7, 0b1000_0000), &point(7, 0)), 8);
        for bits in 0..=256 {
            let at = place(&RecordKey::new(&[bits as u8]));
            let (first, last) = range(&at, bits);
            assert!(first <= at && at <= last);
            assert_eq!(shared_bits(&first, &last), bits);
            assert!(shared_bits(&first, &at) >= bits && shared_bits(&last, &at) >= bits);
        }
    }

    #[test]
    fn the_nearest_peers_are_nearest_by_xor() {
        let places: Vec<(Point, usize)> = (0..100u8).map(|n| (point(n, 0), n as usize)).collect();
        let found: Vec<usize> = nearest(&point(37, 1), &places).collect();
        assert_eq!((found[0], found[1], found.len()), (37, 36, REPLICAS));
    }

    #[test]
    fn a_place_is_the_hash_of_the_key() {
        // Kademlia's keyspace is sha2-256 of what names the key (kad-dht spec, "Keyspace").
        let key = RecordKey::new(b"abc");
        assert_eq!(&place(&key)[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
