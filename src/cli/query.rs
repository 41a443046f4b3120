//! `rprof query`: what a directory of windows, or one file, tells of a time.

mod none;
mod series;

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::show::{self, Counts, Granularity, PartArgs, ShowArgs, amount, percent, printable};
use super::{UsageError, usage};
use crate::encode::{Format, ReadOptions, WriteOptions, write_file_with};
use crate::ids::UnixNanos;
use crate::profile::{KeptLabels, KindQuality, MergeOptions, PROCESS_LABEL, Profile, Quality};
use crate::store::{self, Answer, By, Level, Limits, Plan, Query, Selector, Sum, Windows};
use crate::when;

/// Gaps that are listed; of more, only their number is told.
const MAX_GAPS: usize = 5;
/// Labels that stay in the profile that `--pprof` writes: who, but not which thread and which moment.
const DROPPED_LABELS: [&str; 2] = ["tid", store::TIMESTAMP];

/// Show what recorded windows tell of a time: functions, trees, flame graphs, values over time
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Times: now, now-1h, -15m, 14:32, 'yesterday 14:32', 2026-11-23, 2026-11-23T14:30[:05][Z|+01:00], @UNIX.\n\
    Without any, the last hour. pprof's options may have one dash."
)]
pub struct QueryArgs {
    /// A directory of windows, or one profile; without, where `record --continuous` writes
    pub path: Option<PathBuf>,
    /// What of it
    #[command(flatten)]
    pub asked: AskArgs,
    /// A table of functions, this many of them
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = false)]
    pub top: Option<Option<usize>>,
    /// Folded stacks, to a file or the standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub folded: Option<PathBuf>,
    /// A flame graph, to a file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// A pprof file
    #[arg(long, value_name = "FILE")]
    pub pprof: Option<PathBuf>,
    /// The sum in a file, of the format that its ending names
    #[arg(short, long, value_name = "FILE", conflicts_with = "series")]
    pub output: Option<PathBuf>,
    /// The table, or the series, as JSON
    #[arg(long)]
    pub json: bool,
    /// Values over time, from the index alone
    #[arg(long, conflicts_with_all = ["top", "folded", "svg", "pprof", "tree", "peek", "callers", "callees"])]
    pub series: bool,
    /// The series as comma-separated values
    #[arg(long, requires = "series", conflicts_with = "json")]
    pub csv: bool,
    /// What there is a series for each of: process, pid, container, unit, host, or a label that `record --label` gave
    #[arg(long, value_name = "LABEL", default_value = "", hide_default_value = true, requires = "series")]
    pub by: By,
    /// The time between two values of a series
    #[arg(long, value_name = "DURATION", requires = "series")]
    pub step: Option<String>,
    /// What of it is shown
    #[command(flatten)]
    pub show: ShowArgs,
}

/// Which windows, and what of them.
#[derive(Args, Debug, Clone)]
pub struct AskArgs {
    /// From this time on
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Until this time, which is now without
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// What lies around this time, half of the width before and half behind
    #[arg(long, value_name = "TIME", conflicts_with_all = ["from", "to"], allow_hyphen_values = true)]
    pub around: Option<String>,
    /// How much time: 2m around a time, 1h before now (--last 1h says the same)
    #[arg(long, alias = "last", value_name = "DURATION", conflicts_with = "to")]
    pub width: Option<String>,
    /// What was counted: cpu, page_faults, …
    #[arg(long)]
    pub kind: Option<String>,
    /// Which samples, by labels: 'comm="nginx",container=~"web.*",pid!=12'; also host, kind, source
    #[arg(long = "where", value_name = "SELECTOR", default_value = "")]
    pub selector: String,
}

/// Answers a query.
///
/// # Errors
/// If there is no such directory, nothing in it of that time, or the question means nothing.
pub fn run(args: &QueryArgs) -> anyhow::Result<()> {
    if args.show.keys().is_some() {
        return Err(usage("--sort of a query takes self or total; a table by keys is of: rprof report --sort"));
    }
    refuse_what_makes_no_sense(args)?;
    let path = args.path.clone().unwrap_or_else(store::default_directory);
    let opened = Windows::open(&path);
    let source = if args.path.is_none() {
        opened.context("nothing was recorded there yet; name the directory, or run: rprof record -a --continuous")?
    } else {
        opened?
    };
    let (query, plan) = args.asked.plan(&source)?;
    if !args.series {
        return sum(args, &query, plan, &source);
    }
    let parts = query.plan(&source.rows_for_series(&query)?);
    series::run(args, &query, &plan, &parts.rows)
}

