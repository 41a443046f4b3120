//! Which samples are asked for, by their labels: `comm="nginx",container=~"web.*",pid!=12`. The grammar is that of PromQL's
//! selectors, <https://prometheus.io/docs/prometheus/latest/querying/basics/#instant-vector-selectors>, and as there an expression
//! must match the whole value, and a label that is missing is an empty text.

use std::borrow::Cow;
use std::sync::Arc;

use regex::Regex;
use rustc_hash::FxHashMap;

use super::series::Part;
use super::summary::process_names;
use super::{Row, Total};
use crate::profile::{LabelValue, PROCESS_LABEL, Profile, Sample};

/// Conditions, all of which must hold. Without any, everything is selected.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    matchers: Vec<Matcher>,
    /// Of those, the first so many say which windows are meant at all: see [`Selector::of_version`].
    present: usize,
}

#[derive(Clone, Debug)]
struct Matcher {
    key: String,
    negated: bool,
    value: Wanted,
}

#[derive(Clone, Debug)]
enum Wanted {
    Text(String),
    Regex(Regex),
}

/// Labels of single samples, which rows do not tell.
const OF_SAMPLES: [&str; 5] = ["comm", "state", "waker", "tid", "timestamp_ns"];

/// Why a text is no selector, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{problem} at character {at} of the selector {text:?}; write one like comm=\"nginx\",container=~\"web.*\",pid!=12"
)]
pub struct SelectorError {
    /// The selector.
    pub text: String,
    /// The character, from 1.
    pub at: usize,
    /// What was met or missed there.
    pub problem: String,
}

impl Matcher {
    fn matches(&self, value: &str) -> bool {
        let same = match &self.value {
            Wanted::Text(text) => text == value,
            Wanted::Regex(regex) => regex.is_match(value),
        };
        same != self.negated
    }
}

impl Selector {
    /// Reads a selector; an empty text selects everything. Braces around it are allowed.
    ///
    /// # Errors
    /// [`SelectorError`] with the place of what was not understood.
    pub fn parse(text: &str) -> Result<Selector, SelectorError> {
        let mut parser = Parser { text, at: 0 };
        parser.selector()
    }

    /// The selector, and a condition before it that a version was running: what it was not in is no time without samples, but no time
    /// of it. A label that a recorder gives all samples is such a condition; the name of a process is none.
    #[must_use]
    pub fn of_version(mut self, key: &str, value: &str) -> Selector {
        let matcher = Matcher { key: key.to_owned(), negated: false, value: Wanted::Text(value.to_owned()) };
        self.matchers.insert(0, matcher);
        self.present += 1;
        self
    }

    /// Whether a window may be one of the version that is asked for, as far as its row tells.
    pub(super) fn may_be_of_version(&self, row: &Row) -> bool {
        self.matchers[..self.present].iter().all(|matcher| may_have(row, matcher))
    }

    /// Whether no sample of a profile is of the version that is asked for.
    pub(super) fn lacks_version(&self, profile: &Profile) -> bool {
        if self.present == 0 {
            return false;
        }
        let version = Selector { matchers: self.matchers[..self.present].to_vec(), present: self.present };
        let chooses = version.of_profile(profile);
        !profile.samples.iter().any(|sample| chooses(profile, sample))
    }

    /// Whether a condition is about this key.
    #[must_use]
    pub fn names(&self, key: &str) -> bool {
        self.matchers.iter().any(|matcher| matcher.key == key)
    }

