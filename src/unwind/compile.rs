//! Compiles all unwind information of an image into a [`Table`].

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, FrameDescriptionEntry, UnwindContext, UnwindOffset, UnwindSection,
};

use super::cfi::{Cfi, Context};
use super::convert::{Row, Slice};
use super::rule::Rule;
use super::table::{Builder, Rules, Table};
use crate::ids::Rva;

/// Bytes of instructions that are interpreted for each byte of a section. An FDE runs its CIE's instructions (a dozen
/// bytes) before its own; without a bound, one long CIE shared by many short FDEs would take hours.
const WORK_PER_BYTE: usize = 32;

/// The rows of one function, somewhere in the list of all rows.
#[derive(Clone, Copy)]
struct Function {
    start: u32,
    end: u32,
    /// Position in the order of preference and reading: where two functions overlap, the earlier one wins.
    order: u32,
    rows: (u32, u32),
}

impl Table {
    /// Compiles every FDE and Go function of an image: some 25 ms for a megabyte of `.eh_frame`. Also answers how many
    /// entries were damaged or out of place; they are left out.
    #[must_use]
    pub fn compile(cfi: &Cfi) -> (Table, u64) {
        let base = cfi.code().iter().map(|segment| segment.address).min().unwrap_or(0);
        let mut compiler = Compiler { cfi, base, rules: Rules::new(), rows: Vec::new(), functions: Vec::new(), bad: 0 };
        compiler.go();
        if let Some((frame, bytes)) = cfi.eh_frame().zip(cfi.eh_frame_bytes()) {
            compiler.section(&frame, bytes, cfi.bases());
        }
        if let Some((frame, bytes)) = cfi.debug_frame().zip(cfi.debug_frame_bytes()) {
            compiler.section(&frame, bytes, cfi.bases());
        }
        let bad = compiler.bad;
        (compiler.finish(), bad)
    }
}

struct Compiler<'a> {
    cfi: &'a Cfi,
    /// The address that rows count from.
    base: u64,
    rules: Rules,
    rows: Vec<(u32, u16)>,
    functions: Vec<Function>,
    bad: u64,
}

