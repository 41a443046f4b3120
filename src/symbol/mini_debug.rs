//! `.gnu_debugdata` ("minidebuginfo", Fedora): an xz-compressed ELF file within the ELF file, that holds the `.symtab` of
//! the functions that `.dynsym` lacks.

use std::io::Read;
use std::sync::Arc;

use liblzma::read::XzDecoder;
use liblzma::stream::Stream;

use crate::process::Image;

/// Bytes that it may unpack to: the largest seen (a browser's) is 30 MB. Expansion by xz knows no bound of its own.
const MOST_UNPACKED: u64 = 64 << 20;
/// Bytes that the decoder may take; presets up to -9 need 65 MB, and what rpm writes 9 MB.
const DECODER_MEMORY: u64 = 72 << 20;

/// The file in an image's `.gnu_debugdata`, if there is one and it is sound.
pub(super) fn read(image: &Image) -> Option<Arc<Image>> {
    let packed = image.section(".gnu_debugdata")?;
    let decoder = Stream::new_stream_decoder(DECODER_MEMORY, 0).ok()?;
    let mut unpacked = Vec::new();
    let mut reader = XzDecoder::new_stream(&packed[..], decoder).take(MOST_UNPACKED + 1);
    reader.read_to_end(&mut unpacked).ok()?;
    if unpacked.len() as u64 > MOST_UNPACKED {
        return None;
    }
    Image::from_bytes(image.id(), image.name(), unpacked).ok()
}
