//! The table of functions: self, total, and samples of each.

use std::cmp::Reverse;

use super::text::{amount, fit, percent};
use super::{Counts, Listing, Sort};

/// Room between two columns.
const GAP: &str = "  ";
/// A name is cut to no less than this, however narrow the terminal.
const MIN_NAME: usize = 20;
/// Names are padded to no more than this: behind a longer one, its module follows at once.
const MAX_PADDING: usize = 100;
/// The columns of amounts, in the order in which they are left out before a name is cut: samples, total, self. Shares stay.
const LEFT_OUT: [usize; 3] = [4, 3, 1];
/// A module's name is cut to this share of the room for names.
const MODULE_SHARE: usize = 3;

/// What was counted in a function.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cli) struct FunctionSums {
    /// In the function itself.
    pub(in crate::cli) own: i128,
    /// And in all that it called.
    pub(in crate::cli) total: i128,
    /// Samples with the function anywhere.
    pub(in crate::cli) samples: i128,
    /// What means of the first two are divided by.
    divisors: (i128, i128),
}

/// Writes the table.
pub(in crate::cli) fn functions_table(counts: &Counts, listing: &Listing<'_>, width: usize, out: &mut String) {
    let mut sums = functions(counts);
    let mut whole = counts.total;
    if listing.mean {
        sums.iter_mut().for_each(FunctionSums::divide);
        let divisor: i128 = counts.stacks.iter().map(|stack| stack.divisor).sum();
        whole = whole.checked_div(divisor).unwrap_or(whole);
    }
    let order = order(&sums, counts, listing);
    let limit = if listing.limit == 0 { order.len() } else { listing.limit };
    let shown = &order[..limit.min(order.len())];
    let mut numbers = numbers(counts, &sums, shown, whole);
    leave_out(&mut numbers, Names::needed(counts, shown), width);
    let widths = widths(&numbers);
    let room = width.saturating_sub(used(&numbers)).max(MIN_NAME);
    let names = Names::new(counts, shown, room);
    for (index, cells) in numbers.iter().enumerate() {
        for (cell, width) in cells.iter().zip(&widths) {
            out.push_str(&format!("{cell:>width$}{GAP}"));
        }
        let name = index.checked_sub(1).map_or(("FUNCTION", "MODULE"), |at| names.of(counts, shown[at]));
        out.push_str(names.line(name.0, name.1).trim_end());
        out.push('\n');
    }
    said_so(counts, &sums, &order[shown.len()..], out);
}

/// A recursive function is counted once a stack in its total.
pub(in crate::cli) fn functions(counts: &Counts) -> Vec<FunctionSums> {
    let mut sums = vec![FunctionSums::default(); counts.rows.len()];
    let mut seen_at = vec![usize::MAX; counts.rows.len()];
    for (index, stack) in counts.stacks.iter().enumerate() {
        let rows = counts.rows_of(stack);
        if let Some(leaf) = rows.first().map(|&row| &mut sums[row as usize]) {
            leaf.own += stack.value;
            leaf.divisors.0 += stack.divisor;
        }
        for row in rows.iter().map(|&row| row as usize) {
            if seen_at[row] != index {
                seen_at[row] = index;
                sums[row].total += stack.value;
                sums[row].samples += stack.samples;
                sums[row].divisors.1 += stack.divisor;
            }
        }
    }
    sums
}

impl FunctionSums {
    /// Sums become means.
    fn divide(&mut self) {
        self.own = self.own.checked_div(self.divisors.0).unwrap_or(self.own);
        self.total = self.total.checked_div(self.divisors.1).unwrap_or(self.total);
    }
}

/// The rows to show, all of them, in their order; equal ones by name, so that the same profile gives the same table.
pub(in crate::cli) fn order(sums: &[FunctionSums], counts: &Counts, listing: &Listing<'_>) -> Vec<usize> {
    let least = least(counts, listing.nodefraction);
    let is_there = |of: &FunctionSums| (of.total != 0 || of.samples != 0) && of.total.abs() >= least;
    let is_wanted = |row: usize| listing.wanted.is_none_or(|wanted| counts.rows[row].matches(wanted));
    let mut order: Vec<usize> = (0..sums.len()).filter(|&row| is_there(&sums[row]) && is_wanted(row)).collect();
    order.sort_by_key(|&row| {
        let (own, total) = (sums[row].own.abs(), sums[row].total.abs());
        let numbers = if listing.order == Sort::Own { (own, total) } else { (total, own) };
        (Reverse(numbers), &counts.rows[row].name)
    });
    order
}

