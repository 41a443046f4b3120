//! Frames of compiled programs are named as other readers of the same files name them, wherever the debug information lies.

// The helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use object::{Object, ObjectSymbol};
use proptest::prelude::*;
use rprof::ids::{ImageId, Rva};
use rprof::process::{Image, ImageInfo};
use rprof::symbol::{Options, Symbol, Symbolizer};

const C: &str = r#"
#include <stdio.h>
#include <stdlib.h>
static inline __attribute__((always_inline)) int one(int x) { return x * 3 + rand(); }
static inline __attribute__((always_inline)) int two(int x) {
    int sum = 0;
    for (int i = 0; i < x; i++) sum += one(i) ^ sum;
    return sum;
}
static inline __attribute__((always_inline)) int three(int x) { return two(x) + two(x + 1) * one(x); }
__attribute__((noinline)) int outer(int x) { return three(x) + 7; }
__attribute__((noinline)) static int local(int x) { printf("%d\n", outer(x)); return x; }
int main(int argc, char **argv) { return local(argc) + outer(atoi(argv[argc - 1])); }
"#;

const CPP: &str = r#"
#include <algorithm>
#include <iostream>
#include <map>
#include <string>
#include <vector>
namespace shop { template <class T> struct Basket {
    std::vector<T> items;
    void add(T item) { items.push_back(item); }
    T total() const { T sum{}; for (auto &item : items) sum += item; return sum; }
}; }
int main(int argc, char **argv) {
    shop::Basket<double> basket; std::map<std::string, int> seen;
    for (int i = 0; i < argc * 100; i++) { basket.add(i * 1.5); seen[argv[i % argc]]++; }
    auto twice = [&](double x) { return x * 2 + basket.total(); };
    std::sort(basket.items.begin(), basket.items.end(), [&](double a, double b) { return twice(a) > twice(b); });
    std::cout << basket.total() << seen.size() << std::endl;
}
"#;

const RUST: &str = r#"
use std::collections::HashMap;
trait Shape { fn area(&self) -> f64; }
struct Square(f64);
impl Shape for Square { fn area(&self) -> f64 { self.0 * self.0 } }
#[inline(never)] fn total(shapes: &[Box<dyn Shape>]) -> f64 { shapes.iter().map(|shape| shape.area()).sum() }
fn main() {
    let shapes: Vec<Box<dyn Shape>> = (0..9).map(|n| Box::new(Square(n as f64)) as Box<dyn Shape>).collect();
    let mut words: HashMap<String, usize> = HashMap::new();
    for word in std::env::args() { *words.entry(word).or_default() += 1; }
    println!("{} {:?}", total(&shapes), words);
}
"#;

const GO: &str = "package main\nimport (\"fmt\"; \"os\"; \"sort\")\nfunc square(x int) int { return x * x }\n\
    func main() { s := []int{3, 1, square(len(os.Args))}; sort.Ints(s); fmt.Println(s) }\n";

/// Runs a tool; a test that lacks its tool fails.
fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env("GOCACHE", "/tmp/go-build-rprof")
        .env("GO111MODULE", "off")
        .output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn program(directory: &Path, compiler: &str, source: &str, arguments: &str, name: &str) -> PathBuf {
    let extension = match compiler {
        "g++" => "cc",
        "rustc" => "rs",
        "go" => "go",
        _ => "c",
    };
    let file = format!("source.{extension}");
    fs::write(directory.join(&file), source).unwrap();
    let mut words: Vec<&str> = arguments.split_whitespace().collect();
    words.extend(["-o", name, &file]);
    run(compiler, &words, directory);
    directory.join(name)
}

fn info(path: &Path) -> ImageInfo {
    let name = path.to_str().unwrap();
    let image = Image::from_file(ImageId(0), name, &File::open(path).unwrap()).unwrap();
    ImageInfo { id: ImageId(0), name: name.into(), build_id: image.build_id().cloned(), root: None, image: Some(image) }
}

