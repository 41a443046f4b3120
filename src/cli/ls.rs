//! `rprof ls`: what a directory of windows holds, by hours or days, or file by file.

use std::ops::Range;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::show::{self, amount, printable};
use super::{UsageError, when};
use crate::ids::UnixNanos;
use crate::store::{self, Damaged, Listing, Row, Source, Store};

/// Beyond so much time lines are days instead of hours.
const HOURS_UP_TO: i64 = 50 * 3600 * SECOND;
const SECOND: i64 = 1_000_000_000;

/// List the windows of a directory: what time has data, how much CPU was used, what they take on disk
#[derive(Args, Debug, Clone)]
pub struct LsArgs {
    /// The directory [default: /var/lib/rprof, ~/.local/state/rprof for other users than root]
    pub directory: Option<PathBuf>,
    /// Only windows that end after this time: now-1h, 14:32, 2026-11-23, @1795444200
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only windows that begin before this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Only windows of this kind (`cpu`, `page_faults`, …); may be given more than once
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<String>,
    /// A line for each file
    #[arg(short = 'l', long)]
    pub long: bool,
    /// All that is known of each file, as a JSON array
    #[arg(long, conflicts_with = "long")]
    pub json: bool,
}

/// Lists windows. A reader that has seen enough (a closed pipe) is no error.
///
/// # Errors
/// If the directory cannot be read, or a time is not understood.
pub fn run(args: &LsArgs) -> anyhow::Result<()> {
    let store = Store::open(&args.directory.clone().unwrap_or_else(store::default_directory))?;
    let range = range(args)?;
    let mut listing = store.list(range)?;
    let wanted = |row: &Row| args.kind.is_empty() || args.kind.contains(&row.name.kind);
    listing.rows.retain(wanted);
    listing.damaged.retain(|damaged| wanted(&damaged.row));
    let text = if args.json { json_text(&listing) } else { table(&listing, &store, args.long) };
    show::print(&text)
}

fn range(args: &LsArgs) -> anyhow::Result<Range<UnixNanos>> {
    let now = UnixNanos::from(SystemTime::now());
    let time = |text: &Option<String>, or: i64| match text {
        Some(text) => when::parse(text, now).map_err(UsageError),
        None => Ok(UnixNanos(or)),
    };
    Ok(time(&args.from, i64::MIN)?..time(&args.to, i64::MAX)?)
}

fn json_text(listing: &Listing) -> String {
    let damaged = listing.damaged.iter().map(|Damaged { row, reason }| {
        let mut object = json_of(row);
        object["damaged"] = json!(reason);
        object
    });
    let all: Vec<Value> = listing.rows.iter().map(json_of).chain(damaged).collect();
    format!("{:#}\n", Value::from(all))
}

fn json_of(row: &Row) -> Value {
    let time = |time: UnixNanos| timestamp(time).to_string();
    json!({
        "path": row.path.to_string_lossy(),
        "host": row.name.host,
        "kind": row.name.kind,
        "source": row.name.source.name(),
        "level": row.name.level.name(),
        "start": time(row.name.start),
        "end": time(row.name.end),
        "bytes": row.bytes,
        "pinned": row.pinned,
        "unit": row.summary.unit,
        "covered_nanoseconds": row.summary.covered,
        "cpus": row.summary.cpus,
        "frequency": row.summary.frequency,
        "samples": row.summary.samples,
        "value": row.summary.value,
        "lost": row.summary.lost,
        "lost_share": row.summary.counted().lost_share(),
        "processes": row.summary.totals.len(),
    })
}

fn table(listing: &Listing, store: &Store, long: bool) -> String {
    let mut out = String::new();
    if listing.rows.is_empty() {
        out.push_str(&format!("no windows in {}\n", store.directory().display()));
    } else if long {
        out.push_str(&columns(&files(&listing.rows)));
    } else {
        out.push_str(&columns(&periods(&listing.rows)));
    }
    let damaged: Vec<&Damaged> = listing.damaged.iter().collect();
    if !damaged.is_empty() {
        out.push_str(&format!(
            "\n{} files cannot be read; remove them, or bring them back from a copy:\n",
            damaged.len()
        ));
    }
    for Damaged { row, reason } in damaged {
        out.push_str(&format!("  {}: {}\n", row.path.display(), printable(reason)));
    }
    out
}

fn files(rows: &[Row]) -> Vec<Vec<String>> {
    let headings = ["TIME", "KIND", "HOLDS", "CPUS", "SAMPLES", "LOST", "SIZE", "PIN", "FILE"];
    let line = |row: &Row| {
        let holds = match row.name.source {
            Source::Recorder => row.name.level.name().to_owned(),
            Source::Snapshot => format!("{} {}", row.name.source.name(), row.name.level.name()),
        };
        vec![
            when::show_span(row.name.start, row.name.end),
            row.name.kind.clone(),
            holds,
            cpus(row.summary.value.into(), row.summary.covered.into(), &row.summary.unit),
            amount(row.summary.samples.into(), ""),
            format!("{} ({})", amount(row.summary.lost.into(), ""), row.summary.counted().lost_percent()),
            amount(row.bytes.into(), "bytes"),
            if row.pinned { "pinned".into() } else { String::new() },
            row.path.display().to_string(),
        ]
    };
    std::iter::once(headings.map(str::to_owned).into()).chain(rows.iter().map(line)).collect()
}

