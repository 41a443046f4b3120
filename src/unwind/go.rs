//! Go's table of functions (`.gopclntab`): where each function lies, its name and lines, and how far it has moved the stack
//! pointer at each instruction. Go writes no `.eh_frame`, but this table is in every binary, stripped or not.
//!
//! The format is that of `runtime/symtab.go` and `cmd/link/internal/ld/pcln.go`, in the versions of Go 1.2, 1.16, 1.18 and
//! 1.20. Everything is read where it lies; nothing is trusted.

mod module;

use std::sync::Arc;

use self::module::Loaded;
use super::arch::Abi;
use super::rule::{Kind, Rule, words};
use super::section::Section;
use crate::ids::Rva;
use crate::process::Image;

const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];

/// First functions of a thread or goroutine.
const ROOTS: [&str; 4] = ["runtime.goexit", "runtime.mstart", "runtime.rt0_go", "_rt0_amd64_linux"];

/// Leaves a goroutine for the thread's first stack: what it calls never returns into it.
const MCALL: [&str; 1] = ["runtime.mcall"];

/// Leaves a goroutine whose function needs a larger stack: the function begins anew on that.
const MORESTACK: [&str; 1] = ["runtime.morestack"];

/// Goes on with `morestack`.
const TO_MORESTACK: [&str; 1] = ["runtime.morestack_noctxt"];

/// Functions that call on another stack than their own caller's, or move the stack pointer by what only they know.
const STACK_SWITCHES: [&str; 11] = [
    "runtime.systemstack",
    "runtime.systemstack_switch",
    "runtime.asmcgocall",
    "runtime.asmcgocall_landingpad",
    "runtime.asmcgocall_no_g",
    "runtime.cgocallback",
    "runtime.callCgoTraceback",
    "runtime.callCgoMmap",
    "runtime.callCgoMunmap",
    "runtime.callCgoSigaction",
    "runtime.sigfwd",
];

/// Functions that call the kernel's vDSO on the thread's first stack. In front of that they set up a frame as others do.
const VDSO_CALLS: [&str; 5] =
    ["runtime.nanotime1", "runtime.walltime", "runtime.walltime1", "time.now", "runtime.vgetrandom1"];

/// What the restorer of Go's own signal handlers is called.
const SIGRETURN: [&str; 2] = ["runtime.sigreturn__sigaction", "runtime.sigreturn"];

/// Go's table of functions, found in an image.
pub struct Pclntab {
    image: Arc<Image>,
    section: Section,
    layout: Layout,
    /// The address that the functions' entries count from; 0 where entries are addresses.
    text: u64,
    /// The functions' entries where the file holds them only as relocations: position independent code of Go before 1.18.
    relocated: Option<Box<[u64]>>,
    /// Functions whose rule is another one than the table of the stack pointer says, by entry.
    special: Vec<(u64, Special)>,
}

/// What is known of a function by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    /// One rule holds in the whole function.
    Whole(Rule),
    /// Once its frame is set up, only its frame pointer leads to the caller.
    FromFrame,
    /// The function leaves its goroutine.
    Leaves(Left),
    /// The function goes on with one that leaves its goroutine.
    JumpsTo(Left),
}

impl Special {
    /// The rule, where one holds in the whole function.
    fn rule(self) -> Option<Rule> {
        match self {
            Special::Whole(rule) => Some(rule),
            Special::FromFrame | Special::JumpsTo(_) => None,
            Special::Leaves(Left::Mcall) => Some(Rule::ROOT),
            // Before Go 1.21 the frame pointer is still the goroutine's; then it is 0.
            Special::Leaves(Left::Morestack) => Some(Rule::STACK_SWITCH),
        }
    }
}

/// By which function a thread left a goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// For the scheduler.
    Mcall,
    /// For a larger stack.
    Morestack,
}

/// A Go function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its first instruction.
    pub entry: Rva,
    /// Behind its last one.
    pub end: Rva,
    name: u32,
    pcsp: u32,
    pcfile: u32,
    pcline: u32,
    unit: u32,
}

