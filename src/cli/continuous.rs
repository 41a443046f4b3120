//! The options of a recording that goes on for ever.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::perf::{self, Rotation};
use super::usage;
use super::values::{Amount, Share, Size, Span};
use crate::session::{Bounds, Continuous};
use crate::store::{self, Mode, Policy};

/// How to record for ever.
#[derive(Args, Debug)]
#[command(next_help_heading = "Recording for ever")]
pub struct ContinuousArgs {
    /// Record for ever: a file for each window of time, in a directory by day and hour
    #[arg(long)]
    continuous: bool,
    /// How long a window is, at least 1s [default: 60s]
    #[arg(long, value_name = "TIME")]
    window: Option<Span>,
    /// As perf: another perf.data after so long or so much, or on each SIGUSR2. With --continuous: how long a window is
    #[arg(long, value_name = "TIME|SIZE|signal", num_args = 0..=1, require_equals = true, default_missing_value = "signal")]
    switch_output: Option<String>,
    /// Keep at most so many files, the newest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    switch_max_files: Option<u64>,
    /// Keep at most so much of windows, the newest; 0 for no limit [default: 1G]
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Size>,
    /// Keep no window longer than this: 30d
    #[arg(long, value_name = "TIME")]
    max_age: Option<Span>,
    /// Leave at least so much of the disk free, by removing the oldest windows; 0 for nothing [default: 5%, at most 4G]
    #[arg(long, value_name = "SIZE|SHARE")]
    min_free: Option<Amount>,
    /// Merge windows into five-minute ones once they are so old; 0 for never [default: 2d]
    #[arg(long, value_name = "TIME")]
    merge_after: Option<Span>,
    /// Merge those into one-hour ones once they are so old; 0 for never [default: 14d]
    #[arg(long, value_name = "TIME")]
    merge_hours_after: Option<Span>,
    /// Sample less often where rprof would use more than this share of the machine's CPU time: 1%, 0.5% [default: 1%]
    #[arg(long, value_name = "SHARE")]
    max_overhead: Option<Share>,
    /// Give memory back, then sample less often, where rprof would use more than this [default: 256M]
    #[arg(long, value_name = "SIZE")]
    max_memory: Option<Size>,
    /// Write the recorder's metrics to this file too, for Prometheus's node exporter (rprof.prom in the directory holds
    /// them always)
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Who may read the directory's files: 640 for the group too [default: as those that are there; 600 in a new directory]
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
}

const DAY: Duration = Duration::from_secs(86_400);
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
/// Bytes that are left free unless more is asked for: on a large disk, a share is more than others need to go on.
const MOST_LEFT_FREE: u64 = 4 << 30;

impl ContinuousArgs {
    /// How long a window is, if windows are to be recorded: the inner `None` is for windows that only a signal ends.
    ///
    /// # Errors
    /// If options contradict each other.
    pub(super) fn window(&self) -> anyhow::Result<Option<Option<Duration>>> {
        let window = match (self.switch_output.as_deref(), self.window) {
            // Files of samples follow each other then.
            (_, None) if !self.continuous => return Ok(None),
            (None, None) => Some(Duration::from_secs(60)),
            (None, Some(_)) if !self.continuous => return Err(usage("--window needs --continuous")),
            (None, Some(Span(window))) => Some(window),
            (Some(_), Some(_)) => return Err(usage("--switch-output and --window both say how long a window is")),
            (Some("signal"), None) => None,
            (Some(text), None) => {
                let seconds = text.parse::<Span>().ok().filter(|_| !text.ends_with(|c: char| c.is_ascii_digit()));
                let Some(Span(window)) = seconds else {
                    return Err(usage(format!(
                        "--switch-output={text}: windows end by time or signal; write --switch-output=30s or =signal, and --max-size to bound all files together"
                    )));
                };
                Some(window)
            }
        };
        match window {
            Some(window) if window < SHORTEST_WINDOW => Err(usage("a window lasts at least 1s")),
            window => Ok(Some(window)),
        }
    }

