//! pprof files: read back as they were, read by `go tool pprof` with the same totals, and no harm from damaged ones.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "encode_support/mod.rs"]
mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use rprof::encode::{DecodeError, Format, WriteOptions, decode, write_file};
use rprof::profile::{
    Function, FunctionId, Known, Label, LabelValue, Location, LocationId, Mapping, MappingId, Profile, Sample,
    SourceLine, StringId,
};
use support::*;

fn encode(profile: &Profile) -> Vec<u8> {
    let mut bytes = Vec::new();
    (Format::by_name("pprof").unwrap().write)(profile, &WriteOptions::default(), &mut bytes).unwrap();
    bytes
}

fn plain(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut plain).unwrap();
    plain
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Runs `go tool pprof` on a file; without Go the test fails.
fn go_pprof(file: &Path, args: &[&str]) -> String {
    let output = Command::new("go")
        .args(["tool", "pprof"])
        .args(args)
        .arg(file)
        // It would look for the program of the first mapping in its folders.
        .env("PPROF_BINARY_PATH", "/nonexistent")
        .env("PPROF_TMPDIR", file.parent().unwrap())
        .output()
        .expect("go tool pprof is needed: apt-get install golang-go");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

fn written(profile: &Profile) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pb.gz");
    write_file(&path, Format::for_path(&path).unwrap(), profile).unwrap();
    (folder, path)
}

#[test]
fn what_is_written_is_read_back() {
    let profile = server_profile();
    assert_eq!(decode(&encode(&profile)).unwrap(), profile);
    assert_eq!(decode(&plain(&encode(&profile))).unwrap(), profile, "not compressed");
    assert_eq!(decode(&encode(&Profile::default())).unwrap(), Profile::default());
}

#[test]
fn equal_profiles_give_equal_bytes() {
    let bytes = encode(&server_profile());
    assert_eq!(bytes, encode(&server_profile()));
    assert_eq!(bytes[4..8], [0; 4], "no time in the gzip header");
    assert_eq!(bytes[3], 0, "nor a name");
}

/// A decoder that knows nothing of the writer: field numbers and wire types as profile.proto gives them.
#[test]
fn the_bytes_are_those_of_profile_proto() {
    let bytes = plain(&encode(&server_profile()));
    let fields = fields(&bytes);
    let of = |number: u64| fields.iter().filter(move |field| field.0 == number).map(|field| field.1.clone());
    let bytes_of = |number: u64| of(number).map(|value| value.bytes()).collect::<Vec<_>>();
    let strings: Vec<String> = bytes_of(6).iter().map(|text| String::from_utf8(text.clone()).unwrap()).collect();
    assert_eq!(strings[0], "");
    let string = |index: u64| strings[usize::try_from(index).unwrap()].clone();
    let numbers = |message: &[u8]| -> Vec<(u64, u64)> {
        fields_with(message, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
            .iter()
            .map(|(tag, value)| (*tag, value.number()))
            .collect()
    };
    let types: Vec<_> = bytes_of(1).iter().map(|message| numbers(message)).collect();
    assert_eq!(types.iter().map(|t| string(t[0].1)).collect::<Vec<_>>(), ["samples", "cpu"]);
    for table in [3, 4, 5] {
        let ids: Vec<u64> =
            bytes_of(table).iter().map(|message| fields_with(message, &[1]).first().unwrap().1.number()).collect();
        assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>(), "ids of table {table} are 1..n");
    }
    let main = numbers(&bytes_of(3)[0]);
    let field = |tag: u64| main.iter().find(|field| field.0 == tag).unwrap().1;
    assert_eq!(string(field(5)), "/usr/bin/server");
    assert_eq!(string(field(6)), "aa".repeat(20));
    assert_eq!([7, 8, 9, 10].map(field), [1; 4]);
    assert_eq!(of(9).next().unwrap().number(), 1_700_000_000_000_000_000);
    assert_eq!(of(10).next().unwrap().number(), 10_000_000_000);
    assert_eq!(of(12).next().unwrap().number(), 1_000_000);
    assert_eq!(string(of(14).next().unwrap().number()), "cpu");
    assert_eq!(of(7).count() + of(8).count(), 0, "no frames are dropped");
}