impl Compiler<'_> {
    fn go(&mut self) {
        let Some(table) = self.cfi.go() else { return };
        for function in table.functions().filter(|function| function.is_go()) {
            let first = self.rows.len();
            if first > table.max_rows() {
                self.bad += 1;
                return;
            }
            for (start, rule) in table.rules(&function, self.cfi.abi) {
                self.row(start.0, rule);
            }
            self.function(function.entry.0, function.end.0, first);
        }
    }

    fn section<'d, S: UnwindSection<Slice<'d>>>(&mut self, section: &S, bytes: &'d [u8], bases: &BaseAddresses) {
        let mut context = UnwindContext::new();
        let mut work = bytes.len().saturating_mul(WORK_PER_BYTE);
        let mut cies = Cies(None);
        let mut entries = section.entries(bases);
        loop {
            let partial = match entries.next() {
                Ok(Some(CieOrFde::Fde(partial))) => partial,
                Ok(Some(CieOrFde::Cie(_))) => continue,
                Ok(None) => return,
                // Where the next entry begins is lost with this one.
                Err(_) => break,
            };
            let Ok(fde) = partial.parse(|section: &S, bases, offset| cies.get(section, bases, offset)) else {
                self.bad += 1;
                continue;
            };
            let Some(rest) = work.checked_sub(fde.entry_len() + fde.cie().entry_len()) else { break };
            work = rest;
            // Functions that the linker discarded stay behind at address 0: that is no damage.
            if self.cfi.is_code(fde.initial_address(), fde.end_address()) {
                self.fde(section, bytes, bases, &fde, &mut context);
            }
        }
        self.bad += 1;
    }

    fn fde<'d, S: UnwindSection<Slice<'d>>>(
        &mut self,
        section: &S,
        bytes: &'d [u8],
        bases: &BaseAddresses,
        fde: &FrameDescriptionEntry<Slice<'d>>,
        context: &mut Context,
    ) {
        let first = self.rows.len();
        if fde.is_signal_trampoline() {
            let rule = self.cfi.signal_rule(Rva(fde.initial_address()));
            self.row(fde.initial_address(), rule);
        } else if self.fde_rows(section, bytes, bases, fde, context).is_none() {
            // Some rows may be missing: those that could be read stay, as a look-up of one address would find them.
            self.bad += 1;
        }
        self.function(fde.initial_address(), fde.end_address(), first);
    }

    fn fde_rows<'d, S: UnwindSection<Slice<'d>>>(
        &mut self,
        section: &S,
        bytes: &'d [u8],
        bases: &BaseAddresses,
        fde: &FrameDescriptionEntry<Slice<'d>>,
        context: &mut Context,
    ) -> Option<()> {
        let mut end = fde.initial_address();
        let mut rows = fde.rows(section, bases, context).ok()?;
        let whole = loop {
            match rows.next_row() {
                Ok(Some(row)) if row.start_address() < row.end_address() => {
                    end = row.end_address();
                    self.row(row.start_address(), Row { row, section: bytes }.rule(self.cfi.abi));
                }
                Ok(Some(_)) => {}
                Ok(None) => break Some(()),
                Err(_) => break None,
            }
        };
        if end < fde.end_address() {
            self.row(end, Rule::GAP);
        }
        whole
    }

    fn row(&mut self, address: u64, rule: Rule) {
        if let Ok(address) = u32::try_from(address.wrapping_sub(self.base)) {
            let rule = self.rules.number(rule);
            self.rows.push((address, rule));
        }
    }

    /// The rows from `first` on are those of a function.
    fn function(&mut self, start: u64, end: u64, first: usize) {
        let relative = |address: u64| u32::try_from(address.wrapping_sub(self.base)).ok();
        let range = || Some((u32::try_from(first).ok()?, u32::try_from(self.rows.len()).ok()?));
        match (relative(start), relative(end), range()) {
            (Some(start), Some(end), Some(rows)) => {
                let order = self.functions.len() as u32;
                self.functions.push(Function { start, end, order, rows });
            }
            _ => {
                self.rows.truncate(first);
                self.bad += 1;
            }
        }
    }

    /// Puts the functions in order, with a gap wherever one does not begin where the last one ends.
    fn finish(mut self) -> Table {
        self.functions.sort_unstable_by_key(|function| (function.start, function.order));
        let mut builder = Builder::new(self.base);
        let mut covered = 0;
        for function in &self.functions {
            if function.end <= covered {
                continue;
            }
            if function.start > covered || covered == 0 {
                builder.push(covered, Rules::GAP);
            }
            let mut last = covered.max(function.start);
            for &(address, rule) in &self.rows[function.rows.0 as usize..function.rows.1 as usize] {
                // Rows of hostile instructions may leave the function or run backwards.
                if address < function.end {
                    last = last.max(address);
                    builder.push(last, rule);
                }
            }
            covered = function.end;
        }
        builder.push(covered, Rules::GAP);
        builder.finish(self.rules)
    }
}

/// The CIE that was parsed last: most sections have one for nearly all of their FDEs.
struct Cies<'d>(Option<(usize, CommonInformationEntry<Slice<'d>>)>);

impl<'d> Cies<'d> {
    fn get<S: UnwindSection<Slice<'d>>>(
        &mut self,
        section: &S,
        bases: &BaseAddresses,
        offset: S::Offset,
    ) -> gimli::Result<CommonInformationEntry<Slice<'d>>> {
        let at = UnwindOffset::into(offset);
        match &self.0 {
            Some((known, cie)) if *known == at => Ok(cie.clone()),
            _ => {
                let cie = section.cie_from_offset(bases, offset)?;
                self.0 = Some((at, cie.clone()));
                Ok(cie)
            }
        }
    }
}