    /// The keys of all conditions.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.matchers.iter().map(|matcher| &*matcher.key)
    }

    /// The text that a condition demands of a key.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.matchers.iter().find_map(|matcher| match &matcher.value {
            Wanted::Text(text) if matcher.key == key && !matcher.negated => Some(&**text),
            _ => None,
        })
    }

    /// The conditions on keys that `is_first` accepts, and all others.
    #[must_use]
    pub fn partition(self, is_first: impl Fn(&str) -> bool) -> (Selector, Selector) {
        // Conditions that a version was running stand first, and go on to do so.
        let present = self.matchers[..self.present].iter().filter(|matcher| is_first(&matcher.key)).count();
        let others = self.present - present;
        let (first, second) = self.matchers.into_iter().partition(|matcher| is_first(&matcher.key));
        (Selector { matchers: first, present }, Selector { matchers: second, present: others })
    }

    /// The same conditions on another key.
    #[must_use]
    pub fn renamed(mut self, from: &str, to: &str) -> Selector {
        let named = self.matchers.iter_mut().filter(|matcher| matcher.key == from);
        named.for_each(|matcher| to.clone_into(&mut matcher.key));
        self
    }

    /// Whether all conditions hold for what has these values.
    pub fn holds<'a>(&self, value: impl Fn(&str) -> &'a str) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches(value(&matcher.key)))
    }

    /// Whether a window can hold what is selected, as far as its row tells: `host`, `kind` and `source` are properties of windows,
    /// and a process that is not in the totals has no samples.
    #[must_use]
    pub fn may_match(&self, row: &Row) -> bool {
        self.matches_window(row)
            && self.of_samples().all(|matcher| may_have(row, matcher))
            && (self.keys().all(Selector::is_of_window)
                || row.summary.totals.iter().any(|total| {
                    // What is added up under one name may be anybody.
                    total.pid == 0
                        || self
                            .of_samples()
                            .all(|matcher| of_total(total, &matcher.key).is_none_or(|value| matcher.matches(&value)))
                }))
    }

    /// Whether the conditions on windows hold.
    #[must_use]
    pub fn matches_window(&self, row: &Row) -> bool {
        self.matchers.iter().all(|matcher| match &*matcher.key {
            "host" => matcher.matches(&row.name.host),
            "kind" => matcher.matches(&row.name.kind),
            "source" => matcher.matches(row.name.source.name()),
            _ => true,
        })
    }

    /// Whether the conditions on samples hold for a part of a window. `Err` is the key of one that the index cannot decide there,
    /// where no other one decides for it.
    ///
    /// # Errors
    /// The key of a condition that the index cannot decide.
    pub fn matches_part(&self, part: &Part<'_>) -> Result<bool, &str> {
        let mut undecided = None;
        for matcher in self.of_samples() {
            match part.told(&matcher.key) {
                Some(value) if !matcher.matches(&value) => return Ok(false),
                Some(_) => {}
                None => undecided = undecided.or(Some(&*matcher.key)),
            }
        }
        undecided.map_or(Ok(true), Err)
    }

    /// Keeps the samples for whose labels the conditions hold.
    pub fn apply(&self, profile: &mut Profile) {
        if self.reads_labels() {
            let chooses = self.of_profile(profile);
            profile.retain_samples(chooses);
        }
    }

    /// Whether the conditions hold for a sample of this profile.
    fn of_profile(&self, profile: &Profile) -> impl Fn(&Profile, &Sample) -> bool + use<'_> {
        let of_samples: Vec<&Matcher> = self.of_samples().collect();
        let processes = if self.names(PROCESS_LABEL) { process_names(profile) } else { FxHashMap::default() };
        move |profile, sample| {
            of_samples.iter().all(|matcher| match &*matcher.key {
                PROCESS_LABEL => matcher.matches(process_of(profile, sample, &processes)),
                _ => label_matches(profile, sample, matcher),
            })
        }
    }

    /// Whether a key is of a window, and not a label of samples.
    #[must_use]
    pub fn is_of_window(key: &str) -> bool {
        matches!(key, "host" | "kind" | "source")
    }

    /// Whether a key is none that windows or processes have, nor one of single samples: `record --label` gave it.
    #[must_use]
    pub fn is_further(key: &str) -> bool {
        !Selector::is_of_window(key) && !is_of_process(key) && !OF_SAMPLES.contains(&key)
    }

    /// Whether it asks for labels of samples.
    pub(super) fn reads_labels(&self) -> bool {
        self.of_samples().next().is_some()
    }

    fn of_samples(&self) -> impl Iterator<Item = &Matcher> {
        self.matchers.iter().filter(|matcher| !Selector::is_of_window(&matcher.key))
    }
}

/// Whether a window can hold a sample for which a condition on a further label holds.
fn may_have(row: &Row, matcher: &Matcher) -> bool {
    let Some(labels) = &row.summary.labels else { return true };
    if !Selector::is_further(&matcher.key) {
        return true;
    }
    let with_key = || labels.iter().filter(|of| *of.key == matcher.key);
    let samples = with_key().fold(0_i64, |sum, of| sum.saturating_add(of.samples));
    let some_without = samples < row.summary.samples || samples == 0;
    with_key().any(|of| matcher.matches(&of.text)) || (some_without && matcher.matches(""))
}

