//! perf's table of a report: shares by thread name, file of code, function, process or thread, and the stacks behind each.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::str::FromStr;

use clap::Args;
use rustc_hash::{FxHashMap, FxHashSet};

use super::show::printable;
use crate::profile::{FrameView, LabelValue, LocationId, Origin, Profile, Sample};

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
    /// Only samples of threads of these names
    #[arg(long, visible_alias = "comms", value_name = "NAME,…", value_delimiter = ',')]
    pub comm: Vec<String>,
    /// Only samples whose own code lies in these files, each a path or its last part
    #[arg(long, visible_alias = "dsos", value_name = "FILE,…", value_delimiter = ',')]
    pub dso: Vec<String>,
    /// Only samples of these processes
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    pub pid: Vec<i64>,
    /// Only samples of these threads
    #[arg(long, value_name = "TID,…", value_delimiter = ',')]
    pub tid: Vec<i64>,
    /// Only samples whose own function has one of these names
    #[arg(long, visible_alias = "symbols", value_name = "NAME,…", value_delimiter = ',')]
    pub symbol: Vec<String>,
}

/// Which end of the stacks comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Graph {
    /// The root.
    Caller,
    /// The code itself.
    Callee,
    /// No stacks.
    None,
}

impl FromStr for Graph {
    type Err = String;

    /// One word of perf's list, of which the others say how graphs are drawn.
    fn from_str(text: &str) -> Result<Graph, String> {
        const OTHERS: [&str; 8] = ["graph", "flat", "fractal", "folded", "function", "address", "percent", "period"];
        let mut order = Graph::Caller;
        for word in text.split(',') {
            order = match word {
                "caller" => Graph::Caller,
                "callee" => Graph::Callee,
                "none" | "no" => Graph::None,
                other if OTHERS.contains(&other) || other.parse::<f64>().is_ok() => order,
                other => return Err(format!("{other:?} is no order of stacks: caller, callee or none")),
            };
        }
        Ok(order)
    }
}

/// What rows are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// The thread's name.
    Comm,
    /// The process.
    Pid,
    /// The thread.
    Tid,
    /// The file of code.
    Dso,
    /// The function.
    Symbol,
}

impl SortKey {
    /// Whether it tells threads apart, and not places in the code.
    fn is_of_thread(self) -> bool {
        matches!(self, SortKey::Comm | SortKey::Pid | SortKey::Tid)
    }

    fn heading(self) -> &'static str {
        match self {
            SortKey::Comm => "Command",
            SortKey::Pid => "Pid",
            SortKey::Tid => "Tid",
            SortKey::Dso => "Shared Object",
            SortKey::Symbol => "Symbol",
        }
    }
}

impl FromStr for SortKey {
    type Err = String;

    fn from_str(text: &str) -> Result<SortKey, String> {
        Ok(match text {
            "comm" => SortKey::Comm,
            "pid" => SortKey::Pid,
            "tid" => SortKey::Tid,
            "dso" => SortKey::Dso,
            "sym" | "symbol" => SortKey::Symbol,
            other => {
                return Err(format!("{other:?} is nothing to sort by: self, total, or of comm, pid, tid, dso, symbol"));
            }
        })
    }
}

/// What perf sorts by where nothing else is asked for.
const USUAL: [SortKey; 3] = [SortKey::Comm, SortKey::Dso, SortKey::Symbol];
/// Branches with a smaller share (in percent) are left out, as perf leaves them.
const LEAST_BRANCH: f64 = 0.5;
/// Stacks are drawn no deeper: names would have no room.
const DEEPEST: usize = 127;

impl OverheadArgs {
    /// Whether a table of perf's kind is wanted, with these keys if any are.
    #[must_use]
    pub fn wanted(&self, keys: bool) -> bool {
        self.stdio || self.no_children || self.children || self.call_graph.is_some() || keys
    }