/// Addresses throughout the functions of a file.
fn addresses(path: &Path, most: usize) -> Vec<Rva> {
    let data = fs::read(path).unwrap();
    let file = object::File::parse(&*data).unwrap();
    let functions = file.symbols().filter(|symbol| symbol.kind() == object::SymbolKind::Text && symbol.size() > 0);
    let mut all: Vec<Rva> = functions
        .flat_map(|function| (0..function.size()).step_by(1).map(move |at| Rva(function.address() + at)))
        .collect();
    all.sort_unstable();
    all.dedup();
    let step = all.len().div_ceil(most).max(1);
    all.into_iter().step_by(step).collect()
}

fn symbolize(path: &Path, rvas: &[Rva], debug_directories: Vec<PathBuf>) -> Vec<Arc<[Symbol]>> {
    Symbolizer::new(Options { debug_directories, ..Options::default() }).image_batch(&info(path), rvas)
}

/// Function, file and line of each frame.
type Frames = Vec<(String, Option<String>, u32)>;

fn ours(symbols: &[Symbol]) -> Frames {
    symbols
        .iter()
        .map(|symbol| (symbol.system_name.to_string(), symbol.file.as_deref().map(str::to_owned), symbol.line))
        .collect()
}

/// Whether frames are the same. g++ leaves the linkage name out where a lambda is a template's argument; the symbol table has
/// it, and the physical function gets it from there.
fn same(mine: &[(String, Option<String>, u32)], other: &[(String, Option<String>, u32)]) -> bool {
    let better = |mine: &str, other: &str| mine.starts_with("_Z") && !other.starts_with("_Z");
    let last = mine.len().saturating_sub(1);
    mine.len() == other.len()
        && mine.iter().zip(other).enumerate().all(|(at, (mine, other))| {
            let name = mine.0 == other.0 || (at == last && better(&mine.0, &other.0));
            name && (&mine.1, mine.2) == (&other.1, other.2)
        })
}

fn share(equal: usize, all: usize) -> f64 {
    assert!(all > 50, "only {all} addresses were compared");
    equal as f64 / all as f64
}

/// Compares all frames with those of addr2line's crate: names, files, lines.
fn agrees_with_addr2line(path: &Path) {
    let rvas = addresses(path, 4000);
    let found = symbolize(path, &rvas, Vec::new());
    let loader = addr2line::Loader::new(path).unwrap();
    let (mut equal, mut all, mut inlined, mut shown) = (0, 0, 0, 0);
    for (rva, symbols) in rvas.iter().zip(&found) {
        let mut frames = loader.find_frames(rva.0).unwrap();
        let mut expected: Frames = Vec::new();
        while let Some(frame) = frames.next().unwrap() {
            let Some(function) = frame.function else { continue };
            let (file, line) =
                frame.location.map_or((None, 0), |place| (place.file.map(str::to_owned), place.line.unwrap_or(0)));
            expected.push((function.raw_name().unwrap().into_owned(), file, line));
        }
        if expected.is_empty() {
            continue;
        }
        all += 1;
        inlined += usize::from(symbols.len() > 1);
        let symbols = ours(symbols);
        if same(&symbols, &expected) {
            equal += 1;
        } else if shown < 5 {
            shown += 1;
            println!("{:#x}\n  {symbols:?}\n  {expected:?}", rva.0);
        }
    }
    println!("{}: {equal} of {all} as addr2line, {inlined} with inlined frames", path.display());
    assert!(share(equal, all) >= 0.99);
    assert!(inlined > 0, "the program has no inlined calls");
}

