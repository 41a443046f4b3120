//! The one model that everything downstream sees, in the shape of pprof's `profile.proto`: it is the format that the
//! most tools read, and every other one is a part of it.
//!
//! Tables refer to each other by index. In a file an id is the index plus one, so that ids are sequential from 1 (what
//! Parca demands) by construction. A stack lists its leaf first; the lines of a location list the innermost inlined
//! function first and end with the function that the compiler emitted.

mod build;
mod check;
pub mod compare;
mod filter;
mod merge;
pub mod names;
mod prune;
mod quality;
mod scale;
mod strings;
mod view;

use rustc_hash::FxHashMap;

pub use build::{KERNEL, Namer, PROCESS_LABEL, TIME_LABEL, build, name_frames};
pub use check::CheckError;
pub use filter::{Filter, TagFilter, TagFilterError};
pub use merge::{KeptLabels, MergeError, MergeOptions, Merger};
pub use quality::{
    COMMAND, KindQuality, Quality, cpus_comment, event_comment, health_comments, merged_comment, unit_name,
};
pub use scale::{converts, scale};
pub use strings::{StringId, Strings};
pub use view::{FrameView, Origin, UnknownValue};

/// An index into [`Profile::mappings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MappingId(pub u32);

/// An index into [`Profile::locations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocationId(pub u32);

/// An index into [`Profile::functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId(pub u32);

/// What a column of values counts: `cpu` in `nanoseconds`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ValueType {
    /// The name, which selects the column (`samples`, `cpu`).
    pub name: StringId,
    /// The unit (`count`, `nanoseconds`, `bytes`).
    pub unit: StringId,
}

/// A stack and what was counted there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The stack, leaf first.
    pub stack: Vec<LocationId>,
    /// One number for each of [`Profile::sample_types`].
    pub values: Vec<i64>,
    /// What else tells it from other samples with this stack.
    pub labels: Vec<Label>,
}

/// A property of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// Its name.
    pub key: StringId,
    /// Its value.
    pub value: LabelValue,
}

/// The value of a label. Backends make a series of each distinct text, so ids of threads and processes are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LabelValue {
    /// A text.
    Text(StringId),
    /// A number and its unit (empty for none).
    Number(i64, StringId),
}

/// A file of code, or a part of memory that stands for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub limit: u64,
    /// Offset in the file of the first address.
    pub offset: u64,
    /// The path, or a name in brackets (`[vdso]`).
    pub file: StringId,
    /// The build ID in hexadecimal.
    pub build_id: StringId,
    /// Which of its locations' properties are known. A flag that is wrongly false makes readers symbolize again; one
    /// that is wrongly true makes backends drop addresses.
    pub has: Known,
}

/// Which properties of a mapping's locations are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Names of functions.
    pub functions: bool,
    /// Names of source files.
    pub filenames: bool,
    /// Line numbers.
    pub line_numbers: bool,
    /// Inlined functions.
    pub inline_frames: bool,
}

/// An address in code and what lies there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Location {
    /// The mapping; `None` for what is not code, such as the marker of an incomplete stack.
    pub mapping: Option<MappingId>,
    /// The address, within the mapping's range.
    pub address: u64,
    /// The functions, innermost first: all but the last were inlined.
    pub lines: Vec<SourceLine>,
    /// Whether other addresses were folded into this one (identical code folding).
    pub folded: bool,
}

/// A line of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceLine {
    /// The function.
    pub function: FunctionId,
    /// The line; 0 if unknown.
    pub line: i64,
    /// The column; 0 if unknown.
    pub column: i64,
}

/// A function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Function {
    /// The name for people, demangled.
    pub name: StringId,
    /// The name as the linker knows it.
    pub system_name: StringId,
    /// The source file.
    pub file: StringId,
    /// The line where it begins; 0 if unknown.
    pub start_line: i64,
}

/// A profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// All strings.
    pub strings: Strings,
    /// The columns of values, counts first.
    pub sample_types: Vec<ValueType>,
    /// The name of the column that readers show at first; empty for the last one.
    pub default_sample_type: StringId,
    /// The samples.
    pub samples: Vec<Sample>,
    /// The files of code. The first is the main program.
    pub mappings: Vec<Mapping>,
    /// The addresses.
    pub locations: Vec<Location>,
    /// The functions.
    pub functions: Vec<Function>,
    /// Lines for people, and what was lost (see [`Quality`]).
    pub comments: Vec<StringId>,
    /// When it began, in nanoseconds since 1970; 0 if unknown.
    pub time_nanos: i64,
    /// How long it lasted, in nanoseconds; 0 if unknown.
    pub duration_nanos: i64,
    /// What is counted between two samples.
    pub period_type: Option<ValueType>,
    /// How much of it: the distance of two samples.
    pub period: i64,
    /// Functions that readers drop with all they call, a regular expression for the whole name (see [`Profile::prune`]); never set by rprof.
    pub drop_frames: StringId,
    /// Functions that are kept nonetheless; never set by rprof.
    pub keep_frames: StringId,
    /// A page about the profile.
    pub doc_url: StringId,
}

