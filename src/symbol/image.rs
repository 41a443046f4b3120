//! All that names the addresses of one image.

use std::sync::Arc;

use super::Symbol;
use super::debug_files::Finder;
use super::dwarf::{DebugInfo, DwarfError, DwarfFrame, Request};
use super::mini_debug;
use super::names::Names;
use super::object::{Kind, SymbolTable};
use super::plt::{Plt, Stub};
use crate::ids::Rva;
use crate::process::Image;
use crate::unwind::Cfi;
use crate::unwind::go::Pclntab;

/// The tables of functions, best first.
struct Tables {
    /// Go's own table, which stripping leaves.
    go: Option<Pclntab>,
    symbols: Vec<SymbolTable>,
    plt: Plt,
}

/// The names of one image; each part is read when an address first needs it.
pub(super) struct ImageSymbols {
    image: Arc<Image>,
    /// The separate debug file; `None` until it was looked for.
    debug_file: Option<Option<Arc<Image>>>,
    dwarf: Option<Result<Box<DebugInfo>, DwarfError>>,
    tables: Option<Tables>,
    /// What tells where functions without a name begin; `None` until one was met.
    functions: Option<Option<Cfi>>,
    /// The number of the batch that used it last.
    pub(super) used: u64,
}

impl ImageSymbols {
    /// Nothing read yet.
    pub(super) fn new(image: Arc<Image>) -> ImageSymbols {
        ImageSymbols { image, debug_file: None, dwarf: None, tables: None, functions: None, used: 0 }
    }

    /// The symbols of sorted addresses, innermost first, none empty.
    pub(super) fn resolve(&mut self, rvas: &[Rva], request: &Request<'_>, names: &mut Names) -> Vec<Arc<[Symbol]>> {
        let mut frames = self.dwarf_frames(rvas, request, names).into_iter();
        let mut symbols = |rva| self.symbols(rva, frames.next().unwrap_or_default(), request.finder, names);
        let symbols = rvas.iter().map(|&rva| symbols(rva));
        symbols.collect()
    }

    /// Why there are no lines.
    pub(super) fn dwarf_error(&self) -> Option<DwarfError> {
        self.dwarf.as_ref()?.as_ref().err().copied()
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let dwarf = self.dwarf.as_ref().and_then(|dwarf| dwarf.as_ref().ok()).map_or(0, |dwarf| dwarf.memory());
        let tables =
            self.tables.as_ref().map_or(0, |tables| tables.symbols.iter().map(SymbolTable::memory).sum::<usize>());
        dwarf + tables + size_of::<ImageSymbols>()
    }

    /// Gives the memory back. What could not be read is remembered.
    pub(super) fn forget(&mut self) {
        self.dwarf = self.dwarf.take().filter(Result::is_err);
        (self.tables, self.functions) = (None, None);
    }

    fn dwarf_frames(&mut self, rvas: &[Rva], request: &Request<'_>, names: &mut Names) -> Vec<Vec<DwarfFrame>> {
        if self.dwarf.is_none() {
            let read = self.read_dwarf(request.finder).map(Box::new);
            self.dwarf = Some(read);
        }
        let Some(Ok(dwarf)) = &mut self.dwarf else { return Vec::new() };
        match dwarf.frames(rvas, request, names) {
            Ok(frames) => frames,
            Err(error) => {
                self.dwarf = Some(Err(error));
                Vec::new()
            }
        }
    }

    fn read_dwarf(&mut self, finder: &Finder<'_>) -> Result<DebugInfo, DwarfError> {
        match DebugInfo::read(&self.image, &self.image, finder) {
            Err(DwarfError::Absent) => {}
            present => return present,
        }
        let debug_file = self.debug_file(finder).ok_or(DwarfError::Absent)?;
        DebugInfo::read(&debug_file, &self.image, finder)
    }

    fn debug_file(&mut self, finder: &Finder<'_>) -> Option<Arc<Image>> {
        self.debug_file.get_or_insert_with(|| finder.debug_file(&self.image)).clone()
    }

