//! Writing windows into a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tempfile::NamedTempFile;

use super::compact::Compactor;
use super::day::{self, entry_of};
use super::folder::{self, INDEX};
use super::index::{self, Appender, Entry, Head};
use super::lock::Lock;
use super::name::{Day, FileName, Hour};
use super::{Mode, Source, StoreError, WindowName, retain};
use crate::encode::{EncodeError, Format, WriteOptions};
use crate::ids::UnixNanos;
use crate::profile::Profile;
use crate::sys;

/// How often all folders are counted anew: others write and remove there too.
const RECOUNT: Duration = Duration::from_secs(3600);
/// How often a folder is made again that another writer removed because it was empty.
const ATTEMPTS: usize = 3;
/// Windows of one name at most; beyond, something else is wrong than a clock that is set back.
const MAX_NUMBER: u32 = 10_000;

/// How much of the past is kept, and how fine. Windows that are pinned are kept whatever it says, and count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The sum of the windows' files, in bytes.
    pub max_bytes: Option<u64>,
    /// How long ago a window may have ended.
    pub max_age: Option<Duration>,
    /// The number of windows.
    pub max_files: Option<usize>,
    /// Bytes of the file system that stay free for others; 0 for none.
    pub min_free: u64,
    /// How long after their end five minutes are merged into one window; `None` for never.
    pub five_minutes_after: Option<Duration>,
    /// How long after its end an hour is merged into one window; `None` for never.
    pub hours_after: Option<Duration>,
}

/// A window that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its file.
    pub path: PathBuf,
    /// The file's size in bytes.
    pub bytes: u64,
    /// Whether the index has a row of it. Without (no room) readers open the file instead, until [`Writer::tend`] adds the row.
    pub indexed: bool,
}

/// What a step of housekeeping did.
#[derive(Debug, Default)]
pub struct Tended {
    /// Windows that were removed, because of the policy.
    pub removed: usize,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Windows that were merged into one, which is [`Tended::merged`].
    pub compacted: usize,
    /// The window that they were merged into.
    pub merged: Option<PathBuf>,
    /// Why windows could not be merged or removed, which stay as they are and are not tried again by this writer; and that the floor of
    /// free space cannot be kept.
    pub problems: Vec<StoreError>,
    /// Whether the policy is broken still, because all that is left is pinned or because others fill the disk.
    pub over: bool,
    /// Whether the next step has something to do already.
    pub more: bool,
}

/// What a directory holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Windows.
    pub windows: usize,
    /// The sum of their files, in bytes.
    pub bytes: u64,
}

/// The one recorder, or the one snapshot, that writes to a directory.
#[derive(Debug)]
pub struct Writer {
    pub(super) directory: PathBuf,
    pub(super) source: Source,
    mode: Mode,
    /// What each hour holds, as far as this writer knows.
    pub(super) hours: BTreeMap<Hour, Usage>,
    /// Days whose index lacks rows.
    incomplete: BTreeSet<Day>,
    /// No window that was ever there begins later.
    newest: UnixNanos,
    appender: Appender,
    pub(super) compactor: Compactor,
    counted: Instant,
    _lock: Lock,
}

impl Writer {
    /// Makes the directory if needed, takes its lock, removes what a killed writer left (temporary files, and windows that it had
    /// merged already), and mends the index.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another one writes, and [`StoreError::Io`] if the directory cannot be made, read or written.
    pub fn open(directory: &Path, source: Source) -> Result<Writer, StoreError> {
        Writer::open_with(directory, source, None)
    }

    /// As [`Writer::open`]; from now on the files and folders that are made have this mode. Without one they have that of the directory's
    /// files before, or [`Mode::default`].
    ///
    /// # Errors
    /// As [`Writer::open`].
    pub fn open_with(directory: &Path, source: Source, mode: Option<Mode>) -> Result<Writer, StoreError> {
        let failed = |what| StoreError::io(what, directory);
        mode.unwrap_or_default().make_folder(directory).map_err(failed("make the folder"))?;
        let of_index = Lock::of_index(directory, mode.unwrap_or_default())?;
        mode.map_or(Ok(()), |mode| of_index.set_mode(mode)).map_err(failed("set the mode of index.lock in"))?;
        let mode = of_index.mode().map_err(failed("look at index.lock in"))?;
        drop(of_index);
        let lock = Lock::of_writer(directory, source, mode)?;
        folder::clear(directory, source)?;
        let mut writer = Writer {
            directory: directory.into(),
            source,
            mode,
            hours: BTreeMap::new(),
            incomplete: BTreeSet::new(),
            newest: UnixNanos(i64::MIN),
            appender: Appender::default(),
            compactor: Compactor::default(),
            counted: Instant::now(),
            _lock: lock,
        };
        for day in folder::days(directory)? {
            writer.open_day(day)?;
        }
        writer.count()?;
        Ok(writer)
    }

