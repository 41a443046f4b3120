//! What the commands that read a profile have in common: a file of any kind, recordings of `perf record` among them.

use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};

use super::usage;
use crate::encode;
use crate::profile::Profile;
use crate::record::perf_data::{Header, PerfData};
use crate::session::Screen;
use crate::session::replay::{Replay, ReplayOptions, TimeRange};
use crate::symbol::KernelSymbols;
use crate::sys;

/// The file that perf writes and reads where none is named.
pub(super) const DEFAULT: &str = "perf.data";

/// The file where none is named: what comes through a pipe (`perf record … | perf script`), else [`DEFAULT`].
pub(super) fn unnamed() -> PathBuf {
    let piped = std::fs::metadata("/dev/stdin").is_ok_and(|input| input.file_type().is_fifo());
    if piped { "-".into() } else { DEFAULT.into() }
}

/// How a recording (perf.data) is read.
#[derive(Args, Debug, Clone, Default)]
pub struct RecordingArgs {
    /// Of a perf.data: find files of code below this folder, as if it were the root of the machine that was recorded
    #[arg(long, value_name = "DIRECTORY")]
    pub symfs: Option<PathBuf>,
    /// Of a perf.data: a copy of the recorded machine's /proc/kallsyms, for names of the kernel's functions
    #[arg(long, value_name = "FILE")]
    pub kallsyms: Option<PathBuf>,
    /// Of a perf.data: the recorded kernel's ELF file, for names of its functions
    #[arg(short = 'k', long, value_name = "FILE", conflicts_with = "kallsyms")]
    pub vmlinux: Option<PathBuf>,
    /// Of a perf.data: only samples of this time: FROM,TO in seconds of its clock (either may be left out), or 10%-20%
    #[arg(long, value_name = "RANGE", value_parser = time_range, allow_hyphen_values = true)]
    pub time: Option<TimeRange>,
}

/// What all of perf's commands take, and ours need not.
#[derive(Args, Debug, Clone, Copy, Default)]
pub struct ForceArgs {
    /// Accepted, as perf has it: files of other users are read without it too
    #[arg(short, long, hide = true)]
    pub force: bool,
    /// Neither remarks nor headings
    #[arg(short, long, hide = true)]
    pub quiet: bool,
    /// Accepted, as perf has it: there is nothing more to tell
    #[arg(short, long, hide = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Accepted: names are told as people wrote them without it too
    #[arg(long, hide = true)]
    pub demangle: bool,
    /// Accepted: calls that were inlined are shown without it too
    #[arg(long, hide = true)]
    pub inline: bool,
}

/// How perf's commands draw, of which ours know one way: as text without colours.
#[derive(Args, Debug, Clone, Default)]
pub struct LookArgs {
    /// Accepted, as perf has it
    #[arg(long, hide = true)]
    pub tui: bool,
    /// Accepted, as perf has it
    #[arg(long, hide = true)]
    pub stdio2: bool,
    /// Accepted, as perf has it
    #[arg(long, hide = true, value_name = "MODE")]
    pub stdio_color: Option<String>,
}

impl RecordingArgs {
    /// The options of a replay.
    #[must_use]
    pub fn options(&self, no_inline: bool, times: bool) -> ReplayOptions {
        let kallsyms = self.kallsyms.clone().map(KernelSymbols::Kallsyms);
        ReplayOptions {
            symfs: self.symfs.clone(),
            kernel: kallsyms.or_else(|| self.vmlinux.clone().map(KernelSymbols::Vmlinux)),
            no_inline,
            no_lines: false,
            times,
            time: self.time,
        }
    }

    /// The first option that means something for recordings alone.
    fn given(&self) -> Option<&'static str> {
        let given = [
            ("--symfs", self.symfs.is_some()),
            ("--kallsyms", self.kallsyms.is_some()),
            ("--vmlinux", self.vmlinux.is_some()),
            ("--time", self.time.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

/// Reads a profile, or makes one of a recording; `-` is the standard input. `times` keeps the time of each sample.
///
/// # Errors
/// If it is neither, or cannot be read; if an option means nothing for it.
pub fn read(path: &Path, args: &RecordingArgs, times: bool) -> anyhow::Result<Profile> {
    read_with(path, args, args.options(false, times), false, &mut |_| {})
}

/// As [`read`], with what is read of a recording chosen; nothing is said of it if that is to be `quiet`. What it says of itself is passed
/// to `headed` first.
///
/// # Errors
/// As there.
pub fn read_with(
    path: &Path,
    args: &RecordingArgs,
    options: ReplayOptions,
    quiet: bool,
    headed: &mut dyn FnMut(&Header),
) -> anyhow::Result<Profile> {
    if is_recording(path) {
        let screen = Screen::new(quiet);
        let replay = Replay::open(path, options, &screen)?;
        headed(replay.header());
        return Ok(replay.profile()?);
    }
    if let Some(option) = args.given() {
        return Err(usage(format!("{option} is for recordings (perf.data), and {} is none", path.display())));
    }
    Ok(encode::read_file(path)?)
}

/// Refuses an option that means something for recordings alone, if the file is none.
///
/// # Errors
/// A line that says so.
pub fn needs_recording(path: &Path, option: &str) -> anyhow::Result<()> {
    if may_be_recording(path) || !(path == Path::new("-") || path.exists()) {
        return Ok(());
    }
    Err(usage(format!("{option} is for recordings (perf.data), and {} is none", path.display())))
}

/// Whether a file is read as a recording where there is a choice: one that begins so, or a FIFO, of which that cannot be told.
#[must_use]
pub fn may_be_recording(path: &Path) -> bool {
    let special = || std::fs::metadata(path).is_ok_and(|file| !file.is_file() && !file.is_dir());
    is_recording(path) || (path != Path::new("-") && special())
}

/// Whether a file begins as a recording does. What cannot be read is none: its reader tells why.
#[must_use]
pub fn is_recording(path: &Path) -> bool {
    if path == Path::new("-") {
        return io::stdin().lock().fill_buf().is_ok_and(PerfData::recognize);
    }
    if path.is_dir() {
        return is_recording(&path.join("data"));
    }
    let mut head = Vec::new();
    // A FIFO would lose what is looked at here.
    let regular = path.is_file();
    regular
        && sys::open_regular(None, path, true).and_then(|file| file.take(8).read_to_end(&mut head)).is_ok()
        && PerfData::recognize(&head)
}

/// Reads `FROM,TO` or `10%-20%`.
///
/// # Errors
/// If it is neither.
fn time_range(text: &str) -> Result<TimeRange, String> {
    let wrong = || format!("{text:?} is no range of time: FROM,TO in seconds, or 10%-20%");
    if let Some((from, to)) = text.split_once(',') {
        let bound = |text: &str| {
            let seconds = |text: &str| text.trim().parse::<f64>().ok().filter(|at| at.is_finite() && *at >= 0.0);
            if text.trim().is_empty() { Ok(None) } else { seconds(text).map(nanoseconds).map(Some).ok_or_else(wrong) }
        };
        return Ok(TimeRange::Between(bound(from)?, bound(to)?));
    }
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    let share = |text: &str| {
        let percent: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
        (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
    };
    match (share(from), share(to)) {
        (Some(from), Some(to)) if from <= to => Ok(TimeRange::Shares(from, to)),
        _ => Err(wrong()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are positive, and what is larger is the end"
)]
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}