/// The windows of an hour or a day of one host, kind and source.
#[derive(Default)]
struct Period {
    windows: usize,
    covered: i128,
    value: i128,
    unit: String,
    bytes: u64,
    pinned: usize,
    gaps: usize,
    missing: i128,
}

impl Period {
    /// Adds a window, and the time without any before it.
    fn add(&mut self, row: &Row, gap: i64) {
        self.windows += 1;
        self.covered += i128::from(row.summary.covered);
        self.value += i128::from(row.summary.value);
        self.unit.clone_from(&row.summary.unit);
        self.bytes += row.bytes;
        self.pinned += usize::from(row.pinned);
        self.gaps += usize::from(gap > 0);
        self.missing += i128::from(gap.max(0));
    }
}

/// What tells lines of the table apart, in their order.
type PeriodKey<'a> = (String, &'a str, &'a str, Source);

fn periods(rows: &[Row]) -> Vec<Vec<String>> {
    let mut periods: std::collections::BTreeMap<PeriodKey<'_>, Period> = std::collections::BTreeMap::new();
    let mut ends = std::collections::BTreeMap::new();
    let format = period_format(rows);
    for row in rows {
        let name = &row.name;
        let end = ends.entry((&name.host, &name.kind, name.source)).or_insert(name.start);
        let gap = name.start.0.saturating_sub(end.0);
        *end = name.last().max(*end);
        let key = (local(name.start, format), &*name.kind, &*name.host, name.source);
        periods.entry(key).or_default().add(row, gap);
    }
    let headings = ["TIME", "KIND", "HOST", "WINDOWS", "COVERED", "GAPS", "CPUS", "SIZE", "PINNED"];
    let line = |((time, kind, host, source), period): (&PeriodKey<'_>, &Period)| {
        // Between snapshots nothing was meant to be recorded.
        let gaps = match (source, period.gaps) {
            (Source::Snapshot, _) | (_, 0) => String::new(),
            (_, gaps) => format!("{gaps} ({})", span(period.missing)),
        };
        let of = if *source == Source::Snapshot { format!("{kind} snapshot") } else { (*kind).to_owned() };
        vec![
            time.clone(),
            of,
            (*host).to_owned(),
            amount(period.windows as i128, ""),
            span(period.covered),
            gaps,
            cpus(period.value, period.covered, &period.unit),
            amount(period.bytes.into(), "bytes"),
            if period.pinned > 0 { period.pinned.to_string() } else { String::new() },
        ]
    };
    std::iter::once(headings.map(str::to_owned).into()).chain(periods.iter().map(line)).collect()
}

fn period_format(rows: &[Row]) -> &'static str {
    let start = rows.iter().map(|row| row.name.start.0).min().unwrap_or(0);
    let end = rows.iter().map(|row| row.name.last().0).max().unwrap_or(0);
    if end.saturating_sub(start) <= HOURS_UP_TO { "%Y-%m-%d %H:00 %Z" } else { "%Y-%m-%d" }
}

fn local(time: UnixNanos, format: &str) -> String {
    timestamp(time).to_zoned_datetime(TimeZone::system()).strftime(format).to_string()
}

fn timestamp(time: UnixNanos) -> Timestamp {
    Timestamp::from_nanosecond(time.0.into()).unwrap_or_default()
}

/// CPUs used on average, where time was counted.
#[allow(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn cpus(value: i128, covered: i128, unit: &str) -> String {
    if unit != "nanoseconds" || covered <= 0 {
        return "-".into();
    }
    format!("{:.2}", value as f64 / covered as f64)
}

/// A length of time in its two largest units.
fn span(nanoseconds: i128) -> String {
    let seconds = nanoseconds / i128::from(SECOND);
    match seconds {
        86_400.. => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
        3600.. => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        60.. => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => amount(nanoseconds, "nanoseconds"),
    }
}

/// Lines with their cells in columns as wide as needed. A column that is empty below its heading is left out.
fn columns(lines: &[Vec<String>]) -> String {
    let count = lines.first().map_or(0, Vec::len);
    let is_used = |&column: &usize| lines[1..].iter().any(|line| !line[column].is_empty());
    let used: Vec<usize> = (0..count).filter(is_used).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for line in lines {
        let cells = used.iter().map(|&column| (&line[column], width(column), is_number(&lines[0][column])));
        let padded =
            cells.map(|(cell, width, right)| if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") });
        out.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn is_number(heading: &str) -> bool {
    ["WINDOWS", "COVERED", "GAPS", "CPUS", "SIZE", "PINNED", "SAMPLES", "LOST"].contains(&heading)
}
