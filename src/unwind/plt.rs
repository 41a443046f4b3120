//! Entries of procedure linkage tables, recognised by their bytes.
//!
//! Linkers write stubs through which calls of other files' functions go. The unwind information for them, where a linker writes
//! any, describes one shape of entry; so an entry's own instructions decide how it is unwound and which function it calls.
//! An entry of a shape that is not known here is not unwound by guess ([`Kind::Unknown`](super::Kind::Unknown)).

use std::ops::Range;

use object::{Object, ObjectSection};

use super::rule::Rule;
use super::{aarch64, x86_64};
use crate::ids::{Architecture, Rva};
use crate::process::Image;

/// Names of sections that hold nothing but such stubs.
const SECTIONS: [&str; 5] = [".plt", ".plt.sec", ".plt.got", ".plt.bnd", ".iplt"];
/// Bytes of a section that are looked at; the largest real ones have some 10,000 stubs of 16 bytes.
const MOST_BYTES: usize = 4 << 20;

/// One stub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub range: Range<u64>,
    /// Which function it calls.
    pub callee: Callee,
}

/// How a stub says which function it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// It jumps to the address in this slot of the global offset table.
    Slot(u64),
    /// It pushes this index into the relocations of `DT_JMPREL`.
    Relocation(u32),
}

/// A section of stubs.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) code: &'a [u8],
    /// The address of its first byte.
    pub(super) address: u64,
}

/// The sections of stubs of an image.
fn sections(image: &Image) -> impl Iterator<Item = Section<'_>> {
    let named = SECTIONS.iter().filter_map(|name| image.elf().section_by_name(name));
    named.filter_map(|section| {
        let code = section.data().ok()?;
        Some(Section { code: &code[..code.len().min(MOST_BYTES)], address: section.address() })
    })
}

/// Where the stubs of an image lie.
#[must_use]
pub fn ranges(image: &Image) -> Vec<Range<u64>> {
    let range = |section: Section<'_>| section.address..section.address.saturating_add(section.code.len() as u64);
    sections(image).map(range).collect()
}

/// The rule at an address among the stubs: [`Rule::UNKNOWN`] where their shape is not known, `None` at any other address.
pub(super) fn rule(image: &Image, rva: Rva) -> Option<Rule> {
    let inside = |section: &Section<'_>| rva.0.wrapping_sub(section.address) < section.code.len() as u64;
    let section = sections(image).find(inside)?;
    let at = usize::try_from(rva.0 - section.address).ok()?;
    let rule = match image.architecture()? {
        Architecture::X86_64 => x86_64::plt_rule(section.code, at),
        Architecture::Aarch64 => aarch64::plt_rule(section.code, at),
    };
    Some(rule.unwrap_or(Rule::UNKNOWN))
}

/// All stubs of an image that say which function they call, section by section in the order of addresses.
#[must_use]
pub fn entries(image: &Image) -> Vec<Entry> {
    let of_section = match image.architecture() {
        Some(Architecture::X86_64) => x86_64::plt_entries,
        Some(Architecture::Aarch64) => aarch64::plt_entries,
        None => return Vec::new(),
    };
    sections(image).flat_map(of_section).collect()
}
