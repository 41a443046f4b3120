//! Pyroscope's labels: which there are, their values, and which sets of them stand together. All of it is told by the index; where it
//! does not tell apart which samples of a window have a label that was given, what any of them may have is told.
//!
//! `service_name`, which Pyroscope demands of everything, is the name of the process.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use super::messages::{
    LabelNamesRequest, LabelPair, LabelValuesRequest, Labels, NamesResponse, SeriesRequest, SeriesResponse,
};
use super::types::{OWN_LABELS, Type};
use crate::ids::UnixNanos;
use crate::profile::PROCESS_LABEL;
use crate::store::series::Part;
use crate::store::{Row, Selector};
use crate::web::app::Work;
use crate::web::error::WebError;
use crate::web::info::Info;
use crate::web::params;

/// Labels that the index tells of a process, and Pyroscope's name for it.
pub(super) const LABELS: [&str; 6] = ["container", "host", "pid", PROCESS_LABEL, "service_name", "unit"];
/// The label of a process's name under which Pyroscope's clients look for services.
const SERVICE: &str = "service_name";
/// Values, and sets of labels, at most.
const MOST: usize = 20_000;
/// What is told of if no time is asked for: the last day that there is something of.
const DAY: i64 = 86_400_000_000_000;
const MILLISECOND: i64 = 1_000_000;

/// A selector of Pyroscope's: conditions on its own labels, and on samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    /// On the type of a profile.
    pub(super) types: Selector,
    /// On samples, in our names.
    pub(super) samples: Selector,
}

impl Conditions {
    /// Reads a selector, as in PromQL.
    pub(super) fn parse(text: &str) -> Result<Conditions, WebError> {
        let (types, samples) = params::selector(text)?.partition(|name| name.starts_with("__"));
        Ok(Conditions { types, samples: samples.renamed(SERVICE, PROCESS_LABEL) })
    }

    /// All of these hold.
    fn parse_all(matchers: &[String]) -> Result<Vec<Conditions>, WebError> {
        matchers.iter().filter(|text| !text.is_empty()).map(|text| Conditions::parse(text)).collect()
    }
}

/// The time from one number of milliseconds to the other.
pub(super) fn milliseconds(start: i64, end: i64) -> Result<Range<UnixNanos>, WebError> {
    let time = |time: i64| UnixNanos(time.saturating_mul(MILLISECOND));
    if start >= end {
        return Err(WebError::bad(format!("the asked time is empty: it begins at {start} ms and ends at {end} ms")));
    }
    Ok(time(start)..time(end))
}

/// As [`milliseconds`]; the last day that there is something of, if none is asked for.
fn asked(info: &Info, start: i64, end: i64) -> Result<Range<UnixNanos>, WebError> {
    if start != 0 || end != 0 {
        return milliseconds(start, end);
    }
    let last = info.span().map_or(UnixNanos(0), |(_, end)| end);
    Ok(UnixNanos(last.0.saturating_sub(DAY))..UnixNanos(last.0.saturating_add(1)))
}

/// A label's name as the index has it.
pub(super) fn ours(name: &str) -> &str {
    if name == SERVICE { PROCESS_LABEL } else { name }
}

