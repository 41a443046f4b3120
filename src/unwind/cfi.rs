//! What an image says of its frames: `.eh_frame`, `.debug_frame`, Go's table of functions; and the rule at one address.

use std::ops::Range;
use std::sync::Arc;

use gimli::{
    BaseAddresses, CieOrFde, DW_EH_PE_udata4, DebugFrame, DwEhPe, EhFrame, EhFrameHdr, FrameDescriptionEntry,
    LittleEndian, ParsedEhFrameHdr, UnwindContext, UnwindSection, Vendor,
};
use object::{Object, ObjectSection};

use super::arch::{Abi, First, Frameless};
use super::convert::{Row, Slice};
use super::go::Pclntab;
use super::plt;
use super::rule::{Kind, Rule};
use super::section::Section;
use super::{aarch64, x86_64};
use crate::ids::{Architecture, Rva};
use crate::process::{Image, Segment};

/// Bytes behind a call that tell whether it was that of a stack's first function.
const FIRST: usize = 24;
/// Bytes of code where a process begins, as long as it takes to call the first function in C: glibc's `_start` has 38, musl's 22.
const ENTRY: u64 = 48;

/// What gimli needs of memory to interpret an FDE; kept between look-ups.
pub(super) type Context = UnwindContext<usize>;

/// The unwind information of an image, found but not yet compiled. Opening it is quick where the linker wrote the index
/// `.eh_frame_hdr`, and otherwise reads every FDE's header.
pub struct Cfi {
    image: Arc<Image>,
    pub(super) abi: &'static Abi,
    bases: BaseAddresses,
    eh_frame: Option<Section>,
    eh_frame_hdr: Option<Section>,
    debug_frame: Option<Section>,
    /// FDEs without a usable index of the linker, by address.
    index: Vec<Entry>,
    go: Option<Pclntab>,
    code: Vec<Segment>,
    /// Where the stubs of the procedure linkage table lie.
    plt: Vec<Range<u64>>,
}

/// An FDE found by reading a section from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    start: u64,
    end: u64,
    frame: Frame,
    offset: usize,
}

/// Which section. The first wins where both cover an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Frame {
    Eh,
    Debug,
}

impl Cfi {
    /// Finds the unwind information of an image, if it has any; its code tells something in any case. `None` for an instruction set that
    /// this program does not know.
    #[must_use]
    pub fn open(image: &Arc<Image>) -> Option<Cfi> {
        let abi = match image.architecture()? {
            Architecture::X86_64 => &x86_64::ABI,
            Architecture::Aarch64 => &aarch64::ABI,
        };
        let go = Pclntab::parse(image);
        let eh_frame = Section::open(image, ".eh_frame");
        // Go's compiler writes the same into both; its own table is the shorter way.
        let debug_frame = if go.is_none() { Section::open(image, ".debug_frame") } else { None };
        let plt = plt::ranges(image);
        let code = image.segments().iter().filter(|segment| segment.executable).copied().collect();
        let eh_frame_hdr = Section::open(image, ".eh_frame_hdr");
        let bases = bases(image, eh_frame.as_ref(), eh_frame_hdr.as_ref());
        let image = Arc::clone(image);
        let mut cfi = Cfi { image, abi, bases, eh_frame, eh_frame_hdr, debug_frame, index: Vec::new(), go, code, plt };
        cfi.build_index();
        Some(cfi)
    }

    /// The image.
    #[must_use]
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// Go's table of functions, where the image has one.
    #[must_use]
    pub fn go(&self) -> Option<&Pclntab> {
        self.go.as_ref()
    }

    /// The segments of code.
    pub(super) fn code(&self) -> &[Segment] {
        &self.code
    }

    pub(super) fn bases(&self) -> &BaseAddresses {
        &self.bases
    }

