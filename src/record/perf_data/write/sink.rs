//! Where records go: a file whose header is kept true, a pipe, or memory; as they are, or compressed.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use super::flight::{Flight, Keep};
use super::records::Builder;
use crate::record::perf_data::format::{
    ATTR_BYTES, COMPRESSED_ROOM, FEATURE_BITS, Feature, HEADER_BYTES, MAGIC, PIPE_HEADER_BYTES, user_record,
};

/// Bytes that wait at most before they are written.
const PENDING: usize = 1 << 20;
/// Where in the header the size of the records stands; behind it, where the event types are, and the bits of the features.
const DATA_SIZE_AT: u64 = 48;

/// Where records go.
pub(super) struct Sink {
    place: Place,
    /// Records that wait.
    pending: Vec<u8>,
    /// Bytes of records that were written.
    written: u64,
    compressor: Option<Compressor>,
    /// Features that lie behind the records at all times, not only at the end; of a file alone.
    kept: Vec<(Feature, Vec<u8>)>,
    /// Bytes of the features at the end.
    behind: u64,
    /// Why writing failed; nothing is written after that.
    failed: Option<io::Error>,
}

enum Place {
    File {
        file: File,
        /// Where the records begin.
        data: u64,
    },
    Pipe(Box<dyn Write>),
    Memory(Flight),
}

/// Packs records, a few at a time, each pack by itself: what was compressed before a kill can be read.
struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    level: i32,
    packed: Vec<u8>,
    /// Bytes before and after.
    before: u64,
    after: u64,
}

impl Sink {
    /// Writes the header of a file, with an attr and an id for each event.
    pub(super) fn file(file: File, attrs: &[Vec<u8>], compression: Option<i32>) -> io::Result<Sink> {
        let events = attrs.len() as u64;
        let ids = HEADER_BYTES;
        let table = ids + 8 * events;
        let entry = ATTR_BYTES + 16;
        let data = table + entry * events;
        let mut header = MAGIC.to_vec();
        let mut word = |value: u64| header.extend_from_slice(&value.to_ne_bytes());
        // Header, attr; attrs, records, and the event types that nobody has written since Linux 2.6.
        [HEADER_BYTES, entry, table, entry * events, data, 0, 0, 0].into_iter().for_each(&mut word);
        (0..FEATURE_BITS / 64).for_each(|_| word(0));
        (1..=events).for_each(&mut word);
        for (at, attr) in (0..).zip(attrs) {
            header.extend_from_slice(attr);
            [ids + 8 * at, 8].into_iter().for_each(|value: u64| header.extend_from_slice(&value.to_ne_bytes()));
        }
        file.write_all_at(&header, 0)?;
        Sink::new(Place::File { file, data }, compression)
    }

    /// Writes the header of a pipe.
    pub(super) fn pipe(mut pipe: Box<dyn Write>, compression: Option<i32>) -> io::Result<Sink> {
        pipe.write_all(&MAGIC)?;
        pipe.write_all(&PIPE_HEADER_BYTES.to_ne_bytes())?;
        Sink::new(Place::Pipe(pipe), compression)
    }

    /// Keeps the newest records in memory, for another sink.
    pub(super) fn memory(keep: Keep) -> io::Result<Sink> {
        Sink::new(Place::Memory(Flight::new(keep)), None)
    }

    fn new(place: Place, compression: Option<i32>) -> io::Result<Sink> {
        let compressor = compression.map(|level| {
            let zstd = zstd::bulk::Compressor::new(level)?;
            io::Result::Ok(Compressor { zstd, level, packed: Vec::new(), before: 0, after: 0 })
        });
        Ok(Sink {
            place,
            pending: Vec::with_capacity(PENDING + (1 << 16)),
            written: 0,
            compressor: compressor.transpose()?,
            kept: Vec::new(),
            behind: 0,
            failed: None,
        })
    }

    /// From now on, each time that all is written these features lie behind it.
    pub(super) fn keep(&mut self, features: Vec<(Feature, Vec<u8>)>) {
        self.kept = features;
    }

