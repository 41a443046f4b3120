//! When within each second samples were taken, as FlameScope draws it: a column for each second, fifty rows of 20 ms in it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::app::Work;
use super::error::WebError;
use crate::encode::ReadOptions;
use crate::profile::{KeptLabels, LabelValue, MergeOptions, Profile};
use crate::store::{Query, TIMESTAMP, column_of};

const ROWS: usize = 50;
const SECOND: i64 = 1_000_000_000;
/// Columns at most. A longer time has columns of several seconds.
const MAX_COLUMNS: i64 = 3600;

/// Counts the values of a time by their samples' own times.
pub(super) fn of(work: &Work, query: &Query) -> Result<Value, WebError> {
    let plan = work.plan(query)?;
    let start = query.range.start.0 - query.range.start.0.rem_euclid(SECOND);
    let asked = query.range.end.0.saturating_sub(start);
    let column_nanos = ceil(ceil(asked, MAX_COLUMNS), SECOND).max(1) * SECOND;
    let columns = usize::try_from(ceil(asked, column_nanos)).unwrap_or(0);
    let row_nanos = column_nanos / ROWS as i64;
    let cells = Mutex::new(vec![0_i64; columns * ROWS]);
    let (timed, untimed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let kind = plan.kind.clone();
    let count = |profile: &mut Profile| {
        match times(profile, &kind) {
            Some(times) => {
                timed.fetch_add(1, Ordering::Relaxed);
                let Ok(mut cells) = cells.lock() else { return };
                for (time, value) in times {
                    let cell = usize::try_from(time.saturating_sub(start) / row_nanos).ok();
                    if let Some(cell) = cell.filter(|_| time >= start).and_then(|at| cells.get_mut(at)) {
                        *cell = cell.saturating_add(value);
                    }
                }
            }
            None => {
                untimed.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Nothing is to be added up.
        profile.samples.clear();
    };
    let options = MergeOptions { labels: KeptLabels::Only([].into()), functions_only: true };
    let read = ReadOptions { labels: KeptLabels::Only([TIMESTAMP.to_owned()].into()) };
    let sum = work.windows().sum(query, plan, &options, &read, &count, &|_| {}, &work.limits)?;
    let unit = sum.answer.profile.sample_types.get(sum.column()).map_or("", |kind| sum.answer.profile.text(kind.unit));
    Ok(json!({
        "from_nanos": start,
        "row_nanos": row_nanos,
        "rows": ROWS,
        "columns": columns,
        "column_nanos": column_nanos,
        "value_unit": unit,
        "timed_windows": timed.into_inner(),
        "untimed_windows": untimed.into_inner(),
        "unreadable": sum.answer.unreadable,
        "cells": cells.into_inner().unwrap_or_default(),
    }))
}

fn ceil(number: i64, by: i64) -> i64 {
    number / by + i64::from(number % by > 0)
}

/// The time and the value of each sample; `None` if a sample has no time.
fn times(profile: &Profile, kind: &str) -> Option<Vec<(i64, i64)>> {
    let key = profile.strings.find(TIMESTAMP)?;
    let column = column_of(profile, kind)?;
    let of = |sample: &crate::profile::Sample| {
        let label = sample.labels.iter().find(|label| label.key == key)?;
        let LabelValue::Number(time, _) = label.value else { return None };
        Some((time, sample.values.get(column).copied().unwrap_or(0)))
    };
    (!profile.samples.is_empty()).then(|| profile.samples.iter().map(of).collect()).flatten()
}
