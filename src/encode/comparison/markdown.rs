//! A comparison as Markdown, for a comment on a change.

use std::fmt::Write as _;

use crate::profile::compare::{Change, Comparison, Estimate, Normalize, SideSummary};
use crate::text::steers;

/// The functions that changed most, as a table; `limit` of them (0 for all).
#[must_use]
pub fn markdown(comparison: &Comparison, limit: usize) -> String {
    let mut out = String::from("## What changed\n\n");
    sides(comparison, &mut out);
    let order = comparison.by_change(|change| &change.own);
    let shown = if limit == 0 { order.len() } else { limit.min(order.len()) };
    let percent = (comparison.options.confidence * 100.0).round();
    let _ = writeln!(
        out,
        "| | difference of self | {percent} % interval | base | new | difference of total | function | module |"
    );
    out.push_str("|---|---:|---:|---:|---:|---:|---|---|\n");
    for &at in &order[..shown] {
        row(comparison, &comparison.functions[at], &mut out);
    }
    if shown < order.len() {
        let _ = writeln!(out, "\n{} more functions are left out.", order.len() - shown);
    }
    out.push_str("\nRows in parentheses are no more than chance makes.\n");
    out
}

/// What was compared, as a list.
pub(super) fn sides(comparison: &Comparison, out: &mut String) {
    for (name, side) in ["base", "new"].iter().zip(&comparison.sides) {
        let _ = writeln!(out, "- **{name}**: {}", describe(side));
    }
    let whole = &comparison.whole;
    let _ = writeln!(
        out,
        "- everything: {} → {}{} ({}, {} … {}){}",
        rate(comparison, whole.rate[0]),
        rate(comparison, whole.rate[1]),
        of_what(comparison),
        change(whole),
        percent_of(whole.ratio_low),
        percent_of(whole.ratio_high),
        if whole.significant { "" } else { ", no more than chance makes" },
    );
    if !comparison.measured {
        out.push_str("- too few sub-windows to tell how much values vary: a tenth is assumed\n");
    }
    for remark in &comparison.remarks {
        let _ = writeln!(out, "- {}", escape(remark));
    }
    out.push('\n');
}

/// One side in a line.
#[must_use]
pub(super) fn describe(side: &SideSummary) -> String {
    let files = side.about.profiles;
    format!(
        "{files} profile{}, {} sub-window{}, {:.1} s, {:.0} samples, {:.2} % lost",
        if files == 1 { "" } else { "s" },
        side.windows,
        if side.windows == 1 { "" } else { "s" },
        side.seconds,
        side.samples,
        side.lost_share() * 100.0
    )
}

fn row(comparison: &Comparison, of: &Change, out: &mut String) {
    let own = &of.own;
    let verdict = of.verdict_of(own).name();
    let verdict = if own.significant { verdict.to_owned() } else { format!("({verdict})") };
    let _ = writeln!(
        out,
        "| {verdict} | {} | {} … {} | {} | {} | {} | {} | {} |",
        signed(comparison, own.difference),
        signed(comparison, own.low),
        signed(comparison, own.high),
        rate(comparison, own.rate[0]),
        rate(comparison, own.rate[1]),
        signed(comparison, of.total.difference),
        code(&of.function.name),
        escape(&of.function.module),
    );
}

/// A rate for people: shares and CPUs in percent, others with three digits.
#[must_use]
pub fn rate(comparison: &Comparison, rate: f64) -> String {
    let is_share = match comparison.normalize {
        Normalize::Share => true,
        Normalize::Cpus => comparison.unit == "nanoseconds",
        Normalize::Samples | Normalize::Work(_) => false,
    };
    match (is_share, comparison.unit.as_str()) {
        (true, _) => format!("{:.2} %", rate * 100.0),
        (false, "nanoseconds") => in_units(rate, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")]),
        (false, "bytes") => {
            in_units(rate, &[(1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")])
        }
        _ if rate.abs() >= 1000.0 || rate.fract() == 0.0 => format!("{rate:.0}"),
        _ => format!("{rate:.2}"),
    }
}

/// What rates are of, behind a number that [`rate`] shows: ` of all CPUs`.
#[must_use]
pub fn of_what(comparison: &Comparison) -> &'static str {
    match comparison.normalize {
        Normalize::Cpus if comparison.value == "cpu" && comparison.unit == "nanoseconds" => " of all CPUs",
        Normalize::Cpus if comparison.unit == "nanoseconds" => " of the time of all CPUs",
        Normalize::Cpus if comparison.value.starts_with("inuse_") => "",
        Normalize::Cpus => " a second and CPU",
        Normalize::Share => " of all samples",
        Normalize::Samples => "",
        Normalize::Work(_) => " per unit of work",
    }
}

fn in_units(value: f64, units: &[(f64, &str)]) -> String {
    let fits = units.iter().find(|(size, _)| value.abs() >= *size).or(units.last());
    fits.map_or_else(|| value.to_string(), |(size, unit)| format!("{:.2} {unit}", value / size))
}

/// A difference with its sign.
#[must_use]
pub fn signed(comparison: &Comparison, difference: f64) -> String {
    let text = rate(comparison, difference);
    if difference > 0.0 { format!("+{text}") } else { text }
}

/// How much a rate changed: `+12.5 %`, `new`, `gone`.
#[must_use]
pub(super) fn change(of: &Estimate) -> String {
    match of {
        of if of.is_new() => "new".into(),
        of if of.is_gone() => "gone".into(),
        of => percent_of(of.ratio),
    }
}

/// A ratio as people tell it: `+12.5 %`, `×140`.
#[must_use]
pub fn percent_of(ratio: f64) -> String {
    match ratio {
        ratio if !ratio.is_finite() => "∞".into(),
        ratio if ratio < 10.0 => format!("{:+.1} %", (ratio - 1.0) * 100.0),
        ratio => format!("×{ratio:.0}"),
    }
}

/// A name as code in a cell: names are hostile, and a cell ends at a bar.
pub(super) fn code(name: &str) -> String {
    let safe: String = name.chars().map(|c| if steers(c) { '?' } else { c }).collect();
    let longest = safe.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if safe.starts_with('`') || safe.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{}{pad}{fence}", safe.replace('|', "\\|"))
}

/// Text that Markdown shows as it is.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '#' | '|' | '!' | '~' => out.extend(['\\', c]),
            c if steers(c) => out.push('?'),
            c => out.push(c),
        }
    }
    out
}
