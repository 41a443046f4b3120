//! The kernel's interfaces, and all of the crate's `unsafe` code.

use std::fs::File;
use std::io;
use std::sync::OnceLock;

use memmap2::{Mmap, UncheckedAdvice};

mod open;

pub use open::open_regular;

/// Bytes of a page of memory.
#[must_use]
pub fn page_size() -> u64 {
    static SIZE: OnceLock<u64> = OnceLock::new();
    *SIZE.get_or_init(|| {
        nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().map_or(4096, |s| s as u64)
    })
}

/// Maps a whole file for reading.
///
/// # Errors
/// What `mmap` answers; an empty file cannot be mapped.
pub fn map_file(file: &File) -> io::Result<Mmap> {
    // SAFETY: another process may change or truncate the file. The parsers treat every byte as hostile and read each value once.
    unsafe { Mmap::map(file) }
}

/// Gives the memory of a mapped file back; its pages are read again from the file (mostly the page cache) when next used.
pub fn release_pages(map: &Mmap) {
    // SAFETY: the mapping is of a file, shared and never written, so that dropped pages come back with the file's bytes.
    // An answer of the kernel that it cannot only means that the memory stays in use.
    let _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
}
