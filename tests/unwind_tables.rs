//! Every row of real libraries: the compiled table, the look-up of one address, and gimli say the same.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, LittleEndian, Register, RegisterRule, UnwindContext,
    UnwindSection, UnwindTableRow,
};
use object::{Object, ObjectSection};
use proptest::prelude::*;
use rprof::ids::{Architecture, ImageId, Rva};
use rprof::process::Image;
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
        Kind::Signal | Kind::StackSwitch | Kind::Gap | Kind::Fiber => Some("a rule that rows do not have"),
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
