//! How good a profile is, as its comments tell it. pprof has no field for losses; a comment is what every reader
//! shows and none interprets. The lines are written and read here, so that they agree.
//!
//! Every figure that a view shows is computed here, from these lines and nothing else: comments are summed where windows are merged, and
//! stay as they are where samples are selected. The definitions:
//!
//! - *Lost* is told for each kind of event (`cpu`, `off_cpu`): the samples of that kind that the kernel dropped, as a share of those and
//!   of the samples that were taken.
//! - *Whole* is a user stack that reaches a known root, as a share of all user stacks.
//! - *Unnamed* is told twice: the share of a kind's value (its time) whose stacks have a frame without a function's name, and how many of
//!   the distinct frames have none.

use super::{Profile, ValueType};
use crate::collect::{EventInfo, Tally, Unit};
use crate::health::{Count, Health};

/// How the comment begins that holds the command that was profiled.
pub const COMMAND: &str = "command: ";

/// How the comment begins that holds how many CPUs were watched.
const CPUS: &str = "cpus=";

/// How the comment begins that names a file which was merged into this one.
const MERGED: &str = "merged: ";

/// How the comment of an event begins.
const EVENT: &str = "event ";

/// How the comment begins that counts remarks of merged profiles for which there was no room.
const LEFT_OUT: &str = "remarks left out: ";

/// The numbers of an event's comment, which are summed where profiles are merged.
const NUMBERS: [&str; 5] = ["lost=", "throttled=", "samples=", "counted=", "unnamed="];

/// The ends that a user stack can have besides its true root.
const INCOMPLETE: [Count; 6] = [
    Count::StacksFiber,
    Count::StacksTruncated,
    Count::StacksNoCfi,
    Count::StacksBroken,
    Count::StacksTooDeep,
    Count::StacksNoRegisters,
];

/// The name of a unit in files.
#[must_use]
pub fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds => "nanoseconds",
        Unit::Bytes => "bytes",
        Unit::Count => "count",
    }
}

/// The comment of an event: how it was sampled, what was counted and what was lost. `value` is the name of its column.
#[must_use]
pub fn event_comment(event: &EventInfo, value: &str, counted: &KindQuality) -> String {
    let head = format!(
        "{EVENT}{}: value={value} unit={} frequency={} period={}",
        event.name,
        unit_name(event.unit),
        event.frequency,
        event.period,
    );
    counted.line(&head)
}

/// The comment of how many CPUs were watched: with the frequency it tells how many samples there could be.
#[must_use]
pub fn cpus_comment(cpus: u32) -> String {
    format!("{CPUS}{cpus}")
}

/// The comment of a merged profile that names one of the files it was made of.
#[must_use]
pub fn merged_comment(file: &str) -> String {
    format!("{MERGED}{file}")
}

/// The comments of a health table: a line `name=value` for each row that is not zero.
pub fn health_comments(health: &Health) -> impl Iterator<Item = String> + '_ {
    health.rows().map(|(row, number)| format!("{}={number}", row.name()))
}

/// What was counted of one kind of event, and how good it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindQuality {
    /// Samples that were taken, those that a selection left out as well.
    pub samples: u64,
    /// Samples that the kernel dropped.
    pub lost: u64,
    /// Times that the kernel throttled the event.
    pub throttled: u64,
    /// The sum of the samples' values, in the kind's unit; 0 where nothing tells how much of it is unnamed.
    pub value: u64,
    /// The part of `value` whose stacks have a frame without a function's name.
    pub unnamed: u64,
}

impl KindQuality {
    /// Of an event whose samples in the window are still to be counted.
    #[must_use]
    pub fn of_event(event: &EventInfo) -> KindQuality {
        let (loss, samples) = (event.loss, event.passed_on);
        KindQuality { samples, lost: loss.lost, throttled: loss.throttled, ..KindQuality::default() }
    }

    /// Counts samples; `unnamed` if their stack has a frame without a name.
    pub fn count(&mut self, tally: Tally, unnamed: bool) {
        self.samples = self.samples.saturating_add(tally.samples);
        self.value = self.value.saturating_add(tally.weight);
        self.unnamed = self.unnamed.saturating_add(if unnamed { tally.weight } else { 0 });
    }

    /// The share (0 to 1) of the samples that was lost.
    #[must_use]
    pub fn lost_share(&self) -> f64 {
        share(self.lost, self.lost.saturating_add(self.samples))
    }

