//! How the C library hands out memory.

// One call into libc, before there is a second thread.
#![allow(unsafe_code)]

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
