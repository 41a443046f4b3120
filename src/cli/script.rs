//! `rprof script`: a recording as text, an event a block, in the layout of `perf script`: what collapses stacks, and viewers that take
//! perf's text, read it. Of a profile each of its samples is one.

mod profile;

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use clap::Args;
use regex::Regex;
use rustc_hash::FxHashMap;

use super::input::{self, ForceArgs, RecordingArgs};
use super::usage;
use crate::collect::{Frame, Journaled, Thread};
use crate::profile::KERNEL;
use crate::record::perf_data::{Attr, Header};
use crate::session::Screen;
use crate::session::replay::{Chunk, Replay, ReplayOptions};
use crate::symbol::{Symbol, without_parameters};
use crate::sys::perf_event::abi;

/// Print a recording sample by sample, as perf script does
#[derive(Args, Debug, Clone)]
#[command(args_override_self = true)]
pub struct ScriptArgs {
    /// The recording (perf.data), pprof or folded stacks, told by content; `-` is the standard input [default: perf.data]
    #[arg(value_name = "FILE", conflicts_with = "input")]
    pub file: Option<PathBuf>,
    /// The same, as perf spells it
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Fields to print: comm, tid, pid, time, cpu, event, period, ip, sym, dso, srcline, brstack; with + or - before one it is added to
    /// the usual ones, or left out. Of several lists the last counts, with what is added behind it
    #[arg(short = 'F', long, value_name = "FIELDS", allow_hyphen_values = true)]
    pub fields: Vec<String>,
    /// Only samples of threads of these names
    #[arg(long, visible_alias = "comms", value_name = "NAME,…", value_delimiter = ',')]
    pub comm: Vec<String>,
    /// Only samples of these processes
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    pub pid: Vec<i32>,
    /// Only samples of these threads
    #[arg(long, value_name = "TID,…", value_delimiter = ',')]
    pub tid: Vec<i32>,
    /// Only samples whose own code lies in a file that matches
    #[arg(long, value_name = "REGEX")]
    pub dso: Option<String>,
    /// Print what the file says of itself first
    #[arg(long)]
    pub header: bool,
    /// Print what the file says of itself, and nothing else
    #[arg(long)]
    pub header_only: bool,
    /// Leave out calls that were inlined
    #[arg(long)]
    pub no_inline: bool,
    /// Print the place of each sample alone, without its callers
    #[arg(short = 'G', long)]
    pub hide_call_graph: bool,
    /// Accepted, as perf has it: times are in microseconds without, in nanoseconds with it
    #[arg(long)]
    pub ns: bool,
    /// How the recording is read
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// What needs no word
    #[command(flatten)]
    pub force: ForceArgs,
}

/// Prints a recording. A reader that has seen enough (a closed pipe) is no error.
///
/// # Errors
/// If the file is neither a recording nor a profile, or a field is unknown.
pub fn run(args: &ScriptArgs) -> anyhow::Result<()> {
    let path = args.file.clone().or_else(|| args.input.clone()).unwrap_or_else(input::unnamed);
    let choice = Choice::new(args)?;
    if !input::may_be_recording(&path) {
        return profile::print(&path, args, &choice);
    }
    let screen = Screen::new(args.force.quiet);
    let options = ReplayOptions { no_lines: !choice.has("srcline"), ..args.recording.options(args.no_inline, false) };
    let replay = Replay::open(&path, options, &screen)?;
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    if args.header || args.header_only {
        let text = header(replay.header(), &path);
        if is_closed(out.write_all(text.as_bytes()))? || args.header_only {
            return Ok(out.flush().or_else(|error| is_closed(Err(error)).map(|_| ()))?);
        }
    }
    let attrs = replay.header().attrs.clone();
    if args.fields.iter().any(|fields| fields.contains("trace"))
        && attrs.iter().any(|attr| attr.kind == abi::PERF_TYPE_TRACEPOINT)
    {
        screen.say("the arguments of tracepoints (trace) are not decoded");
    }
    let (mut failed, mut lines) = (Ok(()), Lines::default());
    replay.samples(&mut |chunk| match is_closed(tell(chunk, &attrs, &choice, &mut lines, &mut out)) {
        Ok(closed) => !closed,
        Err(error) => {
            failed = Err(error);
            false
        }
    })?;
    failed?;
    is_closed(out.flush())?;
    Ok(())
}

