//! Nanoseconds a frame, against framehop on the same stacks in the same run: `cargo bench --bench unwind`.
//!
//! Rounds of the two alternate; of each the median of its rounds' CPU time is printed, after one round that warms up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

#[path = "../tests/recording/oracle.rs"]
mod oracle;
#[path = "../tests/recording/mod.rs"]
mod recording;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::process::Command;
use std::sync::Arc;

use nix::time::{ClockId, clock_gettime};
use oracle::Oracle;
use recording::Recording;
use rprof::health::Health;
use rprof::ids::{Address, ImageId, Rva};
use rprof::process::{AddressSpace, Content, Epochs, Image, Mapping};
use rprof::unwind::x86_64::Registers;
use rprof::unwind::{Cfi, End, Kind, StackCopy, Table, Unwinder, UserFrame, X86_64};

const ROUNDS: usize = 11;

fn main() {
    println!("{:<44} {:>8} {:>9} {:>9} {:>7}", "stacks", "frames", "rprof ns", "framehop", "ratio");
    for library in [system_library("libc.so.6"), rustc_driver()] {
        for pcs in [50, 1_000, 50_000] {
            synthetic(&library, pcs);
        }
    }
    compiler();
}

/// A stack, ready to be walked.
struct Stack {
    registers: Registers,
    bytes: Vec<u8>,
    /// Which of the address spaces.
    space: usize,
}

impl Stack {
    fn copy(&self) -> StackCopy<'_> {
        StackCopy { start: Address(self.registers.gpr[7]), bytes: &self.bytes }
    }
}

/// The stacks of a case with both unwinders.
struct Case {
    spaces: Vec<AddressSpace>,
    stacks: Vec<Stack>,
    unwinder: Unwinder,
    oracles: Vec<Oracle>,
}

impl Case {
    fn new(images: &[Arc<Image>], spaces: Vec<AddressSpace>, stacks: Vec<Stack>) -> Case {
        let mut unwinder = Unwinder::new();
        for image in images {
            let cfi = Cfi::open(image).map(Arc::new);
            unwinder.add_image(image.id(), cfi.clone());
            if let Some(cfi) = cfi {
                unwinder.add_table(image.id(), Arc::new(Table::compile(&cfi).0));
            }
        }
        let oracles = spaces.iter().map(|space| Oracle::new(space, images)).collect();
        Case { spaces, stacks, unwinder, oracles }
    }

    fn walk_all(&mut self, frames: &mut Vec<UserFrame>) -> usize {
        let mut health = Health::default();
        let mut total = 0;
        for stack in &self.stacks {
            frames.clear();
            let space = &self.spaces[stack.space];
            self.unwinder.walk::<X86_64>(space, &stack.registers, stack.copy(), frames, &mut health);
            total += frames.len();
        }
        total
    }

    fn oracle_all(&mut self, frames: &mut Vec<Address>) -> usize {
        let mut total = 0;
        for stack in &self.stacks {
            frames.clear();
            self.oracles[stack.space].walk(&stack.registers, stack.copy(), frames);
            total += frames.len();
        }
        total
    }

    fn measure(&mut self, name: &str) {
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        let (mut frames, mut addresses) = (Vec::new(), Vec::new());
        let mut total = 0;
        for _ in 0..=ROUNDS {
            let (ns, walked) = per_frame(|| self.walk_all(&mut frames));
            mine.push(ns);
            total = walked;
            theirs.push(per_frame(|| self.oracle_all(&mut addresses)).0);
        }
        let (mine, theirs) = (median(&mut mine[1..]), median(&mut theirs[1..]));
        println!("{name:<44} {total:>8} {mine:>9.1} {theirs:>9.1} {:>6.2}x", theirs / mine);
    }
}

fn per_frame(run: impl FnOnce() -> usize) -> (f64, usize) {
    let start = cpu_time();
    let frames = run();
    ((cpu_time() - start) / frames.max(1) as f64, frames)
}

/// Nanoseconds of CPU that this thread has used.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn open(path: &str) -> Arc<Image> {
    Image::from_file(ImageId(0), path, &File::open(path).unwrap()).unwrap()
}

fn system_library(name: &str) -> Arc<Image> {
    open(&format!("/usr/lib/x86_64-linux-gnu/{name}"))
}

/// The largest library that is sure to be here: 154 MB.
fn rustc_driver() -> Arc<Image> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    let lib = format!("{}/lib", String::from_utf8(sysroot.stdout).unwrap().trim());
    let files = std::fs::read_dir(lib).unwrap().map(|entry| entry.unwrap().path());
    let driver = files.map(|path| path.to_str().unwrap().to_owned()).find(|path| path.contains("librustc_driver"));
    open(&driver.unwrap())
}

