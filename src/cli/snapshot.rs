//! `rprof snapshot`: one window into the directory of a recorder, from cron or a timer.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args};

use super::record::recording;
use super::selection::{Defaults, WhatArgs};
use super::usage;
use crate::encode::Format;
use crate::session::{self, Output, Screen, Timing};
use crate::store::{self, Mode};

/// Record one window into a directory of windows: from cron, by a timer, or beside a recorder
///
/// As `rprof record`, for 30 seconds unless --duration says otherwise, and into the directory that `rprof query` reads.
/// Where the snapshot before still runs, nothing is recorded and the exit status is 255.
#[derive(Args, Debug)]
pub struct SnapshotArgs {
    #[command(flatten)]
    what: WhatArgs,
    /// The directory [default: /var/lib/rprof, or ~/.local/state/rprof for ordinary users]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Who may read the directory's files: 640 for the group too [default: as those that are there; 600 in a new directory]
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    /// Format to write: pprof, folded
    #[arg(long, value_name = "NAME", default_value = "pprof")]
    format: String,
}

impl SnapshotArgs {
    /// Notes what the order on the command line says.
    pub(super) fn place_filters(&mut self, matches: &ArgMatches) {
        self.what.place_filters(matches);
    }
}

const DEFAULT_DURATION: Duration = Duration::from_secs(30);

/// Records a snapshot, and answers the exit status. `line` is the whole command line.
///
/// # Errors
/// What went wrong, and what mends it.
pub fn run(args: &SnapshotArgs, line: &str) -> anyhow::Result<i32> {
    let screen = Screen::new(args.what.quiet);
    let format = Format::by_name(&args.format).map_err(usage)?;
    may_be_a_window(format)?;
    let duration = args.what.duration.map_or(DEFAULT_DURATION, |span| span.0);
    let timing = Timing { duration: Some(duration), ..Timing::default() };
    let recording = recording(&args.what, &Defaults::SNAPSHOT, timing, format, None, line, &screen)?;
    let directory = args.output.clone().unwrap_or_else(store::default_directory);
    Ok(session::record(recording, &Output::Window(directory, args.mode), &screen)?)
}

/// A window must be readable again.
///
/// # Errors
/// If files of this format cannot be read.
pub(super) fn may_be_a_window(format: &Format) -> anyhow::Result<()> {
    if format.read.is_some() {
        return Ok(());
    }
    Err(usage(format!("windows are read again, and {} cannot be read; use pprof or folded", format.name)))
}
