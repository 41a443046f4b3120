//! From frames to functions, files, lines and inlined calls.
//!
//! The sources of an image, best first: DWARF (in the file or in a separate debug file), Go's own table, `.symtab`, the
//! `.symtab` in `.gnu_debugdata`, `.dynsym`, and the stubs of the PLT. What none of them names keeps its place as
//! `module+0xoffset`. The kernel's names come from `/proc/kallsyms`, those of code made at run time from jitdumps and perf maps.
//!
//! Everything is read when the first frame needs it, and each failure is remembered. What is kept across batches is
//! bounded by [`Options::memory`]; beyond it the images that were used longest ago are forgotten, and read again if needed.

mod debug_files;
mod demangle;
mod dwarf;
mod image;
mod kernel;
mod mini_debug;
mod names;
mod object;
mod plt;

use std::path::PathBuf;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

pub use self::dwarf::DwarfError;
pub use self::kernel::KernelSymbols;
pub use demangle::without_parameters;

use self::dwarf::Request;
use self::image::ImageSymbols;
use self::kernel::Kernel;
use self::names::Names;
use crate::ids::{Address, ImageId, KernelAddress, Rva};
use crate::process::{ImageInfo, ProcessInfo};
use crate::runtime::jitdump::Jitdumps;
use crate::runtime::perf_map::PerfMaps;

/// How names are found.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where debug files are looked up, apart from beside their binary.
    pub debug_directories: Vec<PathBuf>,
    /// The kernel's symbols.
    pub kernel: KernelSymbols,
    /// A symbol of the kernel and its address when it was sampled, if that was not now: its symbols are moved accordingly.
    pub kernel_reference: Option<(Arc<str>, u64)>,
    /// Whether calls that were inlined become frames of their own.
    pub inlined: bool,
    /// Whether frames have files and lines.
    pub lines: bool,
    /// Bytes that tables of images may take between two batches.
    pub memory: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            debug_directories: vec![PathBuf::from("/usr/lib/debug")],
            kernel: KernelSymbols::Kallsyms(PathBuf::from("/proc/kallsyms")),
            kernel_reference: None,
            inlined: true,
            lines: true,
            memory: 48 << 20,
        }
    }
}

/// The name of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Symbol {
    /// The function as people wrote it, or `module+0xoffset` where no name is known.
    pub function: Arc<str>,
    /// The function as the linker knows it.
    pub system_name: Arc<str>,
    /// The source file of the line.
    pub file: Option<Arc<str>>,
    /// The line that was running; 0 if unknown.
    pub line: u32,
    /// The line that the function begins at; 0 if unknown.
    pub start_line: u32,
    /// Whether the call was inlined: the next symbol is its caller.
    pub inlined: bool,
    /// Whether a name was found.
    pub named: bool,
    /// Of the kernel's functions alone: `[kernel.kallsyms]`, or the module's name in brackets.
    pub module: Option<Arc<str>>,
}

impl Symbol {
    fn named(name: names::Name) -> Symbol {
        Symbol {
            function: name.function,
            system_name: name.system,
            file: None,
            line: 0,
            start_line: 0,
            inlined: false,
            named: true,
            module: None,
        }
    }

    fn unnamed(place: String) -> Symbol {
        let place: Arc<str> = place.into();
        Symbol { named: false, ..Symbol::named(names::Name { function: place.clone(), system: place }) }
    }
}

/// Addresses whose symbols are remembered, some 250 bytes each: windows of one program name mostly the same frames.
const MOST_REMEMBERED: usize = 1 << 16;

/// Names frames; kept across windows.
pub struct Symbolizer {
    options: Options,
    names: Names,
    images: FxHashMap<ImageId, ImageSymbols>,
    remembered: FxHashMap<(ImageId, Rva), Arc<[Symbol]>>,
    kernel: Option<Kernel>,
    jitdumps: Jitdumps,
    perf_maps: PerfMaps,
    batches: u64,
}

