//! What is known of a window without opening its file.

use std::path::PathBuf;
use std::sync::Arc;

use crate::ids::UnixNanos;
use crate::profile::KindQuality;

/// How much time one file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// A window as it was recorded.
    Window,
    /// The windows of five minutes, merged.
    FiveMinutes,
    /// The windows of an hour, merged.
    Hour,
}

/// Who wrote a window. A snapshot beside a recorder tells of the same time twice, so the two are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A recorder that runs for long.
    Recorder,
    /// `rprof snapshot`.
    Snapshot,
}

/// What tells a window from all others of a directory; its file is named by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowName {
    /// The host's name.
    pub host: String,
    /// What was counted: the profile's value name (`cpu`, `page_faults`).
    pub kind: String,
    /// Who wrote it.
    pub source: Source,
    /// How much it holds.
    pub level: Level,
    /// When it began.
    pub start: UnixNanos,
    /// When it ended.
    pub end: UnixNanos,
}

/// A window in the index.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it is.
    pub name: WindowName,
    /// Its file, below the directory.
    pub path: PathBuf,
    /// The file's size in bytes.
    pub bytes: u64,
    /// Whether it is kept whatever its age.
    pub pinned: bool,
    /// What it holds.
    pub summary: Summary,
}

/// The totals of a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// The unit of the values (`nanoseconds`, `count`).
    pub unit: String,
    /// Nanoseconds that were sampled: the window's length, or the sum of those that were merged into it.
    pub covered: i64,
    /// CPUs that were watched; 0 if the file does not tell.
    pub cpus: u32,
    /// Samples a second and CPU that were asked for; 0 with a fixed period.
    pub frequency: u64,
    /// Samples.
    pub samples: i64,
    /// Sum of their values.
    pub value: i64,
    /// Samples that were lost.
    pub lost: u64,
    /// The same by process, largest first.
    pub totals: Vec<Total>,
    /// The same by further labels that are texts, as `record --label` gives them; `None` where the index does not tell.
    pub labels: Option<Vec<LabelTotal>>,
}

impl Summary {
    /// The samples of the window, and how many were lost.
    #[must_use]
    pub fn counted(&self) -> KindQuality {
        KindQuality { samples: self.samples.unsigned_abs(), lost: self.lost, ..KindQuality::default() }
    }
}

/// What the samples with a label have of a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelTotal {
    /// The label's key.
    pub key: Arc<str>,
    /// Its value.
    pub text: Arc<str>,
    /// Samples.
    pub samples: i64,
    /// Sum of their values.
    pub value: i64,
}

/// What a process has of a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Its PID; 0 if the file does not tell.
    pub pid: i64,
    /// Its name; in files that do not tell it, that of the thread with the most samples.
    pub process: Arc<str>,
    /// Its container; empty outside of any.
    pub container: Arc<str>,
    /// Its systemd unit; empty outside of any.
    pub unit: Arc<str>,
    /// Samples.
    pub samples: i64,
    /// Sum of their values.
    pub value: i64,
}

impl Source {
    /// Its name in messages and in the names of files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Source::Recorder => "recorder",
            Source::Snapshot => "snapshot",
        }
    }
}

impl Level {
    /// Its name for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Window => "window",
            Level::FiveMinutes => "5m",
            Level::Hour => "1h",
        }
    }
}
