//! What lies in the directory. Files that are none of ours are passed over, and never touched.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashSet;
use tempfile::NamedTempFile;

use super::name::{Day, FileName, Hour, PIN};
use super::{Mode, Source, StoreError};
use crate::sys;

/// The name of a day's index, in the day's folder.
pub(super) const INDEX: &str = "index";

/// What the folder of an hour holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The windows, by name.
    pub(super) files: Vec<FileName>,
    /// The names of those that are pinned.
    pub(super) pins: FxHashSet<String>,
}

/// The days of the directory, ascending. A directory that is not there has none.
pub(super) fn days(directory: &Path) -> Result<Vec<Day>, StoreError> {
    let mut days = Vec::new();
    each(directory, |entry, name| days.extend(Day::parse(name).filter(|_| is_folder(entry))))?;
    days.sort_unstable();
    Ok(days)
}

/// The hours of a day, ascending.
pub(super) fn hours(directory: &Path, day: Day) -> Result<Vec<Hour>, StoreError> {
    let mut hours = Vec::new();
    each(&directory.join(day.folder()), |entry, name| {
        hours.extend(day.hour(name).filter(|_| is_folder(entry)));
    })?;
    hours.sort_unstable();
    Ok(hours)
}

/// The windows of an hour.
pub(super) fn list(directory: &Path, hour: Hour) -> Result<Listing, StoreError> {
    let mut listing = Listing::default();
    each(&directory.join(hour.folder()), |entry, name| {
        if let Some(pinned) = name.strip_suffix(PIN) {
            listing.pins.insert(pinned.to_owned());
        }
        let file = FileName::parse(name).filter(|file| file.hour() == hour);
        listing.files.extend(file.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())));
    })?;
    listing.files.sort_unstable();
    Ok(listing)
}

/// A file with a name that tells who writes it, so that no other writer takes it for a dead one's.
pub(super) fn temporary(folder: &Path, source: Source, mode: Mode) -> Result<NamedTempFile, StoreError> {
    let suffix = ending(source);
    let made = tempfile::Builder::new().prefix(".").suffix(&suffix).tempfile_in(folder);
    let made = made.and_then(|made| sys::set_mode(made.as_file(), mode.file()).map(|()| made));
    // The error of `tempfile` tells the temporary name, which means nothing to the user.
    made.map_err(|error| StoreError::io("write to", folder)(bare(error)))
}

/// Removes the files that a writer left behind when it was killed, of the days and hours alike; tells how many.
pub(super) fn clear(directory: &Path, source: Source) -> Result<usize, StoreError> {
    let mut folders = Vec::new();
    for day in days(directory)? {
        folders.push(directory.join(day.folder()));
        folders.extend(hours(directory, day)?.into_iter().map(|hour| directory.join(hour.folder())));
    }
    let mut dead: Vec<PathBuf> = Vec::new();
    for folder in folders {
        each(&folder, |entry, name| {
            let ours = name.starts_with('.') && name.ends_with(&ending(source));
            dead.extend(ours.then(|| entry.path()));
        })?;
    }
    dead.iter().try_for_each(|path| remove(path).map(|_| ()))?;
    Ok(dead.len())
}

/// Removes a file; one that is gone already is no error. Tells whether it was there.
pub(super) fn remove(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("remove", path)(error)),
    }
}

/// The error of the kernel, without what was wrapped around it.
pub(super) fn bare(error: io::Error) -> io::Error {
    use std::error::Error;
    let mut cause: Option<&(dyn Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(inner) = cause {
        if let Some(code) = inner.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(code);
        }
        cause = inner.source();
    }
    error
}

fn ending(source: Source) -> String {
    format!(".{}.tmp", source.name())
}

fn is_folder(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// Calls for each entry whose name is text; a folder that is not there has none.
fn each(folder: &Path, mut of: impl FnMut(&DirEntry, &str)) -> Result<(), StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(StoreError::io("list", folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", folder))?;
        if let Some(name) = entry.file_name().to_str() {
            of(&entry, name);
        }
    }
    Ok(())
}