#[derive(Clone, Debug)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Value {
    fn number(&self) -> u64 {
        match self {
            Value::Number(number) => *number,
            Value::Bytes(_) => panic!("bytes, not a number"),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Value::Number(_) => panic!("a number, not bytes"),
            Value::Bytes(bytes) => bytes.clone(),
        }
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return number;
        }
    }
    panic!("a varint of more than ten bytes");
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Value)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Value::Bytes(value.to_vec())
            }
            wire => panic!("wire type {wire} is not in profile.proto"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

fn fields_with(bytes: &[u8], numbers: &[u64]) -> Vec<(u64, Value)> {
    let wanted = |field: &(u64, Value)| numbers.contains(&field.0) && matches!(field.1, Value::Number(_));
    fields(bytes).into_iter().filter(wanted).collect()
}

#[test]
fn go_reads_the_same_totals() {
    let (_folder, path) = written(&server_profile());
    let top = go_pprof(&path, &["-top"]);
    assert!(top.contains("File: server"), "{top}");
    assert!(top.contains("Type: cpu"), "{top}");
    assert!(top.contains("Duration: 10s, Total samples = 100ms ( 1.00%)"), "{top}");
    assert!(top.contains("      40ms 40.00% 40.00%       65ms 65.00%  hash (inline)"), "{top}");
    assert!(top.contains("         0     0%   100%       90ms 90.00%  main"), "{top}");
    assert!(top.contains("      15ms 15.00%"), "recursion is counted once: {top}");
    let samples = go_pprof(&path, &["-top", "-sample_index=samples"]);
    assert!(samples.contains("Total samples = 100 "), "{samples}");
    let modules = go_pprof(&path, &["-top", "-show_from=main", "-focus=memcpy"]);
    assert!(modules.contains("memcpy"), "{modules}");
}

#[test]
fn go_reads_tables_labels_stacks_and_comments() {
    let (_folder, path) = written(&server_profile());
    let raw = go_pprof(&path, &["-raw"]);
    assert!(raw.contains("PeriodType: cpu nanoseconds") && raw.contains("Period: 1000000"), "{raw}");
    assert!(raw.contains("samples/count cpu/nanoseconds[dflt]"), "{raw}");
    assert!(raw.contains("/usr/bin/server aaaaaaaa") && raw.contains("[FN][FL][LN][IN]"), "{raw}");
    let tags = go_pprof(&path, &["-tags"]);
    for line in ["comm: Total 100ms", "65ms (65.00%): server", "29ms (29.00%): worker 1", "tid: Total", "pid: Total"] {
        assert!(tags.contains(line), "{line} in {tags}");
    }
    let one_thread = go_pprof(&path, &["-top", "-tagfocus=tid=43"]);
    assert!(one_thread.contains("Showing nodes accounting for 29ms, 29.00% of 100ms total"), "{one_thread}");
    let traces = go_pprof(&path, &["-traces"]);
    let stack: Vec<&str> = traces.lines().skip_while(|line| !line.contains("25ms")).take(4).map(str::trim).collect();
    assert_eq!(stack, ["25ms   memcpy", "hash (inline)", "lookup(int)", "main"], "{traces}");
    let peek = go_pprof(&path, &["-peek", "^memcpy$"]);
    assert!(peek.contains("25ms 71.43% |   hash"), "{peek}");
    assert!(peek.contains("10ms 28.57% |   main"), "{peek}");
    let comments = go_pprof(&path, &["-comments"]);
    assert!(comments.contains("command: server --port 80") && comments.contains("stacks.truncated=4"), "{comments}");
    assert!(comments.contains("event cpu-clock: value=cpu"), "{comments}");
}

#[test]
fn what_go_writes_is_read() {
    let (folder, path) = written(&server_profile());
    let by_go = folder.path().join("go.pb.gz");
    go_pprof(&path, &["-proto", "-output", by_go.to_str().unwrap()]);
    let (profile, ours) = (rprof::encode::read_file(&by_go).unwrap(), server_profile());
    profile.check().unwrap();
    let stacks = |profile: &Profile| -> Vec<(Vec<String>, Vec<i64>)> {
        let frames = |sample| profile.frames(sample).map(|frame| frame.name.into_owned()).collect();
        let mut stacks: Vec<_> = profile.samples.iter().map(|sample| (frames(sample), sample.values.clone())).collect();
        stacks.sort();
        stacks
    };
    assert_eq!(stacks(&profile), stacks(&ours));
    assert_eq!((profile.period, profile.time_nanos), (ours.period, ours.time_nanos));
    assert_eq!(profile.command(), ours.command());
    assert_eq!(profile.label(&profile.samples[0], "comm"), ours.label(&ours.samples[0], "comm"));
}

#[test]
fn go_merges_and_diffs_two_windows() {
    let (_folder, path) = written(&server_profile());
    let (_other_folder, other) = written(&server_profile());
    let both = go_pprof(&path, &["-top", other.to_str().unwrap()]);
    assert!(both.contains("of 200ms total"), "{both}");
    let difference = go_pprof(&path, &["-top", "-diff_base", other.to_str().unwrap()]);
    assert!(difference.contains("Showing nodes accounting for 0, 0% of 100ms total"), "{difference}");
}

#[test]
fn a_profile_that_breaks_a_rule_is_not_written() {
    let mut profile = server_profile();
    profile.sample_types[1].name = profile.strings.intern("off-cpu");
    profile.default_sample_type = StringId::EMPTY;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pb.gz");
    let error = write_file(&path, Format::for_path(&path).unwrap(), &profile).unwrap_err();
    assert!(error.to_string().contains("the sample type \"off-cpu\""), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn errors_say_what_is_wrong_where() {
    let message = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
    // location 7 with a line of function 9; string_table [""].
    let dangling = [0x22, 6, 0x08, 7, 0x22, 2, 0x08, 9, 0x32, 0];
    assert_eq!(message(&dangling), "location 7 refers to function 9, which is not there");
    assert_eq!(message(&[0x2a, 2, 0x08, 3, 0x2a, 2, 0x08, 3, 0x32, 0]), "function 3 is there twice");
    assert_eq!(message(&[0x2a, 2, 0x10, 1, 0x32, 0]), "function 0 has the id 0, which means none");
    assert_eq!(message(&[0x12, 2, 0x10, 1, 0x32, 0]), "sample 1 has 1 values for 0 sample types");
    assert_eq!(message(&[0x0a, 2, 0x08, 5, 0x32, 0]), "a sample type refers to string 5, but there are 1");
    assert_eq!(message(&[0x32, 1, b'x', 0x70, 0]), "string 0 is not the empty string");
    assert_eq!(
        message(b"PERFILE2........"),
        "a perf.data file, which is a recording and not yet a profile (rprof convert FILE x.pb.gz makes one of it)"
    );
    assert_eq!(message(b"\xff\xfe\x00"), "not a profile of a known format");
    assert_eq!(message(b""), "not a profile of a known format");
    let cut = encode(&server_profile());
    assert!(message(&cut[..cut.len() / 2]).starts_with("the gzip data is damaged: "));
}

#[test]
fn ids_of_other_writers_may_be_any_numbers_and_text_need_not_be_utf8() {
    // sample_type {1, 0}; sample {location 700, value 5}; location 700 {line {function 900}}; function 900 {name 1}.
    let bytes = [
        &[0x0a, 2, 0x08, 1][..],
        &[0x12, 5, 0x08, 0xbc, 0x05, 0x10, 5],
        &[0x22, 8, 0x08, 0xbc, 0x05, 0x22, 3, 0x08, 0x84, 0x07],
        &[0x2a, 5, 0x08, 0x84, 0x07, 0x10, 1],
        &[0x32, 0, 0x32, 2, b'f', 0xff],
    ]
    .concat();
    let profile = decode(&bytes).unwrap();
    let frames: Vec<_> = profile.frames(&profile.samples[0]).map(|frame| frame.name.into_owned()).collect();
    assert_eq!(frames, ["f\u{fffd}"]);
}

#[test]
fn a_bomb_is_refused() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..300 {
        gzip.write_all(&zeros).unwrap();
    }
    let error = decode(&gzip.finish().unwrap()).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { what: "bytes when decompressed", .. }), "{error}");
    let many_samples = self::gzip(&[0x12, 0].repeat(9 << 20));
    let error = decode(&many_samples).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { what: "entries", .. }), "{error}");
}

