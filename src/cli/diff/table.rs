//! The table of functions that changed.

use std::fmt::Write as _;

use super::{DiffArgs, Sort, mark};
use crate::cli::show::{fit, printable};
use crate::encode::comparison::{rate, signed};
use crate::profile::compare::{Change, Comparison, Estimate};

/// Room between two columns.
const GAP: &str = "  ";
/// A name is cut to no less than this, however narrow the terminal.
const MIN_NAME: usize = 20;

/// The functions that changed most, their lines at most `width` characters long where they hold names.
pub(super) fn render(comparison: &Comparison, args: &DiffArgs, width: usize) -> String {
    let (of, headings): (fn(&Change) -> &Estimate, _) = match args.sort {
        Sort::Own => (|change| &change.own, ["", "SELF", "INTERVAL", "BASE", "NEW", "TOTAL"]),
        Sort::Total => (|change| &change.total, ["", "TOTAL", "INTERVAL", "BASE", "NEW", "SELF"]),
    };
    let other = |change: &Change| match args.sort {
        Sort::Own => change.total.difference,
        Sort::Total => change.own.difference,
    };
    let mut order = comparison.by_change(of);
    order.retain(|&at| {
        let change = &comparison.functions[at];
        of(change).rate != [0.0, 0.0] && (of(change).significant || !args.significant)
    });
    let limit = if args.rows() == 0 { order.len() } else { args.rows().min(order.len()) };
    let row = |&at: &usize| {
        let change = &comparison.functions[at];
        let estimate = of(change);
        [
            mark(change, estimate),
            signed(comparison, estimate.difference),
            format!("{} … {}", signed(comparison, estimate.low), signed(comparison, estimate.high)),
            rate(comparison, estimate.rate[0]),
            rate(comparison, estimate.rate[1]),
            signed(comparison, other(change)),
        ]
    };
    let cells: Vec<[String; 6]> =
        std::iter::once(headings.map(str::to_owned)).chain(order[..limit].iter().map(row)).collect();
    let widths: Vec<usize> =
        (0..6).map(|column| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let room = width.saturating_sub(widths.iter().map(|width| width + GAP.len()).sum()).max(MIN_NAME);
    let mut out = String::from("\n");
    for (at, row) in cells.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column == 0 { write!(out, "{cell:<width$}{GAP}") } else { write!(out, "{cell:>width$}{GAP}") };
        }
        let name = match at.checked_sub(1).map(|at| &comparison.functions[order[at]].function) {
            None => "FUNCTION  [MODULE]".to_owned(),
            Some(function) if function.module.is_empty() => printable(&function.name),
            Some(function) => {
                let module = function.module.trim_start_matches('[').trim_end_matches(']');
                format!("{}  [{}]", printable(&function.name), printable(module))
            }
        };
        let _ = writeln!(out, "{}", fit(&name, room));
    }
    if limit < order.len() {
        let _ = writeln!(out, "({} more functions; -n 0 shows all)", order.len() - limit);
    }
    if order.is_empty() {
        out.push_str("(no function changed beyond chance)\n");
    }
    let percent = (comparison.options.confidence * 100.0).round();
    let _ = writeln!(
        out,
        "intervals hold the true difference with {percent} %; marks in parentheses, and none, are of what is no more than chance makes"
    );
    out
}
