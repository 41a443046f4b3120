//! The table of functions: self, total, and samples of each.

use std::cmp::Reverse;

use super::text::{amount, fit};
use super::{Counts, ReportArgs, Sort};

/// Room between two columns.
const GAP: &str = "  ";
/// A name is cut to no less than this, however narrow the terminal.
const MIN_NAME: usize = 20;
/// A module's name is cut to this share of the room for names.
const MODULE_SHARE: usize = 3;

/// What was counted in a function.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    own: i128,
    total: i128,
    samples: i128,
}

/// Writes the table.
pub(super) fn functions(counts: &Counts, args: &ReportArgs, width: usize, out: &mut String) {
    let sums = sums(counts);
    let order = order(&sums, args.sort);
    let limit = if args.limit == 0 { order.len() } else { args.limit };
    let shown = &order[..limit.min(order.len())];
    let numbers = numbers(counts, &sums, shown);
    let widths = widths(&numbers);
    let used: usize = widths.iter().map(|width| width + GAP.len()).sum();
    let room = width.saturating_sub(used).max(MIN_NAME);
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
fn sums(counts: &Counts) -> Vec<Sums> {
    let mut sums = vec![Sums::default(); counts.rows.len()];
    let mut seen_at = vec![usize::MAX; counts.rows.len()];
    for (index, stack) in counts.stacks.iter().enumerate() {
        if let Some(&leaf) = stack.rows.first() {
            sums[leaf].own += stack.value;
        }
        for &row in &stack.rows {
            if seen_at[row] != index {
                seen_at[row] = index;
                sums[row].total += stack.value;
                sums[row].samples += stack.samples;
            }
        }
    }
    sums
}

fn order(sums: &[Sums], sort: Sort) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sums.len()).filter(|&row| sums[row].total != 0 || sums[row].samples != 0).collect();
    order.sort_by_key(|&row| match sort {
        Sort::Own => Reverse((sums[row].own.abs(), sums[row].total.abs())),
        Sort::Total => Reverse((sums[row].total.abs(), sums[row].own.abs())),
    });
    order
}

/// The numbers of the rows, as text, under their headings.
fn numbers(counts: &Counts, sums: &[Sums], shown: &[usize]) -> Vec<Vec<String>> {
    let mut headings: Vec<String> = ["SELF %", "SELF", "TOTAL %", "TOTAL"].map(str::to_owned).into();
    headings.extend(counts.has_samples.then(|| "SAMPLES".to_owned()));
    let row = |&row: &usize| {
        let Sums { own, total, samples } = sums[row];
        let mut cells = vec![counts.percent(own), counts.amount(own), counts.percent(total), counts.amount(total)];
        cells.extend(counts.has_samples.then(|| amount(samples, "")));
        cells
    };
    std::iter::once(headings).chain(shown.iter().map(row)).collect()
}

fn widths(numbers: &[Vec<String>]) -> Vec<usize> {
    let columns = numbers.first().map_or(0, Vec::len);
    (0..columns).map(|column| numbers.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect()
}

/// How the room for names is shared: modules get what they need up to a third, functions the rest.
struct Names {
    function: usize,
    module: usize,
}

impl Names {
    fn new(counts: &Counts, shown: &[usize], room: usize) -> Names {
        let length = |text: &str| text.chars().count();
        let longest = shown.iter().map(|&row| length(&counts.rows[row].module)).max().unwrap_or(0);
        let module = longest.max("MODULE".len()).min(room / MODULE_SHARE);
        let longest = shown.iter().map(|&row| length(&counts.rows[row].name)).max().unwrap_or(0);
        Names { function: longest.max("FUNCTION".len()).min(room.saturating_sub(module + GAP.len())), module }
    }

    fn of<'a>(&self, counts: &'a Counts, row: usize) -> (&'a str, &'a str) {
        (&counts.rows[row].name, &counts.rows[row].module)
    }

    fn line(&self, function: &str, module: &str) -> String {
        let (width, function, module) = (self.function, fit(function, self.function), fit(module, self.module));
        format!("{function:<width$}{GAP}{module}")
    }
}

fn said_so(counts: &Counts, sums: &[Sums], hidden: &[usize], out: &mut String) {
    if hidden.is_empty() {
        return;
    }
    let own: i128 = hidden.iter().map(|&row| sums[row].own).sum();
    let (number, share) = (amount(hidden.len() as i128, ""), counts.percent(own));
    out.push_str(&format!("({number} more functions with {share} of self; -n 0 shows all)\n"));
}
