//! Every row of real libraries: the compiled table, the look-up of one address, and gimli say the same.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::programs::{self, c, shared_object};

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, LittleEndian, Register, RegisterRule, UnwindContext,
    UnwindSection, UnwindTableRow,
};
use object::{Object, ObjectSection, ObjectSymbol};
use proptest::prelude::*;
use rprof::ids::{Architecture, ImageId, Rva};
use rprof::process::{Image, ImageInfo};
use rprof::symbol::{Options, Symbolizer};
use rprof::unwind::{Aarch64, Abi, Arch, Cfi, Kind, Rule, Table, X86_64};

fn open(path: &str) -> Option<Arc<Image>> {
    Path::new(path).exists().then(|| Image::from_file(ImageId(0), path, &File::open(path).unwrap()).unwrap())
}

/// Calls `check` with every row of `.eh_frame`.
fn each_row(image: &Image, mut check: impl FnMut(&UnwindTableRow<usize>, bool)) {
    let elf = image.elf();
    let section = elf.section_by_name(".eh_frame").unwrap();
    let data = section.uncompressed_data().unwrap();
    let frame = EhFrame::new(&data, LittleEndian);
    let address = |name| elf.section_by_name(name).map_or(0, |section| section.address());
    let bases = BaseAddresses::default().set_eh_frame(section.address()).set_text(address(".text"));
    let mut context = UnwindContext::new();
    let mut entries = frame.entries(&bases);
    while let Some(entry) = entries.next().unwrap() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(EhFrame::<EndianSlice<'_, LittleEndian>>::cie_from_offset).unwrap();
        let signal = fde.is_signal_trampoline();
        let mut rows = fde.rows(&frame, &bases, &mut context).unwrap();
        while let Some(row) = rows.next_row().unwrap() {
            if row.start_address() < row.end_address() {
                check(row, signal);
            }
        }
    }
}

/// What is wrong with a rule in place of a row.
fn fault(abi: &Abi, row: &UnwindTableRow<usize>, rule: Rule) -> Option<&'static str> {
    let ra = row.register(Register(abi.ra));
    let fp = row.register(Register(abi.fp));
    let offset = |words: i16| i64::from(words) * 8;
    let plain = |base: u16| match *row.cfa() {
        _ if *row.cfa() != (CfaRule::RegisterAndOffset { register: Register(base), offset: offset(rule.cfa) }) => {
            Some("another CFA")
        }
        _ if ra != (rule.ra != 0).then(|| RegisterRule::Offset(offset(rule.ra))) => Some("another return address"),
        _ => match fp {
            Some(RegisterRule::Offset(at)) if rule.fp != 0 => {
                (at != offset(rule.fp)).then_some("another frame pointer")
            }
            Some(RegisterRule::Offset(at)) => (offset(rule.cfa) + at >= 0).then_some("a frame pointer left out"),
            None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => {
                (rule.fp != 0).then_some("a frame pointer made up")
            }
            _ => Some("a frame pointer that no rule can say"),
        },
    };
    match rule.kind {
        Kind::StackPointer | Kind::LinkRegister => plain(abi.sp),
        Kind::FramePointer => plain(abi.fp),
        Kind::Root => (ra != Some(RegisterRule::Undefined)).then_some("no root"),
        Kind::Plt | Kind::Realigned => match row.cfa() {
            CfaRule::Expression(_) => None,
            CfaRule::RegisterAndOffset { .. } => Some("no expression"),
        },
        Kind::Interpret => match *row.cfa() {
            CfaRule::RegisterAndOffset { register, .. } if register == Register(abi.sp) => match fp {
                None | Some(RegisterRule::Offset(_)) if matches!(ra, Some(RegisterRule::Offset(_))) => {
                    Some("a plain row interpreted")
                }
                _ => None,
            },
            _ => None,
        },
        Kind::Signal | Kind::StackSwitch | Kind::Gap | Kind::Unknown | Kind::Fiber => {
            Some("a rule that rows do not have")
        }
    }
}

