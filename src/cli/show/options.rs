//! The options that `report` and `query` share: what of a profile is shown, in pprof's spellings.

use std::ffi::OsString;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use regex::Regex;

use super::filters::FilterArgs;
use crate::cli::UsageError;
use crate::cli::overhead::Column;
use crate::profile::{Filter, Profile, converts};

/// Options that pprof spells with one dash. Both commands take them with one dash or two.
const PPROF: &[&str] = &[
    "focus",
    "ignore",
    "hide",
    "show",
    "show_from",
    "prune_from",
    "tagfocus",
    "tagignore",
    "tagroot",
    "tagleaf",
    "tagshow",
    "taghide",
    "sample_index",
    "cum",
    "flat",
    "nodecount",
    "nodefraction",
    "granularity",
    "noinlines",
    "relative_percentages",
    "unit",
    "mean",
    "top",
    "tree",
    "peek",
    "svg",
];

/// The granularities, which pprof has as options of their own.
const GRANULARITIES: [&str; 5] = ["functions", "filefunctions", "files", "lines", "addresses"];

/// Puts a second dash before pprof's options that have one. What follows `--` is left alone. perf's `-n` of a report has no number; ours
/// has one.
pub(in crate::cli) fn with_two_dashes(words: Vec<OsString>) -> Vec<OsString> {
    let mut ended = false;
    let is_report = words.get(1).is_some_and(|command| command == "report");
    let is_number = |word: &OsString| word.to_str().is_some_and(|word| word.parse::<usize>().is_ok());
    let numbered: Vec<bool> = words.iter().skip(1).map(is_number).chain([false]).collect();
    let spell = |(word, has_number): (OsString, bool)| {
        ended |= word == "--";
        if is_report && !ended && !has_number && word == "-n" {
            return "--show-nr-samples".into();
        }
        let text = word.to_str().unwrap_or_default();
        let bare = text.strip_prefix('-').map(|bare| bare.strip_prefix('-').unwrap_or(bare));
        match bare.filter(|_| !ended) {
            Some(choice) if GRANULARITIES.contains(&choice) => format!("--granularity={choice}").into(),
            Some(option) if PPROF.contains(&option.split('=').next().unwrap_or(option)) => format!("--{option}").into(),
            _ => word,
        }
    };
    words.into_iter().zip(numbered).map(spell).collect()
}

/// What of a profile is shown, and how.
#[derive(Args, Debug, Clone)]
pub struct ShowArgs {
    /// What functions are sorted by: self or total. Of a report: what rows of perf's table are told apart by (comm, dso, symbol, pid, tgid,
    /// tid) and sorted by (overhead, sample, period too)
    #[arg(short, long, value_name = "KEYS", default_value = "self")]
    pub sort: SortBy,
    /// Sort functions by themselves and all that they called: `--sort total`
    #[arg(long, conflicts_with_all = ["sort", "flat"])]
    pub cum: bool,
    /// Sort functions by themselves: `--sort self`, as it is without
    #[arg(long, conflicts_with = "sort")]
    pub flat: bool,
    /// Functions to show; 0 shows all. Of a report, -n without a number is --show-nr-samples
    #[arg(short = 'n', long, alias = "nodecount", default_value_t = 30)]
    pub limit: usize,
    /// Leave out functions with a smaller share (0 to 1) of the whole, with all that they called
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub nodefraction: f64,
    /// Show values by sample: their mean
    #[arg(long, conflicts_with_all = ["tree", "callers", "callees", "peek"])]
    pub mean: bool,
    /// Show what calls what, from the roots of the stacks
    #[arg(long, conflicts_with_all = ["callers", "callees", "peek"])]
    pub tree: bool,
    /// Show who calls a function, and their callers
    #[arg(long, value_name = "FUNCTION")]
    pub callers: Option<String>,
    /// Show what a function calls, and what that calls
    #[arg(long, value_name = "FUNCTION")]
    pub callees: Option<String>,
    /// Show the callers and callees of each function that matches
    #[arg(long, value_name = "REGEX")]
    pub peek: Option<String>,
    /// Leave out branches of trees with a smaller share of the whole
    #[arg(long, value_name = "PERCENT", default_value_t = 0.5)]
    pub min_share: f64,
    /// What part of it
    #[command(flatten)]
    pub part: PartArgs,
}

/// What part of a profile is shown, and what its frames stand for.
#[derive(Args, Debug, Clone, Default)]
pub struct PartArgs {
    /// The value to show (`samples`, `cpu`, …), by name or number, instead of the profile's own
    #[arg(long, alias = "sample_index", value_name = "NAME")]
    pub value: Option<String>,
    /// Which stacks and frames
    #[command(flatten)]
    pub filters: FilterArgs,
    /// What a row stands for; without, a function of a module
    #[arg(long, value_enum)]
    pub granularity: Option<Granularity>,
    /// Count inlined functions as the one that they were inlined into
    #[arg(long)]
    pub noinlines: bool,
    /// Shares of what filters leave, instead of all
    #[arg(long = "relative_percentages", alias = "relative-percentages")]
    pub relative_percentages: bool,
    /// The unit of values: ns, us, ms, s, hrs; B, kB, MB, GB
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<String>,
}