impl Function {
    /// Whether Go's compiler or assembler made it. C code that Go's own linker put among Go's has no table of the stack pointer.
    pub(super) fn is_go(&self) -> bool {
        self.pcsp != 0
    }
}

/// The order of the fields, by version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Go12,
    Go116,
    /// And all later ones: Go 1.20 changed the magic, and no field that is read here.
    Go118,
}

/// Where the parts of the table are, as offsets from its start.
#[derive(Clone, Copy)]
struct Layout {
    version: Version,
    quantum: u64,
    functions: usize,
    names: usize,
    units: usize,
    files: usize,
    pc_values: usize,
    /// The index of functions by address; the records that it names count from here too.
    index: usize,
}

impl Pclntab {
    /// Whether an image has a table of functions that [`parse`](Pclntab::parse) cannot use: a damaged one, or one of code that
    /// lies at an unknown place.
    #[must_use]
    pub fn is_unusable(image: &Arc<Image>) -> bool {
        (named_section(image).is_some() || unnamed_section(image).is_some()) && Pclntab::parse(image).is_none()
    }

    /// The table of an image, if it has one that is not damaged at the head and tells where the code is that it describes.
    #[must_use]
    pub fn parse(image: &Arc<Image>) -> Option<Pclntab> {
        let section = named_section(image).or_else(|| unnamed_section(image))?;
        let layout = Layout::parse(section.data(image))?;
        let image = Arc::clone(image);
        let mut table = Pclntab { image, section, layout, text: 0, relocated: None, special: Vec::new() };
        table.place()?;
        table.special = table.functions().filter_map(|f| Some((f.entry.0, table.special(&f)?))).collect();
        table.special.sort_unstable_by_key(|special| special.0);
        Some(table)
    }

    /// Finds where the code is that the table describes.
    fn place(&mut self) -> Option<()> {
        let loaded = Loaded::new(&self.image);
        let (address, layout) = (self.section.address, self.layout);
        if layout.version == Version::Go118 {
            let offsets = self.entry(0)?.0..self.entry(layout.functions)?.0;
            self.text = module::text_start(&loaded, address, &layout, &offsets)?;
            return Some(());
        }
        let index = address.checked_add(layout.index as u64)?;
        let size = (layout.functions as u64 + 1).checked_mul(layout.index_entry() as u64)?;
        let relocated = loaded.relocated(index..index.checked_add(size)?);
        if !relocated.is_empty() {
            let entries = relocated.iter().filter(|(at, _)| (at - index).is_multiple_of(layout.index_entry() as u64));
            let entries: Box<[u64]> = entries.map(|&(_, entry)| entry).collect();
            self.relocated = Some((entries.len() == layout.functions + 1).then_some(entries)?);
        }
        let code = self.entry(0)?.0..self.entry(layout.functions)?.0;
        module::is_code(&self.image, &code).then_some(())
    }

