//! pprof's `profile.proto`, gzipped. <https://github.com/google/pprof/blob/main/proto/profile.proto> is the source of
//! the field numbers; they have not changed since 2016, fields are only added.
//!
//! Equal profiles give equal bytes: tables are written in their order, and the gzip header has neither time nor name.

mod read;

use std::io::Write;

use flate2::{Compression, GzBuilder};
use prost::Message;

use super::{EncodeError, WriteOptions};
use crate::profile::{
    Function, Label, LabelValue, Location, Mapping, Profile, Sample, SourceLine, StringId, ValueType,
};

pub(super) use read::{read, recognize};

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

/// The message of a profile, not compressed.
///
/// # Errors
/// [`EncodeError::Check`] if the profile breaks a rule.
pub fn message(profile: &Profile) -> Result<Vec<u8>, EncodeError> {
    profile.check()?;
    let mut bytes = Vec::new();
    pieces(profile).for_each(|piece| bytes.extend(piece.encode_to_vec()));
    Ok(bytes)
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
