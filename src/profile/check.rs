//! What a profile must hold before it is written. Each rule is one that a reader of pprof relies on: a profile that
//! breaks one is refused by a backend as a whole, or worse, shown wrongly.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Known, Label, LabelValue, Location, Profile, Sample, StringId, ValueType};

/// The prefix of labels that pprof keeps for itself, and the one of them that files may hold (it marks the base of a difference).
const RESERVED: &str = "pprof::";
const DIFF_BASE: &str = "pprof::base";

/// A rule that a profile breaks. Ids are as in a file: from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The first string is not the empty one.
    #[error("string 0 is not the empty string")]
    FirstString,
    /// An index of no string.
    #[error("{owner} refers to string {string}, but there are only {count}")]
    String {
        /// What refers to it.
        owner: String,
        /// The index.
        string: u32,
        /// How many strings there are.
        count: usize,
    },
    /// There are samples, but nothing says what their values count.
    #[error("there are samples but no sample type")]
    NoSampleType,
    /// A column has a name that backends refuse (Pyroscope refuses `-`, Parca takes only `[a-zA-Z0-9_:]`).
    #[error("the sample type {0:?} has a character other than a-z, A-Z, 0-9, _ and :")]
    SampleTypeName(String),
    /// Two columns have the same name and could not be told apart.
    #[error("two sample types are named {0:?}")]
    SampleTypeTwice(String),
    /// The default column does not exist.
    #[error("the default sample type {0:?} is none of the sample types")]
    DefaultSampleType(String),
    /// A sample has more or fewer values than there are columns.
    #[error("sample {sample} has {values} values for {types} sample types")]
    ValueCount {
        /// The sample, from 1.
        sample: usize,
        /// Its values.
        values: usize,
        /// The columns.
        types: usize,
    },
    /// An id of nothing.
    #[error("{owner} refers to {table} {id}, but there are only {count}")]
    Reference {
        /// What refers to it.
        owner: String,
        /// The table: location, mapping or function.
        table: &'static str,
        /// The id, from 1.
        id: u64,
        /// How many there are.
        count: usize,
    },
    /// A label without a name.
    #[error("sample {0} has a label without a key")]
    LabelKey(usize),
    /// A label that is neither a text nor a number in a file: the empty text is written as nothing.
    #[error("sample {sample} has an empty text as label {key:?}")]
    LabelEmpty {
        /// The sample, from 1.
        sample: usize,
        /// The label.
        key: String,
    },
    /// A name that pprof keeps for itself.
    #[error("the label key {0:?} is reserved")]
    LabelReserved(String),
    /// A label that stands twice at one sample.
    #[error("sample {sample} has more than one label {key:?}")]
    LabelTwice {
        /// The sample, from 1.
        sample: usize,
        /// The label.
        key: String,
    },
    /// A label that is a text here and a number there.
    #[error("the label {0:?} is a string at some samples and a number at others")]
    LabelMixed(String),
    /// A mapping that ends before it begins.
    #[error("mapping {0} ends before it begins")]
    MappingRange(usize),
    /// A mapping claims to know what none of its locations has.
    #[error("mapping {mapping} claims {flag}, but no location of it has any")]
    MappingFlag {
        /// The mapping, from 1.
        mapping: usize,
        /// The field's name in the file.
        flag: &'static str,
    },
    /// A time or duration before zero.
    #[error("{0} is negative")]
    Negative(&'static str),
}