    /// The symbols of one address, given what DWARF says.
    fn symbols(&mut self, rva: Rva, frames: Vec<DwarfFrame>, finder: &Finder<'_>, names: &mut Names) -> Arc<[Symbol]> {
        if frames.is_empty() {
            return [self.table_symbol(rva, finder, names)].into();
        }
        frames
            .into_iter()
            .map(|frame| {
                let DwarfFrame { function, file, line, inlined } = frame;
                let mut symbol = match function.name {
                    Some(name) if function.linkage || inlined => Symbol::named(name),
                    name => self.physical_symbol(rva, name.map(Symbol::named), finder, names),
                };
                symbol.inlined = inlined;
                symbol.start_line = symbol.start_line.max(function.start_line);
                if file.is_some() {
                    (symbol.file, symbol.line) = (file, line);
                }
                symbol
            })
            .collect()
    }

    /// The physical function, where DWARF has no linkage name: the last part of a name alone (`operator()`) is worth less
    /// than the mangled name of the symbol table, but C's `f` more than its `f.isra.0`.
    fn physical_symbol(&mut self, rva: Rva, dwarf: Option<Symbol>, finder: &Finder<'_>, names: &mut Names) -> Symbol {
        let table = self.table_symbol(rva, finder, names);
        match dwarf {
            Some(symbol) if !table.named || Arc::ptr_eq(&table.function, &table.system_name) => symbol,
            _ => table,
        }
    }

    /// What the tables name an address, or `module+0xoffset`: the offset is that of the function's first instruction where unwind
    /// information tells it, so that a function without a name is one function still.
    fn table_symbol(&mut self, rva: Rva, finder: &Finder<'_>, names: &mut Names) -> Symbol {
        if self.tables.is_none() {
            let read = self.read_tables(finder);
            self.tables = Some(read);
        }
        let found = self.tables.as_ref().and_then(|tables| tables.find(rva, names));
        found.unwrap_or_else(|| {
            let functions = self.functions.get_or_insert_with(|| Cfi::open(&self.image));
            let start = functions.as_ref().and_then(|functions| functions.function_start(rva));
            offset_symbol(self.image.name(), start.unwrap_or(rva))
        })
    }

    fn read_tables(&mut self, finder: &Finder<'_>) -> Tables {
        let mut full = SymbolTable::read(&self.image, Kind::Full);
        if full.is_empty()
            && let Some(debug_file) = self.debug_file(finder)
        {
            full = SymbolTable::read(&debug_file, Kind::Full);
        }
        if full.is_empty()
            && let Some(mini) = mini_debug::read(&self.image)
        {
            full = SymbolTable::read(&mini, Kind::Full);
        }
        let symbols = vec![full, SymbolTable::read(&self.image, Kind::Dynamic)];
        let tables = Tables { go: Pclntab::parse(&self.image), symbols, plt: Plt::read(&self.image) };
        // Symbol tables and relocations are read from end to end; names are read where they are needed.
        self.image.release_pages();
        tables
    }
}

impl Tables {
    fn find(&self, rva: Rva, names: &mut Names) -> Option<Symbol> {
        if let Some(symbol) = self.go.as_ref().and_then(|table| find_go(table, rva, names)) {
            return Some(symbol);
        }
        // Before the symbol tables: mold names its stubs there, `f$plt`.
        if let Some(stub) = self.plt.find(rva) {
            let Stub::Of(name) = stub else { return Some(Symbol::named(names.function(b"[plt]"))) };
            let name = names.function(name);
            let at_plt = |name: &str| Arc::from(format!("{name}@plt"));
            return Some(Symbol {
                function: at_plt(&name.function),
                system_name: at_plt(&name.system),
                ..Symbol::named(name)
            });
        }
        let name = self.symbols.iter().find_map(|table| table.find(rva))?;
        Some(Symbol::named(names.function(name)))
    }
}

/// The stand-in for a name that is not known.
pub(super) fn offset_symbol(name: &str, rva: Rva) -> Symbol {
    let module = name.rsplit('/').next().filter(|base| !base.is_empty()).unwrap_or(name);
    Symbol::unnamed(format!("{module}+{rva:#x}"))
}

fn find_go(table: &Pclntab, rva: Rva, names: &mut Names) -> Option<Symbol> {
    let function = table.find(rva)?;
    let symbol = Symbol::named(names.function(table.name(&function)?.as_bytes()));
    let Some((file, start_line)) = table.file_line(&function, function.entry) else { return Some(symbol) };
    // A line inlined from another file is no line of this function, so it stays unknown.
    let here = table.file_line(&function, rva).filter(|(here, _)| *here == file);
    Some(Symbol { file: Some(names.string(&file)), line: here.map_or(0, |here| here.1), start_line, ..symbol })
}