    /// All functions, by address.
    pub fn functions(&self) -> impl Iterator<Item = Function> + '_ {
        (0..self.layout.functions).filter_map(|at| self.function(at))
    }

    /// The function that holds an address; `None` outside of Go's code.
    #[must_use]
    pub fn find(&self, rva: Rva) -> Option<Function> {
        let (mut low, mut high) = (0, self.layout.functions);
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle)?.0 <= rva.0 {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        // The entry behind the last function is the end of Go's code: C code linked behind it is not the last function.
        self.function(low.checked_sub(1)?).filter(|function| rva < function.end)
    }

    /// A function's full name (`net/http.(*Server).Serve`).
    #[must_use]
    pub fn name(&self, function: &Function) -> Option<&str> {
        self.string(self.layout.names.checked_add(function.name as usize)?)
    }

    /// The file and line of an instruction of a function. The line is that of the innermost inlined call.
    #[must_use]
    pub fn file_line(&self, function: &Function, rva: Rva) -> Option<(String, u32)> {
        let line = u32::try_from(self.value(function, function.pcline, rva)?).ok()?;
        let file = u32::try_from(self.value(function, function.pcfile, rva)?).ok()?;
        let name = match self.layout.version {
            Version::Go12 => u32_at(self.data(), self.layout.files.checked_add(4 * file as usize)?)? as usize,
            _ => {
                let index = function.unit.checked_add(file)? as usize;
                let offset = u32_at(self.data(), self.layout.units.checked_add(index.checked_mul(4)?)?)?;
                self.layout.files.checked_add(offset as usize)?
            }
        };
        Some((self.string(name)?.to_owned(), line))
    }

    /// The rule at an address; `None` outside of Go's code.
    pub(super) fn rule(&self, rva: Rva, abi: &Abi) -> Option<Rule> {
        let function = self.find(rva).filter(|function| function.is_go())?;
        let rule = self.rules(&function, abi).take_while(|&(start, _)| start <= rva).last();
        Some(rule.map_or(Rule::GAP, |(_, rule)| rule))
    }

    /// The rules of a function, each with the address from which on it holds.
    pub(super) fn rules(&self, function: &Function, abi: &Abi) -> impl Iterator<Item = (Rva, Rule)> + '_ {
        let special = self.special.binary_search_by_key(&function.entry.0, |special| special.0);
        let special = special.ok().map(|at| self.special[at].1);
        let whole = special.and_then(Special::rule).map(|rule| (function.entry, rule));
        let deltas = if whole.is_none() { Some(self.values(function, function.pcsp)) } else { None };
        let link_register = abi.link_register;
        let by_delta = move |(start, _, delta)| {
            // The first word is the caller's frame pointer.
            let framed = special == Some(Special::FromFrame) && delta > 8;
            (start, if framed { Rule::STACK_SWITCH } else { frame_rule(delta, link_register) })
        };
        whole.into_iter().chain(deltas.into_iter().flatten().map(by_delta))
    }

    /// Whether a function leaves its goroutine, and how.
    pub(super) fn left(&self, rva: Rva) -> Option<Left> {
        let near = self.special.partition_point(|special| special.0 <= rva.0).checked_sub(1)?;
        match self.special[near] {
            (entry, Special::Leaves(left) | Special::JumpsTo(left)) if self.find(rva)?.entry.0 == entry => Some(left),
            _ => None,
        }
    }

    fn special(&self, function: &Function) -> Option<Special> {
        let name = self.layout.names.checked_add(function.name as usize).and_then(|at| self.data().get(at..))?;
        // Compared in place: to find the end of a hostile name takes time.
        let is = |known: &&str| {
            let suffix = name.strip_prefix(known.as_bytes());
            suffix.is_some_and(|suffix| suffix.starts_with(b"\0") || suffix.starts_with(b".abi0\0"))
        };
        let kinds = [
            (&ROOTS[..], Special::Whole(Rule::ROOT)),
            (&STACK_SWITCHES, Special::Whole(Rule::STACK_SWITCH)),
            (&SIGRETURN, Special::Whole(Rule::SIGNAL)),
            (&MCALL, Special::Leaves(Left::Mcall)),
            (&MORESTACK, Special::Leaves(Left::Morestack)),
            (&TO_MORESTACK, Special::JumpsTo(Left::Morestack)),
            (&VDSO_CALLS, Special::FromFrame),
        ];
        kinds.into_iter().find(|(names, _)| names.iter().any(is)).map(|(_, special)| special)
    }

    /// Rows that all functions can have: each takes two bytes, and functions share equal tables.
    pub(super) fn max_rows(&self) -> usize {
        self.data().len().saturating_mul(4)
    }

    fn data(&self) -> &[u8] {
        self.section.data(&self.image)
    }

    fn string(&self, at: usize) -> Option<&str> {
        let bytes = self.data().get(at..)?;
        let length = bytes.iter().take(1 << 16).position(|&byte| byte == 0)?;
        std::str::from_utf8(&bytes[..length]).ok()
    }

    /// Where the function number `at` begins; for the number behind the last one, where that ends.
    fn entry(&self, at: usize) -> Option<Rva> {
        if let Some(relocated) = &self.relocated {
            return relocated.get(at).copied().map(Rva);
        }
        let at = self.layout.index.checked_add(at.checked_mul(self.layout.index_entry())?)?;
        let entry = match self.layout.version {
            Version::Go118 => u64::from(u32_at(self.data(), at)?),
            _ => u64_at(self.data(), at)?,
        };
        Some(Rva(self.text.checked_add(entry)?))
    }

    fn function(&self, at: usize) -> Option<Function> {
        let entry = self.entry(at)?;
        let end = self.entry(at.checked_add(1)?)?;
        let index = self.layout.index.checked_add(at.checked_mul(self.layout.index_entry())?)?;
        // The index gives the record's place behind the entry; the record begins with the entry again.
        let (record, word) = match self.layout.version {
            Version::Go118 => (u64::from(u32_at(self.data(), index.checked_add(4)?)?), 4),
            _ => (u64_at(self.data(), index.checked_add(8)?)?, 8),
        };
        let record = self.layout.records().checked_add(usize::try_from(record).ok()?)?.checked_add(word)?;
        let field = |number: usize| u32_at(self.data(), record.checked_add(4 * number)?);
        // nameoff, args, deferreturn, pcsp, pcfile, pcln, npcdata, cuOffset
        let unit = if self.layout.version == Version::Go12 { 0 } else { field(7)? };
        let function =
            Function { entry, end, name: field(0)?, pcsp: field(3)?, pcfile: field(4)?, pcline: field(5)?, unit };
        (entry < end).then_some(function)
    }

    fn value(&self, function: &Function, table: u32, rva: Rva) -> Option<i32> {
        self.values(function, table).find(|&(start, end, _)| start <= rva && rva < end).map(|(_, _, value)| value)
    }

    /// A table of values by address: pairs of variable-length numbers, how far the value changes (zigzag) and for how many
    /// units of code the new one holds.
    fn values(&self, function: &Function, table: u32) -> impl Iterator<Item = (Rva, Rva, i32)> + '_ {
        let start = self.layout.pc_values.checked_add(table as usize);
        // Offset 0 of a table means that the function has none.
        let start = start.filter(|_| table != 0);
        let mut bytes = start.and_then(|start| self.data().get(start..)).unwrap_or_default();
        let (mut pc, mut value, end, quantum) = (function.entry, -1_i32, function.end, self.layout.quantum);
        let mut first = true;
        std::iter::from_fn(move || {
            let change = varint(&mut bytes)?;
            if (change == 0 && !first) || pc >= end {
                return None;
            }
            first = false;
            value = value.wrapping_add((change >> 1) as i32 ^ -((change & 1) as i32));
            let from = pc;
            pc = Rva(pc.0.checked_add(u64::from(varint(&mut bytes)?) * quantum)?.min(end.0));
            (from < pc).then_some((from, pc, value))
        })
    }
}

