//! What can go wrong with a directory of windows.

use std::io;
use std::path::{Path, PathBuf};

use crate::encode::{EncodeError, FileError};

/// Why a directory could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer of the same kind has it.
    #[error("another {writer} ({holder}) writes to {}; choose another directory with -o", .directory.display())]
    Locked {
        /// `recorder` or `snapshot`.
        writer: &'static str,
        /// Its PID and command, as it said itself.
        holder: String,
        /// The directory.
        directory: PathBuf,
    },
    /// There is no such directory.
    #[error("there is no directory {}; rprof record --continuous -o {} makes and fills it", .0.display(), .0.display())]
    NoDirectory(PathBuf),
    /// The kernel refused something.
    #[error("cannot {what} {}: {source}{}", .path.display(), mend(.source, .path))]
    Io {
        /// What was tried (`write`, `make the folder`).
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The profile cannot be written in this format.
    #[error("cannot write {}: {source}", .path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: EncodeError,
    },
    /// A format that holds too little to be read again.
    #[error("windows cannot be kept as {format}, which cannot be read again; choose pprof or folded with --format")]
    Format {
        /// The format's name.
        format: &'static str,
    },
    /// A window's file cannot be read.
    #[error(transparent)]
    Window(#[from] FileError),
    /// Windows that do not fit together, or a merged one that does not hold what they do.
    #[error("cannot merge the windows of {}: {problem}; they stay as they are", .path.display())]
    Merge {
        /// The file that they would be merged into.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file system has too little room, whatever is removed of the directory.
    #[error(
        "less than {} MB are free where {} is, though nothing more can be removed: windows go as soon as they are written; make \
         room, or leave less of it free with --min-free",
        .floor >> 20, .directory.display()
    )]
    BelowFloor {
        /// The directory.
        directory: PathBuf,
        /// Bytes that are to be left free.
        floor: u64,
    },
    /// There is no window of this name.
    #[error("{} is no window of {}; rprof ls -l lists them", .path.display(), .directory.display())]
    NoWindow {
        /// What was asked for.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
}

impl StoreError {
    /// Whether there was no room (`ENOSPC`, `EDQUOT`). Nothing that is written was harmed; once there is room, writing goes on.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let (StoreError::Io { source, .. } | StoreError::Encode { source: EncodeError::Io(source), .. }) = self else {
            return false;
        };
        is_full(source)
    }

    /// Whether something that is no file stands in a file's place: a FIFO, a link, a folder.
    pub(super) fn is_in_the_way(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if is_in_the_way(source))
    }

    /// An error of the kernel's, told with what was tried on what.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        move |source| StoreError::Io { what, path: path.into(), source }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn is_in_the_way(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory)
}

/// What the user can do about it.
fn mend(error: &io::Error, path: &Path) -> String {
    match error.kind() {
        _ if is_full(error) => "; make room, or let rprof keep less with --max-size".into(),
        _ if is_in_the_way(error) => "; somebody else put it there: move it away, and rprof makes the file anew".into(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("; make {} writable, or name another directory with -o", path.parent().unwrap_or(path).display())
        }
        _ => String::new(),
    }
}
