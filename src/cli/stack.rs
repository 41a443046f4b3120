//! `rprof stack`: every thread's stack, now.

mod json;
mod text;

use std::path::PathBuf;

use clap::Args;

use super::{show, usage};
use crate::capture;
use crate::capture::snapshot::Wanted;
use crate::encode::{self, Format};
use crate::ids::{Pid, Tid};
use crate::profile::{KERNEL, Location, LocationId, Profile};
use crate::session::Screen;
use crate::session::stack::{self, Stacks};
use crate::symbol::{Options, Symbolizer};

/// Show every thread's stack at this moment, with its state and what it waits for
///
/// All threads are held at once, for some milliseconds, and go on as they were: also if rprof is killed meanwhile. Stacks
/// are named afterwards. Threads with the same stack are shown together, most first.
#[derive(Args, Debug)]
pub struct StackArgs {
    /// Processes, with all their threads
    #[arg(short, long, value_name = "PID,…", value_delimiter = ',', required_unless_present = "tid")]
    pid: Vec<i32>,
    /// Single threads; the others of their processes run on
    #[arg(short, long, value_name = "TID,…", value_delimiter = ',')]
    tid: Vec<i32>,
    /// Show each thread by itself, also where stacks are the same
    #[arg(long)]
    each: bool,
    /// Leave out the stacks in the kernel
    #[arg(long)]
    no_kernel: bool,
    /// Print JSON, each thread by itself
    #[arg(long, conflicts_with_all = ["each", "output"])]
    json: bool,
    /// Write a profile instead, each thread counted once; the ending chooses the format (.pb.gz, .folded, .svg), - is the
    /// standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "each")]
    output: Option<PathBuf>,
    /// Format to write, whatever the file's ending: pprof, folded, flamegraph
    #[arg(long, value_name = "NAME", requires = "output")]
    format: Option<String>,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

/// Takes the stacks, and prints or writes them. `line` is the whole command line.
///
/// # Errors
/// What went wrong, and what mends it.
pub fn run(args: &StackArgs, line: &str) -> anyhow::Result<()> {
    let screen = Screen::new(args.quiet);
    let destination = destination(args)?;
    capture::check_proc()?;
    let wanted = wanted(args, &screen);
    let stacks = stack::take(&wanted, line, &mut Symbolizer::new(Options::default()))?;
    let Some((path, format)) = destination else {
        let text = if args.json { json::render(&stacks)? } else { text::render(&stacks, args.each) };
        return show::print(&text);
    };
    encode::write_file(&path, format, &stacks.profile)?;
    stacks.remarks.iter().for_each(|remark| screen.say(remark));
    screen.say(&format!("{}; wrote {}", summary(&stacks), path.display()));
    Ok(())
}

/// The file and its format, if there is to be one.
fn destination(args: &StackArgs) -> anyhow::Result<Option<(PathBuf, &'static Format)>> {
    let Some(path) = &args.output else { return Ok(None) };
    let format = args.format.as_deref().map_or_else(|| Format::for_path(path), Format::by_name);
    Ok(Some((path.clone(), format.map_err(usage)?)))
}

/// Those that are there. Each that is not is named, and costs the others nothing; if there are none, that is told later.
fn wanted(args: &StackArgs, screen: &Screen) -> Wanted {
    let there = |ids: &[i32], what: &str| -> Vec<i32> {
        let (there, gone): (Vec<i32>, Vec<i32>) = ids.iter().partition(|&&id| id > 0 && capture::exists(Pid(id)));
        if there.is_empty() {
            return ids.to_vec();
        }
        gone.iter().for_each(|id| screen.say(&format!("no such {what}: {id}; showing the others")));
        there
    };
    // A process may be named by any of its threads.
    let process = |id: i32| capture::process_of(Tid(id)).unwrap_or(Pid(id));
    Wanted {
        processes: there(&args.pid, "process").into_iter().map(process).collect(),
        threads: there(&args.tid, "thread").into_iter().map(Tid).collect(),
        kernel: !args.no_kernel,
    }
}

/// How many threads were held, and for how long.
fn summary(stacks: &Stacks) -> String {
    let count = stacks.threads.len();
    let threads = if count == 1 { "1 thread".into() } else { format!("{count} threads") };
    format!("{threads}, held for {}", show::amount(nanoseconds(stacks), "nanoseconds"))
}

fn nanoseconds(stacks: &Stacks) -> i128 {
    i128::try_from(stacks.stopped.as_nanos()).unwrap_or(i128::MAX)
}

/// A frame as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ShownFrame<'a> {
    kind: Kind,
    /// Within its file, as `addr2line` takes it; 0 if it is unknown.
    address: u64,
    function: &'a str,
    /// Empty if it is unknown.
    file: &'a str,
    /// 0 if it is unknown.
    line: i64,
    /// The path of the file of code; empty for what lies in none.
    module: &'a str,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    User,
    /// Of a function whose code was put into its caller, the next frame.
    Inlined,
    Kernel,
    /// Why the stack ends here.
    Marker,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Inlined => "inlined",
            Kind::Kernel => "kernel",
            Kind::Marker => "marker",
        }
    }
}

/// The frames of a stack, leaf first.
fn frames<'a>(profile: &'a Profile, stack: &'a [LocationId]) -> impl Iterator<Item = ShownFrame<'a>> {
    let locations = stack.iter().filter_map(|id| profile.locations.get(id.0 as usize));
    locations.flat_map(|location| frames_at(profile, location))
}

fn frames_at<'a>(profile: &'a Profile, location: &'a Location) -> impl Iterator<Item = ShownFrame<'a>> {
    let mapping = location.mapping.and_then(|id| profile.mappings.get(id.0 as usize));
    let module = mapping.map_or("", |mapping| profile.text(mapping.file));
    let last = location.lines.len().saturating_sub(1);
    location.lines.iter().enumerate().filter_map(move |(at, line)| {
        let function = profile.functions.get(line.function.0 as usize)?;
        let kind = match module {
            "" => Kind::Marker,
            KERNEL => Kind::Kernel,
            _ if at < last => Kind::Inlined,
            _ => Kind::User,
        };
        Some(ShownFrame {
            kind,
            address: location.address,
            function: profile.text(function.name),
            file: profile.text(function.file),
            line: line.line,
            module,
        })
    })
}