    /// Writes a window, whole or not at all, under its name made safe (see [`WindowName::safe`]). No file is ever overwritten: if the
    /// name is taken, a number is added to it. A row in the index follows.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Encode`], of which [`StoreError::is_full`] tells whether there was no room, and
    /// [`StoreError::Format`] for a format that cannot be read.
    pub fn write(
        &mut self,
        name: &WindowName,
        profile: &Profile,
        format: &'static Format,
    ) -> Result<Written, StoreError> {
        let ending = FileName::ending(format).ok_or(StoreError::Format { format: format.name })?;
        let name = WindowName { source: self.source, ..name.safe() };
        let mut file = FileName { name, number: 1, ending };
        let beside = self.write_beside(&file, profile, format)?;
        let size = beside.as_file().metadata().map_err(StoreError::io("write", &self.directory))?;
        self.give_name(beside, &mut file)?;
        let entry = entry_of(&file, size.len(), profile);
        let indexed = self.index(&file, &entry);
        let usage = self.hours.entry(file.hour()).or_default();
        usage.windows += 1;
        usage.bytes += size.len();
        self.newest = self.newest.max(file.name.last());
        self.compactor.look_again(file.hour());
        Ok(Written { path: self.directory.join(file.path()), bytes: size.len(), indexed })
    }

    /// One bounded step of housekeeping: rows that the index lacks, windows that the policy no longer keeps, and at most one
    /// stretch of windows merged into one.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the directory cannot be read. What concerns a window is one of [`Tended::problems`].
    pub fn tend(&mut self, now: UnixNanos, policy: &Policy) -> Result<Tended, StoreError> {
        if self.counted.elapsed() >= RECOUNT {
            self.count()?;
        }
        let mut tended = Tended::default();
        for day in std::mem::take(&mut self.incomplete) {
            if let Err(error) = self.mend(day) {
                self.incomplete.insert(day);
                tended.problems.push(error);
            }
        }
        retain::step(self, now, policy, &mut tended)?;
        self.compact(now, policy, &mut tended)?;
        Ok(tended)
    }