/// An order of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// What was counted in the function itself
    Own,
    /// What was counted in the function and in all that it called
    Total,
}

/// What `--sort` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// Our table, in this order.
    Functions(Sort),
    /// perf's table, its rows told apart and sorted by these.
    Keys(Vec<Column>),
}

impl FromStr for SortBy {
    type Err = String;

    fn from_str(text: &str) -> Result<SortBy, String> {
        match text {
            "self" => Ok(SortBy::Functions(Sort::Own)),
            "total" => Ok(SortBy::Functions(Sort::Total)),
            keys => {
                let keys: Result<_, String> = keys.split(',').map(str::parse).collect();
                keys.map(SortBy::Keys).map_err(|error| format!("{error}; our own is sorted by self or total"))
            }
        }
    }
}

/// What a row of a table stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Granularity {
    /// All functions of a name
    Functions,
    /// All functions of a name in one source file
    Filefunctions,
    /// All code of a source file
    Files,
    /// A line of a function
    Lines,
    /// An address
    Addresses,
}

impl ShowArgs {
    /// The order that was asked for.
    #[must_use]
    pub fn order(&self) -> Sort {
        match self.sort {
            _ if self.cum => Sort::Total,
            SortBy::Functions(order) => order,
            SortBy::Keys(_) => Sort::Own,
        }
    }

    /// What rows of perf's table are told apart and sorted by, if that is asked for.
    #[must_use]
    pub fn keys(&self) -> Option<&[Column]> {
        if let SortBy::Keys(keys) = &self.sort { Some(keys) } else { None }
    }

    /// Which functions a table has.
    #[must_use]
    pub(in crate::cli) fn listing(&self) -> Listing<'static> {
        let ShowArgs { limit, nodefraction, mean, .. } = *self;
        Listing { order: self.order(), limit, nodefraction, mean, wanted: None }
    }
}

/// Which functions a table has, and in what order.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Listing<'a> {
    pub(in crate::cli) order: Sort,
    /// At most; 0 is all.
    pub(in crate::cli) limit: usize,
    /// None with a smaller share (0 to 1) of the whole.
    pub(in crate::cli) nodefraction: f64,
    /// Whether values are means by sample.
    pub(in crate::cli) mean: bool,
    /// Only functions whose name or module matches.
    pub(in crate::cli) wanted: Option<&'a Regex>,
}

impl PartArgs {
    /// The filters, their expressions compiled.
    ///
    /// # Errors
    /// If an expression is none: which, and where.
    pub fn filter(&self) -> anyhow::Result<Filter> {
        self.filters.filter()
    }

    /// The column that was asked for, by name or by number from 0, whose values can be told in the unit that was.
    ///
    /// # Errors
    /// If there is no such column, or its unit is of another kind.
    pub fn column(&self, profile: &Profile) -> anyhow::Result<usize> {
        let value = self.value.as_deref().filter(|value| !value.is_empty());
        let by_number = value.and_then(|value| value.parse().ok()).filter(|at| *at < profile.sample_types.len());
        let column = profile.column(value).or_else(|error| by_number.ok_or(error))?;
        let of = profile.sample_types.get(column).map_or("", |kind| profile.text(kind.unit));
        if let Some(unit) = self.unit.as_deref().filter(|unit| !converts(of, unit)) {
            return Err(UsageError(format!("values in {of} cannot be told in {unit}")).into());
        }
        Ok(column)
    }

    /// Leaves what was asked for in a profile. Answers the column to show, and what shares are of.
    ///
    /// # Errors
    /// If an expression is none, or there is no such column.
    pub(in crate::cli) fn apply(&self, profile: &mut Profile) -> anyhow::Result<(usize, i128)> {
        let (filter, column) = (self.filters.filter()?, self.column(profile)?);
        filter.add_tag_frames(profile, self.unit.as_deref());
        let all = profile.total(column);
        filter.apply_to_samples(profile);
        filter.apply_to_frames(profile);
        Ok((column, if self.relative_percentages { profile.total(column) } else { all }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_dash_is_enough_for_what_pprof_spells_so() {
        let words = ["rprof", "-focus=a", "-cum", "-lines", "-n", "5", "-o", "-x", "--", "-hide"].map(OsString::from);
        let two = ["rprof", "--focus=a", "--cum", "--granularity=lines", "-n", "5", "-o", "-x", "--", "-hide"];
        assert_eq!(with_two_dashes(words.into()), two);
    }

    #[test]
    fn perfs_n_has_no_number() {
        let spelled = |words: &[&str]| with_two_dashes(words.iter().map(OsString::from).collect());
        assert_eq!(spelled(&["rprof", "report", "-n", "-i", "f"]), ["rprof", "report", "--show-nr-samples", "-i", "f"]);
        assert_eq!(spelled(&["rprof", "report", "f", "-n"]), ["rprof", "report", "f", "--show-nr-samples"]);
        assert_eq!(spelled(&["rprof", "report", "-n", "5"]), ["rprof", "report", "-n", "5"]);
        assert_eq!(spelled(&["rprof", "query", "-n", "-i"]), ["rprof", "query", "-n", "-i"]);
    }
}
