//! Go programs: their table of functions, and the stacks of their goroutines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs)]

mod recording;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use proptest::prelude::*;
use recording::Recording;
use rprof::health::Health;
use rprof::ids::{ImageId, Rva};
use rprof::process::Image;
use rprof::unwind::go::Pclntab;
use rprof::unwind::{Cfi, End, Table, Unwinder, X86_64};

const PROGRAM: &str = r#"
package main

import ("fmt"; "sort"; "strings")

//go:noinline
func leaf(n int) int { s := 0; for i := 0; i < n; i++ { s += i * i % 7 }; return s }

//go:noinline
func work(depth int) int {
	if depth > 0 { return work(depth-1) + leaf(20) }
	words := strings.Fields(strings.Repeat("b a d c ", 50))
	sort.Strings(words)
	return leaf(20000) + len(words)
}

func main() {
	done := make(chan int)
	for g := 0; g < 2; g++ { go func() { s := 0; for i := 0; i < 8000; i++ { s += work(20) }; done <- s }() }
	fmt.Println(<-done + <-done)
}
"#;

/// C that Go calls, and that calls Go.
const CGO_PROGRAM: &str = r#"
package main

/*
#include <time.h>
extern void goCallback(void);
static double spent(void) { struct timespec t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
__attribute__((noinline)) static void c_leaf(void) {
	double end = spent() + 0.3;
	volatile unsigned long z = 1;
	while (spent() < end) for (int i = 0; i < 100000; i++) z = z * 3 + 1;
}
__attribute__((noinline)) static void c_inner(void) { goCallback(); __asm__ volatile(""); }
__attribute__((noinline)) static void c_outer(void) { c_leaf(); c_inner(); __asm__ volatile(""); }
*/
import "C"

var sink uint64

//export goCallback
func goCallback() { for i := 0; i < 8000; i++ { goLeaf() } }

//go:noinline
func goLeaf() { for i := 0; i < 100000; i++ { sink = sink*3 + 1 } }

//go:noinline
func callC() { C.c_outer() }

func main() { callC() }
"#;

/// Builds the program; `None` where there is no Go.
fn build(directory: &Path, options: &[&str]) -> Option<PathBuf> {
    build_source(directory, PROGRAM, options)
}

fn build_source(directory: &Path, text: &str, options: &[&str]) -> Option<PathBuf> {
    let (source, binary) = (directory.join("main.go"), directory.join("program"));
    std::fs::write(&source, text).unwrap();
    let mut go = Command::new("go");
    go.arg("build").args(options).arg("-o").arg(&binary).arg(&source).env("CGO_ENABLED", "1");
    // One cache, so that the runtime is compiled once.
    go.env("GOCACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/go-cache"));
    let Ok(status) = go.env("GOFLAGS", "-mod=mod").env("GO111MODULE", "off").status() else {
        eprintln!("not run: there is no Go here");
        return None;
    };
    assert!(status.success());
    Some(binary)
}

fn open(path: &Path) -> Arc<Image> {
    Image::from_file(ImageId(0), path.to_str().unwrap(), &File::open(path).unwrap()).unwrap()
}

#[test]
fn functions_names_lines_and_whole_stacks() {
    let directory = tempfile::tempdir().unwrap();
    let Some(binary) = build(directory.path(), &["-ldflags=-s -w"]) else { return };
    let image = open(&binary);
    let table = Pclntab::parse(&image).unwrap();
    let mut previous = 0;
    for function in table.functions() {
        assert!(function.entry.0 >= previous && function.entry < function.end);
        previous = function.entry.0;
        assert_eq!(table.find(function.entry), Some(function));
        assert!(table.name(&function).is_some_and(|name| !name.is_empty()));
    }
    let work = table.functions().find(|f| table.name(f) == Some("main.work")).unwrap();
    let (file, line) = table.file_line(&work, work.entry).unwrap();
    assert!(file.ends_with("main.go"), "{file}");
    assert_eq!(line, 10);
    assert_eq!(table.find(Rva(u64::MAX)), None);
    let (compiled, bad) = Table::compile(&Cfi::open(&image).unwrap());
    assert!(bad == 0 && compiled.rows() > 1000);
    if recording::perf_works() {
        stacks_are_whole(&binary, &table);
    } else {
        eprintln!("not run: perf may not record here");
    }
}

