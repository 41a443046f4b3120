//! The policy file: what a gate allows, in TOML.

use std::path::Path;

use anyhow::Context;
use regex::Regex;
use serde::Deserialize;

use crate::cli::usage;
use crate::profile::compare::gate::{Policy, Rule};
use crate::sys;

/// Bytes of a policy that are read.
const LONGEST: u64 = 1 << 20;

/// The file. A field of another name is a mistake, and is told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    max_regression: Option<Share>,
    min_share: Option<Share>,
    detect: Option<Share>,
    #[serde(default)]
    fail_on_shifted: bool,
    #[serde(default, rename = "rule")]
    rules: Vec<RuleFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    function: Option<String>,
    module: Option<String>,
    #[serde(default)]
    ignore: bool,
    max_regression: Option<Share>,
    min_share: Option<Share>,
    reason: Option<String>,
}

/// `"5%"` or `0.05`.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "ShareFile")]
struct Share(f64);

#[derive(Deserialize)]
#[serde(untagged)]
enum ShareFile {
    Text(String),
    Number(f64),
}

impl TryFrom<ShareFile> for Share {
    type Error = String;

    fn try_from(file: ShareFile) -> Result<Share, String> {
        match file {
            ShareFile::Text(text) => crate::cli::sides::share(&text).map(Share),
            ShareFile::Number(number) if number > 0.0 && number < 10.0 => Ok(Share(number)),
            ShareFile::Number(number) => Err(format!("{number} is no share: write \"5%\" or 0.05")),
        }
    }
}

/// Reads a policy.
///
/// # Errors
/// If the file cannot be read, or means nothing: what, and where.
pub(super) fn read(path: &Path) -> anyhow::Result<Policy> {
    let text =
        sys::read_regular(path, true, LONGEST).with_context(|| format!("cannot read the policy {}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    parse(&text).map_err(|problem| usage(format!("the policy {}: {}", path.display(), problem.trim_end())))
}

fn parse(text: &str) -> Result<Policy, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let usual = Policy::default();
    let of = |share: Option<Share>, otherwise: f64| share.map_or(otherwise, |share| share.0);
    Ok(Policy {
        max_regression: of(file.max_regression, usual.max_regression),
        min_share: of(file.min_share, usual.min_share),
        detect: of(file.detect, usual.detect),
        fail_on_shifted: file.fail_on_shifted,
        rules: file.rules.into_iter().map(rule).collect::<Result<_, _>>()?,
    })
}

fn rule(file: RuleFile) -> Result<Rule, String> {
    if file.function.is_none() && file.module.is_none() {
        return Err("a [[rule]] needs a function or a module, each a regular expression".into());
    }
    if !file.ignore && file.max_regression.is_none() && file.min_share.is_none() {
        return Err("a [[rule]] says nothing: give it ignore = true, max_regression or min_share".into());
    }
    let regex =
        |text: Option<String>| text.map(|text| Regex::new(&text).map_err(|error| error.to_string())).transpose();
    Ok(Rule {
        function: regex(file.function)?,
        module: regex(file.module)?,
        ignore: file.ignore,
        max_regression: file.max_regression.map(|share| share.0),
        min_share: file.min_share.map(|share| share.0),
        reason: file.reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_whole() {
        let policy = parse(
            "max_regression = \"10%\"\nmin_share = 0.01\nfail_on_shifted = true\n\
             [[rule]]\nfunction = \"^gc::\"\nignore = true\nreason = \"tuned apart\"\n\
             [[rule]]\nmodule = \"libssl\"\nmax_regression = 0.2\n",
        )
        .unwrap();
        assert_eq!((policy.max_regression, policy.min_share, policy.detect), (0.1, 0.01, 0.02));
        assert!(policy.fail_on_shifted && policy.rules.len() == 2 && policy.rules[0].ignore);
        assert_eq!(policy.rules[1].max_regression, Some(0.2));
        assert_eq!(policy.rules[0].reason.as_deref(), Some("tuned apart"));
    }

    #[test]
    fn what_means_nothing_is_told() {
        for (text, problem) in [
            ("max_regresion = 0.1", "unknown field"),
            ("max_regression = \"lots\"", "is no share"),
            ("min_share = -1", "is no share"),
            ("[[rule]]\nignore = true", "needs a function or a module"),
            ("[[rule]]\nfunction = \"x\"", "says nothing"),
            ("[[rule]]\nfunction = \"(\"\nignore = true", "unclosed group"),
            ("[[rule", "rule"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
