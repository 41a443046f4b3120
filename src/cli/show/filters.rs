//! The options that choose stacks and frames, in pprof's spellings.

use clap::{ArgAction, Args};
use regex::Regex;

use crate::cli::UsageError;
use crate::profile::{Filter, TagFilter};

/// Which stacks and frames are wanted.
#[derive(Args, Debug, Clone, Default)]
pub struct FilterArgs {
    /// Only stacks with a function, source file or module that matches
    #[arg(long, value_name = "REGEX")]
    pub focus: Option<String>,
    /// No stacks with a function, source file or module that matches
    #[arg(long, value_name = "REGEX")]
    pub ignore: Option<String>,
    /// Leave frames that match out of their stacks
    #[arg(long, value_name = "REGEX")]
    pub hide: Option<String>,
    /// Leave frames that do not match out of their stacks
    #[arg(long, value_name = "REGEX")]
    pub show: Option<String>,
    /// Leave out callers of the outermost frame that matches
    #[arg(long = "show_from", alias = "show-from", value_name = "REGEX")]
    pub show_from: Option<String>,
    /// Leave out what a function that matches calls
    #[arg(long = "prune_from", alias = "prune-from", value_name = "REGEX")]
    pub prune_from: Option<String>,
    /// Only samples with a label `key=REGEX`, or a number in a range: `key=1kb:4kb`
    #[arg(long, value_name = "[KEY=]WHAT")]
    pub tagfocus: Option<String>,
    /// No samples with such a label
    #[arg(long, value_name = "[KEY=]WHAT")]
    pub tagignore: Option<String>,
    /// Labels that become frames above the roots
    #[arg(long, value_name = "KEYS", value_delimiter = ',', action = ArgAction::Append)]
    pub tagroot: Vec<String>,
    /// Labels that become frames below the leaves
    #[arg(long, value_name = "KEYS", value_delimiter = ',', action = ArgAction::Append)]
    pub tagleaf: Vec<String>,
    /// Only labels whose key matches
    #[arg(long, value_name = "REGEX")]
    pub tagshow: Option<String>,
    /// No labels whose key matches
    #[arg(long, value_name = "REGEX")]
    pub taghide: Option<String>,
}

impl FilterArgs {
    /// The filters, their expressions compiled.
    ///
    /// # Errors
    /// If an expression is none: which, and where.
    pub fn filter(&self) -> anyhow::Result<Filter> {
        let keys = |keys: &[String]| keys.iter().filter(|key| !key.is_empty()).cloned().collect();
        Ok(Filter {
            focus: regex("focus", &self.focus)?,
            ignore: regex("ignore", &self.ignore)?,
            hide: regex("hide", &self.hide)?,
            show: regex("show", &self.show)?,
            show_from: regex("show_from", &self.show_from)?,
            prune_from: regex("prune_from", &self.prune_from)?,
            tag_focus: tags("tagfocus", &self.tagfocus)?,
            tag_ignore: tags("tagignore", &self.tagignore)?,
            tag_show: regex("tagshow", &self.tagshow)?,
            tag_hide: regex("taghide", &self.taghide)?,
            tag_root: keys(&self.tagroot),
            tag_leaf: keys(&self.tagleaf),
        })
    }
}

/// Compiles the expression of an option.
pub(in crate::cli) fn regex(option: &str, text: &Option<String>) -> anyhow::Result<Option<Regex>> {
    let compile = |text: &String| Regex::new(text).map_err(|error| UsageError(format!("--{option}: {error}")).into());
    text.as_ref().filter(|text| !text.is_empty()).map(compile).transpose()
}

fn tags(option: &str, text: &Option<String>) -> anyhow::Result<Option<TagFilter>> {
    let parse = |text: &String| {
        TagFilter::parse(text).map_err(|error| anyhow::Error::from(UsageError(format!("--{option}: {error}"))))
    };
    text.as_ref().filter(|text| !text.is_empty()).map(parse).transpose()
}
