//! Perf maps: `/tmp/perf-PID.map`, in which a JIT compiler writes a line `start size name` (hexadecimal) for each function
//! that it makes (Linux, tools/perf/Documentation/jit-interface.txt). The PID is the one in the process's own namespace.
//!
//! Anyone may write to /tmp: only a regular file of the process's own user (or root's) is believed. Compilers append, so a
//! file is read on from where it ended; a later line wins where functions overlap, for code is moved and dropped.

use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::ids::{Address, Pid};
use crate::process::{ProcessInfo, ProcessKey};
use crate::sys;

/// Functions kept of one map, the latest: 12 MB with their index. The largest maps seen (a JVM with all tiers) have 100,000.
const MOST_FUNCTIONS: usize = 1 << 18;
/// Bytes of names kept of one map.
const MOST_NAME_BYTES: usize = 24 << 20;
/// Bytes read of a file at once, its last ones.
const MOST_BYTES: u64 = 256 << 20;
/// Bytes of a line; of a longer one the rest is not read as a line of its own.
const LONGEST_LINE: usize = 16 << 10;
/// Maps kept.
const MOST_MAPS: usize = 16;
/// How often a file is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The maps of the processes that were asked for.
#[derive(Default)]
pub struct PerfMaps {
    maps: FxHashMap<Pid, ProcessMap>,
    dropped: u64,
}

/// One process's map, as far as it was read.
struct ProcessMap {
    /// Tells a process from a later one with the same PID.
    key: ProcessKey,
    looked: Instant,
    /// Device and inode of the file.
    file: Option<(u64, u64)>,
    end: u64,
    map: PerfMap,
}

impl PerfMaps {
    /// The name of the function of a process that an address lies in, as its compiler wrote it.
    pub fn find(&mut self, process: &ProcessInfo, address: Address) -> Option<&str> {
        if self.maps.get(&process.pid).is_none_or(|map| map.key != process.key) {
            self.make_room();
            self.maps.insert(process.pid, ProcessMap::new(process));
        }
        let map = self.maps.get_mut(&process.pid)?;
        if map.file.is_none() && map.end == 0 || map.looked.elapsed() >= LOOK_AGAIN {
            self.dropped += map.read_on(process);
        }
        map.map.find(address)
    }

    /// Lines that were not kept because a map was too long.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Forgets the map that was looked at longest ago, if there are many.
    fn make_room(&mut self) {
        if self.maps.len() >= MOST_MAPS
            && let Some(&oldest) = self.maps.iter().min_by_key(|(_, map)| map.looked).map(|(pid, _)| pid)
        {
            self.maps.remove(&oldest);
        }
    }
}

impl ProcessMap {
    fn new(process: &ProcessInfo) -> ProcessMap {
        ProcessMap { key: process.key, looked: Instant::now(), file: None, end: 0, map: PerfMap::default() }
    }

    /// Reads what was written since. Returns the lines that were dropped. Without a file, what was read before stands: the
    /// process may have ended and cleaned up.
    fn read_on(&mut self, process: &ProcessInfo) -> u64 {
        self.looked = Instant::now();
        let dropped = self.map.dropped;
        let held = process.perf_map.clone().map_or_else(|| open(process).map(Arc::new), Ok);
        let read = held.and_then(|file| {
            let metadata = file.metadata()?;
            let identity = (metadata.dev(), metadata.ino());
            if self.file != Some(identity) || metadata.len() < self.end {
                (self.file, self.end, self.map) = (Some(identity), 0, PerfMap::default());
            }
            let start = self.end.max(metadata.len().saturating_sub(MOST_BYTES));
            self.end = start + self.map.read(&file, start, start > self.end)?;
            Ok(())
        });
        if read.is_err() {
            // Not looked for again before the time, though there is no file.
            self.end = self.end.max(1);
        }
        self.map.dropped.saturating_sub(dropped)
    }
}

/// Opens the map of a process: in its own root by its own PID, or on the host.
///
/// # Errors
/// If there is none, or another user's.
pub fn open(process: &ProcessInfo) -> io::Result<File> {
    let path = |pid: Pid| PathBuf::from(format!("/tmp/perf-{}.map", pid.0));
    let own = process.root.as_deref().map(|root| sys::open_regular(Some(root), &path(process.namespace_pid), false));
    let file = match own {
        Some(Ok(file)) => file,
        _ => sys::open_regular(None, &path(process.pid), false)?,
    };
    let owner = file.metadata()?.uid();
    if owner != process.uid && owner != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the map belongs to another user"));
    }
    Ok(file)
}

