//! What is removed: the windows that ended first, until the policy is kept. A pinned window never is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::StoreError;
use super::name::{FileName, Hour};
use super::writer::{Policy, Tended, Writer};
use crate::ids::UnixNanos;

/// Windows that one step removes at most: some 100 ms.
const MAX_REMOVED: usize = 4096;

/// The unit of `st_blocks`, whatever the file system's own is.
const BLOCK: u64 = 512;

/// What is too much.
struct Excess {
    bytes: u64,
    windows: usize,
    /// Bytes that the file system has too few of.
    missing: u64,
    /// What ended before is too old.
    before: UnixNanos,
}

impl Excess {
    fn of(writer: &Writer, now: UnixNanos, policy: &Policy) -> Result<Excess, StoreError> {
        let usage = writer.usage();
        let age = policy.max_age.map(|age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
        Ok(Excess {
            bytes: policy.max_bytes.map_or(0, |most| usage.bytes.saturating_sub(most)),
            windows: policy.max_files.map_or(0, |most| usage.windows.saturating_sub(most)),
            missing: if policy.min_free == 0 { 0 } else { policy.min_free.saturating_sub(free(&writer.directory)?) },
            before: age.map_or(UnixNanos(i64::MIN), |age| UnixNanos(now.0.saturating_sub(age))),
        })
    }

    fn is_broken(&self) -> bool {
        self.bytes > 0 || self.windows > 0 || self.missing > 0
    }

    /// A window is gone: its bytes, and those that the file system had given it.
    fn removed(&mut self, bytes: u64, allocated: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.windows = self.windows.saturating_sub(1);
        self.missing = self.missing.saturating_sub(allocated);
    }
}

/// Removes what is too much, up to a number of windows.
pub(super) fn step(
    writer: &mut Writer,
    now: UnixNanos,
    policy: &Policy,
    tended: &mut Tended,
) -> Result<(), StoreError> {
    let mut excess = Excess::of(writer, now, policy)?;
    let mut oldest = Oldest::of(writer);
    loop {
        // Without anything to remove, no folder is looked into.
        if !excess.is_broken() && !oldest.may_begin_before(excess.before) {
            break;
        }
        let Some(file) = oldest.next(writer)? else {
            tended.over = excess.is_broken();
            if excess.missing > 0 {
                let (directory, floor) = (writer.directory.clone(), policy.min_free);
                tended.problems.push(StoreError::BelowFloor { directory, floor });
            }
            break;
        };
        if !excess.is_broken() && file.name.last() >= excess.before {
            break;
        }
        if tended.removed == MAX_REMOVED {
            tended.more = true;
            break;
        }
        remove(writer, &file, &mut excess, tended);
    }
    oldest.seen.into_iter().try_for_each(|hour| writer.remove_if_empty(hour))
}

fn remove(writer: &mut Writer, file: &FileName, excess: &mut Excess, tended: &mut Tended) {
    let found = fs::metadata(writer.directory.join(file.path()));
    let (bytes, allocated) = found.map_or((0, 0), |data| (data.len(), data.blocks() * BLOCK));
    match writer.remove(file, bytes) {
        Ok(_) => {
            excess.removed(bytes, allocated);
            tended.removed += 1;
            tended.removed_bytes += bytes;
        }
        Err(error) => tended.problems.push(error),
    }
}

/// The windows that are not pinned, in the order of their ends. Folders are looked into only as far as windows are taken.
struct Oldest {
    /// Hours that were not looked into, the earliest last.
    hours: Vec<Hour>,
    /// Those that were.
    seen: Vec<Hour>,
    windows: BinaryHeap<Reverse<(UnixNanos, FileName)>>,
}

impl Oldest {
    fn of(writer: &Writer) -> Oldest {
        Oldest { hours: writer.hours.keys().rev().copied().collect(), seen: Vec::new(), windows: BinaryHeap::new() }
    }

    /// Whether some window may have begun, and so perhaps ended, before a time.
    fn may_begin_before(&self, time: UnixNanos) -> bool {
        !self.windows.is_empty() || self.hours.last().is_some_and(|hour| hour.start() < time)
    }

    fn next(&mut self, writer: &mut Writer) -> Result<Option<FileName>, StoreError> {
        // No window of a later hour ended before that hour began.
        while let Some(&hour) = self.hours.last() {
            if self.windows.peek().is_some_and(|Reverse((end, _))| *end <= hour.start()) {
                break;
            }
            self.hours.pop();
            self.seen.push(hour);
            let listing = writer.count_hour(hour)?;
            let free = listing.files.into_iter().filter(|file| !listing.pins.contains(&file.to_string()));
            self.windows.extend(free.map(|file| Reverse((file.name.last(), file))));
        }
        Ok(self.windows.pop().map(|Reverse((_, file))| file))
    }
}

/// Bytes of the file system that users may still write.
fn free(directory: &Path) -> Result<u64, StoreError> {
    let found = statvfs(directory).map_err(|error| StoreError::io("ask for free space of", directory)(error.into()))?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}
