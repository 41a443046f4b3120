//! Symbol tables: the functions of an ELF file by address, from `.symtab` or `.dynsym`.
//!
//! The table is a sorted `Vec` of 16-byte entries whose names stay in the file's string table, so that a library with
//! 124,000 functions takes 2 MB. Among names of the same address the choice is, in this order: one with a size, a function
//! rather than an untyped label, exported (global or weak) rather than local, without a version (`@`), with fewer leading
//! underscores (`write` rather than `__write`), the shorter one, the first by alphabet.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use object::elf::{SHF_EXECINSTR, STT_NOTYPE};
use object::{File, Object, ObjectSection, SectionFlags};

use crate::elf::{self, Symbol, name_at};
use crate::ids::Rva;
use crate::process::Image;

/// Symbols looked at behind the nearest one for a function that encloses the address (functions nest in hand-written assembly only).
const ENCLOSING_STEPS: usize = 16;
/// Names of one address among which the best is chosen; linkers that fold identical functions leave some hundred.
const MOST_ALIASES: usize = 512;

/// Which table of a file.
pub(super) use crate::elf::Table as Kind;

/// A function. `size` 0 means up to the next symbol or the end of the section.
#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    size: u32,
    name: u32,
}

/// The functions of one table of one file, by address.
pub(super) struct SymbolTable {
    file: Arc<Image>,
    functions: Functions,
}

/// What is read of a table.
#[derive(Default)]
struct Functions {
    /// By address, one for each.
    entries: Vec<Entry>,
    /// The sections that hold code, by address.
    code: Vec<Range<u64>>,
    /// Where the string table lies in the file.
    strings: Range<usize>,
}

impl SymbolTable {
    /// Reads a table; empty if the file has none.
    pub(super) fn read(file: &Arc<Image>, kind: Kind) -> SymbolTable {
        SymbolTable { file: file.clone(), functions: functions(file.elf(), file.bytes(), kind).unwrap_or_default() }
    }

    /// Whether there is no function in it.
    pub(super) fn is_empty(&self) -> bool {
        self.functions.entries.is_empty()
    }

    /// Bytes of memory it takes.
    pub(super) fn memory(&self) -> usize {
        self.functions.entries.capacity() * size_of::<Entry>()
    }

    /// The linkage name of the function that an address lies in.
    pub(super) fn find(&self, rva: Rva) -> Option<&[u8]> {
        let entries = &self.functions.entries;
        let before = &entries[..entries.partition_point(|entry| entry.address <= rva.0)];
        let covers = |entry: &&Entry| rva.0 - entry.address < u64::from(entry.size);
        let enclosing = before.iter().rev().take(ENCLOSING_STEPS).find(covers);
        let entry = enclosing.or_else(|| before.last().filter(|entry| self.reaches(entry, rva)))?;
        let name = name_at(self.file.bytes().get(self.functions.strings.clone())?, entry.name);
        // `name@VERSION` and `name@@VERSION` are one function to a reader.
        let end = name.iter().position(|&byte| byte == b'@').filter(|&at| at > 0).unwrap_or(name.len());
        (end > 0).then(|| &name[..end])
    }

    /// Whether a symbol without a size covers an address behind it: nothing but the end of its section is in between.
    fn reaches(&self, entry: &Entry, rva: Rva) -> bool {
        entry.size == 0 && section_of(&self.functions.code, entry.address).is_some_and(|section| rva.0 < section.end)
    }
}

fn section_of(code: &[Range<u64>], address: u64) -> Option<&Range<u64>> {
    let behind = code.partition_point(|section| section.start <= address);
    code[..behind].last().filter(|section| address < section.end)
}

/// The functions of a table, sorted and one for each address, and the sections that hold code.
fn functions(elf: &File<'_>, bytes: &[u8], kind: Kind) -> Option<Functions> {
    let strings = elf::strings(elf, kind)?;
    let names = bytes.get(strings.clone())?;
    let code = code_sections(elf);
    let mut candidates: Vec<Candidate> = elf::symbols(elf, kind)
        .filter(|symbol| symbol.defined)
        .filter_map(|symbol| Candidate::new(&symbol))
        .filter(|candidate| candidate.function || section_of(&code, candidate.entry.address).is_some())
        .filter(|candidate| candidate.entry.size > 0 || !is_mapping_symbol(name_at(names, candidate.entry.name)))
        .collect();
    candidates.sort_unstable_by_key(|candidate| candidate.entry.address);
    let aliases = candidates.chunk_by(|a, b| a.entry.address == b.entry.address);
    let entries = aliases.filter_map(|aliases| best_of(aliases, names)).collect();
    Some(Functions { entries, code, strings })
}

fn code_sections(elf: &File<'_>) -> Vec<Range<u64>> {
    let holds_code = |flags| matches!(flags, SectionFlags::Elf { sh_flags, .. } if sh_flags.contains(SHF_EXECINSTR));
    let code = elf.sections().filter(|section| holds_code(section.flags()));
    let mut ranges: Vec<Range<u64>> =
        code.map(|section| section.address()..section.address().saturating_add(section.size())).collect();
    ranges.sort_unstable_by_key(|range| range.start);
    ranges
}

/// A symbol that may become an [`Entry`].
#[derive(Clone, Copy)]
struct Candidate {
    entry: Entry,
    function: bool,
    exported: bool,
}

impl Candidate {
    fn new(symbol: &Symbol<'_>) -> Option<Candidate> {
        let function = symbol.is_function() || symbol.is_indirect();
        if !function && symbol.kind != STT_NOTYPE {
            return None;
        }
        let entry = Entry {
            address: symbol.address,
            size: u32::try_from(symbol.size).unwrap_or(u32::MAX),
            name: symbol.name_offset,
        };
        (entry.name != 0).then_some(Candidate { entry, function, exported: symbol.is_exported() })
    }
}

/// The name of an address that a reader knows best: the module documentation has the order.
fn best_of(aliases: &[Candidate], names: &[u8]) -> Option<Entry> {
    if let [only] = aliases {
        return Some(only.entry);
    }
    let rank = |candidate: &&Candidate| {
        let name = name_at(names, candidate.entry.name);
        let underscores = name.iter().take_while(|&&byte| byte == b'_').count();
        let plain = (Reverse(name.contains(&b'@')), Reverse(underscores), Reverse(name.len()), Reverse(name));
        (candidate.entry.size > 0, candidate.function, candidate.exported, plain)
    };
    aliases.iter().take(MOST_ALIASES).max_by_key(rank).map(|best| best.entry)
}

/// ARM marks where code and data begin with symbols `$x`, `$d`, also `$x.12`; compilers leave labels `.L12`.
fn is_mapping_symbol(name: &[u8]) -> bool {
    matches!(
        name,
        [] | [b'$', b'a' | b'd' | b't' | b'x'] | [b'$', b'a' | b'd' | b't' | b'x', b'.', ..] | [b'.', b'L', ..]
    )
}
