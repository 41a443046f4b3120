//! `rprof view`: a profile to move about in, in the terminal.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use super::input::{self, RecordingArgs};
use super::query::{self, AskArgs};
use super::show::{Counts, PartArgs, Sort, amount};
use super::terminal::theme::Theme;
use super::terminal::{self, Fact, Head, News, Options, Span, Subject, View};
use super::{show, usage};
use crate::profile::{Profile, Quality, converts};

/// Show a profile in the terminal, to move about in: flame graph, table of functions, callers and callees
///
/// Keys: Tab the next view, arrows move, Enter zooms, / searches, ? tells all others. The mouse works too.
#[derive(Args, Debug, Clone)]
pub struct ViewArgs {
    /// The profile: a recording (perf.data), pprof or folded stacks, told by content; `-` is the standard input; or a directory of
    /// windows [default: perf.data]
    pub path: Option<PathBuf>,
    /// Begin with the table of functions
    #[arg(long)]
    pub table: bool,
    /// Begin with functions that match
    #[arg(long, value_name = "REGEX")]
    pub search: Option<String>,
    /// Colours for a dark or a light background, or none
    #[arg(long, value_enum, default_value_t)]
    pub theme: Theme,
    /// How a recording is read
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// What of a directory
    #[command(flatten)]
    pub asked: AskArgs,
    /// What part of it
    #[command(flatten)]
    pub part: PartArgs,
}

/// Shows a profile until the user has seen enough. Answers the exit status.
///
/// # Errors
/// If the file is no profile, or the standard output no terminal.
pub fn run(args: &ViewArgs) -> anyhow::Result<i32> {
    if !terminal::can_draw() {
        bail!("view draws on a terminal, and this is none; rprof report prints the same as text");
    }
    let path = args.path.clone().unwrap_or_else(|| input::DEFAULT.into());
    let search = args.search.as_deref().map(terminal::compile).transpose();
    let search = search.map_err(|error| usage(format!("--search: {error}")))?.flatten();
    let subject = Still::read(&path, args)?;
    let options = Options {
        view: if args.table { View::Table } else { View::Flame },
        sort: Sort::Own,
        theme: args.theme,
        search,
        span: Span::All,
    };
    let title = format!("rprof view {}", show::printable(&path.to_string_lossy()));
    let signal = terminal::run(&title, Box::new(subject), options, News::none())?;
    Ok(signal.map_or(0, |signal| 128 + signal))
}

/// A profile that stays as it is.
struct Still {
    name: String,
    profile: Profile,
    part: PartArgs,
    /// The columns that can be shown, and what shares of each are of.
    columns: Vec<(usize, i128)>,
    first: usize,
    /// Nanoseconds by which times are told as CPUs; 0 for none.
    covered: i64,
    remarks: Vec<String>,
}

impl Still {
    fn read(path: &Path, args: &ViewArgs) -> anyhow::Result<Still> {
        let part = &args.part;
        let (profile, totals, covered, remarks, first);
        if path.is_dir() && !input::is_recording(path) {
            let told = query::ask(path, &args.asked, part)?;
            (profile, totals, covered) = (told.profile, told.totals, told.covered);
            remarks = told.remarks;
            first = part.column(&profile)?;
        } else {
            if let Some(option) = args.asked.given() {
                bail!(usage(format!("{option} is for a directory of windows, and {} is a file", path.display())));
            }
            let mut read = input::read(path, &args.recording, false)?;
            totals = (0..read.sample_types.len()).map(|column| read.total(column)).collect();
            first = part.apply(&mut read)?.0;
            covered = 0;
            remarks = read.remarks().map(show::printable).collect();
            profile = read;
        }
        let unit = |column: usize| profile.text(profile.sample_types[column].unit);
        let is_told = |column: &usize| part.unit.as_deref().is_none_or(|wanted| converts(unit(*column), wanted));
        let total = |column: usize| {
            let all = totals.get(column).copied().filter(|_| !part.relative_percentages);
            all.unwrap_or_else(|| profile.total(column))
        };
        let columns: Vec<(usize, i128)> =
            (0..profile.sample_types.len()).filter(is_told).map(|column| (column, total(column))).collect();
        let name = show::printable(&path.to_string_lossy());
        let first = columns.iter().position(|(column, _)| *column == first).unwrap_or(0);
        Ok(Still { name, part: part.clone(), columns, first, covered, remarks, profile })
    }
}

impl Subject for Still {
    fn kinds(&self) -> Vec<String> {
        let name = |column: usize| self.profile.text(self.profile.sample_types[column].name).to_owned();
        self.columns.iter().map(|(column, _)| name(*column)).collect()
    }

    fn first_kind(&self) -> usize {
        self.first
    }

    fn counts(&self, kind: usize, _span: Span) -> anyhow::Result<Option<Counts>> {
        let Some(&(column, total)) = self.columns.get(kind) else { return Ok(None) };
        Ok(Some(Counts::new(&self.profile, column, total, &self.part).in_cpus_over(self.covered)))
    }

    fn head(&self, kind: usize, _span: Span, counts: Option<&Counts>) -> Head {
        let mut facts = Vec::new();
        if let Some((counts, &(column, _))) = counts.zip(self.columns.get(kind)) {
            let total = self.profile.total(column);
            facts.push(Fact::plain(format!("{} {}", show::printable(&counts.value), counts.amount(total))));
            if total != counts.total {
                facts.push(Fact::plain(format!("{} of all", counts.percent(total))));
            }
        }
        let column = self.columns.get(kind).map(|(column, _)| *column);
        if let Some(count) = self.profile.count_column().filter(|&count| column != Some(count)) {
            facts.push(Fact::plain(format!("{} samples", amount(self.profile.total(count), ""))));
        }
        facts.extend(quality_facts(&self.profile, column.unwrap_or(0)));
        if self.profile.duration_nanos > 0 {
            facts.push(Fact::plain(format!("{} long", amount(self.profile.duration_nanos.into(), "nanoseconds"))));
        }
        if self.columns.len() > 1 {
            facts.push(Fact::plain(format!("e: {} more values", self.columns.len() - 1)));
        }
        Head { title: format!("rprof view {}", self.name), facts }
    }

    fn messages(&self) -> &[String] {
        &self.remarks
    }
}

/// What is said of losses: what of them makes the rest doubtful stands out.
pub(super) fn quality_facts(profile: &Profile, column: usize) -> Vec<Fact> {
    let Some(quality) = Quality::of(profile) else { return Vec::new() };
    let counted = quality.of_column(profile, column);
    let mut facts = vec![Fact {
        text: show::lost(counted.lost, &counted.lost_percent()),
        is_wrong: counted.lost_share() >= DOUBTFUL,
    }];
    let is_cut = quality.complete_share().is_some_and(|share| share < 1.0 - DOUBTFUL);
    facts.extend(show::complete(&quality).map(|text| Fact { text, is_wrong: is_cut }));
    facts
}

/// A share that is lost or cut, above which it is pointed out.
const DOUBTFUL: f64 = 0.05;
