//! What of a profile is wanted: stacks and frames by regular expressions, samples by their labels. The options and what they mean
//! are pprof's: <https://github.com/google/pprof/blob/main/doc/README.md#filtering-options>.
//!
//! A name matches an expression if the function's name, its source file, or the file of code does, anywhere in it.

use std::sync::LazyLock;

use regex::Regex;
use rustc_hash::FxHashMap;

use super::scale::scale;
use super::{Function, FunctionId, Label, LabelValue, Location, LocationId, Profile, Sample, SourceLine, StringId};

/// Names in which a parenthesis begins no list of arguments.
const RESERVED: [&str; 2] = ["(anonymous namespace)", "operator()"];

/// Filters; each that is `None` or empty does nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only stacks with a frame that matches.
    pub focus: Option<Regex>,
    /// No stacks with a frame that matches.
    pub ignore: Option<Regex>,
    /// Frames that match are left out of their stacks.
    pub hide: Option<Regex>,
    /// Only frames that match stay in their stacks.
    pub show: Option<Regex>,
    /// Callers of the outermost frame that matches are left out; so is a stack without one.
    pub show_from: Option<Regex>,
    /// What a frame that matches calls is left out. Its name is looked at without arguments.
    pub prune_from: Option<Regex>,
    /// Only samples with a label that matches.
    pub tag_focus: Option<TagFilter>,
    /// No samples with a label that matches.
    pub tag_ignore: Option<TagFilter>,
    /// Only labels whose key matches are kept.
    pub tag_show: Option<Regex>,
    /// Labels whose key matches are left out.
    pub tag_hide: Option<Regex>,
    /// Labels whose values become frames above the roots; the first is the outermost.
    pub tag_root: Vec<String>,
    /// Labels whose values become frames below the leaves; the last is the innermost.
    pub tag_leaf: Vec<String>,
}

impl Filter {
    /// Whether it changes which stacks and samples there are.
    #[must_use]
    pub fn selects(&self) -> bool {
        let of_frames = [&self.focus, &self.ignore, &self.hide, &self.show, &self.show_from, &self.prune_from];
        of_frames.iter().any(|regex| regex.is_some()) || self.tag_focus.is_some() || self.tag_ignore.is_some()
    }

    /// Whether [`Filter::add_tag_frames`] or [`Filter::apply_to_samples`] looks at labels.
    #[must_use]
    pub fn reads_labels(&self) -> bool {
        let makes_frames = !self.tag_root.is_empty() || !self.tag_leaf.is_empty();
        makes_frames || self.tag_focus.is_some() || self.tag_ignore.is_some()
    }

    /// Makes frames of labels (`tag_root`, `tag_leaf`). That comes before everything else, so that filters can match them; they
    /// are functions of the label's value in a file of its key. Numbers are told in `unit`, if it is one of theirs.
    pub fn add_tag_frames(&self, profile: &mut Profile, unit: Option<&str>) {
        if self.tag_root.is_empty() && self.tag_leaf.is_empty() {
            return;
        }
        let mut frames = TagFrames::default();
        for at in 0..profile.samples.len() {
            let leaves = frames.of(profile, at, &self.tag_leaf, unit);
            let roots = frames.of(profile, at, &self.tag_root, unit);
            let stack = &mut profile.samples[at].stack;
            stack.splice(0..0, leaves);
            stack.extend(roots);
        }
    }

    /// Keeps the samples whose labels are wanted (`tag_focus`, `tag_ignore`).
    pub fn apply_to_samples(&self, profile: &mut Profile) {
        if self.tag_focus.is_none() && self.tag_ignore.is_none() {
            return;
        }
        let units = label_units(profile);
        profile.retain_samples(|profile, sample| {
            let matches = |filter: &TagFilter| filter.matches(profile, sample, &units);
            self.tag_focus.as_ref().is_none_or(matches) && !self.tag_ignore.as_ref().is_some_and(matches)
        });
    }

    /// Applies what concerns frames and the labels that are shown.
    pub fn apply_to_frames(&self, profile: &mut Profile) {
        self.by_name(profile);
        if let Some(show_from) = &self.show_from {
            drop_callers(profile, show_from);
        }
        self.by_key(profile);
        if let Some(prune_from) = &self.prune_from {
            drop_callees(profile, prune_from);
        }
    }

