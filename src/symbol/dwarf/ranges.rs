//! The addresses of an entry: `DW_AT_ranges`, or `DW_AT_low_pc` with `DW_AT_high_pc` (an address, or a size).

use gimli::{Attribute, AttributeValue, DwAt, RangeListsOffset};

use super::DwarfError;
use super::budget::Budget;
use super::sections::Reader;

/// The attributes that give an entry's addresses, as they are met.
#[derive(Default)]
pub(super) struct RangeAttributes {
    low: Option<u64>,
    high: Option<u64>,
    size: Option<u64>,
    list: Option<RangeListsOffset<usize>>,
}

impl RangeAttributes {
    /// Whether an attribute says that its entry has addresses.
    pub(super) fn says_where(name: DwAt) -> bool {
        name == gimli::DW_AT_low_pc || name == gimli::DW_AT_ranges
    }

    /// Takes an attribute, if it is one of these.
    pub(super) fn take<'a>(
        &mut self,
        unit: gimli::UnitRef<'_, Reader<'a>>,
        attribute: &Attribute<Reader<'a>>,
    ) -> Result<(), DwarfError> {
        match attribute.name() {
            gimli::DW_AT_low_pc => self.low = unit.attr_address(attribute.value())?,
            gimli::DW_AT_high_pc => match attribute.value() {
                AttributeValue::Udata(size) => self.size = Some(size),
                value => self.high = unit.attr_address(value)?,
            },
            gimli::DW_AT_ranges => self.list = unit.attr_ranges_offset(attribute.value())?,
            _ => {}
        }
        Ok(())
    }

    /// Hands over every range that is not empty. Functions that a linker dropped lie at 0 or close to the last address
    /// (`DW_AT_low_pc` 0, -1, -2): no code lies there.
    pub(super) fn each(
        &self,
        unit: gimli::UnitRef<'_, Reader<'_>>,
        budget: &mut Budget,
        mut add: impl FnMut(gimli::Range),
    ) -> Result<(), DwarfError> {
        let mut add = |range: gimli::Range| {
            if range.begin < range.end && range.begin != 0 {
                add(range);
            }
        };
        if let Some(list) = self.list {
            let mut ranges = unit.ranges(list)?;
            while let Some(range) = ranges.next()? {
                budget.step()?;
                add(range);
            }
        } else if let Some(begin) = self.low {
            let end = self.high.or_else(|| begin.checked_add(self.size?));
            add(gimli::Range { begin, end: end.unwrap_or(0) });
        }
        Ok(())
    }
}

/// The ranges that a unit gives itself.
pub(super) fn unit_ranges(
    dwarf: &gimli::Dwarf<Reader<'_>>,
    unit: &gimli::Unit<Reader<'_>>,
    budget: &mut Budget,
    add: impl FnMut(gimli::Range),
) -> Result<(), DwarfError> {
    let unit_ref = unit.unit_ref(dwarf);
    let mut entries = unit.entries_raw(None)?;
    let Some(root) = entries.read_abbreviation()? else { return Ok(()) };
    let mut ranges = RangeAttributes::default();
    for &spec in root.attributes() {
        ranges.take(unit_ref, &entries.read_attribute(spec)?)?;
    }
    ranges.each(unit_ref, budget, add)
}
