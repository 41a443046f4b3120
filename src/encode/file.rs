//! Profiles in files.

use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::path::Path;

use flate2::{Compression, GzBuilder};

use super::{DecodeError, EncodeError, Format, ReadOptions, Room, WriteOptions, decode_into};
use crate::profile::Profile;
use crate::sys;
use crate::sys::output::{Output, folder};

/// Bytes of a file that are read at most: as many as a profile may have when decompressed.
const MAX_FILE: u64 = 256 << 20;

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

/// Writes a profile to a file: all of it, or nothing under that name ([`Output`]). `-` is the standard output; a device or a FIFO is
/// written directly. A reader that has seen enough (a closed pipe) is no error.
///
/// # Errors
/// [`FileError`] with the path, the cause and what mends it.
pub fn write_file_with(
    path: &Path,
    format: &Format,
    profile: &Profile,
    options: &WriteOptions,
) -> Result<(), FileError> {
    let written = pass_closed_pipe(write_to(path, format, profile, options));
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

/// Reads a profile of any format in a folder where others may write; see [`FileReader::of_folder`].
///
/// # Errors
/// [`FileError`] if it cannot be read, or is no profile.
pub fn read_file_of_folder(path: &Path) -> Result<Profile, FileError> {
    let mut reader = FileReader::of_folder();
    reader.read(path, &ReadOptions::default())?;
    Ok(reader.room.profile)
}

/// Reads one file after the other into the same room.
#[derive(Debug, Default)]
pub struct FileReader {
    bytes: Vec<u8>,
    room: Room,
    /// Whether links, FIFOs and devices are refused.
    only_regular: bool,
}

impl FileReader {
    /// A reader of files in a folder where others may write: links, FIFOs and devices are refused.
    #[must_use]
    pub fn of_folder() -> FileReader {
        FileReader { only_regular: true, ..FileReader::default() }
    }

    /// As [`read_file`]; the profile is lent until the next one is read.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read, or is no profile.
    pub fn read(&mut self, path: &Path, options: &ReadOptions) -> Result<&mut Profile, FileError> {
        let name = || path.display().to_string();
        self.bytes.clear();
        self.fill(path).map_err(|source| FileError::Read { path: name(), source })?;
        let decoded = decode_into(&self.bytes, options, &mut self.room);
        decoded.map_err(|source| FileError::Decode { path: name(), source })?;
        Ok(&mut self.room.profile)
    }

    fn fill(&mut self, path: &Path) -> io::Result<()> {
        let source: Box<dyn Read> = match () {
            () if self.only_regular => Box::new(sys::open_regular(None, path, false)?),
            () if path == Path::new("-") => Box::new(io::stdin()),
            // The user named it, and may have named a FIFO: <(command).
            () => Box::new(File::open(path)?),
        };
        source.take(MAX_FILE + 1).read_to_end(&mut self.bytes)?;
        if self.bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MAX_FILE} bytes")));
        }
        Ok(())
    }
}

/// Writes in a format, gzipped where the file's name asks for that and the format is not gzipped by itself.
fn write_to(path: &Path, format: &Format, profile: &Profile, options: &WriteOptions) -> Result<(), EncodeError> {
    let gzipped = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz")) && format.name != "pprof";
    let mut out = BufWriter::new(Output::create(path)?);
    if gzipped {
        let mut gzip = GzBuilder::new().write(out, Compression::default());
        (format.write)(profile, options, &mut gzip)?;
        out = gzip.finish()?;
    } else {
        (format.write)(profile, options, &mut out)?;
    }
    let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(out.finish()?)
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