/// The functions of one perf map.
#[derive(Default)]
pub struct PerfMap {
    /// In the order of the file.
    functions: Vec<Function>,
    names: Vec<u8>,
    /// Disjoint ranges by address, each with its function; built when first asked for.
    index: Option<Vec<(Range<u64>, u32)>>,
    dropped: u64,
}

#[derive(Clone, Copy)]
struct Function {
    start: u64,
    end: u64,
    name: u32,
    length: u32,
}

impl PerfMap {
    /// Reads lines from an offset of a file to its last full line; `skip` if the first is the rest of one. Returns the bytes read.
    ///
    /// # Errors
    /// What reading the file answers.
    fn read(&mut self, mut file: &File, start: u64, skip: bool) -> io::Result<u64> {
        file.seek(SeekFrom::Start(start))?;
        self.parse(BufReader::with_capacity(1 << 16, file.take(MOST_BYTES)), skip)
    }

    /// Reads full lines; returns their bytes.
    ///
    /// # Errors
    /// What the reader answers.
    pub fn parse(&mut self, mut lines: impl BufRead, mut skip: bool) -> io::Result<u64> {
        let (mut line, mut bytes) = (Vec::new(), 0);
        loop {
            line.clear();
            let read = (&mut lines).take(LONGEST_LINE as u64).read_until(b'\n', &mut line)?;
            let complete = line.last() == Some(&b'\n');
            if read == 0 || (!complete && read < LONGEST_LINE) {
                return Ok(bytes);
            }
            bytes += read as u64;
            if !skip {
                self.add_line(&line);
            }
            skip = !complete;
        }
    }

    fn add_line(&mut self, line: &[u8]) {
        if let Some((start, end, name)) = parse_line(line) {
            self.add(start, end, name);
        }
    }

    /// Adds a function, in place of what was there.
    pub(super) fn add(&mut self, start: u64, end: u64, name: &[u8]) {
        if self.functions.len() >= MOST_FUNCTIONS || self.names.len() + name.len() > MOST_NAME_BYTES {
            self.drop_older_half();
        }
        let offset = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let length = u32::try_from(name.len()).unwrap_or(0);
        self.names.extend_from_slice(name);
        self.functions.push(Function { start, end, name: offset, length });
        self.index = None;
    }

    fn drop_older_half(&mut self) {
        let half = self.functions.len().div_ceil(2);
        self.dropped += half as u64;
        self.functions.drain(..half);
        let kept = self.functions.first().map_or(self.names.len(), |function| function.name as usize);
        self.names.drain(..kept);
        for function in &mut self.functions {
            function.name -= u32::try_from(kept).unwrap_or(0);
        }
    }

    /// The name of the function that an address lies in.
    pub fn find(&mut self, address: Address) -> Option<&str> {
        self.find_function(address).map(|(_, name)| name)
    }

    /// Where the function begins that an address lies in, and its name.
    pub(super) fn find_function(&mut self, address: Address) -> Option<(u64, &str)> {
        let functions = &self.functions;
        let index = self.index.get_or_insert_with(|| disjoint(functions));
        let behind = index.partition_point(|(range, _)| range.start <= address.0);
        let (_, function) = index[..behind].last().filter(|(range, _)| range.contains(&address.0))?;
        let function = self.functions.get(*function as usize)?;
        let start = function.name as usize;
        let name = self.names.get(start..start + function.length as usize)?;
        Some((function.start, std::str::from_utf8(name).ok()?))
    }
}

/// Cuts overlapping functions into ranges that belong to the latest function there.
fn disjoint(functions: &[Function]) -> Vec<(Range<u64>, u32)> {
    let mut order: Vec<u32> = (0..u32::try_from(functions.len()).unwrap_or(u32::MAX)).collect();
    let function = |number: u32| functions[number as usize];
    order.sort_unstable_by_key(|&number| function(number).start);
    let mut ranges: Vec<(Range<u64>, u32)> = Vec::with_capacity(order.len());
    // The functions that cover the place reached, the latest on top; those that ended are removed when they come up.
    let mut open = BinaryHeap::new();
    let mut place = 0;
    let mut next = order.into_iter().peekable();
    loop {
        while open.peek().is_some_and(|&top| function(top).end <= place) {
            open.pop();
        }
        let start = next.peek().map(|&number| function(number).start);
        let Some(&top) = open.peek() else {
            let Some(start) = start else { return ranges };
            place = start;
            open.extend(next.next_if(|&number| function(number).start == start));
            continue;
        };
        let end = function(top).end.min(start.unwrap_or(u64::MAX));
        if place < end {
            match ranges.last_mut() {
                Some((range, last)) if *last == top && range.end == place => range.end = end,
                _ => ranges.push((place..end, top)),
            }
            place = end;
        }
        open.extend(next.next_if(|&number| function(number).start <= place));
    }
}

