//! Trees of calls: from the roots of the stacks, or from one function up to its callers or down to its callees.

use anyhow::bail;
use rustc_hash::FxHashMap;

use super::text::fit;
use super::{Counts, Node, ShowArgs, Tree, printable};

/// Deeper branches are not indented further: the names would have no room.
const MAX_INDENT: usize = 24;
/// Width of the numbers before a name: share, value, and what lies around them.
const NUMBERS: usize = 24;
/// A function's name is cut to no less than this.
const MIN_NAME: usize = 20;
/// Names that an error about an unknown function offers.
const OFFERED: usize = 3;

/// What calls what, from the roots of the stacks.
pub(super) fn callees_of_roots(counts: &Counts, args: &ShowArgs, width: usize, out: &mut String) {
    print(&Tree::of_callees(counts), counts, args.min_share, width, out);
}

/// Who calls a function: each stack from the function's innermost call up. A function that was inlined into code of several modules is one
/// root, whatever module it is in.
pub(super) fn callers(
    counts: &Counts,
    function: &str,
    args: &ShowArgs,
    width: usize,
    out: &mut String,
) -> anyhow::Result<()> {
    out.push_str(&format!("callers of {} (each line is called by the lines below it)\n", printable(function)));
    print(&Tree::callers_of(counts, &find(counts, function)?), counts, args.min_share, width, out);
    Ok(())
}

/// What a function calls: each stack from the function's outermost call down.
pub(super) fn callees(
    counts: &Counts,
    function: &str,
    args: &ShowArgs,
    width: usize,
    out: &mut String,
) -> anyhow::Result<()> {
    out.push_str(&format!("callees of {} (each line calls the lines below it)\n", printable(function)));
    print(&Tree::callees_of(counts, &find(counts, function)?), counts, args.min_share, width, out);
    Ok(())
}

/// The rows of the functions of this name, without one of those whose names contain it: for each the first row of its name.
fn find(counts: &Counts, function: &str) -> anyhow::Result<Vec<Option<usize>>> {
    let is_same = |name: &str| name == function;
    let exact = counts.rows.iter().any(|row| is_same(&row.name));
    let matches = |name: &str| if exact { is_same(name) } else { name.contains(function) };
    let mut first: FxHashMap<&str, usize> = FxHashMap::default();
    let found = counts
        .rows
        .iter()
        .enumerate()
        .map(|(at, row)| matches(&row.name).then(|| *first.entry(&row.name).or_insert(at)));
    let found: Vec<Option<usize>> = found.collect();
    if found.iter().any(Option::is_some) {
        return Ok(found);
    }
    let mut near: Vec<&str> = counts.rows.iter().map(|row| &*row.name).collect();
    near.sort_by_cached_key(|name| strsim::damerau_levenshtein(function, name));
    near.dedup();
    near.truncate(OFFERED);
    bail!("no function's name contains {function:?}; the most similar are {}", near.join(", "))
}

/// A node that waits to be printed, or the line that tells what was left out.
enum Line {
    Node { node: usize, depth: usize },
    Hidden { number: usize, value: i128, depth: usize },
}

/// Depth first, largest first; without recursion, because a stack may be deeper than the program's own.
fn print(tree: &Tree, counts: &Counts, min_share: f64, width: usize, out: &mut String) {
    let least = least(counts.total, min_share);
    let mut waiting = Vec::new();
    push_children(tree, &tree.roots, 0, least, &mut waiting);
    while let Some(line) = waiting.pop() {
        match line {
            Line::Node { node: at, depth } => {
                let (node, children) = (&tree.nodes[at], tree.children(at));
                print_node(counts, node, depth, width, out);
                // A chain without branches goes straight down: the width is kept for names.
                let branches = children.len() > 1 || node.own != 0;
                push_children(tree, children, depth + usize::from(branches), least, &mut waiting);
            }
            Line::Hidden { number, value, depth } => {
                let indent = indent(depth);
                let (share, value) = (counts.percent(value), counts.amount(value));
                out.push_str(&format!("{share:>9}  {value:>11}  {indent}({number} more, each below {min_share} %)\n"));
            }
        }
    }
    if least > 1 {
        out.push_str(&format!("(branches below {min_share} % are left out; --min-share 0 shows all)\n"));
    }
}

/// Puts the children on the stack of waiting lines, so that the largest is taken first and what is left out last.
fn push_children(tree: &Tree, children: &[usize], depth: usize, least: i128, waiting: &mut Vec<Line>) {
    let (shown, hidden): (Vec<usize>, Vec<usize>) =
        children.iter().partition(|&&node| tree.nodes[node].value.abs() >= least);
    let value: i128 = hidden.iter().map(|&node| tree.nodes[node].value).sum();
    // Many small ones make a large one that is missed; a few are told by the last line.
    if !hidden.is_empty() && value.abs() >= least {
        waiting.push(Line::Hidden { number: hidden.len(), value, depth });
    }
    waiting.extend(shown.into_iter().rev().map(|node| Line::Node { node, depth }));
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a bound, not a sum")]
fn least(total: i128, min_share: f64) -> i128 {
    (total.abs() as f64 * min_share / 100.0).ceil() as i128
}

fn print_node(counts: &Counts, node: &Node, depth: usize, width: usize, out: &mut String) {
    let (row, indent) = (&counts.rows[node.row], indent(depth));
    let mut name = row.name.clone();
    if !row.module.is_empty() {
        name = format!("{name}  [{}]", row.module.trim_start_matches('[').trim_end_matches(']'));
    }
    let name = fit(&name, width.saturating_sub(NUMBERS + indent.len()).max(MIN_NAME));
    let (share, value) = (counts.percent(node.value), counts.amount(node.value));
    out.push_str(&format!("{share:>9}  {value:>11}  {indent}{name}\n"));
}

fn indent(depth: usize) -> String {
    "  ".repeat(depth.min(MAX_INDENT))
}