    /// `focus`, `ignore`, `hide` and `show`: the first two look at frames that the others leave out.
    fn by_name(&self, profile: &mut Profile) {
        if [&self.focus, &self.ignore, &self.hide, &self.show].iter().all(|regex| regex.is_none()) {
            return;
        }
        let matching = |regex: &Option<Regex>| regex.as_ref().map(|regex| Matches::new(profile, regex));
        let [focus, ignore, hide, show] = [&self.focus, &self.ignore, &self.hide, &self.show].map(matching);
        let has = |location: &Location, matches: &Option<Matches>| {
            matches.as_ref().is_some_and(|matches| matches.location(location))
        };
        let wanted: Vec<Option<bool>> = profile
            .locations
            .iter()
            .map(|location| {
                let focused = focus.is_none() || has(location, &focus);
                if has(location, &ignore) { Some(false) } else { focused.then_some(true) }
            })
            .collect();
        let mut hidden = vec![false; profile.locations.len()];
        for (location, hidden) in profile.locations.iter_mut().zip(&mut hidden) {
            if has(location, &hide) {
                let hide = hide.as_ref();
                let of_mapping = hide.is_some_and(|hide| hide.mapping(location));
                location.lines.retain(|line| !of_mapping && !hide.is_some_and(|hide| hide.line(line)));
                *hidden = location.lines.is_empty();
            }
            if let Some(show) = &show {
                let of_mapping = show.mapping(location);
                location.lines.retain(|line| of_mapping || show.line(line));
                *hidden |= location.lines.is_empty();
            }
        }
        profile.samples.retain_mut(|sample| {
            let marks = || sample.stack.iter().map(|id| wanted[id.0 as usize]);
            if marks().any(|mark| mark == Some(false)) || !marks().any(|mark| mark == Some(true)) {
                return false;
            }
            let before = sample.stack.len();
            sample.stack.retain(|id| !hidden[id.0 as usize]);
            before == sample.stack.len() || !sample.stack.is_empty()
        });
    }

    /// `tag_show` and `tag_hide`.
    fn by_key(&self, profile: &mut Profile) {
        if self.tag_show.is_none() && self.tag_hide.is_none() {
            return;
        }
        let mut kept: FxHashMap<StringId, bool> = FxHashMap::default();
        let strings = &profile.strings;
        for sample in &mut profile.samples {
            sample.labels.retain(|label| {
                *kept.entry(label.key).or_insert_with(|| {
                    let key = strings.get(label.key);
                    let shown = self.tag_show.as_ref().is_none_or(|regex| regex.is_match(key));
                    shown && !self.tag_hide.as_ref().is_some_and(|regex| regex.is_match(key))
                })
            });
        }
    }
}

/// Which functions and mappings an expression matches, each looked at once.
struct Matches {
    functions: Vec<bool>,
    mappings: Vec<bool>,
}

impl Matches {
    fn new(profile: &Profile, regex: &Regex) -> Matches {
        let matches = |text: StringId| regex.is_match(profile.text(text));
        Matches {
            functions: profile.functions.iter().map(|of| matches(of.name) || matches(of.file)).collect(),
            mappings: profile.mappings.iter().map(|of| matches(of.file)).collect(),
        }
    }

    fn line(&self, line: &SourceLine) -> bool {
        self.functions[line.function.0 as usize]
    }

    fn mapping(&self, location: &Location) -> bool {
        location.mapping.is_some_and(|id| self.mappings[id.0 as usize])
    }

    fn location(&self, location: &Location) -> bool {
        location.lines.iter().any(|line| self.line(line)) || self.mapping(location)
    }
}

/// `show_from`: a stack begins with its outermost frame that matches.
fn drop_callers(profile: &mut Profile, show_from: &Regex) {
    let matches = Matches::new(profile, show_from);
    let mut found = vec![false; profile.locations.len()];
    for (location, found) in profile.locations.iter_mut().zip(&mut found) {
        if matches.mapping(location) {
            *found = true;
        } else if let Some(last) = location.lines.iter().rposition(|line| matches.line(line)) {
            location.lines.truncate(last + 1);
            *found = true;
        }
    }
    profile.samples.retain_mut(|sample| {
        let outermost = sample.stack.iter().rposition(|id| found[id.0 as usize]);
        sample.stack.truncate(outermost.map_or(0, |at| at + 1));
        outermost.is_some()
    });
}