/// Compares the names and lines with those of the `addr2line` of binutils.
fn agrees_with_binutils(path: &Path) {
    let rvas = addresses(path, 1000);
    let found = symbolize(path, &rvas, Vec::new());
    let input = path.with_extension("addresses");
    fs::write(&input, rvas.iter().map(|rva| format!("{:#x}\n", rva.0)).collect::<String>()).unwrap();
    let command = format!("addr2line -a -f -i -e {} < {}", path.display(), input.display());
    let output = run("sh", &["-c", &command], Path::new("/"));
    let mut expected: Vec<Frames> = Vec::new();
    let mut lines = output.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("0x") {
            expected.push(Vec::new());
            continue;
        }
        let place = lines.next().unwrap();
        let place = place.split(" (discriminator").next().unwrap();
        let number = place.rsplit(':').next().unwrap().parse().unwrap_or(0);
        expected.last_mut().unwrap().push((line.to_owned(), None, number));
    }
    let (mut equal, mut all) = (0, 0);
    for ((rva, symbols), expected) in rvas.iter().zip(&found).zip(&expected) {
        if expected.iter().any(|(name, ..)| name == "??") {
            continue;
        }
        let symbols: Frames =
            symbols.iter().map(|symbol| (symbol.system_name.to_string(), None, symbol.line)).collect();
        all += 1;
        let agrees = same(&symbols, expected);
        equal += usize::from(agrees);
        if !agrees && all - equal < 5 {
            println!("{:#x}\n  {symbols:?}\n  {expected:?}", rva.0);
        }
    }
    println!("{}: {equal} of {all} as binutils", path.display());
    // binutils shows the function around it for calls inlined into the cold part of another.
    assert!(share(equal, all) >= 0.95);
}

/// Compares the demangled physical functions with blazesym's.
fn agrees_with_blazesym(path: &Path) {
    use blazesym::symbolize::source::{Elf, Source};
    let rvas = addresses(path, 2000);
    let found = symbolize(path, &rvas, Vec::new());
    let numbers: Vec<u64> = rvas.iter().map(|rva| rva.0).collect();
    let symbolizer = blazesym::symbolize::Symbolizer::new();
    let input = blazesym::symbolize::Input::VirtOffset(&numbers[..]);
    let expected = symbolizer.symbolize(&Source::Elf(Elf::new(path)), input).unwrap();
    let (mut equal, mut all) = (0, 0);
    for (symbols, expected) in found.iter().zip(&expected) {
        let Some(symbol) = expected.as_sym() else { continue };
        all += 1;
        let outermost = symbols.last().unwrap();
        // Where DWARF has no linkage name, blazesym shows the name without its namespace.
        let short = symbol.name.split('<').next().unwrap();
        let agrees = *outermost.function == *symbol.name || outermost.function.contains(&format!("::{short}"));
        equal += usize::from(agrees && symbols.len() == symbol.inlined.len() + 1);
        if !agrees && all - equal < 5 {
            println!("{} / {}", outermost.function, symbol.name);
        }
    }
    println!("{}: {equal} of {all} as blazesym", path.display());
    assert!(share(equal, all) >= 0.95);
}

#[test]
fn c_cpp_rust_go_and_aarch64_agree_with_other_readers() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let c = program(at, "gcc", C, "-O2 -g", "c");
    let dwarf4 = program(at, "gcc", C, "-O2 -gdwarf-4", "c4");
    let cpp = program(at, "g++", CPP, "-O2 -g", "cpp");
    let rust = program(at, "rustc", RUST, "-O -g", "rust");
    let arm = program(at, "aarch64-linux-gnu-gcc", C, "-O2 -g", "arm");
    for path in [&c, &dwarf4, &cpp, &rust, &arm] {
        agrees_with_addr2line(path);
    }
    for path in [&c, &cpp, &rust] {
        agrees_with_binutils(path);
        agrees_with_blazesym(path);
    }
}

#[test]
fn go_agrees_with_addr2line() {
    let directory = tempfile::tempdir().unwrap();
    agrees_with_addr2line(&program(directory.path(), "go", GO, "build", "go-program"));
}

/// The same frames wherever the debug information lies.
fn same_frames(base: &Path, other: &Path, directories: Vec<PathBuf>) {
    let rvas = addresses(base, 2000);
    let expected = symbolize(base, &rvas, Vec::new());
    let found = symbolize(other, &rvas, directories);
    let equal = expected.iter().zip(&found).filter(|(a, b)| ours(a) == ours(b)).count();
    if let Some((a, b)) = expected.iter().zip(&found).find(|(a, b)| ours(a) != ours(b)) {
        println!("{:?}\n{:?}", ours(a), ours(b));
    }
    println!("{}: {equal} of {} as {}", other.display(), rvas.len(), base.display());
    assert_eq!(equal, rvas.len());
    assert!(found.iter().any(|symbols| symbols.len() > 2), "no inlined frames");
}