impl Layout {
    fn parse(data: &[u8]) -> Option<Layout> {
        let version = match u32_at(data, 0)? {
            0xffff_fffb => Version::Go12,
            0xffff_fffa => Version::Go116,
            0xffff_fff0 | 0xffff_fff1 => Version::Go118,
            _ => return None,
        };
        let &[0, 0, quantum @ (1 | 4), 8] = data.get(4..8)? else { return None };
        let word = |number: usize| usize::try_from(u64_at(data, 8 + 8 * number)?).ok();
        let functions = word(0)?;
        let mut layout = Layout {
            version,
            quantum: quantum.into(),
            functions,
            names: 0,
            units: 0,
            files: 0,
            pc_values: 0,
            index: 16,
        };
        // The words behind the number of functions and of files: names, units, files, values, index; Go 1.18 puts textStart first.
        if let Some(first) = match version {
            Version::Go12 => None,
            Version::Go116 => Some(2),
            Version::Go118 => Some(3),
        } {
            layout.names = word(first)?;
            layout.units = word(first + 1)?;
            layout.files = word(first + 2)?;
            layout.pc_values = word(first + 3)?;
            layout.index = word(first + 4)?;
        }
        let end = layout.index.checked_add(functions.checked_mul(layout.index_entry())?)?;
        if version == Version::Go12 {
            layout.files = u32_at(data, end.checked_add(8)?)? as usize;
        }
        (end < data.len()).then_some(layout)
    }

