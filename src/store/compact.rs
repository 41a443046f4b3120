//! Old windows as longer ones: those of five minutes as one, later those of an hour. Sums stay exact; which thread and which moment a
//! sample belongs to is given up.
//!
//! A merged window names the files that it was made of. While both are there (a kill in between), the merged one counts: readers
//! pass its inputs over, and the next writer removes them. That names, and not times, decide makes it safe
//! against a clock that was set back: a new window within the time of a merged one is not taken for a part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustc_hash::FxHashSet;

use super::folder::{self, Listing};
use super::name::{FileName, Hour};
use super::writer::{Policy, Tended, Writer};
use super::{Level, Source, StoreError, WindowName, day};
use crate::encode::{self, FORMATS, Format};
use crate::ids::UnixNanos;
use crate::profile::{KeptLabels, MergeError, MergeOptions, Merger, Profile, merged_comment};

const FIVE_MINUTES: i64 = 300_000_000_000;
/// The format of merged windows. Folded stacks have no place for what they were made of, so they are not merged.
const ENDING: &str = "pb.gz";
/// Labels of single threads and moments, for which merged windows have no room.
const DROPPED: [&str; 2] = ["tid", "timestamp_ns"];

/// How far the windows of a directory are merged.
#[derive(Debug, Default)]
pub(super) struct Compactor {
    /// In the hours before, nothing is left to do.
    done: Option<Hour>,
    /// Merged windows that could not be made. They are not tried again.
    refused: FxHashSet<String>,
}

impl Compactor {
    /// Something was written in an hour.
    pub(super) fn look_again(&mut self, hour: Hour) {
        self.done = self.done.filter(|&done| done <= hour).or(self.done.map(|_| hour));
    }
}

/// Windows that are to be one.
struct Slot {
    files: Vec<FileName>,
    name: WindowName,
}

impl Slot {
    /// The windows as one; `None` if they are one already.
    fn of(files: Vec<FileName>, level: Level) -> Option<Slot> {
        let finer = files.iter().any(|file| file.name.level < level);
        let start = files.iter().map(|file| file.name.start).min()?;
        let end = files.iter().map(|file| file.name.last()).max()?;
        let name = WindowName { level, start, end, ..files.first()?.name.clone() };
        (files.len() > 1 && finer).then_some(Slot { files, name })
    }

    fn key(&self) -> String {
        FileName { name: self.name.clone(), number: 1, ending: ENDING }.to_string()
    }
}

impl Writer {
    /// Merges the windows of the first stretch of time that is old enough.
    pub(super) fn compact(&mut self, now: UnixNanos, policy: &Policy, tended: &mut Tended) -> Result<(), StoreError> {
        let hours: Vec<Hour> =
            self.hours.keys().copied().filter(|&hour| self.compactor.done.is_none_or(|done| hour >= done)).collect();
        let mut all_done = true;
        for hour in hours {
            let levels = Levels::of(hour, now, policy);
            let slot = if levels.none_is_due() { None } else { self.next_slot(hour, &levels)? };
            if let Some(slot) = slot {
                self.merge_or_refuse(&slot, tended);
                return Ok(());
            }
            all_done &= levels.all_were_due;
            if all_done {
                self.compactor.done = Some(hour);
            }
        }
        Ok(())
    }

    fn next_slot(&self, hour: Hour, levels: &Levels) -> Result<Option<Slot>, StoreError> {
        let mut listing = folder::list(&self.directory, hour)?;
        let refused = |slot: &Slot| self.compactor.refused.contains(&slot.key());
        if !slots(&listing, self.source, levels).iter().any(|slot| !refused(slot)) {
            return Ok(None);
        }
        // What could not be removed after it was merged must not be merged again.
        let merged = day::merged(&self.directory, hour.day())?;
        listing.files.retain(|file| !merged.contains(&file.to_string()));
        Ok(slots(&listing, self.source, levels).into_iter().find(|slot| !refused(slot)))
    }

    fn merge_or_refuse(&mut self, slot: &Slot, tended: &mut Tended) {
        tended.more = true;
        match self.merge(slot, &mut tended.problems) {
            Ok(path) => {
                tended.compacted = slot.files.len();
                tended.merged = Some(path);
            }
            // Once there is room it can be done.
            Err(error) if error.is_full() => {
                tended.more = false;
                tended.problems.push(error);
            }
            Err(error) => {
                self.compactor.refused.insert(slot.key());
                tended.problems.push(error);
            }
        }
    }

    /// Writes the merged window, reads it back, and only then removes those that it was made of.
    fn merge(&mut self, slot: &Slot, problems: &mut Vec<StoreError>) -> Result<std::path::PathBuf, StoreError> {
        let (profile, totals) = self.merged(slot)?;
        let written = self.write(&slot.name, &profile, format())?;
        let problem = |problem: String| StoreError::Merge { path: written.path.clone(), problem };
        let holds = encode::read_file_of_folder(&written.path).map_err(StoreError::from).and_then(|read| {
            let same = sums(&read) == totals && read.merged().eq(profile.merged());
            same.then_some(()).ok_or_else(|| problem("what was written is not what they hold".into()))
        });
        if let Err(error) = holds {
            let file = written.path.file_name().and_then(|name| FileName::parse(name.to_str()?));
            file.map(|file| self.remove(&file, written.bytes)).transpose()?;
            return Err(error);
        }
        for file in &slot.files {
            let bytes = std::fs::metadata(self.directory.join(file.path())).map_or(0, |data| data.len());
            // It is in the merged window, so that it does not count: the next writer tries again.
            problems.extend(self.remove(file, bytes).err());
        }
        problems.extend(self.mend(slot.hour().day()).err());
        Ok(written.path)
    }