/// Records a program. Answers its stacks, root first, each with its samples.
fn recorded(program: &Path) -> Vec<(String, u64)> {
    let folded = program.with_extension("folded");
    let mut rprof = Command::new(env!("CARGO_BIN_EXE_rprof"));
    assert!(rprof.args(["record", "-F", "499", "-o"]).arg(&folded).arg("--").arg(program).status().unwrap().success());
    let line = |line: &str| line.rsplit_once(' ').map(|(stack, count)| (stack.to_owned(), count.parse().unwrap()));
    std::fs::read_to_string(folded).unwrap().lines().filter_map(line).collect()
}

/// The samples of stacks that hold one string, and of those that hold all of some others too.
fn count(stacks: &[(String, u64)], of: &str, with: &[&str]) -> (u64, u64) {
    let all = stacks.iter().filter(|(stack, _)| stack.contains(of));
    let sum = |needles: &[&str]| {
        all.clone()
            .filter(|(stack, _)| needles.iter().all(|needle| stack.contains(needle)))
            .map(|(_, count)| count)
            .sum()
    };
    (sum(&[]), sum(with))
}

#[test]
fn stacks_cross_between_go_and_c() {
    const MAIN: &str = ";runtime.goexit;runtime.main;main.main;main.callC;";
    let directory = tempfile::tempdir().unwrap();
    let Some(binary) = build_source(directory.path(), CGO_PROGRAM, &[]) else { return };
    let stacks = recorded(&binary);
    let (all, whole) = count(&stacks, ";c_leaf", &[MAIN, ";runtime.asmcgocall;c_outer;c_leaf"]);
    assert!(all > 50 && whole * 100 >= all * 97, "Go calls C: {whole} of {all}; {stacks:#?}");
    let back = ";crosscall2;runtime.cgocallback;";
    let (all, whole) = count(&stacks, "main.goLeaf", &[MAIN, back, ";main.goCallback;main.goLeaf"]);
    assert!(all > 50 && whole * 100 >= all * 97, "C calls Go: {whole} of {all}; {stacks:#?}");
    // C on the thread's own stack is read from the process, which may have ended meanwhile.
    let (all, whole) =
        count(&stacks, "main.goLeaf", &[MAIN, ";runtime.asmcgocall;c_outer;c_inner;goCallback;crosscall2;"]);
    assert!(whole * 100 >= all * 50, "C calls Go: {whole} of {all}; {stacks:#?}");
    let stacks = recorded(&stripped(&binary));
    let (all, whole) = count(&stacks, "main.goLeaf", &[MAIN, back, ";main.goLeaf"]);
    assert!(all > 50 && whole * 100 >= all * 97, "stripped: {whole} of {all}; {stacks:#?}");
}

/// Strips a copy of a binary.
fn stripped(binary: &Path) -> PathBuf {
    let copy = binary.with_extension("stripped");
    assert!(Command::new("strip").arg("-o").arg(&copy).arg(binary).status().unwrap().success());
    copy
}

/// Compares a table with the symbols of the same code: each Go function begins where its symbol does.
fn assert_agrees(table: &Pclntab, symbols: &Image, how: &str) {
    let named: HashMap<&str, u64> = table.functions().filter_map(|f| Some((table.name(&f)?, f.entry.0))).collect();
    let symbols = symbols.elf().symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
    let (mut compared, mut equal) = (0, 0);
    for symbol in symbols {
        let name = symbol.name().unwrap();
        let Some(&entry) = name.strip_suffix(".abi0").or(Some(name)).and_then(|name| named.get(name)) else { continue };
        compared += 1;
        equal += u32::from(entry == symbol.address());
    }
    // Functions in both ABIs have one name in the table.
    assert!(compared > 1000 && equal * 100 > compared * 95, "{how}: {equal} of {compared}");
}

