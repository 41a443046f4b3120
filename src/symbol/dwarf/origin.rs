//! The name of a function's entry: on the entry itself, or on the entries that its `DW_AT_abstract_origin` and
//! `DW_AT_specification` lead to, which may lie in another unit or in the supplementary file of dwz.

use std::rc::Rc;

use gimli::{AttributeValue, DebugInfoOffset, UnitOffset, UnitRef};
use rustc_hash::FxHashMap;

use super::DwarfError;
use super::sections::Reader;
use crate::symbol::names::{Name, Names};

/// References followed from an entry. Three occur (call, abstract function, declaration); a loop ends here.
const MOST_REFERENCES: usize = 16;
/// Units kept parsed because entries of other units refer to them; each takes some 10 KB.
const MOST_UNITS: usize = 64;

/// What is known of a function apart from its addresses.
#[derive(Clone, Debug, Default)]
pub(in crate::symbol) struct Function {
    /// Its names.
    pub(in crate::symbol) name: Option<Name>,
    /// Whether the name is the linker's, not just the last part of one in the language.
    pub(in crate::symbol) linkage: bool,
    /// The line of its declaration, 0 if unknown.
    pub(in crate::symbol) start_line: u32,
}

/// Which of the files that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    /// The file itself, or for a split unit its object.
    Own,
    /// The supplementary file of dwz.
    Supplementary,
}

type Unit<'a> = Rc<gimli::Unit<Reader<'a>>>;

/// The functions named so far in one batch; for a split unit, in its object.
pub(super) struct Origins<'a> {
    dwarf: &'a gimli::Dwarf<Reader<'a>>,
    /// Offsets of the units of the file and of its supplementary file, sorted.
    own: Vec<usize>,
    supplementary: Vec<usize>,
    units: FxHashMap<(Part, usize), Unit<'a>>,
    functions: FxHashMap<(Part, usize), Function>,
}

/// Where an entry is.
struct Place<'a> {
    part: Part,
    unit: Unit<'a>,
    entry: UnitOffset,
}

