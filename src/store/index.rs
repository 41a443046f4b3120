//! The index of a day: an append-only file of rows, which can be made again from the windows at any time.
//!
//! It begins with eight bytes: `rprofix` and the version. A row is its length and the CRC-32 of its bytes, both 32 bits, little
//! endian, and a message of protocol buffers, [`message::Row`]. A row that was cut short (a full disk, a kill) ends the file; the
//! next one to append cuts it off. A row of bytes that are not those that were written is passed over. In both cases the
//! window is read again from its file.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use rustc_hash::{FxHashMap, FxHashSet};

use super::folder::{self, INDEX};
use super::lock::Lock;
use super::name::{Day, FileName};
use super::{LabelTotal, Mode, Row, Source, StoreError, Summary, Total};
use crate::sys;

/// How an index of this version begins. A reader of another version makes the rows anew instead of guessing.
const HEADER: &[u8; 8] = b"rprofix\x01";
/// Length and CRC.
const FRAME: usize = 8;
/// Bytes of a row at most: 500 processes with names of 100 bytes are 60 KB, the inputs of an hour of seconds 250 KB.
const MAX_ROW: usize = 4 << 20;
/// Separates names. No name of the kernel's has it.
const SEPARATOR: char = '\0';

mod message {
    use prost::Message;

    /// A row. Fields are only added; names and numbers of processes are columns, which take a third of a message for each.
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Row {
        /// The file, below the day's folder.
        #[prost(string, tag = "1")]
        pub(super) file: String,
        #[prost(uint64, tag = "2")]
        pub(super) bytes: u64,
        /// Why the file cannot be read; empty if it can.
        #[prost(string, tag = "3")]
        pub(super) damage: String,
        /// The names of the files that were merged into this one.
        #[prost(string, repeated, tag = "4")]
        pub(super) inputs: Vec<String>,
        #[prost(string, tag = "5")]
        pub(super) unit: String,
        #[prost(int64, tag = "6")]
        pub(super) covered: i64,
        #[prost(uint32, tag = "7")]
        pub(super) cpus: u32,
        #[prost(uint64, tag = "8")]
        pub(super) frequency: u64,
        #[prost(sint64, tag = "9")]
        pub(super) samples: i64,
        #[prost(sint64, tag = "10")]
        pub(super) value: i64,
        #[prost(uint64, tag = "11")]
        pub(super) lost: u64,
        /// All names of the columns below, which count them from 0.
        #[prost(string, tag = "12")]
        pub(super) names: String,
        #[prost(sint64, repeated, tag = "13")]
        pub(super) pid_of: Vec<i64>,
        #[prost(uint32, repeated, tag = "14")]
        pub(super) comm_of: Vec<u32>,
        #[prost(uint32, repeated, tag = "15")]
        pub(super) container_of: Vec<u32>,
        #[prost(uint32, repeated, tag = "16")]
        pub(super) unit_of: Vec<u32>,
        #[prost(sint64, repeated, tag = "17")]
        pub(super) samples_of: Vec<i64>,
        #[prost(sint64, repeated, tag = "18")]
        pub(super) value_of: Vec<i64>,
        /// Keys and values of further labels, one after the other.
        #[prost(string, repeated, tag = "19")]
        pub(super) label_of: Vec<String>,
        #[prost(sint64, repeated, tag = "20")]
        pub(super) label_samples_of: Vec<i64>,
        #[prost(sint64, repeated, tag = "21")]
        pub(super) label_value_of: Vec<i64>,
        /// Whether the three before tell all: they do not where there are too many, nor in rows of older versions.
        #[prost(bool, tag = "22")]
        pub(super) labels_told: bool,
    }
}

/// What of a row is looked at to find out whether the rest is wanted. The other fields are skipped, not decoded.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Head {
    /// The file, below the day's folder.
    #[prost(string, tag = "1")]
    pub(super) file: String,
    /// The names of the files that were merged into it.
    #[prost(string, repeated, tag = "4")]
    pub(super) inputs: Vec<String>,
}

/// What is known of a file that is named as a window.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// The window.
    pub(super) row: Row,
    /// The names of the files that were merged into it.
    pub(super) inputs: Vec<String>,
    /// Why it cannot be read, if so.
    pub(super) damage: Option<String>,
}

/// Names that many rows have, each held once.
#[derive(Default)]
pub(super) struct Names(FxHashSet<Arc<str>>);

impl Names {
    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.0.insert(text.clone());
        text
    }
}

/// A row as it stands in the file, with its length and CRC.
pub(super) fn frame(entry: &Entry, file: &FileName) -> Vec<u8> {
    framed(&to_message(entry, file).encode_to_vec())
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], &crc32fast::hash(payload).to_le_bytes()[..], payload].concat()
}