/// `prune_from`: a stack ends with its innermost frame that matches.
fn drop_callees(profile: &mut Profile, prune_from: &Regex) {
    let strings = &profile.strings;
    let named = |of: &Function| !of.name.is_empty() && prune_from.is_match(without_arguments(strings.get(of.name)));
    let matches: Vec<bool> = profile.functions.iter().map(named).collect();
    let mut found = vec![false; profile.locations.len()];
    for (location, found) in profile.locations.iter_mut().zip(&mut found) {
        if let Some(first) = location.lines.iter().position(|line| matches[line.function.0 as usize]) {
            location.lines.drain(..first);
            *found = true;
        }
    }
    for sample in &mut profile.samples {
        if let Some(innermost) = sample.stack.iter().position(|id| found[id.0 as usize]) {
            sample.stack.drain(..innermost);
        }
    }
}

/// A name up to its list of arguments.
fn without_arguments(name: &str) -> &str {
    let name = name.strip_prefix('.').unwrap_or(name);
    let mut at = 0;
    while let Some(found) = name[at..].find(['(', 'o']).map(|found| at + found) {
        let rest = &name[found..];
        match RESERVED.iter().find(|reserved| rest.starts_with(**reserved)) {
            Some(reserved) => at = found + reserved.len(),
            None if rest.starts_with('(') => return &name[..found],
            None => at = found + 1,
        }
    }
    name
}

/// Frames that were made of labels.
#[derive(Default)]
struct TagFrames(FxHashMap<(StringId, StringId), LocationId>);

impl TagFrames {
    /// The frames of a sample, leaf first: the last key is the innermost.
    fn of(&mut self, profile: &mut Profile, sample: usize, keys: &[String], unit: Option<&str>) -> Vec<LocationId> {
        keys.iter().rev().map(|key| self.frame(profile, sample, key, unit)).collect()
    }

    fn frame(&mut self, profile: &mut Profile, sample: usize, key: &str, unit: Option<&str>) -> LocationId {
        let labels = profile.samples[sample].labels.iter().filter(|label| profile.text(label.key) == key);
        let texts: Vec<String> = labels.map(|label| label_text(profile, label, unit)).collect();
        let (name, file) = (profile.strings.intern(&texts.join(",")), profile.strings.intern(key));
        *self.0.entry((name, file)).or_insert_with(|| {
            let function = FunctionId(u32::try_from(profile.functions.len()).unwrap_or(u32::MAX));
            profile.functions.push(Function { name, file, ..Function::default() });
            let lines = vec![SourceLine { function, line: 0, column: 0 }];
            profile.locations.push(Location { lines, ..Location::default() });
            LocationId(u32::try_from(profile.locations.len() - 1).unwrap_or(u32::MAX))
        })
    }
}

fn label_text(profile: &Profile, label: &Label, unit: Option<&str>) -> String {
    match label.value {
        LabelValue::Text(text) => profile.text(text).to_owned(),
        LabelValue::Number(number, of) if of.is_empty() => number.to_string(),
        LabelValue::Number(number, of) => {
            let of = profile.text(of);
            let (value, unit) = scale(number, of, unit.unwrap_or(of));
            format!("{}{unit}", format!("{value:.2}").trim_end_matches(".00"))
        }
    }
}

/// Why a text is no filter of labels.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TagFilterError {
    /// Not an expression.
    #[error("{0}")]
    Regex(#[from] regex::Error),
    /// A number that 64 bits do not hold.
    #[error("the number {0:?} is too large")]
    Number(String),
}

/// A condition on labels, with or without a key: expressions separated by commas, or a range of numbers with units
/// (`32kb`, `:64kb`, `4mb:`, `12kb:64mb`).
#[derive(Clone, Debug)]
pub struct TagFilter {
    key: Option<String>,
    condition: Condition,
}

#[derive(Clone, Debug)]
enum Condition {
    /// Both ends belong to it.
    Range { least: Option<f64>, most: Option<f64>, unit: String },
    /// Without a key all of them must match, each any label as `key:value`; with one, any of them its value.
    Texts(Vec<Regex>),
}

impl TagFilter {
    /// Reads `[key=]condition`.
    ///
    /// # Errors
    /// [`TagFilterError`] if the condition is neither a range nor a list of expressions.
    pub fn parse(text: &str) -> Result<TagFilter, TagFilterError> {
        let (key, condition) = text.split_once('=').map_or((None, text), |(key, value)| (Some(key.to_owned()), value));
        let condition = match range(condition)? {
            Some(range) => range,
            None => Condition::Texts(condition.split(',').map(Regex::new).collect::<Result<_, _>>()?),
        };
        Ok(TagFilter { key, condition })
    }

