//! A window becomes a profile: each frame named once, everything equal merged, every rule of pprof's readers kept.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "encode_support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::fs::File;

use rprof::collect::{EventInfo, Frame, Loss, ProcessIndex, Unit};
use rprof::health::Count;
use rprof::ids::{Address, ImageId, KernelAddress};
use rprof::process::{Image, ImageInfo};
use rprof::profile::{
    CheckError, FunctionId, Label, LabelValue, LocationId, MappingId, Profile, Quality, Sample, StringId, build,
};
use support::*;

fn mapping_names(profile: &Profile) -> Vec<&str> {
    profile.mappings.iter().map(|mapping| profile.text(mapping.file)).collect()
}

fn comments(profile: &Profile) -> Vec<&str> {
    profile.comments.iter().map(|&comment| profile.text(comment)).collect()
}

fn stack_names(profile: &Profile, sample: &Sample) -> Vec<String> {
    profile.frames(sample).map(|frame| frame.name.into_owned()).collect()
}

#[test]
fn a_window_becomes_a_valid_profile() {
    let profile = server_profile();
    profile.check().unwrap();
    let types: Vec<_> =
        profile.sample_types.iter().map(|kind| (profile.text(kind.name), profile.text(kind.unit))).collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    assert_eq!(profile.text(profile.default_sample_type), "cpu");
    assert_eq!(profile.period_type, Some(profile.sample_types[1]));
    assert_eq!(profile.period, 1_000_000);
    assert_eq!(profile.time_nanos, 1_700_000_000_000_000_000);
    assert_eq!(profile.duration_nanos, 10_000_000_000);
    assert_eq!((profile.total(0), profile.total(1)), (100, 100_000_000));
}

#[test]
fn the_main_program_is_the_first_mapping() {
    let profile = server_profile();
    assert_eq!(
        mapping_names(&profile),
        ["/usr/bin/server", "/usr/lib/libc.so.6", "[vdso]", "[kernel.kallsyms]", "[anon]"]
    );
    assert_eq!(profile.text(profile.mappings[0].build_id), "aa".repeat(20));
    let mut window = server_window();
    window.main_process = None;
    let profile = build(window, &mut FakeNamer::default(), &mut |_, _| {});
    assert_eq!(mapping_names(&profile)[0], "/usr/bin/server", "the program with the most samples, no library");
}

#[test]
fn a_mapping_holds_its_addresses_and_claims_only_what_is_true() {
    let profile = server_profile();
    for location in &profile.locations {
        let Some(MappingId(id)) = location.mapping else { continue };
        let mapping = &profile.mappings[id as usize];
        assert!((mapping.start..mapping.limit).contains(&location.address), "{location:?} in {mapping:?}");
    }
    let has: Vec<_> = profile.mappings.iter().map(|mapping| mapping.has).collect();
    let flags = |at: usize| (has[at].functions, has[at].filenames, has[at].line_numbers, has[at].inline_frames);
    assert_eq!(flags(0), (true, true, true, true), "server");
    assert_eq!(flags(1), (true, false, false, false), "libc has one name and no lines");
    assert_eq!(flags(2), (false, false, false, false), "the vDSO has no names");
}

#[test]
fn each_distinct_frame_is_named_once_in_the_order_of_addresses() {
    let mut namer = FakeNamer::default();
    let mut progress = Vec::new();
    build(server_window(), &mut namer, &mut |done, total| progress.push((done, total)));
    let distinct: HashSet<_> = namer.asked.iter().collect();
    assert_eq!(distinct.len(), namer.asked.len());
    assert_eq!(
        namer.asked,
        [
            "/usr/lib/libc.so.6+0x2000",
            "/usr/lib/libc.so.6+0x5000",
            "/usr/bin/server+0x1100",
            "/usr/bin/server+0x1200",
            "/usr/bin/server+0x1300",
            "[vdso]+0xa00",
            "kernel+0xffffffff81000000",
            "77+0x7f0000001000",
        ]
    );
    assert_eq!(progress.last(), Some(&(9, 9)), "and the marker");
    assert!(progress.is_sorted());
}

#[test]
fn stacks_are_leaf_first_with_inlined_functions_inside() {
    let profile = server_profile();
    let stacks: Vec<_> = profile.samples.iter().map(|sample| stack_names(&profile, sample)).collect();
    assert!(stacks.contains(&["hash", "lookup(int)", "main", "/usr/lib/libc.so.6+0x2000"].map(str::to_owned).into()));
    assert!(stacks.contains(&["do_syscall_64", "memcpy", "main"].map(str::to_owned).into()));
    assert!(stacks.contains(&["[vdso]+0xa00", "[truncated]"].map(str::to_owned).into()));
    let marker = profile.locations.iter().find(|location| location.mapping.is_none()).unwrap();
    assert_eq!((marker.address, marker.lines.len()), (0, 1));
}