    /// The sum of the windows, with their names, and the sums of its columns.
    fn merged(&self, slot: &Slot) -> Result<(Profile, Vec<i128>), StoreError> {
        let path = self.directory.join(slot.hour().folder()).join(slot.key());
        let refuse = |problem: String| StoreError::Merge { path: path.clone(), problem };
        let labels = KeptLabels::AllBut(DROPPED.iter().map(|&key| key.to_owned()).collect());
        let mut merger = Merger::new(MergeOptions { labels, ..MergeOptions::default() });
        let mut totals: Vec<i128> = Vec::new();
        let mut names: BTreeSet<String> = BTreeSet::new();
        for file in &slot.files {
            let profile = encode::read_file_of_folder(&self.directory.join(file.path()))?;
            // What was merged into an input and could not be removed is in the sum too.
            let here = |name: &&str| FileName::parse(name).is_some_and(|old| self.directory.join(old.path()).exists());
            names.extend(profile.merged().filter(here).map(str::to_owned));
            names.insert(file.to_string());
            if !slot.tells(file) {
                continue;
            }
            merger.add(&profile).map_err(|error: MergeError| refuse(error.to_string()))?;
            let of_file = sums(&profile);
            totals.resize(of_file.len(), 0);
            totals.iter_mut().zip(of_file).for_each(|(sum, more)| *sum += more);
        }
        let mut profile = merger.finish();
        if sums(&profile) != totals {
            return Err(refuse("the sum is not exact".into()));
        }
        names.iter().for_each(|name| profile.comment(&merged_comment(name)));
        Ok((profile, totals))
    }
}

impl Slot {
    /// Whether a window is part of the sum: of states only the last is.
    fn tells(&self, file: &FileName) -> bool {
        !self.name.is_state() || self.files.iter().max_by_key(|file| (file.name.last(), file.number)) == Some(file)
    }

    fn hour(&self) -> Hour {
        Hour::of(self.name.start)
    }
}

/// Which merged windows are due in an hour.
struct Levels {
    hour: bool,
    /// Stretches of five minutes that begin before are due.
    five_minutes_before: Option<UnixNanos>,
    /// Whether none becomes due later.
    all_were_due: bool,
}

impl Levels {
    fn of(hour: Hour, now: UnixNanos, policy: &Policy) -> Levels {
        let long_ago = |after: Duration| UnixNanos(now.0.saturating_sub_unsigned(nanoseconds(after)));
        let is_due = |after: Option<Duration>| after.map(|after| hour.end() <= long_ago(after));
        Levels {
            hour: is_due(policy.hours_after) == Some(true),
            five_minutes_before: policy
                .five_minutes_after
                .map(|after| UnixNanos(long_ago(after).0.saturating_sub(FIVE_MINUTES - 1))),
            all_were_due: is_due(policy.hours_after) != Some(false) && is_due(policy.five_minutes_after) != Some(false),
        }
        .within(hour)
    }

    /// Five minutes that are due later than this hour's first are none of this hour's.
    fn within(mut self, hour: Hour) -> Levels {
        self.five_minutes_before = self.five_minutes_before.filter(|&before| hour.start() < before);
        self
    }

    fn none_is_due(&self) -> bool {
        !self.hour && self.five_minutes_before.is_none()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What is to be merged of an hour: the whole of it, or else stretches of five minutes. Where a window is pinned, all stay as they are.
fn slots(listing: &Listing, source: Source, levels: &Levels) -> Vec<Slot> {
    let whole = if levels.hour { grouped(listing, source, Level::Hour, |_| Some(0)) } else { Vec::new() };
    let before = levels.five_minutes_before;
    let five_minutes = |file: &FileName| {
        let slot = file.name.start.0.div_euclid(FIVE_MINUTES);
        before.filter(|before| slot.saturating_mul(FIVE_MINUTES) < before.0).map(|_| slot)
    };
    whole.into_iter().chain(grouped(listing, source, Level::FiveMinutes, five_minutes)).collect()
}

/// The windows of a host and a kind up to a level, by the stretch of time that they begin in.
fn grouped(listing: &Listing, source: Source, level: Level, stretch: impl Fn(&FileName) -> Option<i64>) -> Vec<Slot> {
    let mut groups: BTreeMap<(&str, &str, i64), Vec<&FileName>> = BTreeMap::new();
    let ours = |file: &&FileName| file.name.source == source && file.ending == ENDING && file.name.level <= level;
    for file in listing.files.iter().filter(ours) {
        if let Some(stretch) = stretch(file) {
            groups.entry((&file.name.host, &file.name.kind, stretch)).or_default().push(file);
        }
    }
    let pinned = |file: &&&FileName| listing.pins.contains(&file.to_string());
    let free = groups.into_values().filter(|files| !files.iter().any(|file| pinned(&file)));
    free.filter_map(|files| Slot::of(files.into_iter().cloned().collect(), level)).collect()
}

fn format() -> &'static Format {
    // The first format is pprof.
    &FORMATS[0]
}

/// The sum of each column.
fn sums(profile: &Profile) -> Vec<i128> {
    (0..profile.sample_types.len()).map(|column| profile.total(column)).collect()
}
