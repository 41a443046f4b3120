//! The table of an image: which rule holds at which address.
//!
//! The image's code is cut into pages of a power of two. A page has its rows side by side, and its first row says what
//! holds where the page begins, so that a look-up reads one number of the page index, one or two cache lines of rows, and
//! the rule: there is nothing to search backwards for. Within a page (at most 64 KiB) a row needs 16 bits for its address,
//! and 16 more for the number of its rule: an image has some hundreds of distinct ones.
//!
//! Rejected: an array of 32-bit addresses beside one of rule numbers (6 bytes a row, one more cache line a look-up), and
//! rules in the rows (12 bytes a row).

use rustc_hash::FxHashMap;

use super::rule::Rule;
use crate::ids::Rva;

/// A row: the rule from an address on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    /// The address within the page.
    low: u16,
    /// The rule's number.
    rule: u16,
}

/// Bytes of code in a page, as a power of two, and how many rows a page should hold: 16 rows are one cache line.
const SHIFTS: std::ops::RangeInclusive<u32> = 6..=16;
const ROWS_PER_PAGE: usize = 12;

/// The compiled unwind information of an image.
pub struct Table {
    /// The address of the first page.
    base: u64,
    shift: u32,
    /// Where each page's rows begin, and the end of the last one's.
    pages: Box<[u32]>,
    rows: Box<[Row]>,
    rules: Box<[Rule]>,
}

impl Table {
    /// The rule that holds at an address; [`Rule::GAP`] where none was written down.
    #[must_use]
    #[inline]
    pub fn rule(&self, rva: Rva) -> Rule {
        self.find(rva).unwrap_or(Rule::GAP)
    }

    #[inline]
    fn find(&self, rva: Rva) -> Option<Rule> {
        let offset = rva.0.wrapping_sub(self.base);
        let page = usize::try_from(offset >> self.shift).ok()?;
        let &[first, end] = self.pages.get(page..)?.first_chunk()?;
        let rows = self.rows.get(first as usize..end as usize)?;
        let low = (offset & ((1 << self.shift) - 1)) as u16;
        let behind = rows.partition_point(|row| row.low <= low);
        let row = rows.get(behind.checked_sub(1)?)?;
        self.rules.get(usize::from(row.rule)).copied()
    }

    /// Rows, over all pages.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Distinct rules.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of_val(&*self.pages) + size_of_val(&*self.rows) + size_of_val(&*self.rules)
    }
}

/// Takes the rows of an image in the order of their addresses.
pub(super) struct Builder {
    base: u64,
    rows: Vec<(u32, u16)>,
}

impl Builder {
    /// `base` is the lowest address that has code.
    pub(super) fn new(base: u64) -> Builder {
        Builder { base, rows: Vec::new() }
    }

    /// From this address on, `rule` holds. Addresses must not decrease; the last of those with the same address counts.
    pub(super) fn push(&mut self, address: u32, rule: u16) {
        if let Some(last) = self.rows.last_mut().filter(|last| last.0 == address) {
            last.1 = rule;
        } else if self.rows.last().is_none_or(|last| last.1 != rule) {
            self.rows.push((address, rule));
        }
    }

    /// Cuts the rows into pages. `rules` are those that the rows number; `gap` is the number of [`Rule::GAP`].
    pub(super) fn finish(self, rules: Rules) -> Table {
        let span = self.rows.last().map_or(0, |last| last.0) as usize + 1;
        let wanted = ROWS_PER_PAGE * span / self.rows.len().max(1);
        let shift = wanted.max(1).ilog2().clamp(*SHIFTS.start(), *SHIFTS.end());
        let mut pages = Vec::with_capacity((span >> shift) + 2);
        let mut rows = Vec::with_capacity(self.rows.len() + (span >> shift) + 1);
        let mut current = Rules::GAP;
        let mut next = self.rows.iter().peekable();
        for page in 0..=((span - 1) >> shift) as u32 {
            pages.push(rows.len() as u32);
            rows.push(Row { low: 0, rule: current });
            while let Some(&(address, rule)) = next.next_if(|row| row.0 >> shift == page) {
                current = rule;
                let low = (address & ((1 << shift) - 1)) as u16;
                if low == 0 {
                    rows.pop();
                }
                rows.push(Row { low, rule });
            }
        }
        pages.push(rows.len() as u32);
        Table { base: self.base, shift, pages: pages.into(), rows: rows.into(), rules: rules.rules.into() }
    }
}

/// Numbers distinct rules.
pub(super) struct Rules {
    rules: Vec<Rule>,
    numbers: FxHashMap<Rule, u16>,
}

impl Rules {
    /// The number of [`Rule::GAP`].
    pub(super) const GAP: u16 = 0;
    /// The number of [`Rule::INTERPRET`].
    const INTERPRET: u16 = 1;

    pub(super) fn new() -> Rules {
        let rules = vec![Rule::GAP, Rule::INTERPRET];
        let numbers = [(Rule::GAP, Rules::GAP), (Rule::INTERPRET, Rules::INTERPRET)];
        Rules { rules, numbers: numbers.into_iter().collect() }
    }

    /// The number of a rule. An image that has more rules than there are numbers has the rest interpreted.
    pub(super) fn number(&mut self, rule: Rule) -> u16 {
        let rules = &mut self.rules;
        let Ok(next) = u16::try_from(rules.len()) else {
            return self.numbers.get(&rule).copied().unwrap_or(Rules::INTERPRET);
        };
        *self.numbers.entry(rule).or_insert_with(|| {
            rules.push(rule);
            next
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::rule::Kind;

    fn rule(cfa: i16) -> Rule {
        Rule { kind: Kind::StackPointer, cfa, fp: 0, ra: -1 }
    }

    fn table(rows: &[(u32, i16)]) -> Table {
        let mut rules = Rules::new();
        let mut builder = Builder::new(0x1000);
        for &(address, cfa) in rows {
            let number = rules.number(rule(cfa));
            builder.push(address, number);
        }
        builder.finish(rules)
    }

    #[test]
    fn a_row_stays_small() {
        // A library of 150 MB has 2.6 million rows.
        assert_eq!(size_of::<Row>(), 4);
    }

    #[test]
    fn each_address_has_the_rule_of_the_row_before_it() {
        let rows = [(0, 1), (1, 2), (63, 3), (64, 4), (65, 5), (1000, 6), (70_000, 7), (200_000, 8)];
        let table = table(&rows);
        for pair in rows.windows(2) {
            for address in [pair[0].0, pair[1].0 - 1] {
                assert_eq!(table.rule(Rva(0x1000 + u64::from(address))), rule(pair[0].1), "{address}");
            }
        }
        assert_eq!(table.rule(Rva(0xfff)), Rule::GAP);
        assert_eq!(table.rule(Rva(0x1000 + 200_000)), rule(8));
        assert_eq!(table.rule(Rva(0x1000 + 400_000)), Rule::GAP);
        assert_eq!(table.rule(Rva(u64::MAX)), Rule::GAP);
    }

    #[test]
    fn nothing_compiles_to_gaps() {
        assert_eq!(table(&[]).rule(Rva(0x1000)), Rule::GAP);
    }

    #[test]
    fn more_rules_than_numbers_are_interpreted() {
        let mut rules = Rules::new();
        for cfa in i16::MIN..=i16::MAX {
            rules.number(rule(cfa));
        }
        assert_eq!(rules.number(Rule { kind: Kind::Plt, ..rule(1) }), Rules::INTERPRET);
        assert_ne!(rules.number(rule(1)), Rules::INTERPRET);
    }
}
