//! `rprof top`: what runs now, by function.

mod batch;
mod live;

use std::time::Duration;

use clap::{ArgMatches, Args};

use self::live::Running;
use super::record::recording;
use super::selection::{Defaults, WhatArgs};
use super::show::{Listing, Sort};
use super::terminal::theme::Theme;
use super::terminal::{self, News, Options, View};
use super::usage;
use super::values::{Share, Span};
use crate::encode::Format;
use crate::profile::{KeptLabels, MergeOptions, PROCESS_LABEL};
use crate::session::top::Top;
use crate::session::{Bounds, Screen, Timing};

/// Show what runs now, by function: a process, a thread, a command, a cgroup, CPUs, or without any of them the whole machine
///
/// The table is renewed every two seconds; keys sort it, filter it, and go into the callers and callees of a function (? tells them
/// all). Where the standard output is no terminal, tables are printed one after the other. A command does not read from the terminal that the
/// table is on, and what it would write there is dropped; redirect it to keep it.
#[derive(Args, Debug)]
pub struct TopArgs {
    #[command(flatten)]
    what: WhatArgs,
    /// The time between two tables, at least 100ms
    #[arg(short, long, value_name = "TIME", default_value = "2s")]
    delay: Span,
    /// End after so many tables
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    iterations: Option<u64>,
    /// Print tables, one after the other, for scripts
    #[arg(short, long)]
    batch: bool,
    /// Print one table: -b -n 1
    #[arg(long, conflicts_with = "iterations")]
    once: bool,
    /// Print a line of JSON in the place of each table
    #[arg(long)]
    json: bool,
    /// What functions are sorted by
    #[arg(short, long, value_enum, default_value_t = Order::Own)]
    sort: Order,
    /// Functions that are printed; 0 prints all
    #[arg(long, value_name = "N", default_value_t = 30)]
    limit: usize,
    /// Only functions whose name or module matches
    #[arg(long, value_name = "REGEX")]
    search: Option<String>,
    /// The time that is shown
    #[arg(long, value_enum, default_value_t)]
    show: terminal::Span,
    /// Colours for a dark or a light background, or none
    #[arg(long, value_enum, default_value_t)]
    theme: Theme,
    /// Sample less often where rprof would use more than this share of the machine's CPU time
    #[arg(long, value_name = "SHARE", default_value = "5%")]
    max_overhead: Share,
}

/// What functions are sorted by.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// What was counted in the function itself
    #[value(name = "self")]
    Own,
    /// And in all that it called
    Total,
}

impl Order {
    fn sort(self) -> Sort {
        match self {
            Order::Own => Sort::Own,
            Order::Total => Sort::Total,
        }
    }
}

const SHORTEST_DELAY: Duration = Duration::from_millis(100);
/// Memory above which something is given back.
const MAX_MEMORY: u64 = 512 << 20;

impl TopArgs {
    /// Notes what the order on the command line says.
    pub(super) fn place_filters(&mut self, matches: &ArgMatches) {
        self.what.place_filters(matches);
    }

    /// Whether tables are printed.
    fn prints(&self) -> bool {
        self.batch || self.once || self.json || !terminal::can_draw()
    }
}

/// Shows what runs, and answers the exit status: the command's own, or 128 and the number of the signal that ended it. `line` is the whole
/// command line.
///
/// # Errors
/// What went wrong, and what mends it.
pub fn run(args: &TopArgs, line: &str) -> anyhow::Result<i32> {
    let Span(delay) = args.delay;
    if delay < SHORTEST_DELAY {
        return Err(usage("the time between two tables is at least 100ms"));
    }
    let for_files = [("--timestamps", args.what.timestamps), ("--label", !args.what.label.is_empty())];
    if let Some((option, _)) = for_files.into_iter().find(|(_, given)| *given) {
        return Err(usage(format!("{option} is for files: a table tells functions alone")));
    }
    let search = args.search.as_deref().map(terminal::compile).transpose();
    let search = search.map_err(|error| usage(format!("--search: {error}")))?.flatten();
    let screen = Screen::new(args.what.quiet);
    let timing = Timing { duration: args.what.duration.map(|span| span.0), ..Timing::default() };
    let format = Format::by_name("pprof").map_err(usage)?;
    let mut recording = recording(&args.what, &Defaults::TOP, timing, format, None, line, &screen)?;
    match &mut recording.child {
        Some(child) if args.prints() => child.divert_stdout(),
        Some(child) => child.leave_the_terminal(),
        None => {}
    }
    let bounds = Bounds { window: Some(delay), max_overhead: Some(args.max_overhead.0), max_memory: Some(MAX_MEMORY) };
    // What is shown tells no addresses, and of labels only processes.
    let merging = MergeOptions { labels: KeptLabels::Only([PROCESS_LABEL.to_owned()].into()), functions_only: true };
    let title = format!("rprof top: {}", args.what.in_words());
    let top = Top::start(recording, bounds, merging.clone(), &screen)?;
    let iterations = args.iterations.or(args.once.then_some(1));
    if args.prints() {
        let listing = Listing {
            order: args.sort.sort(),
            limit: args.limit,
            nodefraction: 0.0,
            mean: false,
            wanted: search.as_ref(),
        };
        let printer = batch::Printer { listing, json: args.json, span: args.show, merging };
        return batch::run(top, &printer, iterations, &screen);
    }
    let running = Running::new(title.clone(), merging, iterations, args.what.quiet);
    let options = Options { view: View::Table, sort: args.sort.sort(), theme: args.theme, search, span: args.show };
    let news = News { seen: top.seen().clone(), said: top.said().clone() };
    let shown = terminal::run(&title, Box::new(running), options, news);
    let ended = top.finish(|line| screen.say(line));
    shown?;
    Ok(ended?)
}
