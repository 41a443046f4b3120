//! The kernel's functions: `/proc/kallsyms`, a line `address type name [module]` each, with modules and BPF programs.
//!
//! Without `CAP_SYSLOG` (or by `kernel.kptr_restrict`) every address in it is 0: then no name is guessed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Symbol;
use super::names::Names;
use crate::ids::KernelAddress;

/// Bytes of the file; it has 10 to 20 MB with all modules.
const MOST_BYTES: u64 = 256 << 20;
/// Bytes behind a symbol's address that it may name. kallsyms has no sizes, and the text of the kernel is followed by a gap.
const LONGEST_FUNCTION: u64 = 1 << 20;
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

/// The symbols of the running kernel.
pub(super) struct Kernel {
    path: Box<Path>,
    entries: Vec<Entry>,
    names: String,
    modules: Vec<Arc<str>>,
    restricted: bool,
    read_at: Instant,
}

impl Kernel {
    /// Reads the symbols. A file that cannot be read has none.
    pub(super) fn read(path: &Path) -> Kernel {
        let mut kernel = Kernel {
            path: path.into(),
            entries: Vec::new(),
            names: String::new(),
            modules: vec!["[kernel.kallsyms]".into()],
            restricted: true,
            read_at: Instant::now(),
        };
        let lines = File::open(path).map(|file| BufReader::with_capacity(1 << 16, file.take(MOST_BYTES)));
        // What was read before an error stands.
        let _ = lines.and_then(|lines| kernel.parse(lines));
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
            *self = Kernel::read(&self.path.clone());
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

    fn add(&mut self, symbol: &Line<'_>) {
        let module = symbol.module.map_or(Some(0), |module| self.module(module));
        let (Ok(name), Ok(length), Some(module)) =
            (u32::try_from(self.names.len()), u16::try_from(symbol.name.len()), module)
        else {
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
        Kernel::read(file.path())
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
        assert!(Kernel::read(Path::new("/nonexistent")).restricted());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([0-9a-f]{0,17} [tTdw] [a-z_.]{0,9}(\t\\[[a-z]{0,3}\\])?\n|.{0,20}\n){0,20}", address: u64) {
            let mut kernel = kernel(&text);
            prop_assert!(!kernel.find(KernelAddress(address), &mut Names::default()).function.is_empty());
        }
    }
}
