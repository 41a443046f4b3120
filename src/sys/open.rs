//! Opening files whose path or whose place somebody else chose: what lies in a store's directory, what a target has mapped or left
//! in `/tmp`, debug files, policies. Whoever may write there may have put a FIFO, a device or a link in the place of a file; no open
//! here waits for one, and none is taken for a file.
//!
//! `tests/architecture.rs` holds the list of the few other places that open files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// Flags of every open: it does not wait, and it does not become our terminal.
const FLAGS: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// Opens a regular file for reading: on the host, or below a root directory whose links cannot lead out of it
/// (`RESOLVE_IN_ROOT`, Linux 5.6). A FIFO does not block it, and a device, directory or link in the last place is refused
/// where `follow` is false.
///
/// # Errors
/// What the kernel answers, and [`io::ErrorKind::InvalidInput`] for what is no regular file.
pub fn open_regular(root: Option<&File>, path: &Path, follow: bool) -> io::Result<File> {
    let flags = if follow { FLAGS } else { FLAGS | OFlag::O_NOFOLLOW };
    let file = match root {
        Some(root) => {
            let how =
                OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
            File::from(openat2(root, path, how)?)
        }
        None => OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(refused(follow))?,
    };
    if !file.metadata()?.is_file() {
        return Err(not_regular("not a regular file"));
    }
    Ok(file)
}

/// Reads a regular file of at most `limit` bytes; see [`open_regular`].
///
/// # Errors
/// As [`open_regular`], and [`io::ErrorKind::FileTooLarge`] for a longer one.
pub fn read_regular(path: &Path, follow: bool, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(None, path, follow)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Opens a file of ours for reading and writing in a folder where others may write, and makes it with these rights if it is not
/// there. It is not truncated.
///
/// # Errors
/// What the kernel answers, and [`io::ErrorKind::InvalidInput`] for what is no regular file, or has a second name elsewhere, under
/// which it would be written too.
pub fn open_own(path: &Path, mode: u32) -> io::Result<File> {
    let flags = (FLAGS | OFlag::O_NOFOLLOW).bits();
    let mut open = OpenOptions::new();
    open.read(true).write(true).custom_flags(flags).mode(mode);
    let file = match open.clone().create_new(true).open(path) {
        Ok(file) => {
            // The umask took from it what the user asked for.
            set_mode(&file, mode)?;
            file
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open.open(path).map_err(refused(false))?,
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    match () {
        () if !meta.is_file() => Err(not_regular("not a regular file")),
        () if meta.nlink() > 1 => Err(not_regular("it has another name too, under which it would be written")),
        () => Ok(file),
    }
}

/// Gives an open file exactly these rights.
///
/// # Errors
/// What the kernel answers: it is somebody else's file.
pub fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

/// What the kernel calls a loop of links is one link, where none is followed; a FIFO that is opened for writing has "no such device".
fn refused(follow: bool) -> impl Fn(io::Error) -> io::Error {
    move |error| match error.raw_os_error() {
        Some(libc::ELOOP) if !follow => not_regular("a symbolic link, which is not followed here"),
        Some(libc::ENXIO) => not_regular("not a regular file"),
        _ => error,
    }
}

fn not_regular(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_regular_files_without_links_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(path("file"), "precious").unwrap();
        symlink(path("file"), path("link")).unwrap();
        symlink(path("nothing"), path("dangling")).unwrap();
        std::fs::hard_link(path("file"), path("twin")).unwrap();
        for name in ["fifo", "link", "dangling", "twin"] {
            let error = open_own(&path(name), 0o600).expect_err(name);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}: {error}");
        }
        for name in ["fifo", "link", "dangling"] {
            let error = open_regular(None, &path(name), false).expect_err(name);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}: {error}");
        }
        assert_eq!(read_regular(&path("link"), true, 8).unwrap(), b"precious");
        assert_eq!(read_regular(&path("file"), false, 7).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(!path("nothing").exists());
        let made = open_own(&path("new"), 0o640).unwrap();
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    }
}