    /// Bytes of an entry of the index: an address and an offset.
    fn index_entry(&self) -> usize {
        if self.version == Version::Go118 { 8 } else { 16 }
    }

    /// What the offsets of records count from.
    fn records(&self) -> usize {
        if self.version == Version::Go12 { 0 } else { self.index }
    }
}

/// The section that holds the table alone.
fn named_section(image: &Image) -> Option<Section> {
    SECTIONS.iter().find_map(|name| Section::open(image, name))
}

/// The table within a section that holds other data too: linkers other than Go's own put the second of [`SECTIONS`] into it.
fn unnamed_section(image: &Image) -> Option<Section> {
    let section = Section::open(image, ".data.rel.ro")?;
    let data = section.data(image);
    let is_table =
        |&at: &usize| matches!(data[at..], [0xf0 | 0xf1 | 0xfa | 0xfb, 0xff, 0xff, 0xff, 0, 0, 1 | 4, 8, ..]);
    let at = (0..data.len()).step_by(8).filter(is_table).find(|&at| Layout::parse(&data[at..]).is_some())?;
    section.from(at)
}

/// The rule where the stack pointer is `delta` bytes below what it was at the function's entry.
///
/// On x86-64 the return address lies above the frame, and the caller's frame pointer between them. On ARM the return address is
/// at the stack pointer, and the frame pointer right below it.
fn frame_rule(delta: i32, link_register: bool) -> Rule {
    let rule = || {
        let delta = words(i64::from(delta)).filter(|&delta| delta >= 0)?;
        Some(match (link_register, delta) {
            (false, 0) => Rule { kind: Kind::StackPointer, cfa: 1, fp: 0, ra: -1 },
            (false, _) => Rule { kind: Kind::StackPointer, cfa: delta.checked_add(1)?, fp: -2, ra: -1 },
            (true, 0) => Rule { kind: Kind::LinkRegister, cfa: 0, fp: 0, ra: 0 },
            (true, _) => Rule { kind: Kind::StackPointer, cfa: delta, fp: -delta.checked_add(1)?, ra: -delta },
        })
    };
    rule().unwrap_or(Rule::GAP)
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk().map(|&bytes| u32::from_le_bytes(bytes))
}

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    data.get(at..)?.first_chunk().map(|&bytes| u64::from_le_bytes(bytes))
}

/// A number in groups of seven bits, the lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_end() {
        assert_eq!(varint(&mut &[0xac, 0x02][..]), Some(300));
        assert_eq!(varint(&mut &[0x80][..]), None);
        assert_eq!(varint(&mut &[0xff; 9][..]), None);
    }

    #[test]
    fn frames_of_both_architectures() {
        assert_eq!(frame_rule(0, false), Rule { kind: Kind::StackPointer, cfa: 1, fp: 0, ra: -1 });
        assert_eq!(frame_rule(24, false), Rule { kind: Kind::StackPointer, cfa: 4, fp: -2, ra: -1 });
        assert_eq!(frame_rule(0, true).kind, Kind::LinkRegister);
        assert_eq!(frame_rule(32, true), Rule { kind: Kind::StackPointer, cfa: 4, fp: -5, ra: -4 });
        assert_eq!(frame_rule(-8, false), Rule::GAP);
        assert_eq!(frame_rule(1 << 30, false), Rule::GAP);
    }
}
