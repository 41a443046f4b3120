//! Many profiles as one: exact sums over what is equal in all of them.
//!
//! Two locations are one if they have the same mapping, address and lines; two mappings, if they have the same file and build
//! ID. Stacks are kept as a prefix tree, and nothing is kept that no sample refers to, so that memory grows with the answer and
//! not with what was read.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::quality::CommentSum;
use super::{
    Function, FunctionId, Label, LabelValue, Location, LocationId, Mapping, MappingId, Profile, Sample, SourceLine,
    StringId, Strings, ValueType,
};
use crate::collect::{PrefixTree, StackId};

/// What of the profiles is kept apart when they are merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergeOptions {
    /// The labels that still tell samples apart. Samples that differ only in others are added up.
    pub labels: KeptLabels,
    /// Whether addresses and line numbers are given up, so that a stack is one of functions. A location that has no function
    /// keeps its address. Tables by function and flame graphs are the same, and have a fraction of the stacks.
    pub functions_only: bool,
}

/// Which labels samples keep, by their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeptLabels {
    /// All.
    #[default]
    All,
    /// These and no others.
    Only(BTreeSet<String>),
    /// All but these.
    AllBut(BTreeSet<String>),
}

impl KeptLabels {
    /// Whether samples of a profile with these strings keep the label of a key.
    pub(crate) fn of(&self, strings: &Strings) -> impl Fn(StringId) -> bool + use<> {
        let ids = |keys: &BTreeSet<String>| keys.iter().filter_map(|key| strings.find(key)).collect();
        let (named, keeps_named): (Vec<StringId>, bool) = match self {
            KeptLabels::All => (Vec::new(), false),
            KeptLabels::Only(keys) => (ids(keys), true),
            KeptLabels::AllBut(keys) => (ids(keys), false),
        };
        move |key| named.contains(&key) == keeps_named
    }
}

/// Why a profile cannot be added to others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// They count different things. Each side is listed as `name/unit`.
    #[error("the profiles count different things: {} and {}", .these.join(", "), .those.join(", "))]
    SampleTypes {
        /// The columns of the profiles so far.
        these: Vec<String>,
        /// Those of the one to be added.
        those: Vec<String>,
    },
    /// A sample that has not one value for each column.
    #[error("sample {sample} has {values} values for {types} sample types")]
    ValueCount {
        /// The sample, from 1.
        sample: usize,
        /// Its values.
        values: usize,
        /// The columns.
        types: usize,
    },
    /// A sum that 64 bits do not hold.
    #[error("the sum of the values is too large")]
    Overflow,
}

/// Merges profiles, one after the other.
#[derive(Debug, Default)]
pub struct Merger {
    options: MergeOptions,
    /// The tables and the header; its samples are in the fields below until the end.
    tables: Tables,
    stacks: Stacks,
    label_sets: LabelSets,
    /// Where the values of a stack and a set of labels begin, in columns.
    samples: FxHashMap<(StackId, u32), u32>,
    /// In the order in which they were first met.
    order: Vec<(StackId, u32)>,
    values: Vec<i64>,
    comments: CommentSum,
    periods: Periods,
    /// Whether a profile was added; the first one decides what the columns are.
    begun: bool,
}

impl Merger {
    /// A merger without any profile.
    #[must_use]
    pub fn new(options: MergeOptions) -> Merger {
        Merger { options, ..Merger::default() }
    }

    /// Distinct stacks with distinct labels so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether it has no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds a profile. Its references must be valid, as those of every decoded profile are.
    ///
    /// # Errors
    /// [`MergeError`] if it counts something else than those before, or a sum overflows; the merger is of no use then.
    pub fn add(&mut self, profile: &Profile) -> Result<(), MergeError> {
        self.add_header(profile)?;
        self.comments.add(profile);
        self.periods.add(&Periods::of(profile));
        let mut names = Translation::new(profile, self.options.functions_only);
        // The main program stays the first mapping, whoever has samples.
        if self.tables.profile.mappings.is_empty() && !profile.mappings.is_empty() {
            names.mapping(&mut self.tables, MappingId(0));
        }
        let kept = self.options.labels.of(&profile.strings);
        let (mut stack, mut labels) = (Vec::new(), Vec::new());
        let types = profile.sample_types.len();
        for (index, sample) in profile.samples.iter().enumerate() {
            if sample.values.len() != types {
                return Err(MergeError::ValueCount { sample: index + 1, values: sample.values.len(), types });
            }
            stack.clear();
            stack.extend(sample.stack.iter().map(|&id| names.location(&mut self.tables, id)));
            let stack = self.stacks.id(&stack);
            labels.clear();
            let of_sample = sample.labels.iter().filter(|label| kept(label.key));
            labels.extend(of_sample.map(|&label| names.label(&mut self.tables, label)));
            let labels = self.label_sets.id(&mut labels);
            self.add_values(stack, labels, &sample.values)?;
        }
        Ok(())
    }