impl Profile {
    /// The text of a string.
    #[must_use]
    pub fn text(&self, id: StringId) -> &str {
        self.strings.get(id)
    }

    /// Interns the name and the unit of a column.
    pub fn value_type(&mut self, name: &str, unit: &str) -> ValueType {
        ValueType { name: self.strings.intern(name), unit: self.strings.intern(unit) }
    }

    /// Adds a comment.
    pub fn comment(&mut self, text: &str) {
        let id = self.strings.intern(text);
        self.comments.push(id);
    }

    /// The sum of a column; more than any counter holds is no sum of samples, but may stand in a file of others.
    #[must_use]
    pub fn total(&self, column: usize) -> i128 {
        self.samples.iter().filter_map(|sample| sample.values.get(column)).map(|&value| i128::from(value)).sum()
    }

    /// Gives every sample these labels, in place of those of the same keys.
    pub fn add_labels(&mut self, labels: &[(String, String)]) {
        for (key, value) in labels {
            let (key, value) = (self.strings.intern(key), LabelValue::Text(self.strings.intern(value)));
            for sample in &mut self.samples {
                sample.labels.retain(|label| label.key != key);
                sample.labels.push(Label { key, value });
            }
        }
    }

    /// Keeps the samples that `keep` accepts. Tables are left as they are: what is no longer used costs only room.
    pub fn retain_samples(&mut self, mut keep: impl FnMut(&Profile, &Sample) -> bool) {
        let mut samples = std::mem::take(&mut self.samples);
        samples.retain(|sample| keep(self, sample));
        self.samples = samples;
    }

    /// Makes sure that the first mapping, which readers take for the main program, is one that samples refer to: after a selection the
    /// one that was first may have none left. It then changes places with the mapping that has the most of the first column, programs
    /// before libraries and the kernel.
    pub fn lead_with_used_mapping(&mut self) {
        let mut weights: Vec<i128> = vec![0; self.mappings.len()];
        for sample in &self.samples {
            let weight = i128::from(sample.values.first().copied().unwrap_or(0)).abs() + 1;
            for &id in &sample.stack {
                if let Some(mapping) = self.locations[id.0 as usize].mapping {
                    weights[mapping.0 as usize] += weight;
                }
            }
        }
        if weights.first().is_none_or(|&first| first > 0) {
            return;
        }
        let is_program = |at: usize| {
            let file = self.text(self.mappings[at].file);
            !file.starts_with('[') && !file.contains(".so.") && !file.ends_with(".so")
        };
        let used = (1..weights.len()).filter(|&at| weights[at] > 0);
        let Some(main) = used.max_by_key(|&at| (is_program(at), weights[at], std::cmp::Reverse(at))) else { return };
        self.mappings.swap(0, main);
        for mapping in self.locations.iter_mut().filter_map(|location| location.mapping.as_mut()) {
            match mapping.0 as usize {
                0 => mapping.0 = u32::try_from(main).unwrap_or(u32::MAX),
                at if at == main => mapping.0 = 0,
                _ => {}
            }
        }
    }

    /// Adds up the samples that have the same stack and labels, at the place of the first.
    pub fn merge_equal_samples(&mut self) {
        let mut index: FxHashMap<(Vec<LocationId>, Vec<Label>), usize> = FxHashMap::default();
        let mut merged: Vec<Sample> = Vec::with_capacity(self.samples.len());
        for sample in std::mem::take(&mut self.samples) {
            let key = (sample.stack, sample.labels);
            if let Some(&at) = index.get(&key) {
                add_values(&mut merged[at].values, &sample.values);
                continue;
            }
            merged.push(Sample { stack: key.0.clone(), values: sample.values, labels: key.1.clone() });
            index.insert(key, merged.len() - 1);
        }
        self.samples = merged;
    }
}

fn add_values(sums: &mut [i64], values: &[i64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = sum.saturating_add(*value);
    }
}
