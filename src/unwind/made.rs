//! Unwind information of code that was made at run time, as a jitdump brings it.

use std::collections::BTreeMap;
use std::sync::Arc;

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindContext, UnwindSection};

use super::convert::{Row, Slice};
use super::rule::Rule;
use super::trampoline;
use crate::ids::Address;

/// Rows kept of one piece of code; compilers write some dozen.
const MOST_ROWS: usize = 1 << 12;
/// Pieces of code kept of a process. With more, all are forgotten; those that come later are kept again.
const MOST_PIECES: usize = 1 << 17;

/// A piece of code and how it is unwound.
#[derive(Clone, Debug)]
pub struct MadeCode {
    start: u64,
    end: u64,
    /// From which byte on each rule holds, in their order; none where nothing is known.
    rules: Arc<[(u32, Rule)]>,
}

impl MadeCode {
    /// Reads the `.eh_frame` of a piece of code; empty for none.
    #[must_use]
    pub fn new(start: Address, size: u64, eh_frame: &[u8]) -> MadeCode {
        let rules = rules(size, eh_frame).unwrap_or_default();
        MadeCode { start: start.0, end: start.0.saturating_add(size), rules: rules.into() }
    }

    fn rule(&self, address: u64) -> Option<Rule> {
        let offset = u32::try_from(address - self.start).ok()?;
        let behind = self.rules.partition_point(|&(from, _)| from <= offset);
        self.rules[..behind].last().map(|&(_, rule)| rule)
    }
}

/// The rules of the first entry. Its addresses count from the code's start, whatever it says of that: writers differ in where they
/// imagine the section to lie.
fn rules(size: u64, eh_frame: &[u8]) -> Option<Vec<(u32, Rule)>> {
    let mut section: EhFrame<Slice<'_>> = EhFrame::new(eh_frame, LittleEndian);
    section.set_address_size(8);
    let bases = BaseAddresses::default().set_text(0).set_eh_frame(size.checked_next_multiple_of(8)?);
    let mut entries = section.entries(&bases);
    let fde = loop {
        if let CieOrFde::Fde(partial) = entries.next().ok()?? {
            break partial.parse(EhFrame::cie_from_offset).ok()?;
        }
    };
    let mut context = UnwindContext::new();
    let mut rows = fde.rows(&section, &bases, &mut context).ok()?;
    let mut found = Vec::new();
    while let (Ok(Some(row)), true) = (rows.next_row(), found.len() < MOST_ROWS) {
        let offset = u32::try_from(row.start_address().wrapping_sub(fde.initial_address())).ok()?;
        let rule = Row { row, section: eh_frame }.rule(trampoline::HOST);
        if found.last().is_none_or(|&(last, _)| last <= offset) {
            found.push((offset, rule));
        }
    }
    Some(found)
}

/// The pieces of code of a process, disjoint.
#[derive(Default)]
pub(super) struct Made(BTreeMap<u64, MadeCode>);

impl Made {
    /// Takes code in; what it covers of older code is gone.
    pub(super) fn add(&mut self, code: MadeCode) {
        if self.0.len() >= MOST_PIECES {
            self.0.clear();
        }
        while let Some((&start, _)) = self.0.range(..code.end).next_back().filter(|(_, old)| old.end > code.start) {
            self.0.remove(&start);
        }
        if !code.rules.is_empty() && code.start < code.end {
            self.0.insert(code.start, code);
        }
    }

    /// The rule at an address.
    pub(super) fn rule(&self, address: u64) -> Option<Rule> {
        let (_, code) = self.0.range(..=address).next_back()?;
        if address < code.end { code.rule(address) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::rule::Kind;

    fn code(start: u64, end: u64, cfa: i16) -> MadeCode {
        let rule = Rule { kind: Kind::StackPointer, cfa, fp: 0, ra: -1 };
        MadeCode { start, end, rules: Arc::new([(0, rule)]) }
    }

    #[test]
    fn later_code_replaces_what_it_covers() {
        let mut made = Made::default();
        let at = |made: &Made, address| made.rule(address).map(|rule| rule.cfa);
        made.add(code(0x1000, 0x1100, 1));
        made.add(code(0x1100, 0x1200, 2));
        made.add(code(0x1200, 0x1300, 3));
        assert_eq!(
            [0xfff, 0x1000, 0x10ff, 0x1100, 0x1300].map(|a| at(&made, a)),
            [None, Some(1), Some(1), Some(2), None]
        );
        made.add(code(0x10f0, 0x1110, 4));
        assert_eq!([0x1000, 0x10f0, 0x1110, 0x1200].map(|a| at(&made, a)), [None, Some(4), None, Some(3)]);
        made.add(MadeCode::new(Address(0x10f0), 16, &[]));
        assert_eq!(at(&made, 0x10f0), None);
    }

    #[test]
    fn damaged_information_is_none() {
        for bytes in [&[][..], &[0xff; 40], &[20, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]] {
            assert!(MadeCode::new(Address(0x1000), u64::MAX, bytes).rules.is_empty());
        }
    }
}
