//! Folded stacks with two counts: `root;…;leaf base new`, as `difffolded.pl` makes them and `flamegraph.pl` and inferno read them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::super::folded::{line, safe};
use crate::profile::compare::Comparison;

/// Writes a line for each stack, in alphabetical order: the base's number, as if it had been recorded like the new side, and the new one.
/// Numbers are of samples, or of values.
///
/// # Errors
/// If the bytes cannot be written.
pub fn folded(comparison: &Comparison, by_value: bool, out: &mut dyn Write) -> io::Result<()> {
    for (stack, [base, new]) in stacks(comparison, by_value, |node| name(comparison, node)) {
        let (base, new) = (whole(base), whole(new));
        if base != 0 || new != 0 {
            writeln!(out, "{} {base} {new}", line(&stack))?;
        }
    }
    Ok(())
}

/// The stacks root first, each once, with their sums; `name` is that of a node.
pub(in crate::encode) fn stacks(
    comparison: &Comparison,
    by_value: bool,
    name: impl Fn(usize) -> String,
) -> BTreeMap<Vec<String>, [f64; 2]> {
    let mut stacks: BTreeMap<Vec<String>, [f64; 2]> = BTreeMap::new();
    for (stack, [base, new]) in comparison.stacks(by_value) {
        let sum = stacks.entry(stack.into_iter().map(&name).collect()).or_default();
        (sum[0], sum[1]) = (sum[0] + base, sum[1] + new);
    }
    stacks
}

/// The name of a node's function, as it can stand in a stack.
pub(in crate::encode) fn name(comparison: &Comparison, node: usize) -> String {
    safe(&comparison.change_at(node).function.name).into_owned()
}

/// What readers of the format take: whole numbers, none below zero.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked, and rounded on purpose")]
pub(in crate::encode) fn whole(value: f64) -> u64 {
    value.max(0.0).round() as u64
}
