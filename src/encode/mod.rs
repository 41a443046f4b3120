//! Profiles to bytes and back: one table of formats, one file for each.
//!
//! A new format is a file here and a row in [`FORMATS`].

mod bounds;
pub mod comparison;
mod file;
mod firefox;
mod flamegraph;
mod folded;
mod html;
pub mod page;
pub mod page_json;
mod pprof;
mod speedscope;
mod tracks;
mod wire;

use std::io::{self, Write};
use std::path::Path;

pub use file::{FileError, FileReader, read_file, read_file_of_folder, write_file, write_file_with};
pub use pprof::message as pprof_message;

use crate::profile::{CheckError, KeptLabels, Profile, UnknownValue};

/// A format of profiles.
pub struct Format {
    /// The name by which it is chosen.
    pub name: &'static str,
    /// The endings of file names that choose it, without the dot.
    pub endings: &'static [&'static str],
    /// What it is for.
    pub purpose: &'static str,
    /// Writes a profile.
    pub write: fn(&Profile, &WriteOptions, &mut dyn Write) -> Result<(), EncodeError>,
    /// Reads one, for formats that hold enough to be read again.
    pub read: Option<Reader>,
}

/// How a format is recognized and read. Formats are told apart by content: endings are the user's.
pub struct Reader {
    /// Whether bytes may be of this format.
    pub recognize: fn(&[u8]) -> bool,
    /// Reads a profile into the room. If that fails, what is left there is of no use but as room.
    pub read: fn(&[u8], &ReadOptions, &mut Room) -> Result<(), DecodeError>,
}

/// What a reader can be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// The labels that samples keep. Samples that have none left are added up if their stacks are equal, unless all labels are kept or a
    /// sum would be too large.
    pub labels: KeptLabels,
}

/// Room in which one profile after the other is read, so that the next need not ask for memory what the last one gives back: a day
/// has millions of samples, each with a list of its frames, of its values and of its labels.
#[derive(Debug, Default)]
pub struct Room {
    /// What was decompressed.
    plain: Vec<u8>,
    /// What was read.
    profile: Profile,
}

/// All formats, in the order in which they are listed and tried.
pub static FORMATS: &[Format] = &[
    Format {
        name: "pprof",
        endings: &["pb.gz", "pb", "pprof", "prof"],
        purpose: "profile.proto, gzipped: go tool pprof, Pyroscope, Parca, and the whole of what rprof knows",
        write: pprof::write,
        read: Some(Reader { recognize: pprof::recognize, read: pprof::read }),
    },
    Format {
        name: "folded",
        endings: &["folded", "collapsed", "txt"],
        purpose: "a line for each stack and its count: flamegraph.pl, inferno, speedscope, grep",
        write: folded::write,
        read: Some(Reader { recognize: folded::recognize, read: folded::read }),
    },
    Format {
        name: "flamegraph",
        endings: &["svg"],
        purpose: "a flame graph as one interactive SVG for any browser",
        write: flamegraph::write,
        read: None,
    },
    Format {
        name: "speedscope",
        endings: &["speedscope.json", "speedscope"],
        purpose: "speedscope's own JSON: a profile for each thread, samples in the order of time",
        write: speedscope::write,
        read: None,
    },
    Format {
        name: "firefox",
        endings: &["json"],
        purpose: "Firefox Profiler's JSON: a track for each thread, along the time where it is kept",
        write: firefox::write,
        read: None,
    },
    Format {
        name: "html",
        endings: &["html"],
        purpose: "the page of rprof serve with one value in one file: flame graph, table, callers and callees, time line",
        write: html::write,
        read: None,
    },
];

/// What a writer can be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// The value to write, for formats that hold only one; without it each format chooses.
    pub value: Option<String>,
}

/// No format has this name or ending.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownFormat {
    /// No format of this name.
    #[error("there is no format {name:?}{}; there are {}", did_you_mean(.near), names())]
    Name {
        /// What was asked for.
        name: String,
        /// The names most like it.
        near: Vec<&'static str>,
    },
    /// No format writes files that end so.
    #[error("no format writes files named like {path:?}; known endings are {}", endings())]
    Ending {
        /// The file's path.
        path: String,
    },
}