    /// The same for people: `1.15 %`.
    #[must_use]
    pub fn lost_percent(&self) -> String {
        format!("{:.2} %", 100.0 * self.lost_share())
    }

    /// The share (0 to 1) of the value whose stacks have a frame without a name; `None` where nothing tells.
    #[must_use]
    pub fn unnamed_share(&self) -> Option<f64> {
        (self.value > 0).then(|| share(self.unnamed, self.value))
    }

    /// The same for people: `38.2 %`, rounded up, so that none is said only of none.
    #[must_use]
    pub fn unnamed_percent(&self) -> Option<String> {
        self.unnamed_share().map(percent_up)
    }

    /// The sum of both, number by number.
    #[must_use]
    pub fn plus(&self, other: &KindQuality) -> KindQuality {
        KindQuality {
            samples: self.samples.saturating_add(other.samples),
            lost: self.lost.saturating_add(other.lost),
            throttled: self.throttled.saturating_add(other.throttled),
            value: self.value.saturating_add(other.value),
            unnamed: self.unnamed.saturating_add(other.unnamed),
        }
    }

    /// The numbers behind the rest of an event's line.
    fn line(&self, head: &str) -> String {
        let KindQuality { samples, lost, throttled, value, unnamed } = self;
        format!("{head} lost={lost} throttled={throttled} samples={samples} counted={value} unnamed={unnamed}")
    }

    /// Reads an event's line. Where it does not tell the samples (before version 0.2), the profile's column beside the value does.
    fn of_line(line: &str, profile: &Profile) -> KindQuality {
        let number = |field| event_number(line, field);
        KindQuality {
            samples: number("samples=").unwrap_or_else(|| counted_samples(profile, line)),
            lost: number("lost=").unwrap_or(0),
            throttled: number("throttled=").unwrap_or(0),
            value: number("counted=").unwrap_or(0),
            unnamed: number("unnamed=").unwrap_or(0),
        }
    }
}

/// The samples of an event by the column that counts them: the one before its value, or the profile's only one.
fn counted_samples(profile: &Profile, line: &str) -> u64 {
    let is_count = |&at: &usize| profile.text(profile.sample_types[at].unit) == "count";
    let named = |kind: &ValueType| event_text(line, "value=") == Some(profile.text(kind.name));
    let before = profile.sample_types.iter().position(named).and_then(|at| at.checked_sub(1)).filter(is_count);
    let column = before.or_else(|| profile.count_column());
    column.map_or(0, |column| u64::try_from(profile.total(column)).unwrap_or(0))
}

/// What a profile's comments tell of its samples and losses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// The health table: of all kinds that were recorded together.
    pub health: Health,
    /// The kinds by the names of their values, in the order of the events; an event has a line for each frequency.
    kinds: Vec<(String, KindQuality)>,
}

impl Quality {
    /// Reads the comments; `None` if they tell nothing (a profile of another program).
    #[must_use]
    pub fn of(profile: &Profile) -> Option<Quality> {
        let mut quality = Quality::default();
        let mut known = false;
        for line in profile.comments.iter().map(|&comment| profile.text(comment)) {
            if let Some((row, number)) = health_row(line) {
                quality.health.add(row, number);
                known = true;
            } else if line.starts_with(EVENT) {
                quality.add(event_text(line, "value=").unwrap_or_default(), &KindQuality::of_line(line, profile));
                known = true;
            }
        }
        known.then_some(quality)
    }

    /// Adds what was counted of a kind.
    pub fn add(&mut self, kind: &str, counted: &KindQuality) {
        match self.kinds.iter_mut().find(|(known, _)| known == kind) {
            Some((_, sum)) => *sum = sum.plus(counted),
            None => self.kinds.push((kind.to_owned(), *counted)),
        }
    }

