//! Bytes to records: the data of a file, or of a pipe, through a buffer of a few records, decompressed where it was compressed.

use std::io::{self, Read};
use std::ops::Range;

use zstd::stream::raw::{Decoder as Zstd, InBuffer, Operation, OutBuffer};

use super::format::user_record::{AUXTRACE, COMPRESSED, COMPRESSED2, HEADER_TRACING_DATA};

/// Bytes of a record's header: `u32 type; u16 misc; u16 size`.
const HEADER: usize = 8;
/// Bytes read at once; at least as many as the largest record has.
const ROOM: usize = 256 << 10;
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
    input: Box<dyn Read + Send>,
    /// Bytes that were read and not yet passed, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    /// Bytes read so far.
    read: u64,
    swapped: bool,
    packed: Option<Packed>,
    held: Option<Place>,
    end: Option<End>,
}

/// Where a record lies.
#[derive(Clone, Debug)]
enum Place {
    Buffer(Range<usize>),
    Plain(Range<usize>),
}

/// Compressed data: a stream over all its records.
struct Packed {
    zstd: Zstd<'static>,
    /// What is still to be decompressed of the last record, and how much it gave.
    input: Vec<u8>,
    taken: usize,
    grown: u64,
    /// Whether the last call may have left something in the decoder's own buffer.
    more: bool,
    plain: Vec<u8>,
    at: usize,
}

impl Stream {
    pub(super) fn new(input: Box<dyn Read + Send>, swapped: bool) -> Stream {
        let (buffer, packed) = (Vec::new(), None);
        Stream { input, buffer, at: 0, read: 0, swapped, packed, held: None, end: None }
    }

    /// Bytes read so far.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// How it ended, once it has.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// The next record, in the byte order of the file; the same until it is passed.
    ///
    /// # Errors
    /// What reading answers.
    pub(super) fn peek(&mut self) -> io::Result<Option<&mut [u8]>> {
        if self.held.is_none() && self.end.is_none() {
            self.held = self.advance()?;
        }
        Ok(match self.held.clone() {
            Some(Place::Buffer(range)) => self.buffer.get_mut(range),
            Some(Place::Plain(range)) => self.packed.as_mut().and_then(|packed| packed.plain.get_mut(range)),
            None => None,
        })
    }

    /// Goes on behind the record that [`Stream::peek`] showed.
    pub(super) fn pass(&mut self) {
        self.held = None;
    }

    fn advance(&mut self) -> io::Result<Option<Place>> {
        loop {
            match self.packed.as_mut().map_or(Ok(None), |packed| packed.next(self.swapped)) {
                Ok(Some(range)) => return Ok(Some(Place::Plain(range))),
                Ok(None) => {}
                Err(()) => return self.ended(End::Damaged),
            }
            if self.fill(HEADER)? < HEADER {
                let cut = self.buffer.len() > self.at || self.packed.as_ref().is_some_and(Packed::is_within);
                return self.ended(if cut { End::Cut } else { End::Whole });
            }
            let (kind, size) = head(&self.buffer[self.at..], self.swapped);
            if size < HEADER {
                return self.ended(End::Damaged);
            }
            if self.fill(size)? < size {
                return self.ended(End::Cut);
            }
            let range = self.at..self.at + size;
            self.at = range.end;
            let body = range.start + HEADER..range.end;
            match kind {
                COMPRESSED => self.unpack(body),
                // `u64 data_size`, and bytes that fill the record up to a multiple of 8.
                COMPRESSED2 => {
                    let size = self.number::<8>(&body);
                    let start = (body.start + 8).min(body.end);
                    self.unpack(start..start + usize::try_from(size).unwrap_or(usize::MAX).min(body.end - start));
                }
                // Records whose data lies behind them: `u64 size`, `u32 size`.
                AUXTRACE => {
                    let size = self.number::<8>(&body);
                    return self.skip(size).map(|()| Some(Place::Buffer(range)));
                }
                HEADER_TRACING_DATA => {
                    let size = self.number::<4>(&body);
                    self.skip(size.next_multiple_of(8))?;
                }
                _ => return Ok(Some(Place::Buffer(range))),
            }
        }
    }

    fn ended(&mut self, end: End) -> io::Result<Option<Place>> {
        self.end = Some(end);
        Ok(None)
    }