#[test]
fn compressed_sections() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let base = program(at, "g++", CPP, "-O2 -g", "base");
    same_frames(&base, &program(at, "g++", CPP, "-O2 -g -gz=zlib", "zlib"), Vec::new());
    run("objcopy", &["--compress-debug-sections=zstd", "base", "zstd"], at);
    same_frames(&base, &at.join("zstd"), Vec::new());
    run("objcopy", &["--compress-debug-sections=zlib-gnu", "base", "zdebug"], at);
    same_frames(&base, &at.join("zdebug"), Vec::new());
}

#[test]
fn separate_debug_files() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let base = program(at, "g++", CPP, "-O2 -g -Wl,--build-id=sha1", "base");
    run("objcopy", &["--only-keep-debug", "base", "base.debug"], at);
    run("objcopy", &["--strip-all", "--add-gnu-debuglink=base.debug", "base", "linked"], at);
    same_frames(&base, &at.join("linked"), Vec::new());

    // In .debug/, and not if the sum is wrong.
    fs::create_dir(at.join(".debug")).unwrap();
    fs::rename(at.join("base.debug"), at.join(".debug/base.debug")).unwrap();
    same_frames(&base, &at.join("linked"), Vec::new());
    let mut changed = fs::read(at.join(".debug/base.debug")).unwrap();
    changed.push(0);
    fs::write(at.join(".debug/base.debug"), &changed).unwrap();
    let rvas = addresses(&base, 100);
    assert!(symbolize(&at.join("linked"), &rvas, Vec::new()).iter().all(|symbols| symbols[0].line == 0));
    changed.pop();

    // By build ID.
    run("objcopy", &["--strip-all", "base", "bare"], at);
    let id = info(&base).build_id.unwrap().to_string();
    let folder = at.join("debug-files/.build-id").join(&id[..2]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{}.debug", &id[2..])), &changed).unwrap();
    same_frames(&base, &at.join("bare"), vec![at.join("debug-files")]);

    // Below a container's root, which is not the host's.
    let mut symbolizer =
        Symbolizer::new(Options { debug_directories: vec![PathBuf::from("/debug-files")], ..Options::default() });
    let contained = ImageInfo { root: Some(Arc::new(File::open(at).unwrap())), ..info(&at.join("bare")) };
    let found = symbolizer.image_batch(&contained, &rvas);
    assert!(found.iter().any(|symbols| symbols[0].line > 0));
}

#[test]
fn split_dwarf() {
    for (version, flags) in [(4, "-O2 -gdwarf-4 -gsplit-dwarf"), (5, "-O2 -gdwarf-5 -gsplit-dwarf")] {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let base = program(at, "gcc", C, &format!("-O2 -gdwarf-{version}"), "base");
        let split = program(at, "gcc", C, flags, "split");
        same_frames(&base, &split, Vec::new());
        let rvas = addresses(&base, 100);
        let entries = fs::read_dir(at).unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let dwo = entries.into_iter().find(|name| name.ends_with(".dwo")).unwrap();
        if version == 4 {
            // The dwp of binutils knows no DWARF 5.
            run("dwp", &["-o", "split.dwp", &dwo], at);
            fs::remove_file(at.join(&dwo)).unwrap();
            same_frames(&base, &split, Vec::new());
            fs::remove_file(at.join("split.dwp")).unwrap();
        } else {
            fs::remove_file(at.join(&dwo)).unwrap();
        }
        assert!(symbolize(&split, &rvas, Vec::new()).iter().all(|symbols| symbols[0].named));
    }
}

#[test]
fn split_dwarf_packed_by_rustc() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    for version in ["4", "5"] {
        let flags = format!("-O -g -C dwarf-version={version} -C split-debuginfo=packed");
        let path = program(at, "rustc", RUST, &flags, &format!("packed{version}"));
        assert!(at.join(format!("packed{version}.dwp")).exists());
        agrees_with_addr2line(&path);
    }
}