#[test]
fn a_stripped_table_says_where_its_code_is() {
    let directory = tempfile::tempdir().unwrap();
    for mode in ["exe", "pie", "c-shared"] {
        let Some(binary) = build_source(directory.path(), CGO_PROGRAM, &[&format!("-buildmode={mode}")]) else {
            return;
        };
        let image = open(&stripped(&binary));
        let table = Pclntab::parse(&image).unwrap();
        assert!(!Pclntab::is_unusable(&image));
        assert_agrees(&table, &open(&binary), mode);
        // C code, before and behind Go's, is nobody's.
        let whole = open(&binary);
        let c = whole.elf().symbols().find(|symbol| symbol.name() == Ok("c_leaf")).unwrap();
        assert_eq!(table.find(Rva(c.address())), None, "{mode}");
        assert_eq!(table.find(Rva(table.functions().next().unwrap().entry.0 - 1)), None, "{mode}");
    }
}

#[test]
fn a_table_that_does_not_say_where_its_code_is_names_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let Some(binary) = build_source(directory.path(), CGO_PROGRAM, &["-buildmode=exe"]) else { return };
    let image = open(&stripped(&binary));
    let section = image.elf().section_by_name(".gopclntab").unwrap();
    let (address, at) = (section.address().to_le_bytes(), section.file_range().unwrap().0 as usize);
    let mut bytes = image.bytes().to_vec();
    // The header's field, empty from Go 1.26 on, and every pointer to the table, among them the module's.
    bytes[at + 24..at + 32].fill(0);
    for word in bytes.chunks_exact_mut(8).filter(|word| **word == address) {
        word.fill(0);
    }
    let image = Image::from_bytes(ImageId(0), "headless", bytes).unwrap();
    assert!(Pclntab::parse(&image).is_none());
    assert!(Pclntab::is_unusable(&image));
}

fn stacks_are_whole(binary: &Path, table: &Pclntab) {
    let recording = Recording::of(&[binary.to_str().unwrap()], 499);
    let mut unwinder = Unwinder::new();
    for image in &recording.images {
        unwinder.add_image(image.id(), Cfi::open(image).map(Arc::new));
    }
    let (mut total, mut whole, mut worked) = (0, 0, 0);
    let mut health = Health::default();
    for sample in recording.samples.iter().filter(|sample| sample.comm == "program") {
        let mut frames = Vec::new();
        let end = unwinder.walk::<X86_64>(&sample.space, &sample.registers, sample.copy(), &mut frames, &mut health);
        total += 1;
        whole += u32::from(end == End::Root);
        let name = |frame: &rprof::unwind::UserFrame| Some(table.name(&table.find(frame.place?.rva)?)?.to_owned());
        worked += u32::from(frames.iter().filter(|frame| name(frame).as_deref() == Some("main.work")).count() > 15);
    }
    assert!(total > 100, "{total}");
    assert!(whole * 100 >= total * 95, "{whole} of {total} reach the root");
    assert!(worked * 100 >= total * 60, "{worked} of {total} show the recursion");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_never_panics(
        damages in prop::collection::vec(
            (prop::collection::vec((any::<usize>(), any::<u8>()), 1..2000), prop::collection::vec((8_usize..72, any::<u8>()), 0..3)),
            24,
        )
    ) {
        let directory = tempfile::tempdir().unwrap();
        let Some(binary) = build(directory.path(), &[]) else { return Ok(()) };
        let image = open(&binary);
        let (offset, size) = image.elf().section_by_name(".gopclntab").unwrap().file_range().unwrap();
        for (body, head) in damages {
            let mut bytes = image.bytes().to_vec();
            for (at, byte) in body.into_iter().chain(head) {
                bytes[offset as usize + at % size as usize] = byte;
            }
            let image = Image::from_bytes(ImageId(0), "damaged", bytes).unwrap();
            let Some(table) = Pclntab::parse(&image) else { continue };
            for function in table.functions() {
                let _ = (table.name(&function), table.file_line(&function, function.entry));
            }
            if let Some(cfi) = Cfi::open(&image) {
                let _ = Table::compile(&cfi);
            }
        }
    }
}