    /// Adds all that another merger holds: the part of a worker.
    ///
    /// # Errors
    /// As [`Merger::add`].
    pub fn absorb(&mut self, other: Merger) -> Result<(), MergeError> {
        if !other.begun {
            return Ok(());
        }
        let from = &other.tables.profile;
        self.add_header(from)?;
        self.comments.absorb(other.comments);
        self.periods.add(&other.periods);
        let mut names = Translation::new(from, self.options.functions_only);
        for id in (0..from.mappings.len()).map(number) {
            names.mapping(&mut self.tables, MappingId(id));
        }
        let mut stacks = Vec::with_capacity(other.stacks.tree.len() + 1);
        stacks.push(PrefixTree::EMPTY);
        for (caller, location) in other.stacks.tree.nodes() {
            let location = names.location(&mut self.tables, LocationId(location));
            stacks.push(self.stacks.tree.push(stacks[caller.number()], location.0));
        }
        let mut label_sets = Vec::with_capacity(other.label_sets.sets.len());
        for labels in &other.label_sets.sets {
            let mut labels = labels.iter().map(|&label| names.label(&mut self.tables, label)).collect();
            label_sets.push(self.label_sets.id(&mut labels));
        }
        // A profile without columns has no samples either.
        let columns = from.sample_types.len().max(1);
        for (&(stack, labels), values) in other.order.iter().zip(other.values.chunks_exact(columns)) {
            self.add_values(stacks[stack.number()], label_sets[labels as usize], values)?;
        }
        Ok(())
    }

    /// The sum. Its tables hold what samples refer to, and comments what [`super::Quality`] reads.
    #[must_use]
    pub fn finish(self) -> Profile {
        let mut profile = self.tables.profile;
        let columns = profile.sample_types.len();
        profile.samples = self
            .order
            .iter()
            .zip(self.values.chunks_exact(columns.max(1)))
            .map(|(&(stack, labels), values)| Sample {
                stack: self.stacks.tree.frames(stack).map(LocationId).collect(),
                values: values.to_vec(),
                labels: self.label_sets.sets[labels as usize].to_vec(),
            })
            .collect();
        self.comments.lines().iter().for_each(|line| profile.comment(line));
        profile.period = self.periods.mean();
        // A label that is a text in one file and a number in another, and flags that no kept location bears out.
        profile.conform();
        profile
    }

    /// Columns must agree; time begins with the earliest, and durations add up, so that a value divided by the duration stays a
    /// number of CPUs.
    fn add_header(&mut self, from: &Profile) -> Result<(), MergeError> {
        let tables = &mut self.tables;
        let types: Vec<ValueType> = from.sample_types.iter().map(|&kind| tables.value_type(from, kind)).collect();
        let period_type = from.period_type.map(|kind| tables.value_type(from, kind));
        let profile = &mut tables.profile;
        if !self.begun {
            self.begun = true;
            profile.period_type = period_type;
            profile.sample_types = types;
            profile.time_nanos = from.time_nanos;
            profile.default_sample_type = profile.strings.intern(from.text(from.default_sample_type));
            profile.drop_frames = profile.strings.intern(from.text(from.drop_frames));
            profile.keep_frames = profile.strings.intern(from.text(from.keep_frames));
            profile.doc_url = profile.strings.intern(from.text(from.doc_url));
        } else if profile.sample_types != types {
            return Err(MergeError::SampleTypes { these: columns(profile), those: columns(from) });
        }
        profile.duration_nanos = profile.duration_nanos.saturating_add(from.duration_nanos.max(0));
        let times = [profile.time_nanos, from.time_nanos];
        // Zero means that the time is not known.
        profile.time_nanos = times.into_iter().filter(|&time| time != 0).min().unwrap_or(0);
        Ok(())
    }

    fn add_values(&mut self, stack: StackId, labels: u32, values: &[i64]) -> Result<(), MergeError> {
        let key = (stack, labels);
        let order = &mut self.order;
        let next = order.len();
        let at = *self.samples.entry(key).or_insert_with(|| {
            order.push(key);
            number(next)
        }) as usize;
        if at == next {
            self.values.extend_from_slice(values);
            return Ok(());
        }
        let sums = &mut self.values[at * values.len()..][..values.len()];
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum = sum.checked_add(value).ok_or(MergeError::Overflow)?;
        }
        Ok(())
    }
}

