//! Where Go's code begins, as the runtime's own record of the module tells it.
//!
//! From Go 1.18 on the table of functions counts addresses from the start of Go's code. Its header holds that start until Go 1.25;
//! Go 1.26 writes 0. `.text` is no substitute: with external linking it begins with C code. The runtime itself reads
//! `runtime.firstmoduledata` (`struct moduledata` of `runtime/symtab.go`), which every linked file contains: stripped,
//! position independent, a plugin, a shared library.
//!
//! Go's linker splits its code into several sections only for instruction sets that rprof does not know (`splitTextSections` of
//! `cmd/link/internal/ld/data.go`).

use std::ops::Range;

use object::{Object, ObjectSymbol, ObjectSymbolTable, RelocationTarget};

use super::{Layout, Version, u64_at};
use crate::process::{Image, Segment};

/// Words of `struct moduledata`, the same from Go 1.16 on. A slice is three words: address, length, capacity.
const HEADER: u64 = 0;
const NAMES: u64 = 1;
const PC_VALUES: u64 = 10;
const INDEX: u64 = 16;
const MIN_PC: u64 = 20;
const MAX_PC: u64 = 21;
const TEXT: u64 = 22;
const END_OF_TEXT: u64 = 23;

/// The words of an image at their addresses, as they are once its dynamic relocations have been applied to an image loaded at 0.
pub(super) struct Loaded<'a> {
    image: &'a Image,
    /// Addresses and their words, sorted.
    relocated: Vec<(u64, u64)>,
}

impl<'a> Loaded<'a> {
    pub(super) fn new(image: &'a Image) -> Loaded<'a> {
        let elf = image.elf();
        let value = |target, addend: i64| match target {
            RelocationTarget::Absolute => Some(addend as u64),
            RelocationTarget::Symbol(symbol) => {
                let symbol = elf.dynamic_symbol_table()?.symbol_by_index(symbol).ok()?;
                symbol.is_definition().then(|| symbol.address().wrapping_add_signed(addend))
            }
            _ => None,
        };
        let relocations = elf.dynamic_relocations().into_iter().flatten();
        let mut relocated: Vec<(u64, u64)> =
            relocations.filter_map(|(at, how)| Some((at, value(how.target(), how.addend())?))).collect();
        relocated.sort_unstable();
        Loaded { image, relocated }
    }

    /// The word at an address.
    fn word(&self, address: u64) -> Option<u64> {
        if let Ok(at) = self.relocated.binary_search_by_key(&address, |relocated| relocated.0) {
            return Some(self.relocated[at].1);
        }
        let inside = |s: &&Segment| address >= s.address && address - s.address < s.size;
        let segment = self.image.segments().iter().find(inside)?;
        let offset = segment.offset.checked_add(address - segment.address)?;
        u64_at(self.image.bytes(), usize::try_from(offset).ok()?)
    }

    /// The addresses of a range whose words were relocated, with those.
    pub(super) fn relocated(&self, range: Range<u64>) -> &[(u64, u64)] {
        let at = |address| self.relocated.partition_point(|relocated| relocated.0 < address);
        self.relocated.get(at(range.start)..at(range.end)).unwrap_or_default()
    }

    /// The aligned addresses outside of code that hold a word.
    fn holders(&self, word: u64) -> impl Iterator<Item = u64> + '_ {
        let relocated = self.relocated.iter().filter(move |relocated| relocated.1 == word).map(|relocated| relocated.0);
        let data = self.image.segments().iter().filter(|segment| !segment.executable);
        let in_place = data.flat_map(move |segment| {
            let start = usize::try_from(segment.offset).ok();
            let bytes = start.and_then(|start| self.image.bytes().get(start..)).unwrap_or_default();
            let size = bytes.len().min(usize::try_from(segment.size).unwrap_or(usize::MAX));
            let skip = (segment.address.wrapping_neg() % 8) as usize;
            let words = bytes[..size].get(skip..).unwrap_or_default().chunks_exact(8).enumerate();
            let held = words.filter(move |(_, bytes)| **bytes == word.to_le_bytes());
            held.map(move |(at, _)| segment.address.wrapping_add((skip + 8 * at) as u64))
        });
        relocated.chain(in_place)
    }
}

/// The address of the code that the table of functions at `table` describes. `offsets` are those of its first function's start and
/// its last one's end. Answers `None` where nothing in the file tells it: a guess would give every function another one's name.
pub(super) fn text_start(loaded: &Loaded<'_>, table: u64, layout: &Layout, offsets: &Range<u64>) -> Option<u64> {
    let by_module = || loaded.holders(table).find_map(|at| Module { loaded, at }.text_start(table, layout, offsets));
    let by_header = || loaded.word(table.checked_add(24)?).filter(|&start| start != 0);
    let by_symbol = || {
        let elf = loaded.image.elf();
        let text = elf.symbols().chain(elf.dynamic_symbols()).find(|symbol| symbol.name() == Ok("runtime.text"))?;
        text.is_definition().then(|| text.address())
    };
    let start = by_module().or_else(by_header).or_else(by_symbol)?;
    let code = start.checked_add(offsets.start)?..start.checked_add(offsets.end)?;
    is_code(loaded.image, &code).then_some(start)
}

/// Whether a range lies in a segment of code.
pub(super) fn is_code(image: &Image, range: &Range<u64>) -> bool {
    let holds = |s: &Segment| s.executable && range.start >= s.address && range.end <= s.address.saturating_add(s.size);
    range.start < range.end && image.segments().iter().any(holds)
}

/// What may be a `struct moduledata`.
struct Module<'a> {
    loaded: &'a Loaded<'a>,
    at: u64,
}

impl Module<'_> {
    fn word(&self, number: u64) -> Option<u64> {
        self.loaded.word(self.at.checked_add(8 * number)?)
    }

    /// The field `text`, if the record agrees with all that is known of the table.
    fn text_start(&self, table: u64, layout: &Layout, offsets: &Range<u64>) -> Option<u64> {
        let part = |offset: usize| table.checked_add(offset as u64);
        let text = self.word(TEXT)?;
        let agrees = layout.version == Version::Go118
            && self.word(HEADER)? == table
            && self.word(NAMES)? == part(layout.names)?
            && self.word(PC_VALUES)? == part(layout.pc_values)?
            && self.word(INDEX)? == part(layout.index)?
            && self.word(INDEX + 1)? == layout.functions as u64 + 1
            && self.word(MIN_PC)? == text.checked_add(offsets.start)?
            && self.word(MAX_PC)? == text.checked_add(offsets.end)?
            && self.word(END_OF_TEXT)? >= self.word(MAX_PC)?;
        agrees.then_some(text)
    }
}
