//! `rprof pin`: windows that are to stay.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::bail;
use clap::Args;

use super::{UsageError, show, when};
use crate::ids::UnixNanos;
use crate::store::Store;

/// Keep windows of a directory for ever: they are neither removed nor merged
#[derive(Args, Debug, Clone)]
pub struct PinArgs {
    /// The directory
    pub directory: PathBuf,
    /// Files, or times (14:32, now-1h, 2026-11-23T14:30, @1795444200): the windows of all kinds that hold them
    #[arg(required = true, value_name = "TIME|FILE")]
    pub windows: Vec<String>,
    /// Why, for those who come later
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Take the pins away
    #[arg(long, conflicts_with = "reason")]
    pub remove: bool,
}

/// The command line with times before now (`-15m`) written as `now-15m`, so that an option behind a time is one.
pub(super) fn with_times(arguments: Vec<OsString>) -> Vec<OsString> {
    let is_time = |word: &OsString| {
        let digits = word.to_str().and_then(|word| word.strip_prefix('-'));
        digits.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let spelled =
        |word: OsString| if is_time(&word) { [OsString::from("now"), word].into_iter().collect() } else { word };
    arguments.into_iter().map(spelled).collect()
}

/// Pins windows, or takes their pins away, and prints their files.
///
/// # Errors
/// If the directory cannot be read or written, or a name or a time means no window; then nothing is changed.
pub fn run(args: &PinArgs) -> anyhow::Result<()> {
    let store = Store::open(&args.directory)?;
    let now = UnixNanos::from(SystemTime::now());
    let found = args.windows.iter().map(|text| windows(&store, text, now)).collect::<anyhow::Result<Vec<_>>>()?;
    for path in found.into_iter().flatten() {
        let did = if !args.remove {
            store.pin(&path, &args.reason)?;
            "pinned"
        } else if store.unpin(&path)? {
            "no longer pinned"
        } else {
            "was not pinned"
        };
        show::print(&format!("{}: {did}\n", path.display()))?;
    }
    Ok(())
}

/// The files that somebody means. No time is written with a slash or such an ending.
fn windows(store: &Store, text: &str, now: UnixNanos) -> anyhow::Result<Vec<PathBuf>> {
    if text.contains('/') || [".gz", ".folded"].iter().any(|ending| text.ends_with(ending)) {
        return Ok(vec![store.find(Path::new(text))?]);
    }
    let time = when::parse(text, now).map_err(UsageError)?;
    let rows = store.rows(time..UnixNanos(time.0.saturating_add(1)))?;
    if rows.is_empty() {
        let directory = store.directory().display();
        bail!("no window of {directory} holds {}; rprof ls -l {directory} lists them", when::show(time));
    }
    Ok(rows.into_iter().map(|row| row.path).collect())
}