fn columns(profile: &Profile) -> Vec<String> {
    let column = |kind: &ValueType| format!("{}/{}", profile.text(kind.name), profile.text(kind.unit));
    profile.sample_types.iter().map(column).collect()
}

/// The distance of two samples: that of all profiles if it is the same, else their mean, weighted by samples.
#[derive(Clone, Copy, Debug, Default)]
struct Periods {
    /// The period while it is the same in all.
    same: Option<i64>,
    weighted: i128,
    weight: i128,
}

impl Periods {
    fn of(profile: &Profile) -> Periods {
        let samples = profile.count_column().map_or(0, |column| profile.total(column)).clamp(0, i64::MAX.into());
        let weighted = i128::from(profile.period).saturating_mul(samples);
        Periods { same: Some(profile.period), weighted, weight: samples }
    }

    /// A profile without samples says nothing of their distance.
    fn add(&mut self, other: &Periods) {
        if self.weight == 0 && (other.weight > 0 || self.same.is_none()) {
            self.same = other.same;
        } else if other.weight > 0 && other.same != self.same {
            self.same = None;
        }
        self.weighted = self.weighted.saturating_add(other.weighted);
        self.weight = self.weight.saturating_add(other.weight);
    }

    fn mean(&self) -> i64 {
        let mean = || i64::try_from(self.weighted.checked_div(self.weight).unwrap_or(0)).unwrap_or(i64::MAX);
        self.same.unwrap_or_else(mean)
    }
}

/// A profile's tables, in which each entry can be found by its content.
#[derive(Debug, Default)]
struct Tables {
    profile: Profile,
    mappings: FxHashMap<(StringId, StringId), MappingId>,
    functions: HashTable<u32>,
    locations: HashTable<u32>,
}

impl Tables {
    fn value_type(&mut self, from: &Profile, kind: ValueType) -> ValueType {
        self.profile.value_type(from.text(kind.name), from.text(kind.unit))
    }

    /// A file's mappings at different times become one that covers them all, and knows what any of them knew.
    fn mapping(&mut self, mapping: Mapping) -> MappingId {
        let known = &mut self.profile.mappings;
        let id = *self.mappings.entry((mapping.file, mapping.build_id)).or_insert_with(|| {
            known.push(mapping);
            MappingId(number(known.len() - 1))
        });
        let known = &mut known[id.0 as usize];
        if mapping.start < known.start {
            (known.start, known.offset) = (mapping.start, mapping.offset);
        }
        known.limit = known.limit.max(mapping.limit);
        known.has = known.has.or(mapping.has);
        id
    }

    fn function(&mut self, function: Function) -> FunctionId {
        FunctionId(find_or_push(&mut self.functions, &mut self.profile.functions, &function))
    }

    fn location(&mut self, location: &Location) -> LocationId {
        LocationId(find_or_push(&mut self.locations, &mut self.profile.locations, location))
    }
}

/// The index of a value in a table, where it is added if it is new. Most are met often: it is looked up without being copied. The index
/// holds no second copy of it.
fn find_or_push<T: Clone + Eq + Hash>(index: &mut HashTable<u32>, table: &mut Vec<T>, value: &T) -> u32 {
    let hash = FxBuildHasher.hash_one(value);
    if let Some(&at) = index.find(hash, |&at| table[at as usize] == *value) {
        return at;
    }
    let at = number(table.len());
    table.push(value.clone());
    index.insert_unique(hash, at, |&at| FxBuildHasher.hash_one(&table[at as usize]));
    at
}

/// Distinct sets of labels, each sorted by key, so that the order in a file does not matter.
#[derive(Debug, Default)]
struct LabelSets {
    sets: Vec<Box<[Label]>>,
    index: HashTable<u32>,
}

impl LabelSets {
    /// The id of a set. Most sets are met often: it is looked up without being copied.
    fn id(&mut self, labels: &mut Vec<Label>) -> u32 {
        labels.sort_by_key(|label| label.key);
        let hash = FxBuildHasher.hash_one(labels.as_slice());
        let sets = &mut self.sets;
        if let Some(&id) = self.index.find(hash, |&id| *sets[id as usize] == **labels) {
            return id;
        }
        let id = number(sets.len());
        sets.push(labels.as_slice().into());
        self.index.insert_unique(hash, id, |&id| FxBuildHasher.hash_one(&*sets[id as usize]));
        id
    }
}

