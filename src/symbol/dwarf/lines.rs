//! File and line of addresses. A unit's line program is run once for all addresses of a batch, and of its rows only those
//! are looked at that an address lies behind: nothing is stored or sorted.

use std::sync::Arc;

use gimli::{LineProgramHeader, UnitRef};
use rustc_hash::FxHashMap;

use super::DwarfError;
use super::budget::Budget;
use super::sections::Reader;
use crate::symbol::names::Names;

/// Bytes of a path.
const LONGEST_PATH: usize = 4096;

/// A place in a source file.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// The file, as the line table numbers it.
    pub(super) file: Option<u64>,
    /// The line; 0 if the compiler gave none.
    pub(super) line: u32,
}

/// Finds the lines of sorted addresses.
///
/// # Errors
/// [`DwarfError::Damaged`], [`DwarfError::TooSlow`].
pub(super) fn lines(
    unit: UnitRef<'_, Reader<'_>>,
    addresses: &[u64],
    budget: &mut Budget,
) -> Result<Vec<Option<Line>>, DwarfError> {
    let mut found = vec![None; addresses.len()];
    let (Some(program), Some(&first), Some(&last)) = (unit.line_program.clone(), addresses.first(), addresses.last())
    else {
        return Ok(found);
    };
    let mut rows = program.rows();
    let mut before: Option<(u64, Line)> = None;
    while let Some((_, row)) = rows.next_row()? {
        budget.step()?;
        let address = row.address();
        // The row before covers up to this one.
        if let Some((start, line)) = &before
            && *start <= last
            && address > first
        {
            let from = addresses.partition_point(|address| address < start);
            let covered = addresses[from..].iter().take_while(|&&covered| covered < address).count();
            for place in found[from..from + covered].iter_mut().filter(|place| place.is_none()) {
                *place = Some(line.clone());
            }
        }
        let line = row.line().map_or(0, |line| u32::try_from(line.get()).unwrap_or(0));
        before = (!row.end_sequence()).then(|| (address, Line { file: Some(row.file_index()), line }));
    }
    Ok(found)
}

/// The files of a unit's line table, each named once.
pub(super) struct Files<'a> {
    unit: UnitRef<'a, Reader<'a>>,
    header: Option<LineProgramHeader<Reader<'a>>>,
    named: FxHashMap<u64, Option<Arc<str>>>,
}

impl<'a> Files<'a> {
    /// The files of a unit.
    pub(super) fn new(unit: UnitRef<'a, Reader<'a>>) -> Files<'a> {
        let header = unit.line_program.as_ref().map(|program| program.header().clone());
        Files { unit, header, named: FxHashMap::default() }
    }

    /// The path of a file, absolute where the compiler wrote its directory.
    pub(super) fn name(&mut self, index: u64, names: &mut Names) -> Option<Arc<str>> {
        if let Some(name) = self.named.get(&index) {
            return name.clone();
        }
        let name = self.path(index).map(|path| names.string(&path));
        self.named.insert(index, name.clone());
        name
    }

    fn path(&self, index: u64) -> Option<String> {
        let header = self.header.as_ref()?;
        let file = header.file(index)?;
        let mut path = self.unit.comp_dir.map(|directory| directory.to_string_lossy().into_owned()).unwrap_or_default();
        // Directory 0 is the one that the compiler ran in.
        if file.directory_index() != 0
            && let Some(directory) = file.directory(header)
        {
            join(&mut path, &self.unit.attr_string(directory).ok()?.to_string_lossy());
        }
        join(&mut path, &self.unit.attr_string(file.path_name()).ok()?.to_string_lossy());
        (path.len() <= LONGEST_PATH).then_some(path)
    }
}

fn join(path: &mut String, part: &str) {
    if part.starts_with('/') {
        path.clear();
    } else if !path.is_empty() && !path.ends_with('/') {
        path.push('/');
    }
    path.push_str(part);
}
