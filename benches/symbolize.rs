//! CPU time to name 10,000 distinct addresses of a large debug build, against blazesym and addr2line's loader.
//!
//! The readers take turns, so that all meet the same state of the machine; the least time of each counts. A file may be
//! given as an argument; else the largest executable beside this one is taken.

// A benchmark talks on its standard output.
#![allow(clippy::print_stdout)]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use blazesym::symbolize::source::{Elf, Source};
use nix::sys::resource::{UsageWho, getrusage};
use object::{Object, ObjectSymbol, SymbolKind};
use rprof::ids::{ImageId, Rva};
use rprof::process::{Image, ImageInfo};
use rprof::symbol::{Options, Symbolizer};

const ADDRESSES: usize = 10_000;
const ROUNDS: usize = 3;

/// Names addresses twice in a row: CPU time of the first pass and the second.
type Reader = fn(&Path, &[Rva]) -> Result<[Duration; 2]>;

fn main() -> Result<()> {
    let path = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let path = path.map_or_else(largest_executable, Ok)?;
    let rvas = addresses(&path)?;
    println!(
        "{} ({} MB), {} addresses, CPU time, least of {ROUNDS}",
        path.display(),
        fs::metadata(&path)?.len() >> 20,
        rvas.len()
    );
    let readers: [(&str, Reader); 4] = [
        ("rprof, one batch", |path, rvas| rprof(path, rvas, rvas.len())),
        ("rprof, 100 batches", |path, rvas| rprof(path, rvas, rvas.len() / 100)),
        ("addr2line::Loader", addr2line),
        ("blazesym", blazesym),
    ];
    // Once before all others, for its memory alone.
    fs::write("/proc/self/clear_refs", "5").context("cannot reset the high-water mark of memory")?;
    let before = memory("VmRSS:")?;
    rprof(&path, &rvas, rvas.len())?;
    println!("rprof: {} MB of memory at most, {} MB before", memory("VmHWM:")? >> 10, before >> 10);
    let mut least = [[Duration::MAX; 2]; 4];
    for _ in 0..ROUNDS {
        for (least, (_, reader)) in least.iter_mut().zip(&readers) {
            let times = reader(&path, &rvas)?;
            *least = [least[0].min(times[0]), least[1].min(times[1])];
        }
    }
    println!(
        "{:<20} {:>10} {:>10} {:>16} {:>8} {:>8}",
        "", "first, ms", "again, ms", "us per address", "ratio", "again"
    );
    for ((name, _), times) in readers.iter().zip(least) {
        let ratio = |at: usize| times[at].as_secs_f64() / least[0][at].as_secs_f64();
        let [first, again] = times.map(|time| time.as_secs_f64() * 1e3);
        let each = first * 1e3 / rvas.len() as f64;
        println!("{name:<20} {first:>10.1} {again:>10.2} {each:>16.2} {:>8.2} {:>8.1}", ratio(0), ratio(1));
    }
    Ok(())
}

/// The largest executable of the dev profile, of which the tests' are tens of megabytes.
fn largest_executable() -> Result<PathBuf> {
    let target = std::env::current_exe()?.ancestors().nth(3).context("no target directory")?.join("debug/deps");
    let entries = fs::read_dir(&target).with_context(|| target.display().to_string())?.filter_map(Result::ok);
    let executables = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        let executable = metadata.permissions().mode() & 0o111 != 0 && entry.path().extension().is_none();
        executable.then(|| (metadata.len(), entry.path()))
    });
    Ok(executables.max().context("no executable: build the tests first")?.1)
}

/// Addresses spread over all functions, in an order without locality.
fn addresses(path: &Path) -> Result<Vec<Rva>> {
    let data = fs::read(path)?;
    let file = object::File::parse(&*data)?;
    let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
    let mut all: Vec<u64> = functions
        .flat_map(|function| (0..function.size()).step_by(16).map(move |at| function.address() + at))
        .collect();
    all.sort_unstable();
    all.dedup();
    let step = (all.len() / ADDRESSES).max(1);
    let mut rvas: Vec<Rva> = all.into_iter().step_by(step).take(ADDRESSES).map(Rva).collect();
    rvas.sort_unstable_by_key(|rva| rva.0.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Ok(rvas)
}

/// A line of `/proc/self/status`, in KB.
fn memory(row: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(row)).context("no such row")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64;
    Ok(Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time())))
}

/// Times a first and a second pass.
fn passes(mut pass: impl FnMut() -> Result<usize>) -> Result<[Duration; 2]> {
    let mut times = [Duration::ZERO; 2];
    for time in &mut times {
        let start = cpu()?;
        std::hint::black_box(pass()?);
        *time = cpu()? - start;
    }
    Ok(times)
}

fn rprof(path: &Path, rvas: &[Rva], batch: usize) -> Result<[Duration; 2]> {
    let mut symbolizer = Symbolizer::new(Options::default());
    let mut info = None;
    passes(|| {
        let name = path.to_string_lossy();
        if info.is_none() {
            let image = Image::from_file(ImageId(0), &name, &File::open(path)?)?;
            info = Some(ImageInfo {
                id: ImageId(0),
                name: name.as_ref().into(),
                build_id: None,
                root: None,
                image: Some(image),
            });
        }
        let info = info.as_ref().context("no image")?;
        Ok(rvas
            .chunks(batch)
            .map(|rvas| symbolizer.image_batch(info, rvas).iter().map(|symbols| symbols.len()).sum::<usize>())
            .sum())
    })
}

fn addr2line(path: &Path, rvas: &[Rva]) -> Result<[Duration; 2]> {
    let mut loader = None;
    let mut sorted = rvas.to_vec();
    sorted.sort_unstable();
    passes(|| {
        if loader.is_none() {
            loader = Some(addr2line::Loader::new(path).map_err(|error| anyhow::anyhow!("{error}"))?);
        }
        let loader = loader.as_ref().context("no loader")?;
        let mut bytes = 0;
        for rva in &sorted {
            let mut frames = loader.find_frames(rva.0).map_err(|error| anyhow::anyhow!("{error}"))?;
            while let Some(frame) = frames.next()? {
                bytes += frame.function.map_or(0, |function| function.demangle().map_or(0, |name| name.len()));
            }
        }
        Ok(bytes)
    })
}

fn blazesym(path: &Path, rvas: &[Rva]) -> Result<[Duration; 2]> {
    let symbolizer = blazesym::symbolize::Symbolizer::new();
    let source = Source::Elf(Elf::new(path));
    let mut sorted: Vec<u64> = rvas.iter().map(|rva| rva.0).collect();
    sorted.sort_unstable();
    passes(|| Ok(symbolizer.symbolize(&source, blazesym::symbolize::Input::VirtOffset(&sorted[..]))?.len()))
}
