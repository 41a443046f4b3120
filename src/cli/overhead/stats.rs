//! What a recording consists of: its records by kind, as perf counts them.

use std::fmt::Write as _;
use std::path::Path;

use super::percent;
use crate::capture::Event;
use crate::cli::show::printable;
use crate::record::Record;
use crate::record::perf_data::{Attr, PerfData, PerfDataError};

/// The names of the kinds, the kernel's and perf's own.
const KINDS: [(u32, &str); 41] = [
    (1, "MMAP"),
    (2, "LOST"),
    (3, "COMM"),
    (4, "EXIT"),
    (5, "THROTTLE"),
    (6, "UNTHROTTLE"),
    (7, "FORK"),
    (8, "READ"),
    (9, "SAMPLE"),
    (10, "MMAP2"),
    (11, "AUX"),
    (12, "ITRACE_START"),
    (13, "LOST_SAMPLES"),
    (14, "SWITCH"),
    (15, "SWITCH_CPU_WIDE"),
    (16, "NAMESPACES"),
    (17, "KSYMBOL"),
    (18, "BPF_EVENT"),
    (19, "CGROUP"),
    (20, "TEXT_POKE"),
    (21, "AUX_OUTPUT_HW_ID"),
    (64, "ATTR"),
    (65, "EVENT_TYPE"),
    (66, "TRACING_DATA"),
    (67, "BUILD_ID"),
    (68, "FINISHED_ROUND"),
    (69, "ID_INDEX"),
    (70, "AUXTRACE_INFO"),
    (71, "AUXTRACE"),
    (72, "AUXTRACE_ERROR"),
    (73, "THREAD_MAP"),
    (74, "CPU_MAP"),
    (75, "STAT_CONFIG"),
    (76, "STAT"),
    (77, "STAT_ROUND"),
    (78, "EVENT_UPDATE"),
    (79, "TIME_CONV"),
    (80, "FEATURE"),
    (81, "COMPRESSED"),
    (82, "FINISHED_INIT"),
    (83, "COMPRESSED2"),
];

/// Counts the records of a recording; `-` is the standard input.
///
/// # Errors
/// [`PerfDataError`] if it is none, or cannot be read.
pub fn stats(path: &Path) -> Result<String, PerfDataError> {
    let mut data = PerfData::open(path)?;
    let mut of_events: Vec<u64> = Vec::new();
    data.read(&mut |record, _| {
        if let Record::Sample(sample) = record {
            let at = sample.event.0 as usize;
            if of_events.len() <= at {
                of_events.resize(at + 1, 0);
            }
            of_events[at] += 1;
        }
    })?;
    let counts = data.counts();
    let mut text = format!("\nAggregated stats:\n{:>16} events: {:>10}\n", "TOTAL", counts.all());
    for (kind, name) in KINDS.iter().filter(|(kind, _)| counts.of(*kind) > 0) {
        let (number, share) = (counts.of(*kind), percent(counts.of(*kind).into(), counts.all().into()));
        let _ = writeln!(text, "{name:>16} events: {number:>10}  ({share:4.1}%)");
    }
    for (at, attr) in data.header().attrs.iter().enumerate() {
        if let Some(samples) = of_events.get(at).filter(|samples| **samples > 0) {
            let _ = writeln!(text, "{} stats:\n{:>16} events: {samples:>10}", printable(&name(attr)), "SAMPLE");
        }
    }
    Ok(text)
}

/// The name of an event; by its numbers, where the file does not tell it.
fn name(attr: &Attr) -> String {
    if !attr.name.is_empty() {
        return attr.name.clone();
    }
    let preset = Event::preset(attr.kind, attr.config).map(|event| event.name);
    preset.unwrap_or_else(|| format!("type-{}-config-{:#x}", attr.kind, attr.config))
}
