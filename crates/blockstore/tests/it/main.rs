//! The store on a real disk, through its public interface.
#![allow(missing_docs, clippy::unwrap_used)]

mod full;
mod index;
mod kill;
mod opening;
mod suite;
mod throng;

/// How often a random test is repeated: `CIDERY_TEST_ROUNDS` for a long run by hand.
fn rounds(usual: usize) -> usize {
    std::env::var("CIDERY_TEST_ROUNDS").map_or(usual, |rounds| rounds.parse().unwrap())
}