fn to_message(entry: &Entry, file: &FileName) -> message::Row {
    let Entry { row: Row { name: _, path: _, bytes, pinned: _, summary }, inputs, damage } = entry;
    let Summary { unit, covered, cpus, frequency, samples, value, lost, totals, labels } = summary;
    let of_labels = labels.as_deref().unwrap_or_default();
    let mut names = Table::default();
    let mut column = |of: fn(&Total) -> &str| totals.iter().map(|total| names.number(of(total))).collect();
    let (comm_of, container_of, unit_of) = (column(|t| &t.process), column(|t| &t.container), column(|t| &t.unit));
    message::Row {
        file: key(file),
        bytes: *bytes,
        damage: damage.clone().unwrap_or_default(),
        inputs: inputs.clone(),
        unit: unit.clone(),
        covered: *covered,
        cpus: *cpus,
        frequency: *frequency,
        samples: *samples,
        value: *value,
        lost: *lost,
        names: names.text,
        pid_of: totals.iter().map(|total| total.pid).collect(),
        comm_of,
        container_of,
        unit_of,
        samples_of: totals.iter().map(|total| total.samples).collect(),
        value_of: totals.iter().map(|total| total.value).collect(),
        label_of: of_labels.iter().flat_map(|of| [of.key.to_string(), of.text.to_string()]).collect(),
        label_samples_of: of_labels.iter().map(|of| of.samples).collect(),
        label_value_of: of_labels.iter().map(|of| of.value).collect(),
        labels_told: labels.is_some(),
    }
}

/// The names of a row, each once.
#[derive(Default)]
struct Table {
    text: String,
    numbers: FxHashMap<String, u32>,
}

impl Table {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        if number > 0 {
            self.text.push(SEPARATOR);
        }
        self.text.extend(name.chars().map(|c| if c == SEPARATOR { '\u{fffd}' } else { c }));
        self.numbers.insert(name.to_owned(), number);
        number
    }
}

/// Reads a row; `None` if its columns do not fit together.
pub(super) fn entry(payload: &[u8], file: &FileName, names: &mut Names) -> Option<Entry> {
    let row = message::Row::decode(payload).ok()?;
    let length = row.pid_of.len();
    let texts: Vec<Arc<str>> = row.names.split(SEPARATOR).map(|name| names.intern(name)).collect();
    let text = |column: &[u32], at: usize| texts.get(*column.get(at)? as usize).cloned();
    let total = |at: usize| {
        Some(Total {
            pid: row.pid_of[at],
            process: text(&row.comm_of, at)?,
            container: text(&row.container_of, at)?,
            unit: text(&row.unit_of, at)?,
            samples: *row.samples_of.get(at)?,
            value: *row.value_of.get(at)?,
        })
    };
    let totals = (0..length).map(total).collect::<Option<Vec<Total>>>()?;
    let label = |(at, of): (usize, &[String])| {
        let [key, text] = of else { return None };
        let (samples, value) = (*row.label_samples_of.get(at)?, *row.label_value_of.get(at)?);
        Some(LabelTotal { key: names.intern(key), text: names.intern(text), samples, value })
    };
    let labels = row.label_of.chunks(2).enumerate().map(label).collect::<Option<Vec<LabelTotal>>>()?;
    let summary = Summary {
        labels: row.labels_told.then_some(labels),
        unit: row.unit,
        covered: row.covered,
        cpus: row.cpus,
        frequency: row.frequency,
        samples: row.samples,
        value: row.value,
        lost: row.lost,
        totals,
    };
    let row_of = Row { name: file.name.clone(), path: file.path(), bytes: row.bytes, pinned: false, summary };
    Some(Entry { row: row_of, inputs: row.inputs, damage: (!row.damage.is_empty()).then_some(row.damage) })
}

/// By what a day's rows name a file: the hour and the name.
pub(super) fn key(file: &FileName) -> String {
    let path = file.path();
    path.strip_prefix(file.hour().day().folder()).unwrap_or(&path).to_string_lossy().into_owned()
}

/// The rows of an index, one after the other.
pub(super) struct Rows {
    source: Option<BufReader<File>>,
    payload: Vec<u8>,
    /// Where the last whole row ended; 0 for an index that is none of this version.
    end: u64,
    /// Rows that were not what was written.
    bad: usize,
}