    fn matches(&self, profile: &Profile, sample: &Sample, units: &FxHashMap<StringId, String>) -> bool {
        let with_key = |label: &&Label| self.key.as_ref().is_none_or(|key| profile.text(label.key) == key);
        let mut labels = sample.labels.iter().filter(with_key);
        match &self.condition {
            Condition::Range { least, most, unit } => labels.any(|label| {
                let LabelValue::Number(number, _) = label.value else { return false };
                let (value, of) = scale(number, units.get(&label.key).map_or("", |of| of), unit);
                of == *unit && least.is_none_or(|least| value >= least) && most.is_none_or(|most| value <= most)
            }),
            Condition::Texts(texts) => {
                let values: Vec<String> = labels
                    .filter_map(|label| match label.value {
                        LabelValue::Text(text) if self.key.is_some() => Some(profile.text(text).to_owned()),
                        LabelValue::Text(text) => Some(format!("{}:{}", profile.text(label.key), profile.text(text))),
                        LabelValue::Number(..) => None,
                    })
                    .collect();
                let matches = |regex: &Regex| values.iter().any(|value| regex.is_match(value));
                if self.key.is_some() { texts.iter().any(matches) } else { texts.iter().all(matches) }
            }
        }
    }
}

/// A range of numbers; `None` if the text is none.
fn range(text: &str) -> Result<Option<Condition>, TagFilterError> {
    #[expect(clippy::unwrap_used, reason = "a constant that the tests compile")]
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new("^([+-]?[0-9]+)([A-Za-z]*)$").unwrap());
    let (from, to) = text.split_once(':').map_or((text, None), |(from, to)| (from, Some(to)));
    let number = |text: &str| -> Result<Option<(i64, String)>, TagFilterError> {
        let Some(parts) = NUMBER.captures(text) else { return Ok(None) };
        let value = parts[1].parse().map_err(|_| TagFilterError::Number(parts[1].to_owned()))?;
        Ok(Some((value, parts[2].to_owned())))
    };
    let first = match (number(from)?, to) {
        (Some(first), _) => first,
        (None, Some(to)) if from.is_empty() => {
            let Some((most, unit)) = number(to)? else { return Ok(None) };
            let (most, unit) = scale(most, &unit, &unit);
            return Ok(Some(Condition::Range { least: None, most: Some(most), unit }));
        }
        (None, _) => return Ok(None),
    };
    let (least, unit) = scale(first.0, &first.1, &first.1);
    let most = match to {
        None => Some(least),
        Some("") => None,
        Some(to) => {
            let Some((most, of)) = number(to)? else { return Ok(None) };
            let (most, of) = scale(most, &of, &unit);
            if of != unit {
                return Ok(None);
            }
            Some(most)
        }
    };
    Ok(Some(Condition::Range { least: Some(least), most, unit }))
}

/// The unit of the numbers of each key: the first that stands at one, else the key itself (`bytes`, `pid`).
fn label_units(profile: &Profile) -> FxHashMap<StringId, String> {
    let mut units: FxHashMap<StringId, String> = FxHashMap::default();
    for label in profile.samples.iter().flat_map(|sample| &sample.labels) {
        if let LabelValue::Number(_, unit) = label.value {
            let known = units.entry(label.key).or_default();
            if known.is_empty() {
                *known = profile.text(unit).to_owned();
            }
        }
    }
    for (&key, unit) in units.iter_mut().filter(|(_, unit)| unit.is_empty()) {
        *unit = match profile.text(key) {
            "alignment" | "request" => "bytes".into(),
            key => key.to_owned(),
        };
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_cut_off_and_operators_are_not() {
        for (name, short) in [
            ("lookup(int)", "lookup"),
            ("foo::operator()(int)", "foo::operator()"),
            ("(anonymous namespace)::f(int)", "(anonymous namespace)::f"),
            (".main", "main"),
            ("option<T>", "option<T>"),
        ] {
            assert_eq!(without_arguments(name), short);
        }
    }

    #[test]
    fn conditions_are_ranges_or_expressions() {
        let is_range = |text| matches!(TagFilter::parse(text).unwrap().condition, Condition::Range { .. });
        for text in ["32kb", ":64kb", "4mb:", "12kb:64mb", "pid=42", "pid=-1:5"] {
            assert!(is_range(text), "{text}");
        }
        for text in ["worker", "comm=worker", "4mb:5s", "a:b", "comm=1a2", ""] {
            assert!(!is_range(text), "{text}");
        }
        assert!(TagFilter::parse("comm=(").is_err() && TagFilter::parse("99999999999999999999").is_err());
    }
}