fn rows_agree(path: &str) {
    let Some(image) = open(path) else { return };
    let abi = match image.architecture().unwrap() {
        Architecture::X86_64 => &X86_64::ABI,
        Architecture::Aarch64 => &Aarch64::ABI,
    };
    let cfi = Cfi::open(&image).unwrap();
    let (table, bad) = Table::compile(&cfi);
    assert_eq!(bad, 0, "{path}");
    let (mut rows, mut interpreted) = (0, 0);
    each_row(&image, |row, signal| {
        rows += 1;
        for address in [row.start_address(), row.end_address() - 1] {
            let rule = table.rule(Rva(address));
            interpreted += u32::from(rule.kind == Kind::Interpret);
            if signal {
                assert!(matches!(rule.kind, Kind::Signal | Kind::Interpret), "{path} {address:#x} {rule:?}");
            } else if let Some(fault) = fault(abi, row, rule) {
                panic!("{path} {address:#x}: {fault}: {row:?} {rule:?}");
            }
            if rows % 7 == 0 {
                assert_eq!(cfi.rule_at(Rva(address)), rule, "{path} {address:#x}: compiled and looked up");
            }
        }
    });
    assert!(rows > 100, "{path}");
    // Two addresses a row. libcrypto's hand-written assembly has the most: it keeps the CFA in rax or r11.
    assert!(interpreted < 2 * rows / 50, "{path}: {interpreted} of {rows} interpreted");
}

#[test]
fn x86_64_rows() {
    for name in ["libc.so.6", "libstdc++.so.6", "ld-linux-x86-64.so.2", "libm.so.6", "libcrypto.so.3"] {
        rows_agree(&format!("/usr/lib/x86_64-linux-gnu/{name}"));
    }
}

#[test]
fn aarch64_rows() {
    for name in ["libc.so.6", "libstdc++.so.6", "ld-linux-aarch64.so.1", "libm.so.6"] {
        rows_agree(&format!("/usr/aarch64-linux-gnu/lib/{name}"));
    }
}

#[test]
fn nothing_is_said_between_functions() {
    let image = open("/usr/lib/x86_64-linux-gnu/libc.so.6").unwrap();
    let cfi = Cfi::open(&image).unwrap();
    let (table, _) = Table::compile(&cfi);
    let mut ranges = Vec::new();
    each_row(&image, |row, _| ranges.push((row.start_address(), row.end_address())));
    ranges.sort_unstable();
    let gaps = ranges.windows(2).filter(|pair| pair[0].1 < pair[1].0).map(|pair| pair[0].1);
    let gaps: Vec<u64> = gaps.collect();
    assert!(!gaps.is_empty());
    for gap in gaps {
        assert_eq!(table.rule(Rva(gap)), Rule::GAP, "{gap:#x}");
        assert!(matches!(cfi.rule_at(Rva(gap)).kind, Kind::Gap), "{gap:#x}");
    }
}

#[test]
fn the_libc_restorer_is_a_signal_frame() {
    let image = open("/usr/lib/x86_64-linux-gnu/libc.so.6").unwrap();
    let cfi = Cfi::open(&image).unwrap();
    let (table, _) = Table::compile(&cfi);
    let mut signals = Vec::new();
    each_row(&image, |row, signal| signals.extend(signal.then_some(row.start_address())));
    assert!(signals.iter().any(|&address| table.rule(Rva(address)) == Rule::SIGNAL));
}

/// A small library with one section damaged.
fn damaged(image: &Image, section: &str, damage: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = image.bytes().to_vec();
    let (offset, size) = image.elf().section_by_name(section).unwrap().file_range().unwrap();
    for &(at, byte) in damage {
        bytes[offset as usize + at % size as usize] = byte;
    }
    bytes
}

