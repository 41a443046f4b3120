//! Go programs: their table of functions, and the stacks of their goroutines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs)]

mod recording;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use object::{Object, ObjectSection};
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

/// Builds the program; `None` where there is no Go.
fn build(directory: &Path, options: &[&str]) -> Option<PathBuf> {
    let (source, binary) = (directory.join("main.go"), directory.join("program"));
    std::fs::write(&source, PROGRAM).unwrap();
    let mut go = Command::new("go");
    go.arg("build").args(options).arg("-o").arg(&binary).arg(&source).env("GOCACHE", directory.join("cache"));
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
