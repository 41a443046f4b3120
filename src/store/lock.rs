//! Who may write to a directory: one recorder and one snapshot at a time, kept apart by the names of their files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{Source, StoreError};

/// Bytes of a lock file that are shown.
const SHOWN: u64 = 200;

/// A `flock` on a file, given back when it is dropped or its process ends, however that happens.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of a writer, and says in it who that is.
    pub(super) fn of_writer(directory: &Path, source: Source) -> Result<Lock, StoreError> {
        let writer = source.name();
        let path = directory.join(format!("{writer}.lock"));
        let file = open(&path).map_err(StoreError::io("open", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                // What it says is for people: on a full disk the lock holds without it.
                let _ = file.set_len(0).and_then(|()| file.write_all(myself().as_bytes()));
                Ok(Lock { _file: file })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                Err(StoreError::Locked { writer, holder: holder(file), directory: directory.into() })
            }
            Err((_, error)) => Err(StoreError::io("lock", &path)(error.into())),
        }
    }

    /// Takes the lock of the indices, which every writer holds only while it changes one; waits for it.
    pub(super) fn of_index(directory: &Path) -> Result<Lock, StoreError> {
        let path = directory.join("index.lock");
        let file = open(&path).map_err(StoreError::io("open", &path))?;
        let locked = Flock::lock(file, FlockArg::LockExclusive);
        locked.map(|file| Lock { _file: file }).map_err(|(_, error)| StoreError::io("lock", &path)(error.into()))
    }
}

/// The recorder that writes to a directory now, as it says itself.
#[must_use]
pub fn recorder(directory: &Path) -> Option<String> {
    let file = File::open(directory.join(format!("{}.lock", Source::Recorder.name()))).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Err((file, Errno::EWOULDBLOCK)) => Some(holder(file)),
        _ => None,
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn myself() -> String {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    format!("PID {}: {}\n", std::process::id(), words.join(" "))
}

fn holder(file: File) -> String {
    let mut text = Vec::new();
    // Without it the refusal still says what is wrong.
    let _ = file.take(SHOWN).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    if line.is_empty() { "which did not say who it is".into() } else { line }
}
