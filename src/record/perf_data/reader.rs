//! A file, a pipe or a directory of `perf record`, as records in the order of their times.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::attr::Attr;
use super::fields::{Fields, text};
use super::format::user_record::{
    EVENT_UPDATE, FINISHED_ROUND, HEADER_ATTR, HEADER_BUILD_ID, HEADER_EVENT_TYPE, HEADER_FEATURE,
};
use super::format::{Feature, HEADER_BYTES, MAGIC, PIPE_HEADER_BYTES};
use super::header::Header;
use super::members::Members;
use super::queue::Queue;
use super::stream::{End, Stream};
use crate::ids::Timestamp;
use crate::record::{Decoder, EventIndex, Record};
use crate::sys;
use crate::sys::perf_event::abi;

/// Events of a file, and ids of all of them, at most: a globbed tracepoint has a thousand, on each of a thousand CPUs.
const MOST_EVENTS: usize = 1 << 14;
const MOST_IDS: usize = 1 << 21;
/// Bytes of one feature; build IDs of everything on a host take some megabytes.
const MOST_FEATURE: u64 = 16 << 20;
/// Files of a directory.
const MOST_FILES: usize = 1 << 12;
/// Kinds of records that are told apart when they are counted.
const KINDS: usize = 96;

/// Why a recording cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum PerfDataError {
    /// Opening or reading failed.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It begins like none of the forms.
    #[error("{path} is no perf.data file")]
    Magic {
        /// The file.
        path: String,
    },
    /// A form of 2009.
    #[error("{path} was written by a perf of 2009 or before (PERFFILE), whose files nothing reads any more")]
    Old {
        /// The file.
        path: String,
    },
    /// The header contradicts itself.
    #[error("{path} is damaged: {problem}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// What was in a file, and what of it could not be used.
#[derive(Clone, Debug)]
pub struct Counts {
    kinds: [u64; KINDS],
    /// Records that did not parse.
    pub bad: u64,
    /// Records that came later in the file than they may.
    pub late: u64,
    /// The file was not closed: the program that wrote it was killed.
    pub unterminated: bool,
    /// It ends within a record, or before its header says so.
    pub cut: bool,
    /// Something else than a record lies in it, and what is behind that cannot be told apart.
    pub damaged: bool,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { kinds: [0; KINDS], bad: 0, late: 0, unterminated: false, cut: false, damaged: false }
    }
}

impl Counts {
    /// Records of a kind: `PERF_RECORD_*`, of the kernel or of perf.
    #[must_use]
    pub fn of(&self, kind: u32) -> u64 {
        self.kinds.get(kind as usize).copied().unwrap_or(0)
    }

    /// All records.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.kinds.iter().sum()
    }

    fn add(&mut self, kind: u32) {
        self.kinds[(kind as usize).min(KINDS - 1)] += 1;
    }
}

/// A recording that is being read.
pub struct PerfData {
    header: Header,
    decoder: Decoder,
    streams: Vec<Stream>,
    /// Whether it was written in the other byte order.
    swapped: bool,
    queue: Queue,
    counts: Counts,
    size: Option<u64>,
    path: String,
}

impl PerfData {
    /// Whether bytes are the beginning of a recording.
    #[must_use]
    pub fn recognize(bytes: &[u8]) -> bool {
        swapped(bytes).is_some() || bytes.starts_with(b"PERFFILE")
    }

