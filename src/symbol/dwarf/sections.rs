//! The DWARF sections of one file: borrowed from the mapped file, or decompressed.

use std::ops::Range;
use std::sync::Arc;

use gimli::{DwarfPackageSections, DwarfSections, EndianSlice, LittleEndian, Section as _, SectionId};
use object::{CompressionFormat, Object, ObjectSection};

use super::DwarfError;
use crate::process::Image;

/// What gimli reads by. Only little-endian machines are profiled.
pub(super) type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// Bytes that the compressed sections of one file may take: 256 MB holds the compressed debug info of a 1 GB executable, and ends a bomb.
const MOST_DECOMPRESSED: u64 = 256 << 20;

/// The sections by which functions and lines are found.
const NEEDED: [SectionId; 10] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugAranges,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
];

/// Whether a file's sections are named `.debug_info` or `.debug_info.dwo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    Plain,
    Split,
}

/// A section's bytes.
#[derive(Debug)]
pub(super) enum Section {
    InFile(Range<usize>),
    Decompressed(Vec<u8>),
}

/// A file and where its DWARF sections lie.
pub(super) struct DebugData {
    file: Arc<Image>,
    sections: DwarfSections<Section>,
    decompressed: u64,
    size: u64,
}

impl DebugData {
    /// Finds the sections and decompresses those that are compressed.
    ///
    /// # Errors
    /// [`DwarfError::Absent`] without `.debug_info`, [`DwarfError::Damaged`] or [`DwarfError::TooLarge`] by a compressed section.
    pub(super) fn load(file: Arc<Image>, naming: Naming) -> Result<DebugData, DwarfError> {
        if !file.elf().is_little_endian() {
            return Err(DwarfError::Absent);
        }
        let mut loader = Loader { file: &file, naming, all: false, decompressed: 0, size: 0 };
        let sections = DwarfSections::load(|id| loader.section(id))?;
        let (decompressed, size) = (loader.decompressed, loader.size);
        let data = DebugData { file, sections, decompressed, size };
        if data.dwarf().debug_info.reader().is_empty() { Err(DwarfError::Absent) } else { Ok(data) }
    }

    /// The sections as gimli reads them.
    pub(super) fn dwarf(&self) -> gimli::Dwarf<Reader<'_>> {
        self.sections.borrow(|section| self.bytes(section))
    }

    /// The sections with those of the supplementary file of dwz.
    pub(super) fn dwarf_with<'a>(&'a self, supplementary: Option<&'a DebugData>) -> gimli::Dwarf<Reader<'a>> {
        let mut dwarf = self.dwarf();
        if let Some(supplementary) = supplementary {
            dwarf.set_sup(supplementary.dwarf());
        }
        dwarf
    }

    /// The file.
    pub(super) fn file(&self) -> &Arc<Image> {
        &self.file
    }

    /// Bytes of all sections.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of memory that decompressed sections take.
    pub(super) fn memory(&self) -> usize {
        usize::try_from(self.decompressed).unwrap_or(usize::MAX)
    }

    fn bytes<'a>(&'a self, section: &'a Section) -> Reader<'a> {
        section.read(&self.file)
    }
}

impl Section {
    fn read<'a>(&'a self, file: &'a Image) -> Reader<'a> {
        let bytes = match self {
            Section::InFile(range) => file.bytes().get(range.clone()).unwrap_or_default(),
            Section::Decompressed(bytes) => bytes,
        };
        EndianSlice::new(bytes, LittleEndian)
    }
}

/// A `.dwp` file: the split units of a program, found by their ids.
pub(super) struct Package {
    file: Arc<Image>,
    sections: DwarfPackageSections<Section>,
}

impl Package {
    /// Finds the sections.
    ///
    /// # Errors
    /// As [`DebugData::load`].
    pub(super) fn load(file: Arc<Image>) -> Result<Package, DwarfError> {
        let mut loader = Loader { file: &file, naming: Naming::Split, all: true, decompressed: 0, size: 0 };
        let sections = DwarfPackageSections::load(|id| loader.section(id))?;
        Ok(Package { file, sections })
    }

    /// The sections of one unit.
    ///
    /// # Errors
    /// [`DwarfError::Damaged`].
    pub(super) fn unit<'a>(
        &'a self,
        id: gimli::DwoId,
        parent: &gimli::Dwarf<Reader<'a>>,
    ) -> Result<Option<gimli::Dwarf<Reader<'a>>>, DwarfError> {
        let empty = EndianSlice::new(&[], LittleEndian);
        let package = self.sections.borrow(|section| section.read(&self.file), empty)?;
        Ok(package.find_cu(id, parent)?)
    }
}

struct Loader<'a> {
    file: &'a Image,
    naming: Naming,
    /// Whether sections are wanted that no name lies in: a package is refused if a section that its index tells of is absent.
    all: bool,
    decompressed: u64,
    size: u64,
}

impl Loader<'_> {
    fn section(&mut self, id: SectionId) -> Result<Section, DwarfError> {
        let name = match self.naming {
            Naming::Plain => Some(id.name()),
            Naming::Split => id.dwo_name(),
        };
        let section =
            name.filter(|_| self.all || NEEDED.contains(&id)).and_then(|name| self.file.elf().section_by_name(name));
        let Some(section) = section else { return Ok(Section::InFile(0..0)) };
        let place = section.compressed_file_range()?;
        self.size = self.size.saturating_add(place.uncompressed_size);
        if place.format == CompressionFormat::None {
            let start = usize::try_from(place.offset).unwrap_or(usize::MAX);
            let size = usize::try_from(place.uncompressed_size).unwrap_or(usize::MAX);
            return Ok(Section::InFile(start..start.saturating_add(size)));
        }
        self.decompressed = self.decompressed.saturating_add(place.uncompressed_size);
        if self.decompressed > MOST_DECOMPRESSED {
            return Err(DwarfError::TooLarge);
        }
        Ok(Section::Decompressed(section.uncompressed_data()?.into_owned()))
    }
}