fn survives(bytes: Vec<u8>) {
    let Ok(image) = Image::from_bytes(ImageId(0), "damaged", bytes) else { return };
    let Some(cfi) = Cfi::open(&image) else { return };
    let (table, _) = Table::compile(&cfi);
    for segment in image.segments().iter().filter(|segment| segment.executable) {
        for address in (segment.address..segment.address + segment.size.min(1 << 20)).step_by(257) {
            let _ = (table.rule(Rva(address)), cfi.rule_at(Rva(address)));
        }
    }
}

/// A search table with a count of entries of 64 bits, which no linker writes: the entries themselves tell all the same.
#[test]
fn a_count_that_no_linker_writes_is_not_searched_by() {
    let image = open("/usr/lib/x86_64-linux-gnu/libgcc_s.so.1").unwrap();
    let damaged = damaged(&image, ".eh_frame_hdr", &[(2, gimli::DW_EH_PE_udata8.0)]);
    let damaged = Image::from_bytes(ImageId(0), "damaged", damaged).unwrap();
    let [whole, searched] = [&image, &damaged].map(|image| Cfi::open(image).unwrap());
    let code = image.segments().iter().find(|segment| segment.executable).unwrap();
    for address in (code.address..code.address + code.size).step_by(61) {
        assert_eq!(whole.rule_at(Rva(address)), searched.rule_at(Rva(address)), "{address:#x}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_never_panics(
        section in prop::sample::select(vec![".eh_frame", ".eh_frame_hdr"]),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..200),
        head in prop::collection::vec((0_usize..64, any::<u8>()), 0..3),
    ) {
        let image = open("/usr/lib/x86_64-linux-gnu/libdl.so.2").unwrap();
        survives(damaged(&image, section, &damage));
        let image = open("/usr/lib/x86_64-linux-gnu/libgcc_s.so.1").unwrap();
        survives(damaged(&image, section, &[damage, head].concat()));
    }
}

/// Where lld lies under the name by which compilers look for it.
const LLD: &[&str] = &["-B/usr/lib/llvm-14/bin", "-fuse-ld=lld"];

fn with<'a>(first: &[&'a str], second: &[&'a str]) -> Vec<&'a str> {
    [first, second].concat()
}

/// The sections of stubs of an image.
fn stubs(image: &Image) -> Vec<Range<u64>> {
    let sections = image.elf().sections().filter(|section| section.name().unwrap().starts_with(".plt"));
    sections.map(|section| section.address()..section.address() + section.size()).collect()
}

fn image_info(image: &Arc<Image>) -> ImageInfo {
    let name = image.name().into();
    ImageInfo { id: image.id(), name, build_id: None, root: None, image: Some(Arc::clone(image)) }
}

/// The flags of each shape of procedure linkage table on x86-64.
fn linkers() -> Vec<Vec<&'static str>> {
    let ibt: &[_] = &["-fcf-protection", "-Wl,-z,ibtplt"];
    let (lazy, now): (&[_], &[_]) = (&["-Wl,-z,lazy"], &["-Wl,-z,now"]);
    let retpoline = with(LLD, &["-Wl,-z,retpolineplt"]);
    let shapes = [
        vec![],
        ibt.to_vec(),
        vec!["-fuse-ld=gold"],
        LLD.to_vec(),
        with(LLD, &["-fcf-protection", "-Wl,-z,force-ibt"]),
        retpoline,
        vec!["-fuse-ld=mold"],
    ];
    shapes.iter().flat_map(|shape| [with(shape, lazy), with(shape, now)]).collect()
}

/// Each instruction of the stubs that a program runs leads to the caller and has the callee's name.
#[cfg(target_arch = "x86_64")]
#[test]
fn stubs_of_each_linker() {
    let library = shared_object("stubs_library.c", &["-O1"]);
    for flags in linkers() {
        let link = [&["-O1", "-mno-red-zone"][..], &flags, &[library.to_str().unwrap()]].concat();
        let program = c("stubs.c", &link);
        let output = Command::new(&program).output().unwrap();
        assert!(output.status.success(), "{flags:?}");
        check_stubs(&program, &String::from_utf8(output.stdout).unwrap(), &flags);
    }
}