impl Profile {
    /// Verifies every rule.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), CheckError> {
        if self.strings.iter().next() != Some("") {
            return Err(CheckError::FirstString);
        }
        self.check_header()?;
        self.check_tables()?;
        self.check_samples()?;
        self.check_label_kinds()?;
        self.check_flags()
    }

    /// Brings a profile that another program wrote under the rules: characters of sample types that backends refuse become `_`, labels
    /// that are empty, reserved or stand twice go, a label that is a text at some samples becomes one at all, and no mapping claims more than is true.
    pub fn conform(&mut self) {
        self.conform_sample_types();
        self.conform_labels();
        let true_flags = self.known();
        for (mapping, known) in self.mappings.iter_mut().zip(true_flags) {
            mapping.has = mapping.has.and(known);
        }
        self.time_nanos = self.time_nanos.max(0);
        self.duration_nanos = self.duration_nanos.max(0);
    }

    fn check_header(&self) -> Result<(), CheckError> {
        if self.sample_types.is_empty() && !self.samples.is_empty() {
            return Err(CheckError::NoSampleType);
        }
        let mut names = FxHashSet::default();
        for kind in &self.sample_types {
            self.check_value_type("a sample type", *kind)?;
            let name = self.text(kind.name);
            if !is_sample_type_name(name) {
                return Err(CheckError::SampleTypeName(name.into()));
            }
            if !names.insert(kind.name) {
                return Err(CheckError::SampleTypeTwice(name.into()));
            }
        }
        let default = self.default_sample_type;
        if !default.is_empty() && !names.contains(&default) {
            return Err(CheckError::DefaultSampleType(self.text(default).into()));
        }
        if let Some(kind) = self.period_type {
            self.check_value_type("the period type", kind)?;
        }
        for (index, &comment) in self.comments.iter().enumerate() {
            self.check_string(|| format!("comment {}", index + 1), comment)?;
        }
        for text in [self.drop_frames, self.keep_frames, self.doc_url] {
            self.check_string(|| "the profile".into(), text)?;
        }
        let times = [("time_nanos", self.time_nanos), ("duration_nanos", self.duration_nanos)];
        times.iter().find(|(_, time)| *time < 0).map_or(Ok(()), |(name, _)| Err(CheckError::Negative(name)))
    }

    fn check_tables(&self) -> Result<(), CheckError> {
        for (index, mapping) in self.mappings.iter().enumerate() {
            let owner = || format!("mapping {}", index + 1);
            self.check_string(owner, mapping.file)?;
            self.check_string(owner, mapping.build_id)?;
            if mapping.start > mapping.limit {
                return Err(CheckError::MappingRange(index + 1));
            }
        }
        for (index, function) in self.functions.iter().enumerate() {
            for text in [function.name, function.system_name, function.file] {
                self.check_string(|| format!("function {}", index + 1), text)?;
            }
        }
        for (index, location) in self.locations.iter().enumerate() {
            let owner = || format!("location {}", index + 1);
            if let Some(mapping) = location.mapping {
                check_reference(owner, "mapping", mapping.0, self.mappings.len())?;
            }
            for line in &location.lines {
                check_reference(owner, "function", line.function.0, self.functions.len())?;
            }
        }
        Ok(())
    }

    fn check_samples(&self) -> Result<(), CheckError> {
        for (index, sample) in self.samples.iter().enumerate() {
            let (number, values, types) = (index + 1, sample.values.len(), self.sample_types.len());
            if values != types {
                return Err(CheckError::ValueCount { sample: number, values, types });
            }
            for location in &sample.stack {
                check_reference(|| format!("sample {number}"), "location", location.0, self.locations.len())?;
            }
            self.check_labels(number, sample)?;
        }
        Ok(())
    }

    fn check_labels(&self, number: usize, sample: &Sample) -> Result<(), CheckError> {
        for (index, label) in sample.labels.iter().enumerate() {
            let (LabelValue::Text(text) | LabelValue::Number(_, text)) = label.value;
            self.check_string(|| format!("sample {number}"), label.key)?;
            self.check_string(|| format!("sample {number}"), text)?;
            let key = self.text(label.key);
            if key.is_empty() {
                return Err(CheckError::LabelKey(number));
            }
            if label.value == LabelValue::Text(StringId::EMPTY) {
                return Err(CheckError::LabelEmpty { sample: number, key: key.into() });
            }
            if is_reserved(key) {
                return Err(CheckError::LabelReserved(key.into()));
            }
            if sample.labels[..index].iter().any(|other| other.key == label.key) {
                return Err(CheckError::LabelTwice { sample: number, key: key.into() });
            }
        }
        Ok(())
    }

    fn check_label_kinds(&self) -> Result<(), CheckError> {
        let mut is_text: FxHashMap<StringId, bool> = FxHashMap::default();
        for label in self.samples.iter().flat_map(|sample| &sample.labels) {
            let text = matches!(label.value, LabelValue::Text(_));
            if *is_text.entry(label.key).or_insert(text) != text {
                return Err(CheckError::LabelMixed(self.text(label.key).into()));
            }
        }
        Ok(())
    }

    fn check_flags(&self) -> Result<(), CheckError> {
        for (index, (mapping, known)) in self.mappings.iter().zip(self.known()).enumerate() {
            let claims = [
                ("has_functions", mapping.has.functions, known.functions),
                ("has_filenames", mapping.has.filenames, known.filenames),
                ("has_line_numbers", mapping.has.line_numbers, known.line_numbers),
                ("has_inline_frames", mapping.has.inline_frames, known.inline_frames),
            ];
            if let Some((flag, ..)) = claims.iter().find(|(_, claimed, is_true)| *claimed && !is_true) {
                return Err(CheckError::MappingFlag { mapping: index + 1, flag });
            }
        }
        Ok(())
    }

    fn check_value_type(&self, owner: &str, kind: ValueType) -> Result<(), CheckError> {
        self.check_string(|| owner.into(), kind.name)?;
        self.check_string(|| owner.into(), kind.unit)
    }

    fn check_string(&self, owner: impl Fn() -> String, id: StringId) -> Result<(), CheckError> {
        let count = self.strings.len();
        if (id.0 as usize) < count {
            return Ok(());
        }
        Err(CheckError::String { owner: owner(), string: id.0, count })
    }

    /// For each mapping, what at least one of its locations has.
    fn known(&self) -> Vec<Known> {
        let mut known = vec![Known::default(); self.mappings.len()];
        for location in &self.locations {
            if let Some(mapping) = location.mapping.and_then(|id| known.get_mut(id.0 as usize)) {
                *mapping = mapping.or(self.known_at(location));
            }
        }
        known
    }

    fn known_at(&self, location: &Location) -> Known {
        let functions = || location.lines.iter().filter_map(|line| self.functions.get(line.function.0 as usize));
        Known {
            functions: functions().any(|function| !function.name.is_empty()),
            filenames: functions().any(|function| !function.file.is_empty()),
            line_numbers: location.lines.iter().any(|line| line.line > 0),
            inline_frames: location.lines.len() > 1,
        }
    }

    fn conform_sample_types(&mut self) {
        let mut taken: FxHashSet<String> = FxHashSet::default();
        let default = self.default_sample_type;
        self.default_sample_type = StringId::EMPTY;
        for at in 0..self.sample_types.len() {
            let old = self.sample_types[at].name;
            let plain: String = self.text(old).chars().map(|c| if is_name_char(c) { c } else { '_' }).collect();
            let plain = if plain.is_empty() { "value".into() } else { plain };
            let mut name = plain.clone();
            let mut number = 2;
            while !taken.insert(name.clone()) {
                name = format!("{plain}_{number}");
                number += 1;
            }
            self.sample_types[at].name = self.strings.intern(&name);
            if old == default && self.default_sample_type.is_empty() {
                self.default_sample_type = self.sample_types[at].name;
            }
        }
    }

    fn conform_labels(&mut self) {
        let labels = || self.samples.iter().flat_map(|sample| &sample.labels);
        let kind = |number: bool| {
            let of_kind = move |label: &&Label| matches!(label.value, LabelValue::Number(..)) == number;
            labels().filter(of_kind).map(|label| label.key).collect::<FxHashSet<_>>()
        };
        let mixed: FxHashSet<StringId> = kind(true).intersection(&kind(false)).copied().collect();
        for sample in &mut self.samples {
            let mut seen: Vec<StringId> = Vec::new();
            sample.labels.retain_mut(|label| {
                let key = self.strings.get(label.key);
                let empty = key.is_empty() || label.value == LabelValue::Text(StringId::EMPTY);
                let keep = !empty && !is_reserved(key) && !seen.contains(&label.key);
                seen.push(label.key);
                keep
            });
            for label in sample.labels.iter_mut().filter(|label| mixed.contains(&label.key)) {
                if let LabelValue::Number(number, _) = label.value {
                    label.value = LabelValue::Text(self.strings.intern(&number.to_string()));
                }
            }
        }
    }
}

impl Known {
    fn and(self, other: Known) -> Known {
        Known {
            functions: self.functions && other.functions,
            filenames: self.filenames && other.filenames,
            line_numbers: self.line_numbers && other.line_numbers,
            inline_frames: self.inline_frames && other.inline_frames,
        }
    }

    pub(super) fn or(self, other: Known) -> Known {
        Known {
            functions: self.functions || other.functions,
            filenames: self.filenames || other.filenames,
            line_numbers: self.line_numbers || other.line_numbers,
            inline_frames: self.inline_frames || other.inline_frames,
        }
    }
}

fn check_reference(owner: impl Fn() -> String, table: &'static str, id: u32, count: usize) -> Result<(), CheckError> {
    if (id as usize) < count {
        return Ok(());
    }
    Err(CheckError::Reference { owner: owner(), table, id: u64::from(id) + 1, count })
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn is_sample_type_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_name_char)
}

fn is_reserved(key: &str) -> bool {
    key.starts_with(RESERVED) && key != DIFF_BASE
}
