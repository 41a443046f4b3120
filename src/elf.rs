//! Symbol tables of ELF files: the one reader of them, within bounds.
//!
//! Whose file it is may have written any size and any offset into it. A sparse file of a few blocks has a table of a thousand million
//! symbols, and a string table that no string of ends. So at most [`MOST_SYMBOLS`] are looked at, of a name at most [`LONGEST_NAME`]
//! bytes, and nothing is copied: the bytes are those of the file's mapping.

use std::ops::Range;

use object::elf::{STB_LOCAL, STT_FUNC, STT_GNU_IFUNC, SymbolBind, SymbolType};
use object::read::elf::{ElfFile, FileHeader, SectionHeader, Sym};
use object::{File, ReadRef};

/// Symbols of one table that are read; the largest real ones (a browser with debug information) have some 2 million.
pub const MOST_SYMBOLS: usize = 4 << 20;
/// Bytes of a symbol's name that are looked at; a string table of a stranger need not end its strings.
pub const LONGEST_NAME: usize = 8192;

/// Which table of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `.symtab`: all functions.
    Full,
    /// `.dynsym`: what is exported or imported.
    Dynamic,
}

/// A symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'data> {
    strings: &'data [u8],
    /// Where its name lies in the string table.
    pub name_offset: u32,
    /// Its address, in the file's numbering.
    pub address: u64,
    /// Its size in bytes; 0 if it is not told.
    pub size: u64,
    /// `STT_FUNC` and the like.
    pub kind: SymbolType,
    /// `STB_LOCAL` and the like.
    pub binding: SymbolBind,
    /// Whether it is defined in this file.
    pub defined: bool,
}

impl<'data> Symbol<'data> {
    /// Its name, as far as it is looked at.
    #[must_use]
    pub fn name(&self) -> &'data [u8] {
        name_at(self.strings, self.name_offset)
    }

    /// Whether it is a function whose address is its code's.
    #[must_use]
    pub fn is_function(&self) -> bool {
        self.kind == STT_FUNC
    }

    /// Whether it is the resolver of an indirect function.
    #[must_use]
    pub fn is_indirect(&self) -> bool {
        self.kind == STT_GNU_IFUNC
    }

    /// Whether other files can see it.
    #[must_use]
    pub fn is_exported(&self) -> bool {
        self.binding != STB_LOCAL
    }
}

/// The symbols of a table, in its order; none if the file has no such table, or it is damaged.
pub fn symbols<'data: 'elf, 'elf, R: ReadRef<'data>>(
    elf: &'elf File<'data, R>,
    table: Table,
) -> Box<dyn Iterator<Item = Symbol<'data>> + 'elf> {
    match elf {
        File::Elf32(elf) => symbols_of(elf, table),
        File::Elf64(elf) => symbols_of(elf, table),
        _ => Box::new(std::iter::empty()),
    }
}

/// Where the string table of a symbol table lies in the file.
#[must_use]
pub fn strings<'data, R: ReadRef<'data>>(elf: &File<'data, R>, table: Table) -> Option<Range<usize>> {
    match elf {
        File::Elf32(elf) => strings_of(elf, table),
        File::Elf64(elf) => strings_of(elf, table),
        _ => None,
    }
}

/// The string at an offset of a string table, without its end.
#[must_use]
pub fn name_at(strings: &[u8], offset: u32) -> &[u8] {
    let rest = strings.get(offset as usize..).unwrap_or_default();
    let rest = &rest[..rest.len().min(LONGEST_NAME)];
    &rest[..rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len())]
}

fn symbols_of<'data: 'elf, 'elf, Elf: FileHeader, R: ReadRef<'data>>(
    elf: &'elf ElfFile<'data, Elf, R>,
    kind: Table,
) -> Box<dyn Iterator<Item = Symbol<'data>> + 'elf> {
    let endian = elf.endian();
    let table = table_of(elf, kind);
    let names = strings_of(elf, kind);
    let names =
        names.and_then(|at| elf.data().read_bytes_at(at.start as u64, at.len() as u64).ok()).unwrap_or_default();
    Box::new(table.iter().take(MOST_SYMBOLS).map(move |symbol| Symbol {
        strings: names,
        name_offset: symbol.st_name(endian),
        address: symbol.st_value(endian).into(),
        size: symbol.st_size(endian).into(),
        kind: symbol.st_type(),
        binding: symbol.st_bind(),
        defined: !symbol.is_undefined(endian),
    }))
}

fn table_of<'elf, 'data, Elf: FileHeader, R: ReadRef<'data>>(
    elf: &'elf ElfFile<'data, Elf, R>,
    kind: Table,
) -> &'elf object::read::elf::SymbolTable<'data, Elf, R> {
    match kind {
        Table::Full => elf.elf_symbol_table(),
        Table::Dynamic => elf.elf_dynamic_symbol_table(),
    }
}

fn strings_of<'data, Elf: FileHeader, R: ReadRef<'data>>(
    elf: &ElfFile<'data, Elf, R>,
    kind: Table,
) -> Option<Range<usize>> {
    let section = table_of(elf, kind).string_section();
    let (at, size) = elf.elf_section_table().section(section).ok()?.file_range(elf.endian())?;
    Some(usize::try_from(at).ok()?..usize::try_from(at.checked_add(size)?).ok()?)
}
