//! DWARF: functions with the calls inlined into them, and lines.
//!
//! Addresses come in sorted batches. For each unit that an address lies in, the batch takes one run of the unit's line
//! program and one walk over the entries of each function hit; nothing parsed is kept but the ranges of units (24 bytes
//! each) and functions (16 bytes each). A parsed tree and line table, as addr2line's context keeps them, would cost more
//! to build than the batch needs, and hundreds of megabytes for a compiler. Recursion over a stranger's tree is avoided
//! throughout.

mod budget;
mod functions;
mod lines;
mod origin;
mod ranges;
mod sections;
mod units;

use std::rc::Rc;
use std::sync::Arc;

use gimli::{DebugInfoOffset, UnitRef};

use self::budget::Budget;
use self::functions::{FunctionRange, InlinedCall, find_function, inlined_calls, list_functions};
use self::lines::{Files, Line};
use self::origin::{Function, Origins, unit_offsets};
use self::sections::{DebugData, Naming, Package, Reader};
use self::units::Units;
use super::debug_files::Finder;
use super::names::Names;
use crate::ids::Rva;
use crate::process::Image;

/// Bytes of units read after which the file's pages are given back, so that a large file is not all in memory at once.
/// Small batches leave them: reading a page again costs more than the frames in it.
const RELEASE_EVERY: u64 = 16 << 20;
/// Units tried for one address.
const MOST_UNITS_TRIED: usize = 4;

/// Why an image has no functions by DWARF.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum DwarfError {
    /// The file has no debug information, and no separate file with it was found.
    #[error("no debug information")]
    Absent,
    /// The DWARF does not parse.
    #[error("damaged debug information: {0}")]
    Damaged(#[from] gimli::Error),
    /// A section of the file cannot be read or decompressed.
    #[error("damaged debug section: {0}")]
    Section(#[from] object::Error),
    /// More functions, or more bytes of compressed sections, than any compiler writes.
    #[error("debug information larger than is read")]
    TooLarge,
    /// It took too long: tables that refer to each other without end.
    #[error("debug information takes too long to read")]
    TooSlow,
}

/// One frame at an address.
#[derive(Clone, Debug, Default)]
pub(super) struct DwarfFrame {
    /// The function, as far as its entry says.
    pub(super) function: Function,
    /// The file of the line.
    pub(super) file: Option<Arc<str>>,
    /// The line, 0 if unknown.
    pub(super) line: u32,
    /// Whether the function was inlined into that of the next frame.
    pub(super) inlined: bool,
}

/// The debug information of one image.
pub(super) struct DebugInfo {
    data: DebugData,
    supplementary: Option<DebugData>,
    package: Option<Package>,
    units: Units,
    /// Bytes of units read since the file's pages were given back.
    read: u64,
}

/// What is needed besides the debug information to name a batch.
pub(super) struct Request<'a> {
    /// Finds the objects of split units.
    pub(super) finder: &'a Finder<'a>,
    /// Whether inlined calls are wanted.
    pub(super) inlined: bool,
    /// Whether files and lines are.
    pub(super) lines: bool,
}

impl DebugInfo {
    /// Reads the list of units of a file with debug information.
    ///
    /// # Errors
    /// Every kind of [`DwarfError`].
    pub(super) fn read(file: &Arc<Image>, image: &Image, finder: &Finder<'_>) -> Result<DebugInfo, DwarfError> {
        let data = DebugData::load(file.clone(), Naming::Plain)?;
        let supplementary = finder.alternate_file(file).and_then(|file| DebugData::load(file, Naming::Plain).ok());
        let package = finder.package(image).or_else(|| finder.package(file)).and_then(|file| Package::load(file).ok());
        let units = Units::read(&data.dwarf(), &mut Budget::new(data.size()))?;
        file.release_pages();
        Ok(DebugInfo { data, supplementary, package, units, read: 0 })
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.units.memory() + self.data.memory() + self.supplementary.as_ref().map_or(0, DebugData::memory)
    }

