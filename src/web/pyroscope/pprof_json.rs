//! A profile as the JSON of `google.v1.Profile`: the names of `profile.proto` in proto3's spelling, numbers of 64 bits as texts.

use serde_json::{Map, Value, json};

use crate::profile::{Function, Label, LabelValue, Location, Mapping, Profile, Sample, StringId, ValueType};

pub(super) fn of(profile: &Profile) -> Value {
    let kind = |kind: &ValueType| json!({ "type": string(kind.name), "unit": string(kind.unit) });
    let numbered = |number: usize| (number + 1).to_string();
    let functions = profile.functions.iter().enumerate().map(|(at, of)| function(numbered(at), of));
    let locations = profile.locations.iter().enumerate().map(|(at, of)| location(numbered(at), of));
    let mappings = profile.mappings.iter().enumerate().map(|(at, of)| mapping(numbered(at), of));
    json!({
        "sampleType": profile.sample_types.iter().map(kind).collect::<Vec<_>>(),
        "sample": profile.samples.iter().map(sample).collect::<Vec<_>>(),
        "mapping": mappings.collect::<Vec<_>>(),
        "location": locations.collect::<Vec<_>>(),
        "function": functions.collect::<Vec<_>>(),
        "stringTable": profile.strings.iter().collect::<Vec<_>>(),
        "timeNanos": profile.time_nanos.to_string(),
        "durationNanos": profile.duration_nanos.to_string(),
        "periodType": profile.period_type.as_ref().map(kind),
        "period": profile.period.to_string(),
        "comment": profile.comments.iter().map(|&id| string(id)).collect::<Vec<_>>(),
        "defaultSampleType": string(profile.default_sample_type),
    })
}

fn string(id: StringId) -> String {
    id.0.to_string()
}

fn id(index: u32) -> String {
    (u64::from(index) + 1).to_string()
}

fn sample(of: &Sample) -> Value {
    json!({
        "locationId": of.stack.iter().map(|location| id(location.0)).collect::<Vec<_>>(),
        "value": of.values.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "label": of.labels.iter().map(label).collect::<Vec<_>>(),
    })
}

fn label(of: &Label) -> Value {
    match of.value {
        LabelValue::Text(text) => json!({ "key": string(of.key), "str": string(text) }),
        LabelValue::Number(number, unit) => {
            json!({ "key": string(of.key), "num": number.to_string(), "numUnit": string(unit) })
        }
    }
}

fn mapping(number: String, of: &Mapping) -> Value {
    json!({
        "id": number,
        "memoryStart": of.start.to_string(),
        "memoryLimit": of.limit.to_string(),
        "fileOffset": of.offset.to_string(),
        "filename": string(of.file),
        "buildId": string(of.build_id),
        "hasFunctions": of.has.functions,
        "hasFilenames": of.has.filenames,
        "hasLineNumbers": of.has.line_numbers,
        "hasInlineFrames": of.has.inline_frames,
    })
}

fn location(number: String, of: &Location) -> Value {
    let line =
        |line: &crate::profile::SourceLine| json!({ "functionId": id(line.function.0), "line": line.line.to_string() });
    let mut value = Map::new();
    value.insert("id".into(), number.into());
    if let Some(mapping) = of.mapping {
        value.insert("mappingId".into(), id(mapping.0).into());
    }
    value.insert("address".into(), of.address.to_string().into());
    value.insert("line".into(), of.lines.iter().map(line).collect());
    value.insert("isFolded".into(), of.folded.into());
    value.into()
}

fn function(number: String, of: &Function) -> Value {
    json!({
        "id": number,
        "name": string(of.name),
        "systemName": string(of.system_name),
        "filename": string(of.file),
        "startLine": of.start_line.to_string(),
    })
}
