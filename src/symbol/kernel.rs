//! The kernel's functions: `/proc/kallsyms`, a line `address type name [module]` each, with modules and BPF programs.
//!
//! Without `CAP_SYSLOG` (or by `kernel.kptr_restrict`) every address in it is 0: then no name is guessed.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Symbol;
use super::names::Names;
use crate::elf;
use crate::ids::{ImageId, KernelAddress};
use crate::process::Image;

/// Bytes of the file; it has 10 to 20 MB with all modules.
const MOST_BYTES: u64 = 256 << 20;
/// Bytes behind a symbol's address that it may name. kallsyms has no sizes, and the text of the kernel is followed by a gap.
const LONGEST_FUNCTION: u64 = 1 << 20;
/// Bytes of names of all symbols together; a kernel with its modules has 6 MB.
const MOST_NAMES: u32 = 128 << 20;
/// How often the file is read again for an address that has no name: modules and BPF programs come and go.
const READ_AGAIN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    name: u32,
    length: u16,
    /// An index into the modules; 0 is the kernel itself.
    module: u16,
}

/// Where the kernel's symbols are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelSymbols {
    /// A file like `/proc/kallsyms`.
    Kallsyms(PathBuf),
    /// The kernel's ELF file (`vmlinux`).
    Vmlinux(PathBuf),
}

/// The symbols of a kernel.
pub(super) struct Kernel {
    source: KernelSymbols,
    /// A symbol of the kernel itself and its address while it was recorded; it is loaded elsewhere at each boot.
    reference: Option<(Arc<str>, u64)>,
    /// The address of that symbol in the file.
    found: Option<u64>,
    entries: Vec<Entry>,
    names: String,
    modules: Vec<Arc<str>>,
    restricted: bool,
    read_at: Instant,
}

impl Kernel {
    /// Reads the symbols. A file that cannot be read has none.
    pub(super) fn read(source: &KernelSymbols, reference: Option<&(Arc<str>, u64)>) -> Kernel {
        let mut kernel = Kernel {
            source: source.clone(),
            reference: reference.cloned(),
            found: None,
            entries: Vec::new(),
            names: String::new(),
            modules: vec!["[kernel.kallsyms]".into()],
            restricted: true,
            read_at: Instant::now(),
        };
        // What was read before an error stands.
        let _ = match source {
            KernelSymbols::Kallsyms(path) => crate::sys::open_regular(None, path, true)
                .map(|file| BufReader::with_capacity(1 << 16, file.take(MOST_BYTES)))
                .and_then(|lines| kernel.parse(lines)),
            KernelSymbols::Vmlinux(path) => kernel.read_elf(path),
        };
        kernel.move_to_reference();
        kernel.restricted = kernel.entries.is_empty();
        kernel.sort();
        kernel
    }

    /// Whether there is no address in the file.
    pub(super) fn restricted(&self) -> bool {
        self.restricted
    }

    /// The function at an address.
    pub(super) fn find(&mut self, address: KernelAddress, names: &mut Names) -> Symbol {
        if self.lookup(address).is_none() && !self.restricted && self.read_at.elapsed() > READ_AGAIN {
            *self = Kernel::read(&self.source.clone(), self.reference.clone().as_ref());
        }
        match self.lookup(address) {
            Some((name, module)) => {
                let module = Some(module.clone());
                Symbol { module, ..Symbol::named(names.function(name.as_bytes())) }
            }
            None => {
                let module = self.modules.first().cloned();
                Symbol { module, ..Symbol::unnamed(format!("[kernel]+{:#x}", address.0)) }
            }
        }
    }

    fn lookup(&self, address: KernelAddress) -> Option<(&str, &Arc<str>)> {
        let behind = self.entries.partition_point(|entry| entry.address <= address.0);
        let entry = self.entries[..behind].last().filter(|entry| address.0 - entry.address < LONGEST_FUNCTION)?;
        let start = entry.name as usize;
        Some((self.names.get(start..start + usize::from(entry.length))?, self.modules.get(usize::from(entry.module))?))
    }