#[test]
fn supplementary_files() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let base = program(at, "g++", CPP, "-O2 -gdwarf-4 -Wl,--build-id=sha1", "base");
    for name in ["first", "second"] {
        fs::copy(&base, at.join(name)).unwrap();
    }
    run("dwz", &["-m", "common.debug", "first", "second"], at);
    same_frames(&base, &at.join("first"), Vec::new());
}

#[test]
fn mini_debug_info() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let base = program(at, "gcc", C, "-O2", "base");
    run(
        "sh",
        &[
            "-c",
            "objcopy --strip-debug -R .comment -R .text base mini && xz -k mini && objcopy --strip-all --add-section .gnu_debugdata=mini.xz base packed",
        ],
        at,
    );
    let rvas = addresses(&base, 100);
    let expected = symbolize(&base, &rvas, Vec::new());
    // Sections that objcopy dropped take their symbols along: keep those of the whole table.
    run(
        "sh",
        &[
            "-c",
            "objcopy --only-keep-debug base mini && xz -kf mini && objcopy --strip-all --add-section .gnu_debugdata=mini.xz base packed",
        ],
        at,
    );
    assert_eq!(symbolize(&at.join("packed"), &rvas, Vec::new()), expected);
    // A bomb: 200 MB of zeros.
    run(
        "sh",
        &[
            "-c",
            "head -c 200000000 /dev/zero | xz -1 > bomb.xz && objcopy --strip-all --add-section .gnu_debugdata=bomb.xz base bomb",
        ],
        at,
    );
    assert!(symbolize(&at.join("bomb"), &rvas, Vec::new()).iter().any(|symbols| !symbols[0].named));
}

#[test]
fn symbols_without_debug_information() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let assembly = r#"
        __asm__(".text\n.globl bare\n.type bare,@function\nbare: nop\nnop\nnop\nnop\n.size sized,.\nsized2: ret\n");
        __asm__(".text\n.globl sized\n.type sized,@function\nsized: nop\nret\n.size sized,2\n nop\nnop\nnop\nnop\nnop\nnop\n.globl last\nlast: ret\n");
        __attribute__((weak, alias("api"))) int __api(void); int api(void) { return 1; }
        int puts(const char *); int main(void) { return puts("") + api(); }
    "#;
    let assembly = assembly.replace(".size sized,.\\nsized2: ret\\n", "ret\\n");
    let path = program(at, "gcc", &assembly, "-O1 -fcf-protection", "plain");
    let data = fs::read(&path).unwrap();
    let file = object::File::parse(&*data).unwrap();
    let address = |name: &str| file.symbols().find(|symbol| symbol.name() == Ok(name)).unwrap().address();
    let mut symbolizer = Symbolizer::new(Options::default());
    let info = info(&path);
    let mut name = |rva: u64| symbolizer.image(&info, Rva(rva))[0].function.to_string();
    assert_eq!(name(address("bare") + 3), "bare");
    assert_eq!(name(address("sized") + 1), "sized");
    // Behind a function's end nothing is named by it.
    assert_eq!(name(address("sized") + 3), format!("plain+{:#x}", address("sized") + 3));
    assert_eq!(name(address("api")), "api");
    assert_eq!(name(0x7fff_0000), "plain+0x7fff0000");
    let stubs = run("objdump", &["-d", "plain"], at);
    let stub = stubs.lines().find(|line| line.contains("<puts@plt>:")).unwrap();
    let stub = u64::from_str_radix(stub.split_whitespace().next().unwrap(), 16).unwrap();
    assert_eq!((name(stub), name(stub + 8)), ("puts@plt".into(), "puts@plt".into()));
}

#[test]
fn a_function_without_a_name_is_one_function() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let path = program(at, "gcc", C, "-O2", "whole");
    run("strip", &["-s", "-o", "stripped", "whole"], at);
    let data = fs::read(&path).unwrap();
    let file = object::File::parse(&*data).unwrap();
    let functions = file.symbols().filter(|symbol| ["outer", "main"].contains(&symbol.name().unwrap()));
    for function in functions {
        let (start, size) = (function.address(), function.size());
        let rvas: Vec<Rva> = (start..start + size).map(Rva).collect();
        let symbols = symbolize(&at.join("stripped"), &rvas, Vec::new());
        let expected = format!("stripped+{start:#x}");
        assert!(size > 8 && symbols.iter().all(|symbols| *symbols[0].function == *expected), "{expected} {symbols:?}");
    }
}