/// Any profile that keeps the rules.
/// A profile with one stack of one location with one function, each so often.
fn repeated(stack: usize, lines: usize, name: &str) -> Vec<u8> {
    let mut profile = Profile::default();
    profile.sample_types = vec![profile.value_type("samples", "count")];
    let name = profile.strings.intern(name);
    profile.functions = vec![Function { name, ..Function::default() }];
    let line = SourceLine { function: FunctionId(0), line: 0, column: 0 };
    profile.locations = vec![Location { lines: vec![line; lines], ..Location::default() }];
    profile.samples = vec![Sample { stack: vec![LocationId(0); stack], values: vec![1], labels: Vec::new() }];
    encode(&profile)
}

#[test]
fn a_few_bytes_that_stand_for_thousands_of_millions_of_frames_are_refused() {
    let bytes = repeated(60_000, 60_000, "f");
    assert!(bytes.len() < 8192, "{} bytes", bytes.len());
    for bytes in [bytes.clone(), plain(&bytes)] {
        let error = decode(&bytes).unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge { what: "frames in one stack", .. }), "{error}");
    }
    let error = decode(&repeated(60_000, 1, &"n".repeat(100_000))).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { what: "bytes of names in all stacks together", .. }), "{error}");
    assert_eq!(decode(&repeated(200_000, 1, "f")).unwrap().samples[0].stack.len(), 200_000, "deep, and yet read");
    let inlined = decode(&repeated(500, 500, "f")).unwrap();
    assert_eq!(inlined.frames(&inlined.samples[0]).count(), 250_000);
}