/// The name of a sample's process: its own label, else the name that processes were given, else the name of its thread, which is all that
/// is known of a process without a PID.
fn process_of<'a>(profile: &'a Profile, sample: &Sample, names: &'a FxHashMap<i64, Arc<str>>) -> &'a str {
    let named = || {
        let pid = sample.labels.iter().find(|label| profile.text(label.key) == "pid")?;
        let LabelValue::Number(pid, _) = pid.value else { return None };
        names.get(&pid).map(|name| &**name)
    };
    let own = profile.label(sample, PROCESS_LABEL).or_else(named);
    own.or_else(|| profile.process_name(sample)).unwrap_or_default()
}

fn label_matches(profile: &Profile, sample: &Sample, matcher: &Matcher) -> bool {
    let label = sample.labels.iter().find(|label| profile.text(label.key) == matcher.key);
    match label.map(|label| label.value) {
        Some(LabelValue::Text(text)) => matcher.matches(profile.text(text)),
        Some(LabelValue::Number(number, _)) => matcher.matches(&number.to_string()),
        None => matcher.matches(""),
    }
}

/// Whether the totals of processes have a label.
pub(super) fn is_of_process(key: &str) -> bool {
    matches!(key, "pid" | PROCESS_LABEL | "container" | "unit")
}

/// The value of a label of processes; `None` for other labels.
pub(super) fn of_total<'a>(total: &'a Total, key: &str) -> Option<Cow<'a, str>> {
    match key {
        "pid" => Some(total.pid.to_string().into()),
        PROCESS_LABEL => Some((&*total.process).into()),
        "container" => Some((&*total.container).into()),
        "unit" => Some((&*total.unit).into()),
        _ => None,
    }
}

struct Parser<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
}

impl<'a> Parser<'a> {
    fn selector(&mut self) -> Result<Selector, SelectorError> {
        let mut matchers = Vec::new();
        let braces = self.take("{");
        while !self.at_end(braces) {
            matchers.push(self.matcher()?);
            if !self.take(",") {
                break;
            }
        }
        if braces && !self.take("}") {
            return Err(self.error("a comma or } is missing"));
        }
        if !self.rest().is_empty() {
            return Err(self.error("a comma is missing"));
        }
        Ok(Selector { matchers, present: 0 })
    }

    fn at_end(&mut self, braces: bool) -> bool {
        self.rest().is_empty() || (braces && self.rest().starts_with('}'))
    }

