//! Random choices that can be made again.

use rand::SeedableRng;
pub use rand::{
    Rng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use std::env;

/// A number from the environment, or the usual one.
pub fn number(variable: &str, usual: u64) -> u64 {
    let set = env::var(variable).ok();
    set.map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// What a random test starts from: `CIDERY_TEST_SEED`, or always the same. Says which.
pub fn seed() -> u64 {
    let seed = number("CIDERY_TEST_SEED", 1);
    println!("CIDERY_TEST_SEED={seed} makes the same choices again");
    seed
}

/// The choices of one among several who choose side by side.
pub fn choices(seed: u64, who: u64) -> StdRng {
    // Two numbers that mix well make one: neighbours must not choose alike.
    StdRng::seed_from_u64(seed ^ who.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