    /// Opens a file, a pipe (`-` is the standard input) or a directory, and reads its header.
    ///
    /// # Errors
    /// [`PerfDataError`] if it is no recording, or its header is damaged.
    pub fn open(path: &Path) -> Result<PerfData, PerfDataError> {
        let name = path.display().to_string();
        let failed = |source| PerfDataError::Io { path: name.clone(), source };
        if path == Path::new("-") {
            return match redirected() {
                Some(file) => PerfData::from_file(file, &name),
                None => PerfData::from_pipe(Box::new(io::stdin()), &name),
            };
        }
        let directory = path.is_dir();
        let main = if directory { path.join("data") } else { path.to_path_buf() };
        // The user named a file, which may be a FIFO; what lies in a directory somebody else may have put there.
        let file = if directory { sys::open_regular(None, &main, false) } else { File::open(&main) };
        let file = file.map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return PerfData::from_pipe(Box::new(file), &name);
        }
        let mut read = PerfData::from_file(file, &name)?;
        if directory {
            for part in parts(path).map_err(failed)? {
                let part = sys::open_regular(None, &part, false).map_err(failed)?;

                let size = part.metadata().map_err(failed)?.len();
                read.size = read.size.map(|sum| sum.saturating_add(size));
                read.streams.push(Stream::of_file(part, 0, size, read.swapped).map_err(failed)?);
            }
        }
        Ok(read)
    }

    /// Reads the form that `perf record -o -` writes.
    ///
    /// # Errors
    /// [`PerfDataError`] if it is no recording, or its header is damaged.
    pub fn from_pipe(mut input: Box<dyn Read + Send>, name: &str) -> Result<PerfData, PerfDataError> {
        let mut head = Vec::new();
        let failed = |source| PerfDataError::Io { path: name.into(), source };
        (&mut input).take(PIPE_HEADER_BYTES).read_to_end(&mut head).map_err(failed)?;
        let swapped = swapped(&head).ok_or_else(|| unknown(&head, name))?;
        if Fields::new(&head[8..], swapped).u64() != Some(PIPE_HEADER_BYTES) {
            let problem = "it is a file, which cannot be read from a pipe: name it";
            return Err(PerfDataError::Damaged { path: name.into(), problem });
        }
        let mut read = PerfData::empty(swapped, name);
        read.streams.push(Stream::of_pipe(input, swapped));
        read.read_prelude().map_err(failed)?;
        Ok(read)
    }

    fn from_file(file: File, name: &str) -> Result<PerfData, PerfDataError> {
        let failed = |source| PerfDataError::Io { path: name.into(), source };
        let damaged = |problem| PerfDataError::Damaged { path: name.into(), problem };
        let length = file.metadata().map_err(failed)?.len();
        let head = section(&file, 0, HEADER_BYTES, length).map_err(failed)?;
        let swapped = swapped(&head).ok_or_else(|| unknown(&head, name))?;
        let mut fields = Fields::new(&head[8..], swapped);
        let size = fields.u64().ok_or_else(|| damaged("it ends within its header"))?;
        if size == PIPE_HEADER_BYTES {
            return PerfData::from_pipe(Box::new(file), name).map(|read| PerfData { size: Some(length), ..read });
        }
        let numbers: Option<Vec<u64>> = (0..7).map(|_| fields.u64()).collect();
        let numbers = numbers.ok_or_else(|| damaged("it ends within its header"))?;
        let [attr_size, attrs, attrs_size, data, data_size, ..] = numbers[..] else {
            return Err(damaged("it ends within its header"));
        };
        let mut read = PerfData::empty(swapped, name);
        read.header.attrs = read_attrs(&file, (attrs, attrs_size), attr_size, swapped, length).map_err(failed)?;
        if read.header.attrs.is_empty() {
            return Err(damaged("it has no events"));
        }
        read.counts.unterminated = data_size == 0;
        let end = data.checked_add(data_size).filter(|&end| end <= length && data_size > 0);
        read.counts.cut = end.is_none() && data_size > 0;
        if let Some(end) = end {
            let features: Vec<u64> = (0..4).map_while(|_| fields.u64()).collect();
            read_features(&file, end, &features, &mut read.header, swapped, length);
        }
        let size = end.unwrap_or(length).saturating_sub(data);
        read.size = Some(size);
        read.streams.push(Stream::of_file(file, data, size, swapped).map_err(failed)?);
        read.know_events();
        Ok(read)
    }

    fn empty(swapped: bool, path: &str) -> PerfData {
        PerfData {
            header: Header::default(),
            decoder: Decoder::default(),
            streams: Vec::new(),
            swapped,
            queue: Queue::default(),
            counts: Counts::default(),
            size: None,
            path: path.into(),
        }
    }

    /// What the file says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was read so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Bytes of all records, where they can be known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Passes every record to `visit`, in the order of time, with how many bytes were read so far.
    ///
    /// # Errors
    /// [`PerfDataError::Io`]; a file that is damaged or cut short is no error: what is whole is read, and counted.
    pub fn read(&mut self, visit: &mut dyn FnMut(&Record<'_>, u64)) -> Result<(), PerfDataError> {
        let failed = |path: &str, source| PerfDataError::Io { path: path.into(), source };
        let PerfData { header, decoder, streams, swapped, queue, counts, path, .. } = self;
        let (mut bad, mut read) = (0, 0);
        {
            let mut members = Members::new(&header.attrs);
            let mut pass = |bytes: &[u8], read: u64| match decoder.decode_of_file(bytes) {
                Ok(Record::Sample(sample)) => {
                    bad += members.pass(sample, decoder, &mut |sample| visit(&Record::Sample(sample), read));
                }
                Ok(record) => visit(&record, read),
                Err(_) => bad += 1,
            };
            while let Some(at) = oldest(streams, decoder, *swapped).map_err(|error| failed(path, error))? {
                read = streams.iter().map(Stream::read).sum();
                let stream = &mut streams[at];
                let Some(mut bytes) = stream.take().map_err(|error| failed(path, error))? else { continue };
                if *swapped {
                    bytes = turned(&bytes, decoder);
                }
                let kind = kind(&bytes);
                counts.add(kind);
                match decoder.time_of_file(&bytes) {
                    _ if kind == FINISHED_ROUND => queue.end_round(&mut |bytes| pass(bytes, read)),
                    // perf's own: what they say was said in the header, or is of no use here.
                    _ if kind >= HEADER_ATTR => {}
                    Some(time) => queue.push(time, bytes),
                    None => pass(&bytes, read),
                }
                if queue.is_full() {
                    queue.pass_half(&mut |bytes| pass(bytes, read));
                }
            }
            queue.finish(&mut |bytes| pass(bytes, read));
        }
        self.counts.bad += bad;
        self.counts.late = self.queue.late();
        let ends = || self.streams.iter().filter_map(Stream::end);
        self.counts.cut |= ends().any(|end| end == End::Cut);
        self.counts.damaged |= ends().any(|end| end == End::Damaged);
        Ok(())
    }

    /// The records at the head of a pipe that stand for the header of a file.
    fn read_prelude(&mut self) -> io::Result<()> {
        let Some(mut stream) = self.streams.pop() else { return Ok(()) };
        while let Some(bytes) = stream.peek()? {
            let mut fields = Fields::new(bytes, self.swapped);
            let (Some(kind), Some(misc), Some(_)) = (fields.u32(), fields.u16(), fields.u16()) else { break };
            match kind {
                HEADER_ATTR => self.add_attr(fields),
                HEADER_FEATURE => {
                    let feature = fields.u64().and_then(|feature| u32::try_from(feature).ok()).unwrap_or(u32::MAX);
                    self.header.read_feature(feature, fields.rest(), self.swapped);
                }
                HEADER_BUILD_ID => {
                    let _ = self.header.read_build_id(misc, fields);
                }
                EVENT_UPDATE => self.rename(fields),
                // Whatever else perf tells of itself before its first record or round.
                HEADER_EVENT_TYPE.. if kind != FINISHED_ROUND => {}
                _ => break,
            }
            self.counts.add(kind);
            stream.take()?;
        }
        self.streams.push(stream);
        self.know_events();
        Ok(())
    }

    /// `{ attr; u64 ids[]; }`: the attr's own size tells where the ids begin.
    fn add_attr(&mut self, mut fields: Fields<'_>) {
        let mut size = fields;
        let size = size.u32().zip(size.u32()).map_or(0, |(_, size)| u64::from(size)).max(Attr::MIN_BYTES);
        let Some(bytes) = usize::try_from(size).ok().and_then(|size| fields.bytes(size)) else { return };
        if self.header.attrs.len() < MOST_EVENTS
            && let Some(mut attr) = Attr::read(bytes, self.swapped)
        {
            attr.ids = std::iter::from_fn(|| fields.u64()).collect();
            self.header.attrs.push(attr);
        }
    }

    /// `{ u64 type; u64 id; char name[]; }`, for the type that gives a name.
    fn rename(&mut self, mut fields: Fields<'_>) {
        const NAME: u64 = 2;
        let (kind, id) = (fields.u64(), fields.u64());
        let attr = self.header.attrs.iter_mut().find(|attr| id.is_some_and(|id| attr.ids.contains(&id)));
        if let (Some(NAME), Some(attr)) = (kind, attr) {
            attr.name = text(fields.rest());
        }
    }

    fn know_events(&mut self) {
        for (at, attr) in (0..).zip(&self.header.attrs) {
            self.decoder.add_of_file(&attr.ids, EventIndex(at), attr.layout);
        }
    }
}

