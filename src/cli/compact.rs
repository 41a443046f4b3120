//! `rprof compact`: the housekeeping of a directory that no recorder writes to.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{anyhow, bail};
use clap::Args;

use super::{show, when};
use crate::ids::UnixNanos;
use crate::store::{Policy, Source, Store, StoreError, Writer};

/// Merge old windows of a directory into longer ones, with exact totals; a running recorder does so by itself
#[derive(Args, Debug, Clone)]
pub struct CompactArgs {
    /// The directory
    pub directory: PathBuf,
    /// Merge five minutes so long after their end
    #[arg(long, value_name = "TIME", value_parser = when::duration, default_value = "1h")]
    pub five_minutes_after: Duration,
    /// Merge an hour so long after its end
    #[arg(long, value_name = "TIME", value_parser = when::duration, default_value = "1d")]
    pub hours_after: Duration,
    /// Only make the index anew from the windows
    #[arg(long, conflicts_with_all = ["five_minutes_after", "hours_after"])]
    pub rebuild_index: bool,
}

/// Compacts a directory until nothing is left to do, and says what was done.
///
/// # Errors
/// If a recorder writes to the directory, if it cannot be read or written, or if windows could not be merged.
pub fn run(args: &CompactArgs) -> anyhow::Result<()> {
    // A directory is not made by mistake.
    Store::open(&args.directory)?;
    // Each source merges its own windows.
    let mut writers = [open(args, Source::Recorder)?, open(args, Source::Snapshot)?];
    if args.rebuild_index {
        let rows = writers[0].rebuild_index()?;
        return say(&format!("the index has {rows} windows"));
    }
    let policy = Policy {
        five_minutes_after: Some(args.five_minutes_after),
        hours_after: Some(args.hours_after),
        ..Policy::default()
    };
    let before = writers[0].usage();
    let mut problems = Vec::new();
    for writer in &mut writers {
        problems.extend(tend(writer, &policy)?);
    }
    // Both have merged, so that neither knows the whole.
    drop(writers);
    let after = open(args, Source::Recorder)?.usage();
    say(&format!(
        "{} windows with {} bytes became {} with {}",
        before.windows, before.bytes, after.windows, after.bytes
    ))?;
    if !problems.is_empty() {
        let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
        bail!("{} stretches of time were not merged:\n  {}", list.len(), list.join("\n  "));
    }
    Ok(())
}

fn open(args: &CompactArgs, source: Source) -> anyhow::Result<Writer> {
    Writer::open(&args.directory, source).map_err(|error| match error {
        StoreError::Locked { writer, holder, directory } => anyhow!(
            "a {writer} ({holder}) writes to {}; it merges windows itself, or stop it first",
            directory.display()
        ),
        error => error.into(),
    })
}

fn tend(writer: &mut Writer, policy: &Policy) -> anyhow::Result<Vec<StoreError>> {
    let now = UnixNanos::from(SystemTime::now());
    let mut problems = Vec::new();
    loop {
        let tended = writer.tend(now, policy)?;
        problems.extend(tended.problems);
        if !tended.more {
            return Ok(problems);
        }
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    show::print(&format!("{line}\n"))
}