    /// And this one, in the place of what it was before.
    pub(super) fn keep_also(&mut self, feature: Feature, bytes: Vec<u8>) {
        if self.kept.is_empty() {
            return;
        }
        self.kept.retain(|(other, _)| *other != feature);
        self.kept.push((feature, bytes));
        self.kept.sort_by_key(|(feature, _)| *feature);
    }

    pub(super) fn is_pipe(&self) -> bool {
        matches!(self.place, Place::Pipe(_))
    }

    /// Where the next record is put together.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// The records that were kept in memory.
    pub(super) fn flight(&mut self) -> Option<&mut Flight> {
        if let Place::Memory(flight) = &mut self.place { Some(flight) } else { None }
    }

    /// Bytes of the file, when all is written that waits; none of what is kept in memory.
    pub(super) fn bytes(&self) -> u64 {
        let data = match &self.place {
            Place::File { data, .. } => *data,
            Place::Pipe(_) => PIPE_HEADER_BYTES,
            Place::Memory(_) => return 0,
        };
        data + self.written + self.behind + self.pending.len() as u64
    }

    /// How many times smaller the records became.
    pub(super) fn ratio(&self) -> u32 {
        let ratio = |packed: &Compressor| (packed.before / packed.after.max(1)).max(1) as u32;
        self.compressor.as_ref().map_or(1, ratio)
    }

    /// A record is complete: writes, if enough of them wait. What goes wrong is told by the next [`Sink::sync`].
    pub(super) fn pass(&mut self) {
        if self.pending.len() >= PENDING {
            self.settle();
        }
    }

    /// Tells by a record, uncompressed, how the others are: a file that is killed has no features.
    pub(super) fn tell_compression(&mut self) {
        let Some(level) = self.compressor.as_ref().map(|compressor| compressor.level) else { return };
        if self.is_pipe() {
            // Told with the other features.
            return;
        }
        let mut record = Vec::new();
        let feature = u64::from(Feature::Compressed as u8);
        let bytes = super::features::compressed(level, 1);
        Builder::begin(&mut record, user_record::HEADER_FEATURE, 0).u64(feature).bytes(&bytes).end();
        self.write(&record);
    }

    /// Writes what waits, and makes the header true.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.settle();
        self.failed.take().map_or(Ok(()), Err)
    }

    fn settle(&mut self) {
        self.write_out();
        self.tell(true);
    }

    /// Makes the header true: how many bytes of records there are, and which features lie behind them; none, while those are overwritten.
    fn tell(&mut self, features: bool) {
        let Place::File { file, .. } = &self.place else { return };
        let mut bits = [0_u64; FEATURE_BITS as usize / 64];
        for feature in self.kept.iter().map(|(feature, _)| *feature as usize).filter(|_| features) {
            bits[feature / 64] |= 1 << (feature % 64);
        }
        // At once, with the event types between them, of which there are none.
        let words = [self.written, 0, 0].into_iter().chain(bits);
        let bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        if let Err(error) = file.write_all_at(&bytes, DATA_SIZE_AT) {
            self.failed.get_or_insert(error);
        }
    }

    fn write_out(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        match self.compressor.as_mut().map(|compressor| compressor.pack(&pending)) {
            None => self.write(&pending),
            Some(Ok(packed)) => {
                self.write(&packed);
                if let Some(compressor) = &mut self.compressor {
                    compressor.packed = packed;
                }
            }
            Some(Err(error)) => drop(self.failed.get_or_insert(error)),
        }
        pending.clear();
        self.pending = pending;
    }

    /// Writes whole records.
    fn write(&mut self, records: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        match &mut self.place {
            Place::File { .. } => self.write_to_file(records),
            Place::Memory(flight) => flight.push(records),
            Place::Pipe(pipe) => {
                self.written += records.len() as u64;
                self.failed = pipe.write_all(records).and_then(|()| pipe.flush()).err();
            }
        }
    }

    /// Writes whole records with the features behind them: first what lies behind the features that are there, so that the file is without
    /// them for a moment only. Of records that the disk has no room for, the ones that are whole stay.
    fn write_to_file(&mut self, records: &[u8]) {
        let Place::File { file, data } = &self.place else { return };
        let at = *data + self.written;
        let features = lay_out(&self.kept, at + records.len() as u64);
        let first = records.len().min(features.len());
        let (done, error) = write_at(file, &[&records[first..], &features].concat(), at + first as u64);
        let whole = match error {
            None => records.len() as u64,
            Some(error) => {
                self.failed = Some(error);
                whole_records(records, (first + done).saturating_sub(features.len()))
            }
        };
        self.tell(false);
        let Place::File { file, data } = &self.place else { return };
        let (_, error) = write_at(file, &records[..first.min(whole as usize)], at);
        self.written += if error.is_none() { whole } else { 0 };
        if let Some(error) = error {
            self.failed.get_or_insert(error);
        }
        if self.failed.is_some() {
            // They fit where what was written in vain lies.
            let table = *data + self.written;
            let features = lay_out(&self.kept, table);
            let (done, error) = write_at(file, &features, table);
            // What is cut off is not among the bytes that the header tells of.
            let _ = file.set_len(table + if error.is_none() { done as u64 } else { 0 });
            if error.is_some() {
                self.kept.clear();
            }
        }
    }

    /// Ends the file with features, in the place of those that were kept.
    pub(super) fn features(&mut self, features: Vec<(Feature, Vec<u8>)>) -> io::Result<()> {
        self.tell(false);
        let Place::File { file, data } = &self.place else { return Ok(()) };
        let table = *data + self.written;
        let bytes = lay_out(&features, table);
        let (_, error) = write_at(file, &bytes, table);
        if let Some(error) = error {
            let kept = lay_out(&self.kept, table);
            let there = write_at(file, &kept, table).1.is_none();
            let _ = file.set_len(table + if there { kept.len() as u64 } else { 0 });
            self.tell(there);
            return Err(error);
        }
        self.kept = features;
        self.tell(true);
        self.behind = bytes.len() as u64;
        self.failed.take().map_or(Ok(()), Err)
    }
}

