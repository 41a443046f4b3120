//! `rprof gate`: whether the new side has a regression, as an exit status.

mod policy;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::diff::write;
use super::show::{self, fit, printable};
use super::sides::{SIDE_HELP, SidesArgs, share, told};
use crate::encode::comparison::{self, of_what, percent_of, rate};
use crate::profile::compare::Comparison;
use crate::profile::compare::gate::{Finding, Outcome, Policy, Report, Status, Subject, Unlike};

/// Exit status of a regression.
const REGRESSION: i32 = 1;
/// Exit status where a pass would say nothing.
const INCONCLUSIVE: i32 = 3;

/// Tell by the exit status whether a new build has a regression: 0 none, 1 a regression, 2 an error, 3 inconclusive
#[derive(Args, Debug, Clone)]
#[command(after_help = SIDE_HELP)]
pub struct GateArgs {
    /// What is compared
    #[command(flatten)]
    pub sides: SidesArgs,
    /// A file with what is allowed, for all and for single functions and modules (TOML)
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// A rise up to this share is allowed [default: 5%]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub max_regression: Option<f64>,
    /// A rise by a smaller share of the base's whole does not matter [default: 0.5%]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub min_share: Option<f64>,
    /// A rise by this share of the whole, of a function that has 5 % of it, must be detectable, or the gate is inconclusive [default: 2%]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub detect: Option<f64>,
    /// Fail for cost that only moved from one function to another, too
    #[arg(long)]
    pub fail_on_shifted: bool,
    /// Compare what is unlike: other events, frequencies, numbers of CPUs, shares of unknown frames
    #[arg(long)]
    pub force: bool,
    /// The result as JUnit's XML, to a file
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// The result as JSON, to a file or the standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
    /// The result as Markdown, to a file or the standard output
    #[arg(long, visible_alias = "md", value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub markdown: Option<PathBuf>,
    /// Say nothing; the exit status tells
    #[arg(short, long)]
    pub quiet: bool,
}

/// Judges, and answers the exit status: 0, 1 or 3; what cannot be judged is 2.
#[must_use]
pub fn run(args: &GateArgs) -> i32 {
    match judge(args) {
        Ok(status) => status,
        Err(error) => {
            super::complain(&error);
            super::GATE_ERROR.into()
        }
    }
}

fn judge(args: &GateArgs) -> anyhow::Result<i32> {
    let policy = args.policy()?;
    let compared = args.sides.compare(None)?;
    let comparison = &compared.comparison;
    let unlike: Vec<String> = comparison.unlike().into_iter().map(|Unlike(what)| what).collect();
    if !unlike.is_empty() && !args.force {
        anyhow::bail!(
            "the sides are unlike: {}; record both alike, or compare them nonetheless with --force",
            unlike.join("; ")
        );
    }
    let report = comparison.gate(&policy);
    args.write(comparison, &report, &unlike)?;
    let takes_stdout = [&args.json, &args.markdown, &args.junit]
        .iter()
        .any(|path| path.as_deref().is_some_and(|path| path.as_os_str() == "-"));
    if !args.quiet && !takes_stdout {
        show::print(&format!("{}{}", told(&compared), render(comparison, &report, show::width())))?;
    }
    Ok(match report.outcome {
        Outcome::Pass => 0,
        Outcome::Regression => REGRESSION,
        Outcome::Inconclusive => INCONCLUSIVE,
    })
}

impl GateArgs {
    /// What is allowed: the command line's word goes before the file's.
    fn policy(&self) -> anyhow::Result<Policy> {
        let mut policy = self.policy.as_ref().map_or_else(|| Ok(Policy::default()), |path| policy::read(path))?;
        policy.max_regression = self.max_regression.unwrap_or(policy.max_regression);
        policy.min_share = self.min_share.unwrap_or(policy.min_share);
        policy.detect = self.detect.unwrap_or(policy.detect);
        policy.fail_on_shifted |= self.fail_on_shifted;
        Ok(policy)
    }

