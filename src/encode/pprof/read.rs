//! Reading `profile.proto`: straight from its wire form into a profile, without a copy between them.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use rustc_hash::FxHashMap;

use super::super::DecodeError;
use super::super::wire::Fields;
use crate::profile::{
    Function, FunctionId, Label, LabelValue, Location, LocationId, Mapping, MappingId, Profile, Sample, SourceLine,
    StringId, ValueType,
};

/// Decompressed bytes that are read at most. A window of a busy host with 100,000 stacks has 20 MB; 256 MB is a day's.
const MAX_BYTES: usize = 256 << 20;
/// Entries that are read at most, all tables together: an entry of two bytes takes up to 100 in memory.
const MAX_ENTRIES: usize = 8 << 20;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// Gzip, or a message of which the first field is one of `profile.proto`'s and no text.
pub(in crate::encode) fn recognize(bytes: &[u8]) -> bool {
    bytes.starts_with(GZIP_MAGIC)
        || (!crate::encode::folded::recognize(bytes) && count_entries(bytes).is_ok_and(|n| n > 0))
}

/// Reads a profile, gzipped or plain. `plain` is room for the decompressed bytes, which can be used again.
pub(in crate::encode) fn read(bytes: &[u8], plain: &mut Vec<u8>) -> Result<Profile, DecodeError> {
    if !bytes.starts_with(GZIP_MAGIC) {
        return read_plain(bytes);
    }
    plain.clear();
    let limit = MAX_BYTES as u64 + 1;
    MultiGzDecoder::new(bytes).take(limit).read_to_end(plain).map_err(DecodeError::Gzip)?;
    read_plain(plain)
}

fn read_plain(bytes: &[u8]) -> Result<Profile, DecodeError> {
    if bytes.len() > MAX_BYTES {
        return Err(DecodeError::TooLarge { limit: MAX_BYTES, what: "bytes when decompressed" });
    }
    if count_entries(bytes)? > MAX_ENTRIES {
        return Err(DecodeError::TooLarge { limit: MAX_ENTRIES, what: "entries" });
    }
    WireProfile::read(bytes)?.profile()
}

/// The fields of the outermost message, without anything being allocated for them.
fn count_entries(bytes: &[u8]) -> Result<usize, prost::DecodeError> {
    let mut fields = Fields(bytes);
    let mut count = 0;
    // A packed list of comments is one field with many entries; it is bounded by the bytes.
    while fields.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// A file's outermost message with its tables still in wire form: tables may come in any order, and refer to each other.
#[derive(Default)]
struct WireProfile<'a> {
    sample_types: Vec<&'a [u8]>,
    samples: Vec<&'a [u8]>,
    mappings: Vec<&'a [u8]>,
    locations: Vec<&'a [u8]>,
    functions: Vec<&'a [u8]>,
    strings: Vec<&'a [u8]>,
    period_type: Option<WireValueType>,
    comments: Vec<i64>,
    drop_frames: i64,
    keep_frames: i64,
    time_nanos: i64,
    duration_nanos: i64,
    period: i64,
    default_sample_type: i64,
    doc_url: i64,
}

impl<'a> WireProfile<'a> {
    fn read(bytes: &'a [u8]) -> Result<WireProfile<'a>, DecodeError> {
        let mut message = WireProfile::default();
        let mut fields = Fields(bytes);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => message.sample_types.push(value.bytes()?),
                2 => message.samples.push(value.bytes()?),
                3 => message.mappings.push(value.bytes()?),
                4 => message.locations.push(value.bytes()?),
                5 => message.functions.push(value.bytes()?),
                6 => message.strings.push(value.bytes()?),
                7 => message.drop_frames = value.signed()?,
                8 => message.keep_frames = value.signed()?,
                9 => message.time_nanos = value.signed()?,
                10 => message.duration_nanos = value.signed()?,
                11 => message.period_type.get_or_insert_default().read(value.bytes()?)?,
                12 => message.period = value.signed()?,
                13 => value.each_number(|comment| message.comments.push(comment.cast_signed()))?,
                14 => message.default_sample_type = value.signed()?,
                15 => message.doc_url = value.signed()?,
                _ => {}
            }
        }
        Ok(message)
    }

    fn profile(&self) -> Result<Profile, DecodeError> {
        let mut profile = Profile::default();
        let strings = Texts::read(&self.strings, &mut profile)?;
        for bytes in &self.sample_types {
            let mut kind = WireValueType::default();
            kind.read(bytes)?;
            profile.sample_types.push(strings.value_type("a sample type", kind)?);
        }
        let mappings = table("mapping", &self.mappings, &mut profile.mappings, |bytes| mapping(bytes, &strings))?;
        let functions = table("function", &self.functions, &mut profile.functions, |bytes| function(bytes, &strings))?;
        let read = |bytes: &[u8]| location(bytes, &mappings, &functions);
        let locations = table("location", &self.locations, &mut profile.locations, read)?;
        let columns = profile.sample_types.len();
        profile.samples.reserve_exact(self.samples.len());
        for (number, bytes) in (1..).zip(&self.samples) {
            profile.samples.push(sample(number, bytes, columns, &strings, &locations)?);
        }
        self.header(&strings, &mut profile)?;
        Ok(profile)
    }

    fn header(&self, strings: &Texts, profile: &mut Profile) -> Result<(), DecodeError> {
        for &comment in &self.comments {
            profile.comments.push(strings.get(|| "a comment".into(), comment)?);
        }
        let of_profile = |id| strings.get(|| "the profile".into(), id);
        profile.default_sample_type = of_profile(self.default_sample_type)?;
        profile.drop_frames = of_profile(self.drop_frames)?;
        profile.keep_frames = of_profile(self.keep_frames)?;
        profile.doc_url = of_profile(self.doc_url)?;
        profile.period_type = self.period_type.map(|kind| strings.value_type("the period type", kind)).transpose()?;
        profile.period = self.period;
        profile.time_nanos = self.time_nanos;
        profile.duration_nanos = self.duration_nanos;
        Ok(())
    }
}

