//! The two sides that `diff` and `gate` compare: files, folders of files, and times or labels of a directory of windows.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::bail;
use clap::Args;

use super::input::{self, RecordingArgs};
use super::show::{FilterArgs, printable};
use super::values::Span;
use super::{usage, when};
use crate::encode::{FORMATS, comparison};
use crate::ids::UnixNanos;
use crate::profile::MergeOptions;
use crate::profile::compare::gate::Unlike;
use crate::profile::compare::{CompareOptions, ENOUGH_WINDOWS, Normalize, SIDES, SideSummary};
use crate::store::{self, Compared, Limits, Query, Read, ReadFile, Selector, Side, SideOptions, Store};

/// Where `rprof record` and `perf record` move the recording that they would overwrite.
const PREVIOUS: &str = "perf.data.old";
/// What a side can be, for help and errors.
pub(super) const SIDE_HELP: &str = "A side is a file (pprof, folded stacks, perf.data), a folder or a quoted pattern of files ('runs/new-*.pb.gz'), or the windows of\n\
    a directory: DIR, DIR@FROM..TO (either may be left out), or @FROM..TO where `record --continuous` writes. Times are those of rprof query.\n\
    With --label KEY A B, sides are told apart by a label of samples (record --label): rprof diff DIR --label version v1 v2.";

/// What is compared, and by what.
#[derive(Args, Debug, Clone)]
pub struct SidesArgs {
    /// What it was before: FILE, 'PATTERN', DIR, DIR@FROM..TO [default: perf.data.old, with perf.data as NEW]
    #[arg(value_name = "BASE")]
    pub base: Option<String>,
    /// What it is now; with --label, the base's place if left out
    #[arg(value_name = "NEW")]
    pub new: Option<String>,
    /// Tell the sides apart by a label: its key, its value on the base, and on the new side
    #[arg(long, num_args = 2..=3, value_names = ["KEY", "BASE", "NEW"])]
    pub label: Vec<String>,
    /// Which samples of both sides, by labels: 'comm="nginx",container=~"web.*"'
    #[arg(long = "where", value_name = "SELECTOR", default_value = "")]
    pub selector: String,
    /// Of directories: what was counted: cpu, off_cpu, …
    #[arg(long)]
    pub kind: Option<String>,
    /// The value to compare (`samples`, `cpu`, …) instead of the profiles' own
    #[arg(long, alias = "sample_index", value_name = "NAME")]
    pub value: Option<String>,
    /// What values are divided by [default: cpus; share where files tell no duration]
    #[arg(long, value_enum, value_name = "BY")]
    pub normalize: Option<By>,
    /// Divide by the work that each side did (requests, bytes, rounds, …)
    #[arg(long, num_args = 2, value_names = ["BASE", "NEW"], conflicts_with = "normalize")]
    pub work: Vec<f64>,
    /// The share of false ones that is allowed among what counts as changed: 1%, 0.05
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = share)]
    pub fdr: f64,
    /// The confidence of intervals: 95%, 0.99
    #[arg(long, value_name = "SHARE", default_value = "95%", value_parser = share)]
    pub confidence: f64,
    /// Leave out so much from the start of each file; its samples have to tell their times (record --timestamps)
    #[arg(long, value_name = "TIME")]
    pub(super) warm_up: Option<Span>,
    /// Which stacks and frames
    #[command(flatten)]
    pub filters: FilterArgs,
    /// How recordings are read
    #[command(flatten)]
    pub recording: RecordingArgs,
}

/// What values are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// Time and CPUs: CPU-seconds per second and online CPU
    Cpus,
    /// The sum of all samples: only what part of it each function has
    Share,
    /// Nothing: values as they were counted
    Samples,
}

/// Where a side comes from.
enum Place {
    Directory(Store, Query),
    Files(Vec<PathBuf>, Selector),
}

impl Place {
    fn side<'a>(&'a self, read: &'a ReadFile<'a>) -> Side<'a> {
        match self {
            Place::Directory(store, query) => Side::Windows(store, query),
            Place::Files(paths, selector) => Side::Files { paths: paths.clone(), selector: selector.clone(), read },
        }
    }
}

impl SidesArgs {
    /// Reads both sides and compares them. `sums` keeps the sum of each side too.
    ///
    /// # Errors
    /// If a side means nothing, is empty or cannot be read, or the two do not fit together.
    pub fn compare(&self, sums: Option<MergeOptions>) -> anyhow::Result<Compared> {
        let options = SideOptions {
            compare: CompareOptions {
                normalize: self.normalization()?,
                false_discovery: self.fdr,
                confidence: self.confidence,
            },
            value: self.value.clone(),
            filter: self.filters.filter()?,
            warm_up: self.warm_up.map_or(0, |span| i64::try_from(span.0.as_nanos()).unwrap_or(i64::MAX)),
            sums,
            limits: Limits::default(),
        };
        let [base, new] = self.places()?;
        let read = |path: &Path| input::read(path, &self.recording_of(path), true).map_err(Into::into);
        Ok(store::compare(&base.side(&read), &new.side(&read), &options)?)
    }