    /// The frames at each of some sorted addresses, innermost first; none where no unit knows the address.
    ///
    /// # Errors
    /// [`DwarfError::TooSlow`]; damage in a unit only leaves its addresses without frames.
    pub(super) fn frames(
        &mut self,
        rvas: &[Rva],
        request: &Request<'_>,
        names: &mut Names,
    ) -> Result<Vec<Vec<DwarfFrame>>, DwarfError> {
        let mut results = vec![Vec::new(); rvas.len()];
        let DebugInfo { data, supplementary, package, units, read } = self;
        let dwarf = data.dwarf_with(supplementary.as_ref());
        let offsets = units.units.iter().map(|unit| unit.offset).collect();
        let budget = Budget::new(data.size());
        let mut batch = Batch {
            data,
            package: package.as_ref(),
            dwarf: &dwarf,
            origins: Origins::new(&dwarf, offsets),
            budget,
            request,
            names,
            read,
        };
        for turn in 0..MOST_UNITS_TRIED {
            let mut open: Vec<(usize, usize)> = (0..rvas.len())
                .filter(|&at| results[at].is_empty())
                .filter_map(|at| Some((units.covering(rvas[at]).nth(turn)?, at)))
                .collect();
            if open.is_empty() {
                break;
            }
            open.sort_unstable();
            for group in open.chunk_by(|a, b| a.0 == b.0) {
                let addresses: Vec<u64> = group.iter().map(|&(_, at)| rvas[at].0).collect();
                let unit = &mut units.units[group[0].0];
                let named = batch.unit(DebugInfoOffset(unit.offset), &mut unit.functions, &addresses);
                if matches!(named, Err(DwarfError::TooSlow)) {
                    return Err(DwarfError::TooSlow);
                }
                for (&(_, at), frames) in group.iter().zip(named.unwrap_or_default()) {
                    results[at] = frames;
                }
            }
        }
        Ok(results)
    }
}

/// The naming of one batch.
struct Batch<'a, 'n> {
    data: &'a DebugData,
    package: Option<&'a Package>,
    dwarf: &'a gimli::Dwarf<Reader<'a>>,
    origins: Origins<'a>,
    budget: Budget,
    request: &'n Request<'n>,
    names: &'n mut Names,
    read: &'n mut u64,
}

impl<'a> Batch<'a, '_> {
    /// The frames of sorted addresses of one unit.
    fn unit(
        &mut self,
        offset: DebugInfoOffset,
        functions: &mut Option<Box<[FunctionRange]>>,
        addresses: &[u64],
    ) -> Result<Vec<Vec<DwarfFrame>>, DwarfError> {
        self.budget.look()?;
        let unit = Rc::new(self.dwarf.unit(self.dwarf.unit_header(offset)?)?);
        *self.read += unit.header.length_including_self() as u64;
        if *self.read > RELEASE_EVERY {
            *self.read = 0;
            self.data.file().release_pages();
        }
        let unit_ref = UnitRef::new(self.dwarf, &unit);
        let unknown = || vec![None; addresses.len()];
        let lines = match self.request.lines.then(|| lines::lines(unit_ref, addresses, &mut self.budget)) {
            Some(Err(DwarfError::TooSlow)) => return Err(DwarfError::TooSlow),
            asked => asked.and_then(Result::ok).unwrap_or_else(unknown),
        };
        let mut located = Located { addresses, lines, files: Files::new(unit_ref) };
        if unit.dwo_id.is_some() {
            return self.split_unit(&unit, functions, &mut located);
        }
        let (budget, names) = (&mut self.budget, &mut *self.names);
        Walk {
            dwarf: self.dwarf,
            unit: &unit,
            origins: &mut self.origins,
            inlined: self.request.inlined,
            budget,
            names,
        }
        .frames(functions, &mut located)
    }

    /// As [`Batch::unit`], where the unit's functions lie in another file.
    fn split_unit(
        &mut self,
        skeleton: &gimli::Unit<Reader<'a>>,
        functions: &mut Option<Box<[FunctionRange]>>,
        located: &mut Located<'_>,
    ) -> Result<Vec<Vec<DwarfFrame>>, DwarfError> {
        let Some(id) = skeleton.dwo_id else { return Err(DwarfError::Absent) };
        let object = self.split_object(skeleton)?;
        let parent = self.data.dwarf();
        let packaged = self.package.map(|package| package.unit(id, &parent)).transpose().ok().flatten().flatten();
        let own = object.as_ref().filter(|_| packaged.is_none()).map(|object| {
            let mut dwarf = object.dwarf();
            dwarf.make_dwo(&parent);
            dwarf
        });
        let dwarf = packaged.or(own);
        let unit = dwarf.as_ref().and_then(|dwarf| split_unit_of(dwarf, id, skeleton));
        let (Some(dwarf), Some(unit)) = (&dwarf, unit) else {
            // Its names are gone, its lines are here.
            *functions = Some(Box::default());
            return Ok(located.without_functions(self.names));
        };
        let mut origins = Origins::new(dwarf, unit_offsets(dwarf));
        let (budget, names) = (&mut self.budget, &mut *self.names);
        Walk { dwarf, unit: &Rc::new(unit), origins: &mut origins, inlined: self.request.inlined, budget, names }
            .frames(functions, located)
    }

    /// The object file that a skeleton names, if no package holds the unit.
    fn split_object(&self, skeleton: &gimli::Unit<Reader<'a>>) -> Result<Option<DebugData>, DwarfError> {
        if self.package.is_some() {
            return Ok(None);
        }
        let Some(name) = skeleton.dwo_name()? else { return Ok(None) };
        let name = self.dwarf.attr_string(skeleton, name)?;
        let directory = skeleton.comp_dir.map_or(&b""[..], |directory| directory.slice());
        let file = self.request.finder.split_object(self.data.file(), directory, name.slice());
        Ok(file.and_then(|file| DebugData::load(file, Naming::Split).ok()))
    }
}

