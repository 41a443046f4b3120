//! The totals of a profile, as the index holds them.

use std::cmp::Reverse;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{LabelTotal, Summary, Total};
use crate::profile::{LabelValue, PROCESS_LABEL, Profile, Quality, Sample, StringId};

/// Processes that a row tells apart; all others are one. A row of so many has some 20 KB, a day of minutes 30 MB.
const MAX_TOTALS: usize = 500;
/// The name under which all others are added up.
const OTHERS: &str = "[other]";

impl Summary {
    /// The totals of a profile: of the value that it shows at first, and by process. The sums are those of all samples:
    /// beyond 500 processes the smallest are one, named `[other]`.
    #[must_use]
    pub fn of(profile: &Profile) -> Summary {
        Summary::of_column(profile, profile.column(None).ok())
    }

    /// As [`Summary::of`], of another value.
    pub(super) fn of_column(profile: &Profile, value: Option<usize>) -> Summary {
        let count = profile.count_column();
        let unit = value.and_then(|column| profile.sample_types.get(column));
        let totals = totals(profile, count, value);
        Summary {
            unit: unit.map_or_else(String::new, |kind| profile.text(kind.unit).to_owned()),
            covered: profile.duration_nanos,
            cpus: profile.cpus(),
            frequency: profile.frequency(),
            samples: totals.iter().fold(0, |sum, total| sum.saturating_add(total.samples)),
            value: totals.iter().fold(0, |sum, total| sum.saturating_add(total.value)),
            lost: Quality::of(profile).map_or(0, |quality| quality.of_column(profile, value.unwrap_or(0)).lost),
            totals,
            labels: labels(profile, count, value),
        }
    }
}

/// Labels that totals have, or that are of single samples.
const TOLD: [&str; 6] = [PROCESS_LABEL, "comm", "container", "unit", "state", "waker"];
/// Values of labels that a row tells; of a profile with more, none.
const MAX_LABELS: usize = 64;

/// The sums by each value of each further label; `None` if there are too many.
fn labels(profile: &Profile, count: Option<usize>, value: Option<usize>) -> Option<Vec<LabelTotal>> {
    let told: Vec<StringId> = TOLD.iter().filter_map(|key| profile.strings.find(key)).collect();
    let mut sums: FxHashMap<(StringId, StringId), (i64, i64)> = FxHashMap::default();
    for sample in &profile.samples {
        let at = |column: Option<usize>| column.and_then(|at| sample.values.get(at).copied()).unwrap_or(0);
        for label in sample.labels.iter().filter(|label| !told.contains(&label.key)) {
            let LabelValue::Text(text) = label.value else { continue };
            let sums_of = sums.entry((label.key, text)).or_default();
            *sums_of = (sums_of.0.saturating_add(at(count)), sums_of.1.saturating_add(at(value)));
        }
        if sums.len() > MAX_LABELS {
            return None;
        }
    }
    let text = |id: StringId| -> Arc<str> { profile.text(id).into() };
    let total = |((key, of), (samples, value))| LabelTotal { key: text(key), text: text(of), samples, value };
    let mut totals: Vec<LabelTotal> = sums.into_iter().map(total).collect();
    totals.sort_unstable_by(|a, b| (&a.key, &a.text).cmp(&(&b.key, &b.text)));
    Some(totals)
}

/// What tells processes apart. A file that holds no PIDs is told apart by names.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Process {
    pid: i64,
    nameless: StringId,
    container: StringId,
    unit: StringId,
}

#[derive(Default)]
struct Sums {
    samples: i64,
    value: i64,
    names: FxHashMap<StringId, i64>,
}

/// The names of processes by their PIDs, as totals have them. Of a profile that does not tell them, the name of a process is that of its
/// busiest thread.
pub(super) fn process_names(profile: &Profile) -> FxHashMap<i64, Arc<str>> {
    let totals = of_processes(profile, profile.count_column(), None);
    totals.into_iter().filter(|total| total.pid != 0).map(|total| (total.pid, total.process)).collect()
}

fn totals(profile: &Profile, count: Option<usize>, value: Option<usize>) -> Vec<Total> {
    let mut totals = of_processes(profile, count, value);
    totals.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
    fold_others(&mut totals);
    totals
}

fn of_processes(profile: &Profile, count: Option<usize>, value: Option<usize>) -> Vec<Total> {
    let [pid, process, comm, container, unit] =
        ["pid", PROCESS_LABEL, "comm", "container", "unit"].map(|key| profile.strings.find(key));
    let mut processes: FxHashMap<Process, Sums> = FxHashMap::default();
    for sample in &profile.samples {
        let own = text(sample, process);
        let (pid, name) = (number(sample, pid), if own == StringId::EMPTY { text(sample, comm) } else { own });
        let nameless = if pid == 0 { name } else { StringId::EMPTY };
        let process = Process { pid, nameless, container: text(sample, container), unit: text(sample, unit) };
        let sums = processes.entry(process).or_default();
        let at = |column: Option<usize>| column.and_then(|at| sample.values.get(at).copied()).unwrap_or(0);
        let (samples, value) = (at(count), at(value));
        sums.samples = sums.samples.saturating_add(samples);
        sums.value = sums.value.saturating_add(value);
        let of_name = sums.names.entry(name).or_default();
        *of_name = of_name.saturating_add(samples);
    }
    processes.into_iter().map(|(process, sums)| total(profile, process, &sums)).collect()
}

