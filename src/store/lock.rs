//! Who may write to a directory: one recorder and one snapshot at a time, kept apart by the names of their files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{Mode, Source, StoreError};
use crate::sys;
use crate::sys::output::Patience;
use crate::text::printable;

/// Bytes of a lock file that are shown.
const SHOWN: u64 = 200;
/// How long the lock of the indices is waited for. Its holders have it for milliseconds; one that was stopped must not stop others.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often a lock is tried that somebody has.
const LOOK: Duration = Duration::from_millis(5);

/// A `flock` on a file, given back when it is dropped or its process ends, however that happens.
#[derive(Debug)]
pub(super) struct Lock {
    file: Flock<File>,
}

impl Lock {
    /// Takes the lock of a writer, and says in it who that is.
    pub(super) fn of_writer(directory: &Path, source: Source, mode: Mode) -> Result<Lock, StoreError> {
        let writer = source.name();
        let path = directory.join(format!("{writer}.lock"));
        let file = sys::open_own(&path, mode.file()).map_err(StoreError::io("open", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                // What it says is for people: on a full disk the lock holds without it.
                let _ = file.set_len(0).and_then(|()| file.write_all(myself().as_bytes()));
                Ok(Lock { file })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                Err(StoreError::Locked { writer, holder: holder(file), directory: directory.into() })
            }
            Err((_, error)) => Err(StoreError::io("lock", &path)(error.into())),
        }
    }

    /// Takes the lock of the indices, which every writer holds only while it changes one; waits for it. A new file has the rights that
    /// are given; see [`Lock::mode`].
    pub(super) fn of_index(directory: &Path, mode: Mode) -> Result<Lock, StoreError> {
        let path = directory.join("index.lock");
        let mut file = sys::open_own(&path, mode.file()).map_err(StoreError::io("open", &path))?;
        let (began, mut patience) = (Instant::now(), Patience::new());
        loop {
            let error = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => return Ok(Lock { file }),
                Err((_, error)) if error != Errno::EWOULDBLOCK => error.into(),
                Err((_, _)) if began.elapsed() > LONGEST_WAIT => io::Error::from(io::ErrorKind::TimedOut),
                Err((back, _)) => {
                    file = back;
                    let waited = patience.check("another writer holds it, and a signal asked to end");
                    waited.map_err(StoreError::io("lock", &path))?;
                    std::thread::sleep(LOOK);
                    continue;
                }
            };
            return Err(StoreError::io("lock", &path)(error));
        }
    }

    /// The rights of the lock's file. Those of the indices' lock are those of the directory: each writer gives them to its files.
    pub(super) fn mode(&self) -> io::Result<Mode> {
        Ok(Mode::of(&self.file.metadata()?.permissions()))
    }

    /// Gives the lock's file other rights.
    pub(super) fn set_mode(&self, mode: Mode) -> io::Result<()> {
        if self.mode()? == mode { Ok(()) } else { sys::set_mode(&self.file, mode.file()) }
    }
}

/// The recorder that writes to a directory now, as it says itself.
#[must_use]
pub fn recorder(directory: &Path) -> Option<String> {
    let file = sys::open_regular(None, &directory.join(format!("{}.lock", Source::Recorder.name())), false).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Err((file, Errno::EWOULDBLOCK)) => Some(holder(file)),
        _ => None,
    }
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
    let line = printable(text.lines().next().unwrap_or_default().trim());
    if line.is_empty() { "which did not say who it is".into() } else { line }
}
