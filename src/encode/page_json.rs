//! A profile as the page reads it: columns of arrays, indices into them, plain numbers. `docs/page.md` lists the fields.
//!
//! Stacks are a prefix tree from the root: a parent stands before its children, so that whoever reads them sums up a
//! tree in one pass from the back.

use std::borrow::Cow;
use std::io::{self, Write};

use rustc_hash::FxHashMap;
use serde::{Serialize, Serializer};

use super::EncodeError;
use crate::profile::{LabelValue, LocationId, Origin, Profile, Quality, Sample, TIME_LABEL};

/// The version of the object; fields are added without a new one.
const VERSION: u32 = 1;
/// Stands for the stack of a sample without one, which is still a sample.
const NO_STACK: &str = "[no stack]";
/// No parent, no time.
const NONE: i64 = -1;

/// What the page shows of a profile that its samples do not tell. Times are nanoseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PageMeta {
    /// What was counted, as `rprof query --kind` names it.
    pub kind: String,
    /// The beginning of the time that was asked for; 0 if unknown.
    pub from_nanos: i64,
    /// Its end; 0 if unknown.
    pub to_nanos: i64,
    /// How much of it was sampled, in nanoseconds, of all hosts together; 0 if unknown.
    pub covered_nanos: i64,
    /// CPUs that were watched; 0 if unknown.
    pub cpus: u32,
    /// A line for people: a command, a host.
    pub title: String,
    /// Stretches without data.
    #[serde(skip)]
    pub gaps: Vec<[i64; 2]>,
    /// What could not be read, a line each.
    #[serde(skip)]
    pub unreadable: Vec<String>,
    /// Samples that were lost, where the profile's comments do not tell.
    #[serde(skip)]
    pub lost: Option<u64>,
    /// Whether samples keep their own times, one by one.
    #[serde(skip)]
    pub times: bool,
}

impl PageMeta {
    /// What a profile tells of itself; samples keep their times.
    #[must_use]
    pub fn of(profile: &Profile, column: usize) -> PageMeta {
        let kind = profile.sample_types.get(column).map_or("", |kind| profile.text(kind.name));
        PageMeta {
            kind: kind.to_owned(),
            from_nanos: profile.time_nanos,
            to_nanos: profile.time_nanos.saturating_add(profile.duration_nanos),
            covered_nanos: profile.duration_nanos,
            cpus: profile.cpus(),
            title: profile.command().unwrap_or_default().to_owned(),
            times: true,
            ..PageMeta::default()
        }
    }
}

/// A side of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Its samples.
    pub profile: &'a Profile,
    /// The column that is shown.
    pub column: usize,
    /// What else is told of it.
    pub meta: &'a PageMeta,
}

/// How a function changed. Rates are in the normalised unit of the comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<'a> {
    /// The function's comparable name.
    pub function: &'a str,
    /// The file name of its module.
    pub module: &'a str,
    /// Its total in the base.
    pub base_total: f64,
    /// Its total in the new profile.
    pub new_total: f64,
    /// Its own part in the base.
    pub base_self: f64,
    /// Its own part in the new profile.
    pub new_self: f64,
    /// The lower end of the interval that holds the difference of the totals with 95 % confidence.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Whether the difference is more than chance.
    pub significant: bool,
    /// `new`, `gone`, `up`, `down`, `same` or `shifted`.
    pub verdict: &'static str,
}

/// What is told of a comparison besides its sides.
pub struct Changes<'a> {
    /// How the sides were made comparable: `cpus`, `share` or `samples`.
    pub normalize: &'a str,
    /// A function's name without what changes from build to build.
    pub comparable: fn(&str) -> Cow<'_, str>,
    /// The functions.
    pub changes: &'a [Change<'a>],
}

/// Writes a profile.
///
/// # Errors
/// [`EncodeError::Io`] if the output fails.
pub fn write(profile: &Profile, column: usize, meta: &PageMeta, out: &mut dyn Write) -> Result<(), EncodeError> {
    let mut tables = Tables::new(meta.times && has_times(profile), None);
    tables.add(Side { profile, column, meta }, 0);
    write_object(&tables.page(Side { profile, column, meta }, None), out)
}

/// Writes a comparison: the values of both sides meet in functions of the same comparable name and module.
///
/// # Errors
/// [`EncodeError::Io`] if the output fails.
pub fn write_diff(
    base: Side<'_>,
    new: Side<'_>,
    changes: &Changes<'_>,
    out: &mut dyn Write,
) -> Result<(), EncodeError> {
    let mut tables = Tables::new(false, Some(changes.comparable));
    tables.add(new, 0);
    tables.add(base, 1);
    write_object(&tables.page(new, Some((base, changes))), out)
}

