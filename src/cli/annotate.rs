//! `rprof annotate`: a function by source line and instruction, with the share of its samples that each had.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter, Instruction, IntelFormatter};
use object::{Object, ObjectSection};
use rustc_hash::FxHashMap;

use super::input::{self, ForceArgs, LookArgs, RecordingArgs};
use super::overhead::is_file;
use super::show::{self, printable};
use crate::elf::{self, Table};
use crate::ids::{Architecture, BuildId, ImageId, Rva};
use crate::process::{Image, ImageInfo};
use crate::profile::{Mapping, MappingId, Profile};
use crate::symbol::{Options, Symbol, Symbolizer};
use crate::sys;

/// Bytes of a function that are shown; larger ones are cut.
const MOST_CODE: u64 = 1 << 20;
/// Bytes of a source file that are read.
const MOST_SOURCE: u64 = 16 << 20;
/// The longest instruction.
const LONGEST: u64 = 15;

/// Show a function by source line and instruction, with the share of samples that each had
#[derive(Args, Debug, Clone)]
#[command(args_override_self = true)]
pub struct AnnotateArgs {
    /// The function; without it the one with most samples of its own
    #[arg(value_name = "SYMBOL", conflicts_with = "named")]
    pub symbol: Option<String>,
    /// The same, as perf spells it
    #[arg(short = 's', long = "symbol", value_name = "SYMBOL")]
    pub named: Option<String>,
    /// The recording (perf.data) or pprof file; `-` is the standard input [default: perf.data]
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Only functions in these files of code, each a path or its last part
    #[arg(short, long, visible_alias = "dsos", value_name = "FILE,…", value_delimiter = ',')]
    pub dso: Vec<String>,
    /// How instructions are spelled
    #[arg(short = 'M', long, value_enum, default_value_t = Syntax::Att)]
    pub disassembler_style: Syntax,
    /// The value to show (`samples`, `cpu`, …), instead of the profile's own
    #[arg(long, value_name = "NAME")]
    pub value: Option<String>,
    /// Accepted: there is no other way
    #[arg(long)]
    pub stdio: bool,
    /// Accepted, as perf has it: source lines are shown without it too
    #[arg(short = 'l', long, hide = true)]
    pub print_line: bool,
    /// What there is one way of
    #[command(flatten)]
    pub look: LookArgs,
    /// How a recording is read
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// What needs no word
    #[command(flatten)]
    pub force: ForceArgs,
}

/// A way to spell instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Syntax {
    /// As gas and objdump
    Att,
    /// As the manuals of the processors
    Intel,
}

/// Prints a function. A reader that has seen enough (a closed pipe) is no error.
///
/// # Errors
/// If the file cannot be read, there is no such function, or its code is not here.
pub fn run(args: &AnnotateArgs) -> anyhow::Result<()> {
    let input = args.input.clone().unwrap_or_else(input::unnamed);
    let options = args.recording.options(false, false);
    let profile = input::read_with(&input, &args.recording, options, args.force.quiet, &mut |_| {})?;
    let column = profile.column(args.value.as_deref())?;
    let wanted = args.symbol.as_deref().or(args.named.as_deref());
    let counted = counted(&profile, column, wanted, &args.dso)?;
    let mapping = profile.mappings[counted.mapping.0 as usize];
    let path = PathBuf::from(profile.text(mapping.file));
    let image = open(&profile, &mapping, &path, args.recording.symfs.as_deref())?;
    let code = disassemble(&image, &counted, args.disassembler_style)?;
    let lines = source_lines(&image, &path, &code);
    show::print(&text(&profile, column, &counted, &path, &code, &lines))
}

