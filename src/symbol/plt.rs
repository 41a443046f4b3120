//! The stubs through which a program calls functions of shared libraries. They have no symbols; each jumps through a slot
//! of the GOT, and a relocation says whose address the dynamic linker puts there.
//!
//! The jump is decoded rather than counted off: it is the same in `.plt`, `.plt.sec` (Intel CET), `.plt.got` and the
//! layouts of each linker.
//! AMD64: `ff 25 rel32` (`jmp *rel32(%rip)`). AArch64: `adrp x16, page; ldr x17, [x16, #offset]`.

use std::sync::Arc;

use object::read::elf::{ElfFile64, FileHeader, Rela, SectionHeader, Sym};
use object::{File, Object, ObjectSection};
use rustc_hash::FxHashMap;

use crate::ids::{Architecture, Rva};
use crate::process::Image;

/// Bytes of a section with stubs; the largest real ones have some 10,000 stubs of 16 bytes.
const MOST_BYTES: usize = 4 << 20;
/// Relocations read.
const MOST_RELOCATIONS: usize = 4 << 20;
/// Bytes of a stub behind which an address belongs to the next one: the longest is AArch64's with BTI and PAC.
const LONGEST_STUB: u64 = 24;

/// The stubs of an image: first address and the name of the function, by address.
#[derive(Default)]
pub(super) struct Plt {
    stubs: Vec<(u64, Arc<[u8]>)>,
    sections: Vec<std::ops::Range<u64>>,
}

impl Plt {
    /// Finds the stubs; none where an image has no PLT.
    pub(super) fn read(image: &Image) -> Plt {
        let File::Elf64(elf) = image.elf() else { return Plt::default() };
        let mut plt = Plt::default();
        let mut slots = None;
        for section in [".plt", ".plt.sec", ".plt.got"].iter().filter_map(|name| elf.section_by_name(name)) {
            let Ok(code) = section.data() else { continue };
            let code = &code[..code.len().min(MOST_BYTES)];
            let start = section.address();
            let jumps = match image.architecture() {
                Some(Architecture::X86_64) => jumps_amd64(code, start),
                Some(Architecture::Aarch64) => jumps_aarch64(code, start),
                None => return plt,
            };
            let slots = slots.get_or_insert_with(|| got_slots(elf));
            plt.stubs.extend(jumps.into_iter().filter_map(|(stub, slot)| Some((stub, slots.get(&slot)?.clone()))));
            plt.sections.push(start..start.saturating_add(code.len() as u64));
        }
        plt.stubs.sort_unstable_by_key(|stub| stub.0);
        plt
    }

    /// The linkage name of the function that a stub calls.
    pub(super) fn find(&self, rva: Rva) -> Option<&[u8]> {
        let section = self.sections.iter().find(|section| section.contains(&rva.0))?;
        let (start, name) = self.stubs[..self.stubs.partition_point(|stub| stub.0 <= rva.0)].last()?;
        (*start >= section.start && rva.0 - start < LONGEST_STUB).then_some(name)
    }
}

/// Slots of the GOT, and the function that each holds the address of.
fn got_slots(elf: &ElfFile64<'_, object::Endianness>) -> FxHashMap<u64, Arc<[u8]>> {
    let endian = elf.endian();
    let symbols = elf.elf_dynamic_symbol_table();
    let is_mips = elf.elf_header().is_mips64el(endian);
    let sections = elf.elf_section_table().iter();
    let relocations =
        sections.filter_map(|section| section.rela(endian, elf.data()).ok().flatten()).flat_map(|(list, _)| list);
    relocations
        .take(MOST_RELOCATIONS)
        .filter_map(|relocation| {
            let symbol = symbols.symbol(relocation.symbol(endian, is_mips)?).ok()?;
            let name = symbol.name(endian, symbols.strings()).ok().filter(|name| (1..=4096).contains(&name.len()))?;
            Some((relocation.r_offset(endian), Arc::from(name)))
        })
        .collect()
}

/// Stubs and their slots. A stub begins at a multiple of 8; `endbr64` or a prefix may stand before the jump.
fn jumps_amd64(code: &[u8], start: u64) -> Vec<(u64, u64)> {
    const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
    let mut found = Vec::new();
    for at in (0..code.len()).step_by(8) {
        let stub = &code[at..];
        let skip = if stub.starts_with(&ENDBR64) { 4 } else { 0 };
        let skip = skip + usize::from(stub.get(skip) == Some(&0xf2));
        if let Some([0xff, 0x25, offset @ ..]) = stub.get(skip..skip + 6)
            && let Ok(offset) = <[u8; 4]>::try_from(offset)
        {
            let address = start.wrapping_add(at as u64);
            let next = address.wrapping_add(skip as u64 + 6);
            found.push((address, next.wrapping_add_signed(i32::from_le_bytes(offset).into())));
        }
    }
    found
}

fn jumps_aarch64(code: &[u8], start: u64) -> Vec<(u64, u64)> {
    const BTI_C: u32 = 0xd503_245f;
    let words: Vec<u32> =
        code.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
    let mut found = Vec::new();
    for (at, pair) in words.windows(2).enumerate() {
        let is_adrp = pair[0] & 0x9f00_001f == 0x9000_0010;
        let is_load = pair[1] & 0xffc0_03ff == 0xf940_0211;
        if is_adrp && is_load {
            let after_bti = at > 0 && words[at - 1] == BTI_C;
            let adrp = start.wrapping_add(4 * at as u64);
            let pages = (pair[0] >> 5 & 0x7_ffff) << 2 | pair[0] >> 29 & 3;
            let pages = i64::from((pages << 11).cast_signed() >> 11);
            let page = (adrp & !0xfff).wrapping_add_signed(pages << 12);
            let slot = page.wrapping_add(u64::from(pair[1] >> 10 & 0xfff) * 8);
            found.push((adrp - if after_bti { 4 } else { 0 }, slot));
        }
    }
    found
}