#[test]
fn folded_stacks_are_bounded_too() {
    let stack = |depth: usize| format!("{} 1\n", vec!["f"; depth].join(";"));
    assert_eq!(decode(stack(200_000).as_bytes()).unwrap().samples[0].stack.len(), 200_000);
    let error = decode(stack(300_000).as_bytes()).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { what: "frames in one stack", .. }), "{error}");
}

fn any_profile() -> impl Strategy<Value = Profile> {
    let texts = prop::collection::vec(any::<String>(), 1..12);
    let tables = (1..4_u32, 1..6_u32, 1..8_u32);
    (texts, tables, any::<u64>(), any::<[i64; 8]>()).prop_flat_map(
        |(texts, (mappings, functions, locations), seed, n)| {
            let stacks = prop::collection::vec(
                (prop::collection::vec(0..locations, 0..6), any::<i64>(), any::<i64>(), 0..4_u8),
                0..10,
            );
            stacks.prop_map(move |stacks| profile_of(&texts, (mappings, functions, locations), seed, n, &stacks))
        },
    )
}

type Stacks = [(Vec<u32>, i64, i64, u8)];

fn profile_of(texts: &[String], tables: (u32, u32, u32), seed: u64, n: [i64; 8], stacks: &Stacks) -> Profile {
    let mut profile = Profile::default();
    let text = |profile: &mut Profile, at: u64| {
        let at = usize::try_from((seed ^ at) % texts.len() as u64).unwrap();
        profile.strings.intern(&texts[at])
    };
    profile.sample_types = vec![profile.value_type("samples", "count"), profile.value_type("cpu", "nanoseconds")];
    for id in 0..tables.0.into() {
        let (file, build_id) = (text(&mut profile, id), text(&mut profile, id + 1));
        let mapping = Mapping { start: id, limit: u64::MAX, offset: seed, file, build_id, has: Known::default() };
        profile.mappings.push(mapping);
    }
    for id in 0..tables.1.into() {
        let [name, system_name, file] = [1, 2, 3].map(|add| text(&mut profile, id + add));
        // A function without a name is read with its system name.
        let name = if name == StringId::EMPTY { system_name } else { name };
        profile.functions.push(Function { name, system_name, file, start_line: n[0] });
    }
    for id in 0..tables.2 {
        let line = |function| SourceLine { function: FunctionId(function), line: n[1], column: n[2] };
        let lines = (0..id % tables.1).map(line).collect();
        let mapping = (id % 2 == 0).then_some(MappingId(id % tables.0));
        profile.locations.push(Location { mapping, address: seed.wrapping_mul(id.into()), lines, folded: id == 1 });
    }
    let keys = ["pid", "comm", "bytes"].map(|key| profile.strings.intern(key));
    let name = profile.strings.intern("a name");
    for (stack, samples, weight, labels) in stacks {
        let values =
            [LabelValue::Number(*samples, StringId::EMPTY), LabelValue::Text(name), LabelValue::Number(*weight, name)];
        let labels = keys.iter().zip(values).take((*labels).into()).map(|(&key, value)| Label { key, value });
        let stack = stack.iter().map(|&id| LocationId(id)).collect();
        profile.samples.push(Sample { stack, values: vec![*samples, *weight], labels: labels.collect() });
    }
    texts.iter().for_each(|text| profile.comment(text));
    profile.time_nanos = n[3].saturating_abs();
    profile.duration_nanos = n[4].saturating_abs();
    profile.period = n[5];
    profile.period_type = (n[6] > 0).then_some(profile.sample_types[1]);
    profile
}

proptest! {
    #[test]
    fn any_profile_is_read_back_as_it_was(profile in any_profile()) {
        profile.check().unwrap();
        prop_assert_eq!(decode(&encode(&profile)).unwrap(), profile);
    }

    #[test]
    fn damaged_bytes_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = plain(&encode(&server_profile()));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes);
        let _ = decode(&gzip(&bytes));
        let _ = decode(&bytes[..cut.index(bytes.len())]);
        let mut packed = encode(&server_profile());
        let at = at % packed.len();
        packed[at] = byte;
        // What is read nonetheless holds together: nothing that shows it panics.
        if let Ok(profile) = decode(&packed) {
            profile.samples.iter().for_each(|sample| assert!(profile.frames(sample).count() >= sample.stack.len()));
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = decode(&bytes);
        let _ = decode(&gzip(&bytes));
    }
}

#[test]
fn a_function_without_a_name_has_its_system_name() {
    let mut profile = server_profile();
    let system_name = profile.strings.intern("_ZN3app4workEv");
    profile.functions[0].name = profile.strings.intern("");
    profile.functions[0].system_name = system_name;
    let message = rprof::encode::pprof_message(&profile).unwrap();
    let read = decode(&message).unwrap();
    assert_eq!(read.text(read.functions[0].name), "_ZN3app4workEv");
}