fn write_object(page: &Page<'_>, out: &mut dyn Write) -> Result<(), EncodeError> {
    let mut to = serde_json::Serializer::with_formatter(out, Escaped);
    page.serialize(&mut to).map_err(io::Error::from)?;
    Ok(())
}

/// JSON that can stand in an HTML file's script: what could end or begin a tag or a comment is escaped.
struct Escaped;

impl serde_json::ser::Formatter for Escaped {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            out.write_all(&rest.as_bytes()[..at])?;
            let special = rest[at..].chars().next().unwrap_or('<');
            write!(out, "\\u{:04x}", u32::from(special))?;
            rest = &rest[at + special.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

fn has_times(profile: &Profile) -> bool {
    profile.strings.find(TIME_LABEL).is_some()
}

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
struct Functions {
    name: Vec<u32>,
    module: Vec<u32>,
    file: Vec<u32>,
    origin: Vec<u8>,
}

#[derive(Default, Serialize)]
struct Frames {
    function: Vec<u32>,
    line: Vec<i64>,
    /// As of a function: one function may be inlined here and called there.
    origin: Vec<u8>,
}

#[derive(Default, Serialize)]
struct Stacks {
    parent: Vec<i64>,
    frame: Vec<u32>,
}

#[derive(Default, Serialize)]
struct Samples {
    stack: Vec<u32>,
    group: Vec<u32>,
    value: Vec<i64>,
    count: Vec<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    base: Vec<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    base_count: Vec<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    time: Vec<i64>,
}

/// A column of labels: numbers or ids of strings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GroupKey {
    Text(&'static str),
    Number(&'static str),
}

const GROUP_KEYS: [GroupKey; 6] = [
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
struct Tables {
    strings: Vec<String>,
    string_ids: FxHashMap<String, u32>,
    functions: Functions,
    function_ids: FxHashMap<[u32; 3], u32>,
    frames: Frames,
    frame_ids: FxHashMap<(u32, i64, u8), u32>,
    stacks: Stacks,
    stack_ids: FxHashMap<(i64, u32), u32>,
    groups: Vec<Group>,
    group_ids: FxHashMap<Group, u32>,
    samples: Samples,
    sample_ids: FxHashMap<(u32, u32), usize>,
    /// Value of samples whose leaf has no name, and of all, of each side.
    unknown: [[i128; 2]; 2],
    times: bool,
    comparable: Option<fn(&str) -> Cow<'_, str>>,
}

impl Tables {
    fn new(times: bool, comparable: Option<fn(&str) -> Cow<'_, str>>) -> Tables {
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
    fn add(&mut self, side: Side<'_>, at: usize) {
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
        let group = keys.ids.map(|(of, key)| match (key, key.and_then(|key| keys.value(sample, key))) {
            (_, Some(LabelValue::Number(number, _))) if matches!(of, GroupKey::Number(_)) => number,
            (_, Some(LabelValue::Text(text))) if matches!(of, GroupKey::Text(_)) => {
                i64::from(self.string(profile.text(text)))
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

    fn page<'a>(&'a self, new: Side<'a>, base: Option<(Side<'a>, &'a Changes<'a>)>) -> Page<'a> {
        let kind = new.profile.sample_types.get(new.column);
        let text = |of: Option<crate::profile::StringId>| of.map_or("", |id| new.profile.text(id));
        Page {
            version: VERSION,
            meta: new.meta,
            value: Value { name: text(kind.map(|kind| kind.name)), unit: text(kind.map(|kind| kind.unit)) },
            total: sum(&self.samples.value),
            samples_total: sum(&self.samples.count),
            quality: QualityRow::of(new, self.unknown[0]),
            strings: &self.strings,
            functions: &self.functions,
            frames: &self.frames,
            stacks: &self.stacks,
            groups: Groups(&self.groups),
            samples: &self.samples,
            normalize: base.map(|(_, changes)| changes.normalize),
            base: base.map(|(side, _)| BasePart {
                meta: side.meta,
                total: sum(&self.samples.base),
                samples_total: sum(&self.samples.base_count),
                quality: QualityRow::of(side, self.unknown[1]),
            }),
            changes: base.map(|(_, changes)| self.change_columns(changes.changes)),
        }
    }

    fn change_columns(&self, changes: &[Change<'_>]) -> ChangeColumns {
        let mut columns = ChangeColumns::default();
        for change in changes {
            let name = self.string_ids.get(change.function).copied();
            let module = self.string_ids.get(file_name(change.module)).copied();
            let Some(id) = name.zip(module).and_then(|(name, module)| self.function_ids.get(&[name, module, 0])) else {
                continue;
            };
            columns.function.push(*id);
            columns.base_total.push(change.base_total);
            columns.new_total.push(change.new_total);
            columns.base_self.push(change.base_self);
            columns.new_self.push(change.new_self);
            columns.low.push(change.low);
            columns.high.push(change.high);
            columns.significant.push(change.significant.into());
            columns.verdict.push(change.verdict);
        }
        columns
    }
}

/// The keys of labels in a profile.
struct Keys {
    ids: [(GroupKey, Option<crate::profile::StringId>); GROUP_KEYS.len()],
    time: Option<crate::profile::StringId>,
}

impl Keys {
    fn of(profile: &Profile) -> Keys {
        let find = |key: GroupKey| match key {
            GroupKey::Text(name) | GroupKey::Number(name) => (key, profile.strings.find(name)),
        };
        Keys { ids: GROUP_KEYS.map(find), time: profile.strings.find(TIME_LABEL) }
    }

    fn value(&self, sample: &Sample, key: crate::profile::StringId) -> Option<LabelValue> {
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
    let name = |function: crate::profile::FunctionId| profile.text(profile.functions[function.0 as usize].name);
    location.lines.first().is_none_or(|line| matches!(name(line.function), "" | "[unknown]"))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn index(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn sum(values: &[i64]) -> i64 {
    values.iter().fold(0, |sum, &value| sum.saturating_add(value))
}

#[derive(Serialize)]
struct Page<'a> {
    version: u32,
    #[serde(flatten)]
    meta: &'a PageMeta,
    value: Value<'a>,
    total: i64,
    samples_total: i64,
    quality: QualityRow<'a>,
    strings: &'a [String],
    functions: &'a Functions,
    frames: &'a Frames,
    stacks: &'a Stacks,
    groups: Groups<'a>,
    samples: &'a Samples,
    #[serde(skip_serializing_if = "Option::is_none")]
    normalize: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<BasePart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<ChangeColumns>,
}

#[derive(Serialize)]
struct Value<'a> {
    name: &'a str,
    unit: &'a str,
}

#[derive(Serialize)]
struct BasePart<'a> {
    #[serde(flatten)]
    meta: &'a PageMeta,
    total: i64,
    samples_total: i64,
    quality: QualityRow<'a>,
}

#[derive(Default, Serialize)]
struct ChangeColumns {
    function: Vec<u32>,
    base_total: Vec<f64>,
    new_total: Vec<f64>,
    base_self: Vec<f64>,
    new_self: Vec<f64>,
    low: Vec<f64>,
    high: Vec<f64>,
    significant: Vec<u8>,
    verdict: Vec<&'static str>,
}

/// How good a side is. Shares are 0 to 1, `null` where nothing tells.
#[derive(Serialize)]
struct QualityRow<'a> {
    lost: Option<u64>,
    lost_share: Option<f64>,
    throttled: u64,
    complete_share: Option<f64>,
    unknown_share: Option<f64>,
    /// The rows of the health table that are not zero.
    health: Vec<HealthRow>,
    remarks: Vec<&'a str>,
    gaps: &'a [[i64; 2]],
    unreadable: &'a [String],
}

#[derive(Serialize)]
struct HealthRow {
    name: &'static str,
    meaning: &'static str,
    count: u64,
}

impl QualityRow<'_> {
    fn of(side: Side<'_>, unknown: [i128; 2]) -> QualityRow<'_> {
        let quality = Quality::of(side.profile);
        let known = quality.as_ref();
        let rows = known.into_iter().flat_map(|quality| quality.health.rows());
        QualityRow {
            lost: known.map(|quality| quality.lost).or(side.meta.lost),
            lost_share: known.map(Quality::lost_share),
            throttled: known.map_or(0, |quality| quality.throttled),
            complete_share: known.and_then(Quality::complete_share),
            unknown_share: (unknown[1] > 0).then(|| ratio(unknown)),
            health: rows.map(|(row, count)| HealthRow { name: row.name(), meaning: row.meaning(), count }).collect(),
            remarks: side.profile.remarks().collect(),
            gaps: &side.meta.gaps,
            unreadable: &side.meta.unreadable,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share is shown with one decimal")]
fn ratio([part, all]: [i128; 2]) -> f64 {
    part as f64 / all as f64
}

/// The columns of the labels that some sample has; -1 (numbers) or 0 (the empty text) where one has not.
struct Groups<'a>(&'a [Group]);

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
