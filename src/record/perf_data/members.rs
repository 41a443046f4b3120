//! Groups whose leader alone samples (`{a,b}:S`): its samples say what all members' counters stood at.

use rustc_hash::FxHashMap;

use super::attr::Attr;
use crate::ids::Tid;
use crate::record::{Decoder, Sample};

/// What counters stood at when they were last told.
#[derive(Debug, Default)]
pub(super) struct Members {
    last: FxHashMap<(u64, Option<Tid>), u64>,
    /// Of each event: whether it counts each thread by itself.
    by_thread: Vec<bool>,
}

impl Members {
    pub(super) fn new(attrs: &[Attr]) -> Members {
        Members { last: FxHashMap::default(), by_thread: attrs.iter().map(|attr| attr.inherited).collect() }
    }

    /// Passes on a sample; one with counters as a sample of each event that went on since the last, by how much as its period
    /// (`deliver_sample_value` in `tools/perf/util/session.c`). Answers how many counters are of no event.
    pub(super) fn pass(&mut self, sample: Sample<'_>, decoder: &Decoder, visit: &mut dyn FnMut(Sample<'_>)) -> u64 {
        let mut counters = sample.counters.iter().peekable();
        if counters.peek().is_none() {
            visit(sample);
            return 0;
        }
        let mut unknown = 0;
        for (id, value) in counters {
            let Some(event) = decoder.event_of(id) else {
                unknown += 1;
                continue;
            };
            let by_thread = self.by_thread.get(event.0 as usize).copied().unwrap_or(false);
            let last = self.last.entry((id, by_thread.then_some(sample.tid))).or_default();
            let period = value.saturating_sub(*last);
            *last = value;
            if period > 0 {
                visit(Sample { event, period, ..sample.clone() });
            }
        }
        unknown
    }
}
