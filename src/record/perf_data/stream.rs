//! Bytes to records: the data of a file, or of a pipe, in chunks that live as long as one of their records does, decompressed where it
//! was compressed.

use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;
use zstd::stream::raw::{Decoder as Zstd, InBuffer, Operation, OutBuffer};

use super::format::user_record::{AUXTRACE, COMPRESSED, COMPRESSED2, HEADER_TRACING_DATA};
use crate::sys;

/// Bytes of a record's header: `u32 type; u16 misc; u16 size`.
const HEADER: usize = 8;
/// Bytes of a pipe that are read at once; at least as many as the largest record has.
const ROOM: usize = 256 << 10;
/// Bytes of a file that are mapped at once.
const WINDOW: u64 = 8 << 20;
/// Bytes that one record of compressed data may grow to. The writer fills it from a ring, of which the largest have 512 MB on few
/// machines, and a record holds a part of one at most.
const MOST_PLAIN: u64 = 512 << 20;

/// How the data ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Where it should.
    Whole,
    /// Within a record.
    Cut,
    /// At something that is no record; what lies behind it cannot be told apart.
    Damaged,
}

/// The records of one file.
pub(super) struct Stream {
    input: Input,
    /// What was read and not yet passed.
    chunk: Bytes,
    /// Bytes read so far.
    read: u64,
    swapped: bool,
    packed: Option<Packed>,
    held: Option<Bytes>,
    end: Option<End>,
}

/// Where bytes come from.
enum Input {
    /// A file is mapped, window by window: what nobody looks at in copies of stacks is not copied once more.
    File {
        file: File,
        at: u64,
        end: u64,
    },
    Pipe(Box<dyn Read + Send>),
}

/// Compressed data: a stream over all its records.
struct Packed {
    zstd: Zstd<'static>,
    /// What is still to be decompressed of the last record, and how much it gave.
    input: Bytes,
    grown: u64,
    /// Whether the last call may have left something in the decoder's own buffer.
    more: bool,
    plain: Bytes,
}

impl Input {
    /// What `chunk` holds and more, `wanted` bytes at least if there are so many; nothing new at the end.
    fn more(&mut self, chunk: &Bytes, wanted: usize) -> io::Result<Bytes> {
        match self {
            Input::File { file, at, end } => {
                let start = *at - chunk.len() as u64;
                let window = start & !(sys::page_size() - 1);
                let stop = (window + WINDOW).max(start + wanted as u64).min(*end);
                if stop <= *at {
                    return Ok(chunk.clone());
                }
                let map = sys::map_part(file, window, (stop - window) as usize)?;
                *at = stop;
                Ok(Bytes::from_owner(map).slice((start - window) as usize..))
            }
            Input::Pipe(input) => {
                let mut bytes = Vec::with_capacity(ROOM.max(wanted));
                bytes.extend_from_slice(chunk);
                bytes.resize(bytes.capacity(), 0);
                let read = loop {
                    match input.read(&mut bytes[chunk.len()..]) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        other => break other?,
                    }
                };
                bytes.truncate(chunk.len() + read);
                Ok(bytes.into())
            }
        }
    }

    /// Passes over bytes without keeping them, and answers how many there were.
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        match self {
            Input::File { at, end, .. } => {
                let skipped = bytes.min(*end - *at);
                *at += skipped;
                Ok(skipped)
            }
            Input::Pipe(input) => io::copy(&mut input.take(bytes), &mut io::sink()),
        }
    }
}

impl Stream {
    /// The records of a part of a file.
    pub(super) fn of_file(file: File, start: u64, size: u64, swapped: bool) -> io::Result<Stream> {
        // Some file systems of user space have files that cannot be mapped.
        if size > 0 && sys::map_part(&file, 0, 1).is_err() {
            use std::io::Seek;
            let mut file = file;
            file.seek(io::SeekFrom::Start(start))?;
            return Ok(Stream::of_pipe(Box::new(file.take(size)), swapped));
        }
        Ok(Stream::new(Input::File { file, at: start, end: start.saturating_add(size) }, swapped))
    }

    pub(super) fn of_pipe(input: Box<dyn Read + Send>, swapped: bool) -> Stream {
        Stream::new(Input::Pipe(input), swapped)
    }

    fn new(input: Input, swapped: bool) -> Stream {
        Stream { input, chunk: Bytes::new(), read: 0, swapped, packed: None, held: None, end: None }
    }

    /// Bytes read so far.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// How it ended, once it has.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// The next record, in the byte order of the file; the same until it is taken.
    ///
    /// # Errors
    /// What reading answers.
    pub(super) fn peek(&mut self) -> io::Result<Option<&Bytes>> {
        if self.held.is_none() && self.end.is_none() {
            self.held = self.advance()?;
        }
        Ok(self.held.as_ref())
    }

    /// The record that [`Stream::peek`] shows, and goes on behind it.
    ///
    /// # Errors
    /// What reading answers.
    pub(super) fn take(&mut self) -> io::Result<Option<Bytes>> {
        self.peek()?;
        Ok(self.held.take())
    }