    /// Leaves the samples that are asked for.
    pub fn keep(&self, profile: &mut Profile) {
        let everything = self.comm.is_empty() && self.pid.is_empty() && self.tid.is_empty();
        if everything && self.dso.is_empty() && self.symbol.is_empty() {
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
            let file = |wanted: &String| leaf.iter().any(|leaf| leaf.module == wanted || base(leaf.module) == wanted);
            let function = |wanted: &String| leaf.iter().any(|leaf| leaf.name == wanted.as_str());
            named
                && is(&self.pid, "pid")
                && is(&self.tid, "tid")
                && (self.dso.is_empty() || self.dso.iter().any(file))
                && (self.symbol.is_empty() || self.symbol.iter().any(function))
        });
    }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn number(profile: &Profile, sample: &Sample, key: &str) -> Option<i64> {
    let key = profile.strings.find(key)?;
    sample.labels.iter().find(|label| label.key == key).and_then(|label| match label.value {
        LabelValue::Number(number, _) => Some(number),
        LabelValue::Text(_) => None,
    })
}

/// The table of each event: of the one column that is asked for, or of all values.
#[must_use]
pub fn render(profile: &Profile, columns: &[usize], keys: Option<&[SortKey]>, args: &OverheadArgs) -> String {
    let keys = keys.unwrap_or(&USUAL);
    let mut text = String::new();
    for &column in columns {
        table(profile, column, keys, args, &mut text);
    }
    text
}

/// The columns of values: all but the counts of samples, each of which stands before its own.
#[must_use]
pub fn value_columns(profile: &Profile) -> Vec<usize> {
    let name = |at: usize| profile.text(profile.sample_types[at].name);
    let is_count = |at: &usize| name(*at) == "samples" || name(*at).ends_with("_samples");
    let all = 0..profile.sample_types.len();
    let values: Vec<usize> = all.clone().filter(|at| !is_count(at)).collect();
    if values.is_empty() { all.collect() } else { values }
}

/// What was counted for a row.
#[derive(Default)]
struct Sums {
    own: i128,
    total: i128,
    /// Stacks in the order in which they are drawn.
    tree: Tree,
}

fn table(profile: &Profile, column: usize, keys: &[SortKey], args: &OverheadArgs, text: &mut String) {
    let deep = profile.samples.iter().any(|sample| sample.stack.len() > 1);
    let children = args.children || (deep && !args.no_children);
    let order = args.call_graph.filter(|_| deep).unwrap_or(Graph::None);
    let mut rows = Rows {
        profile,
        keys,
        threads: FxHashMap::default(),
        places: FxHashMap::default(),
        numbers: FxHashMap::default(),
        rows: Vec::new(),
    };
    let (mut total, mut samples) = (0_i128, 0_i128);
    let count = column.checked_sub(1);
    for sample in &profile.samples {
        let value = i128::from(sample.values[column]);
        total += value;
        samples += count.map_or(value, |count| i128::from(sample.values[count]));
        if value != 0 {
            rows.add(sample, value, children, order);
        }
    }
    head(profile, column, samples, total, text);
    let mut rows: Vec<(Vec<String>, Sums)> = rows.rows;
    rows.sort_by(|(row, _), (other, _)| row.cmp(other));
    rows.sort_by_key(|(_, sums)| Reverse(if children { (sums.total, sums.own) } else { (sums.own, 0) }));
    let widths: Vec<usize> = (0..keys.len())
        .map(|at| rows.iter().map(|(row, _)| row[at].chars().count()).max().unwrap_or(0).max(keys[at].heading().len()))
        .collect();
    let numbers: &[&str] = if children { &["Children", "    Self"] } else { &["Overhead"] };
    let line = |cells: Vec<String>| -> String {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let headings = line(keys.iter().map(|key| key.heading().to_owned()).collect());
    let dots: Vec<String> = widths.iter().map(|&width| ".".repeat(width)).collect();
    let _ = writeln!(
        text,
        "# {}  {headings}\n# {}  {}\n#",
        numbers.join("  "),
        vec!["........"; numbers.len()].join("  "),
        dots.join("  ")
    );
    for (row, sums) in rows {
        let shares = if children { vec![sums.total, sums.own] } else { vec![sums.own] };
        let shares: Vec<String> = shares.iter().map(|&value| format!("{:>9.2}%", percent(value, total))).collect();
        let _ = writeln!(text, "{}  {}", shares.join(""), line(row));
        if order != Graph::None {
            sums.tree.draw(total, text);
        }
    }
    text.push_str("\n\n");
}

/// Rows, each found by what it is about: most samples are of places that were met before, whose cells are not put together again.
struct Rows<'a> {
    profile: &'a Profile,
    keys: &'a [SortKey],
    /// Those cells that are about the thread.
    threads: FxHashMap<Vec<String>, usize>,
    /// The row of a place in a thread; of no place, for samples without a stack.
    places: FxHashMap<(usize, Option<LocationId>), usize>,
    /// The numbers of rows by their cells.
    numbers: FxHashMap<Vec<String>, usize>,
    rows: Vec<(Vec<String>, Sums)>,
}

