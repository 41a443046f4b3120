//! A section of an image, held beside the image: a range of the file, or its decompressed copy.

use std::ops::Range;

use object::{CompressionFormat, Object, ObjectSection};

use crate::process::Image;

/// More than any compiler writes; a damaged header must not take the memory.
const MAX_DECOMPRESSED: u64 = 1 << 30;

/// A section's bytes and address.
pub(super) struct Section {
    bytes: Bytes,
    /// The address of its first byte, as the image gives it.
    pub(super) address: u64,
}

enum Bytes {
    File(Range<usize>),
    Decompressed(Vec<u8>),
}

impl Section {
    /// A section that is there and not empty.
    pub(super) fn open(image: &Image, name: &str) -> Option<Section> {
        let section = image.elf().section_by_name(name)?;
        let stored = section.compressed_file_range().ok()?;
        let bytes = if stored.format == CompressionFormat::None {
            let start = usize::try_from(stored.offset).ok()?;
            let end = start.checked_add(usize::try_from(stored.uncompressed_size).ok()?)?;
            Bytes::File(start..end)
        } else if stored.uncompressed_size > MAX_DECOMPRESSED {
            return None;
        } else {
            Bytes::Decompressed(section.uncompressed_data().ok()?.into_owned())
        };
        let section = Section { bytes, address: section.address() };
        (!section.data(image).is_empty()).then_some(section)
    }

    /// What follows so many bytes, if it lies in the file as it is.
    pub(super) fn from(&self, offset: usize) -> Option<Section> {
        let Bytes::File(range) = &self.bytes else { return None };
        let start = range.start.checked_add(offset).filter(|&start| start < range.end)?;
        Some(Section { bytes: Bytes::File(start..range.end), address: self.address.checked_add(offset as u64)? })
    }

    /// Its bytes. `image` is the one that it was opened of.
    pub(super) fn data<'a>(&'a self, image: &'a Image) -> &'a [u8] {
        match &self.bytes {
            Bytes::File(range) => image.bytes().get(range.clone()).unwrap_or_default(),
            Bytes::Decompressed(bytes) => bytes,
        }
    }
}