    fn matcher(&mut self) -> Result<Matcher, SelectorError> {
        let key = self.word(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '-' | '/'));
        if key.is_empty() {
            return Err(self.error("the name of a label is missing"));
        }
        let (negated, is_regex) = if self.take("=~") {
            (false, true)
        } else if self.take("!~") {
            (true, true)
        } else if self.take("!=") {
            (true, false)
        } else if self.take("==") || self.take("=") {
            (false, false)
        } else {
            return Err(self.error(&format!("one of = != =~ !~ is missing after {key}")));
        };
        let start = self.at;
        let value = self.value()?;
        let value = if is_regex {
            // Anchored on both sides, as in PromQL.
            let regex = Regex::new(&format!("^(?:{value})$"));
            Wanted::Regex(regex.map_err(|_| self.error_at(start, &format!("{value:?} is no regular expression")))?)
        } else {
            Wanted::Text(value)
        };
        Ok(Matcher { key, negated, value })
    }

    /// A quoted text, or a word up to the next comma.
    fn value(&mut self) -> Result<String, SelectorError> {
        let rest = self.rest();
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            let value = self.word(|c| !matches!(c, ',' | '}' | '"' | '\'') && !c.is_whitespace());
            return if value.is_empty() { Err(self.error("a value is missing")) } else { Ok(value) };
        };
        let (start, mut value) = (self.at, String::new());
        let mut letters = rest.char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                _ if letter == quote => {
                    self.at += at + 1;
                    return Ok(value);
                }
                '\\' => match letters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, escaped @ ('\\' | '"' | '\''))) => value.push(escaped),
                    // A regular expression's own escape.
                    Some((_, other)) => value.extend(['\\', other]),
                    None => break,
                },
                _ => value.push(letter),
            }
        }
        Err(self.error_at(start, "a text has no end"))
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let rest = self.rest();
        let length = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        let word = rest[..length].to_owned();
        self.at += length;
        word
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
            self.rest();
        }
        found
    }

    /// What is left behind white space.
    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        &self.text[self.at..]
    }

    fn error(&self, problem: &str) -> SelectorError {
        self.error_at(self.at, problem)
    }

    fn error_at(&self, at: usize, problem: &str) -> SelectorError {
        let at = self.text[..at].chars().count() + 1;
        SelectorError { text: self.text.into(), at, problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UnixNanos;
    use crate::store::{LabelTotal, Level, Source, Summary, WindowName};

    /// A window of one process, whose samples have these values of the label `version`.
    fn row(versions: &[&str]) -> Row {
        let (host, kind) = ("here".to_owned(), "cpu".to_owned());
        let (start, end) = (UnixNanos(0), UnixNanos(1));
        let name = WindowName { host, kind, source: Source::Recorder, level: Level::Window, start, end };
        let number = i64::try_from(versions.len()).unwrap();
        let (process, container, unit) = ("nginx: worker".into(), "web-1".into(), "nginx.service".into());
        let total = Total { pid: 12, process, container, unit, samples: number, value: number };
        let label = |text: &&str| LabelTotal { key: "version".into(), text: (*text).into(), samples: 1, value: 1 };
        let labels = Some(versions.iter().map(label).collect());
        let summary = Summary { samples: number, value: number, totals: vec![total], labels, ..Summary::default() };
        Row { name, path: "window".into(), bytes: 0, pinned: false, summary }
    }

    /// Whether a selector holds for each part of a window.
    fn holds<'a>(selector: &'a Selector, row: &Row) -> Vec<Result<bool, &'a str>> {
        let keys: Vec<&str> = selector.keys().collect();
        Part::all(row, &keys).iter().map(|part| selector.matches_part(part)).collect()
    }

    #[test]
    fn conditions_hold_as_in_promql() {
        for (text, expected) in [
            ("", true),
            ("{}", true),
            ("pid=12", true),
            ("pid!=12", false),
            ("process=\"nginx: worker\"", true),
            ("process=~\"nginx\"", false),
            ("process=~\"nginx.*\"", true),
            ("{process=~'nginx.*', container=~\"web.*\", pid=12,}", true),
            ("container!~\"web.*\"", false),
            ("unit!~\"ssh.*\" , container=web-1", true),
            (r#"process=~"nginx:\s\w+""#, true),
            (r#"process="a\"b\\c""#, false),
        ] {
            assert_eq!(holds(&Selector::parse(text).unwrap(), &row(&["v1"])), [Ok(expected)], "{text}");
        }
    }

    #[test]
    fn further_labels_are_decided_where_the_index_tells_them() {
        for (text, versions, expected) in [
            ("tid=1", &["v1"][..], &[Err("tid")][..]),
            ("comm=\"worker\"", &["v1"], &[Err("comm")]),
            ("tid=1,pid=11", &["v1"], &[Ok(false)]),
            ("version=v1,process=~\"nginx.*\"", &["v1"], &[Ok(true)]),
            ("version!=v1", &["v1"], &[Ok(false)]),
            ("version=\"\"", &[], &[Ok(true)]),
            ("version=v1", &["v1", "v2"], &[Ok(true), Ok(false)]),
            ("version=v1,process=~\"nginx.*\"", &["v1", "v2"], &[Err("version")]),
        ] {
            assert_eq!(holds(&Selector::parse(text).unwrap(), &row(versions)), expected, "{text} {versions:?}");
        }
        let unknown = Summary { labels: None, ..row(&["v1"]).summary };
        let unknown = Row { summary: unknown, ..row(&[]) };
        assert_eq!(holds(&Selector::parse("version=v1").unwrap(), &unknown), [Err("version")]);
    }

    #[test]
    fn errors_tell_the_place() {
        for (text, at, problem) in [
            ("comm", 5, "one of = != =~ !~ is missing after comm"),
            ("comm=", 6, "a value is missing"),
            ("=1", 1, "the name of a label is missing"),
            ("é=\"x", 3, "a text has no end"),
            ("comm=~\"(\"", 7, "\"(\" is no regular expression"),
            ("pid=1 comm=a", 7, "a comma is missing"),
            ("{pid=1", 7, "a comma or } is missing"),
            ("pid=1,,", 7, "the name of a label is missing"),
        ] {
            let error = Selector::parse(text).unwrap_err();
            assert_eq!((error.at, &*error.problem), (at, problem), "{text}");
        }
    }
}