/// Functions of the profile whose names hold what was asked for, as a question: `; did you mean hot::search::matches_here?`.
fn suggestion(profile: &Profile, wanted: &str) -> String {
    const OFFERED: usize = 3;
    let names = profile.functions.iter().map(|function| profile.text(function.name));
    let mut near: Vec<&str> = names.filter(|name| *name != wanted && name.contains(wanted)).collect();
    near.sort_unstable_by_key(|name| (name.len(), *name));
    near.dedup();
    near.truncate(OFFERED);
    let near: Vec<String> = near.into_iter().map(printable).collect();
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

/// What was counted in a function itself.
struct Counted {
    name: String,
    mapping: MappingId,
    addresses: BTreeMap<u64, i128>,
    total: i128,
}

/// The function that is asked for, or the one with most of its own. One name may stand in several files: the one with most is shown.
fn counted(profile: &Profile, column: usize, wanted: Option<&str>, files: &[String]) -> anyhow::Result<Counted> {
    let module = |mapping: MappingId| profile.text(profile.mappings[mapping.0 as usize].file);
    let mut functions: FxHashMap<(&str, MappingId), Counted> = FxHashMap::default();
    for sample in &profile.samples {
        let Some(location) = sample.stack.first().map(|id| &profile.locations[id.0 as usize]) else { continue };
        let (Some(mapping), Some(line)) = (location.mapping, location.lines.last()) else { continue };
        let name = profile.text(profile.functions[line.function.0 as usize].name);
        let elsewhere = !files.is_empty() && !files.iter().any(|file| is_file(module(mapping), file));
        if wanted.is_some_and(|wanted| wanted != name) || location.address == 0 || elsewhere {
            continue;
        }
        let new = || Counted { name: name.to_owned(), mapping, addresses: BTreeMap::new(), total: 0 };
        let function = functions.entry((name, mapping)).or_insert_with(new);
        let value = i128::from(sample.values[column]);
        *function.addresses.entry(location.address).or_insert(0) += value;
        function.total += value;
    }
    let most = functions.into_values().max_by(|a, b| a.total.cmp(&b.total).then_with(|| b.name.cmp(&a.name)));
    most.ok_or_else(|| match wanted {
        Some(wanted) if files.is_empty() => {
            anyhow!(
                "no sample was taken in {wanted} itself{}; rprof report lists functions",
                suggestion(profile, wanted)
            )
        }
        Some(wanted) => anyhow!("no sample was taken in {wanted} itself in {}", files.join(", ")),
        None if files.is_empty() => anyhow!("the profile has no samples with addresses"),
        None => anyhow!("the profile has no samples with addresses in {}", files.join(", ")),
    })
}

/// The file of code, if it is still the one that was profiled.
fn open(profile: &Profile, mapping: &Mapping, path: &Path, symfs: Option<&Path>) -> anyhow::Result<Arc<Image>> {
    if !path.is_absolute() {
        bail!("the code of {} lies in no file, and cannot be shown", path.display());
    }
    let place = symfs.map_or_else(|| path.to_path_buf(), |root| root.join(path.strip_prefix("/").unwrap_or(path)));
    let file = sys::open_regular(None, &place, true).with_context(|| format!("cannot read {}", place.display()))?;
    let image = Image::from_file(ImageId(0), &path.to_string_lossy(), &file)?;
    let (wanted, found) =
        (profile.text(mapping.build_id), image.build_id().map(BuildId::to_string).unwrap_or_default());
    if !wanted.is_empty() && wanted != found {
        bail!("{} was replaced since it was profiled (its build ID was {wanted})", place.display());
    }
    match image.architecture() {
        Some(Architecture::X86_64) => Ok(image),
        _ => bail!("{} is not x86-64 code, the only one whose instructions rprof can show", place.display()),
    }
}

/// An instruction.
struct Line {
    address: u64,
    text: String,
    value: i128,
}

/// The instructions of the function. Without a symbol for it, those between the first and the last that had samples.
fn disassemble(image: &Image, counted: &Counted, syntax: Syntax) -> anyhow::Result<Vec<Line>> {
    let (Some(&first), Some(&last)) = (counted.addresses.keys().next(), counted.addresses.keys().next_back()) else {
        bail!("{} has no samples with addresses", counted.name);
    };
    let file = image.elf();
    let holds = |start: u64, size: u64| size > 0 && start <= first && last - start < size;
    let symbols = [Table::Full, Table::Dynamic].into_iter().flat_map(|table| elf::symbols(file, table));
    let symbol =
        symbols.map(|symbol| (symbol.address, symbol.size)).find(|&(start, size)| first >= start && holds(start, size));
    let (start, size) = symbol.unwrap_or((first, last - first + LONGEST));
    let section =
        file.sections().find(|section| section.address() <= start && start - section.address() < section.size());
    let bytes = section.as_ref().and_then(|section| {
        section.data_range(start, size.min(section.address() + section.size() - start).min(MOST_CODE)).ok()?
    });
    let bytes = bytes.ok_or_else(|| anyhow!("{} has no code at {start:#x}", image.name()))?;
    let mut formatter: Box<dyn Formatter> = match syntax {
        Syntax::Att => Box::new(GasFormatter::new()),
        Syntax::Intel => Box::new(IntelFormatter::new()),
    };
    let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
    let (mut instruction, mut lines) = (Instruction::default(), Vec::new());
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        // The address of a caller lies within its call.
        let within = instruction.ip()..instruction.ip() + instruction.len().max(1) as u64;
        let value = counted.addresses.range(within).map(|(_, value)| value).sum();
        lines.push(Line { address: instruction.ip(), text, value });
    }
    Ok(lines)
}

