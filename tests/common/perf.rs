//! Runs `perf record`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::programs;

pub fn chain() -> PathBuf {
    programs::c("chain.c", &["-O1", "-fno-omit-frame-pointer"])
}

/// What perf recorded of a program, with these options.
pub struct Recorded {
    pub folder: TempDir,
    pub file: PathBuf,
}

impl Recorded {
    pub fn new(options: &[&str], command: &[&str]) -> Recorded {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("perf.data");
        for _ in 0..100 {
            let mut perf = Command::new("perf");
            perf.args(["record", "-q", "-N", "-F", "999"]).args(options).arg("-o").arg(&file).arg("--").args(command);
            if is_sound(perf.stdin(Stdio::null()).stdout(Stdio::null()), &file) {
                return Recorded { folder, file };
            }
        }
        panic!("perf record {options:?} does not write what perf reads");
    }

    pub fn of_chain(options: &[&str]) -> Recorded {
        Recorded::new(options, &[chain().to_str().unwrap(), "0.3"])
    }

    pub fn with(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// Whether perf wrote a file that it can read: while another program records with build IDs, the kernel mixes those up with inodes, and
/// perf dies of it.
pub fn is_sound(perf: &mut Command, file: &Path) -> bool {
    let wrote = perf.stderr(Stdio::null()).status().unwrap().success();
    let mut read = Command::new("perf");
    read.args(["script", "-G", "-i"]).arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let sound = wrote && read.status().unwrap().success();
    if !sound {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    sound
}
