//! Which unit of a file's debug info covers an address: from `.debug_aranges` where a unit is listed there, and from the
//! unit's own ranges otherwise. A unit with neither holds no code (types or data alone).

use gimli::{DebugInfoOffset, UnitType};
use rustc_hash::FxHashSet;

use super::DwarfError;
use super::budget::Budget;
use super::functions::FunctionRange;
use super::ranges::unit_ranges;
use super::sections::Reader;
use crate::ids::Rva;

/// Ranges of all units together.
const MOST_RANGES: usize = 4 << 20;
/// Ranges looked at for one address: units overlap where a linker kept several copies of a function, seldom more than two.
const OVERLAPS: usize = 32;

/// A range of addresses and the unit that claims it.
#[derive(Clone, Copy, Debug)]
struct UnitRange {
    begin: u64,
    end: u64,
    /// The largest `end` up to and with this one: behind it nothing before can reach.
    reach: u64,
    unit: u32,
}

/// A unit: where it is, and its functions once they were needed.
pub(super) struct Unit {
    /// Where its header lies in `.debug_info`.
    pub(super) offset: usize,
    /// Its functions by address; `None` until a frame lies in it.
    pub(super) functions: Option<Box<[FunctionRange]>>,
}

/// The units of a file, and their ranges by address.
#[derive(Default)]
pub(super) struct Units {
    /// By offset.
    pub(super) units: Vec<Unit>,
    ranges: Vec<UnitRange>,
}

impl Units {
    /// Lists the units of a file.
    ///
    /// # Errors
    /// [`DwarfError::Damaged`] if the headers cannot be followed, [`DwarfError::TooSlow`], [`DwarfError::TooLarge`].
    pub(super) fn read(dwarf: &gimli::Dwarf<Reader<'_>>, budget: &mut Budget) -> Result<Units, DwarfError> {
        let mut list = Units::default();
        let listed = list.read_aranges(dwarf, budget)?;
        let mut headers = dwarf.units();
        while let Some(header) = headers.next()? {
            budget.step()?;
            let Some(DebugInfoOffset(offset)) = header.debug_info_offset() else { continue };
            let index = u32::try_from(list.units.len()).map_err(|_| DwarfError::TooLarge)?;
            list.units.push(Unit { offset, functions: None });
            let code = matches!(header.type_(), UnitType::Compilation | UnitType::Skeleton(_));
            if code && !listed.contains(&offset) {
                budget.look()?;
                // One damaged unit does not hide the others.
                let Ok(unit) = dwarf.unit(header) else { continue };
                let add = |range: gimli::Range| {
                    list.ranges.push(UnitRange { begin: range.begin, end: range.end, reach: 0, unit: index })
                };
                if unit_ranges(dwarf, &unit, budget, add) == Err(DwarfError::TooSlow) {
                    return Err(DwarfError::TooSlow);
                }
            }
            if list.ranges.len() > MOST_RANGES {
                return Err(DwarfError::TooLarge);
            }
        }
        list.finish();
        Ok(list)
    }

    /// Reads `.debug_aranges`; the units are given by their offsets until [`Units::finish`].
    fn read_aranges(
        &mut self,
        dwarf: &gimli::Dwarf<Reader<'_>>,
        budget: &mut Budget,
    ) -> Result<FxHashSet<usize>, DwarfError> {
        let mut listed = FxHashSet::default();
        let mut headers = dwarf.debug_aranges.headers();
        while let Ok(Some(header)) = headers.next() {
            let DebugInfoOffset(offset) = header.debug_info_offset();
            let mut entries = header.entries();
            while let Some(entry) = entries.next().transpose() {
                budget.step()?;
                // An entry that overflows is skipped; the iterator ends by itself at what it cannot skip.
                let Ok(entry) = entry else { continue };
                let range = entry.range();
                if range.begin < range.end && range.begin != 0 && self.ranges.len() < MOST_RANGES {
                    // An offset beyond 4 GB is left to the unit's own ranges.
                    let Ok(unit) = u32::try_from(offset) else { continue };
                    self.ranges.push(UnitRange { begin: range.begin, end: range.end, reach: u64::MAX, unit });
                    listed.insert(offset);
                }
            }
        }
        Ok(listed)
    }

    /// Replaces the offsets of listed units by their indices, and sorts.
    fn finish(&mut self) {
        let units = &self.units;
        self.ranges.retain_mut(|range| {
            if range.reach == u64::MAX {
                let found = units.binary_search_by_key(&(range.unit as usize), |unit| unit.offset);
                let Ok(found) = found else { return false };
                range.unit = u32::try_from(found).unwrap_or(u32::MAX);
            }
            true
        });
        self.ranges.sort_unstable_by_key(|range| (range.begin, range.unit));
        let mut reach = 0;
        for range in &mut self.ranges {
            reach = reach.max(range.end);
            range.reach = reach;
        }
    }

    /// The units that may hold an address, the one whose range begins nearest first.
    pub(super) fn covering(&self, rva: Rva) -> impl Iterator<Item = usize> + '_ {
        let behind = self.ranges.partition_point(|range| range.begin <= rva.0);
        let near = self.ranges[..behind].iter().rev().take(OVERLAPS).take_while(move |range| range.reach > rva.0);
        near.filter(move |range| rva.0 < range.end).map(|range| range.unit as usize)
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let functions = self.units.iter().filter_map(|unit| unit.functions.as_ref());
        let functions: usize = functions.map(|functions| size_of_val(&**functions)).sum();
        functions + self.units.capacity() * size_of::<Unit>() + self.ranges.capacity() * size_of::<UnitRange>()
    }
}
