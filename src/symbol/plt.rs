//! The names of the stubs through which a program calls functions of shared libraries. They have no symbols; each jumps through a
//! slot of the global offset table, and a relocation says whose address the dynamic linker puts there. Which slot that is, the
//! stub's instructions tell ([`crate::unwind::plt`]).

use std::ops::Range;
use std::sync::Arc;

use object::File;
use object::read::elf::{ElfFile64, FileHeader, Rela, SectionHeader, Sym};
use rustc_hash::FxHashMap;

use crate::ids::Rva;
use crate::process::Image;
use crate::unwind::plt::{Callee, entries, ranges};

/// Relocations read.
const MOST_RELOCATIONS: usize = 4 << 20;
/// Bytes of a name.
const LONGEST_NAME: usize = 8 << 10;

/// The stubs of an image and the names of their functions, by address.
#[derive(Default)]
pub(super) struct Plt {
    stubs: Vec<(Range<u64>, Arc<[u8]>)>,
    sections: Vec<Range<u64>>,
}

/// Whose code an address among the stubs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stub<'a> {
    /// The stub of the function with this linkage name.
    Of(&'a [u8]),
    /// What all stubs run through at their first call, or one that does not say whose it is.
    Common,
}

impl Plt {
    /// Finds the stubs; none where an image has no PLT.
    pub(super) fn read(image: &Image) -> Plt {
        let File::Elf64(elf) = image.elf() else { return Plt::default() };
        let sections = ranges(image);
        if sections.is_empty() {
            return Plt::default();
        }
        let relocations = Relocations::read(elf);
        let named = entries(image).into_iter().filter_map(|entry| Some((entry.range, relocations.name(entry.callee)?)));
        let mut stubs: Vec<(Range<u64>, Arc<[u8]>)> = named.collect();
        stubs.sort_unstable_by_key(|stub| stub.0.start);
        Plt { stubs, sections }
    }

    /// Whose stub an address lies in; `None` where no stubs lie.
    pub(super) fn find(&self, rva: Rva) -> Option<Stub<'_>> {
        if !self.sections.iter().any(|section| section.contains(&rva.0)) {
            return None;
        }
        let behind = self.stubs.partition_point(|(range, _)| range.start <= rva.0);
        let stub = self.stubs[..behind].last().filter(|(range, _)| range.contains(&rva.0));
        Some(stub.map_or(Stub::Common, |(_, name)| Stub::Of(name)))
    }
}

/// The functions whose addresses the dynamic linker fills in.
struct Relocations {
    by_slot: FxHashMap<u64, Arc<[u8]>>,
    /// Those of `.rela.plt` in their order; `None` for one without a name.
    by_index: Vec<Option<Arc<[u8]>>>,
}

impl Relocations {
    fn read(elf: &ElfFile64<'_, object::Endianness>) -> Relocations {
        let endian = elf.endian();
        let symbols = elf.elf_dynamic_symbol_table();
        let is_mips = elf.elf_header().is_mips64el(endian);
        let mut relocations = Relocations { by_slot: FxHashMap::default(), by_index: Vec::new() };
        let mut budget = MOST_RELOCATIONS;
        for section in elf.elf_section_table().iter() {
            let Ok(Some((list, _))) = section.rela(endian, elf.data()) else { continue };
            let of_plt = elf.elf_section_table().section_name(endian, section).is_ok_and(|name| name == b".rela.plt");
            for relocation in list.iter().take(budget) {
                let name = relocation.symbol(endian, is_mips).and_then(|index| {
                    let name = symbols.symbol(index).ok()?.name(endian, symbols.strings()).ok()?;
                    (1..=LONGEST_NAME).contains(&name.len()).then(|| Arc::from(name))
                });
                if let Some(name) = &name {
                    relocations.by_slot.insert(relocation.r_offset(endian), Arc::clone(name));
                }
                if of_plt {
                    relocations.by_index.push(name);
                }
            }
            budget = budget.saturating_sub(list.len());
        }
        relocations
    }

    fn name(&self, callee: Callee) -> Option<Arc<[u8]>> {
        match callee {
            Callee::Slot(slot) => self.by_slot.get(&slot).cloned(),
            Callee::Relocation(index) => self.by_index.get(index as usize).cloned().flatten(),
        }
    }
}