#[test]
fn threads_are_numbers_and_names_are_texts() {
    let profile = server_profile();
    for sample in &profile.samples {
        let keys: Vec<_> = sample.labels.iter().map(|label| profile.text(label.key)).collect();
        assert_eq!(keys, ["pid", "tid", "process", "comm"]);
        assert!(matches!(sample.labels[0].value, LabelValue::Number(42 | 77, StringId::EMPTY)));
        assert!(matches!(sample.labels[1].value, LabelValue::Number(..)));
        assert!(matches!(sample.labels[2].value, LabelValue::Text(_)));
    }
}

#[test]
fn what_was_lost_lies_in_the_comments() {
    let profile = server_profile();
    let comments = comments(&profile);
    assert_eq!(comments[0], "rprof 0.1.0");
    let event = "event cpu-clock: value=cpu unit=nanoseconds frequency=1000 period=0 lost=7 throttled=1 samples=100 \
                 counted=100000000 unnamed=69000000";
    assert!(comments.contains(&event), "{comments:?}");
    for line in ["samples.taken=100", "stacks.truncated=4", "frames.named=6", "frames.unnamed=2"] {
        assert!(comments.contains(&line), "{line} in {comments:?}");
    }
    let quality = Quality::of(&profile).unwrap();
    assert_eq!((quality.all().lost, quality.all().throttled), (7, 1));
    assert!((quality.all().lost_share() - 7.0 / 107.0).abs() < 1e-9);
    assert_eq!(quality.complete_share(), Some(0.96));
    assert_eq!(quality.health.get(Count::FramesNamed) + quality.health.get(Count::FramesUnnamed), 8);
    assert_eq!(profile.command(), Some("server --port 80"));
    assert_eq!(profile.remarks().collect::<Vec<_>>(), ["rprof 0.1.0", "command: server --port 80"]);
}

#[test]
fn further_events_append_a_pair_of_their_own_name() {
    let mut window = server_window();
    let faults = |name: &str| EventInfo {
        name: name.into(),
        value_name: "page_faults".into(),
        unit: Unit::Count,
        period: 1,
        frequency: 0,
        loss: Loss::default(),
        passed_on: 0,
        count_name: "samples",
        apart: false,
    };
    window.events.extend([faults("page-faults"), faults("minor-faults")]);
    let stack = push(&mut window, &[at(1, 0x1100)]);
    count(&mut window, 1, 0, stack, 3);
    count(&mut window, 2, 0, stack, 5);
    let profile = build(window, &mut FakeNamer::default(), &mut |_, _| {});
    profile.check().unwrap();
    let names: Vec<_> = profile.sample_types.iter().map(|kind| profile.text(kind.name)).collect();
    assert_eq!(
        names,
        ["samples", "cpu", "page_faults_samples", "page_faults", "page_faults_2_samples", "page_faults_2"]
    );
    assert_eq!(profile.text(profile.default_sample_type), "cpu", "not the last, as readers would choose");
    let sample = profile.samples.iter().find(|sample| sample.values[2] > 0).unwrap();
    assert_eq!(sample.values, [0, 0, 3, 3, 5, 5], "one sample for both events");
}

#[test]
fn equal_threads_stacks_and_images_become_one() {
    let mut window = empty_window();
    // The same file in two containers, and a thread that was seen twice.
    window.images = images([image(0, "/app/x", &[1; 20]), image(1, "/app/x", &[1; 20]), image(2, "/app/x", &[2; 20])]);
    window.processes = vec![process(5, "x")];
    window.threads = vec![thread(0, 5, 6, "x"), thread(0, 5, 6, "x"), thread(0, 5, 6, "renamed")];
    for (thread, image, samples) in [(0, 0, 1), (1, 1, 2), (0, 2, 4), (2, 0, 8)] {
        let stack = push(&mut window, &[at(image, 0x10)]);
        count(&mut window, 0, thread, stack, samples);
    }
    let profile = build(window, &mut FakeNamer::default(), &mut |_, _| {});
    profile.check().unwrap();
    assert_eq!(profile.mappings.len(), 2, "another build ID is another file");
    assert_eq!(profile.locations.len(), 2);
    let mut values: Vec<_> = profile.samples.iter().map(|sample| sample.values[0]).collect();
    values.sort_unstable();
    assert_eq!(values, [3, 4, 8]);
}

#[test]
fn an_open_image_gives_its_own_range() {
    let file = File::open("/proc/self/exe").unwrap();
    let image = Image::from_file(ImageId(0), "/self", &file).unwrap();
    let code = *image.segments().iter().find(|segment| segment.executable).unwrap();
    let mut window = empty_window();
    window.images =
        images([ImageInfo { id: ImageId(0), name: "/self".into(), build_id: None, root: None, image: Some(image) }]);
    window.processes = vec![process(1, "self")];
    window.threads = vec![thread(0, 1, 1, "self")];
    let stack = push(&mut window, &[at(0, code.address + 16)]);
    count(&mut window, 0, 0, stack, 1);
    let profile = build(window, &mut FakeNamer::default(), &mut |_, _| {});
    let mapping = profile.mappings[0];
    assert_eq!((mapping.start, mapping.limit, mapping.offset), (code.address, code.address + code.size, code.offset));
    assert_eq!(profile.locations[0].address, code.address + 16);
}