impl Rows {
    /// Begins to read the index of a day; one that is not there has no rows.
    pub(super) fn of(directory: &Path, day: Day) -> Result<Rows, StoreError> {
        let path = path(directory, day);
        match sys::open_regular(None, &path, false) {
            Ok(file) => Rows::read(file, &path),
            // What is no file (a FIFO, a link) tells no row either; a writer says so, and the windows are read.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                Ok(Rows { source: None, payload: Vec::new(), end: 0, bad: 0 })
            }
            Err(error) => Err(StoreError::io("read", &path)(error)),
        }
    }

    fn read(file: File, path: &Path) -> Result<Rows, StoreError> {
        let mut source = BufReader::with_capacity(256 << 10, file);
        let mut header = [0; HEADER.len()];
        let filled = fill(&mut source, &mut header).map_err(StoreError::io("read", path))?;
        let known = filled && header == *HEADER;
        let end = if known { HEADER.len() as u64 } else { 0 };
        Ok(Rows { source: known.then_some(source), payload: Vec::new(), end, bad: 0 })
    }

    /// The next whole row.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let Some(source) = &mut self.source else { return Ok(None) };
        loop {
            let mut frame = [0; FRAME];
            if !fill(source, &mut frame)? {
                return Ok(None);
            }
            let [a, b, c, d, e, f, g, h] = frame;
            let (length, crc) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]));
            // Zeros are what a crash of the machine leaves of a file that was being written.
            if length == 0 || length > MAX_ROW {
                return Ok(None);
            }
            self.payload.resize(length, 0);
            if !fill(source, &mut self.payload)? {
                return Ok(None);
            }
            self.end += (FRAME + length) as u64;
            if crc32fast::hash(&self.payload) == crc {
                break;
            }
            self.bad += 1;
        }
        Ok(Some(&self.payload))
    }

    /// The next whole row's head, and the row.
    pub(super) fn next_with_head(&mut self) -> io::Result<Option<(Head, &[u8])>> {
        // A head that does not decode is of a row that is no row; its file is then read.
        Ok(self.next()?.map(|payload| (Head::decode(payload).unwrap_or_default(), payload)))
    }

    /// Where the last whole row ended.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Rows that were passed over.
    pub(super) fn bad(&self) -> usize {
        self.bad
    }
}