impl Rows<'_> {
    /// Counts a sample for its own row, and with `children` for those of all its callers.
    fn add(&mut self, sample: &Sample, value: i128, children: bool, order: Graph) {
        let profile = self.profile;
        let of_thread: Vec<SortKey> = self.keys.iter().copied().filter(|key| key.is_of_thread()).collect();
        let threads = self.threads.len();
        let thread = *self.threads.entry(row(profile, sample, None, &of_thread)).or_insert(threads);
        let frames: Vec<FrameView<'_>> =
            if order == Graph::None { Vec::new() } else { profile.frames(sample).collect() };
        let names = |frames: &mut dyn Iterator<Item = &FrameView<'_>>| -> Vec<String> {
            frames.take(DEEPEST).map(|frame| printable(&frame.name)).collect()
        };
        let places = sample.stack.iter().map(|&place| Some(place));
        let nowhere = sample.stack.is_empty().then_some(None);
        let mut seen = FxHashSet::default();
        let mut end = 0;
        for (number, place) in places.chain(nowhere).take(if children { usize::MAX } else { 1 }).enumerate() {
            let at = self.row_of(thread, place, sample);
            let first = end;
            if order != Graph::None {
                end += place.map_or(0, |place| profile.frames_at(place).count());
            }
            if !seen.insert(at) {
                continue;
            }
            let sums = &mut self.rows[at].1;
            sums.total += value;
            sums.own += if number == 0 { value } else { 0 };
            match order {
                // What a caller of all called, from itself on; for code itself its callers too.
                Graph::Caller if number > 0 => sums.tree.add(&names(&mut frames[..end].iter().rev()), value),
                Graph::Caller => sums.tree.add(&names(&mut frames.iter().rev()), value),
                Graph::Callee => sums.tree.add(&names(&mut frames[first..].iter()), value),
                Graph::None => {}
            }
        }
    }

    /// The number of the row that a place in a thread is counted for. A row is of a function that the compiler emitted, the outermost of a
    /// place; what was inlined into it shows in stacks.
    fn row_of(&mut self, thread: usize, place: Option<LocationId>, sample: &Sample) -> usize {
        if let Some(&known) = self.places.get(&(thread, place)) {
            return known;
        }
        let frame = place.and_then(|place| self.profile.frames_at(place).last());
        let cells = row(self.profile, sample, frame.as_ref(), self.keys);
        let next = self.rows.len();
        let at = *self.numbers.entry(cells.clone()).or_insert(next);
        if at == next {
            self.rows.push((cells, Sums::default()));
        }
        self.places.insert((thread, place), at);
        at
    }
}

fn row(profile: &Profile, sample: &Sample, frame: Option<&FrameView<'_>>, keys: &[SortKey]) -> Vec<String> {
    let id = |key| number(profile, sample, key).map_or_else(|| "-".to_owned(), |id| id.to_string());
    let cell = |key: &SortKey| match key {
        SortKey::Comm => printable(profile.label(sample, "comm").unwrap_or("[unknown]")),
        SortKey::Pid => id("pid"),
        SortKey::Tid => id("tid"),
        SortKey::Dso => {
            let module = frame.map_or("", |frame| base(frame.module));
            if module.is_empty() { "[unknown]".into() } else { printable(module) }
        }
        SortKey::Symbol => {
            let mark = if frame.is_some_and(|frame| frame.origin == Origin::Kernel) { "[k]" } else { "[.]" };
            format!("{mark} {}", frame.map_or_else(|| "[unknown]".into(), |frame| printable(&frame.name)))
        }
    };
    keys.iter().map(cell).collect()
}

