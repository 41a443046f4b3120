//! What is told while recording and at the end, all on standard error: lines for people, a live line on a terminal.

use std::time::Duration;

use crossbeam_channel::Sender;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::health::{Count, Health};
use crate::profile::{KindQuality, Profile, Quality};
use crate::text::printable;

/// Where a session talks to its user; a clone talks to the same.
#[derive(Clone)]
pub struct Screen {
    quiet: bool,
    live: ProgressBar,
    /// Who takes the lines, where that is not the standard error.
    listener: Option<Sender<String>>,
}

impl Screen {
    /// A screen that keeps silent if it is to be `quiet`, but for errors.
    #[must_use]
    pub fn new(quiet: bool) -> Screen {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(5) };
        let live = ProgressBar::with_draw_target(None, target);
        live.set_style(style("{spinner} {msg}"));
        Screen { quiet, live, listener: None }
    }

    /// A screen whose lines go to somebody else, who has the terminal.
    pub(super) fn of(listener: Sender<String>) -> Screen {
        Screen { listener: Some(listener), ..Screen::new(true) }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        if let Some(listener) = &self.listener {
            // Who has gone does not want to hear it.
            let _ = listener.send(line.to_owned());
        } else if !self.quiet {
            self.live.suspend(|| eprintln(&format!("rprof: {line}")));
        }
    }

    /// A line without our name before it, in the words of another program.
    pub fn say_plainly(&self, line: &str) {
        if !self.quiet {
            self.live.suspend(|| eprintln(line));
        }
    }

    /// The live line: how long, how many samples, what was lost, and how many CPUs the target uses.
    pub(super) fn show(&self, elapsed: Duration, samples: u64, lost: u64, cpus: Option<f64>) {
        let cpus = cpus.map_or(String::new(), |cpus| format!(", {cpus:.2} CPUs"));
        self.live
            .set_message(format!("recording {:.0} s: {samples} samples, {lost} lost{cpus}", elapsed.as_secs_f64()));
        self.live.tick();
    }

    /// The bar while a large file is read, in bytes.
    pub(super) fn reading(&self, done: u64, total: u64) {
        if self.live.length() != Some(total) {
            self.live.set_length(total);
            self.live.set_style(style("reading {bar:40} {bytes}/{total_bytes}"));
        }
        self.live.set_position(done);
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.live.finish_and_clear();
    }

    /// The bar while frames are named.
    pub(super) fn naming(&self, done: usize, total: usize) {
        if self.live.length() != Some(total as u64) {
            self.live.set_length(total as u64);
            self.live.set_style(style("naming frames {bar:40} {pos}/{len}"));
        }
        self.live.set_position(done as u64);
    }

    /// The closing summary; with `verbose`, all that was counted.
    pub(super) fn sum_up(&self, end: &Summary, verbose: bool) {
        self.live.finish_and_clear();
        let quality = end.profile.as_ref().and_then(Quality::of).unwrap_or_default();
        let health = &quality.health;
        let seconds = end.elapsed.as_secs_f64();
        self.say(&taken(&quality, seconds, end.cpus));
        end.silence.iter().for_each(|why| self.say(&format!("no sample was taken: {why}")));
        if let Some(complete) = quality.complete_percent() {
            self.say(&format!("{complete} of user stacks reach the root{}", incomplete(health)));
        }
        if let Some(fibers) = quality.fiber_percent() {
            self.say(&format!("{fibers} of user stacks end at a fiber's entry"));
        }
        unnamed(&quality).iter().for_each(|line| self.say(line));
        if verbose {
            health.rows().for_each(|(row, number)| self.say(&format!("{number:>10} {}", row.meaning())));
        }
        let memory = end.own_memory.map_or(String::new(), |bytes| format!(" and {} MB of memory", bytes >> 20));
        self.say(&format!(
            "used {:.2} s of CPU{memory} itself{}",
            end.own_cpu.as_secs_f64(),
            if end.files.is_empty() { String::new() } else { format!("; wrote {}", end.files.join(", ")) }
        ));
    }
}

/// What the closing summary tells.
#[derive(Default)]
pub(super) struct Summary {
    /// The profile, or the first of several.
    pub(super) profile: Option<Profile>,
    pub(super) elapsed: Duration,
    /// How many CPUs the target used, where time was sampled.
    pub(super) cpus: Option<f64>,
    /// Why there is no sample, if there is none.
    pub(super) silence: Option<String>,
    pub(super) own_cpu: Duration,
    /// The most memory that was resident, in bytes.
    pub(super) own_memory: Option<u64>,
    /// The files and their sizes.
    pub(super) files: Vec<String>,
}

/// How many samples were taken and lost; of several kinds, of each.
fn taken(quality: &Quality, seconds: f64, cpus: Option<f64>) -> String {
    let all_tasks = quality.health.get(Count::SamplesSkipped) > 0;
    let lost = |counted: &KindQuality| {
        let whose = if counted.lost > 0 && all_tasks { " (of all tasks on these CPUs)" } else { "" };
        let share = if counted.lost > 0 { format!(" ({})", counted.lost_percent()) } else { String::new() };
        let throttled =
            if counted.throttled > 0 { format!(", throttled {}×", counted.throttled) } else { String::new() };
        format!("{} lost{share}{whose}{throttled}", counted.lost)
    };
    let mut kinds = quality.kinds();
    let first = kinds.next().map_or_else(|| quality.all(), |(_, counted)| *counted);
    // What was lost was CPU time too, but nobody knows whose.
    let least = if first.lost > 0 { "at least " } else { "" };
    let cpus = cpus.map_or(String::new(), |cpus| format!(" ({least}{cpus:.2} CPUs)"));
    let mut line = format!("{} samples in {seconds:.1} s{cpus}, {}", first.samples, lost(&first));
    for (kind, counted) in kinds {
        line.push_str(&format!("; {} samples of {kind}, {}", counted.samples, lost(counted)));
    }
    line
}

/// What has no name: the part of each kind's value that is in stacks with such a frame, and how many distinct frames.
fn unnamed(quality: &Quality) -> Option<String> {
    let (_, frames) = quality.frames();
    let of_frames = quality.frames_percent()?;
    let of_kind = |(kind, counted): (&str, &KindQuality)| Some(format!("{} of {kind}", counted.unnamed_percent()?));
    let parts: Vec<String> = quality.kinds().filter_map(of_kind).collect();
    let parts =
        if parts.is_empty() { String::new() } else { format!("; {} in stacks with such a frame", parts.join(", ")) };
    Some(format!("{of_frames} of {frames} distinct frames have no name{parts}"))
}

/// Why stacks have no root, most frequent first.
fn incomplete(health: &Health) -> String {
    let mut reasons: Vec<_> = [
        (Count::StacksTruncated, "longer than the copied part"),
        (Count::StacksNoCfi, "without unwind information"),
        (Count::StacksBroken, "broken"),
        (Count::StacksTooDeep, "too deep"),
        (Count::StacksNoRegisters, "without registers"),
    ]
    .into_iter()
    .map(|(row, reason)| (health.get(row), reason))
    .filter(|(number, _)| *number > 0)
    .collect();
    reasons.sort_by(|a, b| b.cmp(a));
    let list: Vec<_> = reasons.iter().map(|(number, reason)| format!("{number} {reason}")).collect();
    if list.is_empty() { String::new() } else { format!(" ({})", list.join(", ")) }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[expect(clippy::print_stderr, reason = "the one place that talks to the user")]
fn eprintln(text: &str) {
    // Lines hold names that others chose.
    text.lines().for_each(|line| eprintln!("{}", printable(line)));
}