/// What an entry of a table is read as: its id, which may be any number, and what it holds, unless that refers to nothing. The id is
/// looked at first.
type Entry<T> = Result<(u64, Result<T, DecodeError>), DecodeError>;

/// Reads the entries of a table.
fn table<T>(
    name: &'static str,
    messages: &[&[u8]],
    entries: &mut Vec<T>,
    read: impl Fn(&[u8]) -> Entry<T>,
) -> Result<Ids, DecodeError> {
    entries.reserve_exact(messages.len());
    let mut ids = Ids { table: name, sequential: 0, others: FxHashMap::default() };
    for (index, bytes) in (0_u32..).zip(messages) {
        let (id, entry) = read(bytes)?;
        ids.add(id, index)?;
        entries.push(entry?);
    }
    Ok(ids)
}

fn mapping(bytes: &[u8], strings: &Texts) -> Entry<Mapping> {
    let (mut id, mut file, mut build_id, mut mapping) = (0, 0, 0, Mapping::default());
    let mut fields = Fields(bytes);
    while let Some((tag, value)) = fields.next()? {
        match tag {
            1 => id = value.number()?,
            2 => mapping.start = value.number()?,
            3 => mapping.limit = value.number()?,
            4 => mapping.offset = value.number()?,
            5 => file = value.signed()?,
            6 => build_id = value.signed()?,
            7 => mapping.has.functions = value.number()? != 0,
            8 => mapping.has.filenames = value.number()? != 0,
            9 => mapping.has.line_numbers = value.number()? != 0,
            10 => mapping.has.inline_frames = value.number()? != 0,
            _ => {}
        }
    }
    let text = |index| strings.get(|| format!("mapping {id}"), index);
    let entry = || Ok(Mapping { file: text(file)?, build_id: text(build_id)?, ..mapping });
    Ok((id, entry()))
}

fn function(bytes: &[u8], strings: &Texts) -> Entry<Function> {
    let (mut id, mut name, mut system_name, mut file, mut start_line) = (0, 0, 0, 0, 0);
    let mut fields = Fields(bytes);
    while let Some((tag, value)) = fields.next()? {
        match tag {
            1 => id = value.number()?,
            2 => name = value.signed()?,
            3 => system_name = value.signed()?,
            4 => file = value.signed()?,
            5 => start_line = value.signed()?,
            _ => {}
        }
    }
    let text = |index| strings.get(|| format!("function {id}"), index);
    let entry = || Ok(Function { name: text(name)?, system_name: text(system_name)?, file: text(file)?, start_line });
    Ok((id, entry()))
}

fn location(bytes: &[u8], mappings: &Ids, functions: &Ids) -> Entry<Location> {
    let (mut id, mut mapping, mut location) = (0, 0, Location::default());
    let mut missing = None;
    let mut fields = Fields(bytes);
    while let Some((tag, value)) = fields.next()? {
        match tag {
            1 => id = value.number()?,
            2 => mapping = value.number()?,
            3 => location.address = value.number()?,
            4 => {
                let (function, mut line) = line(value.bytes()?)?;
                match functions.index(function) {
                    Some(index) => line.function = FunctionId(index),
                    None => missing = missing.or(Some(function)),
                }
                location.lines.push(line);
            }
            5 => location.folded = value.number()? != 0,
            _ => {}
        }
    }
    let owner = || format!("location {id}");
    let entry = || {
        let mapping = match mapping {
            0 => None,
            id => Some(MappingId(mappings.find(owner, id)?)),
        };
        missing.map_or(Ok(0), |function| functions.find(owner, function))?;
        Ok(Location { mapping, ..location })
    };
    Ok((id, entry()))
}

