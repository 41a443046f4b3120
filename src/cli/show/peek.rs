//! The neighbours of functions: who called each, and what it called.

use std::cmp::Reverse;

use anyhow::bail;
use regex::Regex;
use rustc_hash::{FxHashMap, FxHashSet};

use super::text::fit;
use super::{Counts, functions};

/// A name is cut to no less than this.
const MIN_NAME: usize = 20;
/// Width of the numbers before a name.
const NUMBERS: usize = 40;

/// Writes each function that matches between its callers and its callees, the largest function first.
pub(super) fn neighbours(counts: &Counts, wanted: &Regex, width: usize, out: &mut String) -> anyhow::Result<()> {
    let sums = functions(counts);
    let mut found: Vec<usize> = (0..counts.rows.len()).filter(|&row| wanted.is_match(&counts.rows[row].name)).collect();
    if found.is_empty() {
        bail!("no function's name matches {:?}", wanted.as_str());
    }
    found.sort_by_key(|&row| Reverse((sums[row].total.abs(), sums[row].own.abs())));
    let (mut callers, mut callees) = (Neighbours::default(), Neighbours::default());
    for ((caller, callee), value) in edges(counts) {
        callers.entry(callee).or_default().push((caller, value));
        callees.entry(caller).or_default().push((callee, value));
    }
    out.push_str(&format!("{:>9}  {:>11}  {:>11}  callers above, callees below\n", "TOTAL %", "SELF", "TOTAL"));
    let name = |row: usize, indent: &str| {
        let row = &counts.rows[row];
        let name = if row.module.is_empty() { row.name.clone() } else { format!("{}  [{}]", row.name, row.module) };
        format!("{indent}{}", fit(&name, width.saturating_sub(NUMBERS).max(MIN_NAME)))
    };
    for row in found {
        let side = |of: &Neighbours| {
            let mut side = of.get(&row).cloned().unwrap_or_default();
            side.sort_by_key(|&(other, value)| (Reverse(value.abs()), &counts.rows[other].name));
            side
        };
        let line = |other: usize, value: i128| {
            format!("{:>9}  {:>11}  {:>11}  {}\n", counts.percent(value), "", counts.amount(value), name(other, "    "))
        };
        side(&callers).into_iter().for_each(|(other, value)| out.push_str(&line(other, value)));
        let (own, total) = (counts.amount(sums[row].own), counts.amount(sums[row].total));
        out.push_str(&format!("{:>9}  {own:>11}  {total:>11}  {}\n", counts.percent(sums[row].total), name(row, "")));
        side(&callees).into_iter().for_each(|(other, value)| out.push_str(&line(other, value)));
        out.push('\n');
    }
    Ok(())
}

/// The rows on one side of each row, and what was counted with them.
type Neighbours = FxHashMap<usize, Vec<(usize, i128)>>;

/// What was counted in stacks with a call from one row to another; a call that stands twice in a stack counts once.
fn edges(counts: &Counts) -> FxHashMap<(usize, usize), i128> {
    let mut edges: FxHashMap<(usize, usize), i128> = FxHashMap::default();
    let mut seen = FxHashSet::default();
    for stack in &counts.stacks {
        seen.clear();
        for pair in counts.rows_of(stack).windows(2) {
            let edge = (pair[1] as usize, pair[0] as usize);
            if seen.insert(edge) {
                *edges.entry(edge).or_insert(0) += stack.value;
            }
        }
    }
    edges
}