    fn write(&self, comparison: &Comparison, report: &Report, warnings: &[String]) -> anyhow::Result<()> {
        if let Some(path) = &self.json {
            let document = comparison::gate_json(comparison, report, warnings);
            write(path, format!("{}\n", serde_json::to_string_pretty(&document)?).as_bytes())?;
        }
        if let Some(path) = &self.markdown {
            write(path, comparison::gate_markdown(comparison, report, warnings).as_bytes())?;
        }
        if let Some(path) = &self.junit {
            let mut bytes = Vec::new();
            comparison::junit(comparison, report, warnings, &mut bytes)?;
            write(path, &bytes)?;
        }
        Ok(())
    }
}

/// The result for people.
fn render(comparison: &Comparison, report: &Report, width: usize) -> String {
    let mut out = String::from("\n");
    for finding in &report.findings {
        tell(comparison, finding, width, &mut out);
    }
    let doubt = if report.outcome == Outcome::Inconclusive { "inconclusive" } else { "a pass would have said nothing" };
    for reason in &report.reasons {
        let _ = writeln!(out, "{doubt}: {}", printable(reason));
    }
    let told: Vec<String> =
        report.detectable.iter().map(|of| format!("{} of {:.0} %", percent_of(of.ratio), of.share * 100.0)).collect();
    let _ = writeln!(out, "would have been found, nine times of ten: a rise by {}", told.join(", "));
    let failures = report.failures().count();
    let _ = match report.outcome {
        Outcome::Pass => writeln!(out, "pass: nothing of {} functions has more than is allowed", report.tested),
        Outcome::Regression => writeln!(out, "regression: {failures} finding{}", if failures == 1 { "" } else { "s" }),
        Outcome::Inconclusive => writeln!(out, "inconclusive: a pass would say nothing"),
    };
    out
}

fn tell(comparison: &Comparison, finding: &Finding, width: usize, out: &mut String) {
    let name = |at: usize| printable(&comparison.functions[at].function.name);
    let (what, module) = match finding.subject {
        Subject::Whole => ("everything".to_owned(), String::new()),
        Subject::Module(at) => (format!("all of {}", printable(&comparison.modules[at].name)), String::new()),
        Subject::Own(at) => (name(at), printable(&comparison.functions[at].function.module)),
        Subject::Total(at) => {
            (format!("{} with what it calls", name(at)), printable(&comparison.functions[at].function.module))
        }
    };
    let status = match &finding.status {
        Status::Fails => "FAILS".to_owned(),
        Status::Shifted(within) => format!("moved within {}:", name(*within)),
        Status::WentAway => "went away:".into(),
        Status::Ignored(None) => "ignored:".into(),
        Status::Ignored(Some(reason)) => format!("ignored ({}):", printable(reason)),
    };
    let module = if module.is_empty() { module } else { format!("  [{module}]") };
    let _ = writeln!(out, "{}", fit(&format!("{status} {what}{module}"), width));
    let of = &finding.estimate;
    let _ = writeln!(
        out,
        "      {} → {}{}: {}, at least {} (allowed {}); {} of all",
        rate(comparison, of.rate[0]),
        rate(comparison, of.rate[1]),
        of_what(comparison),
        if of.is_new() { "new".into() } else { percent_of(of.ratio) },
        percent_of(of.ratio_low),
        percent_of(1.0 + finding.allowed),
        if finding.share.is_finite() { format!("{:+.2} %", finding.share * 100.0) } else { "∞".into() },
    );
    if !finding.callers.is_empty() {
        let callers: Vec<String> =
            finding.callers.iter().map(|(at, part)| format!("{} ({:.0} %)", name(*at), part * 100.0)).collect();
        let _ = writeln!(out, "{}", fit(&format!("      called by {}", callers.join(", ")), width));
    }
    if !finding.risen_with.is_empty() {
        let risen: Vec<String> = finding.risen_with.iter().map(|&at| name(at)).collect();
        let _ = writeln!(out, "{}", fit(&format!("      rose with it: {}", risen.join(", ")), width));
    }
}
