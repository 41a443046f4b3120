//! jitdump files: `jit-PID.dump`, in which a JIT compiler writes the code that it makes, with names, lines and unwind information
//! (Linux, tools/perf/Documentation/jitdump-specification.txt).
//!
//! The compiler maps a page of the file to execute, so that a profiler hears of it, wherever it lies. It appends records; each that loads
//! code follows those with its lines and its unwind information. The file is a stranger's: sizes, names and counts are bounded, and a
//! record that cannot be is the end of the file.
//!
//! Rejected: the reader of the crate linux-perf-data. It panics on sizes that a damaged file may give, and takes the unwind information
//! to begin with its index where writers put that last.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::perf_map::PerfMap;
use crate::ids::{Address, Pid};
use crate::process::{Jitdump, ProcessInfo, ProcessKey};
use crate::sys;
use crate::unwind::MadeCode;

/// "JiTD", as a little-endian number.
const MAGIC: [u8; 4] = *b"DTiJ";
const HEADER: u64 = 40;
const RECORD_HEADER: u64 = 16;
/// Bytes of a record that are read; of a longer one, code included, the rest is skipped.
const MOST_OF_RECORD: u64 = 4 << 20;
/// Bytes of a name.
const LONGEST_NAME: usize = 8 << 10;
/// Records read at once: some seconds of work.
const MOST_RECORDS: usize = 1 << 20;
/// Functions whose lines are kept, the latest; and lines of one.
const MOST_WITH_LINES: usize = 1 << 16;
const MOST_LINES: usize = 1 << 12;
/// Bytes of an ELF header, by which V8 moves the addresses of lines.
const ELF_HEADER: u64 = 0x40;
/// Files kept.
const MOST_FILES: usize = 16;
/// How often a file is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Opens the jitdump of a process: by its path in the process's own root, or on the host.
///
/// # Errors
/// If there is none, or another user's.
pub fn open(process: &ProcessInfo, path: &str) -> io::Result<File> {
    let own = process.root.as_deref().map(|root| sys::open_regular(Some(root), path.as_ref(), false));
    let file = match own {
        Some(Ok(file)) => file,
        _ => sys::open_regular(None, path.as_ref(), false)?,
    };
    let owner = file.metadata()?.uid();
    if owner != process.uid && owner != 0 {
        return Err(io::Error::new(ErrorKind::PermissionDenied, "the jitdump belongs to another user"));
    }
    Ok(file)
}

/// Opens a process's jitdump, if it is not open yet, and reads how the code is unwound that was written since it was read last.
#[must_use]
pub fn read_unwinding(process: &ProcessInfo, mut jitdump: Jitdump) -> (Jitdump, Vec<MadeCode>) {
    let mut code = Vec::new();
    if jitdump.file.is_none() {
        jitdump.file = open(process, &jitdump.path).ok().map(Arc::new);
    }
    if let Some(file) = &jitdump.file {
        let each = |loaded: Loaded<'_>| code.push(MadeCode::new(Address(loaded.start), loaded.size, loaded.eh_frame));
        jitdump.read = read(file, jitdump.read, each).unwrap_or(u64::MAX);
    }
    (jitdump, code)
}

/// Code that was loaded.
struct Loaded<'a> {
    start: u64,
    size: u64,
    name: &'a [u8],
    /// The body of the record of its lines; empty without.
    lines: &'a [u8],
    /// Its `.eh_frame`; empty without.
    eh_frame: &'a [u8],
}

/// What a record is, by its number.
mod kind {
    pub(super) const LOAD: u32 = 0;
    pub(super) const MOVE: u32 = 1;
    pub(super) const LINES: u32 = 2;
    pub(super) const UNWINDING: u32 = 4;
}