/// Numbers that look random and are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Stacks of 64 frames, each of a random one of `pcs` places of a library.
fn synthetic(image: &Arc<Image>, pcs: usize) {
    const BIAS: u64 = 0x7f00_0000_0000;
    const SP: u64 = 0x7ffd_0000_0000;
    let (table, _) = Table::compile(&Cfi::open(image).unwrap());
    let code = image.segments().iter().find(|segment| segment.executable).unwrap();
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut pool = Vec::new();
    while pool.len() < pcs {
        let rva = Rva(code.address + random.below(code.size as usize) as u64);
        let rule = table.rule(rva);
        if rule.kind == Kind::StackPointer && rule.cfa < 64 && rule.ra == -1 {
            pool.push((rva, rule.cfa as usize));
        }
    }
    let mut stack = || {
        let (leaf, mut words) = pool[random.below(pcs)];
        let mut bytes = vec![0_u64; words];
        for _ in 1..64 {
            let (rva, size) = pool[random.below(pcs)];
            bytes[words - 1] = BIAS + rva.0 + 1;
            words += size;
            bytes.resize(words, 0);
        }
        let mut gpr = [0; 16];
        gpr[7] = SP;
        let registers = Registers { rip: BIAS + leaf.0, gpr };
        Stack { registers, bytes: bytes.iter().flat_map(|word| word.to_le_bytes()).collect(), space: 0 }
    };
    let stacks: Vec<Stack> = (0..2_000).map(|_| stack()).collect();
    let mut epochs = Epochs::default();
    let mut space = AddressSpace::new(&mut epochs);
    let start = Address(BIAS + code.address);
    let content = Content::Image { image: image.id(), bias: BIAS };
    space.insert(Mapping { start, end: Address(start.0 + code.size), content }, &mut epochs);
    let mut case = Case::new(std::slice::from_ref(image), vec![space], stacks);
    let name = image.name().rsplit('/').next().unwrap().split(['.', '-']).next().unwrap();
    case.measure(&format!("{name} ({} MB), {pcs} addresses", image.bytes().len() / 1_000_000));
    agreement(&mut case);
}

/// The compiler's own stacks while it compiles templates.
fn compiler() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("templates.cc");
    std::fs::write(&source, TEMPLATES).unwrap();
    let source = source.to_str().unwrap();
    let recording = Recording::of(&["g++", "-O2", "-std=c++17", "-c", "-o", "/dev/null", source], 399);
    let mut spaces = Vec::new();
    let mut numbers = HashMap::new();
    let mut stacks = Vec::new();
    for sample in recording.samples.iter().filter(|sample| sample.comm == "cc1plus") {
        let space = *numbers.entry(sample.space.epoch()).or_insert_with(|| {
            spaces.push(sample.space.clone());
            spaces.len() - 1
        });
        stacks.push(Stack { registers: sample.registers, bytes: sample.stack.clone(), space });
    }
    let mut case = Case::new(&recording.images, spaces, stacks);
    case.measure(&format!("cc1plus, {} stacks", case.stacks.len()));
    agreement(&mut case);
}

/// Compares all stacks frame for frame, and prints how many are equal and in what way the others differ.
fn agreement(case: &mut Case) {
    let mut classes: BTreeMap<String, usize> = BTreeMap::new();
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let mut health = Health::default();
    for stack in &case.stacks {
        let (mut frames, mut theirs) = (Vec::new(), Vec::new());
        let space = &case.spaces[stack.space];
        let end = case.unwinder.walk::<X86_64>(space, &stack.registers, stack.copy(), &mut frames, &mut health);
        let root = case.oracles[stack.space].walk(&stack.registers, stack.copy(), &mut theirs);
        let mine: Vec<Address> = frames.iter().map(|frame| frame.address).collect();
        let class = difference(&mine, &theirs, end == End::Root, root);
        *classes.entry(class).or_default() += 1;
        *ends.entry(format!("{end:?}")).or_default() += 1;
    }
    println!("    {ends:?} {classes:?}");
}

fn difference(mine: &[Address], theirs: &[Address], mine_root: bool, their_root: bool) -> String {
    let common = mine.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    match (common == mine.len(), common == theirs.len()) {
        (true, true) if mine_root == their_root => "equal".into(),
        (true, true) => format!("equal frames, root {mine_root} against {their_root}"),
        (true, false) => format!("framehop goes on (rprof root: {mine_root}, framehop root: {their_root})"),
        (false, true) => format!("rprof goes on (rprof root: {mine_root}, framehop root: {their_root})"),
        (false, false) => format!("differ from a frame on (rprof root: {mine_root}, framehop root: {their_root})"),
    }
}

const TEMPLATES: &str = r#"
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>
template <int N> struct F { static constexpr unsigned long v = F<N - 1>::v + F<N - 2>::v; };
template <> struct F<0> { static constexpr unsigned long v = 0; };
template <> struct F<1> { static constexpr unsigned long v = 1; };
template <class... T> struct Many { std::tuple<T...> values; std::variant<T...> one; };
template <std::size_t... I> auto make(std::index_sequence<I...>) {
    return std::make_tuple(std::function<int(int)>([](int x) { return x + int(I); })...);
}
int main() {
    auto all = make(std::make_index_sequence<120>());
    std::map<std::string, std::vector<std::unordered_map<int, std::string>>> m;
    std::regex r("(a|b)*c[0-9]+");
    Many<int, double, std::string, std::vector<int>, std::map<int, std::string>> many;
    std::sort(m["x"].begin(), m["x"].end(), [](auto& a, auto& b) { return a.size() < b.size(); });
    std::visit([](auto& v) { std::cout << sizeof v; }, many.one);
    std::cout << F<800>::v << std::regex_match("ac1", r) << std::get<3>(all)(4);
}
"#;