/// The standard input, if it is a file: what was read of it to see what it is lies before us else.
fn redirected() -> Option<File> {
    File::open("/dev/stdin").ok().filter(|file| file.metadata().is_ok_and(|meta| meta.is_file()))
}

/// The stream with the oldest record, which may be one without a time; `None` at the end of all.
fn oldest(streams: &mut [Stream], decoder: &Decoder, swapped: bool) -> io::Result<Option<usize>> {
    if let [only] = streams {
        return Ok(only.peek()?.map(|_| 0));
    }
    let mut oldest: Option<(Timestamp, usize)> = None;
    for (at, stream) in streams.iter_mut().enumerate() {
        let Some(bytes) = stream.peek()? else { continue };
        let time = decoder.time_of_file(&if swapped { turned(bytes, decoder) } else { bytes.clone() });
        let time = time.filter(|_| bytes.len() >= 8).unwrap_or_default();
        if oldest.is_none_or(|(other, _)| time < other) {
            oldest = Some((time, at));
        }
    }
    Ok(oldest.map(|(_, at)| at))
}

/// A record in our byte order, of one in the other.
fn turned(record: &[u8], decoder: &Decoder) -> Bytes {
    let mut ours = record.to_vec();
    decoder.swap_of_file(&mut ours);
    ours.into()
}

