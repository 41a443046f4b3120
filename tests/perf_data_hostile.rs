//! Recordings of every mode that are damaged: cut, harmed, made up, and compressed to bombs. Each gives what is whole of it, or an error, in little
//! memory.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use common::perf::{self, Recorded};
use common::recording::rprof;
use proptest::prelude::*;
use rprof::record::Record;
use rprof::record::perf_data::PerfData;
use rprof::session::Screen;
use rprof::session::replay::{Replay, ReplayOptions};

/// Reads a file as `report` does, whatever comes of it.
fn replay(path: &Path) {
    let screen = Screen::new(true);
    if let Ok(replay) = Replay::open(path, ReplayOptions::default(), &screen) {
        let _ = replay.profile();
    }
}

/// Small recordings of every mode: what perf writes, and what rprof does.
fn corpus() -> Vec<(String, Vec<u8>)> {
    const OF_PERF: [&[&str]; 11] = [
        &[],
        &["-g"],
        &["--call-graph", "dwarf,4096"],
        &["-z", "-g"],
        &["-a", "-g"],
        &["-e", "cpu-clock,page-faults", "-g"],
        &["-e", "cpu-clock,sched:sched_switch", "-a"],
        &["-e", "{cpu-clock,page-faults}:S"],
        &["--per-thread", "-g"],
        &["--switch-events", "--all-cgroups", "--namespaces", "-k", "mono"],
        &["--buildid-mmap", "-g"],
    ];
    const OF_OURS: [&[&str]; 8] = [
        &["-F", "499", "-o", "x.data"],
        &["-F", "499", "-z", "-o", "x.data"],
        &["-F", "199", "--raw-stacks", "-o", "x.data"],
        &["-F", "499", "--off-cpu", "-o", "x.data"],
        &["-e", "cpu-clock,page-faults", "-o", "x.data"],
        &["-e", "sched:sched_process_exit", "-o", "x.data"],
        &["-F", "499", "--switch-events", "--overwrite", "-o", "x.data"],
        &["-F", "499", "-o", "-"],
    ];
    let mut corpus: Vec<(String, Vec<u8>)> = OF_PERF
        .iter()
        .map(|mode| {
            let recorded = Recorded::of_chain(mode);
            (format!("perf {mode:?}"), fs::read(&recorded.file).unwrap())
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    for mode in OF_OURS {
        let mut command = rprof();
        command.current_dir(&folder).args(["record", "-q"]).args(mode).arg("--").arg(perf::chain()).arg("0.2");
        let printed = command.output().unwrap();
        assert!(printed.status.success(), "{mode:?}: {printed:?}");
        let file = mode.contains(&"x.data").then(|| fs::read(folder.path().join("x.data")).unwrap());
        corpus.push((format!("rprof {mode:?}"), file.unwrap_or(printed.stdout)));
    }
    corpus
}

#[test]
#[ignore = "writes the corpus of scripts/fuzz"]
fn writes_the_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/perf_data");
    fs::create_dir_all(&folder).unwrap();
    for (at, (_, bytes)) in corpus().iter().enumerate() {
        fs::write(folder.join(format!("mode-{at:02}")), bytes).unwrap();
    }
}

/// Harms bytes: a few of them anywhere, or numbers where the header and the records have numbers. Half of it in the headers, where most harm
/// can be done.
fn harm(bytes: &mut [u8], random: &mut fastrand::Rng) {
    const NUMBERS: [u64; 10] = [0, 1, 7, 8, 0xff, 0xffff, u32::MAX as u64, i64::MAX as u64, u64::MAX - 7, u64::MAX];
    let numbers = random.bool();
    for _ in 0..random.usize(1..40) {
        let most = if random.bool() { bytes.len() } else { bytes.len().min(1024) };
        let at = random.usize(..most);
        if !numbers {
            bytes[at] = random.u8(..);
            continue;
        }
        let (at, size) = (at & !3, [2, 4, 8][random.usize(..3)]);
        let number = NUMBERS[random.usize(..NUMBERS.len())].to_ne_bytes();
        if let Some(field) = bytes.get_mut(at..at + size) {
            field.copy_from_slice(&number[..size]);
        }
    }
}

#[test]
fn no_cut_and_no_harmed_byte_does_harm() {
    let mut random = fastrand::Rng::with_seed(7);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harmed");
    for (mode, bytes) in corpus() {
        for part in 0..=4 {
            fs::write(&path, &bytes[..bytes.len() * part / 4]).unwrap();
            let out = rprof().arg("report").arg(&path).output().unwrap();
            assert!(matches!(out.status.code(), Some(0 | 255)), "{mode} {part}/4: {out:?}");
        }
        for _ in 0..24 {
            let mut bytes = bytes.clone();
            harm(&mut bytes, &mut random);
            fs::write(&path, &bytes).unwrap();
            replay(&path);
        }
    }
    let most = rprof::sys::peak_memory().unwrap();
    assert!(most < 200 << 20, "{most} bytes were used");
}

/// A pipe with one event of this type of samples and then `records`.
fn pipe(sample_type: u64, records: &[u8]) -> Vec<u8> {
    let mut bytes = b"PERFILE2".to_vec();
    bytes.extend(16_u64.to_ne_bytes());
    let mut attr = [0_u8; 128];
    attr[4..8].copy_from_slice(&128_u32.to_ne_bytes());
    attr[24..32].copy_from_slice(&sample_type.to_ne_bytes());
    attr[40..48].copy_from_slice(&(1_u64 << 18).to_ne_bytes());
    attr[80..88].copy_from_slice(&0xff_0fff_u64.to_ne_bytes());
    bytes.extend(64_u32.to_ne_bytes());
    bytes.extend([0, 0]);
    bytes.extend((8 + 128_u16 + 8).to_ne_bytes());
    bytes.extend(attr);
    bytes.extend(7_u64.to_ne_bytes());
    bytes.extend(records);
    bytes
}

fn record(kind: u32, misc: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_ne_bytes().to_vec();
    bytes.extend(misc.to_ne_bytes());
    bytes.extend((8 + body.len() as u16).to_ne_bytes());
    bytes.extend(body);
    bytes
}

/// Compressed data of 64 MB of a record of 8 bytes, over and over.
fn packed(record: &[u8; 8]) -> Vec<u8> {
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let part = record.repeat(1 << 12);
    (0..1 << 11).for_each(|_| zstd.write_all(&part).unwrap());
    zstd.finish().unwrap()
}

#[test]
fn compressed_bombs_end() {
    // Of an unknown kind.
    let unknown = packed(record(60, 0, &[])[..].try_into().unwrap());
    assert!(unknown.len() < 60_000);
    let bomb: Vec<u8> = record(81, 0, &unknown).repeat(3);
    let mut data = PerfData::from_pipe(Box::new(Cursor::new(pipe(7, &bomb))), "bomb").unwrap();
    data.read(&mut |_, _| {}).unwrap();
    assert_eq!(data.counts().of(60), 3 * (8 << 20));
    let mut data =
        PerfData::from_pipe(Box::new(Cursor::new(pipe(7, &record(81, 0, &packed(&[0; 8]))))), "zeros").unwrap();
    data.read(&mut |_, _| {}).unwrap();
    assert!(data.counts().damaged);
    let most = rprof::sys::peak_memory().unwrap();
    assert!(most < 200 << 20, "{most} bytes were used");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_records_are_read(
        sample_type in 0_u64..1 << 25,
        records in prop::collection::vec((0_u32..85, any::<u16>(), prop::collection::vec(0_u8..9, 0..200)), 0..40),
        cut in 0_usize..64,
    ) {
        let mut bytes: Vec<u8> = records.iter().flat_map(|(kind, misc, body)| record(*kind, *misc, body)).collect();
        bytes.truncate(bytes.len().saturating_sub(cut));
        for order in [false, true] {
            let mut bytes = pipe(sample_type, &bytes);
            if order {
                bytes[..8].copy_from_slice(b"2ELIFREP");
                bytes[8..16].reverse();
            }
            let Ok(mut data) = PerfData::from_pipe(Box::new(Cursor::new(bytes)), "soup") else { continue };
            let mut samples = 0;
            data.read(&mut |record, _| samples += u64::from(matches!(record, Record::Sample(_)))).unwrap();
            prop_assert!(samples <= data.counts().of(9));
        }
    }
}
