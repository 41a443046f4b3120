//! Pyroscope's labels: which there are, their values, and which sets of them stand together. All of it is told by the index.
//!
//! `service_name`, which Pyroscope demands of everything, is the name of the process.

use std::collections::BTreeSet;
use std::ops::Range;

use super::messages::{
    LabelNamesRequest, LabelPair, LabelValuesRequest, Labels, NamesResponse, SeriesRequest, SeriesResponse,
};
use super::types::{OWN_LABELS, Type};
use crate::ids::UnixNanos;
use crate::store::{Row, Selector, Total};
use crate::web::app::Work;
use crate::web::error::WebError;
use crate::web::info::Info;
use crate::web::params;

/// Labels that the index tells of a process, and Pyroscope's name for it.
pub(super) const LABELS: [&str; 6] = ["comm", "container", "host", "pid", "service_name", "unit"];
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
        Ok(Conditions { types, samples: samples.renamed(SERVICE, "process") })
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

/// The value of a label of a process in a window.
pub(super) fn value<'a>(row: &'a Row, total: &'a Total, name: &str) -> std::borrow::Cow<'a, str> {
    match name {
        "comm" | SERVICE => (&*total.comm).into(),
        "container" => (&*total.container).into(),
        "unit" => (&*total.unit).into(),
        "host" => (&*row.name.host).into(),
        "pid" if total.pid != 0 => total.pid.to_string().into(),
        _ => "".into(),
    }
}

/// Calls with each process of each window that is selected, and the window's types.
fn each(
    work: &Work,
    time: (i64, i64),
    matchers: &[String],
    mut take: impl FnMut(&Row, &Total, &[Type]),
) -> Result<(), WebError> {
    let conditions = Conditions::parse_all(matchers)?;
    let info = Info::of(work)?;
    let range = asked(&info, time.0, time.1)?;
    work.app.allow(&range)?;
    let holds = |of: &Type| conditions.iter().all(|one| of.matches(&one.types));
    let types: Vec<Type> = Type::all(&info).into_iter().filter(holds).collect();
    for row in work.windows().all_rows(range)? {
        let of_row: Vec<Type> = types.iter().filter(|of| of.kind == row.name.kind).cloned().collect();
        if of_row.is_empty() || !conditions.iter().all(|one| one.samples.matches_window(&row)) {
            continue;
        }
        for total in &row.summary.totals {
            let mut selected = true;
            for one in &conditions {
                selected &= one.samples.matches_total(total).map_err(unknown)?;
            }
            if selected {
                take(&row, total, &of_row);
            }
        }
    }
    Ok(())
}

pub(super) fn unknown(key: &str) -> WebError {
    WebError::bad(format!("labels and series are told by the index, which knows {}, not {key}", LABELS.join(", ")))
}

pub(super) fn names(work: &Work, request: &LabelNamesRequest) -> Result<NamesResponse, WebError> {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    each(work, (request.start, request.end), &request.matchers, |row, total, _| {
        let missing: Vec<&str> = LABELS.into_iter().filter(|name| !found.contains(name)).collect();
        found.extend(missing.into_iter().filter(|name| !value(row, total, name).is_empty()));
    })?;
    if !found.is_empty() {
        found.extend(OWN_LABELS);
    }
    Ok(NamesResponse { names: found.into_iter().map(str::to_owned).collect() })
}

pub(super) fn values(work: &Work, request: &LabelValuesRequest) -> Result<NamesResponse, WebError> {
    if request.name.is_empty() {
        return Err(WebError::bad("the name of a label is missing"));
    }
    let mut found: BTreeSet<String> = BTreeSet::new();
    each(work, (request.start, request.end), &request.matchers, |row, total, types| {
        let own = types.iter().filter_map(|of| of.label(&request.name)).map(str::to_owned);
        let of_process = std::iter::once(value(row, total, &request.name).into_owned());
        let new: Vec<String> = own.chain(of_process).filter(|value| !value.is_empty()).collect();
        found.extend(new);
    })?;
    Ok(NamesResponse { names: found.into_iter().take(MOST).collect() })
}

/// Distinct sets of labels. Without names that are asked for, all but PIDs, which are too many to be of use.
pub(super) fn series(work: &Work, request: &SeriesRequest) -> Result<SeriesResponse, WebError> {
    let wanted: Vec<&str> = if request.label_names.is_empty() {
        OWN_LABELS.into_iter().chain(LABELS).filter(|name| *name != "pid").collect()
    } else {
        request.label_names.iter().map(String::as_str).collect()
    };
    let mut found: BTreeSet<Vec<LabelPair>> = BTreeSet::new();
    each(work, (request.start, request.end), &request.matchers, |row, total, types| {
        for of in types {
            let pair = |name: &&str| {
                let value = of.label(name).map_or_else(|| value(row, total, name), Into::into).into_owned();
                (!value.is_empty()).then(|| LabelPair { name: (*name).to_owned(), value })
            };
            let mut labels: Vec<LabelPair> = wanted.iter().filter_map(pair).collect();
            labels.sort_unstable();
            if !labels.is_empty() && found.len() < MOST {
                found.insert(labels);
            }
        }
    })?;
    Ok(SeriesResponse { labels_set: found.into_iter().map(|labels| Labels { labels }).collect() })
}