    fn normalization(&self) -> anyhow::Result<Option<Normalize>> {
        if let [base, new] = self.work[..] {
            if ![base, new].iter().all(|units| units.is_finite() && *units > 0.0) {
                return Err(usage("--work takes two numbers above zero: what the base did, and what the new side did"));
            }
            return Ok(Some(Normalize::Work([base, new])));
        }
        Ok(self.normalize.map(|by| match by {
            By::Cpus => Normalize::Cpus,
            By::Share => Normalize::Share,
            By::Samples => Normalize::Samples,
        }))
    }

    /// The options of recordings mean nothing for other files; where one side is a recording and the other is none, that is fine.
    fn recording_of(&self, path: &Path) -> RecordingArgs {
        if input::is_recording(path) { self.recording.clone() } else { RecordingArgs::default() }
    }

    fn places(&self) -> anyhow::Result<[Place; 2]> {
        let labels = self.labels()?;
        let (base, new) = match (&self.base, &self.new) {
            (Some(base), Some(new)) => (base.clone(), new.clone()),
            (Some(both), None) if labels.is_some() => (both.clone(), both.clone()),
            (None, _) if labels.is_some() => ("@..".to_owned(), "@..".to_owned()),
            // As perf diff: the recording before, and the last one.
            (None, None) if [PREVIOUS, input::DEFAULT].iter().all(|file| Path::new(file).exists()) => {
                (PREVIOUS.to_owned(), input::DEFAULT.to_owned())
            }
            _ => return Err(usage(format!("name both sides: BASE and NEW\n{SIDE_HELP}"))),
        };
        let [old_label, new_label] = labels.map_or([None, None], |labels| labels.map(Some));
        Ok([self.place(&base, "base", old_label)?, self.place(&new, "new", new_label)?])
    }

    /// `--label KEY A B`, or `KEY=A B`: the key and the value of each side.
    fn labels(&self) -> anyhow::Result<Option<[(&str, &str); 2]>> {
        let parts = match &self.label[..] {
            [] => return Ok(None),
            [key, base, new] => Some((key.as_str(), base.as_str(), new.as_str())),
            [first, new] => first.split_once('=').map(|(key, base)| (key, base, new.as_str())),
            _ => None,
        };
        let Some((key, base, new)) = parts else {
            return Err(usage("write --label KEY BASE NEW, as in --label version v1 v2"));
        };
        Ok(Some([(key, base), (key, new)]))
    }

    fn place(&self, text: &str, side: &str, label: Option<(&str, &str)>) -> anyhow::Result<Place> {
        let mut selector = Selector::parse(&self.selector).map_err(usage)?;
        if let Some((key, value)) = label {
            selector = selector.of_version(key, value);
        }
        let path = Path::new(text);
        if text == "-" || path.is_file() || input::is_recording(path) {
            return self.files(vec![path.into()], selector);
        }
        if path.is_dir() {
            let files = files_of(path)?;
            if Store::holds_windows(path)? || files.is_empty() {
                return self.directory(path, "..", selector);
            }
            return self.files(files, selector);
        }
        if let Some((directory, times)) = directory_and_times(text) {
            return self.directory(&directory, times, selector);
        }
        let files = matching(text)?;
        if files.is_empty() {
            bail!("the {side} side: there is no file, folder or pattern of files {text:?}\n{SIDE_HELP}");
        }
        self.files(files, selector)
    }

    fn files(&self, paths: Vec<PathBuf>, selector: Selector) -> anyhow::Result<Place> {
        if self.kind.is_some() {
            return Err(usage("--kind chooses windows of a directory; a file has its values: choose one with --value"));
        }
        if let Some(key) = selector.keys().find(|key| Selector::is_of_window(key)) {
            return Err(usage(format!("files have no {key}: it selects windows of a directory")));
        }
        Ok(Place::Files(paths, selector))
    }

    fn directory(&self, directory: &Path, times: &str, selector: Selector) -> anyhow::Result<Place> {
        if self.warm_up.is_some() {
            return Err(usage("--warm-up is for files; let the time of a directory begin later: DIR@FROM..TO"));
        }
        let now = UnixNanos::from(SystemTime::now());
        let (from, to) = times.split_once("..").unwrap_or((times, ""));
        let time = |text: &str, otherwise| {
            let text = text.trim();
            if text.is_empty() { Ok(otherwise) } else { when::parse(text, now).map_err(usage) }
        };
        let range = time(from, UnixNanos(0))?..time(to, now)?;
        if range.is_empty() {
            return Err(usage(format!("the time {times:?} ends before it begins")));
        }
        let query = Query { range, kind: self.kind.clone(), selector };
        Ok(Place::Directory(Store::open(directory)?, query))
    }
}

