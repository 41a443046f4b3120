//! Files that are written: every profile, recording, picture and page goes through here.
//!
//! They hold command lines and names of functions, so they are their owner's alone, as perf's (0600). A file is written beside its
//! final name and renamed when it is whole and on the disk: whoever looks at the final name sees the old file, or none, or all of the
//! new one. A link that stands there is replaced, not followed. Success is told only of a file that is seen under its name.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::NamedTempFile;

use super::open::set_mode;

/// The rights of files that are written.
pub const PRIVATE: u32 = 0o600;

/// Bytes that a pipe takes without waiting once it says that it has room (`PIPE_BUF`).
const PIPE_BUF: usize = 4096;
/// How often a wait looks whether a signal came.
const LOOK: Duration = Duration::from_millis(50);
/// How long a wait goes on after a signal: the other end may just be busy.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a file's name that its temporary name begins with; a name has 255 at most.
const NAME: usize = 200;

/// Where the number of the last signal is put by those that catch signals; a wait that no signal would end looks there.
static SIGNAL: Mutex<Option<Arc<AtomicUsize>>> = Mutex::new(None);

/// Tells where the number of the last signal that was caught is put (0 for none): waits for others end soon after one.
pub fn watch_signal(last: Arc<AtomicUsize>) {
    *SIGNAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
}

/// A wait that a signal ends: by itself where signals have their ordinary effect, and by looking where they are caught.
#[derive(Debug)]
pub struct Patience {
    last: Option<Arc<AtomicUsize>>,
    until: Option<Instant>,
}

impl Patience {
    /// A wait that begins now.
    #[must_use]
    pub fn new() -> Patience {
        Patience { last: SIGNAL.lock().unwrap_or_else(PoisonError::into_inner).clone(), until: None }
    }

    /// Whether signals are caught, so that a call of the kernel that waits would not be ended by one.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.last.is_some()
    }

    /// Answers an error once a signal came a second ago.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`], with `what` was waited for.
    pub fn check(&mut self, what: &'static str) -> io::Result<()> {
        let asked = self.last.as_ref().is_some_and(|last| last.load(Ordering::Relaxed) != 0);
        if asked && Instant::now() > *self.until.get_or_insert_with(|| Instant::now() + PATIENCE) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        Ok(())
    }
}

impl Default for Patience {
    fn default() -> Patience {
        Patience::new()
    }
}

/// The standard output, a FIFO, or a device: what is written cannot be taken back.
#[derive(Debug)]
pub struct Stream {
    file: File,
    patience: Patience,
}

impl Stream {
    /// The standard output.
    ///
    /// # Errors
    /// If it is closed.
    pub fn stdout() -> io::Result<Stream> {
        let mut stdout = io::stdout();
        stdout.flush()?;
        Ok(Stream { file: File::from(stdout.as_fd().try_clone_to_owned()?), patience: Patience::new() })
    }

    /// What stands at a path, if it is the standard output or no file; `None` for what is to be written as a file.
    ///
    /// # Errors
    /// If it cannot be opened, or a signal came before a FIFO's other end was opened.
    pub fn at(path: &Path) -> io::Result<Option<Stream>> {
        match kind(path) {
            Kind::Stdout => Stream::stdout().map(Some),
            Kind::Special => Stream::open(path).map(Some),
            Kind::File => Ok(None),
        }
    }

    /// Opens a FIFO or a device, and waits until somebody reads the FIFO.
    fn open(path: &Path) -> io::Result<Stream> {
        let mut patience = Patience::new();
        let mut open = OpenOptions::new();
        open.write(true);
        if !patience.is_needed() {
            return Ok(Stream { file: open.open(path)?, patience });
        }
        open.custom_flags(libc::O_NONBLOCK);
        loop {
            match open.open(path) {
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
                    patience.check("nobody reads it, and a signal asked to end")?;
                    std::thread::sleep(LOOK);
                }
                opened => return Ok(Stream { file: opened?, patience }),
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.patience.is_needed() {
            return self.file.write(bytes);
        }
        loop {
            let mut ready = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
            let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
            let count = match poll(&mut ready, timeout) {
                Err(nix::errno::Errno::EINTR) => 0,
                count => count?,
            };
            if count > 0 {
                match self.file.write(&bytes[..bytes.len().min(PIPE_BUF)]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    written => return written,
                }
            }
            self.patience.check("its reader takes nothing, and a signal asked to end")?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An output of a command. Without [`Output::finish`] nothing is under its name.
#[derive(Debug)]
pub struct Output(To);

#[derive(Debug)]
enum To {
    Stream(Stream),
    File { beside: NamedTempFile<File>, path: PathBuf },
}

impl Output {
    /// Begins an output: the standard output for `-`, a FIFO or device as it is, and else a file.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn create(path: &Path) -> io::Result<Output> {
        if let Some(stream) = Stream::at(path)? {
            return Ok(Output(To::Stream(stream)));
        }
        if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Output(To::File { beside: create_beside(path)?, path: path.into() }))
    }

    /// Ends it: a file is on the disk, and under its name.
    ///
    /// # Errors
    /// What the kernel answers, and [`io::ErrorKind::NotFound`] if the file is not seen there.
    pub fn finish(self) -> io::Result<()> {
        let (beside, path) = match self.0 {
            To::Stream(mut stream) => return stream.flush(),
            To::File { beside, path } => (beside, path),
        };
        beside.as_file().sync_all()?;
        let file = beside.persist(&path).map_err(|error| error.error)?;
        check_named(&file, &path)?;
        // The name is on the disk when its folder is. The file is there by now, and some file systems cannot sync a folder.
        sync_folder(folder(&path));
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            To::Stream(stream) => stream.write(bytes),
            To::File { beside, .. } => beside.as_file_mut().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            To::Stream(stream) => stream.flush(),
            To::File { beside, .. } => beside.as_file_mut().flush(),
        }
    }
}

/// Begins a recording, which is written under its name from the beginning, so that one that is killed can be read. What lies there
/// already becomes `FILE.old`, as with perf.
///
/// # Errors
/// What the kernel answers.
pub fn create_recording(path: &Path) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(meta) if meta.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) if fs::metadata(path).is_ok_and(|meta| meta.len() > 0) => {
            let mut old = path.as_os_str().to_owned();
            old.push(".old");
            fs::rename(path, old)?;
        }
        Ok(_) => fs::remove_file(path)?,
    }
    create_new(path)
}

