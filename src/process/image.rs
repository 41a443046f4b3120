//! Images: ELF files held open from the moment they are mapped, so that they keep their names when the file is
//! deleted or replaced, the container is gone, or the process has ended.

use std::borrow::Cow;
use std::fs::File;
use std::sync::Arc;

use memmap2::Mmap;
use object::elf::PF_X;
use object::{Object, ObjectSection, ObjectSegment, SegmentFlags};
use ouroboros::self_referencing;

use crate::ids::{Architecture, BuildId, ImageId, Rva};
use crate::sys;

/// Why an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No way led to the file: it was deleted, or its process ended before it could be opened.
    #[error("cannot open {name}: {source}")]
    Open {
        /// The path as the process saw it.
        name: String,
        /// What the last way that was tried answered.
        source: std::io::Error,
    },
    /// A file was there, but another one than the process had mapped.
    #[error("{name} was replaced since it was mapped")]
    Replaced {
        /// The path as the process saw it.
        name: String,
    },
    /// Not an ELF file, or a damaged one.
    #[error("{name} is not a readable ELF file: {source}")]
    Elf {
        /// The path as the process saw it.
        name: String,
        /// What the parser met.
        source: object::Error,
    },
}

impl ImageError {
    /// Whether a privilege would have opened it.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, ImageError::Open { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
    }
}

/// The bytes of an image: a mapped file, or a copy of code that lies in no file (vDSO).
enum Bytes {
    Mapped(Mmap),
    Copied(Vec<u8>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Copied(bytes) => bytes,
        }
    }
}

#[self_referencing]
struct Elf {
    bytes: Bytes,
    #[borrows(bytes)]
    #[covariant]
    file: object::File<'this>,
}

/// A `PT_LOAD` segment: where a range of the file lies among the file's own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
    /// Address of the first byte.
    pub address: u64,
    /// Whether it holds code (`PF_X`).
    pub executable: bool,
}

/// One ELF file, open and parsed. Immutable; what is derived from it lies with the station that derives it.
pub struct Image {
    id: ImageId,
    name: String,
    build_id: Option<BuildId>,
    architecture: Option<Architecture>,
    segments: Vec<Segment>,
    elf: Elf,
}

impl Image {
    /// Maps and parses an open file. `name` is the path as the process saw it.
    ///
    /// # Errors
    /// [`ImageError::Open`] if it cannot be mapped, [`ImageError::Elf`] if it is no ELF file.
    pub fn from_file(id: ImageId, name: &str, file: &File) -> Result<Arc<Image>, ImageError> {
        let map = sys::map_file(file).map_err(|source| ImageError::Open { name: name.into(), source })?;
        Image::parse(id, name, Bytes::Mapped(map))
    }

    /// Parses an ELF file that lies in memory.
    ///
    /// # Errors
    /// [`ImageError::Elf`] if it is none.
    pub fn from_bytes(id: ImageId, name: &str, bytes: Vec<u8>) -> Result<Arc<Image>, ImageError> {
        Image::parse(id, name, Bytes::Copied(bytes))
    }

    fn parse(id: ImageId, name: &str, bytes: Bytes) -> Result<Arc<Image>, ImageError> {
        let elf = Elf::try_new(bytes, |bytes| object::File::parse(bytes.as_slice()))
            .map_err(|source| ImageError::Elf { name: name.into(), source })?;
        let file = elf.borrow_file();
        let build_id = file.build_id().ok().flatten().and_then(BuildId::new);
        let architecture = match file.architecture() {
            object::Architecture::X86_64 => Some(Architecture::X86_64),
            object::Architecture::Aarch64 if file.is_little_endian() => Some(Architecture::Aarch64),
            _ => None,
        };
        let segments = file
            .segments()
            .map(|segment| {
                let (offset, size) = segment.file_range();
                let executable = matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. } if p_flags.contains(PF_X));
                Segment { offset, size, address: segment.address(), executable }
            })
            .collect();
        Ok(Arc::new(Image { id, name: name.into(), build_id, architecture, segments, elf }))
    }

    /// Its index in the table of images.
    #[must_use]
    pub fn id(&self) -> ImageId {
        self.id
    }

    /// The path as the first process that mapped it saw it, or a name in brackets (`[vdso]`).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The GNU build ID, if the linker wrote one.
    #[must_use]
    pub fn build_id(&self) -> Option<&BuildId> {
        self.build_id.as_ref()
    }

    /// The instruction set, if it is one whose stacks can be walked.
    #[must_use]
    pub fn architecture(&self) -> Option<Architecture> {
        self.architecture
    }

    /// The `PT_LOAD` segments, in file order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The parsed file.
    #[must_use]
    pub fn elf(&self) -> &object::File<'_> {
        self.elf.borrow_file()
    }

    /// The whole file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.elf.borrow_bytes().as_slice()
    }

    /// Gives back the memory of a file that was read from end to end; what is needed again is read again.
    pub fn release_pages(&self) {
        if let Bytes::Mapped(map) = self.elf.borrow_bytes() {
            sys::release_pages(map);
        }
    }

    /// A section's bytes, decompressed where they were compressed; `None` if it is absent, empty or damaged.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let section = self.elf().section_by_name(name)?;
        let data = section.uncompressed_data().ok()?;
        (!data.is_empty()).then_some(data)
    }

    /// The address of a section, where the image is to be loaded by its own addresses.
    #[must_use]
    pub fn section_address(&self, name: &str) -> Option<Rva> {
        self.elf().section_by_name(name).map(|section| Rva(section.address()))
    }

    /// The address of a byte of the file. Segments overlap in the file where the linker rounds them to pages: code wins.
    #[must_use]
    pub fn rva_of_offset(&self, offset: u64) -> Option<Rva> {
        let holds = |segment: &&Segment| {
            offset >= page_floor(segment.offset) && offset < segment.offset.saturating_add(segment.size)
        };
        let executable = self.segments.iter().filter(|segment| segment.executable).find(holds);
        let segment = executable.or_else(|| self.segments.iter().find(holds))?;
        Some(Rva(segment.address.wrapping_add(offset).wrapping_sub(segment.offset)))
    }
}

/// A mapping starts at a page; a segment may start within it.
fn page_floor(offset: u64) -> u64 {
    offset & !(sys::page_size() - 1)
}
