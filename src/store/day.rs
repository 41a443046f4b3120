//! The windows of a day: what its folders hold, with what its index knows of it. Where the two differ, the folders are right.

use std::fs;
use std::io;
use std::path::Path;

use rustc_hash::{FxHashMap, FxHashSet};

use super::index::{self, Entry, Names, Rows};
use super::name::{Day, FileName};
use super::{Level, Row, StoreError, Summary, folder};
use crate::encode::{self, FileError};
use crate::profile::Profile;

/// How often a day is read anew that others change meanwhile. A recorder changes it once a window.
const ATTEMPTS: usize = 10;

/// The files of a day, by the names that the index has for them.
pub(super) struct DayFiles {
    files: FxHashMap<String, FileName>,
    pins: FxHashSet<String>,
}

impl DayFiles {
    /// Looks into the folders of a day.
    pub(super) fn list(directory: &Path, day: Day) -> Result<DayFiles, StoreError> {
        let mut of_day = DayFiles { files: FxHashMap::default(), pins: FxHashSet::default() };
        for hour in folder::hours(directory, day)? {
            let listing = folder::list(directory, hour)?;
            of_day.files.extend(listing.files.into_iter().map(|file| (index::key(&file), file)));
            of_day.pins.extend(listing.pins);
        }
        Ok(of_day)
    }

    /// The file of a row, if it is still there.
    pub(super) fn get(&self, key: &str) -> Option<&FileName> {
        self.files.get(key)
    }
}

/// The windows of a day that are wanted, without those that were merged into another one which is there too.
pub(super) fn read(
    directory: &Path,
    day: Day,
    wanted: impl Fn(&FileName) -> bool,
    names: &mut Names,
) -> Result<Vec<Entry>, StoreError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let of_day = read_once(directory, day, &wanted, names)?;
        if of_day.is_steady || attempts == ATTEMPTS {
            return Ok(of_day.entries);
        }
    }
}

/// The windows of a day as they were found.
struct OfDay {
    entries: Vec<Entry>,
    /// Whether all that was listed was still there when it was read. A file that was not may have been merged
    /// into one that came after the list.
    is_steady: bool,
}

fn read_once(
    directory: &Path,
    day: Day,
    wanted: &impl Fn(&FileName) -> bool,
    names: &mut Names,
) -> Result<OfDay, StoreError> {
    let files = DayFiles::list(directory, day)?;
    if !files.files.values().any(wanted) {
        return Ok(OfDay { entries: Vec::new(), is_steady: true });
    }
    let mut is_steady = true;
    let (mut entries, mut merged) = (FxHashMap::default(), FxHashSet::default());
    let mut unknown: FxHashMap<&str, &FileName> = files.files.iter().map(|(key, file)| (&**key, file)).collect();
    let mut rows = Rows::of(directory, day)?;
    let failed = || index::path(directory, day);
    while let Some((head, payload)) = rows.next_with_head().map_err(|error| StoreError::io("read", &failed())(error))? {
        let Some(file) = files.get(&head.file) else { continue };
        let entry = if wanted(file) { index::entry(payload, file, names) } else { None };
        if entry.is_some() || !wanted(file) {
            unknown.remove(&*head.file);
            merged.extend(head.inputs);
            entries.extend(entry.map(|entry| (head.file, entry)));
        }
    }
    // A window that does not count itself may still tell that others are in it.
    for (key, file) in unknown.into_iter().filter(|(_, file)| wanted(file) || file.name.level != Level::Window) {
        let Some(Described { entry, .. }) = describe(directory, file)? else {
            is_steady = false;
            continue;
        };
        merged.extend(entry.inputs.iter().cloned());
        entries.extend(wanted(file).then(|| (key.to_owned(), entry)));
    }
    let name = |entry: &Entry| entry.row.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut entries: Vec<Entry> = entries.into_values().filter(|entry| !merged.contains(&name(entry))).collect();
    for entry in &mut entries {
        entry.row.pinned = files.pins.contains(&name(entry));
    }
    entries.sort_unstable_by(|a, b| (a.row.name.start, &a.row.path).cmp(&(b.row.name.start, &b.row.path)));
    Ok(OfDay { entries, is_steady })
}

/// The names of the files that were merged into others of a day, whether they are still there or not.
pub(super) fn merged(directory: &Path, day: Day) -> Result<FxHashSet<String>, StoreError> {
    let Unindexed { missing, mut merged, .. } = without_row(directory, day)?;
    for file in missing.iter().filter(|file| file.name.level != Level::Window) {
        merged.extend(describe(directory, file)?.into_iter().flat_map(|described| described.entry.inputs));
    }
    Ok(merged)
}

/// Compares the index of a day with its folders.
pub(super) fn without_row(directory: &Path, day: Day) -> Result<Unindexed, StoreError> {
    let files = DayFiles::list(directory, day)?;
    let mut missing: FxHashSet<&str> = files.files.keys().map(|key| &**key).collect();
    let (mut rows, mut useless, mut merged) = (Rows::of(directory, day)?, 0, FxHashSet::default());
    let path = index::path(directory, day);
    while let Some((head, _)) = rows.next_with_head().map_err(|error| StoreError::io("read", &path)(error))? {
        // A second row of a file is as useless as one of a file that is gone.
        useless += usize::from(!missing.remove(&*head.file));
        if files.get(&head.file).is_some() {
            merged.extend(head.inputs);
        }
    }
    useless += rows.bad();
    let alive = files.files.len() - missing.len();
    let mut missing: Vec<FileName> = missing.into_iter().filter_map(|key| files.get(key)).cloned().collect();
    missing.sort_unstable();
    Ok(Unindexed { missing, useless, alive, merged })
}

/// How an index differs from its folders.
pub(super) struct Unindexed {
    /// Files without a row.
    pub(super) missing: Vec<FileName>,
    /// Rows of files that are gone, and damaged ones.
    pub(super) useless: usize,
    /// Rows that are right.
    pub(super) alive: usize,
    /// The names of the files that were merged into those with a row.
    pub(super) merged: FxHashSet<String>,
}

/// What a file was found to hold.
pub(super) struct Described {
    pub(super) entry: Entry,
    /// Whether it will be the same next time: a file that cannot be opened may be so tomorrow, a damaged one stays it.
    pub(super) lasting: bool,
}

/// Reads a window's file; `None` for one that is gone.
pub(super) fn describe(directory: &Path, file: &FileName) -> Result<Option<Described>, StoreError> {
    let path = directory.join(file.path());
    let bytes = match fs::metadata(&path) {
        Ok(data) => data.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", &path)(error)),
    };
    let (profile, damage, lasting) = match encode::read_file_of_folder(&path) {
        Ok(profile) => (profile, None, true),
        Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(FileError::Decode { source, .. }) => (Profile::default(), Some(source.to_string()), true),
        Err(error) => (Profile::default(), Some(error.to_string()), false),
    };
    let entry = Entry { damage, ..entry_of(file, bytes, &profile) };
    Ok(Some(Described { entry, lasting }))
}

/// The row of a window that holds a profile.
pub(super) fn entry_of(file: &FileName, bytes: u64, profile: &Profile) -> Entry {
    let mut summary = Summary::of(profile);
    if summary.covered == 0 {
        // Folded stacks do not tell.
        summary.covered = file.name.last().0.saturating_sub(file.name.start.0);
    }
    let row = Row { name: file.name.clone(), path: file.path(), bytes, pinned: false, summary };
    Entry { row, inputs: profile.merged().map(str::to_owned).collect(), damage: None }
}
