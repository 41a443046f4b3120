//! Ring buffers: where the kernel writes an event's records, `perf_event_open(2)` section "MMAP layout".

use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use super::page_size;
use super::perf_event::{EventFd, abi};

/// Bytes of `struct perf_event_header { u32 type; u16 misc; u16 size; }`.
const HEADER: usize = 8;

/// A mapped ring, and how far it has been read. The kernel writes at `data_head` and never past `data_tail`, which we
/// move only when no record before it is borrowed any more.
pub struct Ring {
    map: MmapRaw,
    data_offset: usize,
    data_size: usize,
    /// What has been passed, at or ahead of `data_tail`.
    position: u64,
    /// `data_head` as last seen.
    head: u64,
    /// A record that wraps around the buffer's end is put together here.
    wrapped: Vec<u8>,
}

impl Ring {
    /// Maps a ring of `pages` pages (a power of two) on an event.
    ///
    /// # Errors
    /// `EPERM` where the locked-memory limit (`perf_event_mlock_kb`, `RLIMIT_MEMLOCK`) does not allow as many.
    pub fn map(event: &EventFd, pages: usize) -> io::Result<Ring> {
        let page = page_size() as usize;
        let map = MmapOptions::new().len((pages + 1) * page).map_raw(event)?;
        let mut ring =
            Ring { map, data_offset: page, data_size: pages * page, position: 0, head: 0, wrapped: Vec::new() };
        // Kernels before 4.1 leave these two zero: then the data follows the first page.
        // SAFETY: the first page is mapped and holds a perf_event_mmap_page, whose two fields the kernel sets at mmap time and never changes.
        let (offset, size) = unsafe { ((*ring.control()).data_offset, (*ring.control()).data_size) };
        if size != 0 && offset + size <= ring.map.len() as u64 {
            (ring.data_offset, ring.data_size) = (offset as usize, size as usize);
        }
        Ok(ring)
    }

    /// Bytes of the buffer.
    #[must_use]
    pub fn size(&self) -> usize {
        self.data_size
    }

    /// Bytes that are written and not yet passed, as of the last [`Ring::refresh`].
    #[must_use]
    pub fn filled(&self) -> u64 {
        self.head - self.position
    }

    /// Looks how far the kernel has written.
    pub fn refresh(&mut self) {
        // Acquire: what lies before the head must be read after the head.
        self.head = self.word(offset_of!(abi::perf_event_mmap_page, data_head)).load(Ordering::Acquire);
    }

    /// The next record, header included; `None` when all that the last [`Ring::refresh`] saw is passed.
    ///
    /// It lies in the ring itself, unless it wraps around the buffer's end. Its header may claim a size that cannot be (memory
    /// that something else wrote to): then the rest is given up as if passed.
    pub fn peek(&mut self) -> Option<&[u8]> {
        let filled = self.filled() as usize;
        if filled < HEADER {
            return None;
        }
        let start = (self.position % self.data_size as u64) as usize;
        // Records are multiples of eight bytes, so a header never wraps.
        let size = u16::from_ne_bytes([self.byte(start + 6), self.byte(start + 7)]) as usize;
        if size < HEADER || size > filled {
            self.position = self.head;
            return None;
        }
        let straight = size.min(self.data_size - start);
        if straight == size {
            return Some(self.slice(start, size));
        }
        let mut wrapped = std::mem::take(&mut self.wrapped);
        wrapped.clear();
        wrapped.extend_from_slice(self.slice(start, straight));
        wrapped.extend_from_slice(self.slice(0, size - straight));
        self.wrapped = wrapped;
        Some(&self.wrapped)
    }

    /// Passes the record of `size` bytes that [`Ring::peek`] gave.
    pub fn pass(&mut self, size: usize) {
        self.position = self.head.min(self.position + size as u64);
    }

    /// Gives what has been passed back to the kernel.
    pub fn release(&mut self) {
        // Release: our reads must be over before the kernel may write there.
        self.word(offset_of!(abi::perf_event_mmap_page, data_tail)).store(self.position, Ordering::Release);
    }

    fn control(&self) -> *mut abi::perf_event_mmap_page {
        self.map.as_mut_ptr().cast()
    }

    /// A word of the first page that we share with the kernel.
    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the field lies in the mapped first page, is aligned, and is only accessed atomically by both sides.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    fn byte(&self, at: usize) -> u8 {
        self.slice(at, 1)[0]
    }

    fn slice(&self, start: usize, len: usize) -> &[u8] {
        let start = start.min(self.data_size);
        let len = len.min(self.data_size - start);
        // SAFETY: within the mapped data area, between tail and head, where the kernel does not write until `release`,
        // which takes the ring exclusively.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.data_offset + start), len) }
    }
}
