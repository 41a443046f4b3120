//! `rprof diff`: what changed between two sides, and whether it is more than chance.

mod table;
mod tree;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::show::{self, printable};
use super::sides::{SIDE_HELP, SidesArgs, told};
use super::usage;
use crate::encode::{Format, WriteOptions, comparison, write_file_with};
use crate::profile::compare;
use crate::profile::{KeptLabels, MergeOptions};
use crate::store::{Compared, TIMESTAMP};
use crate::sys::output::Output;

/// Show what changed between two profiles, or between two times of a directory, and whether it is more than chance
#[derive(Args, Debug, Clone)]
#[command(after_help = SIDE_HELP)]
pub struct DiffArgs {
    /// What is compared
    #[command(flatten)]
    pub sides: SidesArgs,
    /// What functions are sorted by, and whose interval is shown
    #[arg(short, long, value_enum, default_value_t = Sort::Own)]
    pub sort: Sort,
    /// Functions to show; 0 shows all [default: 30, of JSON all]
    #[arg(short = 'n', long, alias = "nodecount")]
    pub limit: Option<usize>,
    /// Only what changed beyond chance
    #[arg(long)]
    pub significant: bool,
    /// Show what calls what, from the roots of the stacks
    #[arg(long, conflicts_with = "significant")]
    pub tree: bool,
    /// Leave out branches of the tree that changed by a smaller share of the whole
    #[arg(long, value_name = "PERCENT", default_value_t = 0.5, requires = "tree")]
    pub min_share: f64,
    /// Folded stacks with the numbers of both sides, to a file or the standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub folded: Option<PathBuf>,
    /// A differential flame graph, to a file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// A pprof file that holds both sides, the base's samples below zero, as go tool pprof -diff_base makes it
    #[arg(long, value_name = "FILE")]
    pub pprof: Option<PathBuf>,
    /// To a file: .svg, .folded, .pb.gz, .json or .md
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// All of it as JSON
    #[arg(long)]
    pub json: bool,
    /// A table in Markdown
    #[arg(long, visible_alias = "md", conflicts_with_all = ["json", "tree"])]
    pub markdown: bool,
}

/// An order of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// What was counted in the function itself
    #[value(name = "self")]
    Own,
    /// And in all that it called
    Total,
}

/// A form of a comparison in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Svg,
    Folded,
    Pprof,
    Json,
    Markdown,
}

/// Compares, and shows or writes the result.
///
/// # Errors
/// If a side means nothing, is empty or cannot be read, or the two do not fit together.
pub fn run(args: &DiffArgs) -> anyhow::Result<()> {
    let files = args.files()?;
    if !files.is_empty() && (args.json || args.markdown || args.tree) {
        return Err(usage(
            "a file and --json, --markdown or --tree exclude one another; -o x.json and -o x.md are files",
        ));
    }
    let sums = files.iter().any(|(_, form)| *form == Form::Pprof).then(|| MergeOptions {
        labels: KeptLabels::AllBut(["tid", TIMESTAMP].map(str::to_owned).into()),
        functions_only: false,
    });
    let compared = args.sides.compare(sums)?;
    let comparison = &compared.comparison;
    for (path, form) in &files {
        args.write(path, *form, &compared)?;
    }
    if !files.is_empty() {
        say(&told(&compared));
        return Ok(());
    }
    let text = match () {
        () if args.json => {
            format!("{}\n", serde_json::to_string_pretty(&comparison::json(comparison, args.limit.unwrap_or(0)))?)
        }
        () if args.markdown => comparison::markdown(comparison, args.rows()),
        () if args.tree => format!("{}{}", told(&compared), tree::render(comparison, args.min_share, show::width())),
        () => format!("{}{}", told(&compared), table::render(comparison, args, show::width())),
    };
    show::print(&text)
}

#[expect(clippy::print_stderr, reason = "the standard output may be the file")]
fn say(text: &str) {
    eprint!("{}", show::printable_lines(text));
}

impl DiffArgs {
    /// How many functions a table shows; 0 is all.
    fn rows(&self) -> usize {
        self.limit.unwrap_or(30)
    }

    fn files(&self) -> anyhow::Result<Vec<(PathBuf, Form)>> {
        let named = [(&self.folded, Form::Folded), (&self.svg, Form::Svg), (&self.pprof, Form::Pprof)];
        let mut files: Vec<(PathBuf, Form)> =
            named.into_iter().filter_map(|(path, form)| Some((path.clone()?, form))).collect();
        if let Some(path) = &self.output {
            files.push((path.clone(), form_of(path)?));
        }
        Ok(files)
    }

    fn write(&self, path: &Path, form: Form, compared: &Compared) -> anyhow::Result<()> {
        let comparison = &compared.comparison;
        if form == Form::Pprof {
            let [Some(base), Some(new)] = [&compared.sides[0].sum, &compared.sides[1].sum] else { return Ok(()) };
            let profile = compare::difference(base, new, comparison.base_factor())?;
            return Ok(write_file_with(path, Format::by_name("pprof")?, &profile, &WriteOptions::default())?);
        }
        let mut bytes = Vec::new();
        match form {
            Form::Svg => comparison::flamegraph(comparison, &mut bytes)?,
            Form::Folded => comparison::folded(comparison, self.sides.value.is_some(), &mut bytes)?,
            Form::Json => {
                serde_json::to_writer_pretty(&mut bytes, &comparison::json(comparison, 0))?;
                bytes.push(b'\n');
            }
            Form::Markdown => bytes = comparison::markdown(comparison, self.rows()).into_bytes(),
            Form::Pprof => {}
        }
        write(path, &bytes)
    }
}

fn form_of(path: &Path) -> anyhow::Result<Form> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    match () {
        () if ends(&[".svg"]) => Ok(Form::Svg),
        () if ends(&[".folded", ".collapsed", ".txt"]) => Ok(Form::Folded),
        () if ends(&[".pb.gz", ".pb", ".pprof", ".prof"]) => Ok(Form::Pprof),
        () if ends(&[".json"]) => Ok(Form::Json),
        () if ends(&[".md", ".markdown"]) => Ok(Form::Markdown),
        () => Err(usage(format!(
            "a comparison is written as .svg, .folded, .pb.gz, .json or .md; {:?} ends as none of them",
            printable(&path.display().to_string())
        ))),
    }
}

/// Writes bytes to a file, or to the standard output for `-`. A reader that has seen enough is no error.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let written = Output::create(path).and_then(|mut out| {
        out.write_all(bytes)?;
        out.finish()
    });
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).with_context(|| format!("cannot write {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The mark of a change by one of its estimates: what became of it, in parentheses where it is no more than chance makes.
fn mark(change: &compare::Change, of: &compare::Estimate) -> String {
    let verdict = change.verdict_of(of);
    match verdict {
        compare::Verdict::Same => String::new(),
        _ if of.significant => verdict.name().to_owned(),
        _ => format!("({})", verdict.name()),
    }
}