/// Calls with the parts of each window that are selected, told apart by some labels, and the window's types.
fn each(
    work: &Work,
    time: (i64, i64),
    matchers: &[String],
    asked_for: &[&str],
    mut take: impl FnMut(&Row, &[Part<'_>], &[Type]),
) -> Result<(), WebError> {
    let conditions = Conditions::parse_all(matchers)?;
    let info = Info::of(work)?;
    let range = asked(&info, time.0, time.1)?;
    work.app.allow(&range)?;
    let holds = |of: &Type| conditions.iter().all(|one| of.matches(&one.types));
    let types: Vec<Type> = Type::all(&info).into_iter().filter(holds).collect();
    let keys = conditions.iter().flat_map(|one| one.samples.keys());
    let keys: Vec<&str> = keys.chain(asked_for.iter().map(|name| ours(name))).collect();
    for row in work.windows().all_rows(range)? {
        let of_row: Vec<Type> = types.iter().filter(|of| of.kind == row.name.kind).cloned().collect();
        if of_row.is_empty() || !conditions.iter().all(|one| one.samples.may_match(&row)) {
            continue;
        }
        let mut selected = Vec::new();
        for part in Part::all(&row, &keys) {
            if may_be_selected(&conditions, &part)? {
                selected.push(part);
            }
        }
        if !selected.is_empty() {
            take(&row, &selected, &of_row);
        }
    }
    Ok(())
}

fn may_be_selected(conditions: &[Conditions], part: &Part<'_>) -> Result<bool, WebError> {
    for one in conditions {
        match one.samples.matches_part(part) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            // Some samples of the window have it.
            Err(key) if Selector::is_further(key) => {}
            Err(key) => return Err(unknown(key)),
        }
    }
    Ok(true)
}

/// Refuses labels that series cannot be told apart by.
pub(super) fn expect_told(work: &Work, rows: &[Row], name: &str) -> Result<(), WebError> {
    if LABELS.contains(&name) || (Selector::is_further(name) && work.knows_label(rows, name)?) {
        return Ok(());
    }
    Err(unknown(name))
}

pub(super) fn unknown(key: &str) -> WebError {
    let known = LABELS.join(", ");
    WebError::bad(format!(
        "labels and series are told by the index, which knows {known}, and other labels that all samples of a window have, not \
         {key}; ask without it"
    ))
}

pub(super) fn names(work: &Work, request: &LabelNamesRequest) -> Result<NamesResponse, WebError> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    each(work, (request.start, request.end), &request.matchers, &LABELS, |row, parts, _| {
        let has = |name: &&str| parts.iter().any(|part| part.label(ours(name)).is_some_and(|value| !value.is_empty()));
        let of_parts = LABELS.into_iter().filter(|name| !found.contains(*name)).filter(has);
        let new: Vec<String> = of_parts.chain(further(row).map(|(key, _)| key)).map(str::to_owned).collect();
        found.extend(new);
    })?;
    if !found.is_empty() {
        found.extend(OWN_LABELS.map(str::to_owned));
    }
    Ok(NamesResponse { names: found.into_iter().collect() })
}

/// The labels of a window that were given, with each of their values.
fn further(row: &Row) -> impl Iterator<Item = (&str, &str)> {
    let labels = row.summary.labels.iter().flatten().filter(|label| !label.text.is_empty());
    labels.map(|label| (&*label.key, &*label.text))
}

pub(super) fn values(work: &Work, request: &LabelValuesRequest) -> Result<NamesResponse, WebError> {
    if request.name.is_empty() {
        return Err(WebError::bad("the name of a label is missing"));
    }
    let key = ours(&request.name);
    let mut found: BTreeSet<String> = BTreeSet::new();
    each(work, (request.start, request.end), &request.matchers, &[key], |row, parts, types| {
        let own = types.iter().filter_map(|of| of.label(&request.name)).map(Cow::from);
        let of_parts = parts.iter().filter_map(|part| part.label(key));
        let is_told = parts.iter().all(|part| part.label(key).is_some());
        let of_window = further(row).filter(|&(of, _)| !is_told && of == key).map(|(_, value)| value.into());
        let values = own.chain(of_parts).chain(of_window).filter(|value| !value.is_empty());
        found.extend(values.map(Cow::into_owned));
    })?;
    Ok(NamesResponse { names: found.into_iter().take(MOST).collect() })
}

/// Distinct sets of labels. Without names that are asked for, all but PIDs, which are too many to be of use.
pub(super) fn series(work: &Work, request: &SeriesRequest) -> Result<SeriesResponse, WebError> {
    let all = request.label_names.is_empty();
    let wanted: Vec<&str> = if all {
        OWN_LABELS.into_iter().chain(LABELS).filter(|name| *name != "pid").collect()
    } else {
        request.label_names.iter().map(String::as_str).collect()
    };
    let mut found: BTreeSet<Vec<LabelPair>> = BTreeSet::new();
    each(work, (request.start, request.end), &request.matchers, &wanted, |row, parts, types| {
        let given = further(row).map(|(key, _)| key).filter(|_| all);
        let names: BTreeSet<&str> = wanted.iter().copied().chain(given).collect();
        for (part, of) in parts.iter().flat_map(|part| types.iter().map(move |of| (part, of))) {
            let pair = |name: &&str| {
                let value = of.label(name).map(Cow::from).or_else(|| part.label(ours(name)))?.into_owned();
                (!value.is_empty()).then(|| LabelPair { name: (*name).to_owned(), value })
            };
            let labels: Vec<LabelPair> = names.iter().filter_map(pair).collect();
            if !labels.is_empty() && found.len() < MOST {
                found.insert(labels);
            }
        }
    })?;
    Ok(SeriesResponse { labels_set: found.into_iter().map(|labels| Labels { labels }).collect() })
}