/// `DIR@FROM..TO`; `DIR` may be left out, and times may hold `@` too.
fn directory_and_times(text: &str) -> Option<(PathBuf, &str)> {
    text.match_indices('@').find_map(|(at, _)| {
        let (directory, times) = (&text[..at], &text[at + 1..]);
        let directory = if directory.is_empty() { store::default_directory() } else { PathBuf::from(directory) };
        (times.contains("..") && directory.is_dir()).then_some((directory, times))
    })
}

/// The profiles of a folder: files with an ending of a format that can be read, and recordings.
fn files_of(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).map_err(|error| usage(format!("cannot list {}: {error}", folder.display())))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file() && is_profile(path))
        .collect();
    files.sort();
    Ok(files)
}

fn is_profile(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let readable = FORMATS.iter().filter(|format| format.read.is_some());
    let endings = readable.flat_map(|format| format.endings.iter().copied()).chain(["data"]);
    !name.starts_with('.') && endings.into_iter().any(|ending| name.ends_with(&format!(".{ending}")))
}

fn matching(pattern: &str) -> anyhow::Result<Vec<PathBuf>> {
    let paths = glob::glob(pattern).map_err(|error| usage(format!("{pattern:?} is no pattern of files: {error}")))?;
    Ok(paths.flatten().filter(|path| path.is_file()).collect())
}

/// Reads `5%` or `0.05`.
///
/// # Errors
/// If it is no share between 0 and 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |percent| (percent, 100.0));
    let share = number.trim().parse::<f64>().map(|number| number / scale).ok();
    share.filter(|share| *share > 0.0 && *share < 1.0).ok_or_else(|| format!("{text:?} is no share: write 1% or 0.01"))
}

/// What was compared, as comments above a table: both sides, their quality, and everything together.
pub(super) fn told(compared: &Compared) -> String {
    let comparison = &compared.comparison;
    let mut out = String::new();
    for ((name, side), read) in SIDES.iter().zip(&comparison.sides).zip(&compared.sides) {
        let _ = writeln!(out, "# {name}: {}", side_line(side));
        tell_gaps(read, &mut out);
    }
    let whole = &comparison.whole;
    let rate = |rate| comparison::rate(comparison, rate);
    let _ = writeln!(
        out,
        "# everything: {} → {}{} ({}, {} … {}){}",
        rate(whole.rate[0]),
        rate(whole.rate[1]),
        comparison::of_what(comparison),
        comparison::percent_of(whole.ratio),
        comparison::percent_of(whole.ratio_low),
        comparison::percent_of(whole.ratio_high),
        if whole.significant { "" } else { ": no more than chance makes" }
    );
    if !comparison.measured {
        let _ = writeln!(
            out,
            "# fewer than {ENOUGH_WINDOWS} sub-windows a side do not tell how much values vary: a tenth is assumed (record --timestamps)"
        );
    }
    comparison.remarks.iter().for_each(|remark| {
        let _ = writeln!(out, "# {}", printable(remark));
    });
    for Unlike(what) in comparison.unlike() {
        let _ = writeln!(out, "# unlike: {}", printable(&what));
    }
    out
}

fn side_line(side: &SideSummary) -> String {
    let plural = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let mut parts = vec![
        plural(side.about.profiles, "profile"),
        plural(side.windows, "sub-window"),
        format!("{:.1} s", side.seconds),
        format!("{:.0} samples", side.samples),
        format!("{:.2} % lost", side.lost_share() * 100.0),
    ];
    parts.extend(side.complete_share().map(|share| format!("{:.1} % whole stacks", share * 100.0)));
    parts.push(format!("{:.1} % without a name or root", side.unknown_share * 100.0));
    parts.join(", ")
}

fn tell_gaps(read: &Read, out: &mut String) {
    if let Some(plan) = &read.plan {
        let first = plan.rows.iter().map(|row| row.name.start).min();
        let last = plan.rows.iter().map(|row| row.name.end).max();
        if let (Some(first), Some(last)) = (first, last) {
            let windows = plan.rows.len();
            let _ =
                writeln!(out, "#   {windows} windows of {}, {}", printable(&plan.kind), when::show_span(first, last));
        }
    }
    for problem in read.unreadable.iter().take(5) {
        let _ = writeln!(out, "#   not counted: {}", printable(problem));
    }
}
