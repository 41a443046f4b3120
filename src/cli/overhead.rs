//! perf's table of a report: shares by thread name, file of code, function, process or thread, and the stacks behind each.

mod columns;
mod graph;
mod stats;
mod table;

use clap::Args;

use crate::profile::{FrameView, LabelValue, Profile, Sample};
pub use columns::{Column, SortKey};
pub use graph::{Graph, Order};
pub use stats::stats;
pub use table::{Shown, event_name, render, value_columns};

/// perf's words for a report
#[derive(Args, Debug, Clone, Default)]
pub struct OverheadArgs {
    /// perf's table of shares, instead of ours
    #[arg(long)]
    pub stdio: bool,
    /// perf's table: only what was counted in the code itself
    #[arg(long, conflicts_with = "children")]
    pub no_children: bool,
    /// perf's table: what was counted in the code and in all that it called, and in itself
    #[arg(long)]
    pub children: bool,
    /// perf's table with the stacks of each row: from the root (caller), from the code itself (callee), or none
    #[arg(short = 'g', long, value_name = "ORDER", num_args = 0..=1, default_missing_value = "caller")]
    pub call_graph: Option<Graph>,
    /// perf's table with the stacks of each row from the root, whatever order -g names
    #[arg(short = 'G', long)]
    pub inverted: bool,
    /// perf's table: its columns, of overhead, overhead_children, sample, period, comm, pid, tgid, tid, dso, sym
    #[arg(short = 'F', long, value_name = "COLUMN,…", value_delimiter = ',')]
    pub fields: Vec<Column>,
    /// perf's table: a column with the number of samples; -n without a number is the same
    #[arg(long)]
    pub show_nr_samples: bool,
    /// perf's table: leave out rows with a smaller share
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    pub percent_limit: Option<f64>,
    /// perf's table: columns with this between them, and no room
    #[arg(short = 't', long, value_name = "CHAR", value_parser = separator)]
    pub field_separator: Option<String>,
    /// Only samples of threads of these names
    #[arg(short = 'c', long, visible_alias = "comms", value_name = "NAME,…", value_delimiter = ',')]
    pub comm: Vec<String>,
    /// Only samples whose own code lies in these files, each a path or its last part
    #[arg(short = 'd', long, visible_alias = "dsos", value_name = "FILE,…", value_delimiter = ',')]
    pub dso: Vec<String>,
    /// Only samples of these processes
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    pub pid: Vec<i64>,
    /// Only samples of these threads
    #[arg(long, value_name = "TID,…", value_delimiter = ',')]
    pub tid: Vec<i64>,
    /// Only samples whose own function has one of these names
    #[arg(short = 'S', long, visible_alias = "symbols", value_name = "NAME,…", value_delimiter = ',')]
    pub symbol: Vec<String>,
}

/// Branches with a smaller share (in percent) are left out, as perf leaves them.
const LEAST_BRANCH: f64 = 0.5;

impl OverheadArgs {
    /// Whether a table of perf's kind is wanted, with these keys if any are.
    #[must_use]
    pub fn wanted(&self, keys: bool) -> bool {
        let rows = self.percent_limit.is_some() || self.field_separator.is_some();
        let columns = self.no_children || self.children || self.show_nr_samples || !self.fields.is_empty();
        self.stdio || rows || columns || self.inverted || self.call_graph.is_some() || keys
    }

    /// Which end of the stacks comes first, if they are drawn.
    fn order(&self) -> Option<Order> {
        if self.inverted { Some(Order::Caller) } else { self.call_graph.and_then(|graph| graph.order) }
    }

    /// The least share of a branch that is drawn, in percent.
    fn least_branch(&self) -> f64 {
        self.call_graph.and_then(|graph| graph.least).or(self.percent_limit).unwrap_or(LEAST_BRANCH)
    }

    /// Whether only some samples are asked for.
    #[must_use]
    pub fn selects(&self) -> bool {
        let of_thread = !self.comm.is_empty() || !self.pid.is_empty() || !self.tid.is_empty();
        of_thread || !self.dso.is_empty() || !self.symbol.is_empty()
    }

    /// Leaves the samples that are asked for.
    pub fn keep(&self, profile: &mut Profile) {
        if !self.selects() {
            return;
        }
        profile.retain_samples(|profile, sample| {
            let is = |wanted: &[i64], key| {
                wanted.is_empty() || number(profile, sample, key).is_some_and(|id| wanted.contains(&id))
            };
            let comm = profile.label(sample, "comm").unwrap_or_default();
            let named = self.comm.is_empty() || self.comm.iter().any(|wanted| wanted == comm);
            // A function that was inlined there counts as well as the one that it was inlined into.
            let leaf: Vec<FrameView<'_>> =
                sample.stack.first().into_iter().flat_map(|&id| profile.frames_at(id)).collect();
            let file = |wanted: &String| leaf.iter().any(|leaf| is_file(leaf.module, wanted));
            let function = |wanted: &String| leaf.iter().any(|leaf| leaf.name == wanted.as_str());
            named
                && is(&self.pid, "pid")
                && is(&self.tid, "tid")
                && (self.dso.is_empty() || self.dso.iter().any(file))
                && (self.symbol.is_empty() || self.symbol.iter().any(function))
        });
    }
}

/// Whether a file of code is the one that was named, by its path or the last part of it.
pub(super) fn is_file(module: &str, wanted: &str) -> bool {
    module == wanted || base(module) == wanted
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The number of a label of a sample, if it has it.
pub(super) fn number(profile: &Profile, sample: &Sample, key: &str) -> Option<i64> {
    let key = profile.strings.find(key)?;
    sample.labels.iter().find(|label| label.key == key).and_then(|label| match label.value {
        LabelValue::Number(number, _) => Some(number),
        LabelValue::Text(_) => None,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a share is shown with two decimals")]
fn percent(part: i128, all: i128) -> f64 {
    if all == 0 { 0.0 } else { 100.0 * part as f64 / all as f64 }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=100.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share: 0 to 100"))
}

/// What stands between columns; where it stands in one, that becomes a point, which therefore cannot be it.
fn separator(text: &str) -> Result<String, String> {
    match text {
        "" | "." => Err("a separator is any text but a point".into()),
        r"\t" => Ok("\t".into()),
        other => Ok(other.into()),
    }
}

/// What was counted for a row.
#[derive(Default)]
struct Sums {
    own: i128,
    total: i128,
    /// Samples in the code itself.
    samples: i128,
    /// Stacks in the order in which they are drawn.
    tree: graph::Tree,
}
