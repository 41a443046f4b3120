//! Entries of procedure linkage tables.
//!
//! Sources: `elfNN_aarch64_small_plt0_entry` and its brothers in binutils' `bfd/elfnn-aarch64.c`; gold's `aarch64.cc`; lld's
//! `ELF/Arch/AArch64.cpp`; mold's `arch-arm64.cc`. Linkers combine a few instructions differently for branch targets (BTI) and
//! signed pointers (PAC); so each instruction is recognised by itself, and all but one leave the stack alone.

use crate::unwind::plt::{Callee, Entry, Section};
use crate::unwind::rule::{Kind, Rule};

const BTI_C: u32 = 0xd503_245f;
const NOP: u32 = 0xd503_201f;
/// Instructions from one that pushes to the end of its stub.
const LONGEST: usize = 8;
/// Bytes of a stub behind its `adrp`, up to where the next one begins at the latest.
const LONGEST_BYTES: u64 = 24;

/// What an instruction of a stub does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Nothing to the stack.
    Compute,
    /// Pushes two registers.
    Push,
    /// Jumps on.
    Leave,
}

/// What an instruction does; `None` if linkers do not write it.
fn does(instruction: u32) -> Option<Does> {
    // adrp; add immediate; ldr with an unsigned offset: x2, x3 (thread-local descriptors), x16, x17.
    let (destination, source) = (instruction & 0x1f, instruction >> 5 & 0x1f);
    let scratch = |register: u32| matches!(register, 2 | 3 | 16 | 17);
    let computes = (instruction & 0x9f00_0000 == 0x9000_0000 && scratch(destination))
        || (instruction & 0xff80_0000 == 0x9100_0000 && scratch(destination) && scratch(source))
        || (instruction & 0xffc0_0000 == 0xf940_0000 && scratch(destination) && scratch(source));
    match instruction {
        _ if computes => Some(Does::Compute),
        // bti c; nop; autia1716; autib1716
        BTI_C | NOP | 0xd503_219f | 0xd503_21df => Some(Does::Compute),
        // stp x16, x30, [sp, #-16]!; stp x2, x3, [sp, #-16]!
        0xa9bf_7bf0 | 0xa9bf_0fe2 => Some(Does::Push),
        // br x17; br x2; braa x17, x16
        0xd61f_0220 | 0xd61f_0040 | 0xd71f_0a30 => Some(Does::Leave),
        _ => None,
    }
}

fn word(code: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*code.get(at..)?.first_chunk()?))
}

/// The rule at a byte of a section of stubs; `None` in a stub of an unknown shape. The return address stays in the link register.
pub(in crate::unwind) fn plt_rule(code: &[u8], at: usize) -> Option<Rule> {
    let at = at - at % 4;
    let here = does(word(code, at)?)?;
    let before = (1..LONGEST).map_while(|back| does(word(code, at.checked_sub(4 * back)?)?));
    let mut before = before.take_while(|&does| does != Does::Leave);
    let words = if here != Does::Push && before.any(|does| does == Does::Push) { 2 } else { 0 };
    Some(Rule { kind: Kind::LinkRegister, cfa: words, fp: 0, ra: 0 })
}

/// The stubs of a section: `adrp x16, page; ldr x17, [x16, #offset]`, or the same with an `add` in between.
pub(in crate::unwind) fn plt_entries(section: Section<'_>) -> Vec<Entry> {
    let words: Vec<u32> = section.code.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let mut found: Vec<Entry> = Vec::new();
    for (at, &adrp) in words.iter().enumerate().filter(|(_, word)| *word & 0x9f00_001f == 0x9000_0010) {
        let Some(offset) = slot_offset(&words[at + 1..]) else { continue };
        let address = section.address.wrapping_add(4 * at as u64);
        let pages = (adrp >> 5 & 0x7_ffff) << 2 | adrp >> 29 & 3;
        let pages = i64::from((pages << 11).cast_signed() >> 11);
        let page = (address & !0xfff).wrapping_add_signed(pages << 12);
        let after_bti = at > 0 && words[at - 1] == BTI_C;
        let start = address - if after_bti { 4 } else { 0 };
        if let Some(last) = found.last_mut() {
            last.range.end = last.range.end.min(start);
        }
        let range = start..address.saturating_add(LONGEST_BYTES);
        found.push(Entry { range, callee: Callee::Slot(page.wrapping_add(offset)) });
    }
    found
}

/// The offset within its page of the slot that is loaded, by the instructions behind the `adrp`.
fn slot_offset(words: &[u32]) -> Option<u64> {
    let immediate = |word: u32| u64::from(word >> 10 & 0xfff);
    let is_load = |word: u32| word & 0xffc0_03ff == 0xf940_0211;
    let is_add = |word: u32| word & 0xffc0_03ff == 0x9100_0210;
    match *words {
        [load, ..] if is_load(load) => Some(immediate(load) * 8),
        [add, load, ..] if is_add(add) && is_load(load) => Some(immediate(add) + immediate(load) * 8),
        _ => None,
    }
}