/// Distinct stacks, found by their hash first: in most files most stacks are known, and the nodes of a known stack lie side by
/// side in memory, so that comparing it costs far less than looking up each of its callers.
#[derive(Debug, Default)]
struct Stacks {
    tree: PrefixTree,
    /// Half of the hash of each whole stack, and the stack.
    whole: HashTable<(u32, StackId)>,
}

impl Stacks {
    /// The stack of these locations of the sum, leaf first.
    fn id(&mut self, stack: &[LocationId]) -> StackId {
        let half = half_hash(stack);
        let tree = &self.tree;
        let same =
            |&(of, id): &(u32, StackId)| of == half && tree.frames(id).eq(stack.iter().map(|location| location.0));
        if let Some(&(_, id)) = self.whole.find(spread(half), same) {
            return id;
        }
        let id = stack.iter().rev().fold(PrefixTree::EMPTY, |caller, location| self.tree.push(caller, location.0));
        self.whole.insert_unique(spread(half), (half, id), |&(half, _)| spread(half));
        id
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the half that varies most")]
fn half_hash(stack: &[LocationId]) -> u32 {
    (FxBuildHasher.hash_one(stack) >> 32) as u32
}

/// 32 bits as a hash of 64: the table takes the group from the low bits and a tag from the high ones.
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What the ids of a source are in the sum; each is looked up once.
struct Translation<'a> {
    from: &'a Profile,
    functions_only: bool,
    strings: Vec<Option<StringId>>,
    mappings: Vec<Option<MappingId>>,
    functions: Vec<Option<FunctionId>>,
    locations: Vec<Option<LocationId>>,
    /// Room for the location that is looked up.
    location: Location,
}

impl<'a> Translation<'a> {
    fn new(from: &'a Profile, functions_only: bool) -> Translation<'a> {
        Translation {
            from,
            functions_only,
            strings: vec![None; from.strings.len()],
            mappings: vec![None; from.mappings.len()],
            functions: vec![None; from.functions.len()],
            locations: vec![None; from.locations.len()],
            location: Location::default(),
        }
    }

    fn string(&mut self, tables: &mut Tables, id: StringId) -> StringId {
        let from = self.from;
        *self.strings[id.0 as usize].get_or_insert_with(|| tables.profile.strings.intern(from.text(id)))
    }

    fn label(&mut self, tables: &mut Tables, label: Label) -> Label {
        let key = self.string(tables, label.key);
        let value = match label.value {
            LabelValue::Text(text) => LabelValue::Text(self.string(tables, text)),
            LabelValue::Number(number, unit) => LabelValue::Number(number, self.string(tables, unit)),
        };
        Label { key, value }
    }

    fn mapping(&mut self, tables: &mut Tables, id: MappingId) -> MappingId {
        if let Some(known) = self.mappings[id.0 as usize] {
            return known;
        }
        let mut mapping = self.from.mappings[id.0 as usize];
        mapping.file = self.string(tables, mapping.file);
        mapping.build_id = self.string(tables, mapping.build_id);
        let id_in_sum = tables.mapping(mapping);
        self.mappings[id.0 as usize] = Some(id_in_sum);
        id_in_sum
    }

    fn function(&mut self, tables: &mut Tables, id: FunctionId) -> FunctionId {
        if let Some(known) = self.functions[id.0 as usize] {
            return known;
        }
        let Function { name, system_name, file, start_line } = self.from.functions[id.0 as usize];
        let [name, system_name, file] = [name, system_name, file].map(|text| self.string(tables, text));
        let id_in_sum = tables.function(Function { name, system_name, file, start_line });
        self.functions[id.0 as usize] = Some(id_in_sum);
        id_in_sum
    }

    fn location(&mut self, tables: &mut Tables, id: LocationId) -> LocationId {
        if let Some(known) = self.locations[id.0 as usize] {
            return known;
        }
        let Location { mapping, address, ref lines, folded } = self.from.locations[id.0 as usize];
        let bare = self.functions_only && !lines.is_empty();
        let mapping = mapping.map(|id| self.mapping(tables, id));
        let mut translated = std::mem::take(&mut self.location);
        let line = |line: &SourceLine| {
            let function = self.function(tables, line.function);
            if bare { SourceLine { function, line: 0, column: 0 } } else { SourceLine { function, ..*line } }
        };
        translated.lines.clear();
        translated.lines.extend(lines.iter().map(line));
        (translated.mapping, translated.address, translated.folded) = (mapping, if bare { 0 } else { address }, folded);
        let id_in_sum = tables.location(&translated);
        self.location = translated;
        self.locations[id.0 as usize] = Some(id_in_sum);
        id_in_sum
    }
}

/// Tables are indexed by 32 bits; four billion entries do not fit in memory.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