    /// What the directory holds, by this writer's count.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let add =
            |sum: Usage, hour: &Usage| Usage { windows: sum.windows + hour.windows, bytes: sum.bytes + hour.bytes };
        self.hours.values().fold(Usage::default(), add)
    }

    /// The rights of the files that are written.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Makes the index anew from the windows; tells how many rows it has.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the directory cannot be read or written.
    pub fn rebuild_index(&mut self) -> Result<usize, StoreError> {
        let mut rows = 0;
        for day in folder::days(&self.directory)? {
            folder::remove(&index::path(&self.directory, day))?;
            self.mend(day)?;
            rows += day::without_row(&self.directory, day)?.alive;
        }
        Ok(rows)
    }

    /// Finishes what a killed writer began in a day.
    fn open_day(&mut self, day: Day) -> Result<(), StoreError> {
        let merged = match self.mend(day) {
            Ok(merged) => merged,
            // On a full disk, or where something else stands in the index's place, readers do without rows; the windows are what counts.
            Err(error) if error.is_full() || error.is_in_the_way() => {
                self.incomplete.insert(day);
                day::merged(&self.directory, day)?
            }
            Err(error) => return Err(error),
        };
        for hour in folder::hours(&self.directory, day)? {
            let listing = folder::list(&self.directory, hour)?;
            let mine = listing.files.iter().filter(|file| file.name.source == self.source);
            for file in mine.filter(|file| merged.contains(&file.to_string())) {
                if !listing.pins.contains(&file.to_string()) {
                    folder::remove(&self.directory.join(file.path()))?;
                }
            }
        }
        Ok(())
    }

    /// Brings the index of a day in line with its folders; tells the names of the files that were merged into others.
    pub(super) fn mend(&mut self, day: Day) -> Result<FxHashSet<String>, StoreError> {
        let mut found = day::without_row(&self.directory, day)?;
        if found.useless > found.alive {
            // Asked of the disk, and not of the list: another writer may have added a window since.
            let (folder, mut kept) = (self.directory.join(day.folder()), FxHashSet::default());
            let keep = |head: &Head| folder.join(&head.file).is_file() && kept.insert(head.file.clone());
            index::rewrite(&self.directory, day, self.source, keep)?;
        }
        for file in &found.missing {
            let Some(described) = day::describe(&self.directory, file)? else { continue };
            if described.lasting {
                self.appender.append(&self.directory, day, &index::frame(&described.entry, file))?;
            }
            found.merged.extend(described.entry.inputs);
        }
        Ok(found.merged)
    }

    fn count(&mut self) -> Result<(), StoreError> {
        self.counted = Instant::now();
        self.hours.clear();
        for day in folder::days(&self.directory)? {
            for hour in folder::hours(&self.directory, day)? {
                self.count_hour(hour)?;
            }
        }
        Ok(())
    }

    /// Counts an hour anew, and tells what lies there.
    pub(super) fn count_hour(&mut self, hour: Hour) -> Result<folder::Listing, StoreError> {
        let listing = folder::list(&self.directory, hour)?;
        let size = |file: &FileName| fs::metadata(self.directory.join(file.path())).map_or(0, |data| data.len());
        let usage = Usage { windows: listing.files.len(), bytes: listing.files.iter().map(size).sum() };
        if usage.windows > 0 {
            self.hours.insert(hour, usage);
        } else {
            self.hours.remove(&hour);
        }
        let newest = listing.files.iter().map(|file| file.name.last()).max();
        self.newest = self.newest.max(newest.unwrap_or(self.newest));
        Ok(listing)
    }

    /// Removes a window's file; `false` if it was gone.
    pub(super) fn remove(&mut self, file: &FileName, bytes: u64) -> Result<bool, StoreError> {
        let removed = folder::remove(&self.directory.join(file.path()))?;
        if let Some(usage) = self.hours.get_mut(&file.hour()) {
            usage.windows = usage.windows.saturating_sub(1);
            usage.bytes = usage.bytes.saturating_sub(bytes);
        }
        Ok(removed)
    }

    /// Removes the folders of an hour, and of its day, if nothing is left there but the index.
    pub(super) fn remove_if_empty(&mut self, hour: Hour) -> Result<(), StoreError> {
        // That a folder is not empty is the answer, and no error.
        if fs::remove_dir(self.directory.join(hour.folder())).is_err() {
            return Ok(());
        }
        self.hours.remove(&hour);
        let day = self.directory.join(hour.day().folder());
        let _lock = Lock::of_index(&self.directory, self.mode)?;
        let entries = fs::read_dir(&day).map_err(StoreError::io("list", &day))?;
        if entries.flatten().all(|entry| entry.file_name() == INDEX) {
            folder::remove(&day.join(INDEX))?;
            let _ = fs::remove_dir(&day);
        }
        Ok(())
    }

    fn write_beside(&self, file: &FileName, profile: &Profile, format: &Format) -> Result<NamedTempFile, StoreError> {
        let folder = self.directory.join(file.hour().folder());
        let beside = self.begin_file(&folder)?;
        encode(profile, format, &beside).map_err(|error| match error {
            EncodeError::Io(source) => StoreError::io("write to", &folder)(source),
            source => StoreError::Encode { path: self.directory.join(file.path()), source },
        })?;
        Ok(beside)
    }

    /// A temporary file in a folder, which is made if it is not there (any more).
    fn begin_file(&self, folder: &Path) -> Result<NamedTempFile, StoreError> {
        for _ in 1..ATTEMPTS {
            self.mode.make_folder(folder).map_err(StoreError::io("make the folder", folder))?;
            match folder::temporary(folder, self.source, self.mode) {
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                made => return made,
            }
        }
        self.mode.make_folder(folder).map_err(StoreError::io("make the folder", folder))?;
        folder::temporary(folder, self.source, self.mode)
    }

    /// Gives a file the first name that no other has or had. A name that was merged into a longer window is not given again:
    /// who reads would take the new file for the old one, which is counted already.
    fn give_name(&self, mut beside: NamedTempFile, file: &mut FileName) -> Result<(), StoreError> {
        let had = if file.name.start < self.newest {
            day::merged(&self.directory, file.hour().day())?
        } else {
            FxHashSet::default()
        };
        let folder = self.directory.join(file.hour().folder());
        for number in 1..=MAX_NUMBER {
            file.number = number;
            let path = self.directory.join(file.path());
            if had.contains(&file.to_string()) {
                continue;
            }
            match beside.persist_noclobber(&path) {
                Ok(_) => {
                    sync_up(&folder, &self.directory);
                    return Ok(());
                }
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => beside = error.file,
                Err(error) => return Err(StoreError::io("write", &path)(folder::bare(error.error))),
            }
        }
        let path = self.directory.join(file.path());
        Err(StoreError::io("write", &path)(io::ErrorKind::AlreadyExists.into()))
    }

    /// Adds a row to the index; without room for it, it is added later.
    fn index(&mut self, file: &FileName, entry: &Entry) -> bool {
        let day = file.hour().day();
        let appended = self.appender.append(&self.directory, day, &index::frame(entry, file)).is_ok();
        if !appended {
            self.incomplete.insert(day);
        }
        appended
    }
}

fn encode(profile: &Profile, format: &Format, beside: &NamedTempFile) -> Result<(), EncodeError> {
    let mut out = BufWriter::new(beside.as_file());
    (format.write)(profile, &WriteOptions::default(), &mut out)?;
    out.flush()?;
    drop(out);
    Ok(beside.as_file().sync_all()?)
}

/// A new file's name is on the disk when its folder is, and that when the folder above it is.
fn sync_up(folder: &Path, directory: &Path) {
    for folder in folder.ancestors().take_while(|above| above.starts_with(directory)) {
        sys::output::sync_folder(folder);
    }
}
