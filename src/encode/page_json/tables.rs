//! The tables of the page under construction: each string, function, frame, stack and set of labels once.

use std::borrow::Cow;

use rustc_hash::FxHashMap;
use serde::{Serialize, Serializer};

use super::Side;
use crate::profile::{
    FunctionId, LabelValue, LocationId, Origin, PROCESS_LABEL, Profile, Sample, StringId, TIME_LABEL,
};

/// Stands for the stack of a sample without one, which is still a sample.
const NO_STACK: &str = "[no stack]";
/// No parent, no time.
const NONE: i64 = -1;

/// Where a frame's code comes from, as the page counts.
fn origin_number(origin: Origin) -> u8 {
    match origin {
        Origin::Native => 0,
        Origin::Inlined => 1,
        Origin::Kernel => 2,
        Origin::Jit => 3,
        Origin::Nowhere => 4,
    }
}

#[derive(Default, Serialize)]
pub(super) struct Functions {
    name: Vec<u32>,
    module: Vec<u32>,
    file: Vec<u32>,
    origin: Vec<u8>,
}

#[derive(Default, Serialize)]
pub(super) struct Frames {
    function: Vec<u32>,
    line: Vec<i64>,
    /// As of a function: one function may be inlined here and called there.
    origin: Vec<u8>,
}

#[derive(Default, Serialize)]
pub(super) struct Stacks {
    parent: Vec<i64>,
    frame: Vec<u32>,
}

#[derive(Default, Serialize)]
pub(super) struct Samples {
    stack: Vec<u32>,
    group: Vec<u32>,
    pub(super) value: Vec<i64>,
    pub(super) count: Vec<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) base: Vec<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) base_count: Vec<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    time: Vec<i64>,
}