    /// Each kind by the name of its value, in the order of the events.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, &KindQuality)> {
        self.kinds.iter().map(|(kind, counted)| (kind.as_str(), counted))
    }

    /// The kind that a column of the profile shows: the one that the column is named by, or that the column beside it is, which it
    /// counts the samples of; all of them, if the column tells none apart.
    #[must_use]
    pub fn of_column(&self, profile: &Profile, column: usize) -> KindQuality {
        let named = |at: usize| {
            let name = profile.text(profile.sample_types.get(at)?.name);
            self.kinds.iter().find(|(kind, _)| kind == name).map(|(_, counted)| *counted)
        };
        named(column).or_else(|| named(column + 1)).unwrap_or_else(|| self.all())
    }

    /// All kinds together. Samples of unlike kinds are no sum of anything: for files whose columns tell no kind.
    #[must_use]
    pub fn all(&self) -> KindQuality {
        let row = |row| self.health.get(row);
        if self.kinds.is_empty() {
            let (samples, lost, throttled) = (row(Count::Samples), row(Count::RecordsLost), row(Count::Throttled));
            return KindQuality { samples, lost, throttled, ..KindQuality::default() };
        }
        self.kinds.iter().fold(KindQuality::default(), |sum, (_, counted)| sum.plus(counted))
    }

    /// The share (0 to 1) of user stacks that reached their root; `None` without user stacks.
    #[must_use]
    pub fn complete_share(&self) -> Option<f64> {
        let (complete, all) = self.stacks();
        (all > 0).then(|| share(complete, all))
    }

    /// The same for people: `96.0 %`, rounded down, so that 100 % is said only of all.
    #[must_use]
    pub fn complete_percent(&self) -> Option<String> {
        self.complete_share().map(percent_down)
    }

    /// User stacks that end at a fiber's entry, for people: whole as far as they go, but it is not told who resumed them. `None` if there
    /// are none.
    #[must_use]
    pub fn fiber_percent(&self) -> Option<String> {
        let (_, all) = self.stacks();
        let fibers = self.health.get(Count::StacksFiber);
        (fibers > 0).then(|| percent_down(share(fibers, all)))
    }

    /// User stacks that did not reach their root, for people: what [`Quality::complete_percent`] leaves of 100 %.
    #[must_use]
    pub fn cut_percent(&self) -> Option<String> {
        self.complete_share().map(|share| format!("{:.1} %", 100.0 - tenths_down(share)))
    }

    /// User stacks that reached their root, and all.
    #[must_use]
    pub fn stacks(&self) -> (u64, u64) {
        let complete = self.health.get(Count::StacksRoot);
        (complete, INCOMPLETE.iter().fold(complete, |sum, &row| sum.saturating_add(self.health.get(row))))
    }

    /// Distinct frames without a name, and all. Of windows that were added up each window counts its own.
    #[must_use]
    pub fn frames(&self) -> (u64, u64) {
        let unnamed = self.health.get(Count::FramesUnnamed);
        (unnamed, unnamed.saturating_add(self.health.get(Count::FramesNamed)))
    }

    /// The share of distinct frames without a name, for people; `None` without frames.
    #[must_use]
    pub fn frames_percent(&self) -> Option<String> {
        let (unnamed, all) = self.frames();
        (all > 0).then(|| percent_up(share(unnamed, all)))
    }
}

/// A share for people, with one decimal, rounded down.
fn percent_down(share: f64) -> String {
    format!("{:.1} %", tenths_down(share))
}

/// A share for people, with one decimal, rounded up.
fn percent_up(share: f64) -> String {
    format!("{:.1} %", 100.0 - tenths_down(1.0 - share))
}

/// Percent in whole tenths, rounded down; a product that only its rounding leaves below a whole tenth is that tenth.
fn tenths_down(share: f64) -> f64 {
    (1000.0 * share + 1e-9).floor() / 10.0
}

impl Profile {
    /// The command that was profiled, if the comments tell it.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        self.comments.iter().find_map(|&comment| self.text(comment).strip_prefix(COMMAND))
    }

    /// How many CPUs were watched, the most that a comment tells; 0 if none does.
    #[must_use]
    pub fn cpus(&self) -> u32 {
        self.comment_values(CPUS).filter_map(|number| number.parse().ok()).max().unwrap_or(0)
    }

    /// Samples a second and CPU that were asked for of the first event; 0 with a fixed period, or if no comment tells.
    #[must_use]
    pub fn frequency(&self) -> u64 {
        self.comment_values(EVENT).next().and_then(|event| event_number(event, "frequency=")).unwrap_or(0)
    }

    /// The events that were sampled, each with the frequency that was asked for (0 with a fixed period), as the comments tell them. Of
    /// another program's profile: what its period is of, and that period.
    pub fn events(&self) -> impl Iterator<Item = (&str, u64)> {
        let told = self.comment_values(EVENT).filter_map(|event| {
            let (name, _) = event.rsplit_once(": value=")?;
            Some((name, event_number(event, "frequency=").unwrap_or(0)))
        });
        let other = self.comment_values(EVENT).next().is_none().then_some(self.period_type).flatten();
        told.chain(other.map(|kind| (self.text(kind.name), self.period.unsigned_abs())))
    }

    /// The names of the files that were merged into this profile. A sum of profiles no longer has them: it is of other files.
    pub fn merged(&self) -> impl Iterator<Item = &str> {
        self.comment_values(MERGED)
    }

    fn comment_values<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.comments.iter().filter_map(move |&comment| self.text(comment).strip_prefix(prefix))
    }

    /// The comments that are neither a number nor an event: what a person reads first.
    pub fn remarks(&self) -> impl Iterator<Item = &str> {
        let lines = self.comments.iter().map(|&comment| self.text(comment));
        lines.filter(|line| health_row(line).is_none() && ![EVENT, CPUS, MERGED].iter().any(|&of| line.starts_with(of)))
    }
}