    /// Refuses options that mean nothing without windows.
    ///
    /// # Errors
    /// If there is one.
    pub(super) fn refuse(&self) -> anyhow::Result<()> {
        let given = [
            (self.switch_output.is_some(), "--switch-output"),
            (self.switch_max_files.is_some(), "--switch-max-files"),
            (self.max_size.is_some(), "--max-size"),
        ];
        match given.iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(usage(format!("{option} needs --continuous, or perf.data (-o FILE.data)"))),
            None => self.refuse_windows(),
        }
    }

    /// When one perf.data follows the other; other options of windows mean nothing there.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub(super) fn rotation(&self) -> anyhow::Result<Rotation> {
        self.refuse_windows()?;
        let switch = self.switch_output.as_deref().map(perf::switch).transpose().map_err(usage)?;
        Ok(Rotation {
            switch: switch.unwrap_or_default(),
            max_files: self.switch_max_files.and_then(|files| usize::try_from(files).ok()),
            max_size: self.max_size.map(|size| size.0),
        })
    }

    fn refuse_windows(&self) -> anyhow::Result<()> {
        let given = [
            (self.max_age.is_some(), "--max-age"),
            (self.min_free.is_some(), "--min-free"),
            (self.merge_after.is_some(), "--merge-after"),
            (self.merge_hours_after.is_some(), "--merge-hours-after"),
            (self.max_overhead.is_some(), "--max-overhead"),
            (self.max_memory.is_some(), "--max-memory"),
            (self.metrics.is_some(), "--metrics"),
            (self.mode.is_some(), "--mode"),
        ];
        match given.iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(usage(format!("{option} needs --continuous"))),
            None => Ok(()),
        }
    }

    /// The settings of a recorder that writes to `directory`.
    ///
    /// # Errors
    /// If the file system cannot be asked for its size.
    pub(super) fn settings(&self, directory: Option<PathBuf>, window: Option<Duration>) -> anyhow::Result<Continuous> {
        let directory = directory.unwrap_or_else(store::default_directory);
        let nothing_for_zero = |span: Option<Span>, default| {
            Some(span.map_or(default, |span| span.0)).filter(|time: &Duration| !time.is_zero())
        };
        let policy = Policy {
            max_bytes: Some(self.max_size.map_or(1 << 30, |size| size.0)).filter(|&bytes| bytes > 0),
            max_age: self.max_age.map(|span| span.0),
            max_files: self.switch_max_files.and_then(|files| usize::try_from(files).ok()),
            min_free: match self.min_free {
                Some(amount) => free_floor(&directory, amount)?,
                None => free_floor(&directory, Amount::Share(0.05))?.min(MOST_LEFT_FREE),
            },
            five_minutes_after: nothing_for_zero(self.merge_after, 2 * DAY),
            hours_after: nothing_for_zero(self.merge_hours_after, 14 * DAY),
        };
        Ok(Continuous {
            directory,
            policy,
            bounds: Bounds {
                window,
                max_overhead: Some(self.max_overhead.map_or(0.01, |share| share.0)),
                max_memory: Some(self.max_memory.map_or(256 << 20, |size| size.0)),
            },
            metrics: self.metrics.clone(),
            mode: self.mode,
        })
    }
}

/// Bytes of the directory's file system that are to be left free.
fn free_floor(directory: &Path, amount: Amount) -> anyhow::Result<u64> {
    let share = match amount {
        Amount::Bytes(bytes) => return Ok(bytes),
        Amount::Share(share) => share,
    };
    let place = directory.ancestors().find(|place| place.exists()).unwrap_or(Path::new("."));
    let stat = nix::sys::statvfs::statvfs(place).map_err(|error| {
        anyhow::anyhow!("cannot ask for the size of the file system of {}: {error}", place.display())
    })?;
    Ok((stat.blocks() as f64 * stat.fragment_size() as f64 * share) as u64)
}