/// `start size name`: hexadecimal, with or without `0x`; the name is the rest of the line.
fn parse_line(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let line = line.trim_ascii_end();
    let (start, rest) = split_field(line)?;
    let (size, name) = split_field(rest)?;
    let (start, size) = (hexadecimal(start)?, hexadecimal(size)?);
    let end = start.checked_add(size).filter(|&end| end > start)?;
    let sound = !name.is_empty() && std::str::from_utf8(name).is_ok();
    sound.then_some((start, end, name))
}

fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii_start();
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t'))?;
    Some((&line[..end], line[end..].trim_ascii_start()))
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    let digits = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")).unwrap_or(digits);
    // `from_str_radix` takes a sign too.
    (!digits.starts_with('+')).then(|| u64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(text: &str) -> PerfMap {
        let mut map = PerfMap::default();
        map.parse(text.as_bytes(), false).unwrap();
        map
    }

    #[test]
    fn lines_as_compilers_write_them() {
        let mut map = map(
            "1000 20 ~foo bar:1\n0x2000 0x10 LazyCompile:*baz /a b.js:3\n  3000\t8 py::f:/x.py\nzz 1 no\n4000 0 empty\n5000 10 half",
        );
        let mut at = |address| map.find(Address(address)).map(str::to_owned);
        assert_eq!(at(0x1000).as_deref(), Some("~foo bar:1"));
        assert_eq!(at(0x101f).as_deref(), Some("~foo bar:1"));
        assert_eq!(at(0x1020), None);
        assert_eq!(at(0x2005).as_deref(), Some("LazyCompile:*baz /a b.js:3"));
        assert_eq!(at(0x3001).as_deref(), Some("py::f:/x.py"));
        assert_eq!((at(0x4000), at(0x5000)), (None, None));
    }

    #[test]
    fn a_half_written_line_is_read_when_it_is_whole() {
        let mut map = PerfMap::default();
        assert_eq!(map.parse(&b"1000 10 a\n2000 10 b"[..], false).unwrap(), 10);
        assert_eq!(map.parse(&b"2000 10 bcd\n"[..], false).unwrap(), 12);
        assert_eq!(map.find(Address(0x2000)), Some("bcd"));
    }

    #[test]
    fn a_long_map_keeps_its_end() {
        let mut map = PerfMap::default();
        let count = 3 * MOST_FUNCTIONS;
        let text: String = (0..count).map(|n| format!("{:x} 10 f{n}\n", 0x1000 + n * 16)).collect();
        map.parse(text.as_bytes(), false).unwrap();
        assert!(map.functions.len() <= MOST_FUNCTIONS);
        assert_eq!(map.dropped as usize + map.functions.len(), count);
        assert_eq!(map.find(Address((0x1000 + (count - 1) * 16) as u64)), Some(format!("f{}", count - 1).as_str()));
        let long = format!("9000 10 {}\na000 10 next\n", "1 1 x".repeat(LONGEST_LINE));
        map.parse(long.as_bytes(), false).unwrap();
        assert_eq!(map.find(Address(0xa000)), Some("next"));
    }

    proptest! {
        #[test]
        fn the_latest_line_wins(lines in prop::collection::vec((0u64..60, 1u64..20), 0..30)) {
            let text: String = lines.iter().enumerate().map(|(n, (start, size))| format!("{start:x} {size:x} f{n}\n")).collect();
            let mut map = map(&text);
            for address in 0..90 {
                let expected = lines.iter().rposition(|(start, size)| (*start..start + size).contains(&address));
                prop_assert_eq!(map.find(Address(address)).map(str::to_owned), expected.map(|n| format!("f{n}")));
            }
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300), address: u64) {
            let mut map = PerfMap::default();
            let read = map.parse(&bytes[..], false).unwrap();
            prop_assert!(read as usize <= bytes.len());
            map.find(Address(address));
        }
    }
}
