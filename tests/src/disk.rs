//! A small disk of one's own: an ext4 in a file, mounted through a loop device.

use crate::process::{component, root, run, text};
use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Bytes that files below a directory take; those that go meanwhile take none.
pub fn on_disk(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => on_disk(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// Mounted until it is dropped.
pub struct Disk {
    directory: TempDir,
    /// Whether the image lies on a file system of its own, which may be too small for it.
    thin: bool,
}

impl Disk {
    /// One of so many MiB; `None` where none can be made.
    pub fn new(size: u64) -> Option<Self> {
        Self::make(size, None)
    }

    /// One that says it has so many MiB, while below it there is room for `room` only: what is
    /// written beyond it fails with an I/O error, late, as on a thinly provisioned volume.
    pub fn thin(size: u64, room: u64) -> Option<Self> {
        Self::make(size, Some(room))
    }

    fn make(size: u64, room: Option<u64>) -> Option<Self> {
        component("mount", "mount")?;
        let (format, _) = (component("mkfs.ext4", "e2fsprogs")?, component("e2fsck", "e2fsprogs")?);
        if !root() {
            return None;
        }
        let directory = TempDir::with_prefix("cidery-disk-").unwrap();
        let disk = Self { directory, thin: room.is_some() };
        fs::create_dir(disk.path()).unwrap();
        fs::create_dir(disk.below()).unwrap();
        if let Some(room) = room {
            disk.mount_below(&format!("size={room}m"));
        }
        File::create(disk.image()).unwrap().set_len(size << 20).unwrap();
        run(Command::new(format).args(["-q", "-F", "-m", "0"]).arg(disk.image()));
        disk.mount("rw");
        Some(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    fn below(&self) -> PathBuf {
        self.directory.path().join("below")
    }

    fn image(&self) -> PathBuf {
        self.below().join("image")
    }

    /// Mounts it, with options for `mount`.
    pub fn mount(&self, options: &str) {
        let options = format!("loop,{options}");
        run(Command::new("mount").args(["-t", "ext4", "-o", &options]).arg(self.image()).arg(self.path()));
    }

    /// Lets a thin disk have so many MiB.
    pub fn make_room(&self, room: u64) {
        self.mount_below(&format!("remount,size={room}m"));
    }

    fn mount_below(&self, options: &str) {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(self.below()));
    }

    /// Unmounts it: what is read later comes from the disk again.
    pub fn unmount(&self) {
        run(Command::new("umount").arg(self.path()));
    }

    /// Makes it as if the kernel had found an error: it is read-only from now on, also for files
    /// that are open for writing. Lasts until it is unmounted.
    pub fn abort(&self) {
        run(Command::new("mount").args(["-o", "remount,abort"]).arg(self.path()));
    }

    /// Unmounts it, has its journal played and its structures checked, and mounts it again.
    pub fn repair(&self) {
        self.unmount();
        let mut check = Command::new(component("e2fsck", "e2fsprogs").expect("it was there"));
        // It fails if anything but the usual was to be done; 1 and 2 say that something was.
        let status = check.args(["-f", "-y", text(&self.image())]).output().unwrap().status;
        assert!(status.code().is_some_and(|code| code <= 2), "e2fsck: {status}");
        self.mount("rw");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmount = |path: &Path| {
            let _ = Command::new("umount").args(["--lazy"]).arg(path).output();
        };
        unmount(&self.path());
        if self.thin {
            unmount(&self.below());
        }
    }
}