fn kind(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(abi::PERF_RECORD_MAX, |kind| u32::from_ne_bytes(*kind))
}

/// Whether a file was written in the other byte order; `None` for no recording.
fn swapped(head: &[u8]) -> Option<bool> {
    let mut other = MAGIC;
    other.reverse();
    match head.first_chunk()? {
        &MAGIC => Some(cfg!(target_endian = "big")),
        magic if *magic == other => Some(cfg!(target_endian = "little")),
        _ => None,
    }
}

fn unknown(head: &[u8], name: &str) -> PerfDataError {
    let path = name.to_owned();
    if head.starts_with(b"PERFFILE") { PerfDataError::Old { path } } else { PerfDataError::Magic { path } }
}

/// Bytes of a file from an offset, as far as there are any: whatever a header says, no more is read than the file has.
fn section(file: &File, offset: u64, size: u64, length: u64) -> io::Result<Vec<u8>> {
    let size = size.min(length.saturating_sub(offset));
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], offset + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

/// `{ attr; section ids; }[]`
fn read_attrs(file: &File, (start, size): (u64, u64), entry: u64, swapped: bool, length: u64) -> io::Result<Vec<Attr>> {
    let mut attrs = Vec::new();
    let (Some(attr_size), Ok(entry)) = (entry.checked_sub(16), usize::try_from(entry)) else { return Ok(attrs) };
    if !(Attr::MIN_BYTES..=Attr::MAX_BYTES).contains(&attr_size) {
        return Ok(attrs);
    }
    let bytes = section(file, start, size.min((MOST_EVENTS * entry) as u64), length)?;
    let mut room = MOST_IDS;
    for entry in bytes.chunks_exact(entry) {
        let (attr, ids) = entry.split_at(attr_size as usize);
        let Some(mut attr) = Attr::read(attr, swapped) else { break };
        let mut fields = Fields::new(ids, swapped);
        let (Some(offset), Some(size)) = (fields.u64(), fields.u64()) else { break };
        let ids = section(file, offset, size.min(8 * room as u64), length)?;
        let mut ids = Fields::new(&ids, swapped);
        attr.ids = std::iter::from_fn(|| ids.u64()).collect();
        room -= attr.ids.len().min(room);
        attrs.push(attr);
    }
    Ok(attrs)
}

/// The table of sections behind the data, one for each bit. Only those that are used are read, so that sections that overlap cost no
/// more than their number.
fn read_features(file: &File, table: u64, bits: &[u64], header: &mut Header, swapped: bool, length: u64) {
    const USED: [Feature; 11] = [
        Feature::BuildId,
        Feature::Hostname,
        Feature::OsRelease,
        Feature::Version,
        Feature::Arch,
        Feature::NrCpus,
        Feature::CpuDesc,
        Feature::TotalMem,
        Feature::CmdLine,
        Feature::EventDesc,
        Feature::SampleTime,
    ];
    let mut at = table;
    for feature in 0..(64 * bits.len()) as u32 {
        if bits[feature as usize / 64] >> (feature % 64) & 1 == 0 {
            continue;
        }
        let used = feature == Feature::ClockData as u32 || USED.iter().any(|&used| used as u32 == feature);
        let Ok(entry) = section(file, at, 16, length) else { return };
        at = at.saturating_add(16);
        let mut fields = Fields::new(&entry, swapped);
        let (Some(offset), Some(size)) = (fields.u64(), fields.u64()) else { return };
        let size = if used { size.min(MOST_FEATURE) } else { 0 };
        header.read_feature(feature, &section(file, offset, size, length).unwrap_or_default(), swapped);
    }
}

/// The files beside the main one in a directory: `data.0` and so on.
fn parts(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut parts: Vec<(u32, PathBuf)> = fs::read_dir(directory)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.strip_prefix("data.")?.parse().ok()?;
            Some((number, entry.path()))
        })
        .take(MOST_FILES)
        .collect();
    parts.sort();
    Ok(parts.into_iter().map(|(_, path)| path).collect())
}