#[test]
fn stubs_of_aarch64() {
    let directory = tempfile::tempdir().unwrap();
    let path = program(directory.path(), "aarch64-linux-gnu-gcc", C, "-O2", "arm");
    let listing = run("aarch64-linux-gnu-objdump", &["-d", "-j", ".plt", "arm"], directory.path());
    let line = listing.lines().find(|line| line.contains("<rand@plt>:")).unwrap();
    let stub = u64::from_str_radix(line.split_whitespace().next().unwrap(), 16).unwrap();
    assert_eq!(&*symbolize(&path, &[Rva(stub + 4)], Vec::new())[0][0].function, "rand@plt");
}

#[test]
fn an_image_that_could_not_be_opened_keeps_its_place() {
    let info =
        ImageInfo { id: ImageId(3), name: "/memfd:jit (deleted)".into(), build_id: None, root: None, image: None };
    let symbols = Symbolizer::new(Options::default()).image(&info, Rva(0x1234));
    assert_eq!((&*symbols[0].function, symbols[0].named, symbols.len()), ("memfd:jit (deleted)+0x1234", false, 1));
}

#[test]
fn the_symbolizer_moves_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Symbolizer>();
}

/// A deep tree of inlined calls, by hand: one entry of one byte a level.
#[test]
fn endless_nesting_ends() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let levels = 400_000;
    let source = format!(
        ".text\n.globl f\n.type f,@function\nf: nop\nret\n.size f,2\n\
         .section .debug_abbrev\n.byte 1,0x11,1,0x11,1,0x12,7,0,0, 2,0x2e,1,0x11,1,0x12,7,0,0, 3,0x1d,1,0,0, 0\n\
         .section .debug_info\n.long 2f-1f\n1: .short 4\n.long 0\n.byte 8\n.byte 1\n.quad f,2\n.byte 2\n.quad f,2\n.fill {levels},1,3\n.fill {levels},1,0\n.byte 0,0\n2:\n"
    );
    fs::write(at.join("deep.s"), source).unwrap();
    run("gcc", &["-shared", "-o", "deep.so", "deep.s"], at);
    let data = fs::read(at.join("deep.so")).unwrap();
    let file = object::File::parse(&*data).unwrap();
    let address = file.symbols().find(|symbol| symbol.name() == Ok("f")).unwrap().address();
    let start = Instant::now();
    let symbols = symbolize(&at.join("deep.so"), &[Rva(address)], Vec::new());
    assert_eq!(&*symbols[0][0].function, "f");
    assert!(start.elapsed() < Duration::from_secs(10));
}

fn damaged(original: &[u8], flips: &[(prop::sample::Index, u8)], rvas: &[Rva]) -> Duration {
    let mut bytes = original.to_vec();
    for (place, value) in flips {
        let at = place.index(bytes.len());
        bytes[at] = *value;
    }
    let start = Instant::now();
    if let Ok(image) = Image::from_bytes(ImageId(0), "damaged", bytes) {
        let info = ImageInfo { id: ImageId(0), name: "damaged".into(), build_id: None, root: None, image: Some(image) };
        let found = Symbolizer::new(Options::default()).image_batch(&info, rvas);
        assert!(found.iter().all(|symbols| !symbols.is_empty()));
    }
    start.elapsed()
}

#[test]
fn damaged_files_end_soon() {
    let directory = tempfile::tempdir().unwrap();
    let paths = [
        program(directory.path(), "g++", CPP, "-O2 -g", "five"),
        program(directory.path(), "gcc", C, "-O2 -gdwarf-4 -gz", "four"),
    ];
    for path in paths {
        let original = fs::read(&path).unwrap();
        let rvas = addresses(&path, 60);
        let flips = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 150,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let slow = runner.run(&flips, |flips| {
            prop_assert!(damaged(&original, &flips, &rvas) < Duration::from_secs(20));
            Ok(())
        });
        slow.unwrap();
    }
}