impl AskArgs {
    /// The question, and the windows that answer it.
    fn plan(&self, source: &Windows) -> anyhow::Result<(Query, Plan)> {
        let query = Query {
            range: self.range(source)?,
            kind: self.kind.clone(),
            selector: Selector::parse(&self.selector).map_err(|error| UsageError(error.to_string()))?,
        };
        let plan = query.plan(&source.rows(&query)?);
        if plan.rows.is_empty() {
            bail!(source.nothing(&query, &plan));
        }
        Ok((query, plan))
    }

    /// The asked time. A file without a question is shown whole.
    fn range(&self, source: &Windows) -> anyhow::Result<Range<UnixNanos>> {
        let asked = when::Asked {
            from: self.from.as_deref(),
            to: self.to.as_deref(),
            around: self.around.as_deref(),
            width: self.width.as_deref(),
        };
        match source.file_range() {
            Some(range) if asked.is_empty() => Ok(range),
            _ => asked.range(UnixNanos::from(SystemTime::now())).map_err(|problem| UsageError(problem).into()),
        }
    }

    /// The first option that asks for a part of a directory.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--from", self.from.is_some()),
            ("--to", self.to.is_some()),
            ("--around", self.around.is_some()),
            ("--width", self.width.is_some()),
            ("--kind", self.kind.is_some()),
            ("--where", !self.selector.is_empty()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

/// What a directory tells of an asked time.
pub(super) struct Told {
    /// All of it, as functions.
    pub(super) profile: Profile,
    /// For each column, what shares are of.
    pub(super) totals: Vec<i128>,
    /// Nanoseconds that were sampled.
    pub(super) covered: i64,
    /// What it is of, and what is missing, in lines.
    pub(super) remarks: Vec<String>,
}

/// Adds up what was asked for of a directory.
///
/// # Errors
/// As of [`run`].
pub(super) fn ask(directory: &Path, asked: &AskArgs, part: &PartArgs) -> anyhow::Result<Told> {
    let source = Windows::open(directory)?;
    let (query, plan) = asked.plan(&source)?;
    let sum = add_up(part, &merge_options(part, &[PROCESS_LABEL]), &query, plan, &source)?;
    let remarks =
        head(&query, &sum, sum.column()).lines().map(|line| line.trim_start_matches("# ").to_owned()).collect();
    let Sum { answer: Answer { profile, totals, .. }, covered, .. } = sum;
    Ok(Told { profile, totals, covered, remarks })
}

fn refuse_what_makes_no_sense(args: &QueryArgs) -> anyhow::Result<()> {
    let files = [&args.folded, &args.svg, &args.pprof, &args.output].iter().filter(|file| file.is_some()).count();
    let problem = if args.show.mean && (args.series || files > 0) {
        "--mean is for tables of functions"
    } else if args.json && !args.series && (args.show.tree || args.show.peek.is_some()) {
        "--json is for the table and for series; a tree of calls is in the profile that --pprof writes"
    } else if args.json && files > 0 {
        "--json and a file exclude one another"
    } else {
        return Ok(());
    };
    Err(UsageError(problem.into()).into())
}

/// Adds the windows up, and shows or writes the sum.
fn sum(args: &QueryArgs, query: &Query, plan: Plan, source: &Windows) -> anyhow::Result<()> {
    let writes = args.folded.is_some() || args.svg.is_some() || args.pprof.is_some() || args.output.is_some();
    let options = if args.pprof.is_some() || args.output.is_some() {
        let labels = KeptLabels::AllBut(DROPPED_LABELS.map(str::to_owned).into());
        MergeOptions { labels, functions_only: false }
    } else {
        merge_options(&args.show.part, if writes { &[PROCESS_LABEL] } else { &[] })
    };
    let sum = add_up(&args.show.part, &options, query, plan, source)?;
    if writes {
        return write(args, &sum, query);
    }
    // A directory whose windows were all passed over by their totals has no column, and no sample either.
    let column = args.show.part.column(&sum.answer.profile)?;
    let text = if args.json { table_json(args, query, &sum, column)? } else { table(args, query, &sum, column)? };
    show::print(&text)
}

/// Adds windows up, and leaves the part that was asked for.
fn add_up(part: &PartArgs, options: &MergeOptions, query: &Query, plan: Plan, source: &Windows) -> anyhow::Result<Sum> {
    let filter = part.filters.filter()?;
    let unit = part.unit.as_deref();
    let labels = if filter.reads_labels() { KeptLabels::All } else { options.labels.clone() };
    let mut sum = source.sum(
        query,
        plan,
        options,
        &ReadOptions { labels },
        &|profile| filter.add_tag_frames(profile, unit),
        &|profile| filter.apply_to_samples(profile),
        &Limits::default(),
    )?;
    let asks = query.selector.keys().next().is_some();
    if sum.answer.profile.samples.is_empty() && asks && !filter.selects() {
        return Err(none::none_selected(source, query, sum.plan));
    }
    filter.apply_to_frames(&mut sum.answer.profile);
    if filter.selects() {
        sum.answer.profile.merge_equal_samples();
    }
    Ok(sum)
}

/// Tables tell neither labels nor addresses, and flame graphs of labels only the process; a pprof file tells all of them.
fn merge_options(part: &PartArgs, labels: &[&str]) -> MergeOptions {
    let by_place = matches!(part.granularity, Some(Granularity::Lines | Granularity::Addresses));
    let labels = KeptLabels::Only(labels.iter().map(|&key| key.to_owned()).collect());
    MergeOptions { labels, functions_only: !by_place }
}

fn write(args: &QueryArgs, sum: &Sum, query: &Query) -> anyhow::Result<()> {
    let named = |name: &str| Format::by_name(name).map_err(anyhow::Error::from);
    let mut files: Vec<(&PathBuf, &'static Format)> = Vec::new();
    for (file, name) in [(&args.folded, "folded"), (&args.svg, "flamegraph"), (&args.pprof, "pprof")] {
        if let Some(file) = file {
            files.push((file, named(name)?));
        }
    }
    if let Some(file) = &args.output {
        files.push((file, Format::for_path(file)?));
    }
    let column = args.show.part.column(&sum.answer.profile)?;
    let kind = sum.answer.profile.sample_types.get(column);
    let options = WriteOptions { value: kind.map(|kind| sum.answer.profile.text(kind.name).to_owned()) };
    for (file, format) in files {
        write_file_with(file, format, &sum.answer.profile, &options)?;
    }
    say(&head(query, sum, column));
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the standard output may be the profile")]
fn say(text: &str) {
    eprint!("{}", show::printable_lines(text));
}

fn table(args: &QueryArgs, query: &Query, sum: &Sum, column: usize) -> anyhow::Result<String> {
    let mut out = head(query, sum, column);
    let counts = counts(args, sum, column);
    let profile = &sum.answer.profile;
    let mut parts = Vec::new();
    if counts.in_cpus() {
        parts.push(format!("{} CPUs", counts.amount(profile.total(column))));
    }
    parts.push(format!("{} {}", counts.value, amount(profile.total(column), &counts.unit)));
    if let Some(count) = profile.count_column().filter(|&count| count != column) {
        parts.push(format!("{} samples", amount(profile.total(count), "")));
    }
    // What was lost is told with the time that is covered.
    parts.extend(show::quality_in_words(profile, column).into_iter().skip(1));
    let _ = writeln!(out, "# {}", parts.join(", "));
    if counts.total != profile.total(column) {
        let share = percent(profile.total(column), counts.total);
        let _ = writeln!(out, "# filters leave {share}; shares are of all");
    }
    out.push('\n');
    let mut show = args.show.clone();
    show.limit = args.top.flatten().unwrap_or(show.limit);
    show::body(&counts, &show, show::width(), &mut out)?;
    Ok(out)
}

fn counts(args: &QueryArgs, sum: &Sum, column: usize) -> Counts {
    let all = sum.answer.totals.get(column).copied().unwrap_or(0);
    let total = if args.show.part.relative_percentages { sum.answer.profile.total(column) } else { all };
    Counts::new(&sum.answer.profile, column, total, &args.show.part).in_cpus_over(sum.covered)
}

/// What part of the asked time the answer is of, and what is wrong with it.
fn head(query: &Query, sum: &Sum, column: usize) -> String {
    let mut out = coverage(query, &sum.plan, &sum.counted(column));
    let answer = &sum.answer;
    if answer.cut > 0 {
        let _ = writeln!(out, "# {} cut to the asked time by the times of their samples", windows(answer.cut));
    }
    for level in [Level::Window, Level::FiveMinutes, Level::Hour] {
        let number =
            sum.plan.sticking_out(query, level).saturating_sub(if level == Level::Window { answer.cut } else { 0 });
        if number > 0 {
            let merged = if level == Level::Window { String::new() } else { format!(" merged ({})", level.name()) };
            let _ = writeln!(out, "# {}{merged} reach beyond the asked time and count whole", windows(number));
        }
    }
    for problem in answer.unreadable.iter().take(MAX_GAPS) {
        let _ = writeln!(out, "# not counted: {}", printable(problem));
    }
    if answer.unreadable.len() > MAX_GAPS {
        let _ = writeln!(out, "# not counted: {} more", answer.unreadable.len() - MAX_GAPS);
    }
    out
}

/// `# 2026-11-23 14:31:00–14:33:00 CET: 2 windows of cpu cover 118 s of 120 s; 0.2 % lost`, the gaps, and what was passed over.
fn coverage(query: &Query, plan: &Plan, counted: &KindQuality) -> String {
    let mut out = String::new();
    let asked = query.range.end.0 - query.range.start.0;
    let span = when::show_span(query.range.start, query.range.end);
    let _ = write!(
        out,
        "# {span}: {} of {} cover {} of {}",
        windows(plan.rows.len()),
        printable(&plan.kind),
        seconds(asked - plan.missing()),
        seconds(asked)
    );
    let _ = writeln!(out, "; {} lost", counted.lost_percent());
    if plan.hosts.len() > 1 {
        let hosts = plan.hosts.iter().map(|host| printable(host)).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "# {} hosts: {hosts}", plan.hosts.len());
    }
    if plan.gaps.len() > MAX_GAPS {
        let _ = writeln!(out, "# {} gaps, {} in all", plan.gaps.len(), seconds(plan.missing()));
    } else {
        for gap in &plan.gaps {
            let _ = writeln!(out, "# no data {}", when::show_span(gap.start, gap.end));
        }
    }
    if plan.snapshots_left_out > 0 {
        let _ = writeln!(
            out,
            "# {} snapshots of the same time are left out; --where source=snapshot shows them",
            plan.snapshots_left_out
        );
    }
    out
}

/// Seconds, with one decimal if that tells more.
#[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn seconds(nanos: i64) -> String {
    let text = format!("{:.1}", nanos as f64 / 1e9);
    format!("{} s", text.trim_end_matches(".0"))
}

fn windows(number: usize) -> String {
    format!("{number} window{}", if number == 1 { "" } else { "s" })
}

fn table_json(args: &QueryArgs, query: &Query, sum: &Sum, column: usize) -> anyhow::Result<String> {
    let counts = counts(args, sum, column);
    let limit = args.top.flatten().unwrap_or(args.show.limit);
    let sums = show::functions(&counts);
    let order = show::order(&sums, &counts, &args.show.listing());
    let shown = if limit == 0 { order.len() } else { limit.min(order.len()) };
    let functions = show::functions_json(&counts, &sums, &order[..shown], sum.covered);
    let (profile, counted) = (&sum.answer.profile, sum.counted(column));
    let mut document = sum.plan.to_json(query);
    document["lost"] = json!(counted.lost);
    document["lost_share"] = json!(counted.lost_share());
    document["unnamed_share"] = json!(counted.unnamed_share());
    document["complete_share"] = json!(Quality::of(profile).and_then(|quality| quality.complete_share()));
    document["value"] = json!({ "name": counts.value, "unit": counts.unit });
    document["total"] = json!(show::number(sum.answer.profile.total(column)));
    document["all"] = json!(show::number(counts.total));
    document["covered_nanos"] = json!(sum.covered);
    document["unreadable"] = json!(sum.answer.unreadable);
    document["functions_left_out"] = json!(order.len() - shown);
    document["functions"] = functions;
    Ok(format!("{}\n", serde_json::to_string_pretty(&document)?))
}
