//! A small disk.

use std::path::Path;
use std::process::Command;

/// A small file system of its own; unmounted when it is dropped.
pub struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    /// Mounts one; `256k` is a size.
    pub fn new(size: &str) -> Tmpfs {
        let folder = tempfile::tempdir().expect("make a folder");
        let options = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).status();
        assert!(mount.expect("run mount").success(), "mounting a tmpfs takes root");
        Tmpfs(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}