fn head(profile: &Profile, column: usize, samples: i128, total: i128, text: &mut String) {
    let value = profile.text(profile.sample_types[column].name);
    let wanted = format!(" value={value} ");
    let comments = profile.comments.iter().map(|&comment| profile.text(comment));
    let event =
        comments.filter(|line| line.contains(&wanted)).find_map(|line| line.strip_prefix("event ")?.split(": ").next());
    let event = event.unwrap_or(value);
    let _ =
        writeln!(text, "# Samples: {samples}  of event '{}'\n# Event count (approx.): {total}\n#", printable(event));
}

#[expect(clippy::cast_precision_loss, reason = "a share is shown with two decimals")]
fn percent(part: i128, all: i128) -> f64 {
    if all == 0 { 0.0 } else { 100.0 * part as f64 / all as f64 }
}

/// Stacks with a common beginning in one branch.
#[derive(Default)]
struct Tree {
    nodes: Vec<Node>,
    index: FxHashMap<(usize, String), usize>,
    roots: Vec<usize>,
}

struct Node {
    name: String,
    value: i128,
    below: Vec<usize>,
}

/// In place of a node, above the roots.
const ABOVE: usize = usize::MAX;

impl Tree {
    fn add(&mut self, names: &[String], value: i128) {
        let mut above = ABOVE;
        for name in names {
            let next = self.nodes.len();
            let at = *self.index.entry((above, name.clone())).or_insert(next);
            if at == next {
                self.nodes.push(Node { name: name.clone(), value: 0, below: Vec::new() });
                if above == ABOVE { self.roots.push(at) } else { self.nodes[above].below.push(at) }
            }
            self.nodes[at].value += value;
            above = at;
        }
    }

    fn draw(&self, total: i128, text: &mut String) {
        const MARGIN: &str = "            ";
        let _ = writeln!(text, "{MARGIN}|");
        match &self.roots[..] {
            [only] => {
                let _ = writeln!(text, "{MARGIN}---{}", self.nodes[*only].name);
                self.draw_below(*only, total, &format!("{MARGIN}   "), text);
            }
            several => self.draw_branches(several, total, MARGIN, text),
        }
        text.push('\n');
    }

    /// A chain goes straight down; where it forks, each branch has its share.
    fn draw_below(&self, mut at: usize, total: i128, margin: &str, text: &mut String) {
        while let [only] = self.nodes[at].below[..]
            && self.nodes[only].value == self.nodes[at].value
        {
            let _ = writeln!(text, "{margin}{}", self.nodes[only].name);
            at = only;
        }
        if !self.nodes[at].below.is_empty() {
            let mut branches = String::new();
            self.draw_branches(&self.nodes[at].below, total, margin, &mut branches);
            if !branches.is_empty() {
                let _ = writeln!(text, "{margin}|");
                text.push_str(&branches);
            }
        }
    }

    fn draw_branches(&self, branches: &[usize], total: i128, margin: &str, text: &mut String) {
        let mut branches: Vec<usize> = branches.to_vec();
        branches.retain(|&at| percent(self.nodes[at].value, total) >= LEAST_BRANCH);
        branches.sort_by_key(|&at| Reverse(self.nodes[at].value));
        let last = branches.len().saturating_sub(1);
        for (number, &at) in branches.iter().enumerate() {
            let (lead, below) = if number == last { (" ", " ") } else { ("|", "|") };
            let share = format!("--{:.2}%--", percent(self.nodes[at].value, total));
            let _ = writeln!(text, "{margin}{lead}{share}{}", self.nodes[at].name);
            self.draw_below(at, total, &format!("{margin}{below}{}", " ".repeat(share.len())), text);
            if number != last {
                let _ = writeln!(text, "{margin}|");
            }
        }
    }
}
