//! How the C library hands out memory, and gives it back.

// Two calls into libc.
#![allow(unsafe_code)]

use crate::ops::process::resident;
use std::{
    io, thread,
    time::{Duration, Instant},
};

/// How often it is looked.
const ROUND: Duration = Duration::from_secs(2);
/// By so many bytes memory may grow before it is tidied again; or by a part of what it was.
const GROWTH: u64 = 16 << 20;
const PART: u64 = 10;
/// However little it grew it is tidied in so much time, where there is more of it than this.
const PAUSE: Duration = Duration::from_secs(60);
const LITTLE: u64 = 64 << 20;

/// Two heaps for all threads. glibc makes up to eight for every core, and each keeps what its threads
/// freed: blocking threads come and go, and buffers of a megabyte with them, so that a node that had
/// taken a few thousand blobs held four times what it used. What is small comes from the thread's own
/// cache, so threads rarely wait for one another.
pub fn set_up() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers; refused, it changes nothing, and memory is all it would cost.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Gives memory that was freed back to the system again and again, on a thread of its own, for as long as the
/// process runs.
///
/// The library does so by itself only at the end of a heap. The index reads nodes into memory and drops them all the
/// time; what it keeps among them leaves holes, which came to half of all memory in a store of a million blobs.
///
/// # Errors
/// When there can't be another thread.
pub fn keep_tidy() -> io::Result<()> {
    let keeper = move || {
        let (mut enough, mut tidied) = (0, Instant::now());
        while let Some(before) = resident() {
            if before > enough || (before > LITTLE && tidied.elapsed() > PAUSE) {
                let started = Instant::now();
                tidy();
                let now = resident().unwrap_or(before);
                tracing::debug!(before, now, took = ?started.elapsed(), "memory was given back");
                enough = now + (now / PART).max(GROWTH);
                tidied = Instant::now();
            }
            thread::sleep(ROUND);
        }
    };
    thread::Builder::new().name("memory".into()).spawn(keeper).map(drop)
}

fn tidy() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes how much to leave at the end of the heap, and locks what it works on.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn holes_are_given_back() {
        let mut all: Vec<Vec<u8>> = (0..200_000).map(|_| vec![1; 1000]).collect();
        let full = resident().expect("the system tells");
        let mut kept = 0;
        // One in twenty stays, so that no heap has a free end.
        all.retain(|_| {
            kept += 1;
            kept % 20 == 0
        });
        tidy();
        let now = resident().expect("the system tells");
        assert!(now + (100 << 20) < full, "{now} of {full} bytes");
        assert_eq!(all.len(), 10_000);
    }
}
