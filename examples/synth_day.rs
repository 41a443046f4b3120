//! Writes a day of windows, made from one recorded profile, into a directory: what `rprof query` is measured on.
//!
//! `cargo run --release --example synth_day -- PROFILE DIRECTORY [WINDOWS [STACKS [PROCESSES]]]`
//!
//! Each window has other processes, other values, and another part of the stacks; stacks beyond those of the profile are made by
//! cutting and joining its own, so that the day has many more distinct ones than a window.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for measurements ends where it fails")]

use std::path::Path;

use rprof::encode::{Format, read_file};
use rprof::ids::UnixNanos;
use rprof::profile::{Label, LabelValue, Profile, Sample, StringId};
use rprof::store::{Level, Source, WindowName, Writer};

/// 2026-11-22 00:00 UTC.
const START: i64 = 1_795_305_600_000_000_000;
const WINDOW: i64 = 60_000_000_000;
/// A busy host of 64 CPUs: 40 of them at work.
const BUSY: i64 = 40 * WINDOW;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| words.get(at).map_or(default, |word| word.parse().unwrap());
    let [profile, directory] = &words[..2] else { panic!("PROFILE DIRECTORY") };
    let base = read_file(Path::new(profile)).unwrap();
    let mut writer = Writer::open(Path::new(directory), Source::Recorder).unwrap();
    let format = Format::by_name("pprof").unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut bytes, windows) = (0, number(2, 1440));
    for window in 0..windows {
        let start = START + i64::try_from(window).unwrap() * WINDOW;
        let profile = synthesize(&base, start, number(3, 5000), number(4, 200), &mut random);
        let (start, end) = (UnixNanos(start), UnixNanos(start + WINDOW));
        let name = WindowName {
            host: "synthetic".into(),
            kind: profile.text(profile.sample_types[1].name).to_owned(),
            source: Source::Recorder,
            level: Level::Window,
            start,
            end,
        };
        bytes += writer.write(&name, &profile, format).unwrap().bytes;
    }
    println!("{windows} windows, {} KB each", bytes / 1000 / windows as u64);
}

fn synthesize(base: &Profile, start: i64, stacks: usize, processes: usize, random: &mut Random) -> Profile {
    let mut profile = Profile { samples: Vec::new(), ..base.clone() };
    (profile.time_nanos, profile.duration_nanos) = (start, WINDOW);
    let keys = ["pid", "tid", "comm", "container"].map(|key| profile.strings.intern(key));
    let columns = base.sample_types.len();
    for _ in 0..stacks {
        let (first, second) = (random.pick(&base.samples), random.pick(&base.samples));
        // The callers of one stack and the callees of another: one of eight is new.
        let stack = if random.below(8) == 0 { join(&first.stack, &second.stack, random) } else { first.stack.clone() };
        let samples = 1 + i64::try_from(random.below(8)).unwrap();
        let mut values = vec![0; columns];
        (values[0], values[1]) = (samples, samples * (BUSY / 5 / i64::try_from(stacks).unwrap()));
        let process = random.below(processes);
        let names = profile.strings_of(process);
        profile.samples.push(Sample { stack, values, labels: labels(names, keys, process, random) });
    }
    profile.merge_equal_samples();
    profile
}

trait Names {
    fn strings_of(&mut self, process: usize) -> [StringId; 2];
}

impl Names for Profile {
    fn strings_of(&mut self, process: usize) -> [StringId; 2] {
        [format!("worker-{}", process % 50), format!("container-{}", process % 20)]
            .map(|text| self.strings.intern(&text))
    }
}

fn labels(names: [StringId; 2], keys: [StringId; 4], process: usize, random: &mut Random) -> Vec<Label> {
    let pid = 1000 + i64::try_from(process).unwrap();
    let tid = pid + i64::try_from(random.below(4)).unwrap();
    let values = [
        LabelValue::Number(pid, StringId::EMPTY),
        LabelValue::Number(tid, StringId::EMPTY),
        LabelValue::Text(names[0]),
        LabelValue::Text(names[1]),
    ];
    keys.into_iter().zip(values).map(|(key, value)| Label { key, value }).collect()
}

fn join<T: Copy>(leaf: &[T], root: &[T], random: &mut Random) -> Vec<T> {
    let (cut, rest) = (random.below(leaf.len() + 1), random.below(root.len() + 1));
    leaf[..cut].iter().chain(&root[rest..]).copied().collect()
}

/// xorshift: the same day each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % limit.max(1)
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}
