//! What calls what, with what changed.

use std::fmt::Write as _;

use super::mark;
use crate::cli::show::{fit, printable};
use crate::encode::comparison::{rate, signed};
use crate::profile::compare::Comparison;

/// Deeper branches are not indented further: the names would have no room.
const MAX_INDENT: usize = 24;
/// Width of the numbers before a name.
const NUMBERS: usize = 38;
/// A function's name is cut to no less than this.
const MIN_NAME: usize = 20;

/// A node with all that it called, and what it called.
#[derive(Clone, Default)]
struct Sum {
    rate: [f64; 2],
    children: Vec<usize>,
}

/// The tree from the roots; branches that changed by less than `min_share` percent of the whole are left out.
pub(super) fn render(comparison: &Comparison, min_share: f64, width: usize) -> String {
    let (sums, roots) = sums(comparison);
    let whole = comparison.whole.rate[0].max(comparison.whole.rate[1]);
    // A branch whose parts cancel each other out is shown for its parts.
    let changed = changes(comparison, &sums);
    let least = whole * min_share / 100.0;
    let mut out = format!("\n{:>11} {:>11} {:>11}  FUNCTION\n", "DIFFERENCE", "BASE", "NEW");
    let mut waiting: Vec<(usize, usize)> = Vec::new();
    push(&roots, 0, &changed, least, &mut waiting);
    while let Some((node, depth)) = waiting.pop() {
        let sum = &sums[node];
        let change = &comparison.functions[comparison.tree[node].function as usize];
        let indent = "  ".repeat(depth.min(MAX_INDENT));
        // What is said of the function is true of a branch that goes its way; another has moved against it, or is not tested.
        let along = (sum.rate[1] - sum.rate[0]) * change.total.difference > 0.0;
        let mark = if along { mark(change, &change.total) } else { String::new() };
        let mut name = printable(&change.function.name);
        if !change.function.module.is_empty() {
            let module = change.function.module.trim_start_matches('[').trim_end_matches(']');
            name = format!("{name}  [{}]", printable(module));
        }
        if !mark.is_empty() {
            name = format!("{mark}: {name}");
        }
        let _ = writeln!(
            out,
            "{:>11} {:>11} {:>11}  {indent}{}",
            signed(comparison, sum.rate[1] - sum.rate[0]),
            rate(comparison, sum.rate[0]),
            rate(comparison, sum.rate[1]),
            fit(&name, width.saturating_sub(NUMBERS + indent.len()).max(MIN_NAME))
        );
        // A chain without branches goes straight down: the width is kept for names.
        let branches = sum.children.iter().filter(|&&child| changed[child] >= least).count() > 1;
        push(&sum.children, depth + usize::from(branches), &changed, least, &mut waiting);
    }
    if least > 0.0 {
        let _ = writeln!(
            out,
            "(branches that changed by less than {min_share} % of the whole are left out; --min-share 0 shows all)"
        );
    }
    out
}

/// Each node's sums, and the roots.
fn sums(comparison: &Comparison) -> (Vec<Sum>, Vec<usize>) {
    let mut sums = vec![Sum::default(); comparison.tree.len()];
    let mut roots = Vec::new();
    for (at, node) in comparison.tree.iter().enumerate().rev() {
        for side in [0, 1] {
            sums[at].rate[side] += node.value[side] * comparison.sides[side].scale;
        }
        let rate = sums[at].rate;
        match node.parent {
            Some(parent) => {
                let parent = &mut sums[parent as usize];
                (0..2).for_each(|side| parent.rate[side] += rate[side]);
                parent.children.push(at);
            }
            None => roots.push(at),
        }
    }
    (sums, roots)
}

/// How much each node or any below it changed.
fn changes(comparison: &Comparison, sums: &[Sum]) -> Vec<f64> {
    let mut changes: Vec<f64> = sums.iter().map(|sum| (sum.rate[1] - sum.rate[0]).abs()).collect();
    for (at, node) in comparison.tree.iter().enumerate().rev() {
        if let Some(parent) = node.parent {
            changes[parent as usize] = changes[parent as usize].max(changes[at]);
        }
    }
    changes
}

/// Puts the children on the stack of waiting lines, so that the one that changed most is taken first.
fn push(children: &[usize], depth: usize, changed: &[f64], least: f64, waiting: &mut Vec<(usize, usize)>) {
    let mut shown: Vec<usize> = children.iter().copied().filter(|&child| changed[child] >= least).collect();
    shown.sort_by(|&a, &b| changed[a].total_cmp(&changed[b]).then(b.cmp(&a)));
    waiting.extend(shown.into_iter().map(|child| (child, depth)));
}