/// Whether an open file is the one that has a name.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] if it is not.
pub fn check_named(file: &File, path: &Path) -> io::Result<()> {
    let ours = file.metadata()?;
    let named = fs::symlink_metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino()));
    let gone = || io::Error::new(io::ErrorKind::NotFound, "it was removed, moved or replaced while it was written");
    if named { Ok(()) } else { Err(gone()) }
}

/// Puts the names of a folder on the disk. Some file systems cannot; then they come when they come.
pub fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// The folder that a file lies in.
#[must_use]
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

enum Kind {
    Stdout,
    Special,
    File,
}

/// What stands at the path of an output. Links are followed where the system keeps them (`/dev/stdout`, `/dev/fd/63`), and nowhere else.
fn kind(path: &Path) -> Kind {
    let stdout = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
    if stdout.iter().any(|name| path == Path::new(name)) {
        return Kind::Stdout;
    }
    let of_system = ["/dev/stderr", "/dev/fd", "/proc"].iter().any(|place| path.starts_with(place));
    let found = if of_system { fs::metadata(path) } else { fs::symlink_metadata(path) };
    match found.map(|data| data.file_type()) {
        Ok(kind) if kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket() => {
            Kind::Special
        }
        // A descriptor that leads to a file is written through: beside it there is no place.
        Ok(kind) if of_system && kind.is_file() => Kind::Special,
        _ => Kind::File,
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path)?;
    // Without this, a umask of 0277 would leave a file that its owner cannot read.
    set_mode(&file, PRIVATE)?;
    Ok(file)
}

/// An empty file in the same folder.
fn create_beside(path: &Path) -> io::Result<NamedTempFile<File>> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let prefix = [b".", &name[..name.len().min(NAME)], b"."].concat();
    // The error of `tempfile` tells the temporary name, which means nothing to the user.
    let mut cause = None;
    let create = |path: &Path| create_new(path).inspect_err(|error| cause = error.raw_os_error());
    let beside = tempfile::Builder::new().prefix(OsStr::from_bytes(&prefix)).make_in(folder(path), create);
    beside.map_err(|error| cause.map_or(error, io::Error::from_raw_os_error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn links_are_replaced_and_files_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, out) = (folder.path().join("victim"), folder.path().join("out"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &out).unwrap();
        let mut output = Output::create(&out).unwrap();
        output.write_all(b"new").unwrap();
        output.finish().unwrap();
        assert_eq!((fs::read(&victim).unwrap(), fs::read(&out).unwrap()), (b"precious".to_vec(), b"new".to_vec()));
        assert!(!fs::symlink_metadata(&out).unwrap().is_symlink() && mode(&out) == 0o600);
        fs::remove_file(&out).unwrap();
        for target in [&victim, &folder.path().join("nothing")] {
            symlink(target, &out).unwrap();
            create_recording(&out).unwrap().write_all(b"recording").unwrap();
            assert!(!fs::symlink_metadata(&out).unwrap().is_symlink() && mode(&out) == 0o600);
            fs::remove_file(&out).unwrap();
        }
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert!(!folder.path().join("nothing").exists());
    }

    #[test]
    fn what_is_gone_is_no_success() {
        let folder = tempfile::tempdir().unwrap();
        let (out, moved) = (folder.path().join("out"), folder.path().join("moved"));
        let file = create_recording(&out).unwrap();
        check_named(&file, &out).unwrap();
        fs::rename(&out, &moved).unwrap();
        assert_eq!(check_named(&file, &out).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&out, "another").unwrap();
        assert_eq!(check_named(&file, &out).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
