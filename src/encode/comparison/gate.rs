//! What a gate tells, for pipelines: JUnit, JSON and Markdown.

use std::fmt::Write as _;
use std::io::{self, Write};

use quick_junit::{NonSuccessKind, Report as JUnit, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Value, json};

use super::json::{estimate, side};
use super::markdown::{change, code, escape, of_what, percent_of, rate, sides, signed};
use crate::profile::compare::Comparison;
use crate::profile::compare::gate::{Finding, Report, Status, Subject};

/// The name of what a finding is about, and its module.
fn subject<'a>(comparison: &'a Comparison, finding: &Finding) -> (&'a str, &'a str) {
    match finding.subject {
        Subject::Whole => ("everything", ""),
        Subject::Module(at) => (&comparison.modules[at].name, &comparison.modules[at].name),
        Subject::Own(at) | Subject::Total(at) => {
            let function = &comparison.functions[at].function;
            (&function.name, &function.module)
        }
    }
}

/// What kind of thing it is about.
fn kind(finding: &Finding) -> &'static str {
    match finding.subject {
        Subject::Whole => "whole",
        Subject::Module(_) => "module",
        Subject::Own(_) => "self",
        Subject::Total(_) => "total",
    }
}

fn name(comparison: &Comparison, function: usize) -> &str {
    &comparison.functions[function].function.name
}

/// The whole of a gate as JSON. docs/gate.md describes the fields.
#[must_use]
pub fn gate_json(comparison: &Comparison, report: &Report, warnings: &[String]) -> Value {
    let findings = report.findings.iter().map(|finding| {
        let (function, module) = subject(comparison, finding);
        let (status, detail) = match &finding.status {
            Status::Fails => ("fails", None),
            Status::Shifted(within) => ("shifted", Some(name(comparison, *within).to_owned())),
            Status::WentAway => ("went_away", None),
            Status::Ignored(reason) => ("ignored", reason.clone()),
        };
        json!({
            "kind": kind(finding), "name": function, "module": module, "status": status, "detail": detail,
            "estimate": estimate(&finding.estimate), "chance_up": finding.estimate.chance_up,
            "share_of_whole": finding.share, "max_regression": finding.allowed,
            "callers": finding.callers.iter().map(|(at, part)| json!({ "function": name(comparison, *at), "part": part })).collect::<Vec<_>>(),
            "risen_with": finding.risen_with.iter().map(|&at| name(comparison, at)).collect::<Vec<_>>(),
        })
    });
    json!({
        "version": 1,
        "outcome": report.outcome.name(),
        "value": { "name": comparison.value, "unit": comparison.unit },
        "normalize": comparison.normalize.name(), "rate_unit": comparison.rate_unit(),
        "base": side(&comparison.sides[0]), "new": side(&comparison.sides[1]),
        "whole": estimate(&comparison.whole),
        "tested": report.tested,
        "findings": findings.collect::<Vec<_>>(),
        "detectable": report.detectable.iter().map(|of| json!({ "share": of.share, "rise": of.ratio - 1.0 })).collect::<Vec<_>>(),
        "inconclusive": report.reasons,
        "warnings": warnings,
        "remarks": comparison.remarks,
    })
}

/// A finding in a line: `+25.3 % (+18.1 % … +33.0 %), 0.76 % of all: …`.
#[must_use]
pub(super) fn sentence(comparison: &Comparison, finding: &Finding) -> String {
    let of = &finding.estimate;
    format!(
        "{} → {}{} ({}, at least {}, allowed {}), {} of all",
        rate(comparison, of.rate[0]),
        rate(comparison, of.rate[1]),
        of_what(comparison),
        change(of),
        percent_of(of.ratio_low),
        percent_of(1.0 + finding.allowed),
        if finding.share.is_finite() { format!("{:+.2} %", finding.share * 100.0) } else { "more than 100 %".into() },
    )
}