/// The unit with an id in the sections of a split unit.
fn split_unit_of<'a>(
    dwarf: &gimli::Dwarf<Reader<'a>>,
    id: gimli::DwoId,
    skeleton: &gimli::Unit<Reader<'_>>,
) -> Option<gimli::Unit<Reader<'a>>> {
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        if let Ok(mut unit) = dwarf.unit(header)
            && unit.dwo_id == Some(id)
        {
            unit.low_pc = skeleton.low_pc;
            unit.addr_base = skeleton.addr_base;
            if unit.header.version() < 5 {
                unit.rnglists_base = skeleton.rnglists_base;
            }
            return Some(unit);
        }
    }
    None
}

/// Addresses of a unit with their lines.
struct Located<'a> {
    addresses: &'a [u64],
    lines: Vec<Option<Line>>,
    files: Files<'a>,
}

impl Located<'_> {
    fn place(&mut self, at: usize, names: &mut Names) -> Option<(Option<Arc<str>>, u32)> {
        let line = self.lines.get(at)?.clone()?;
        Some((line.file.and_then(|file| self.files.name(file, names)), line.line))
    }

    fn without_functions(&mut self, names: &mut Names) -> Vec<Vec<DwarfFrame>> {
        (0..self.addresses.len()).map(|at| self.line_alone(at, names)).collect()
    }

    /// The frame of an address that no function covers: its line, if it has one.
    fn line_alone(&mut self, at: usize, names: &mut Names) -> Vec<DwarfFrame> {
        self.place(at, names)
            .map(|(file, line)| DwarfFrame { file, line, ..DwarfFrame::default() })
            .into_iter()
            .collect()
    }
}

/// A walk over the functions of one unit.
struct Walk<'a, 'b> {
    dwarf: &'b gimli::Dwarf<Reader<'a>>,
    unit: &'b Rc<gimli::Unit<Reader<'a>>>,
    origins: &'b mut Origins<'a>,
    inlined: bool,
    budget: &'b mut Budget,
    names: &'b mut Names,
}

impl Walk<'_, '_> {
    fn frames(
        mut self,
        functions: &mut Option<Box<[FunctionRange]>>,
        located: &mut Located<'_>,
    ) -> Result<Vec<Vec<DwarfFrame>>, DwarfError> {
        let unit_ref = UnitRef::new(self.dwarf, self.unit);
        let functions = match functions {
            Some(functions) => functions,
            None => {
                let listed = list_functions(unit_ref, self.budget);
                if listed == Err(DwarfError::TooSlow) {
                    return Err(DwarfError::TooSlow);
                }
                functions.insert(listed.unwrap_or_default())
            }
        };
        let addresses = located.addresses;
        let entries: Vec<_> = addresses.iter().map(|&address| find_function(functions, Rva(address))).collect();
        let mut frames = Vec::with_capacity(addresses.len());
        for group in entries.chunk_by(|a, b| a == b) {
            let range = frames.len()..frames.len() + group.len();
            let Some(entry) = group[0] else {
                frames.extend(range.map(|at| located.line_alone(at, self.names)));
                continue;
            };
            let function = self.origins.function(self.unit, entry, self.names).unwrap_or_default();
            let chains = if self.inlined {
                inlined_calls(unit_ref, entry, &addresses[range.clone()], self.budget)
            } else {
                Ok(Vec::new())
            };
            if matches!(chains, Err(DwarfError::TooSlow)) {
                return Err(DwarfError::TooSlow);
            }
            let mut chains = chains.unwrap_or_default().into_iter();
            for at in range {
                let chain = chains.next().unwrap_or_default();
                frames.push(self.chain(&function, &chain, at, located));
            }
        }
        Ok(frames)
    }

    /// The frames of one address, innermost first: each call's place is where the function around it stands.
    fn chain(
        &mut self,
        function: &Function,
        calls: &[InlinedCall],
        at: usize,
        located: &mut Located<'_>,
    ) -> Vec<DwarfFrame> {
        let mut frames = Vec::with_capacity(calls.len() + 1);
        let (mut file, mut line) = located.place(at, self.names).unwrap_or_default();
        for call in calls.iter().rev() {
            let function = self.origins.function(self.unit, call.entry, self.names).unwrap_or_default();
            frames.push(DwarfFrame { function, file, line, inlined: true });
            file = call.file.and_then(|file| located.files.name(file, self.names));
            line = call.line;
        }
        frames.push(DwarfFrame { function: function.clone(), file, line, inlined: false });
        frames
    }
}