/// Why a profile could not be written in a format.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The profile breaks a rule.
    #[error("the profile is not valid: {0}")]
    Check(#[from] CheckError),
    /// The value that was asked for is not there.
    #[error(transparent)]
    Value(#[from] UnknownValue),
    /// The bytes could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why bytes are no profile.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No format begins like this.
    #[error("not a profile of a known format")]
    Unrecognized,
    /// A file of `perf record`.
    #[error(
        "a perf.data file, which is a recording and not yet a profile (rprof convert FILE x.pb.gz makes one of it)"
    )]
    PerfData,
    /// The compressed data is damaged or cut short.
    #[error("the gzip data is damaged: {0}")]
    Gzip(io::Error),
    /// More than is read into memory.
    #[error("more than {limit} {what}")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// What there is too much of.
        what: &'static str,
    },
    /// Not a message of the protocol.
    #[error("not a valid profile.proto message: {0}")]
    Proto(#[from] prost::DecodeError),
    /// A message that contradicts itself.
    #[error("{owner} {problem}")]
    Invalid {
        /// The part, with its id.
        owner: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The frames to drop cannot be known.
    #[error("drop_frames or keep_frames is no regular expression that can be used: {0}")]
    Pruning(regex::Error),
    /// A line of `difffolded.pl`, which compares two profiles.
    #[error(
        "line {line} has two counts, as difffolded.pl writes them; rprof diff BASE NEW compares the two files it was made of"
    )]
    TwoCounts {
        /// The line, from 1.
        line: usize,
    },
    /// Not a folded stack.
    #[error("line {line} is not a stack and a count: {text:?}")]
    Folded {
        /// The line, from 1.
        line: usize,
        /// Its beginning.
        text: String,
    },
}

impl Format {
    /// The format that a path's ending chooses; letters' case does not matter.
    ///
    /// # Errors
    /// [`UnknownFormat::Ending`] if none does.
    pub fn for_path(path: &Path) -> Result<&'static Format, UnknownFormat> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let of =
            |name: &str| FORMATS.iter().find(|format| format.endings.iter().any(|ending| has_ending(name, ending)));
        // Any format can be gzipped; pprof's own `.pb.gz` is found first.
        of(&name)
            .or_else(|| of(name.strip_suffix(".gz")?))
            .ok_or_else(|| UnknownFormat::Ending { path: path.display().to_string() })
    }

    /// The format of a name (or one of its endings).
    ///
    /// # Errors
    /// [`UnknownFormat::Name`] if there is none, with the names most like it.
    pub fn by_name(name: &str) -> Result<&'static Format, UnknownFormat> {
        let wanted = name.to_lowercase();
        let is = |format: &&Format| format.name == wanted || format.endings.contains(&&*wanted);
        FORMATS.iter().find(is).ok_or_else(|| UnknownFormat::Name { name: name.into(), near: near(&wanted) })
    }
}

/// Reads a profile of any format that can be read, told by its content.
///
/// # Errors
/// [`DecodeError`] if it is of no known format, or damaged.
pub fn decode(bytes: &[u8]) -> Result<Profile, DecodeError> {
    let mut room = Room::default();
    decode_into(bytes, &ReadOptions::default(), &mut room)?;
    Ok(room.profile)
}

/// As [`decode`], into room that can be used again.
fn decode_into(bytes: &[u8], options: &ReadOptions, room: &mut Room) -> Result<(), DecodeError> {
    if bytes.starts_with(b"PERFILE2") || bytes.starts_with(b"2ELIFREP") {
        return Err(DecodeError::PerfData);
    }
    let readers = || FORMATS.iter().filter_map(|format| format.read.as_ref());
    match readers().find(|reader| (reader.recognize)(bytes)) {
        Some(reader) => (reader.read)(bytes, options, room),
        None => Err(DecodeError::Unrecognized),
    }
}

fn has_ending(name: &str, ending: &str) -> bool {
    name.strip_suffix(ending).is_some_and(|rest| rest.ends_with('.'))
}

/// The names at most half of whose letters would have to change.
fn near(wanted: &str) -> Vec<&'static str> {
    let known = FORMATS.iter().flat_map(|format| std::iter::once(format.name).chain(format.endings.iter().copied()));
    let mut near: Vec<(usize, &str)> = known.map(|name| (strsim::damerau_levenshtein(wanted, name), name)).collect();
    near.retain(|(distance, name)| *distance * 2 <= name.len());
    near.sort_unstable();
    near.into_iter().map(|(_, name)| name).take(2).collect()
}

fn did_you_mean(near: &[&str]) -> String {
    if near.is_empty() { String::new() } else { format!(" (did you mean {}?)", near.join(" or ")) }
}

fn names() -> String {
    FORMATS.iter().map(|format| format.name).collect::<Vec<_>>().join(", ")
}

fn endings() -> String {
    let endings = FORMATS.iter().flat_map(|format| format.endings);
    let endings = endings.map(|ending| format!(".{ending}")).collect::<Vec<_>>().join(", ");
    format!("{endings}, each also with .gz behind it")
}