fn total(profile: &Profile, process: Process, sums: &Sums) -> Total {
    let name = sums.names.iter().max_by_key(|&(&name, &samples)| (samples, Reverse(profile.text(name))));
    let text = |id: StringId| -> Arc<str> { profile.text(id).into() };
    Total {
        pid: process.pid,
        process: text(name.map_or(StringId::EMPTY, |(&name, _)| name)),
        container: text(process.container),
        unit: text(process.unit),
        samples: sums.samples,
        value: sums.value,
    }
}

/// Largest first; equal ones always in the same order, so that an index made again is the same.
fn order(total: &Total) -> (Reverse<i64>, Reverse<i64>, i64, &str, &str, &str) {
    (Reverse(total.value), Reverse(total.samples), total.pid, &total.process, &total.container, &total.unit)
}

fn fold_others(totals: &mut Vec<Total>) {
    if totals.len() <= MAX_TOTALS {
        return;
    }
    let others = totals.split_off(MAX_TOTALS - 1);
    let sum = |of: fn(&Total) -> i64| others.iter().fold(0_i64, |sum, total| sum.saturating_add(of(total)));
    totals.push(Total {
        process: OTHERS.into(),
        samples: sum(|total| total.samples),
        value: sum(|total| total.value),
        ..Total::default()
    });
}

fn number(sample: &Sample, key: Option<StringId>) -> i64 {
    let label = sample.labels.iter().find(|label| Some(label.key) == key);
    label.map_or(0, |label| if let LabelValue::Number(number, _) = label.value { number } else { 0 })
}

fn text(sample: &Sample, key: Option<StringId>) -> StringId {
    let label = sample.labels.iter().find(|label| Some(label.key) == key);
    label.map_or(StringId::EMPTY, |label| if let LabelValue::Text(text) = label.value { text } else { StringId::EMPTY })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Label, cpus_comment};

    fn profile(processes: i64) -> Profile {
        let mut profile = Profile { duration_nanos: 60_000_000_000, ..Profile::default() };
        profile.comment(&cpus_comment(64));
        profile.comment("event cpu-clock: value=cpu unit=nanoseconds frequency=19 period=0 lost=3 throttled=0");
        let types = [profile.value_type("samples", "count"), profile.value_type("cpu", "nanoseconds")];
        profile.sample_types = types.into();
        for pid in 1..=processes {
            for (thread, samples) in [("main", 1), ("worker", 2)] {
                let labels = vec![
                    Label { key: profile.strings.intern("pid"), value: LabelValue::Number(pid, StringId::EMPTY) },
                    Label {
                        key: profile.strings.intern("comm"),
                        value: LabelValue::Text(profile.strings.intern(thread)),
                    },
                ];
                profile.samples.push(Sample { stack: Vec::new(), values: vec![samples, samples * pid], labels });
            }
        }
        profile
    }

    #[test]
    fn a_process_has_its_own_name() {
        let mut profile = profile(1);
        let [key, name] = [PROCESS_LABEL, "svc"].map(|text| profile.strings.intern(text));
        for sample in &mut profile.samples {
            sample.labels.push(Label { key, value: LabelValue::Text(name) });
        }
        assert_eq!(&*Summary::of(&profile).totals[0].process, "svc");
        assert_eq!(process_names(&profile)[&1], "svc".into());
    }

    #[test]
    fn a_process_without_a_name_has_that_of_its_busiest_thread() {
        let summary = Summary::of(&profile(2));
        assert_eq!((summary.cpus, summary.frequency, summary.lost, &*summary.unit), (64, 19, 3, "nanoseconds"));
        assert_eq!((summary.samples, summary.value, summary.covered), (6, 9, 60_000_000_000));
        let total = |pid, value| Total { pid, process: "worker".into(), samples: 3, value, ..Total::default() };
        assert_eq!(summary.totals, [total(2, 6), total(1, 3)]);
    }

    #[test]
    fn sums_stay_exact_beyond_what_is_told_apart() {
        let summary = Summary::of(&profile(10_000));
        assert_eq!(summary.totals.len(), MAX_TOTALS);
        assert_eq!((summary.samples, summary.value), (30_000, 3 * 10_000 * 10_001 / 2));
        let last = summary.totals.last().map(|total| (&*total.process, total.samples));
        assert_eq!(last, Some((OTHERS, 3 * (10_000 - 499))));
    }
}