/// Whether the reader of our output has gone.
fn is_closed(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(error),
    }
}

/// The fields that can be printed.
const FIELDS: [&str; 12] =
    ["comm", "tid", "pid", "time", "cpu", "event", "period", "ip", "sym", "dso", "srcline", "brstack"];
/// Those that are, where nothing else is asked for.
const USUAL: [&str; 9] = ["comm", "tid", "time", "cpu", "event", "period", "ip", "sym", "dso"];
/// Fields of others' command lines that no sample of ours has, or that say how others are printed: nothing is printed of them.
const EMPTY: [&str; 15] = [
    "trace",
    "flags",
    "addr",
    "misc",
    "weight",
    "data_src",
    "phys_addr",
    "data_page_size",
    "code_page_size",
    "ins_lat",
    "metric",
    "synth",
    "callindent",
    "machine_pid",
    "vcpu",
];

/// What is printed of which samples.
struct Choice {
    fields: Vec<&'static str>,
    chosen: bool,
    comm: Vec<String>,
    pid: Vec<i32>,
    tid: Vec<i32>,
    dso: Option<Regex>,
    nanoseconds: bool,
    callers: bool,
}

impl Choice {
    fn new(args: &ScriptArgs) -> anyhow::Result<Choice> {
        let dso = args.dso.as_ref().map(|dso| Regex::new(dso)).transpose();
        Ok(Choice {
            fields: fields(&args.fields)?,
            chosen: args.fields.iter().any(|fields| !is_change(fields)),
            comm: args.comm.clone(),
            pid: args.pid.clone(),
            tid: args.tid.clone(),
            dso: dso.map_err(|error| usage(format!("--dso: {error}")))?,
            nanoseconds: args.ns,
            callers: !args.hide_call_graph,
        })
    }

    fn has(&self, field: &str) -> bool {
        self.fields.contains(&field)
    }

    fn wants(&self, thread: &Thread, module: impl Fn() -> String) -> bool {
        (self.comm.is_empty() || self.comm.iter().any(|comm| **comm == *thread.comm))
            && (self.pid.is_empty() || self.pid.contains(&thread.pid.0))
            && (self.tid.is_empty() || self.tid.contains(&thread.tid.0))
            && self.dso.as_ref().is_none_or(|dso| dso.is_match(&module()))
    }
}

/// Whether a list of fields changes the usual ones, and does not stand in their place.
fn is_change(list: &str) -> bool {
    without_kind(list).starts_with(['+', '-'])
}

/// A kind of event may stand before the fields (`sw:comm,ip`), for all are printed alike.
fn without_kind(list: &str) -> &str {
    list.rsplit_once(':').map_or(list, |(_, fields)| fields)
}

/// The fields of all lists.
fn fields(lists: &[String]) -> anyhow::Result<Vec<&'static str>> {
    let mut fields: Vec<&'static str> = USUAL.into();
    for list in lists {
        if !is_change(list) {
            fields.clear();
        }
        for word in without_kind(list).split(',').filter(|word| !word.is_empty()) {
            let name = word.trim_start_matches(['+', '-']);
            let Some(&known) = FIELDS.iter().find(|&&field| field == name) else {
                if EMPTY.contains(&name) {
                    continue;
                }
                return Err(usage(format!("-F: there is no field {name:?}; there are {}", FIELDS.join(", "))));
            };
            fields.retain(|&field| field != known);
            if !word.starts_with('-') {
                fields.push(known);
            }
        }
    }
    Ok(fields)
}