#[test]
fn a_window_without_samples_or_with_dangling_indices_is_still_a_profile() {
    let profile = build(empty_window(), &mut FakeNamer::default(), &mut |_, _| {});
    profile.check().unwrap();
    assert!(profile.samples.is_empty() && profile.mappings.is_empty());
    let mut window = empty_window();
    let lost = push(
        &mut window,
        &[at(9, 1), Frame::Anonymous(ProcessIndex(9), Address(1)), Frame::Kernel(KernelAddress(u64::MAX))],
    );
    count(&mut window, 0, 3, lost, 1);
    count(&mut window, 9, 3, lost, 1);
    build(window, &mut FakeNamer::default(), &mut |_, _| {}).check().unwrap();
}

#[test]
fn the_same_window_gives_the_same_profile() {
    assert_eq!(server_profile(), server_profile());
}

/// What a rule is broken by, and what is said then.
#[test]
fn every_rule_is_checked() {
    let broken = |change: &dyn Fn(&mut Profile)| {
        let mut profile = server_profile();
        change(&mut profile);
        profile.check().unwrap_err()
    };
    let dash = broken(&|profile| profile.sample_types[1].name = profile.strings.intern("off-cpu"));
    assert_eq!(dash, CheckError::SampleTypeName("off-cpu".into()));
    let twice = broken(&|profile| profile.sample_types[1] = profile.sample_types[0]);
    assert_eq!(twice, CheckError::SampleTypeTwice("samples".into()));
    let default = broken(&|profile| profile.default_sample_type = profile.strings.intern("wall"));
    assert_eq!(default, CheckError::DefaultSampleType("wall".into()));
    let values = broken(&|profile| profile.samples[0].values.push(1));
    assert_eq!(values, CheckError::ValueCount { sample: 1, values: 3, types: 2 });
    let reference = broken(&|profile| profile.samples[2].stack.push(LocationId(99)));
    assert_eq!(reference.to_string(), "sample 3 refers to location 100, but there are only 9");
    assert!(matches!(
        broken(&|profile| profile.locations[0].mapping = Some(MappingId(99))),
        CheckError::Reference { table: "mapping", .. }
    ));
    assert!(matches!(
        broken(&|profile| profile.locations[0].lines[0].function = FunctionId(99)),
        CheckError::Reference { table: "function", .. }
    ));
    assert!(matches!(broken(&|profile| profile.functions[0].file = StringId(9999)), CheckError::String { .. }));
    let claim = broken(&|profile| profile.mappings[2].has.filenames = true);
    assert_eq!(claim, CheckError::MappingFlag { mapping: 3, flag: "has_filenames" });
    assert!(matches!(broken(&|profile| profile.mappings[0].limit = 0), CheckError::MappingRange(1)));
    assert!(matches!(broken(&|profile| profile.duration_nanos = -1), CheckError::Negative("duration_nanos")));
    let mixed = broken(&|profile| {
        let key = profile.samples[0].labels[0].key;
        profile.samples[0].labels[0] = Label { key, value: LabelValue::Text(key) };
    });
    assert_eq!(mixed, CheckError::LabelMixed("pid".into()));
    let label_twice = broken(&|profile| {
        let label = profile.samples[0].labels[0];
        profile.samples[0].labels.push(label);
    });
    assert_eq!(label_twice, CheckError::LabelTwice { sample: 1, key: "pid".into() });
    let reserved = broken(&|profile| profile.samples[0].labels[0].key = profile.strings.intern("pprof::x"));
    assert_eq!(reserved, CheckError::LabelReserved("pprof::x".into()));
}

#[test]
fn profiles_of_others_are_brought_under_the_rules() {
    let mut profile = server_profile();
    profile.sample_types[0].name = profile.strings.intern("cpu-samples");
    profile.sample_types[1].name = profile.strings.intern("cpu_samples");
    profile.default_sample_type = profile.sample_types[1].name;
    profile.mappings[2].has.line_numbers = true;
    profile.duration_nanos = -1;
    let pid = profile.samples[0].labels[0];
    profile.samples[0].labels.push(pid);
    profile.samples[1].labels[0].value = LabelValue::Text(pid.key);
    assert!(profile.check().is_err());
    profile.conform();
    profile.check().unwrap();
    let names: Vec<_> = profile.sample_types.iter().map(|kind| profile.text(kind.name)).collect();
    assert_eq!(names, ["cpu_samples", "cpu_samples_2"]);
    assert_eq!(profile.text(profile.default_sample_type), "cpu_samples_2");
    assert_eq!(profile.total(0), 100);
}

#[test]
fn equal_samples_are_added_up() {
    let mut profile = server_profile();
    let copies = profile.samples.clone();
    profile.samples.extend(copies);
    profile.merge_equal_samples();
    assert_eq!(profile.samples.len(), server_profile().samples.len());
    assert_eq!(profile.total(0), 200);
    profile.retain_samples(|profile, sample| profile.label(sample, "comm") == Some("node"));
    assert_eq!(profile.total(0), 12);
}