/// Features as they lie behind the records, from a place of the file on: a table of where each is, then their bytes.
fn lay_out(features: &[(Feature, Vec<u8>)], place: u64) -> Vec<u8> {
    let mut at = place + 16 * features.len() as u64;
    let (mut table, mut bodies) = (Vec::new(), Vec::new());
    for (_, bytes) in features {
        table.extend([at, bytes.len() as u64].into_iter().flat_map(u64::to_ne_bytes));
        bodies.extend_from_slice(bytes);
        at += bytes.len() as u64;
    }
    table.extend(bodies);
    table
}

impl Compressor {
    /// Puts records into `COMPRESSED` records. One that is too large for a pack stays as it is.
    fn pack(&mut self, mut records: &[u8]) -> io::Result<Vec<u8>> {
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        self.before += records.len() as u64;
        while !records.is_empty() {
            let whole = whole_records(records, COMPRESSED_ROOM) as usize;
            let (pack, rest) = records.split_at(if whole == 0 { record_size(records) } else { whole });
            records = rest;
            if whole == 0 {
                packed.extend_from_slice(pack);
                continue;
            }
            let compressed = self.zstd.compress(pack)?;
            Builder::begin(&mut packed, user_record::COMPRESSED, 0).bytes(&compressed).end();
        }
        self.after += packed.len() as u64;
        Ok(packed)
    }
}

fn write_at(file: &File, bytes: &[u8], at: u64) -> (usize, Option<io::Error>) {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], at + done as u64) {
            Ok(0) => return (done, Some(io::ErrorKind::WriteZero.into())),
            Ok(more) => done += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Some(error)),
        }
    }
    (done, None)
}

/// Bytes of the records that lie wholly within the first `room` bytes.
fn whole_records(records: &[u8], room: usize) -> u64 {
    let mut end = 0;
    while end < records.len() {
        let next = end + record_size(&records[end..]);
        if next > room {
            break;
        }
        end = next;
    }
    end as u64
}

/// Bytes of the first record, as its header says; all of them if that cannot be.
fn record_size(records: &[u8]) -> usize {
    let size = records.get(6..8).map_or(0, |size| usize::from(u16::from_ne_bytes([size[0], size[1]])));
    if size < 8 { records.len() } else { size.min(records.len()) }
}