/// A gate as Markdown, for a comment on a change.
#[must_use]
pub fn gate_markdown(comparison: &Comparison, report: &Report, warnings: &[String]) -> String {
    let mut out = format!("## rprof gate: {}\n\n", report.outcome.name());
    sides(comparison, &mut out);
    if report.findings.is_empty() {
        out.push_str("Nothing has more than is allowed.\n");
    } else {
        out.push_str("| | function | module | base | new | change | at least | of all | callers |\n|---|---|---|---:|---:|---:|---:|---:|---|\n");
        for finding in &report.findings {
            let (function, module) = subject(comparison, finding);
            let status = match &finding.status {
                Status::Fails => "**fails**".into(),
                Status::Shifted(within) => format!("moved within {}", code(name(comparison, *within))),
                Status::WentAway => "went away".into(),
                Status::Ignored(reason) => {
                    format!(
                        "ignored{}",
                        reason.as_ref().map_or(String::new(), |reason| format!(": {}", escape(reason)))
                    )
                }
            };
            let callers: Vec<String> = finding.callers.iter().map(|(at, _)| code(name(comparison, *at))).collect();
            let of = &finding.estimate;
            let _ = writeln!(
                out,
                "| {status} | {} ({}) | {} | {} | {} | {} | {} | {} | {} |",
                code(function),
                kind(finding),
                escape(module),
                rate(comparison, of.rate[0]),
                rate(comparison, of.rate[1]),
                signed(comparison, of.difference),
                percent_of(of.ratio_low),
                if finding.share.is_finite() { format!("{:.2} %", finding.share * 100.0) } else { "∞".into() },
                callers.join(", "),
            );
        }
    }
    for reason in report.reasons.iter().chain(warnings) {
        let _ = writeln!(out, "\n- {}", escape(reason));
    }
    let told: Vec<String> = report
        .detectable
        .iter()
        .map(|of| format!("{} where a function has {:.0} %", percent_of(of.ratio), of.share * 100.0))
        .collect();
    let _ = writeln!(out, "\nThe smallest rise that would have been found: {}.", told.join(", "));
    out
}

/// Writes a gate as JUnit's XML: a test for the gate itself, and one for each finding.
///
/// # Errors
/// If it cannot be written.
pub fn junit(comparison: &Comparison, report: &Report, warnings: &[String], out: &mut dyn Write) -> io::Result<()> {
    let mut suite = TestSuite::new("rprof gate");
    let mut gate = TestCase::new("enough to tell", TestCaseStatus::success());
    if !report.reasons.is_empty() {
        gate.status = TestCaseStatus::skipped();
        gate.status.set_message(report.reasons.join("; "));
    }
    gate.set_classname("rprof");
    suite.add_test_case(gate);
    for finding in &report.findings {
        let (function, module) = subject(comparison, finding);
        let mut status = match &finding.status {
            Status::Fails => TestCaseStatus::non_success(NonSuccessKind::Failure),
            Status::Shifted(_) | Status::WentAway | Status::Ignored(_) => TestCaseStatus::skipped(),
        };
        let what = match &finding.status {
            Status::Fails => String::new(),
            Status::Shifted(within) => format!("cost moved within {}: ", name(comparison, *within)),
            Status::WentAway => "went away: ".into(),
            Status::Ignored(reason) => {
                format!("ignored by the policy ({}): ", reason.as_deref().unwrap_or("no reason told"))
            }
        };
        status.set_message(format!("{what}{}", sentence(comparison, finding)));
        if finding.status == Status::Fails {
            status.set_type("regression");
        }
        let mut case = TestCase::new(format!("{function} ({})", kind(finding)), status);
        case.set_classname(if module.is_empty() { "rprof" } else { module });
        suite.add_test_case(case);
    }
    if report.findings.is_empty() {
        let mut case = TestCase::new("nothing has more than is allowed", TestCaseStatus::success());
        case.set_classname("rprof");
        suite.add_test_case(case);
    }
    if !warnings.is_empty() {
        suite.set_system_err(warnings.join("\n"));
    }
    let mut junit = JUnit::new("rprof gate");
    junit.add_test_suite(suite);
    junit.serialize(out).map_err(io::Error::other)
}
