//! The shapes of entries of procedure linkage tables.
//!
//! Sources: `elf_x86_64_lazy_plt` and its brothers in binutils' `bfd/elfxx-x86.h` and `bfd/elf64-x86-64.c`; gold's
//! `x86_64.cc`; lld's `ELF/Arch/X86_64.cpp`; mold's `arch-x86-64.cc`.

use crate::unwind::plt::{Callee, Entry, Section};
use crate::unwind::rule::{Kind, Rule};

/// Any byte, in the code of a shape.
const X: u16 = 0x100;
/// Stubs begin at multiples of so many bytes.
const ALIGNMENT: usize = 8;
/// The longest shape.
const LONGEST: usize = 48;

/// One shape of a stub.
struct Shape {
    /// Its instructions.
    code: &'static [u16],
    /// From which byte on how many words lie between the stack pointer and the canonical frame address.
    depths: &'static [(usize, i16)],
    /// Where its operand is that tells the callee.
    operand: Operand,
    /// Whether it is only the first in its section.
    first: bool,
}

/// Where in a stub the number is from which its callee follows: 32 bits at a byte.
enum Operand {
    /// The distance from behind the number to a slot of the global offset table.
    Slot(usize),
    /// An index into the relocations.
    Relocation(usize),
    /// It is common to all functions.
    None,
}

const fn shape(code: &'static [u16], depths: &'static [(usize, i16)], operand: Operand) -> Shape {
    Shape { code, depths, operand, first: false }
}

const fn first(code: &'static [u16], depths: &'static [(usize, i16)]) -> Shape {
    Shape { code, depths, operand: Operand::None, first: true }
}

/// Longer shapes stand before those that they begin with.
#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    // What the first call of each function runs through: entries have pushed a word before.
    // push GOT+8(%rip); jmp *GOT+16(%rip): GNU ld, gold, lld
    first(&[0xff, 0x35, X, X, X, X, 0xff, 0x25, X, X, X, X], &[(0, 2), (6, 3)]),
    // push GOT+8(%rip); bnd jmp *GOT+16(%rip): GNU ld until 2.40 with -z bndplt or IBT
    first(&[0xff, 0x35, X, X, X, X, 0xf2, 0xff, 0x25, X, X, X, X], &[(0, 2), (6, 3)]),
    // endbr64; push %r11; push GOT+8(%rip); jmp *GOT+16(%rip): mold
    first(
        &[0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x53, 0xff, 0x35, X, X, X, X, 0xff, 0x25, X, X, X, X],
        &[(0, 1), (6, 2), (12, 3)],
    ),
    // lld -z retpolineplt: push GOT+8(%rip); mov GOT+16(%rip), %r11; call 2f; 1: pause; lfence; jmp 1b; 2: mov %r11, (%rsp); ret
    first(
        &[
            0xff, 0x35, X, X, X, X, 0x4c, 0x8b, 0x1d, X, X, X, X, 0xe8, 0x0e, 0, 0, 0, 0xf3, 0x90, 0x0f, 0xae, 0xe8, 0xeb, 0xf9,
            0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0x4c, 0x89, 0x1c, 0x24, 0xc3,
        ],
        // The `call` of an entry leads to `2` too. Once its return address is overwritten, only the word behind it leads back.
        &[(0, 2), (6, 3), (0x20, 1), (0x24, 2)],
    ),
    // lld -z retpolineplt -z now: call 2f; 1: pause; lfence; jmp 1b; 2: mov %r11, (%rsp); ret
    first(
        &[
            0xe8, 0x0b, 0, 0, 0, 0xf3, 0x90, 0x0f, 0xae, 0xe8, 0xeb, 0xf9, 0xcc, 0xcc, 0xcc, 0xcc, 0x4c, 0x89, 0x1c, 0x24, 0xc3,
        ],
        &[(0, 1), (0x10, 1), (0x14, 2)],
    ),

    // Entries.
    // jmp *slot(%rip); push $index; jmp first: GNU ld, gold, lld
    shape(
        &[0xff, 0x25, X, X, X, X, 0x68, X, X, X, X, 0xe9, X, X, X, X],
        &[(0, 1), (11, 2)],
        Operand::Slot(2),
    ),
    // push $index; bnd jmp first: GNU ld until 2.40 with -z bndplt
    shape(&[0x68, X, X, X, X, 0xf2, 0xe9, X, X, X, X], &[(0, 1), (5, 2)], Operand::Relocation(1)),
    // endbr64; push $index; jmp first: GNU ld and lld with IBT
    shape(&[0xf3, 0x0f, 0x1e, 0xfa, 0x68, X, X, X, X, 0xe9, X, X, X, X], &[(0, 1), (9, 2)], Operand::Relocation(5)),
    // endbr64; push $index; bnd jmp first: GNU ld until 2.40 with IBT
    shape(
        &[0xf3, 0x0f, 0x1e, 0xfa, 0x68, X, X, X, X, 0xf2, 0xe9, X, X, X, X],
        &[(0, 1), (9, 2)],
        Operand::Relocation(5),
    ),
    // mov slot(%rip), %r11; call first+32; jmp first+18; push $index; jmp first: lld -z retpolineplt
    shape(
        &[0x4c, 0x8b, 0x1d, X, X, X, X, 0xe8, X, X, X, X, 0xe9, X, X, X, X, 0x68, X, X, X, X, 0xe9, X, X, X, X],
        &[(0, 1), (22, 2)],
        Operand::Slot(3),
    ),
    // mov slot(%rip), %r11; jmp first: lld -z retpolineplt -z now
    shape(&[0x4c, 0x8b, 0x1d, X, X, X, X, 0xe9, X, X, X, X], &[(0, 1)], Operand::Slot(3)),
    // endbr64; mov $index, %r11d; jmp *slot(%rip): mold
    shape(
        &[0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0xbb, X, X, X, X, 0xff, 0x25, X, X, X, X],
        &[(0, 1)],
        Operand::Slot(12),
    ),
    // endbr64; jmp *slot(%rip): .plt.sec and .plt.got with IBT
    shape(&[0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, X, X, X, X], &[(0, 1)], Operand::Slot(6)),
    // endbr64; bnd jmp *slot(%rip): GNU ld until 2.40
    shape(&[0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, X, X, X, X], &[(0, 1)], Operand::Slot(7)),
    // bnd jmp *slot(%rip): .plt.bnd and .plt.got with -z bndplt
    shape(&[0xf2, 0xff, 0x25, X, X, X, X], &[(0, 1)], Operand::Slot(3)),
    // jmp *slot(%rip): .plt.got
    shape(&[0xff, 0x25, X, X, X, X], &[(0, 1)], Operand::Slot(2)),

    // Where a thread-local variable is looked up at first (TLS descriptors): called, unlike what is first.
    // push GOT+8(%rip); jmp *slot(%rip): GNU ld, gold
    shape(&[0xff, 0x35, X, X, X, X, 0xff, 0x25, X, X, X, X], &[(0, 1), (6, 2)], Operand::None),
    // push GOT+8(%rip); bnd jmp *slot(%rip)
    shape(&[0xff, 0x35, X, X, X, X, 0xf2, 0xff, 0x25, X, X, X, X], &[(0, 1), (6, 2)], Operand::None),
    // endbr64; push GOT+8(%rip); jmp *slot(%rip): GNU ld with IBT
    shape(
        &[0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x35, X, X, X, X, 0xff, 0x25, X, X, X, X],
        &[(0, 1), (10, 2)],
        Operand::None,
    ),
    // endbr64; push GOT+8(%rip); bnd jmp *slot(%rip)
    shape(
        &[0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x35, X, X, X, X, 0xf2, 0xff, 0x25, X, X, X, X],
        &[(0, 1), (10, 2)],
        Operand::None,
    ),
];