/// A column of labels: numbers or ids of strings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GroupKey {
    Text(&'static str),
    Number(&'static str),
}

const GROUP_KEYS: [GroupKey; 7] = [
    GroupKey::Text(PROCESS_LABEL),
    GroupKey::Text("comm"),
    GroupKey::Number("pid"),
    GroupKey::Number("tid"),
    GroupKey::Text("container"),
    GroupKey::Text("unit"),
    GroupKey::Text("state"),
];

/// The values of [`GROUP_KEYS`]; [`NONE`] where a sample has not the label.
type Group = [i64; GROUP_KEYS.len()];

/// The tables under construction.
pub(super) struct Tables {
    pub(super) strings: Vec<String>,
    pub(super) string_ids: FxHashMap<String, u32>,
    pub(super) functions: Functions,
    pub(super) function_ids: FxHashMap<[u32; 3], u32>,
    pub(super) frames: Frames,
    frame_ids: FxHashMap<(u32, i64, u8), u32>,
    pub(super) stacks: Stacks,
    stack_ids: FxHashMap<(i64, u32), u32>,
    pub(super) groups: Vec<Group>,
    group_ids: FxHashMap<Group, u32>,
    pub(super) samples: Samples,
    sample_ids: FxHashMap<(u32, u32), usize>,
    /// Value of samples whose leaf has no name, and of all, of each side.
    pub(super) unknown: [[i128; 2]; 2],
    times: bool,
    comparable: Option<fn(&str) -> Cow<'_, str>>,
}

impl Tables {
    pub(super) fn new(times: bool, comparable: Option<fn(&str) -> Cow<'_, str>>) -> Tables {
        let mut tables = Tables {
            strings: Vec::new(),
            string_ids: FxHashMap::default(),
            functions: Functions::default(),
            function_ids: FxHashMap::default(),
            frames: Frames::default(),
            frame_ids: FxHashMap::default(),
            stacks: Stacks::default(),
            stack_ids: FxHashMap::default(),
            groups: Vec::new(),
            group_ids: FxHashMap::default(),
            samples: Samples::default(),
            sample_ids: FxHashMap::default(),
            unknown: [[0; 2]; 2],
            times,
            comparable,
        };
        tables.string("");
        tables
    }

    fn string(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.string_ids.get(text) {
            return id;
        }
        let id = index(self.strings.len());
        self.strings.push(text.to_owned());
        self.string_ids.insert(text.to_owned(), id);
        id
    }

    /// Adds the samples of a profile, on the new side (0) or the base's (1).
    pub(super) fn add(&mut self, side: Side<'_>, at: usize) {
        let Side { profile, column, .. } = side;
        let keys = Keys::of(profile);
        let mut of_location = FxHashMap::default();
        for sample in &profile.samples {
            let value = sample.values.get(column).copied().unwrap_or(0);
            let count = counted(profile, sample, column);
            if value == 0 && count == 0 {
                continue;
            }
            let stack = self.stack(profile, sample, &mut of_location);
            let group = self.group(profile, sample, &keys);
            self.count(at, stack, group, value, count, keys.time(sample, side.meta.from_nanos));
            let unnamed = sample.stack.first().is_some_and(|&leaf| is_unnamed(profile, leaf));
            self.unknown[at][0] += if unnamed { i128::from(value) } else { 0 };
            self.unknown[at][1] += i128::from(value);
        }
    }

    fn count(&mut self, side: usize, stack: u32, group: u32, value: i64, count: i64, time: i64) {
        let samples = &mut self.samples;
        let known = if self.times { None } else { self.sample_ids.get(&(stack, group)).copied() };
        let at = known.unwrap_or_else(|| {
            samples.stack.push(stack);
            samples.group.push(group);
            samples.value.push(0);
            samples.count.push(0);
            if self.comparable.is_some() {
                samples.base.push(0);
                samples.base_count.push(0);
            }
            if self.times {
                samples.time.push(time);
            }
            self.sample_ids.insert((stack, group), samples.stack.len() - 1);
            samples.stack.len() - 1
        });
        let (values, counts) = if side == 0 {
            (&mut samples.value, &mut samples.count)
        } else {
            (&mut samples.base, &mut samples.base_count)
        };
        values[at] = values[at].saturating_add(value);
        counts[at] = counts[at].saturating_add(count);
    }

    fn stack(&mut self, profile: &Profile, sample: &Sample, known: &mut FxHashMap<LocationId, Vec<u32>>) -> u32 {
        let mut parent = NONE;
        for location in sample.stack.iter().rev() {
            let frames = known.entry(*location).or_insert_with(|| self.frames_of(profile, *location));
            for &frame in frames.iter() {
                parent = i64::from(self.child(parent, frame));
            }
        }
        if parent == NONE {
            let name = self.string(NO_STACK);
            let function = self.function([name, 0, 0], Origin::Nowhere);
            let frame = self.frame(function, 0, Origin::Nowhere);
            return self.child(NONE, frame);
        }
        u32::try_from(parent).unwrap_or(0)
    }

    fn child(&mut self, parent: i64, frame: u32) -> u32 {
        let stacks = &mut self.stacks;
        *self.stack_ids.entry((parent, frame)).or_insert_with(|| {
            stacks.parent.push(parent);
            stacks.frame.push(frame);
            index(stacks.parent.len() - 1)
        })
    }

    /// The frames of a location, outermost first.
    fn frames_of(&mut self, profile: &Profile, location: LocationId) -> Vec<u32> {
        let lines = &profile.locations[location.0 as usize].lines;
        let mut frames: Vec<u32> = Vec::with_capacity(lines.len().max(1));
        for (at, frame) in profile.frames_at(location).enumerate() {
            let line = lines.get(at);
            let source = line.map_or("", |line| profile.text(profile.functions[line.function.0 as usize].file));
            let key = match self.comparable {
                Some(comparable) => [self.string(&comparable(&frame.name)), self.string(file_name(frame.module)), 0],
                None => [self.string(&frame.name), self.string(frame.module), self.string(source)],
            };
            let function = self.function(key, frame.origin);
            if self.functions.file[function as usize] == 0 {
                self.functions.file[function as usize] = self.string(source);
            }
            frames.push(self.frame(function, line.map_or(0, |line| line.line.max(0)), frame.origin));
        }
        frames.reverse();
        frames
    }

    fn function(&mut self, key: [u32; 3], origin: Origin) -> u32 {
        if let Some(&id) = self.function_ids.get(&key) {
            let known = &mut self.functions.origin[id as usize];
            *known = if origin == Origin::Inlined { *known } else { origin_number(origin) };
            return id;
        }
        let id = index(self.functions.name.len());
        let [name, module, file] = key;
        self.functions.name.push(name);
        self.functions.module.push(module);
        self.functions.file.push(file);
        self.functions.origin.push(origin_number(origin));
        self.function_ids.insert(key, id);
        id
    }

    fn frame(&mut self, function: u32, line: i64, origin: Origin) -> u32 {
        let (frames, origin) = (&mut self.frames, origin_number(origin));
        *self.frame_ids.entry((function, line, origin)).or_insert_with(|| {
            frames.function.push(function);
            frames.line.push(line);
            frames.origin.push(origin);
            index(frames.function.len() - 1)
        })
    }

    fn group(&mut self, profile: &Profile, sample: &Sample, keys: &Keys) -> u32 {
        let group = keys.ids.map(|(of, key)| match (of, key.and_then(|key| keys.value(sample, key))) {
            (GroupKey::Number(_), Some(LabelValue::Number(number, _))) => number,
            (GroupKey::Text(_), Some(LabelValue::Text(text))) => i64::from(self.string(profile.text(text))),
            (GroupKey::Text(PROCESS_LABEL), None) => {
                profile.process_name(sample).map_or(NONE, |name| i64::from(self.string(name)))
            }
            _ => NONE,
        });
        if let Some(&id) = self.group_ids.get(&group) {
            return id;
        }
        self.groups.push(group);
        self.group_ids.insert(group, index(self.groups.len() - 1));
        index(self.groups.len() - 1)
    }
}

/// The keys of labels in a profile.
struct Keys {
    ids: [(GroupKey, Option<StringId>); GROUP_KEYS.len()],
    time: Option<StringId>,
}

impl Keys {
    fn of(profile: &Profile) -> Keys {
        let find = |key: GroupKey| match key {
            GroupKey::Text(name) | GroupKey::Number(name) => (key, profile.strings.find(name)),
        };
        Keys { ids: GROUP_KEYS.map(find), time: profile.strings.find(TIME_LABEL) }
    }

    fn value(&self, sample: &Sample, key: StringId) -> Option<LabelValue> {
        sample.labels.iter().find(|label| label.key == key).map(|label| label.value)
    }

    /// Nanoseconds since `from`; [`NONE`] if the sample has no time, or one before.
    fn time(&self, sample: &Sample, from: i64) -> i64 {
        match self.time.and_then(|key| self.value(sample, key)) {
            Some(LabelValue::Number(time, _)) => time.saturating_sub(from).max(NONE),
            _ => NONE,
        }
    }
}

/// How many samples a sample stands for: the count that stands before its value, or else its own number.
fn counted(profile: &Profile, sample: &Sample, column: usize) -> i64 {
    let unit = |at: usize| profile.sample_types.get(at).map_or("", |kind| profile.text(kind.unit));
    let before = (0..=column).rev().find(|&at| unit(at) == "count").or_else(|| profile.count_column());
    before.and_then(|at| sample.values.get(at)).copied().unwrap_or(0)
}

fn is_unnamed(profile: &Profile, location: LocationId) -> bool {
    let location = &profile.locations[location.0 as usize];
    let name = |function: FunctionId| profile.text(profile.functions[function.0 as usize].name);
    location.lines.first().is_none_or(|line| matches!(name(line.function), "" | "[unknown]"))
}

pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn index(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

pub(super) fn sum(values: &[i64]) -> i64 {
    values.iter().fold(0, |sum, &value| sum.saturating_add(value))
}

/// The columns of the labels that some sample has; -1 (numbers) or 0 (the empty text) where one has not.
pub(super) struct Groups<'a>(pub(super) &'a [Group]);

impl Serialize for Groups<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let column = |at: usize| self.0.iter().map(move |group| group[at]);
        to.collect_map(GROUP_KEYS.iter().enumerate().filter(|&(at, _)| column(at).any(|value| value != NONE)).map(
            |(at, key)| match key {
                GroupKey::Text(name) => (name, column(at).map(|value| value.max(0)).collect::<Vec<i64>>()),
                GroupKey::Number(name) => (name, column(at).collect()),
            },
        ))
    }
}