    fn parse(&mut self, mut lines: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            if let Some(symbol) = std::str::from_utf8(&line).ok().and_then(parse_line) {
                self.add(&symbol);
            }
            line.clear();
        }
        Ok(())
    }

    /// The functions of an ELF file.
    fn read_elf(&mut self, path: &Path) -> io::Result<()> {
        let file = crate::sys::open_regular(None, path, true)?;
        let image = Image::from_file(ImageId(u32::MAX), &path.to_string_lossy(), &file);
        let image = image.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        for symbol in elf::symbols(image.elf(), elf::Table::Full) {
            let text = symbol.is_function() || symbol.is_indirect();
            let Ok(name) = std::str::from_utf8(symbol.name()) else { continue };
            if text || symbol.is_exported() {
                self.refer(name, symbol.address);
            }
            if text && !name.is_empty() {
                self.add(&Line { address: symbol.address, name, module: None });
            }
        }
        Ok(())
    }

    fn refer(&mut self, name: &str, address: u64) {
        if self.reference.as_ref().is_some_and(|(wanted, _)| &**wanted == name) {
            self.found = Some(address);
        }
    }

    /// Moves the kernel's own symbols to where they were while it was recorded. Modules lay elsewhere then, nobody knows where.
    fn move_to_reference(&mut self) {
        let Some((was, is)) = self.reference.as_ref().map(|reference| reference.1).zip(self.found) else { return };
        if was != is {
            self.entries.retain(|entry| entry.module == 0);
            self.entries.iter_mut().for_each(|entry| entry.address = entry.address.wrapping_add(was.wrapping_sub(is)));
        }
    }

    fn add(&mut self, symbol: &Line<'_>) {
        self.refer(symbol.name, symbol.address);
        let module = symbol.module.map_or(Some(0), |module| self.module(module));
        let place = u32::try_from(self.names.len()).ok().filter(|&at| at < MOST_NAMES);
        let (Some(name), Ok(length), Some(module)) = (place, u16::try_from(symbol.name.len()), module) else {
            return;
        };
        self.names.push_str(symbol.name);
        self.entries.push(Entry { address: symbol.address, name, length, module });
    }

    /// The index of a module; a module's symbols stand together.
    fn module(&mut self, name: &str) -> Option<u16> {
        if self.modules.last().is_none_or(|last| &**last != name) {
            self.modules.push(name.into());
        }
        u16::try_from(self.modules.len() - 1).ok()
    }

    /// Sorts by address, and keeps one name for each: the one with fewer leading underscores, else the first by alphabet.
    fn sort(&mut self) {
        let names = &self.names;
        let name = |entry: &Entry| {
            names.get(entry.name as usize..entry.name as usize + usize::from(entry.length)).unwrap_or_default()
        };
        let underscores = |entry: &Entry| name(entry).bytes().take_while(|&byte| byte == b'_').count();
        self.entries.sort_unstable_by(|a, b| {
            a.address
                .cmp(&b.address)
                .then_with(|| underscores(a).cmp(&underscores(b)))
                .then_with(|| name(a).cmp(name(b)))
        });
        self.entries.dedup_by_key(|entry| entry.address);
        self.entries.shrink_to_fit();
        self.names.shrink_to_fit();
    }
}

struct Line<'a> {
    address: u64,
    name: &'a str,
    module: Option<&'a str>,
}

/// A line of a function; `None` for data, hidden addresses, and what is no line of this format.
fn parse_line(line: &str) -> Option<Line<'_>> {
    let mut fields = line.split_ascii_whitespace();
    let address = u64::from_str_radix(fields.next()?, 16).ok().filter(|&address| address != 0)?;
    let is_text = matches!(fields.next()?, "t" | "T" | "w" | "W");
    let name = fields.next()?;
    let module = fields.next().filter(|module| module.starts_with('['));
    is_text.then_some(Line { address, name, module })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn kernel(text: &str) -> Kernel {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Kernel::read(&KernelSymbols::Kallsyms(file.path().into()), None)
    }

    #[test]
    fn functions_and_modules() {
        let mut kernel = kernel(
            "ffffffff81000000 T _stext\nffffffff81000000 T startup\nffffffff81000100 t do_work.isra.0\nffffffff81000180 D data\n\
             ffffffffc0000000 t ext4_write\t[ext4]\nffffffffc0001000 t bpf_prog_1234_x\t[bpf]\n",
        );
        let mut names = Names::default();
        let mut at = |address| kernel.find(KernelAddress(address), &mut names);
        assert_eq!(&*at(0xffff_ffff_8100_0010).function, "startup");
        assert_eq!(&*at(0xffff_ffff_8100_0190).function, "do_work.isra.0");
        assert_eq!(at(0xffff_ffff_c000_0000).module.as_deref(), Some("[ext4]"));
        assert_eq!(&*at(0xffff_ffff_c000_1001).function, "bpf_prog_1234_x");
        let unknown = at(0xffff_ffff_a000_0000);
        assert_eq!((&*unknown.function, unknown.named), ("[kernel]+0xffffffffa0000000", false));
        assert!(!at(0x10).named);
    }

    #[test]
    fn hidden_addresses_name_nothing() {
        let mut kernel = kernel("0000000000000000 T _stext\n0000000000000000 T startup\n");
        assert!(kernel.restricted());
        assert!(!kernel.find(KernelAddress(0xffff_ffff_8100_0010), &mut Names::default()).named);
        assert!(Kernel::read(&KernelSymbols::Kallsyms("/nonexistent".into()), None).restricted());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([0-9a-f]{0,17} [tTdw] [a-z_.]{0,9}(\t\\[[a-z]{0,3}\\])?\n|.{0,20}\n){0,20}", address: u64) {
            let mut kernel = kernel(&text);
            prop_assert!(!kernel.find(KernelAddress(address), &mut Names::default()).function.is_empty());
        }
    }
}