/// The least total of a row that has this share of what the stacks hold.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a bound, not a sum")]
fn least(counts: &Counts, share: f64) -> i128 {
    let held: i128 = counts.stacks.iter().map(|stack| stack.value).sum();
    (held.abs() as f64 * share) as i128
}

/// The numbers of the rows, as text, under their headings.
fn numbers(counts: &Counts, sums: &[FunctionSums], shown: &[usize], whole: i128) -> Vec<Vec<String>> {
    let mut headings: Vec<String> = headings(counts).map(str::to_owned).into();
    headings.extend(counts.has_samples.then(|| "SAMPLES".to_owned()));
    let row = |&row: &usize| {
        let FunctionSums { own, total, samples, .. } = sums[row];
        let (own_share, share) = (percent(own, whole), percent(total, whole));
        let mut cells = vec![own_share, counts.amount(own), share, counts.amount(total)];
        cells.extend(counts.has_samples.then(|| amount(samples, "")));
        cells
    };
    std::iter::once(headings).chain(shown.iter().map(row)).collect()
}

fn headings(counts: &Counts) -> [&'static str; 4] {
    if counts.in_cpus() {
        ["SELF %", "SELF CPUS", "TOTAL %", "TOTAL CPUS"]
    } else {
        ["SELF %", "SELF", "TOTAL %", "TOTAL"]
    }
}

fn widths(numbers: &[Vec<String>]) -> Vec<usize> {
    let columns = numbers.first().map_or(0, Vec::len);
    (0..columns).map(|column| numbers.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect()
}

/// The columns that the numbers take.
fn used(numbers: &[Vec<String>]) -> usize {
    widths(numbers).iter().map(|width| width + GAP.len()).sum()
}

/// Leaves out columns of amounts until the names have the columns that they need.
fn leave_out(numbers: &mut [Vec<String>], needed: usize, width: usize) {
    for column in LEFT_OUT {
        if used(numbers).saturating_add(needed) <= width {
            return;
        }
        for row in numbers.iter_mut().filter(|row| column < row.len()) {
            row.remove(column);
        }
    }
}

/// How the room for names is shared: modules get what they need up to a third, functions the rest.
struct Names {
    function: usize,
    module: usize,
}

impl Names {
    fn new(counts: &Counts, shown: &[usize], room: usize) -> Names {
        let Names { function, module } = Names::longest(counts, shown);
        let module = module.min(room / MODULE_SHARE);
        Names { function: function.min(room.saturating_sub(module + GAP.len())), module }
    }

    /// The columns of the longest function and the longest module.
    fn longest(counts: &Counts, shown: &[usize]) -> Names {
        let length = |text: &str| text.chars().count();
        let function = shown.iter().map(|&row| length(&counts.rows[row].name)).max().unwrap_or(0);
        let module = shown.iter().map(|&row| length(&counts.rows[row].module)).max().unwrap_or(0);
        Names { function: function.max("FUNCTION".len()), module: module.max("MODULE".len()) }
    }

    /// The columns that all names take without a cut.
    fn needed(counts: &Counts, shown: &[usize]) -> usize {
        let Names { function, module } = Names::longest(counts, shown);
        function + GAP.len() + module
    }

    fn of<'a>(&self, counts: &'a Counts, row: usize) -> (&'a str, &'a str) {
        (&counts.rows[row].name, &counts.rows[row].module)
    }

    fn line(&self, function: &str, module: &str) -> String {
        let (width, function, module) =
            (self.function.min(MAX_PADDING), fit(function, self.function), fit(module, self.module));
        format!("{function:<width$}{GAP}{module}")
    }
}

fn said_so(counts: &Counts, sums: &[FunctionSums], hidden: &[usize], out: &mut String) {
    if hidden.is_empty() {
        return;
    }
    let own: i128 = hidden.iter().map(|&row| sums[row].own).sum();
    let (number, share) = (amount(hidden.len() as i128, ""), counts.percent(own));
    out.push_str(&format!("({number} more functions with {share} of self; --limit 0 shows all)\n"));
}
