//! What runs now, as it is looked at in a terminal.

use std::sync::Arc;

use super::super::show::{Counts, PartArgs, amount, printable};
use super::super::terminal::{Fact, Head, Span, Subject};
use super::super::view::quality_facts;
use crate::profile::{MergeOptions, Profile};
use crate::session::top::{Kind, RECENT, Seen};

/// What was counted of a kind over a span of time.
pub(super) fn profile(kind: &Kind, span: Span, merging: &MergeOptions) -> Arc<Profile> {
    match span {
        Span::Interval => kind.last.clone(),
        Span::Minute => kind.minute(merging),
        Span::All => kind.all.clone(),
    }
}

/// The counts of a profile of a kind: times on CPUs are told as CPUs.
pub(super) fn counts(profile: &Profile) -> anyhow::Result<Counts> {
    let column = profile.column(None)?;
    let counts = Counts::new(profile, column, profile.total(column), &PartArgs::default());
    let on_cpus = counts.value == "cpu";
    Ok(if on_cpus { counts.in_cpus_over(profile.duration_nanos) } else { counts })
}

/// What a total says: CPUs, or the value with its name.
pub(super) fn total_in_words(counts: &Counts) -> String {
    let total = counts.amount(counts.total);
    if counts.in_cpus() { format!("{total} CPUs") } else { format!("{} {total}", printable(&counts.value)) }
}

/// What rprof itself uses.
pub(super) fn own_in_words(seen: &Seen) -> String {
    format!("rprof itself {:.3} CPUs, {} MB", seen.own.cpus, seen.own.memory >> 20)
}

/// What runs now.
pub(super) struct Running {
    title: String,
    merging: MergeOptions,
    /// How often the table is renewed.
    iterations: Option<u64>,
    quiet: bool,
    seen: Option<Seen>,
    said: Vec<String>,
    note: Option<String>,
    ended: bool,
}

impl Running {
    pub(super) fn new(title: String, merging: MergeOptions, iterations: Option<u64>, quiet: bool) -> Running {
        Running { title, merging, iterations, quiet, seen: None, said: Vec::new(), note: None, ended: false }
    }

    fn kind(&self, kind: usize) -> Option<&Kind> {
        self.seen.as_ref()?.kinds.get(kind)
    }

    fn span_in_words(&self, kind: &Kind, span: Span) -> String {
        let nanos = |profile: &Profile| amount(profile.duration_nanos.into(), "nanoseconds");
        match span {
            Span::Interval => format!("last {}", nanos(&kind.last)),
            Span::Minute => format!("last {} s at most", RECENT.as_secs()),
            Span::All => format!("all {}", nanos(&kind.all)),
        }
    }
}

impl Subject for Running {
    fn kinds(&self) -> Vec<String> {
        self.seen.iter().flat_map(|seen| seen.kinds.iter().map(|kind| kind.name.clone())).collect()
    }

    fn counts(&self, kind: usize, span: Span) -> anyhow::Result<Option<Counts>> {
        self.kind(kind).map(|kind| counts(&profile(kind, span, &self.merging))).transpose()
    }

    fn head(&self, kind: usize, span: Span, counts: Option<&Counts>) -> Head {
        let mut title = self.title.clone();
        let mut facts = Vec::new();
        if let Some(((kind, seen), counts)) = self.kind(kind).zip(self.seen.as_ref()).zip(counts) {
            let others =
                if seen.kinds.len() > 1 { format!(" (e: {} more)", seen.kinds.len() - 1) } else { String::new() };
            title = format!("{title} │ {}{others}, {}", printable(&kind.name), self.span_in_words(kind, span));
            facts.push(Fact::plain(total_in_words(counts)));
            let last = &kind.last;
            if let Some(count) = last.count_column() {
                facts.push(Fact::plain(format!("{} samples", amount(last.total(count), ""))));
            }
            facts.extend(quality_facts(last, last.column(None).unwrap_or(0)));
            if kind.lost > 0 {
                facts.push(Fact::plain(format!("{} since the start", amount(kind.lost.into(), ""))));
            }
            if last.frequency() > 0 {
                facts.push(Fact::plain(format!("{} Hz", last.frequency())));
            }
            facts.push(Fact::plain(own_in_words(seen)));
        }
        Head { title, facts }
    }

    fn nothing(&self) -> &str {
        if self.ended { "it ended before anything was counted" } else { "waiting for the first samples …" }
    }

    fn messages(&self) -> &[String] {
        &self.said
    }

    fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    fn is_live(&self) -> bool {
        true
    }

    fn see(&mut self, seen: Seen) {
        self.seen = Some(seen);
    }

    fn hear(&mut self, line: String) {
        if !self.quiet {
            self.said.push(printable(&line));
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.note = Some("what was looked at has ended".into());
    }

    fn is_enough(&self) -> bool {
        let windows = self.seen.as_ref().map_or(0, |seen| seen.windows);
        self.iterations.is_some_and(|most| windows >= most)
    }
}