impl Symbolizer {
    /// A symbolizer that has read nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Symbolizer {
        Symbolizer {
            options,
            names: Names::default(),
            images: FxHashMap::default(),
            remembered: FxHashMap::default(),
            kernel: None,
            jitdumps: Jitdumps::default(),
            perf_maps: PerfMaps::default(),
            batches: 0,
        }
    }

    /// The functions at an address of an image, innermost first: inlined calls, then the physical function. Never empty.
    /// Many addresses are named far faster by [`Symbolizer::image_batch`].
    pub fn image(&mut self, info: &ImageInfo, rva: Rva) -> Vec<Symbol> {
        self.image_batch(info, &[rva]).first().map_or_else(Vec::new, |symbols| symbols.to_vec())
    }

    /// As [`Symbolizer::image`], for many addresses in any order: each unit and function of the debug information is read
    /// once for all of them. The result has the order of `rvas`.
    pub fn image_batch(&mut self, info: &ImageInfo, rvas: &[Rva]) -> Vec<Arc<[Symbol]>> {
        let mut missing: Vec<Rva> =
            rvas.iter().copied().filter(|&rva| !self.remembered.contains_key(&(info.id, rva))).collect();
        missing.sort_unstable();
        missing.dedup();
        let mut found = self.resolve(info, &missing);
        let symbols = rvas.iter().map(|&rva| {
            let remembered = self.remembered.get(&(info.id, rva));
            let new = || missing.binary_search(&rva).ok().and_then(|at| found.get(at));
            remembered.or_else(new).cloned().unwrap_or_else(|| [image::offset_symbol(&info.name, rva)].into())
        });
        let symbols = symbols.collect();
        if self.remembered.len() + missing.len() > MOST_REMEMBERED {
            self.remembered = FxHashMap::default();
        }
        let new = missing.into_iter().zip(found.drain(..)).take(MOST_REMEMBERED);
        self.remembered.extend(new.map(|(rva, symbols)| ((info.id, rva), symbols)));
        symbols
    }

    /// The function at an address of the kernel.
    pub fn kernel(&mut self, address: KernelAddress) -> Symbol {
        let Options { kernel, kernel_reference, .. } = &self.options;
        let kernel = self.kernel.get_or_insert_with(|| Kernel::read(kernel, kernel_reference.as_ref()));
        kernel.find(address, &mut self.names)
    }

    /// Whether the kernel hides its addresses (`kernel.kptr_restrict`, no `CAP_SYSLOG`) or its symbols cannot be read.
    pub fn kernel_restricted(&mut self) -> bool {
        let Options { kernel, kernel_reference, .. } = &self.options;
        self.kernel.get_or_insert_with(|| Kernel::read(kernel, kernel_reference.as_ref())).restricted()
    }

    /// The function at an address of code that a process made at run time: by its jitdump or its perf map, else `[anon]+0xaddress`.
    pub fn anonymous(&mut self, process: &ProcessInfo, address: Address) -> Symbol {
        if let Some(function) = self.jitdumps.find(process, address) {
            let (file, line) = function.line.map_or((None, 0), |(file, line)| (Some(file), line));
            return Symbol { file, line, ..Symbol::named(self.names.function(function.name.as_bytes())) };
        }
        match self.perf_maps.find(process, address) {
            Some(name) => Symbol::named(self.names.function(name.as_bytes())),
            None => Symbol::unnamed(format!("[anon]+{address:#x}")),
        }
    }

    /// Drops all that is remembered of images whose ids do not come again.
    pub fn forget_images(&mut self, images: &[ImageId]) {
        if images.is_empty() {
            return;
        }
        images.iter().for_each(|id| drop(self.images.remove(id)));
        let gone: FxHashSet<&ImageId> = images.iter().collect();
        self.remembered.retain(|(id, _), _| !gone.contains(id));
    }

    /// Lines of perf maps that were not kept, because the maps were too long.
    #[must_use]
    pub fn perf_map_lines_dropped(&self) -> u64 {
        self.perf_maps.dropped()
    }

    /// Why an image that was used has no lines, if it has none.
    #[must_use]
    pub fn debug_info_error(&self, image: ImageId) -> Option<DwarfError> {
        self.images.get(&image)?.dwarf_error()
    }

    /// Forgets an image that no later window names.
    pub fn forget_image(&mut self, image: ImageId) {
        if self.images.remove(&image).is_some() {
            self.remembered.retain(|(id, _), _| *id != image);
        }
    }

    /// Forgets everything that can be read again.
    pub fn forget_all(&mut self) {
        *self = Symbolizer::new(self.options.clone());
    }

    /// Names sorted, distinct addresses.
    fn resolve(&mut self, info: &ImageInfo, rvas: &[Rva]) -> Vec<Arc<[Symbol]>> {
        if rvas.is_empty() {
            return Vec::new();
        }
        let Some(image) = &info.image else {
            return rvas.iter().map(|&rva| Arc::from([image::offset_symbol(&info.name, rva)])).collect();
        };
        self.batches += 1;
        let symbols = self.images.entry(info.id).or_insert_with(|| ImageSymbols::new(image.clone()));
        symbols.used = self.batches;
        let finder = debug_files::Finder { directories: &self.options.debug_directories, root: info.root.as_deref() };
        let request = Request { finder: &finder, inlined: self.options.inlined, lines: self.options.lines };
        let found = symbols.resolve(rvas, &request, &mut self.names);
        self.forget();
        found
    }

    /// Drops the tables of the images that were used longest ago, until what is left fits.
    fn forget(&mut self) {
        let mut images: Vec<(u64, ImageId, usize)> =
            self.images.iter().map(|(&id, symbols)| (symbols.used, id, symbols.memory())).collect();
        let mut total: usize = images.iter().map(|image| image.2).sum();
        images.sort_unstable_by_key(|image| image.0);
        for (_, id, memory) in images {
            if total <= self.options.memory {
                break;
            }
            total -= memory;
            if let Some(symbols) = self.images.get_mut(&id) {
                symbols.forget();
            }
        }
    }
}