/// Writes the text of a chunk.
fn tell(chunk: &Chunk<'_>, attrs: &[Attr], choice: &Choice, lines: &mut Lines, out: &mut dyn Write) -> io::Result<()> {
    let widest = chunk.events.iter().map(|event| event.name.len()).max().unwrap_or(0);
    // Processes have other numbers in each chunk.
    lines.of_frames.retain(|frame, _| !matches!(frame, Frame::Anonymous(..)));
    let lines = lines.of_chunk(chunk, choice);
    let mut page = Page { text: String::with_capacity(2 * PIECE), last: Vec::new(), end: 0 };
    for sample in chunk.samples {
        let Some(thread) = chunk.window.threads.get(sample.thread.0 as usize) else { continue };
        let Some(attr) = attrs.get(sample.event as usize) else { continue };
        let leaf = chunk.window.stacks.frames(sample.stack).next();
        if !choice.wants(thread, || leaf.map_or_else(String::new, |leaf| module(chunk, leaf))) {
            continue;
        }
        let chain = choice.callers && attr.layout.has(abi::PERF_SAMPLE_CALLCHAIN);
        head(sample, thread, attr, chunk, choice, widest, chain, &mut page.text);
        if choice.has("ip") || choice.has("sym") {
            if chain {
                page.stack(chunk, sample, &lines);
            } else if let Some(leaf) = leaf {
                // The place alone, as one function.
                let (module, symbols) = (module(chunk, leaf), symbols(chunk, leaf));
                let text = &mut page.text;
                let tell = |symbol| line(&place(leaf, symbol, &bare_name(symbol), &module), choice, text);
                symbols.last().into_iter().for_each(tell);
            }
        }
        if choice.has("brstack") {
            sample.branches.iter().for_each(|branch| tell_branch(*branch, &mut page.text));
        }
        page.text.push('\n');
        if page.text.len() >= PIECE {
            page.write(out)?;
        }
    }
    out.write_all(page.text.as_bytes())
}

/// The text of samples, of which the last one's stack stays: samples that follow each other share most of their callers, whose lines are
/// taken over as a whole.
struct Page {
    text: String,
    /// The frames of the last one's stack, leaf first, and where the lines of each begin, counted back from `end`.
    last: Vec<(u32, usize)>,
    /// Where the lines of the last stack end.
    end: usize,
}

impl Page {
    /// Adds the frames, a line each, leaf first.
    fn stack(&mut self, chunk: &Chunk<'_>, sample: &Journaled, lines: &[Rc<str>]) {
        self.text.push('\n');
        let mut stack: Vec<(u32, usize)> = chunk.window.stacks.numbers(sample.stack).map(|frame| (frame, 0)).collect();
        let pairs = stack.iter().rev().zip(self.last.iter().rev());
        let shared = pairs.take_while(|((frame, _), (other, _))| frame == other).count();
        let own = stack.len() - shared;
        for (frame, start) in &mut stack[..own] {
            *start = self.text.len();
            self.text.push_str(lines.get(*frame as usize).map_or("", |lines| lines));
        }
        if let Some(&(_, back)) = self.last.get(self.last.len() - shared) {
            self.text.extend_from_within(self.end - back..self.end);
        }
        self.end = self.text.len();
        stack[..own].iter_mut().for_each(|(_, start)| *start = self.end - *start);
        // Lines that were taken over end where the others did.
        stack[own..].copy_from_slice(&self.last[self.last.len() - shared..]);
        self.last = stack;
    }

    /// Writes all, and begins anew.
    fn write(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self.text.as_bytes())?;
        self.text.clear();
        self.last.clear();
        Ok(())
    }
}

/// Bytes of text that are written at once: of many stacks, as the first of a piece is put together anew.
const PIECE: usize = 1 << 20;

/// The lines of frames: a few thousand frames make up all stacks, and putting lines together is what takes time.
#[derive(Default)]
struct Lines {
    of_frames: FxHashMap<Frame, Rc<str>>,
    /// The names of functions, by those of symbols.
    names: FxHashMap<Arc<str>, Rc<str>>,
}

impl Lines {
    /// The lines of each of a chunk's distinct frames.
    fn of_chunk(&mut self, chunk: &Chunk<'_>, choice: &Choice) -> Vec<Rc<str>> {
        let Lines { of_frames, names } = self;
        let frames = chunk.window.stacks.distinct_frames().iter();
        let mut lines = |frame| frame_lines(chunk, frame, names, choice);
        frames.map(|&frame| of_frames.entry(frame).or_insert_with(|| lines(frame)).clone()).collect()
    }
}

