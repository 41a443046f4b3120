//! The functions of one unit, and the calls that were inlined into them.
//!
//! The first frame in a unit costs a walk over all its entries, which leaves 16 bytes for each function; a frame after that
//! costs a walk over its function's entries. No parsed tree is kept: addresses come in batches, and the entries of a
//! function are read once for all its addresses of a batch. Nesting is followed by a loop with a depth, never by recursion.

use gimli::{Attribute, AttributeValue, UnitOffset};

use super::DwarfError;
use super::budget::Budget;
use super::ranges::RangeAttributes;
use super::sections::Reader;
use crate::ids::Rva;

/// Functions of one unit: the largest known (a browser by LTO) has 500,000.
const MOST_FUNCTIONS: usize = 4 << 20;
/// Calls inlined into each other at one address. Compilers stop far below.
const DEEPEST_INLINING: usize = 256;
/// Functions looked at for one address: they overlap only in damaged files.
const OVERLAPS: usize = 8;

/// A range of a function's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FunctionRange {
    begin: u64,
    size: u32,
    /// Where its entry lies in the unit.
    entry: u32,
}

/// Lists the functions of a unit that have code, by address.
///
/// # Errors
/// [`DwarfError::Damaged`], [`DwarfError::TooLarge`], [`DwarfError::TooSlow`].
pub(super) fn list_functions(
    unit: gimli::UnitRef<'_, Reader<'_>>,
    budget: &mut Budget,
) -> Result<Box<[FunctionRange]>, DwarfError> {
    let mut functions = Vec::new();
    let mut entries = unit.entries_raw(None)?;
    while !entries.is_empty() {
        budget.step()?;
        let offset = entries.next_offset();
        let Some(abbreviation) = entries.read_abbreviation()? else { continue };
        let attributes = abbreviation.attributes();
        let has_code = abbreviation.tag() == gimli::DW_TAG_subprogram
            && attributes.iter().any(|spec| RangeAttributes::says_where(spec.name()));
        if !has_code {
            entries.skip_attributes(attributes)?;
            continue;
        }
        let entry = u32::try_from(offset.0).map_err(|_| DwarfError::TooLarge)?;
        let mut ranges = RangeAttributes::default();
        for &spec in attributes {
            ranges.take(unit, &entries.read_attribute(spec)?)?;
        }
        ranges.each(unit, budget, |range| {
            let size = u32::try_from(range.end - range.begin).unwrap_or(u32::MAX);
            functions.push(FunctionRange { begin: range.begin, size, entry });
        })?;
        if functions.len() > MOST_FUNCTIONS {
            return Err(DwarfError::TooLarge);
        }
    }
    functions.sort_unstable_by_key(|function| function.begin);
    Ok(functions.into_boxed_slice())
}

/// The entry of the function that an address lies in.
pub(super) fn find_function(functions: &[FunctionRange], rva: Rva) -> Option<UnitOffset> {
    let behind = functions.partition_point(|function| function.begin <= rva.0);
    let mut near = functions[..behind].iter().rev().take(OVERLAPS);
    near.find(|function| rva.0 - function.begin < u64::from(function.size))
        .map(|function| UnitOffset(function.entry as usize))
}

/// A call that was inlined.
#[derive(Clone, Copy, Debug)]
pub(super) struct InlinedCall {
    /// The entry of the call; its `DW_AT_abstract_origin` names the function.
    pub(super) entry: UnitOffset,
    /// The file of the call, as the unit's line table numbers it.
    pub(super) file: Option<u64>,
    /// The line of the call, 0 if unknown.
    pub(super) line: u32,
    depth: isize,
}

/// Finds the calls inlined at each of some sorted addresses of one function, outermost first.
///
/// # Errors
/// [`DwarfError::Damaged`], [`DwarfError::TooSlow`].
pub(super) fn inlined_calls(
    unit: gimli::UnitRef<'_, Reader<'_>>,
    function: UnitOffset,
    addresses: &[u64],
    budget: &mut Budget,
) -> Result<Vec<Vec<InlinedCall>>, DwarfError> {
    let mut chains: Vec<Vec<InlinedCall>> = vec![Vec::new(); addresses.len()];
    let mut entries = unit.entries_raw(Some(function))?;
    let top = entries.next_depth();
    let Some(abbreviation) = entries.read_abbreviation()? else { return Ok(chains) };
    entries.skip_attributes(abbreviation.attributes())?;
    // Entries of a function nested in this one are its own: the depth of that function, while within it.
    let mut nested = isize::MAX;
    while !entries.is_empty() && entries.next_depth() > top {
        budget.step()?;
        let (entry, depth) = (entries.next_offset(), entries.next_depth());
        let Some(abbreviation) = entries.read_abbreviation()? else { continue };
        if depth <= nested {
            nested = if abbreviation.tag() == gimli::DW_TAG_subprogram { depth } else { isize::MAX };
        }
        if abbreviation.tag() != gimli::DW_TAG_inlined_subroutine || nested != isize::MAX {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let mut call = InlinedCall { entry, file: None, line: 0, depth };
        let mut ranges = RangeAttributes::default();
        for &spec in abbreviation.attributes() {
            let attribute = entries.read_attribute(spec)?;
            ranges.take(unit, &attribute)?;
            call.take(unit, &attribute);
        }
        ranges.each(unit, budget, |range| {
            let first = addresses.partition_point(|&address| address < range.begin);
            let last = addresses.partition_point(|&address| address < range.end);
            chains[first..last.max(first)].iter_mut().for_each(|chain| push_call(chain, call));
        })?;
    }
    Ok(chains)
}

/// Adds a call to a chain, if it lies within the chain's last one: entries come in the order of the tree.
fn push_call(chain: &mut Vec<InlinedCall>, call: InlinedCall) {
    let within = chain.last().is_none_or(|outer| outer.depth < call.depth);
    if within && chain.len() < DEEPEST_INLINING {
        chain.push(call);
    }
}

impl InlinedCall {
    fn take<'a>(&mut self, unit: gimli::UnitRef<'_, Reader<'a>>, attribute: &Attribute<Reader<'a>>) {
        match attribute.name() {
            gimli::DW_AT_call_line => {
                self.line = attribute.udata_value().and_then(|line| u32::try_from(line).ok()).unwrap_or(0)
            }
            gimli::DW_AT_call_file => {
                // Up to DWARF 4, file 0 is no file.
                let version = unit.header.version();
                let file = match attribute.value() {
                    AttributeValue::FileIndex(file) => Some(file),
                    value => value.udata_value(),
                };
                self.file = file.filter(|&file| file > 0 || version >= 5);
            }
            _ => {}
        }
    }
}