/// Reads complete records from an offset on (0 for the beginning). Answers up to where: behind the last code, as what stands before code
/// belongs to it.
fn read(file: &File, from: u64, mut each: impl FnMut(Loaded<'_>)) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut at = if from == 0 { first_record(file)? } else { from };
    let mut input = BufReader::with_capacity(1 << 16, At { file, at });
    let (mut done, mut body) = (at, Vec::new());
    let (mut lines, mut unwinding, mut names) = (Vec::new(), Vec::new(), FxHashMap::default());
    for _ in 0..MOST_RECORDS {
        let mut header = [0; RECORD_HEADER as usize];
        if length.saturating_sub(at) < RECORD_HEADER {
            break;
        }
        input.read_exact(&mut header)?;
        let (kind, size) = (u32_at(&header, 0).unwrap_or(0), u64::from(u32_at(&header, 4).unwrap_or(0)));
        if size < RECORD_HEADER {
            return Err(ErrorKind::InvalidData.into());
        }
        if length - at < size {
            break;
        }
        let (bytes, wanted) = (size - RECORD_HEADER, wanted(kind, size - RECORD_HEADER));
        body.resize(wanted as usize, 0);
        input.read_exact(&mut body)?;
        input.seek_relative((bytes - wanted).cast_signed())?;
        at += size;
        match kind {
            kind::LINES => std::mem::swap(&mut lines, &mut body),
            kind::UNWINDING => std::mem::swap(&mut unwinding, &mut body),
            kind::LOAD | kind::MOVE => {
                if let Some((start, size, name)) = place(kind, &body, &mut names) {
                    each(Loaded { start, size, name: &name, lines: &lines, eh_frame: eh_frame(&unwinding) });
                }
                lines.clear();
                unwinding.clear();
                done = at;
            }
            _ => {}
        }
    }
    Ok(done)
}

/// A reader with a place of its own: the file is open once, and threads that name and threads that unwind read it.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for At<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.at = at.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Bytes of a record's body that are read: the code itself is not needed.
fn wanted(kind: u32, bytes: u64) -> u64 {
    match kind {
        kind::LOAD | kind::MOVE => bytes.min(40 + LONGEST_NAME as u64 + 1),
        kind::LINES | kind::UNWINDING if bytes <= MOST_OF_RECORD => bytes,
        _ => 0,
    }
}

/// Where the first record begins.
fn first_record(file: &File) -> io::Result<u64> {
    let mut header = [0; HEADER as usize];
    file.read_exact_at(&mut header, 0)?;
    let size = u32_at(&header, 8).map(u64::from).filter(|&size| size >= HEADER && header.starts_with(&MAGIC));
    size.ok_or_else(|| ErrorKind::InvalidData.into())
}

/// Where code of a record lies, how many bytes it has and its name. `names` are those of code by its index, for when it is moved.
fn place(kind: u32, body: &[u8], names: &mut FxHashMap<u64, Arc<[u8]>>) -> Option<(u64, u64, Arc<[u8]>)> {
    // Process and thread, then for code that is loaded: its address twice, its size, its index and its name.
    // For code that is moved: its address, the old and the new one, its size and its index.
    let number = |at: usize| u64_at(body, at);
    if kind == kind::MOVE {
        return Some((number(24)?, number(32)?, names.get(&number(40)?)?.clone()));
    }
    let name = body.get(40..)?;
    let name: Arc<[u8]> = name[..name.iter().position(|&byte| byte == 0)?].into();
    if names.len() < MOST_WITH_LINES {
        names.insert(number(32)?, name.clone());
    }
    Some((number(16)?, number(24)?, name))
}

/// The `.eh_frame` in the body of a record of unwind information: sizes of the whole, of the index behind it and of what is mapped
/// of it, then the bytes.
fn eh_frame(body: &[u8]) -> &[u8] {
    let bytes = || {
        let (size, index) = (u64_at(body, 0)?, u64_at(body, 8)?);
        body.get(24..)?.get(..usize::try_from(size.checked_sub(index)?).ok()?)
    };
    bytes().unwrap_or_default()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The lines of one function.
struct Lines {
    files: Vec<Arc<str>>,
    /// Address, line, and the file's index, by address.
    lines: Vec<(u64, u32, u16)>,
}

impl Lines {
    /// Reads the body of a record: the code's address, a count, then for each line its address, number, discriminator and file.
    fn parse(body: &[u8]) -> Option<Lines> {
        let (code, count) = (u64_at(body, 0)?, u64_at(body, 8)?);
        let mut parsed = Lines { files: Vec::new(), lines: Vec::new() };
        let mut rest = body.get(16..)?;
        for _ in 0..count.min(MOST_LINES as u64) {
            let (address, line) = (u64_at(rest, 0)?, u32_at(rest, 8)?);
            rest = rest.get(16..)?;
            let end = rest.iter().position(|&byte| byte == 0)?;
            let file = parsed.file(&rest[..end]);
            rest = &rest[end + 1..];
            parsed.lines.push((address, line, file));
        }
        parsed.lines.sort_by_key(|line| line.0);
        // V8 counts the ELF header in that `perf inject` will put before the code.
        if parsed.lines.first()?.0 >= code.wrapping_add(ELF_HEADER) {
            parsed.lines.iter_mut().for_each(|line| line.0 = line.0.wrapping_sub(ELF_HEADER));
        }
        Some(parsed)
    }

    /// The number of a file; `0xff` alone stands for that of the line before.
    fn file(&mut self, name: &[u8]) -> u16 {
        let last = self.files.len().saturating_sub(1);
        let name = String::from_utf8_lossy(&name[..name.len().min(LONGEST_NAME)]);
        let is_last = name == "\u{fffd}" || self.files.last().is_some_and(|file| **file == *name);
        if self.files.is_empty() || !is_last {
            self.files.push(name.into());
        }
        u16::try_from(if is_last { last } else { self.files.len() - 1 }).unwrap_or(u16::MAX)
    }

    fn find(&self, address: u64) -> Option<(Arc<str>, u32)> {
        let behind = self.lines.partition_point(|line| line.0 <= address);
        let &(_, line, file) = self.lines[..behind].last()?;
        Some((self.files.get(usize::from(file))?.clone(), line))
    }
}

/// A function of a jitdump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JitFunction {
    /// As its compiler wrote it.
    pub name: String,
    /// The file and line at the address that was asked for.
    pub line: Option<(Arc<str>, u32)>,
}

/// The functions of one file.
#[derive(Default)]
struct Functions {
    names: PerfMap,
    lines: FxHashMap<u64, Lines>,
}

impl Functions {
    fn add(&mut self, loaded: &Loaded<'_>) {
        let Some(end) = loaded.start.checked_add(loaded.size) else { return };
        self.names.add(loaded.start, end, loaded.name);
        if self.lines.len() >= MOST_WITH_LINES {
            self.lines.clear();
        }
        // What was there before is gone.
        self.lines.remove(&loaded.start);
        if let Some(lines) = Lines::parse(loaded.lines) {
            self.lines.insert(loaded.start, lines);
        }
    }

    fn find(&mut self, address: Address) -> Option<JitFunction> {
        let (start, name) = self.names.find_function(address)?;
        let line = self.lines.get(&start).and_then(|lines| lines.find(address.0));
        Some(JitFunction { name: name.to_owned(), line })
    }
}

/// The jitdumps of the processes that were asked for.
#[derive(Default)]
pub struct Jitdumps {
    files: FxHashMap<Pid, ProcessFile>,
}

/// One process's file, as far as it was read.
struct ProcessFile {
    /// Tells a process from a later one with the same PID.
    key: ProcessKey,
    looked: Option<Instant>,
    read: u64,
    functions: Functions,
}

impl Jitdumps {
    /// The function of a process that an address lies in. Where code was replaced, the latest counts.
    pub fn find(&mut self, process: &ProcessInfo, address: Address) -> Option<JitFunction> {
        let file = process.jitdump.as_ref()?;
        if self.files.get(&process.pid).is_none_or(|known| known.key != process.key) {
            self.make_room();
            let functions = Functions::default();
            self.files.insert(process.pid, ProcessFile { key: process.key, looked: None, read: 0, functions });
        }
        let known = self.files.get_mut(&process.pid)?;
        if known.read < u64::MAX && known.looked.is_none_or(|looked| looked.elapsed() >= LOOK_AGAIN) {
            known.looked = Some(Instant::now());
            let functions = &mut known.functions;
            known.read = read(file, known.read, |loaded| functions.add(&loaded)).unwrap_or(u64::MAX);
        }
        known.functions.find(address)
    }

    /// Forgets the file that was looked at longest ago, if there are many.
    fn make_room(&mut self) {
        if self.files.len() >= MOST_FILES
            && let Some(&oldest) = self.files.iter().min_by_key(|(_, file)| file.looked).map(|(pid, _)| pid)
        {
            self.files.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn record(kind: u32, body: &[u8]) -> Vec<u8> {
        let size = RECORD_HEADER as u32 + body.len() as u32;
        [&kind.to_le_bytes()[..], &size.to_le_bytes(), &7_u64.to_le_bytes(), body].concat()
    }

    fn load(start: u64, size: u64, index: u64, name: &str) -> Vec<u8> {
        let numbers = [0, start, start, size, index].map(u64::to_le_bytes).concat();
        record(kind::LOAD, &[&numbers, name.as_bytes(), &[0], &vec![0x90; size as usize]].concat())
    }

    fn lines(code: u64, lines: &[(u64, u32, &[u8])]) -> Vec<u8> {
        let mut body = [code, lines.len() as u64].map(u64::to_le_bytes).concat();
        for (address, line, file) in lines {
            body.extend([&address.to_le_bytes()[..], &line.to_le_bytes(), &[0; 4], file, &[0]].concat());
        }
        record(kind::LINES, &body)
    }

    fn file(records: &[Vec<u8>]) -> File {
        let mut header = [0; HEADER as usize];
        header[..4].copy_from_slice(&MAGIC);
        header[8] = HEADER as u8;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[&header[..], &records.concat()].concat()).unwrap();
        file
    }

    fn functions(file: &File) -> Functions {
        let mut functions = Functions::default();
        let _ = read(file, 0, |loaded| functions.add(&loaded));
        functions
    }

    fn found(functions: &mut Functions, address: u64) -> Option<(String, Option<(String, u32)>)> {
        let found = functions.find(Address(address))?;
        Some((found.name, found.line.map(|(file, line)| (file.to_string(), line))))
    }

    #[test]
    fn names_and_lines_of_what_was_loaded_last() {
        let file = file(&[
            load(0x1000, 16, 1, "old"),
            lines(0x1000, &[(0x1000, 3, b"a.js"), (0x1008, 4, b"\xff"), (0x100c, 9, b"b.js")]),
            load(0x1000, 16, 2, "new"),
            record(kind::MOVE, &[0, 0x1000, 0x1000, 0x5000, 16, 2].map(u64::to_le_bytes).concat()),
            lines(0x2000, &[(0x2044, 5, b"v8.js")]),
            load(0x2000, 64, 3, "of V8"),
        ]);
        let mut functions = functions(&file);
        let line = |file: &str, line| Some((file.to_owned(), line));
        assert_eq!(found(&mut functions, 0x1007), Some(("new".into(), line("a.js", 3))));
        assert_eq!(found(&mut functions, 0x1008), Some(("new".into(), line("a.js", 4))));
        assert_eq!(found(&mut functions, 0x100f), Some(("new".into(), line("b.js", 9))));
        assert_eq!(found(&mut functions, 0x1010), None);
        assert_eq!(found(&mut functions, 0x5000), Some(("new".into(), None)));
        assert_eq!(found(&mut functions, 0x2003), Some(("of V8".into(), None)));
        assert_eq!(found(&mut functions, 0x2004), Some(("of V8".into(), line("v8.js", 5))));
    }

    #[test]
    fn a_half_written_record_is_read_when_it_is_whole() {
        let next = load(0x3000, 16, 2, "next");
        let mut file = file(&[load(0x1000, 16, 1, "first"), lines(0x3000, &[(0x3000, 8, b"x")]), next[..20].to_vec()]);
        let mut names = Vec::new();
        let reached = read(&file, 0, |loaded| names.push(loaded.name.to_vec())).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(&next[20..]).unwrap();
        let end =
            read(&file, reached, |loaded| names.push([loaded.name, &[loaded.lines.len() as u8]].concat())).unwrap();
        assert_eq!(names, [b"first".to_vec(), b"next\x22".to_vec()]);
        assert_eq!(end, file.metadata().unwrap().len());
    }

    #[test]
    fn damage_ends_the_file() {
        let short = [&kind::LOAD.to_le_bytes()[..], &3_u32.to_le_bytes(), &[0; 8]].concat();
        let damaged = file(&[load(0x1000, 16, 1, "first"), short, load(0x2000, 16, 2, "behind")]);
        assert!(read(&damaged, 0, |_| {}).is_err());
        let mut functions = functions(&damaged);
        assert!(functions.find(Address(0x1000)).is_some() && functions.find(Address(0x2000)).is_none());
        assert!(read(&tempfile::tempfile().unwrap(), 0, |_| {}).is_err());
        // Sizes within a record that do not fit.
        let huge = record(kind::UNWINDING, &[u64::MAX, 1, 0].map(u64::to_le_bytes).concat());
        let file = file(&[huge, load(0x1000, 16, 1, "f")]);
        assert!(read(&file, 0, |loaded| assert!(loaded.eh_frame.is_empty())).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400), address: u64) {
            let mut functions = functions(&file(&[bytes]));
            functions.find(Address(address));
        }

        #[test]
        fn any_lines_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200), address: u64) {
            if let Some(lines) = Lines::parse(&bytes) {
                lines.find(address);
            }
        }
    }
}