fn frame_lines(chunk: &Chunk<'_>, frame: Frame, names: &mut FxHashMap<Arc<str>, Rc<str>>, choice: &Choice) -> Rc<str> {
    let module = module(chunk, frame);
    let mut lines = String::new();
    for symbol in symbols(chunk, frame) {
        let name = names.entry(symbol.system_name.clone()).or_insert_with(|| bare_name(symbol));
        lines.push('\t');
        line(&place(frame, symbol, name, &module), choice, &mut lines);
        lines.push('\n');
    }
    lines.into()
}

/// The name of a function as perf prints it: without parameters, which may be a hundred times as long.
fn bare_name(symbol: &Symbol) -> Rc<str> {
    let bare = without_parameters(&symbol.system_name);
    (*super::show::printable(bare.as_deref().unwrap_or(&symbol.function))).into()
}

/// `comm tid [cpu] time: period event:`, the widths as perf's.
#[expect(clippy::too_many_arguments, reason = "a line of many columns")]
fn head(
    sample: &Journaled,
    thread: &Thread,
    attr: &Attr,
    chunk: &Chunk<'_>,
    choice: &Choice,
    widest: usize,
    chain: bool,
    text: &mut String,
) {
    tell_thread(&thread.comm, (thread.pid.0.into(), thread.tid.0.into()), choice, chain, text);
    if let Some(cpu) = sample.cpu.filter(|_| choice.has("cpu")) {
        let _ = write!(text, "[{cpu:03}] ");
    }
    if choice.has("time") && attr.layout.has(abi::PERF_SAMPLE_TIME) {
        tell_time(sample.time.0, choice, text);
    }
    let tracepoint = attr.kind == abi::PERF_TYPE_TRACEPOINT && !choice.chosen;
    if choice.has("period") && !tracepoint {
        let _ = write!(text, "{:>10} ", sample.period);
    }
    if choice.has("event")
        && let Some(event) = chunk.events.get(sample.event as usize)
    {
        let _ = write!(text, "{:>widest$}: ", event.name);
    }
}

/// `comm pid/tid`, those that are chosen.
fn tell_thread(comm: &str, (pid, tid): (i64, i64), choice: &Choice, chain: bool, text: &mut String) {
    let comm = super::show::printable(comm);
    if choice.has("comm") {
        let _ = if chain { write!(text, "{comm} ") } else { write!(text, "{comm:>16} ") };
    }
    let _ = match (choice.has("pid"), choice.has("tid")) {
        (true, true) => write!(text, "{pid:>5}/{tid:<5} "),
        (true, false) => write!(text, "{pid:>5} "),
        (false, true) => write!(text, "{tid:>5} "),
        (false, false) => Ok(()),
    };
}

/// A time of nanoseconds, in seconds.
fn tell_time(time: u64, choice: &Choice, text: &mut String) {
    let (seconds, rest) = (time / 1_000_000_000, time % 1_000_000_000);
    let _ = if choice.nanoseconds {
        write!(text, "{seconds:>5}.{rest:09}: ")
    } else {
        write!(text, "{seconds:>5}.{:06}: ", rest / 1000)
    };
}

/// ` 0xfrom/0xto/M|P|-/X|-/A|-/cycles`: mispredicted or predicted, in a transaction, its abort; the bits as `struct perf_branch_entry` has them.
fn tell_branch([from, to, bits]: [u64; 3], text: &mut String) {
    let has = |bit: u32| bits >> bit & 1 != 0;
    let flag = |bit, letter| if has(bit) { letter } else { '-' };
    let predicted = if has(1) { 'P' } else { flag(0, 'M') };
    let (transaction, abort, cycles) = (flag(2, 'X'), flag(3, 'A'), bits >> 4 & 0xffff);
    let _ = write!(text, " {from:#x}/{to:#x}/{predicted}/{transaction}/{abort}/{cycles}");
}

fn symbols<'a>(chunk: &'a Chunk<'_>, frame: Frame) -> &'a [Symbol] {
    chunk.names.get(&frame).map(|symbols| &symbols[..]).unwrap_or_default()
}