/// Remarks that the comments of many profiles keep at most; a year of windows has as many as hosts and versions.
const MAX_REMARKS: usize = 48;
/// Lines of events at most: an event has one for each frequency that it was sampled with.
const MAX_EVENTS: usize = 48;

/// The comments of many profiles as those of one: numbers are summed, a remark stands once.
#[derive(Debug, Default)]
pub(super) struct CommentSum {
    health: Health,
    events: Vec<EventSum>,
    remarks: Vec<String>,
    /// Remarks that came when there were [`MAX_REMARKS`].
    left_out: u64,
}

#[derive(Debug)]
struct EventSum {
    /// The line without its numbers.
    head: String,
    counted: KindQuality,
}

impl CommentSum {
    /// Adds a profile's comments.
    pub(super) fn add(&mut self, profile: &Profile) {
        for line in profile.comments.iter().map(|&comment| profile.text(comment)) {
            self.add_line(line, profile);
        }
    }

    /// Adds what another has summed.
    pub(super) fn absorb(&mut self, other: CommentSum) {
        other.health.rows().for_each(|(row, number)| self.add_health(row, number));
        other.events.into_iter().for_each(|event| self.add_event(event));
        other.remarks.iter().for_each(|remark| self.add_remark(remark));
        self.left_out = self.left_out.saturating_add(other.left_out);
    }

    /// The comments, in the order in which a profile has them: remarks, events, health.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = self.remarks.clone();
        if self.left_out > 0 {
            lines.push(format!("{LEFT_OUT}{}", self.left_out));
        }
        lines.extend(self.events.iter().map(|EventSum { head, counted }| counted.line(head)));
        lines.extend(health_comments(&self.health));
        lines
    }

    fn add_line(&mut self, line: &str, profile: &Profile) {
        if let Some((row, number)) = health_row(line) {
            self.add_health(row, number);
        } else if line.starts_with(EVENT) {
            let is_number = |word: &&str| NUMBERS.iter().any(|field| word.starts_with(field));
            self.add_event(EventSum {
                head: line.split(' ').filter(|word| !is_number(word)).collect::<Vec<_>>().join(" "),
                counted: KindQuality::of_line(line, profile),
            });
        } else if let Some(number) = line.strip_prefix(LEFT_OUT).and_then(|number| number.parse().ok()) {
            self.left_out = self.left_out.saturating_add(number);
        } else if !line.starts_with(MERGED) {
            self.add_remark(line);
        }
    }

    fn add_health(&mut self, row: Count, number: u64) {
        self.health.add(row, number.min(u64::MAX - self.health.get(row)));
    }

    /// What is lost counts, whatever the line says besides: with too many lines it goes to the last one.
    fn add_event(&mut self, event: EventSum) {
        let same = self.events.iter().position(|known| known.head == event.head);
        let full = (self.events.len() >= MAX_EVENTS).then(|| self.events.len() - 1);
        match same.or(full) {
            Some(at) => self.events[at].counted = self.events[at].counted.plus(&event.counted),
            None => self.events.push(event),
        }
    }

    fn add_remark(&mut self, line: &str) {
        if self.remarks.iter().any(|known| known == line) {
            return;
        }
        if self.remarks.len() < MAX_REMARKS {
            self.remarks.push(line.to_owned());
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }
}

fn health_row(line: &str) -> Option<(Count, u64)> {
    let (name, number) = line.split_once('=')?;
    let row = Count::ALL.iter().find(|row| row.name() == name)?;
    Some((*row, number.parse().ok()?))
}

fn event_number(line: &str, field: &str) -> Option<u64> {
    event_text(line, field)?.parse().ok()
}

fn event_text<'a>(line: &'a str, field: &str) -> Option<&'a str> {
    line.split(' ').rev().find_map(|word| word.strip_prefix(field))
}

#[allow(clippy::cast_precision_loss, reason = "a share is shown with one decimal")]
fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}
