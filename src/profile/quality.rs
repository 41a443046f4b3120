//! How good a profile is, as its comments tell it. pprof has no field for losses; a comment is what every reader
//! shows and none interprets. The lines are written and read here, so that they agree.

use super::Profile;
use crate::collect::{EventInfo, Unit};
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

/// The ends that a user stack can have besides its true root.
const INCOMPLETE: [Count; 5] =
    [Count::StacksTruncated, Count::StacksNoCfi, Count::StacksBroken, Count::StacksTooDeep, Count::StacksNoRegisters];

/// The name of a unit in files.
#[must_use]
pub fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds => "nanoseconds",
        Unit::Bytes => "bytes",
        Unit::Count => "count",
    }
}

/// The comment of an event: how it was sampled and what was lost of it.
#[must_use]
pub fn event_comment(event: &EventInfo) -> String {
    format!(
        "{EVENT}{}: value={} unit={} frequency={} period={} lost={} throttled={}",
        event.name,
        event.value_name,
        unit_name(event.unit),
        event.frequency,
        event.period,
        event.loss.lost,
        event.loss.throttled,
    )
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

/// What a profile's comments tell of its samples and losses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// The health table.
    pub health: Health,
    /// Samples that were lost: the sum over the events, or the records lost where no event says it.
    pub lost: u64,
    /// Times that events were throttled.
    pub throttled: u64,
}

impl Quality {
    /// Reads the comments; `None` if they tell nothing (a profile of another program).
    #[must_use]
    pub fn of(profile: &Profile) -> Option<Quality> {
        let mut health = Health::default();
        let (mut lost, mut throttled, mut known) = (0_u64, 0_u64, false);
        for line in profile.comments.iter().map(|&comment| profile.text(comment)) {
            if let Some((row, number)) = health_row(line) {
                // A file of others may hold any number.
                health.add(row, number.min(u64::MAX - health.get(row)));
                known = true;
            } else if line.starts_with(EVENT) {
                lost = lost.saturating_add(event_number(line, "lost=").unwrap_or(0));
                throttled = throttled.saturating_add(event_number(line, "throttled=").unwrap_or(0));
                known = true;
            }
        }
        let lost = lost.max(health.get(Count::RecordsLost));
        let throttled = throttled.max(health.get(Count::Throttled));
        known.then_some(Quality { health, lost, throttled })
    }

    /// The share (0 to 1) of all samples that was lost.
    #[must_use]
    pub fn lost_share(&self) -> f64 {
        share(self.lost, self.lost.saturating_add(self.health.get(Count::Samples)))
    }

    /// The share (0 to 1) of user stacks that reached their root; `None` without user stacks.
    #[must_use]
    pub fn complete_share(&self) -> Option<f64> {
        let (complete, all) = self.stacks();
        (all > 0).then(|| share(complete, all))
    }

    /// User stacks that reached their root, and all.
    #[must_use]
    pub fn stacks(&self) -> (u64, u64) {
        let complete = self.health.get(Count::StacksRoot);
        (complete, INCOMPLETE.iter().fold(complete, |sum, &row| sum.saturating_add(self.health.get(row))))
    }
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
    /// The line without its losses.
    head: String,
    lost: u64,
    throttled: u64,
}

impl CommentSum {
    /// Adds a profile's comments.
    pub(super) fn add(&mut self, profile: &Profile) {
        for line in profile.comments.iter().map(|&comment| profile.text(comment)) {
            self.add_line(line);
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
        lines.extend(
            self.events
                .iter()
                .map(|EventSum { head, lost, throttled }| format!("{head} lost={lost} throttled={throttled}")),
        );
        lines.extend(health_comments(&self.health));
        lines
    }

    fn add_line(&mut self, line: &str) {
        if let Some((row, number)) = health_row(line) {
            self.add_health(row, number);
        } else if line.starts_with(EVENT) {
            let is_loss = |word: &&str| word.starts_with("lost=") || word.starts_with("throttled=");
            self.add_event(EventSum {
                head: line.split(' ').filter(|word| !is_loss(word)).collect::<Vec<_>>().join(" "),
                lost: event_number(line, "lost=").unwrap_or(0),
                throttled: event_number(line, "throttled=").unwrap_or(0),
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
            Some(at) => {
                let sum = &mut self.events[at];
                sum.lost = sum.lost.saturating_add(event.lost);
                sum.throttled = sum.throttled.saturating_add(event.throttled);
            }
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
    line.split(' ').rev().find_map(|word| word.strip_prefix(field))?.parse().ok()
}

#[allow(clippy::cast_precision_loss, reason = "a share is shown with one decimal")]
fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}