/// The source of each instruction: the innermost inlined function's.
fn source_lines(image: &Arc<Image>, path: &Path, code: &[Line]) -> Vec<Arc<[Symbol]>> {
    let info = ImageInfo {
        id: image.id(),
        name: path.to_string_lossy().into(),
        build_id: image.build_id().cloned(),
        root: None,
        image: Some(image.clone()),
    };
    let addresses: Vec<Rva> = code.iter().map(|line| Rva(line.address)).collect();
    Symbolizer::new(Options::default()).image_batch(&info, &addresses)
}

/// The lines of source files that are here.
#[derive(Default)]
struct Sources(FxHashMap<Arc<str>, Vec<String>>);

impl Sources {
    fn line(&mut self, file: &Arc<str>, line: u32) -> Option<&str> {
        let lines = self.0.entry(file.clone()).or_insert_with(|| {
            let path = Path::new(&**file);
            let text = sys::read_regular(path, true, MOST_SOURCE).unwrap_or_default();
            String::from_utf8_lossy(&text).lines().map(printable).collect()
        });
        lines.get((line as usize).checked_sub(1)?).map(String::as_str)
    }
}

fn text(
    profile: &Profile,
    column: usize,
    counted: &Counted,
    path: &Path,
    code: &[Line],
    symbols: &[Arc<[Symbol]>],
) -> String {
    let kind = profile.sample_types[column];
    let mut out = format!(
        "# {} of {}: {} of {}\n",
        printable(&counted.name),
        printable(&path.to_string_lossy()),
        show::amount(counted.total, profile.text(kind.unit)),
        profile.text(kind.name)
    );
    let mut sources = Sources::default();
    let mut by_line: BTreeMap<(Arc<str>, u32), i128> = BTreeMap::new();
    let place = |symbols: &Arc<[Symbol]>| symbols.first().and_then(|symbol| Some((symbol.file.clone()?, symbol.line)));
    for (line, symbols) in code.iter().zip(symbols) {
        if let Some(place) = place(symbols) {
            *by_line.entry(place).or_insert(0) += line.value;
        }
    }
    let mut lines: Vec<_> = by_line.iter().filter(|(_, value)| **value > 0).collect();
    lines.sort_by_key(|(_, value)| std::cmp::Reverse(**value));
    for ((file, line), value) in lines {
        let source = sources.line(file, *line).unwrap_or_default().trim().to_owned();
        let _ = writeln!(out, "{:>9}  {}:{line}  {source}", show::percent(*value, counted.total), printable(file));
    }
    out.push('\n');
    let mut before = None;
    for (line, symbols) in code.iter().zip(symbols) {
        let here = place(symbols);
        if here != before
            && let Some((file, number)) = &here
        {
            let source =
                sources.line(file, *number).map_or_else(|| format!("{}:{number}", printable(file)), str::to_owned);
            let _ = writeln!(out, "{:>9} : {number:<6} {source}", "");
        }
        before = here;
        let share = if line.value > 0 { show::percent(line.value, counted.total) } else { String::new() };
        let _ = writeln!(out, "{share:>9} : {:>8x}:       {}", line.address, line.text);
    }
    out
}
