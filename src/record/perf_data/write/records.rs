//! One record: header, fields, and the trailer that all but samples have.

use super::Stamp;
use crate::ids::Timestamp;
use crate::record::{Identity, UserRegisters};
use crate::sys::perf_event::abi;

/// `PERF_RECORD_MISC_*` of code of the kernel, and of user code.
pub(super) const KERNEL: u16 = abi::PERF_RECORD_MISC_KERNEL as u16;
pub(super) const USER: u16 = abi::PERF_RECORD_MISC_USER as u16;
/// Of a mapping that is not executable.
pub(super) const DATA: u16 = abi::PERF_RECORD_MISC_MMAP_DATA as u16;
/// Of a fork that happened before anybody looked: the task has mappings of its own, which are told next (`MISC_FORK_EXEC`).
pub(super) const FOUND: u16 = abi::PERF_RECORD_MISC_FORK_EXEC as u16;
/// What stands before each part of a callchain.
pub(super) const CONTEXT_KERNEL: u64 = abi::PERF_CONTEXT_KERNEL;
pub(super) const CONTEXT_USER: u64 = abi::PERF_CONTEXT_USER;

/// Bytes of `struct perf_event_header`.
const HEADER: usize = 8;
/// The most bytes of a record: its size is a u16, and all are multiples of eight.
const MOST: usize = 65_528;
/// Bytes of the trailer in the rings: task, time, identifier.
const RING_TRAILER: usize = 24;

/// What every record but samples ends with (`sample_id_all`).
#[derive(Clone, Copy)]
pub(super) struct Trailer {
    pub(super) pid: i32,
    pub(super) tid: i32,
    pub(super) stamp: Stamp,
    pub(super) id: u64,
}

/// A record while it is put together at the end of a buffer.
pub(super) struct Builder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>, kind: u32, misc: u16) -> Builder<'a> {
        let start = out.len();
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(&misc.to_ne_bytes());
        out.extend_from_slice(&[0; 2]);
        Builder { out, start }
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        self.out.extend_from_slice(bytes);
        self
    }

    /// A string with at least one NUL, up to the next multiple of eight.
    pub(super) fn string(self, text: &[u8]) -> Self {
        let room = (text.len() + 1).next_multiple_of(8);
        let end = self.out.len() + room;
        let this = self.bytes(text);
        this.out.resize(end, 0);
        this
    }

    /// A number of words, then the words.
    pub(super) fn counted(self, words: impl Iterator<Item = u64>) -> Self {
        let at = self.out.len();
        let room = (MOST - (at - self.start) - HEADER) / 8;
        let this = words.take(room).fold(self.u64(0), Self::u64);
        let count = (this.out.len() - at) / 8 - 1;
        this.out[at..at + 8].copy_from_slice(&(count as u64).to_ne_bytes());
        this
    }

    /// `{ u32 size; char data[size]; }`, which is a multiple of eight bytes as the kernel has it.
    pub(super) fn raw(self, data: &[u8]) -> Self {
        let room = MOST.saturating_sub(self.out.len() - self.start + 4) & !7;
        let data = &data[..data.len().min(room)];
        let size = (data.len() + 4).next_multiple_of(8);
        let end = self.out.len() + size;
        let this = self.u32(size as u32 - 4).bytes(data);
        this.out.resize(end, 0);
        this
    }

    /// `{ u64 abi; u64 regs[weight(mask)]; }`
    pub(super) fn registers(self, mask: u64, registers: &UserRegisters<'_>) -> Self {
        if registers.mask != mask || registers.values.len() != mask.count_ones() as usize {
            return self.u64(abi::PERF_SAMPLE_REGS_ABI_NONE.into());
        }
        let abi = if registers.compat { abi::PERF_SAMPLE_REGS_ABI_32 } else { abi::PERF_SAMPLE_REGS_ABI_64 };
        registers.values.iter().fold(self.u64(abi.into()), Self::u64)
    }

    /// `{ u64 size; char data[size]; u64 dyn_size; }`, cut where the record would become too large.
    pub(super) fn stack(self, stack: &[u8]) -> Self {
        let room = MOST.saturating_sub(self.out.len() - self.start + 16) & !7;
        let stack = &stack[..stack.len().min(room)];
        if stack.is_empty() {
            return self.u64(0);
        }
        let padded = stack.len().next_multiple_of(8);
        let this = self.u64(padded as u64);
        let end = this.out.len() + padded;
        let this = this.bytes(stack);
        this.out.resize(end, 0);
        this.u64(stack.len() as u64)
    }

    pub(super) fn trailer(self, trailer: Trailer) -> Self {
        let Trailer { pid, tid, stamp: Stamp { time, cpu }, id } = trailer;
        self.u32(pid as u32).u32(tid as u32).u64(time.0).u64(cpu.into()).u64(id)
    }

    /// Tells the size. A record that became too large is taken back: no more than a name that is too long can cause that.
    pub(super) fn end(self) {
        let size = self.out.len() - self.start;
        match u16::try_from(size) {
            Ok(size) => self.out[self.start + 6..self.start + 8].copy_from_slice(&size.to_ne_bytes()),
            Err(_) => self.out.truncate(self.start),
        }
    }
}

/// Kind and misc, body and trailer of a record of a ring; the identifier becomes that of the first event.
pub(super) fn take_apart(bytes: &[u8]) -> Option<((u32, u16), &[u8], Trailer)> {
    let (head, rest) = bytes.split_at_checked(HEADER)?;
    let (body, trailer) = rest.split_at_checked(rest.len().checked_sub(RING_TRAILER)?)?;
    let word = |at: usize| trailer.get(at..)?.first_chunk().map(|word| i32::from_ne_bytes(*word));
    let time = trailer.get(8..)?.first_chunk().map(|word| u64::from_ne_bytes(*word))?;
    let kind = u32::from_ne_bytes(*head.first_chunk()?);
    let misc = u16::from_ne_bytes([head[4], head[5]]);
    let stamp = Stamp { time: Timestamp(time), cpu: 0 };
    Some(((kind, misc), body, Trailer { pid: word(0)?, tid: word(4)?, stamp, id: 1 }))
}

/// The time of a record as we write it, if it is a sample: behind identifier, instruction and task.
pub(super) fn sample_time(record: &[u8]) -> Option<Timestamp> {
    let kind = record.first_chunk().map(|kind| u32::from_ne_bytes(*kind));
    let time = record.get(HEADER + 24..)?.first_chunk().map(|time| u64::from_ne_bytes(*time))?;
    (kind == Some(abi::PERF_RECORD_SAMPLE)).then_some(Timestamp(time))
}

/// The 24 bytes of an `MMAP2` that tell its file from others, and the bit of misc that tells how.
pub(super) fn identity(identity: &Identity) -> (u16, [u8; 24]) {
    let mut bytes = [0; 24];
    match identity {
        Identity::BuildId(id) if id.bytes().len() <= 20 => {
            bytes[0] = id.bytes().len() as u8;
            bytes[4..4 + id.bytes().len()].copy_from_slice(id.bytes());
            return (abi::PERF_RECORD_MISC_MMAP_BUILD_ID as u16, bytes);
        }
        Identity::Inode { major, minor, inode } => {
            bytes[..4].copy_from_slice(&major.to_ne_bytes());
            bytes[4..8].copy_from_slice(&minor.to_ne_bytes());
            bytes[8..16].copy_from_slice(&inode.to_ne_bytes());
        }
        Identity::BuildId(_) | Identity::Unknown => {}
    }
    (0, bytes)
}