/// What the line of a frame tells.
struct Place<'a> {
    address: u64,
    name: &'a str,
    module: &'a str,
    inlined: bool,
    /// File and line, where they are known.
    source: Option<(&'a str, i64)>,
}

fn place<'a>(frame: Frame, symbol: &'a Symbol, name: &'a str, module: &'a str) -> Place<'a> {
    let named = symbol.named || matches!(frame, Frame::Marker(_));
    Place {
        address: address(frame),
        name: if named { name } else { "[unknown]" },
        module,
        inlined: symbol.inlined,
        source: symbol.file.as_deref().map(|file| (file, symbol.line.into())),
    }
}

fn line(place: &Place<'_>, choice: &Choice, text: &mut String) {
    if choice.has("ip") {
        let _ = write!(text, "{:>16x}", place.address);
    }
    if choice.has("sym") {
        let _ = write!(text, " {}", place.name);
    }
    if place.inlined {
        text.push_str(" (inlined)");
    } else if choice.has("dso") {
        let _ = write!(text, " ({})", place.module);
    }
    if choice.has("srcline")
        && let Some((file, line)) = place.source
    {
        let _ = write!(text, "\n  {}:{line}", super::show::printable(file));
    }
}

/// In the file of code, where the frame lies in one.
fn address(frame: Frame) -> u64 {
    match frame {
        Frame::Image(place) => place.rva.0,
        Frame::Kernel(address) => address.0,
        Frame::Anonymous(_, address) => address.0,
        Frame::Marker(_) => 0,
    }
}

/// The file of a frame, as perf names it.
fn module(chunk: &Chunk<'_>, frame: Frame) -> String {
    let of_kernel = || chunk.names.get(&frame).and_then(|symbols| symbols.first()?.module.clone());
    let name = match frame {
        Frame::Image(place) => chunk.window.images.get(&place.image).map(|info| info.name.to_string()),
        Frame::Kernel(_) => Some(of_kernel().map_or_else(|| KERNEL.to_owned(), |module| module.to_string())),
        Frame::Anonymous(process, _) => {
            let named = chunk.names.get(&frame).and_then(|symbols| symbols.first()).is_some_and(|symbol| symbol.named);
            let process = chunk.window.processes.get(process.0 as usize).filter(|_| named);
            process.map(|process| format!("/tmp/perf-{}.map", process.pid.0))
        }
        Frame::Marker(_) => None,
    };
    name.map_or_else(|| "[unknown]".into(), |name| super::show::printable(&name))
}

/// What the file says of itself, in perf's words.
pub(super) fn header(header: &Header, path: &Path) -> String {
    let mut text = String::from("# ========\n");
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "# {name} : {}", super::show::printable(&value));
        }
    };
    let written = std::fs::metadata(path).and_then(|file| file.modified()).ok();
    let written = written.and_then(|time| jiff::Timestamp::try_from(time).ok());
    let written = written
        .map(|time| time.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%a %b %e %H:%M:%S %Y").to_string());
    line("captured on   ", written);
    line("hostname", header.hostname.clone());
    line("os release", header.release.clone());
    line("perf version", header.version.clone());
    line("arch", header.arch.clone());
    line("nrcpus online", header.cpus.map(|(_, online)| online.to_string()));
    line("nrcpus avail", header.cpus.map(|(available, _)| available.to_string()));
    line("cpudesc", header.cpu_model.clone());
    line("total memory", header.memory.map(|kilobytes| format!("{kilobytes} kB")));
    let command = (!header.command.is_empty()).then(|| header.command.join(" "));
    line("cmdline", command);
    for attr in &header.attrs {
        let rate = if attr.by_frequency { "sample_freq" } else { "sample_period" };
        let ids: Vec<String> = attr.ids.iter().take(64).map(ToString::to_string).collect();
        let value = format!(
            "name = {}, , id = {{ {} }}, type = {}, config = {:#x}, {{ sample_period, sample_freq }} = {} ({rate}), sample_type = {:#x}",
            attr.name,
            ids.join(", "),
            attr.kind,
            attr.config,
            attr.rate,
            attr.layout.sample_type
        );
        line("event", Some(value));
    }
    text.push_str("# ========\n#\n");
    text
}