fn line(bytes: &[u8]) -> Result<(u64, SourceLine), DecodeError> {
    let (mut function, mut line, mut column) = (0, 0, 0);
    let mut fields = Fields(bytes);
    while let Some((tag, value)) = fields.next()? {
        match tag {
            1 => function = value.number()?,
            2 => line = value.signed()?,
            3 => column = value.signed()?,
            _ => {}
        }
    }
    Ok((function, SourceLine { function: FunctionId(0), line, column }))
}

fn sample(
    number: usize,
    bytes: &[u8],
    columns: usize,
    strings: &Texts,
    locations: &Ids,
) -> Result<Sample, DecodeError> {
    let owner = || format!("sample {number}");
    let mut sample = Sample::default();
    let mut missing = None;
    let mut fields = Fields(bytes);
    while let Some((tag, value)) = fields.next()? {
        match tag {
            1 => value.each_number(|id| match locations.index(id) {
                Some(index) => sample.stack.push(LocationId(index)),
                None => missing = missing.or(Some(id)),
            })?,
            2 => value.each_number(|value| sample.values.push(value.cast_signed()))?,
            3 => sample.labels.push(label(value.bytes()?, owner, strings)?),
            _ => {}
        }
    }
    if sample.values.len() != columns {
        let problem = format!("has {} values for {columns} sample types", sample.values.len());
        return Err(DecodeError::Invalid { owner: owner(), problem });
    }
    if let Some(id) = missing {
        locations.find(owner, id)?;
    }
    Ok(sample)
}

fn label(bytes: &[u8], owner: impl Fn() -> String + Copy, strings: &Texts) -> Result<Label, DecodeError> {
    let (mut key, mut text, mut number, mut unit) = (0, 0, 0, 0);
    let mut fields = Fields(bytes);
    while let Some((tag, value)) = fields.next()? {
        match tag {
            1 => key = value.signed()?,
            2 => text = value.signed()?,
            3 => number = value.signed()?,
            4 => unit = value.signed()?,
            _ => {}
        }
    }
    let value = match text {
        0 => LabelValue::Number(number, strings.get(owner, unit)?),
        text => LabelValue::Text(strings.get(owner, text)?),
    };
    Ok(Label { key: strings.get(owner, key)?, value })
}

/// The ids of a table, which may be any numbers, and the indices that they get. Nearly every writer counts from 1.
struct Ids {
    table: &'static str,
    /// Ids from 1 to this are their index plus one.
    sequential: u32,
    others: FxHashMap<u64, u32>,
}

impl Ids {
    fn add(&mut self, id: u64, index: u32) -> Result<(), DecodeError> {
        let problem = match id {
            0 => "has the id 0, which means none",
            _ if self.index(id).is_some() => "is there twice",
            _ if self.sequential == index && id == u64::from(index) + 1 => {
                self.sequential += 1;
                return Ok(());
            }
            _ => {
                self.others.insert(id, index);
                return Ok(());
            }
        };
        Err(DecodeError::Invalid { owner: format!("{} {id}", self.table), problem: problem.into() })
    }

    fn index(&self, id: u64) -> Option<u32> {
        match u32::try_from(id) {
            Ok(id) if (1..=self.sequential).contains(&id) => Some(id - 1),
            _ => self.others.get(&id).copied(),
        }
    }

    fn find(&self, owner: impl Fn() -> String, id: u64) -> Result<u32, DecodeError> {
        self.index(id).ok_or_else(|| DecodeError::Invalid {
            owner: owner(),
            problem: format!("refers to {} {id}, which is not there", self.table),
        })
    }
}

/// A type and its unit, as indices of strings.
#[derive(Clone, Copy, Default)]
struct WireValueType {
    name: i64,
    unit: i64,
}

impl WireValueType {
    fn read(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut fields = Fields(bytes);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                1 => self.name = value.signed()?,
                2 => self.unit = value.signed()?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The strings of a file. A file may have the same string twice; a profile has it once.
struct Texts(Vec<StringId>);

impl Texts {
    fn read(table: &[&[u8]], profile: &mut Profile) -> Result<Texts, DecodeError> {
        if table.first().is_some_and(|first| !first.is_empty()) {
            let problem = "is not the empty string".into();
            return Err(DecodeError::Invalid { owner: "string 0".into(), problem });
        }
        let intern = |text: &&[u8]| profile.strings.intern(&String::from_utf8_lossy(text));
        Ok(Texts(table.iter().map(intern).collect()))
    }

    /// A file without strings may still refer to the empty one.
    fn get(&self, owner: impl Fn() -> String, index: i64) -> Result<StringId, DecodeError> {
        let found = usize::try_from(index).ok().and_then(|index| self.0.get(index).copied());
        found.or((index == 0).then_some(StringId::EMPTY)).ok_or_else(|| DecodeError::Invalid {
            owner: owner(),
            problem: format!("refers to string {index}, but there are {}", self.0.len()),
        })
    }

    fn value_type(&self, owner: &str, kind: WireValueType) -> Result<ValueType, DecodeError> {
        let owner = || owner.to_owned();
        Ok(ValueType { name: self.get(owner, kind.name)?, unit: self.get(owner, kind.unit)? })
    }
}
