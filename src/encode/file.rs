//! Profiles in files. A file is written beside its final name and renamed when it is whole and on the disk: whoever
//! looks at the final name sees the old file, or none, or all of the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{DecodeError, EncodeError, Format, ReadOptions, Room, WriteOptions, decode_into};
use crate::profile::Profile;

/// Bytes of a file that are read at most: as many as a profile may have when decompressed.
const MAX_FILE: u64 = 256 << 20;
/// What a normal create asks for; the umask takes from it.
const MODE: u32 = 0o666;

/// Why a file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Writing failed. The file that was there before, if any, is as it was.
    #[error("cannot write {path}: {source}{}", mend(.source, .path))]
    Write {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The profile cannot be written in this format.
    #[error("cannot write {path}: {source}")]
    Encode {
        /// The file.
        path: String,
        /// The cause.
        source: EncodeError,
    },
    /// Reading failed.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The file is no profile.
    #[error("cannot read {path}: {source}")]
    Decode {
        /// The file.
        path: String,
        /// The cause.
        source: DecodeError,
    },
}

/// Writes a profile with each format's own choices; see [`write_file_with`].
///
/// # Errors
/// [`FileError`] with the path, the cause and what mends it.
pub fn write_file(path: &Path, format: &Format, profile: &Profile) -> Result<(), FileError> {
    write_file_with(path, format, profile, &WriteOptions::default())
}

/// Writes a profile to a file: all of it, or nothing under that name. `-` is the standard output; a device or a FIFO is
/// written directly. A reader of the standard output that has seen enough (a closed pipe) is no error.
///
/// # Errors
/// [`FileError`] with the path, the cause and what mends it.
pub fn write_file_with(
    path: &Path,
    format: &Format,
    profile: &Profile,
    options: &WriteOptions,
) -> Result<(), FileError> {
    let written = match destination(path) {
        Destination::Stdout => pass_closed_pipe(write_to(io::stdout().lock(), format, profile, options)),
        Destination::Special => open_special(path).and_then(|file| write_to(file, format, profile, options)),
        Destination::File(path) => write_beside(&path, format, profile, options),
    };
    let path = || path.display().to_string();
    written.map_err(|error| match error {
        EncodeError::Io(source) => FileError::Write { path: path(), source },
        source => FileError::Encode { path: path(), source },
    })
}

/// Reads a profile of any format, told by its content. `-` is the standard input.
///
/// # Errors
/// [`FileError`] if it cannot be read, or is no profile.
pub fn read_file(path: &Path) -> Result<Profile, FileError> {
    let mut reader = FileReader::default();
    reader.read(path, &ReadOptions::default())?;
    Ok(reader.room.profile)
}

/// Reads one file after the other into the same room.
#[derive(Debug, Default)]
pub struct FileReader {
    bytes: Vec<u8>,
    room: Room,
}

impl FileReader {
    /// As [`read_file`]; the profile is lent until the next one is read.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read, or is no profile.
    pub fn read(&mut self, path: &Path, options: &ReadOptions) -> Result<&mut Profile, FileError> {
        let name = || path.display().to_string();
        self.bytes.clear();
        read_bounded(path, &mut self.bytes).map_err(|source| FileError::Read { path: name(), source })?;
        let decoded = decode_into(&self.bytes, options, &mut self.room);
        decoded.map_err(|source| FileError::Decode { path: name(), source })?;
        Ok(&mut self.room.profile)
    }
}

fn read_bounded(path: &Path, bytes: &mut Vec<u8>) -> io::Result<()> {
    let source: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    source.take(MAX_FILE + 1).read_to_end(bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MAX_FILE} bytes")));
    }
    Ok(())
}

enum Destination {
    Stdout,
    Special,
    File(PathBuf),
}

fn destination(path: &Path) -> Destination {
    let stdout = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
    if stdout.iter().any(|name| path == Path::new(name)) {
        return Destination::Stdout;
    }
    match fs::metadata(path).map(|data| data.file_type()) {
        Ok(kind) if kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket() => {
            Destination::Special
        }
        // A link to a file stays a link: what it leads to is replaced.
        Ok(_) => Destination::File(fs::canonicalize(path).unwrap_or_else(|_| path.into())),
        Err(_) => Destination::File(path.into()),
    }
}

fn open_special(path: &Path) -> Result<File, EncodeError> {
    Ok(OpenOptions::new().write(true).open(path)?)
}

fn write_to(out: impl Write, format: &Format, profile: &Profile, options: &WriteOptions) -> Result<(), EncodeError> {
    let mut out = BufWriter::new(out);
    (format.write)(profile, options, &mut out)?;
    Ok(out.flush()?)
}

fn write_beside(path: &Path, format: &Format, profile: &Profile, options: &WriteOptions) -> Result<(), EncodeError> {
    if path.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
    }
    let folder = folder(path);
    let beside = create_beside(path, folder)?;
    write_to(beside.as_file(), format, profile, options)?;
    beside.as_file().sync_all()?;
    beside.persist(path).map_err(|error| error.error)?;
    // The name is on the disk when its folder is. The file is there by now, and some file systems cannot sync a folder.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// An empty file in the same folder, with the mode of the file that it will replace, or of a new one.
fn create_beside(path: &Path, folder: &Path) -> io::Result<NamedTempFile<File>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let old = fs::metadata(path).ok().map(|old| old.permissions());
    // The error of `tempfile` tells the temporary name, which means nothing to the user.
    let mut cause = None;
    let create = |path: &Path| {
        let created = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path);
        created.inspect_err(|error| cause = error.raw_os_error())
    };
    let beside = tempfile::Builder::new().prefix(&format!(".{name}.")).make_in(folder, create);
    let beside = beside.map_err(|error| cause.map_or(error, io::Error::from_raw_os_error))?;
    if let Some(mode) = old {
        beside.as_file().set_permissions(mode)?;
    }
    Ok(beside)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn pass_closed_pipe(written: Result<(), EncodeError>) -> Result<(), EncodeError> {
    match written {
        Err(EncodeError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// What the user can do about it.
fn mend(error: &io::Error, path: &str) -> String {
    let folder = folder(Path::new(path)).display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("; make room in {folder}, or name another file with -o")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("; make {folder} writable, or name another file with -o")
        }
        io::ErrorKind::NotFound => format!("; make the folder first: mkdir -p {folder}"),
        io::ErrorKind::IsADirectory => "; name a file in it".into(),
        _ => String::new(),
    }
}