    fn unpack(&mut self, body: Range<usize>) {
        if self.packed.is_none() {
            self.packed = Packed::new();
        }
        if let Some(packed) = &mut self.packed {
            packed.input.clear();
            packed.input.extend_from_slice(&self.buffer[body]);
            (packed.taken, packed.grown) = (0, 0);
        }
    }

    /// The number of 32 or 64 bits that a body begins with; 0 where it is too short.
    fn number<const SIZE: usize>(&self, body: &Range<usize>) -> u64 {
        let mut word = [0; 8];
        if let Some(bytes) = self.buffer[body.clone()].get(..SIZE) {
            word[..SIZE].copy_from_slice(bytes);
        }
        if self.swapped != cfg!(target_endian = "big") {
            word[..SIZE].reverse();
        }
        u64::from_le_bytes(word)
    }

    /// Passes over bytes without keeping them: their number is the file's word alone.
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let here = self.buffer.len() - self.at;
        let buffered = usize::try_from(bytes).unwrap_or(usize::MAX).min(here);
        self.at += buffered;
        let rest = bytes - buffered as u64;
        self.read += io::copy(&mut (&mut self.input).take(rest), &mut io::sink())?;
        Ok(())
    }

    /// Makes so many bytes lie in the buffer, and answers how many do.
    fn fill(&mut self, wanted: usize) -> io::Result<usize> {
        while self.buffer.len() - self.at < wanted {
            if self.at > 0 {
                self.buffer.drain(..self.at);
                self.at = 0;
            }
            let room = ROOM.max(wanted);
            let before = self.buffer.len();
            self.buffer.resize(room.max(before), 0);
            let read = loop {
                match self.input.read(&mut self.buffer[before..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
            let read = read?;
            self.read += read as u64;
            if read == 0 {
                break;
            }
        }
        Ok(self.buffer.len() - self.at)
    }
}

impl Packed {
    fn new() -> Option<Packed> {
        let zstd = Zstd::new().ok()?;
        Some(Packed { zstd, input: Vec::new(), taken: 0, grown: 0, more: false, plain: Vec::new(), at: 0 })
    }

    /// Whether a record lies here in part.
    fn is_within(&self) -> bool {
        self.at < self.plain.len()
    }

    /// Where the next whole record lies; `None` if more is to be taken in first.
    fn next(&mut self, swapped: bool) -> Result<Option<Range<usize>>, ()> {
        loop {
            let here = &self.plain[self.at..];
            if here.len() >= HEADER {
                let (_, size) = head(here, swapped);
                if size < HEADER {
                    return Err(());
                }
                if here.len() >= size {
                    let range = self.at..self.at + size;
                    self.at = range.end;
                    return Ok(Some(range));
                }
            }
            if self.taken == self.input.len() && !self.more {
                return Ok(None);
            }
            self.grow()?;
        }
    }

    /// Decompresses a little more, for a whole record at least.
    fn grow(&mut self) -> Result<(), ()> {
        self.plain.drain(..self.at);
        self.at = 0;
        let before = self.plain.len();
        self.plain.resize(before + ROOM, 0);
        let mut input = InBuffer::around(self.input.get(self.taken..).unwrap_or_default());
        let mut output = OutBuffer::around(&mut self.plain[before..]);
        let run = self.zstd.run(&mut input, &mut output);
        let (taken, grown) = (input.pos(), output.pos());
        self.taken += taken;
        self.grown += grown as u64;
        self.more = grown == ROOM;
        self.plain.truncate(before + grown);
        let stuck = taken == 0 && grown == 0 && self.taken < self.input.len();
        if run.is_err() || stuck || self.grown > MOST_PLAIN { Err(()) } else { Ok(()) }
    }
}

/// Kind and size of a record of which the header lies there.
fn head(bytes: &[u8], swapped: bool) -> (u32, usize) {
    let kind = bytes.first_chunk().map_or(0, |kind| u32::from_ne_bytes(*kind));
    let size = bytes.get(6..).and_then(|size| size.first_chunk()).map_or(0, |size| u16::from_ne_bytes(*size));
    if swapped { (kind.swap_bytes(), usize::from(size.swap_bytes())) } else { (kind, usize::from(size)) }
}
