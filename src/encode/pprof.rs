//! pprof's `profile.proto`, gzipped. <https://github.com/google/pprof/blob/main/proto/profile.proto> is the source of
//! the field numbers; they have not changed since 2016, fields are only added.
//!
//! Equal profiles give equal bytes: tables are written in their order, and the gzip header has neither time nor name.

use std::io::{Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use rustc_hash::FxHashMap;

use super::{DecodeError, EncodeError, WriteOptions};
use crate::profile::{
    Function, FunctionId, Known, Label, LabelValue, Location, LocationId, Mapping, MappingId, Profile, Sample,
    SourceLine, StringId, ValueType,
};

/// Decompressed bytes that are read at most. A window of a busy host with 100,000 stacks has 20 MB; 256 MB is a day's.
const MAX_BYTES: usize = 256 << 20;
/// Entries that are read at most, all tables together: an entry of two bytes takes up to 100 in memory.
const MAX_ENTRIES: usize = 8 << 20;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// The messages of `profile.proto`, with its field numbers.
mod proto {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Profile {
        #[prost(message, repeated, tag = "1")]
        pub(super) sample_type: Vec<ValueType>,
        #[prost(message, repeated, tag = "2")]
        pub(super) sample: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(super) mapping: Vec<Mapping>,
        #[prost(message, repeated, tag = "4")]
        pub(super) location: Vec<Location>,
        #[prost(message, repeated, tag = "5")]
        pub(super) function: Vec<Function>,
        /// Bytes, because some writers put text that is not UTF-8 here.
        #[prost(bytes = "vec", repeated, tag = "6")]
        pub(super) string_table: Vec<Vec<u8>>,
        #[prost(int64, tag = "7")]
        pub(super) drop_frames: i64,
        #[prost(int64, tag = "8")]
        pub(super) keep_frames: i64,
        #[prost(int64, tag = "9")]
        pub(super) time_nanos: i64,
        #[prost(int64, tag = "10")]
        pub(super) duration_nanos: i64,
        #[prost(message, optional, tag = "11")]
        pub(super) period_type: Option<ValueType>,
        #[prost(int64, tag = "12")]
        pub(super) period: i64,
        #[prost(int64, repeated, tag = "13")]
        pub(super) comment: Vec<i64>,
        #[prost(int64, tag = "14")]
        pub(super) default_sample_type: i64,
        #[prost(int64, tag = "15")]
        pub(super) doc_url: i64,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct ValueType {
        #[prost(int64, tag = "1")]
        pub(super) r#type: i64,
        #[prost(int64, tag = "2")]
        pub(super) unit: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Sample {
        #[prost(uint64, repeated, tag = "1")]
        pub(super) location_id: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        pub(super) value: Vec<i64>,
        #[prost(message, repeated, tag = "3")]
        pub(super) label: Vec<Label>,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Label {
        #[prost(int64, tag = "1")]
        pub(super) key: i64,
        #[prost(int64, tag = "2")]
        pub(super) str: i64,
        #[prost(int64, tag = "3")]
        pub(super) num: i64,
        #[prost(int64, tag = "4")]
        pub(super) num_unit: i64,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Mapping {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(uint64, tag = "2")]
        pub(super) memory_start: u64,
        #[prost(uint64, tag = "3")]
        pub(super) memory_limit: u64,
        #[prost(uint64, tag = "4")]
        pub(super) file_offset: u64,
        #[prost(int64, tag = "5")]
        pub(super) filename: i64,
        #[prost(int64, tag = "6")]
        pub(super) build_id: i64,
        #[prost(bool, tag = "7")]
        pub(super) has_functions: bool,
        #[prost(bool, tag = "8")]
        pub(super) has_filenames: bool,
        #[prost(bool, tag = "9")]
        pub(super) has_line_numbers: bool,
        #[prost(bool, tag = "10")]
        pub(super) has_inline_frames: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Location {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(uint64, tag = "2")]
        pub(super) mapping_id: u64,
        #[prost(uint64, tag = "3")]
        pub(super) address: u64,
        #[prost(message, repeated, tag = "4")]
        pub(super) line: Vec<Line>,
        #[prost(bool, tag = "5")]
        pub(super) is_folded: bool,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Line {
        #[prost(uint64, tag = "1")]
        pub(super) function_id: u64,
        #[prost(int64, tag = "2")]
        pub(super) line: i64,
        #[prost(int64, tag = "3")]
        pub(super) column: i64,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Function {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(int64, tag = "2")]
        pub(super) name: i64,
        #[prost(int64, tag = "3")]
        pub(super) system_name: i64,
        #[prost(int64, tag = "4")]
        pub(super) filename: i64,
        #[prost(int64, tag = "5")]
        pub(super) start_line: i64,
    }
}

/// Writes a profile gzipped.
pub(super) fn write(profile: &Profile, _: &WriteOptions, out: &mut dyn Write) -> Result<(), EncodeError> {
    profile.check()?;
    let mut gzip = GzBuilder::new().write(out, Compression::default());
    pieces(profile).try_for_each(|piece| gzip.write_all(&piece.encode_to_vec()))?;
    gzip.finish()?.flush()?;
    Ok(())
}

/// Gzip, or a message of which the first field is one of `profile.proto`'s and no text.
pub(super) fn recognize(bytes: &[u8]) -> bool {
    bytes.starts_with(GZIP_MAGIC) || (!super::folded::recognize(bytes) && count_entries(bytes).is_ok_and(|n| n > 0))
}

/// Reads a profile, gzipped or plain.
pub(super) fn read(bytes: &[u8]) -> Result<Profile, DecodeError> {
    if bytes.starts_with(GZIP_MAGIC) { read_plain(&decompress(bytes)?) } else { read_plain(bytes) }
}

fn decompress(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut plain = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut plain).map_err(DecodeError::Gzip)?;
    Ok(plain)
}

fn read_plain(bytes: &[u8]) -> Result<Profile, DecodeError> {
    if bytes.len() > MAX_BYTES {
        return Err(DecodeError::TooLarge { limit: MAX_BYTES, what: "bytes when decompressed" });
    }
    if count_entries(bytes)? > MAX_ENTRIES {
        return Err(DecodeError::TooLarge { limit: MAX_ENTRIES, what: "entries" });
    }
    from_proto(&proto::Profile::decode(bytes)?)
}

/// The fields of the outermost message, without anything being allocated for them.
fn count_entries(mut bytes: &[u8]) -> Result<usize, prost::DecodeError> {
    let mut count = 0;
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes)?;
        skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?;
        // A packed list of comments is one field with many entries; it is bounded by the bytes.
        count += usize::from(wire_type != WireType::EndGroup);
    }
    Ok(count)
}

/// Samples, locations or functions in one piece.
const PIECE: usize = 4096;

/// A profile as messages that one after the other are one message: repeated fields add up. So the wire form, larger than the
/// profile, is never whole in memory.
fn pieces(profile: &Profile) -> impl Iterator<Item = proto::Profile> {
    let samples = profile.samples.chunks(PIECE).map(|samples| proto::Profile {
        sample: samples.iter().map(sample_to_proto).collect(),
        ..proto::Profile::default()
    });
    let locations = (0..).zip(profile.locations.chunks(PIECE)).map(|(piece, locations)| proto::Profile {
        location: (piece * PIECE as u64 + 1..).zip(locations).map(location_to_proto).collect(),
        ..proto::Profile::default()
    });
    let functions = (0..).zip(profile.functions.chunks(PIECE)).map(|(piece, functions)| proto::Profile {
        function: (piece * PIECE as u64 + 1..).zip(functions).map(function_to_proto).collect(),
        ..proto::Profile::default()
    });
    std::iter::once(header_to_proto(profile)).chain(samples).chain(locations).chain(functions)
}

/// All but samples, locations and functions.
fn header_to_proto(profile: &Profile) -> proto::Profile {
    let string = |id: StringId| i64::from(id.0);
    let kind = |kind: ValueType| proto::ValueType { r#type: string(kind.name), unit: string(kind.unit) };
    proto::Profile {
        sample_type: profile.sample_types.iter().map(|&of| kind(of)).collect(),
        mapping: (1..).zip(&profile.mappings).map(mapping_to_proto).collect(),
        string_table: profile.strings.iter().map(|text| text.as_bytes().to_vec()).collect(),
        drop_frames: string(profile.drop_frames),
        keep_frames: string(profile.keep_frames),
        time_nanos: profile.time_nanos,
        duration_nanos: profile.duration_nanos,
        period_type: profile.period_type.map(kind),
        period: profile.period,
        comment: profile.comments.iter().map(|&comment| string(comment)).collect(),
        default_sample_type: string(profile.default_sample_type),
        doc_url: string(profile.doc_url),
        ..proto::Profile::default()
    }
}

fn sample_to_proto(sample: &Sample) -> proto::Sample {
    proto::Sample {
        location_id: sample.stack.iter().map(|id| u64::from(id.0) + 1).collect(),
        value: sample.values.clone(),
        label: sample.labels.iter().map(label_to_proto).collect(),
    }
}

fn label_to_proto(label: &Label) -> proto::Label {
    let key = label.key.0.into();
    match label.value {
        LabelValue::Text(text) => proto::Label { key, str: text.0.into(), num: 0, num_unit: 0 },
        LabelValue::Number(num, unit) => proto::Label { key, str: 0, num, num_unit: unit.0.into() },
    }
}

fn mapping_to_proto((id, mapping): (u64, &Mapping)) -> proto::Mapping {
    proto::Mapping {
        id,
        memory_start: mapping.start,
        memory_limit: mapping.limit,
        file_offset: mapping.offset,
        filename: mapping.file.0.into(),
        build_id: mapping.build_id.0.into(),
        has_functions: mapping.has.functions,
        has_filenames: mapping.has.filenames,
        has_line_numbers: mapping.has.line_numbers,
        has_inline_frames: mapping.has.inline_frames,
    }
}

fn location_to_proto((id, location): (u64, &Location)) -> proto::Location {
    let line = |line: &SourceLine| proto::Line {
        function_id: u64::from(line.function.0) + 1,
        line: line.line,
        column: line.column,
    };
    proto::Location {
        id,
        mapping_id: location.mapping.map_or(0, |id| u64::from(id.0) + 1),
        address: location.address,
        line: location.lines.iter().map(line).collect(),
        is_folded: location.folded,
    }
}

fn function_to_proto((id, function): (u64, &Function)) -> proto::Function {
    proto::Function {
        id,
        name: function.name.0.into(),
        system_name: function.system_name.0.into(),
        filename: function.file.0.into(),
        start_line: function.start_line,
    }
}

fn from_proto(message: &proto::Profile) -> Result<Profile, DecodeError> {
    let mut profile = Profile::default();
    let strings = Texts::read(&message.string_table, &mut profile)?;
    let ids = Ids {
        mappings: number("mapping", message.mapping.iter().map(|mapping| mapping.id))?,
        functions: number("function", message.function.iter().map(|function| function.id))?,
        locations: number("location", message.location.iter().map(|location| location.id))?,
    };
    for kind in &message.sample_type {
        profile.sample_types.push(strings.value_type("a sample type", kind)?);
    }
    for mapping in &message.mapping {
        profile.mappings.push(mapping_from_proto(mapping, &strings)?);
    }
    for function in &message.function {
        profile.functions.push(function_from_proto(function, &strings)?);
    }
    for location in &message.location {
        profile.locations.push(location_from_proto(location, &ids)?);
    }
    for (index, sample) in message.sample.iter().enumerate() {
        profile.samples.push(sample_from_proto(index + 1, sample, message.sample_type.len(), &strings, &ids)?);
    }
    header_from_proto(message, &strings, &mut profile)?;
    Ok(profile)
}

fn header_from_proto(message: &proto::Profile, strings: &Texts, profile: &mut Profile) -> Result<(), DecodeError> {
    for &comment in &message.comment {
        profile.comments.push(strings.get(|| "a comment".into(), comment)?);
    }
    let of_profile = |id| strings.get(|| "the profile".into(), id);
    profile.default_sample_type = of_profile(message.default_sample_type)?;
    profile.drop_frames = of_profile(message.drop_frames)?;
    profile.keep_frames = of_profile(message.keep_frames)?;
    profile.doc_url = of_profile(message.doc_url)?;
    profile.period_type =
        message.period_type.as_ref().map(|kind| strings.value_type("the period type", kind)).transpose()?;
    profile.period = message.period;
    profile.time_nanos = message.time_nanos;
    profile.duration_nanos = message.duration_nanos;
    Ok(())
}

fn mapping_from_proto(mapping: &proto::Mapping, strings: &Texts) -> Result<Mapping, DecodeError> {
    let owner = || format!("mapping {}", mapping.id);
    Ok(Mapping {
        start: mapping.memory_start,
        limit: mapping.memory_limit,
        offset: mapping.file_offset,
        file: strings.get(owner, mapping.filename)?,
        build_id: strings.get(owner, mapping.build_id)?,
        has: Known {
            functions: mapping.has_functions,
            filenames: mapping.has_filenames,
            line_numbers: mapping.has_line_numbers,
            inline_frames: mapping.has_inline_frames,
        },
    })
}

fn function_from_proto(function: &proto::Function, strings: &Texts) -> Result<Function, DecodeError> {
    let owner = || format!("function {}", function.id);
    Ok(Function {
        name: strings.get(owner, function.name)?,
        system_name: strings.get(owner, function.system_name)?,
        file: strings.get(owner, function.filename)?,
        start_line: function.start_line,
    })
}

fn location_from_proto(location: &proto::Location, ids: &Ids) -> Result<Location, DecodeError> {
    let owner = || format!("location {}", location.id);
    let mapping = match location.mapping_id {
        0 => None,
        id => Some(MappingId(find(&ids.mappings, owner, "mapping", id)?)),
    };
    let line = |line: &proto::Line| {
        let function = FunctionId(find(&ids.functions, owner, "function", line.function_id)?);
        Ok(SourceLine { function, line: line.line, column: line.column })
    };
    let lines = location.line.iter().map(line).collect::<Result<_, DecodeError>>()?;
    Ok(Location { mapping, address: location.address, lines, folded: location.is_folded })
}

fn sample_from_proto(
    number: usize,
    sample: &proto::Sample,
    columns: usize,
    strings: &Texts,
    ids: &Ids,
) -> Result<Sample, DecodeError> {
    let owner = || format!("sample {number}");
    if sample.value.len() != columns {
        let problem = format!("has {} values for {columns} sample types", sample.value.len());
        return Err(DecodeError::Invalid { owner: owner(), problem });
    }
    let location = |&id: &u64| Ok(LocationId(find(&ids.locations, owner, "location", id)?));
    let label = |label: &proto::Label| {
        let key = strings.get(owner, label.key)?;
        let value = match label.str {
            0 => LabelValue::Number(label.num, strings.get(owner, label.num_unit)?),
            text => LabelValue::Text(strings.get(owner, text)?),
        };
        Ok(Label { key, value })
    };
    Ok(Sample {
        stack: sample.location_id.iter().map(location).collect::<Result<_, DecodeError>>()?,
        values: sample.value.clone(),
        labels: sample.label.iter().map(label).collect::<Result<_, DecodeError>>()?,
    })
}

/// The ids of a file, which may be any numbers, and the indices that they get.
struct Ids {
    mappings: FxHashMap<u64, u32>,
    functions: FxHashMap<u64, u32>,
    locations: FxHashMap<u64, u32>,
}

fn number(table: &'static str, ids: impl Iterator<Item = u64>) -> Result<FxHashMap<u64, u32>, DecodeError> {
    let mut numbers = FxHashMap::default();
    for (index, id) in (0_u32..).zip(ids) {
        let problem = match id {
            0 => Some("has the id 0, which means none"),
            _ if numbers.insert(id, index).is_some() => Some("is there twice"),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(DecodeError::Invalid { owner: format!("{table} {id}"), problem: problem.into() });
        }
    }
    Ok(numbers)
}

fn find(numbers: &FxHashMap<u64, u32>, owner: impl Fn() -> String, table: &str, id: u64) -> Result<u32, DecodeError> {
    numbers.get(&id).copied().ok_or_else(|| DecodeError::Invalid {
        owner: owner(),
        problem: format!("refers to {table} {id}, which is not there"),
    })
}

/// The strings of a file. A file may have the same string twice; a profile has it once.
struct Texts(Vec<StringId>);

impl Texts {
    fn read(table: &[Vec<u8>], profile: &mut Profile) -> Result<Texts, DecodeError> {
        if table.first().is_some_and(|first| !first.is_empty()) {
            let problem = "is not the empty string".into();
            return Err(DecodeError::Invalid { owner: "string 0".into(), problem });
        }
        let intern = |text: &Vec<u8>| profile.strings.intern(&String::from_utf8_lossy(text));
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

    fn value_type(&self, owner: &str, kind: &proto::ValueType) -> Result<ValueType, DecodeError> {
        let owner = || owner.to_owned();
        Ok(ValueType { name: self.get(owner, kind.r#type)?, unit: self.get(owner, kind.unit)? })
    }
}