    pub(super) fn eh_frame(&self) -> Option<EhFrame<Slice<'_>>> {
        let mut frame = EhFrame::new(self.eh_frame_bytes()?, LittleEndian);
        frame.set_address_size(8);
        frame.set_vendor(self.vendor());
        Some(frame)
    }

    pub(super) fn debug_frame(&self) -> Option<DebugFrame<Slice<'_>>> {
        let mut frame = DebugFrame::new(self.debug_frame_bytes()?, LittleEndian);
        frame.set_address_size(8);
        frame.set_vendor(self.vendor());
        Some(frame)
    }

    pub(super) fn eh_frame_bytes(&self) -> Option<&[u8]> {
        self.eh_frame.as_ref().map(|section| section.data(&self.image))
    }

    pub(super) fn debug_frame_bytes(&self) -> Option<&[u8]> {
        self.debug_frame.as_ref().map(|section| section.data(&self.image))
    }

    fn vendor(&self) -> Vendor {
        if self.abi.link_register { Vendor::AArch64 } else { Vendor::Default }
    }

    /// The rule at an address without a compiled table: what a walk uses until that is there, and a table has to agree with.
    #[must_use]
    pub fn rule_at(&self, rva: Rva) -> Rule {
        self.rule(rva, &mut UnwindContext::new())
    }

    /// The rule at an address, interpreted for this one address.
    pub(super) fn rule(&self, rva: Rva, context: &mut Context) -> Rule {
        if let Some(rule) = self.go.as_ref().and_then(|go| go.rule(rva, self.abi)) {
            return rule;
        }
        let rule = |row: &Row<'_>, signal| if signal { self.signal_rule(rva) } else { row.rule(self.abi) };
        self.with_row(rva, context, rule).unwrap_or(Rule::GAP)
    }

    /// The rule of a function that is marked as a signal frame: the kernel's layout, if the code is what returns from it.
    pub(super) fn signal_rule(&self, rva: Rva) -> Rule {
        if self.returns_from_signal(rva) { Rule::SIGNAL } else { Rule::INTERPRET }
    }

    /// The rule at an address where the code itself says more than the unwind information, whose `rule` is a gap or one that
    /// linkers write for all shapes of stubs alike.
    #[must_use]
    pub fn rule_by_code(&self, rva: Rva, rule: Rule) -> Rule {
        let stub = if self.plt.iter().any(|range| range.contains(&rva.0)) { plt::rule(&self.image, rva) } else { None };
        match stub {
            Some(Rule::UNKNOWN) | None if rule.kind != Kind::Gap => rule,
            Some(stub) => stub,
            None => self.gap_rule(rva),
        }
    }

    /// The rule at an address that no unwind information covers: the code that returns from a signal handler often has none, nor have
    /// the first functions of processes, threads and fibers in some C libraries.
    fn gap_rule(&self, rva: Rva) -> Rule {
        if self.returns_from_signal(rva) {
            return Rule::SIGNAL;
        }
        let (_, behind) = self.code_around(Rva(rva.0.saturating_add(1)), 0, FIRST);
        match (self.abi.first)(behind) {
            Some(First::Thread) => Rule::ROOT,
            Some(First::Fiber) => Rule::FIBER,
            None if self.is_entry(rva) => Rule::ROOT,
            None => Rule::GAP,
        }
    }

    /// Whether an address is in the code where the kernel starts the process: in that of the program, or of its interpreter.
    fn is_entry(&self, rva: Rva) -> bool {
        let entry = self.image.elf().entry();
        entry != 0 && (entry..entry.saturating_add(ENTRY)).contains(&rva.0)
    }

    /// Calls `visit` with the row of call frame information for an address, and whether it describes a signal frame.
    pub(super) fn with_row<T>(
        &self,
        rva: Rva,
        context: &mut Context,
        visit: impl FnOnce(&Row<'_>, bool) -> T,
    ) -> Option<T> {
        if let Some(fde) = self.eh_frame_by_hdr(rva) {
            let frame = self.eh_frame()?;
            let bytes = self.eh_frame_bytes()?;
            return visit_row((&frame, bytes), &self.bases, &fde, rva, context, visit);
        }
        let entry = self.indexed(rva)?;
        match entry.frame {
            Frame::Eh => {
                let frame = self.eh_frame()?;
                let fde = frame.fde_from_offset(&self.bases, entry.offset.into(), EhFrame::cie_from_offset).ok()?;
                let bytes = self.eh_frame_bytes()?;
                visit_row((&frame, bytes), &self.bases, &fde, rva, context, visit)
            }
            Frame::Debug => {
                let frame = self.debug_frame()?;
                let fde = frame.fde_from_offset(&self.bases, entry.offset.into(), DebugFrame::cie_from_offset).ok()?;
                let bytes = self.debug_frame_bytes()?;
                visit_row((&frame, bytes), &self.bases, &fde, rva, context, visit)
            }
        }
    }

    fn indexed(&self, rva: Rva) -> Option<&Entry> {
        let at = self.index.partition_point(|entry| entry.end <= rva.0);
        self.index.get(at).filter(|entry| entry.start <= rva.0)
    }

    fn eh_frame_by_hdr(&self, rva: Rva) -> Option<FrameDescriptionEntry<Slice<'_>>> {
        let frame = self.eh_frame()?;
        let pointer = self.hdr()?.table()?.lookup(rva.0, &self.bases).ok()?.direct().ok()?;
        let offset = usize::try_from(pointer.checked_sub(self.eh_frame.as_ref()?.address)?).ok()?;
        let fde = frame.fde_from_offset(&self.bases, offset.into(), EhFrame::cie_from_offset).ok()?;
        fde.contains(rva.0).then_some(fde)
    }

    fn has_hdr_table(&self) -> bool {
        self.hdr().is_some_and(|hdr| hdr.table().is_some())
    }

    /// The header of the search table, if its count of entries is written as every linker writes it. A count of 64 bits
    /// comes only from damage, and the search multiplies it.
    fn hdr(&self) -> Option<ParsedEhFrameHdr<Slice<'_>>> {
        let header = self.eh_frame_hdr.as_ref()?.data(&self.image);
        let count = DwEhPe(*header.get(2)?);
        let parsed = EhFrameHdr::new(header, LittleEndian).parse(&self.bases, 8).ok()?;
        (count == DW_EH_PE_udata4).then_some(parsed)
    }

    fn build_index(&mut self) {
        let mut index = Vec::new();
        if let Some(frame) = self.eh_frame().filter(|_| !self.has_hdr_table()) {
            list(&frame, &self.bases, Frame::Eh, &mut index);
        }
        if let Some(frame) = self.debug_frame() {
            list(&frame, &self.bases, Frame::Debug, &mut index);
        }
        index.retain(|entry| self.is_code(entry.start, entry.end));
        index.sort_unstable_by_key(|entry| (entry.start, entry.frame));
        let mut covered = 0;
        index.retain(|entry| {
            let first = entry.start >= covered;
            covered = covered.max(entry.end);
            first
        });
        self.index = index;
    }

    /// Whether a range lies in a segment of code. Linkers leave FDEs of discarded functions behind, at address 0.
    pub(super) fn is_code(&self, start: u64, end: u64) -> bool {
        let holds = |s: &Segment| start >= s.address && end <= s.address.saturating_add(s.size);
        start < end && self.code.iter().any(holds)
    }

    /// Whether an address is in the code that returns from a signal handler, or just before it (where the handler's return
    /// address, less one, points).
    fn returns_from_signal(&self, rva: Rva) -> bool {
        let length = self.abi.sigreturn.len();
        let (before, code) = self.code_around(rva, length - 1, length + 1);
        let window = [before, code].concat();
        window.windows(length).any(|code| code == self.abi.sigreturn)
    }

    /// Where the return address is, if the code at an address shows that its function has no frame there.
    pub(super) fn frameless(&self, rva: Rva) -> Option<Frameless> {
        let (before, code) = self.code_around(rva, 8, 8);
        (self.abi.frameless)(before, code)
    }

    /// Where the function begins that an address lies in, as far as unwind information tells: the start of its entry.
    #[must_use]
    pub fn function_start(&self, rva: Rva) -> Option<Rva> {
        let by_hdr = || Some(self.eh_frame_by_hdr(rva)?.initial_address());
        let by_index = || Some(self.indexed(rva)?.start);
        by_hdr().or_else(by_index).map(Rva)
    }

    /// The bytes of code before and from an address on; fewer at the segment's ends.
    pub(super) fn code_around(&self, rva: Rva, before: usize, after: usize) -> (&[u8], &[u8]) {
        let inside = |s: &&Segment| rva.0 >= s.address && rva.0 - s.address < s.size;
        let found = self.code.iter().find(inside).and_then(|segment| {
            let start = usize::try_from(segment.offset).ok()?;
            let bytes = self.image.bytes().get(start..)?;
            let bytes = bytes.get(..usize::try_from(segment.size).ok()?).unwrap_or(bytes);
            bytes.split_at_checked(usize::try_from(rva.0 - segment.address).ok()?)
        });
        let (head, tail) = found.unwrap_or_default();
        (&head[head.len().saturating_sub(before)..], &tail[..after.min(tail.len())])
    }
}

