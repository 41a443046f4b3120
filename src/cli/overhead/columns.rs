//! Which columns perf's table has, and what its rows are told apart and sorted by.

use std::cmp::Ordering;
use std::str::FromStr;

use super::{OverheadArgs, Sums};

/// What rows are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// The thread's name.
    Comm,
    /// The thread and its name, as perf understands `pid`.
    Pid,
    /// The process and the thread's name.
    Tgid,
    /// The thread.
    Tid,
    /// The file of code.
    Dso,
    /// The function.
    Symbol,
}

impl SortKey {
    /// Whether it tells threads apart, and not places in the code.
    pub(super) fn is_of_thread(self) -> bool {
        !matches!(self, SortKey::Dso | SortKey::Symbol)
    }
}

/// A column of perf's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The share of the code itself.
    Overhead,
    /// The same, beside that of the code and all that it called.
    Own,
    /// The share of the code and all that it called.
    Children,
    /// The number of samples in the code itself.
    Samples,
    /// What they add up to.
    Period,
    /// What rows are told apart by.
    Key(SortKey),
}

/// perf's words for columns.
const WORDS: [(&str, Column); 12] = [
    ("overhead", Column::Overhead),
    ("overhead_children", Column::Children),
    ("sample", Column::Samples),
    ("period", Column::Period),
    ("comm", Column::Key(SortKey::Comm)),
    ("pid", Column::Key(SortKey::Pid)),
    ("tgid", Column::Key(SortKey::Tgid)),
    ("tid", Column::Key(SortKey::Tid)),
    ("dso", Column::Key(SortKey::Dso)),
    ("symbol", Column::Key(SortKey::Symbol)),
    ("sym", Column::Key(SortKey::Symbol)),
    ("samples", Column::Samples),
];
/// Those that are another's second name.
const SECOND: [&str; 2] = ["sym", "samples"];

impl FromStr for Column {
    type Err = String;

    fn from_str(text: &str) -> Result<Column, String> {
        let found = WORDS.iter().find(|(word, _)| *word == text);
        found.map(|(_, column)| *column).ok_or_else(|| {
            let known = WORDS.iter().map(|(word, _)| *word).filter(|word| !SECOND.contains(word));
            format!("{text:?} is no column of perf's table; there are {}", known.collect::<Vec<_>>().join(", "))
        })
    }
}

impl Column {
    /// The heading; those of numbers are as wide as the numbers.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Column::Overhead => "Overhead",
            Column::Own => "    Self",
            Column::Children => "Children",
            Column::Samples => "     Samples",
            Column::Period => "      Period",
            Column::Key(SortKey::Comm) => "Command",
            Column::Key(SortKey::Pid) => "    Pid:Command",
            Column::Key(SortKey::Tgid) => "   Tgid:Command",
            Column::Key(SortKey::Tid) => "Tid",
            Column::Key(SortKey::Dso) => "Shared Object",
            Column::Key(SortKey::Symbol) => "Symbol",
        }
    }

    /// The key, if it is one.
    pub(super) fn key(self) -> Option<SortKey> {
        if let Column::Key(key) = self { Some(key) } else { None }
    }
}

/// What perf sorts by where nothing else is asked for.
const USUAL: [Column; 3] = [Column::Key(SortKey::Comm), Column::Key(SortKey::Dso), Column::Key(SortKey::Symbol)];

/// The columns of a table, and how its rows are sorted.
pub(super) struct Layout {
    /// From left to right.
    pub(super) columns: Vec<Column>,
    /// What rows are told apart by: the keys among the columns.
    pub(super) keys: Vec<SortKey>,
    /// The most important first.
    order: Vec<Column>,
    /// Whether code is counted for all that it called, too.
    pub(super) children: bool,
}

impl Layout {
    /// `deep` is whether the stacks have callers.
    pub(super) fn new(args: &OverheadArgs, sort: Option<&[Column]>, deep: bool) -> Layout {
        let added = args.children || (args.fields.is_empty() && deep && !args.no_children);
        let children = added || args.fields.contains(&Column::Children);
        let (mut columns, order) = match &args.fields[..] {
            [] => by_sort(sort.unwrap_or(&USUAL), args.show_nr_samples, children),
            fields => by_fields(fields, sort, args.show_nr_samples, added),
        };
        let mut seen = Vec::new();
        columns.retain(|column| {
            let new = !seen.contains(column);
            seen.push(*column);
            new
        });
        let keys = columns.iter().filter_map(|column| column.key()).collect();
        Layout { columns, keys, order, children }
    }

    /// The columns that are printed: as with perf, a column that a filter leaves one value of says nothing, unless there is no other.
    pub(super) fn printed(&self, args: &OverheadArgs) -> Vec<Column> {
        let is_one = |column: &Column| {
            let filter = match column {
                Column::Key(SortKey::Comm) => &args.comm,
                Column::Key(SortKey::Dso) => &args.dso,
                Column::Key(SortKey::Symbol) => &args.symbol,
                _ => return false,
            };
            filter.len() == 1
        };
        let all = self.keys.iter().all(|&key| is_one(&Column::Key(key)));
        self.columns.iter().copied().filter(|column| all || !is_one(column)).collect()
    }

    /// Which of two rows comes first: large numbers before small ones.
    pub(super) fn compare(&self, one: &(Vec<String>, Sums), other: &(Vec<String>, Sums)) -> Ordering {
        let by = |column: &Column| match column {
            Column::Overhead | Column::Own | Column::Period => other.1.own.cmp(&one.1.own),
            Column::Children => other.1.total.cmp(&one.1.total),
            Column::Samples => other.1.samples.cmp(&one.1.samples),
            Column::Key(key) => {
                let at = self.keys.iter().position(|known| known == key);
                at.map_or(Ordering::Equal, |at| one.0[at].cmp(&other.0[at]))
            }
        };
        let first = self.order.iter().map(by).find(|order| order.is_ne());
        first.unwrap_or_else(|| one.0.cmp(&other.0))
    }
}

/// Shares, the numbers that were asked for, and what rows are sorted by. A word for a share is one for both.
fn by_sort(sort: &[Column], samples: bool, children: bool) -> (Vec<Column>, Vec<Column>) {
    let shares: &[Column] = if children { &[Column::Children, Column::Own] } else { &[Column::Overhead] };
    let spread = |&column: &Column| match column {
        Column::Overhead | Column::Children => shares.to_vec(),
        other => vec![other],
    };
    let keys_alone = sort.iter().all(|column| column.key().is_some());
    let first = if keys_alone { shares } else { &[] };
    let order = first.iter().copied().chain(sort.iter().flat_map(spread)).collect();
    let (keys, numbers): (Vec<Column>, Vec<Column>) = sort.iter().partition(|column| column.key().is_some());
    let counts = numbers.into_iter().filter(|column| matches!(column, Column::Samples | Column::Period));
    let samples = samples.then_some(Column::Samples);
    (shares.iter().copied().chain(samples).chain(counts).chain(keys).collect(), order)
}

/// The columns as they were asked for, with what rows are sorted by where that is not among them.
fn by_fields(fields: &[Column], sort: Option<&[Column]>, samples: bool, children: bool) -> (Vec<Column>, Vec<Column>) {
    let before = (children && !fields.contains(&Column::Children)).then_some(Column::Children);
    let samples = samples.then_some(Column::Samples);
    let keys = sort.unwrap_or_default().iter().filter(|column| column.key().is_some());
    let columns = before.into_iter().chain(fields.iter().copied()).chain(samples).chain(keys.copied());
    (columns.collect(), sort.unwrap_or(fields).to_vec())
}