    fn advance(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.packed.as_mut().map_or(Ok(None), |packed| packed.next(self.swapped)) {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {}
                Err(()) => return self.ended(End::Damaged),
            }
            if self.fill(HEADER)? < HEADER {
                let cut = !self.chunk.is_empty() || self.packed.as_ref().is_some_and(Packed::is_within);
                return self.ended(if cut { End::Cut } else { End::Whole });
            }
            let (kind, size) = head(&self.chunk, self.swapped);
            if size < HEADER {
                return self.ended(End::Damaged);
            }
            if self.fill(size)? < size {
                return self.ended(End::Cut);
            }
            let record = self.chunk.split_to(size);
            let body = record.slice(HEADER..);
            match kind {
                COMPRESSED => self.unpack(body),
                // `u64 data_size`, and bytes that fill the record up to a multiple of 8.
                COMPRESSED2 => {
                    let size = usize::try_from(self.number::<8>(&body)).unwrap_or(usize::MAX);
                    let data = body.slice(8.min(body.len())..);
                    self.unpack(data.slice(..size.min(data.len())));
                }
                // Records whose data lies behind them: `u64 size`, `u32 size`.
                AUXTRACE => {
                    let size = self.number::<8>(&body);
                    return self.skip(size).map(|()| Some(record));
                }
                HEADER_TRACING_DATA => {
                    let size = self.number::<4>(&body);
                    self.skip(size.next_multiple_of(8))?;
                }
                _ => return Ok(Some(record)),
            }
        }
    }

    fn ended(&mut self, end: End) -> io::Result<Option<Bytes>> {
        self.end = Some(end);
        Ok(None)
    }

    fn unpack(&mut self, body: Bytes) {
        if self.packed.is_none() {
            self.packed = Packed::new();
        }
        if let Some(packed) = &mut self.packed {
            (packed.input, packed.grown) = (body, 0);
        }
    }

    /// The number of 32 or 64 bits that a body begins with; 0 where it is too short.
    fn number<const SIZE: usize>(&self, body: &[u8]) -> u64 {
        let mut word = [0; 8];
        if let Some(bytes) = body.get(..SIZE) {
            word[..SIZE].copy_from_slice(bytes);
        }
        if self.swapped != cfg!(target_endian = "big") {
            word[..SIZE].reverse();
        }
        u64::from_le_bytes(word)
    }

    /// Passes over bytes without keeping them: their number is the file's word alone.
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let here = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.chunk.len());
        drop(self.chunk.split_to(here));
        self.read += self.input.skip(bytes - here as u64)?;
        Ok(())
    }

    /// Makes so many bytes lie in the chunk, and answers how many do.
    fn fill(&mut self, wanted: usize) -> io::Result<usize> {
        while self.chunk.len() < wanted {
            let before = self.chunk.len();
            self.chunk = self.input.more(&self.chunk, wanted)?;
            let more = self.chunk.len() - before;
            self.read += more as u64;
            if more == 0 {
                break;
            }
        }
        Ok(self.chunk.len())
    }
}

impl Packed {
    fn new() -> Option<Packed> {
        let zstd = Zstd::new().ok()?;
        Some(Packed { zstd, input: Bytes::new(), grown: 0, more: false, plain: Bytes::new() })
    }

    /// Whether a record lies here in part.
    fn is_within(&self) -> bool {
        !self.plain.is_empty()
    }

    /// The next whole record; `None` if more is to be taken in first.
    fn next(&mut self, swapped: bool) -> Result<Option<Bytes>, ()> {
        loop {
            if self.plain.len() >= HEADER {
                let (_, size) = head(&self.plain, swapped);
                if size < HEADER {
                    return Err(());
                }
                if self.plain.len() >= size {
                    return Ok(Some(self.plain.split_to(size)));
                }
            }
            if self.input.is_empty() && !self.more {
                return Ok(None);
            }
            self.grow()?;
        }
    }

    /// Decompresses a little more, for a whole record at least.
    fn grow(&mut self) -> Result<(), ()> {
        let before = self.plain.len();
        let mut plain = Vec::with_capacity(before + ROOM);
        plain.extend_from_slice(&self.plain);
        plain.resize(before + ROOM, 0);
        let mut input = InBuffer::around(&self.input);
        let mut output = OutBuffer::around(&mut plain[before..]);
        let run = self.zstd.run(&mut input, &mut output);
        let (taken, grown) = (input.pos(), output.pos());
        drop(self.input.split_to(taken));
        self.grown += grown as u64;
        self.more = grown == ROOM;
        plain.truncate(before + grown);
        self.plain = plain.into();
        let stuck = taken == 0 && grown == 0 && !self.input.is_empty();
        if run.is_err() || stuck || self.grown > MOST_PLAIN { Err(()) } else { Ok(()) }
    }
}

/// Kind and size of a record of which the header lies there.
fn head(bytes: &[u8], swapped: bool) -> (u32, usize) {
    let kind = bytes.first_chunk().map_or(0, |kind| u32::from_ne_bytes(*kind));
    let size = bytes.get(6..).and_then(|size| size.first_chunk()).map_or(0, |size| u16::from_ne_bytes(*size));
    if swapped { (kind.swap_bytes(), usize::from(size.swap_bytes())) } else { (kind, usize::from(size)) }
}
