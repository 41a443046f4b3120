//! The samples of a profile by thread, in the order of their times, for formats that tell what happened when.

use std::collections::BTreeMap;

use crate::profile::{LabelValue, Profile, Sample, TIME_LABEL};

/// The samples of one thread (of one name).
pub(super) struct Track<'a> {
    /// Its process; `None` where the profile does not tell.
    pub(super) pid: Option<i64>,
    /// The thread.
    pub(super) tid: Option<i64>,
    /// The name of its process; empty where the profile does not tell.
    pub(super) process: &'a str,
    /// Its own name; empty where the profile does not tell.
    pub(super) comm: &'a str,
    /// What was counted where.
    pub(super) samples: Vec<Entry<'a>>,
}

/// A sample in a track.
pub(super) struct Entry<'a> {
    pub(super) sample: &'a Sample,
    /// Nanoseconds since 1970, if the profile keeps times.
    pub(super) time: Option<i64>,
    /// Of the column that is told; never below 0.
    pub(super) value: i64,
}

/// The tracks of a profile by process, thread and name; samples without a value in the column are left away.
pub(super) fn tracks(profile: &Profile, column: usize) -> Vec<Track<'_>> {
    let mut tracks: BTreeMap<_, Track<'_>> = BTreeMap::new();
    for sample in &profile.samples {
        let value = sample.values.get(column).copied().unwrap_or(0);
        if value <= 0 {
            continue;
        }
        let (pid, tid) = (number(profile, sample, "pid"), number(profile, sample, "tid"));
        let comm = profile.label(sample, "comm").unwrap_or_default();
        let process = profile.process_name(sample).unwrap_or_default();
        let new = || Track { pid, tid, process, comm, samples: Vec::new() };
        let entry = Entry { sample, time: number(profile, sample, TIME_LABEL), value };
        tracks.entry((pid, tid, comm)).or_insert_with(new).samples.push(entry);
    }
    let mut tracks: Vec<Track<'_>> = tracks.into_values().collect();
    tracks.iter_mut().for_each(|track| track.samples.sort_by_key(|entry| entry.time));
    tracks
}

fn number(profile: &Profile, sample: &Sample, key: &str) -> Option<i64> {
    let key = profile.strings.find(key)?;
    sample.labels.iter().find(|label| label.key == key).and_then(|label| match label.value {
        LabelValue::Number(number, _) => Some(number),
        LabelValue::Text(_) => None,
    })
}