fn bases(image: &Image, eh_frame: Option<&Section>, header: Option<&Section>) -> BaseAddresses {
    let address = |name| image.elf().section_by_name(name).map_or(0, |section| section.address());
    BaseAddresses::default()
        .set_text(address(".text"))
        .set_got(address(".got"))
        .set_eh_frame(eh_frame.map_or(0, |section| section.address))
        .set_eh_frame_hdr(header.map_or(0, |section| section.address))
}

fn visit_row<'a, S, T>(
    (section, bytes): (&S, &[u8]),
    bases: &BaseAddresses,
    fde: &FrameDescriptionEntry<Slice<'a>>,
    rva: Rva,
    context: &mut Context,
    visit: impl FnOnce(&Row<'_>, bool) -> T,
) -> Option<T>
where
    S: UnwindSection<Slice<'a>>,
{
    let signal = fde.is_signal_trampoline();
    let row = fde.unwind_info_for_address(section, bases, context, rva.0).ok()?;
    Some(visit(&Row { row, section: bytes }, signal))
}

/// Adds every FDE of a section that can be read. The first damaged entry ends the list, as it hides where the next one begins.
fn list<'a, S>(section: &S, bases: &BaseAddresses, frame: Frame, index: &mut Vec<Entry>)
where
    S: UnwindSection<Slice<'a>>,
{
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        if let CieOrFde::Fde(partial) = entry
            && let Ok(fde) = partial.parse(S::cie_from_offset)
        {
            index.push(Entry { start: fde.initial_address(), end: fde.end_address(), frame, offset: fde.offset() });
        }
    }
}
