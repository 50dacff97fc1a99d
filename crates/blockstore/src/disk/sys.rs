//! The system calls that the standard library does not have.

// The only unsafe code of the crate: calls into libc with descriptors and buffers that outlive the call.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    fs::File,
    io::{self, IoSlice},
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::Path,
};

/// `pwritev(2)`: how many bytes were written.
pub(super) fn pwritev(file: &File, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    // SAFETY: IoSlice has the layout of iovec (documented), the slices live for the whole call, and
    // callers pass two or three of them, far below IOV_MAX.
    let written = unsafe { libc::pwritev(file.as_raw_fd(), parts.as_ptr().cast(), parts.len() as libc::c_int, offset) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Starts writing dirty pages of a range back, without waiting. Failures show at the next flush.
pub(super) fn start_writeback(file: &File, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) else { return };
    // SAFETY: no memory is passed.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Drops the clean pages of a file from the page cache.
pub(super) fn forget_read(file: &File) {
    // SAFETY: no memory is passed. A length of 0 is the whole file.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// Frees the whole pages of a range and zeroes the rest of it. A file system that has no holes keeps it all.
pub(super) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
    let (offset, len) = (offset.try_into().map_err(too_large)?, len.try_into().map_err(too_large)?);
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: no memory is passed.
    if unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EOPNOTSUPP) { Ok(()) } else { Err(error) }
}

/// Makes the calling thread give way to others.
pub(crate) fn give_way() {
    // SAFETY: no memory is passed. On Linux the niceness of 0 is the calling thread's own; where it can't be
    // changed the thread only is less polite.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
}

/// Takes an exclusive lock on a file, or says that somebody else has it. It ends with the file.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: no memory is passed.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(false) } else { Err(error) }
}

/// Gives a lock up, also where a process that is being started still shares the file.
pub(crate) fn unlock(file: &File) {
    // SAFETY: no memory is passed.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
}

/// The room of the file system that `path` is on, in bytes.
pub(super) struct Room {
    pub(super) total: u64,
    /// What an ordinary user can still write.
    pub(super) free: u64,
}

/// Asks the file system that `path` is on.
pub(super) fn room(path: &Path) -> io::Result<Room> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: an all-zero statvfs is valid, and the path ends with a zero byte.
    let (result, stat) = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut stat), stat)
    };
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    if result == 0 {
        Ok(Room { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
    } else {
        Err(io::Error::last_os_error())
    }
}