/// The first byte of an instruction of a stub.
#[cfg(target_arch = "x86_64")]
fn code_at(image: &Image, address: u64) -> u8 {
    let sections = image.elf().sections();
    let holds =
        |section: &object::Section<'_, '_>| (section.address()..section.address() + section.size()).contains(&address);
    let section = { sections }.find(|section| section.address() > 0 && holds(section)).unwrap();
    section.data().unwrap()[(address - section.address()) as usize]
}

#[cfg(target_arch = "x86_64")]
fn check_stubs(program: &Path, printed: &str, flags: &[&str]) {
    let hexadecimal = |digits: &str| u64::from_str_radix(digits, 16).unwrap();
    let image = open(program.to_str().unwrap()).unwrap();
    let main = image.elf().symbols().find(|symbol| symbol.name() == Ok("main")).unwrap().address();
    let mut lines = printed.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let bias = hexadecimal(lines.next().unwrap()[1]).wrapping_sub(main);
    let (cfi, stubs) = (Cfi::open(&image).unwrap(), stubs(&image));
    let (table, _) = Table::compile(&cfi);
    let (mut symbolizer, info) = (Symbolizer::new(Options::default()), image_info(&image));
    let (mut steps, mut calls, mut checked) = (Vec::new(), 0, 0);
    for line in lines {
        match line[..] {
            ["step", address, sp] => {
                steps.push((hexadecimal(address).wrapping_sub(bias), hexadecimal(sp)));
                continue;
            }
            ["callee", sp, name] => {
                // The stack pointer of the callee, where the return address lies, is a word below the frame address of the stub.
                let cfa = hexadecimal(sp) + 8;
                let inside = |(address, _): &&(u64, u64)| stubs.iter().any(|range| range.contains(address));
                let last = steps.iter().rposition(|step| !inside(&step)).map_or(0, |at| at + 1);
                let (mut called, mut from_header) = (false, false);
                for &(address, sp) in &steps[last..] {
                    // lld's stubs and their header, when it binds a function, call the same two instructions. The first one overwrites
                    // the return address, so that the second cannot tell its callers apart: its rule is for the stubs.
                    if from_header && !called {
                        continue;
                    }
                    // Behind a call from one stub to another the caller is that stub.
                    let cfa = if called { sp + 8 } else { cfa };
                    let rule = cfi.rule_by_code(Rva(address), table.rule(Rva(address)));
                    assert_eq!(
                        rule,
                        cfi.rule_by_code(Rva(address), cfi.rule_at(Rva(address))),
                        "{flags:?} {address:#x}"
                    );
                    let found = (rule.kind, sp.wrapping_add_signed(i64::from(rule.cfa) * 8), rule.ra, rule.fp);
                    assert_eq!(found, (Kind::StackPointer, cfa, -1, 0), "{flags:?} {address:#x} {printed}");
                    let symbol = symbolizer.image(&info, Rva(address))[0].function.clone();
                    let is_right = *symbol == *format!("{name}@plt") || &*symbol == "[plt]";
                    assert!(is_right, "{flags:?} {address:#x} is {symbol}, not {name}");
                    called = code_at(&image, address) == 0xe8;
                    // A header that binds functions begins with a push.
                    let header =
                        stubs.iter().map(|range| range.start).find(|&start| (start..start + 16).contains(&address));
                    from_header |= called && header.is_some_and(|start| code_at(&image, start) == 0xff);
                    checked += 1;
                }
                let first = steps[last..].first().map(|step| symbolizer.image(&info, Rva(step.0))[0].function.clone());
                assert_eq!(first.as_deref(), Some(&*format!("{name}@plt")), "{flags:?}");
                calls += 1;
            }
            _ => panic!("{line:?}"),
        }
        steps.clear();
    }
    assert!(calls == 4 && checked >= 4, "{flags:?}: {printed}");
}

