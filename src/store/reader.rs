//! Reading a directory, which takes neither a lock nor the right to write.

use std::fs;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::index::Names;
use super::name::{Day, FileName, PIN};
use super::{Mode, Row, StoreError, WindowName, day, folder};
use crate::encode;
use crate::ids::UnixNanos;
use crate::profile::Profile;
use crate::sys;

/// Days before the asked time that are looked into. A window lies with the day of its start. One that began two days before
/// is possible (the machine slept), but then nothing else was recorded in between: it lies in one of the last folders before.
const DAYS_BEFORE: usize = 2;
/// Bytes of a pin's reason that are read.
const LONGEST_REASON: u64 = 64 << 10;

/// A directory of windows, for reading.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

/// The windows of some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Those that can be read, by their start.
    pub rows: Vec<Row>,
    /// Those that cannot.
    pub damaged: Vec<Damaged>,
}

/// A file that is named as a window and cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Damaged {
    /// The window that it should hold; its summary is empty.
    pub row: Row,
    /// What is wrong with it.
    pub reason: String,
}

impl Store {
    /// Opens a directory.
    ///
    /// # Errors
    /// [`StoreError::NoDirectory`] if it is not there, and [`StoreError::Io`] if it may not be listed.
    pub fn open(directory: &Path) -> Result<Store, StoreError> {
        fs::read_dir(directory).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NoDirectory(directory.into()),
            _ => StoreError::io("open", directory)(error),
        })?;
        Ok(Store { directory: directory.into() })
    }

    /// Whether a folder is a directory of windows: whether it has a folder of a day.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it cannot be listed.
    pub fn holds_windows(directory: &Path) -> Result<bool, StoreError> {
        Ok(!folder::days(directory)?.is_empty())
    }

    /// The windows that have a part in a time (from its start until before its end), by their start. A window that was merged
    /// into a longer one which is there too is not listed, so that sums over rows count nothing twice. Files that
    /// cannot be read are left out; [`Store::list`] tells them.
    ///
    /// # Errors
    /// [`StoreError::Io`] if a folder or an index cannot be read.
    pub fn rows(&self, range: Range<UnixNanos>) -> Result<Vec<Row>, StoreError> {
        Ok(self.list(range)?.rows)
    }

    /// The names of the windows that have a part in a time, by their start, as the folders tell them: no index is read. One that was
    /// merged into another is named while both are there.
    ///
    /// # Errors
    /// [`StoreError::Io`] if a folder cannot be read.
    pub fn names(&self, range: &Range<UnixNanos>) -> Result<Vec<WindowName>, StoreError> {
        let mut names = Vec::new();
        for day in self.days(range)? {
            for hour in folder::hours(&self.directory, day)? {
                let of_hour = folder::list(&self.directory, hour)?.files.into_iter().map(|file| file.name);
                names.extend(of_hour.filter(|name| has_part(name, range)));
            }
        }
        names.sort_unstable_by(|a, b| (a.start, a).cmp(&(b.start, b)));
        Ok(names)
    }

    /// The days whose folders may hold windows of a time.
    fn days(&self, range: &Range<UnixNanos>) -> Result<Vec<Day>, StoreError> {
        let mut days = folder::days(&self.directory)?;
        days.truncate(days.partition_point(|&day| day <= Day::of(range.end)));
        let from = days.partition_point(|&day| day < Day::of(range.start)).saturating_sub(DAYS_BEFORE);
        Ok(days.split_off(from.min(days.len())))
    }

    /// As [`Store::rows`], with the files that cannot be read.
    ///
    /// # Errors
    /// [`StoreError::Io`] if a folder or an index cannot be read.
    pub fn list(&self, range: Range<UnixNanos>) -> Result<Listing, StoreError> {
        let (mut listing, mut names) = (Listing::default(), Names::default());
        for day in self.days(&range)? {
            for entry in day::read(&self.directory, day, |file| has_part(&file.name, &range), &mut names)? {
                match entry.damage {
                    None => listing.rows.push(entry.row),
                    Some(reason) => listing.damaged.push(Damaged { row: entry.row, reason }),
                }
            }
        }
        Ok(listing)
    }

    /// Reads a window.
    ///
    /// # Errors
    /// [`StoreError::Window`] if its file is damaged, or gone: a recorder may have removed it since it was listed, or merged it into
    /// another one, which a new list has.
    pub fn load(&self, row: &Row) -> Result<Profile, StoreError> {
        Ok(encode::read_file_of_folder(&self.path(row))?)
    }

    /// The file of a window.
    #[must_use]
    pub fn path(&self, row: &Row) -> PathBuf {
        self.directory.join(&row.path)
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file of a window that somebody named: by its path, or by its bare name. It is told, below the directory, as in [`Row::path`].
    ///
    /// # Errors
    /// [`StoreError::NoWindow`] if there is no such file.
    pub fn find(&self, file: &Path) -> Result<PathBuf, StoreError> {
        let name = file.file_name().and_then(|name| name.to_str()).and_then(FileName::parse);
        let path = name.map(|name| name.path()).filter(|path| self.directory.join(path).is_file());
        path.ok_or_else(|| StoreError::NoWindow { path: file.into(), directory: self.directory.clone() })
    }

    /// Pins a window's file, named as in [`Row::path`]: it is neither removed nor merged. An empty file beside it, or one that holds the
    /// reason, is the pin. One that was pinned already gets the new reason.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it cannot be written.
    pub fn pin(&self, file: &Path, reason: &str) -> Result<(), StoreError> {
        let pin = self.pin_path(file);
        let text = if reason.is_empty() { String::new() } else { format!("{reason}\n") };
        let window = fs::metadata(self.directory.join(file)).map_err(StoreError::io("look at", file))?;
        let mode = Mode::of(&window.permissions());
        let written = sys::open_own(&pin, mode.file()).and_then(|mut pin| {
            pin.set_len(0)?;
            pin.write_all(text.as_bytes())
        });
        written.map_err(StoreError::io("write", &pin))?;
        pin.parent().into_iter().for_each(sys::output::sync_folder);
        Ok(())
    }

    /// Takes a pin away; tells whether there was one.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it cannot be removed.
    pub fn unpin(&self, file: &Path) -> Result<bool, StoreError> {
        folder::remove(&self.pin_path(file))
    }

    /// Why a window is pinned; `None` if it is not, and empty if nobody said why.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the pin cannot be read.
    pub fn pin_reason(&self, file: &Path) -> Result<Option<String>, StoreError> {
        let pin = self.pin_path(file);
        match sys::read_regular(&pin, false, LONGEST_REASON) {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).trim_end().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", &pin)(error)),
        }
    }

    fn pin_path(&self, file: &Path) -> PathBuf {
        let mut path = self.directory.join(file).into_os_string();
        path.push(PIN);
        path.into()
    }
}

/// Whether a window has a part in a time.
fn has_part(name: &WindowName, range: &Range<UnixNanos>) -> bool {
    let (start, end) = (name.start, name.last());
    start < range.end && (end > range.start || (start == end && start >= range.start))
}
