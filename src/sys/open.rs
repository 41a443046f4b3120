//! Opening files whose path somebody else chose.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// Opens a regular file for reading: on the host, or below a root directory whose links cannot lead out of it
/// (`RESOLVE_IN_ROOT`, Linux 5.6). A FIFO does not block it, and a device, directory or link in the last place is refused
/// where `follow` is false.
///
/// # Errors
/// What the kernel answers, and [`io::ErrorKind::InvalidInput`] for what is no regular file.
pub fn open_regular(root: Option<&File>, path: &Path, follow: bool) -> io::Result<File> {
    let mut flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    if !follow {
        flags |= OFlag::O_NOFOLLOW;
    }
    let file = match root {
        Some(root) => {
            let how =
                OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
            File::from(openat2(root, path, how)?)
        }
        None => OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}