impl<'a> Origins<'a> {
    /// Nothing named yet. `units` are the offsets of the file's units.
    pub(super) fn new(dwarf: &'a gimli::Dwarf<Reader<'a>>, units: Vec<usize>) -> Origins<'a> {
        let supplementary = dwarf.sup().map(unit_offsets).unwrap_or_default();
        Origins { dwarf, own: units, supplementary, units: FxHashMap::default(), functions: FxHashMap::default() }
    }

    /// What is known of the function of an entry: a function, or a call that was inlined.
    ///
    /// # Errors
    /// [`DwarfError::Damaged`].
    pub(super) fn function(
        &mut self,
        unit: &Unit<'a>,
        entry: UnitOffset,
        names: &mut Names,
    ) -> Result<Function, DwarfError> {
        let mut found = Found::default();
        let mut place = Place { part: Part::Own, unit: unit.clone(), entry };
        let mut first = None;
        for step in 0..MOST_REFERENCES {
            // The entry of a call is met once; what it refers to, from many calls.
            let key = (
                place.part,
                place.unit.header.debug_info_offset().map_or(0, |offset| offset.0).saturating_add(place.entry.0),
            );
            if step == 1 {
                if let Some(known) = self.functions.get(&key) {
                    return Ok(known.clone());
                }
                first = Some(key);
            }
            let Some(next) = self.read(&place, &mut found)? else { break };
            let Some(next) = self.follow(&place, next)? else { break };
            place = next;
        }
        let function = found.function(names);
        // What was found is all the referred entry's only if the entry itself said nothing.
        if let Some(key) = first.filter(|_| !found.own) {
            self.functions.insert(key, function.clone());
        }
        Ok(function)
    }

    /// Reads what an entry says; the reference to follow, if more may be known there.
    fn read(&self, place: &Place<'a>, found: &mut Found<'a>) -> Result<Option<AttributeValue<Reader<'a>>>, DwarfError> {
        let dwarf = self.dwarf_of(place.part)?;
        let unit = UnitRef::new(dwarf, &place.unit);
        let mut entries = unit.entries_raw(Some(place.entry))?;
        let Some(abbreviation) = entries.read_abbreviation()? else { return Ok(None) };
        let mut next = None;
        for &spec in abbreviation.attributes() {
            let attribute = entries.read_attribute(spec)?;
            match attribute.name() {
                gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => {
                    found.linkage = unit.attr_string(attribute.value()).ok()
                }
                gimli::DW_AT_name if found.name.is_none() => found.name = unit.attr_string(attribute.value()).ok(),
                gimli::DW_AT_decl_line if found.line == 0 => {
                    found.line = attribute.udata_value().and_then(|line| u32::try_from(line).ok()).unwrap_or(0);
                }
                gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => next = Some(attribute.value()),
                _ => {}
            }
        }
        found.own |= !found.read && (found.name.is_some() || found.linkage.is_some() || found.line != 0);
        found.read = true;
        Ok(next.filter(|_| found.linkage.is_none()))
    }

    fn follow(
        &mut self,
        place: &Place<'a>,
        reference: AttributeValue<Reader<'a>>,
    ) -> Result<Option<Place<'a>>, DwarfError> {
        match reference {
            AttributeValue::UnitRef(entry) => Ok(Some(Place { part: place.part, unit: place.unit.clone(), entry })),
            AttributeValue::DebugInfoRef(offset) => self.place(place.part, offset),
            AttributeValue::DebugInfoRefSup(offset) => self.place(Part::Supplementary, offset),
            _ => Ok(None),
        }
    }

    /// The entry at an offset of `.debug_info`.
    fn place(&mut self, part: Part, offset: DebugInfoOffset) -> Result<Option<Place<'a>>, DwarfError> {
        let offsets = match part {
            Part::Own => &self.own,
            Part::Supplementary => &self.supplementary,
        };
        let Some(start) = offsets.partition_point(|&start| start <= offset.0).checked_sub(1).map(|at| offsets[at])
        else {
            return Ok(None);
        };
        let unit = self.unit(part, start)?;
        let entry = offset.to_unit_offset(&unit.header);
        Ok(entry.map(|entry| Place { part, unit, entry }))
    }

    fn unit(&mut self, part: Part, start: usize) -> Result<Unit<'a>, DwarfError> {
        if let Some(unit) = self.units.get(&(part, start)) {
            return Ok(unit.clone());
        }
        let dwarf = self.dwarf_of(part)?;
        let unit = Rc::new(dwarf.unit(dwarf.unit_header(DebugInfoOffset(start))?)?);
        if self.units.len() >= MOST_UNITS {
            self.units.clear();
        }
        self.units.insert((part, start), unit.clone());
        Ok(unit)
    }

    fn dwarf_of(&self, part: Part) -> Result<&'a gimli::Dwarf<Reader<'a>>, DwarfError> {
        match part {
            Part::Own => Ok(self.dwarf),
            Part::Supplementary => self.dwarf.sup().ok_or(DwarfError::Absent),
        }
    }
}

/// What the entries said so far.
#[derive(Default)]
struct Found<'a> {
    linkage: Option<Reader<'a>>,
    name: Option<Reader<'a>>,
    line: u32,
    read: bool,
    own: bool,
}

impl Found<'_> {
    fn function(&self, names: &mut Names) -> Function {
        let name = self.linkage.or(self.name).filter(|name| !name.is_empty());
        Function {
            name: name.map(|name| names.function(name.slice())),
            linkage: self.linkage.is_some(),
            start_line: self.line,
        }
    }
}

/// Where the units of a file begin.
pub(super) fn unit_offsets(dwarf: &gimli::Dwarf<Reader<'_>>) -> Vec<usize> {
    let mut offsets = Vec::new();
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        offsets.extend(header.debug_info_offset().map(|offset| offset.0));
    }
    offsets
}