impl Shape {
    /// The shape of the stub that begins at a byte of a section.
    fn at(code: &[u8], start: usize) -> Option<&'static Shape> {
        let stub = code.get(start..)?;
        let fits = |shape: &&Shape| {
            let same = |(&wanted, &byte): (&u16, &u8)| wanted == X || wanted == u16::from(byte);
            (start == 0 || !shape.first) && stub.len() >= shape.code.len() && shape.code.iter().zip(stub).all(same)
        };
        SHAPES.iter().find(fits)
    }

    /// Bytes up to where the next stub can begin.
    fn size(&self) -> usize {
        self.code.len().next_multiple_of(ALIGNMENT)
    }

    fn callee(&self, section: Section<'_>, start: usize) -> Option<Callee> {
        let number = |at: usize| section.code.get(start + at..)?.first_chunk().copied();
        match self.operand {
            Operand::Slot(at) => {
                let behind = section.address.wrapping_add((start + at + 4) as u64);
                Some(Callee::Slot(behind.wrapping_add_signed(i32::from_le_bytes(number(at)?).into())))
            }
            Operand::Relocation(at) => Some(Callee::Relocation(u32::from_le_bytes(number(at)?))),
            Operand::None => None,
        }
    }
}

/// The rule at a byte of a section of stubs; `None` in a stub of an unknown shape.
pub(in crate::unwind) fn plt_rule(code: &[u8], at: usize) -> Option<Rule> {
    let nearest = at - at % ALIGNMENT;
    let starts = (0..LONGEST).step_by(ALIGNMENT).map_while(|back| nearest.checked_sub(back));
    let mut found = starts.filter_map(|start| Some((at - start, Shape::at(code, start)?)));
    let (offset, shape) = found.find(|(offset, shape)| *offset < shape.code.len())?;
    let (_, depth) = shape.depths.iter().rev().find(|(from, _)| *from <= offset)?;
    Some(Rule { kind: Kind::StackPointer, cfa: *depth, fp: 0, ra: -1 })
}

/// The stubs of a section that say which function they call.
pub(in crate::unwind) fn plt_entries(section: Section<'_>) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < section.code.len() {
        let Some(shape) = Shape::at(section.code, start) else {
            start += ALIGNMENT;
            continue;
        };
        let address = section.address.wrapping_add(start as u64);
        let range = address..address.saturating_add(shape.size() as u64);
        found.extend(shape.callee(section, start).map(|callee| Entry { range, callee }));
        start += shape.size();
    }
    found
}