/// Stubs of a shape that no linker is known to write have no rule, not a guessed one.
#[cfg(target_arch = "x86_64")]
#[test]
fn stubs_of_an_unknown_shape_are_not_unwound() {
    let source =
        ".section .plt,\"ax\",@progbits\n.balign 16\nmov %rax, %r11\njmp *%r11\n.balign 16\n.text\n.globl f\nf: ret\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("odd.s"), source).unwrap();
    let status =
        Command::new("cc").args(["-shared", "-nostdlib", "-o", "odd.so", "odd.s"]).current_dir(&folder).status();
    assert!(status.unwrap().success());
    let image = open(folder.path().join("odd.so").to_str().unwrap()).unwrap();
    let (cfi, stub) = (Cfi::open(&image).unwrap(), stubs(&image)[0].start);
    assert_eq!(cfi.rule_by_code(Rva(stub + 3), cfi.rule_at(Rva(stub + 3))).kind, Kind::Unknown);
}

#[test]
fn stubs_of_each_linker_for_aarch64() {
    const COMPILER: &str = "aarch64-linux-gnu-gcc";
    let folder = tempfile::tempdir().unwrap();
    let compile = |flags: &[&str], output: &str| -> PathBuf {
        let common = ["-O1", "-nostdlib", "-Wl,-e,caller", "-o", output];
        let status = Command::new(COMPILER).args(common).args(flags).current_dir(&folder).status().unwrap();
        assert!(status.success(), "{flags:?}");
        folder.path().join(output)
    };
    let library = programs::sources().join("stubs_library.c");
    compile(&["-shared", "-fPIC", library.to_str().unwrap()], "library.so");
    let source = "int tick(int); int tock(int); int (*volatile pointer)(int);\
                  int caller(int x) { pointer = tock; return tick(x) + tock(x) + pointer(x); }";
    std::fs::write(folder.path().join("caller.c"), source).unwrap();
    let protected: &[_] = &["-mbranch-protection=standard", "-Wl,-z,force-bti", "-Wl,-z,pac-plt"];
    let shapes = [
        vec![],
        protected.to_vec(),
        vec!["-Wl,-z,pac-plt"],
        vec!["-fuse-ld=gold"],
        LLD.to_vec(),
        with(LLD, protected),
        vec!["-B/usr/libexec/mold"],
    ];
    for flags in shapes {
        let program = compile(&with(&flags, &["caller.c", "library.so"]), "caller");
        check_stubs_for_aarch64(program.to_str().unwrap(), &flags);
    }
}

fn check_stubs_for_aarch64(program: &str, flags: &[&str]) {
    let image = open(program).unwrap();
    let cfi = Cfi::open(&image).unwrap();
    let (mut symbolizer, info, mut names) = (Symbolizer::new(Options::default()), image_info(&image), Vec::new());
    for section in image.elf().sections().filter(|section| section.name().unwrap().starts_with(".plt")) {
        let mut pushed = false;
        for (at, word) in (section.address()..).step_by(4).zip(section.data().unwrap().as_chunks::<4>().0) {
            let rule = cfi.rule_by_code(Rva(at), cfi.rule_at(Rva(at)));
            let expected = Rule { kind: Kind::LinkRegister, cfa: if pushed { 2 } else { 0 }, fp: 0, ra: 0 };
            assert_eq!(rule, expected, "{flags:?} {at:#x}");
            let word = u32::from_le_bytes(*word);
            // stp x16, x30, [sp, #-16]!; br x17
            pushed = (pushed || word == 0xa9bf_7bf0) && word != 0xd61f_0220;
            names.push(symbolizer.image(&info, Rva(at))[0].function.to_string());
        }
    }
    names.dedup();
    assert!(names.iter().all(|name| ["[plt]", "tick@plt", "tock@plt"].contains(&name.as_str())), "{flags:?} {names:?}");
    assert!(["tick@plt", "tock@plt"].iter().all(|name| names.iter().any(|found| found == name)), "{flags:?} {names:?}");
}