/// Reads as many bytes as there is room for; `false` if there are fewer.
fn fill(source: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match source.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Appends to indices. It knows how long the index was that it wrote to last, so that only what others
/// wrote meanwhile has to be looked at.
#[derive(Debug, Default)]
pub(super) struct Appender {
    whole: Option<(Day, u64)>,
}

impl Appender {
    /// Appends rows behind the last whole one. It is not synced: what a crash takes is made again from the windows.
    /// If there is no room, the index is as it was.
    pub(super) fn append(&mut self, directory: &Path, day: Day, frames: &[u8]) -> Result<(), StoreError> {
        let path = path(directory, day);
        let lock = Lock::of_index(directory, Mode::default())?;
        let mode = lock.mode().map_err(StoreError::io("look at the lock of", &path))?;
        let at = self.whole_length(directory, day)?;
        self.whole = None;
        let mut file = sys::open_own(&path, mode.file()).map_err(StoreError::io("open", &path))?;
        let end = write_at(&mut file, at, frames).map_err(StoreError::io("write", &path))?;
        self.whole = Some((day, end));
        Ok(())
    }

    fn whole_length(&self, directory: &Path, day: Day) -> Result<u64, StoreError> {
        let path = path(directory, day);
        let length = fs::metadata(&path).map_or(0, |data| data.len());
        if self.whole == Some((day, length)) {
            return Ok(length);
        }
        let mut rows = Rows::of(directory, day)?;
        while rows.next().map_err(StoreError::io("read", &path))?.is_some() {}
        Ok(rows.end())
    }
}

fn write_at(file: &mut File, at: u64, frames: &[u8]) -> io::Result<u64> {
    file.set_len(at)?;
    file.seek(SeekFrom::Start(at))?;
    let header: &[u8] = if at == 0 { HEADER } else { &[] };
    let written = file.write_all(&[header, frames].concat());
    if let Err(error) = written {
        // What cannot be cut off either is cut off by its reader.
        let _ = file.set_len(at);
        return Err(error);
    }
    Ok(at + (header.len() + frames.len()) as u64)
}

/// Writes the index of a day anew with those of its rows that `keep` accepts.
pub(super) fn rewrite(
    directory: &Path,
    day: Day,
    source: Source,
    mut keep: impl FnMut(&Head) -> bool,
) -> Result<(), StoreError> {
    let path = path(directory, day);
    let failed = |what| StoreError::io(what, &path);
    let lock = Lock::of_index(directory, Mode::default())?;
    let mode = lock.mode().map_err(failed("look at the lock of"))?;
    let mut rows = Rows::of(directory, day)?;
    let beside = folder::temporary(&directory.join(day.folder()), source, mode)?;
    let mut out = BufWriter::new(beside.as_file());
    out.write_all(HEADER).map_err(failed("write"))?;
    while let Some((head, payload)) = rows.next_with_head().map_err(failed("read"))? {
        if keep(&head) {
            out.write_all(&framed(payload)).map_err(failed("write"))?;
        }
    }
    out.flush().map_err(failed("write"))?;
    drop(out);
    beside.persist(&path).map_err(|error| failed("write")(error.error))?;
    Ok(())
}

/// The index of a day.
pub(super) fn path(directory: &Path, day: Day) -> PathBuf {
    directory.join(day.folder()).join(INDEX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> FileName {
        FileName::parse("h.cpu.20261123T143200Z-20261123T143300Z.pb.gz").unwrap()
    }

    fn sample_entry(processes: i64) -> Entry {
        let total = |pid: i64| Total {
            pid,
            process: format!("comm {}", pid % 7).into(),
            container: if pid % 2 == 0 { "".into() } else { "c".repeat(64).into() },
            unit: format!("unit-{}.service", pid % 20).into(),
            samples: pid % 100,
            value: pid * 52_631_578,
        };
        let summary = Summary {
            unit: "nanoseconds".into(),
            covered: 60_000_000_000,
            cpus: 64,
            frequency: 19,
            samples: 12,
            value: -3,
            lost: 4,
            totals: (0..processes).map(total).collect(),
            labels: Some(vec![LabelTotal { key: "version".into(), text: "v1".into(), samples: 12, value: -3 }]),
        };
        let row = Row { name: file().name, path: file().path(), bytes: 1234, pinned: false, summary };
        Entry { row, inputs: vec!["a".into(), "b".into()], damage: None }
    }

    fn read(directory: &Path) -> Vec<Entry> {
        let (mut rows, mut names, mut entries) = (Rows::of(directory, day()).unwrap(), Names::default(), Vec::new());
        while let Some(payload) = rows.next().unwrap() {
            entries.push(entry(payload, &file(), &mut names).unwrap());
        }
        entries
    }

    fn day() -> Day {
        file().hour().day()
    }

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(day().folder())).unwrap();
        directory
    }

    #[test]
    fn rows_are_read_back() {
        let directory = directory();
        let entries = [sample_entry(0), sample_entry(1), Entry { damage: Some("cut".into()), ..sample_entry(200) }];
        let mut appender = Appender::default();
        for entry in &entries {
            appender.append(directory.path(), day(), &frame(entry, &file())).unwrap();
        }
        assert_eq!(read(directory.path()), entries);
    }

    #[test]
    fn a_row_of_many_processes_is_small() {
        assert!(frame(&sample_entry(200), &file()).len() < 4000, "{}", frame(&sample_entry(200), &file()).len());
    }

    /// Whatever is cut off the end, the rows before are read, and the next one to append ends up behind them.
    #[test]
    fn an_index_torn_at_any_byte_keeps_the_rows_before() {
        let directory = directory();
        let frames: Vec<Vec<u8>> = (0..3).map(|n| frame(&sample_entry(n), &file())).collect();
        let whole = [&HEADER[..], &frames.concat()].concat();
        for cut in 0..=whole.len() {
            fs::write(path(directory.path(), day()), &whole[..cut]).unwrap();
            let ends = (1..=3).filter(|&n| HEADER.len() + frames[..n].concat().len() <= cut).count();
            let kept: Vec<Entry> = (0..ends as i64).map(sample_entry).collect();
            assert_eq!(read(directory.path()), kept, "cut at {cut}");
            Appender::default().append(directory.path(), day(), &frame(&sample_entry(9), &file())).unwrap();
            assert_eq!(read(directory.path()), [kept, vec![sample_entry(9)]].concat(), "cut at {cut}");
        }
    }

    #[test]
    fn a_changed_byte_costs_one_row_and_is_never_believed() {
        let directory = directory();
        let frames: Vec<Vec<u8>> = (0..3).map(|n| frame(&sample_entry(n), &file())).collect();
        let whole = [&HEADER[..], &frames.concat()].concat();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            fs::write(path(directory.path(), day()), &bytes).unwrap();
            let rows = read(directory.path());
            assert!(rows.iter().all(|row| (0..3).any(|n| *row == sample_entry(n))), "byte {at}: {rows:?}");
            assert!(rows.len() < 3, "byte {at} went unnoticed");
        }
    }

    #[test]
    fn an_index_of_another_version_is_not_read() {
        let directory = directory();
        let bytes = [b"rprofix\x02", &frame(&sample_entry(1), &file())[..]].concat();
        fs::write(path(directory.path(), day()), bytes).unwrap();
        assert_eq!(read(directory.path()), []);
    }
}
