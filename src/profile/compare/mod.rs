//! Two sides of profiles, told apart from chance: which functions have more or less, by how much at least and at most, and whether that is
//! more than what they vary by anyway.
//!
//! [`Evidence`] is gathered for each side, window by window; [`Comparison::of`] judges it. Functions are told apart by comparable names
//! ([`super::names`]) and the file names of their modules. docs/diff.md tells what is computed and why.

mod calls;
mod difference;
mod estimate;
mod evidence;
pub mod gate;
mod joint;
mod noise;
mod shift;
mod statistics;

use super::UnknownValue;

pub use difference::difference;
pub use estimate::Estimate;
pub use evidence::{About, Evidence, EvidenceOptions, Function, Stretch, Sums};

/// Sub-windows that a side needs at least, for how much values vary to be told from them.
pub const ENOUGH_WINDOWS: usize = 12;
/// Sub-windows that are kept apart; neighbours are joined beyond.
pub(super) const MAX_WINDOWS: usize = 64;
/// Functions with fewer samples on both sides together are not tested: with less than 20 that are expected of a side, little can be told.
const TESTED_FROM: f64 = 40.0;

/// What values are divided by, so that sides of different length and size can be compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Normalize {
    /// The time that was recorded, and the number of CPUs that were watched: CPU-seconds per second and CPU.
    Cpus,
    /// The sum of all samples, so that only the composition is compared.
    Share,
    /// Nothing: values as they were counted.
    Samples,
    /// The work that was done meanwhile, on the base and the new side: requests, bytes, …
    Work([f64; 2]),
}

impl Normalize {
    /// Its name, as options have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Normalize::Cpus => "cpus",
            Normalize::Share => "share",
            Normalize::Samples => "samples",
            Normalize::Work(_) => "work",
        }
    }
}

/// How sides are compared.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// What values are divided by; `None` for [`Normalize::Cpus`], or [`Normalize::Share`] where files do not tell how long they were
    /// recorded.
    pub normalize: Option<Normalize>,
    /// The share (0 to 1) of false ones that may be expected among all that count as changed.
    pub false_discovery: f64,
    /// The confidence (0 to 1) of intervals.
    pub confidence: f64,
}

impl Default for CompareOptions {
    fn default() -> CompareOptions {
        CompareOptions { normalize: None, false_discovery: 0.01, confidence: 0.95 }
    }
}

/// Why two sides cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// They count different things.
    #[error(
        "they count different things: {these} and {those}; compare profiles of one kind, or choose a value that both have with --value"
    )]
    Values {
        /// `name/unit` of one.
        these: String,
        /// `name/unit` of the other.
        those: String,
    },
    /// There is no such value.
    #[error(transparent)]
    Unknown(#[from] UnknownValue),
    /// A side without any profile.
    #[error("the {0} side has no profile that was asked for")]
    Nothing(&'static str),
    /// A side does not tell how long it was recorded.
    #[error(
        "the {0} side does not tell how long it was recorded, so that nothing can be said by time; compare with --normalize share, or --work"
    )]
    Duration(&'static str),
    /// A side has nothing, of which there are no shares.
    #[error(
        "the {0} side has no samples that were asked for, and nothing is a share of none; compare with --normalize samples, cpus, or --work"
    )]
    Share(&'static str),
}

impl CompareError {
    fn values(these: &(String, String), those: &(String, String)) -> CompareError {
        let show = |(name, unit): &(String, String)| format!("{name} in {unit}");
        CompareError::Values { these: show(these), those: show(those) }
    }
}

/// The names of the sides.
pub const SIDES: [&str; 2] = ["base", "new"];

/// What became of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The base has none of it.
    New,
    /// The new side has none of it.
    Gone,
    /// It has more, beyond chance.
    Up,
    /// It has less, beyond chance.
    Down,
    /// It has more or less, and what is called beside it by the same caller has as much less or more: cost that moved.
    Shifted,
    /// Nothing that chance does not make.
    Same,
}

impl Verdict {
    /// Its name for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::New => "new",
            Verdict::Gone => "gone",
            Verdict::Up => "up",
            Verdict::Down => "down",
            Verdict::Shifted => "shifted",
            Verdict::Same => "same",
        }
    }
}

/// A function on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The function.
    pub function: Function,
    /// What was counted in it.
    pub own: Estimate,
    /// And in all that it called. A stack counts once, however often the function is in it.
    pub total: Estimate,
    /// What became of it.
    pub verdict: Verdict,
    /// The caller within which its cost moved, if so: an index of [`Comparison::functions`].
    pub shifted_within: Option<u32>,
}

impl Change {
    /// Tests that it is looked at by: of what calls nothing, both are one.
    pub(super) fn tests(&self) -> f64 {
        if self.own.rate == self.total.rate { 1.0 } else { 2.0 }
    }

    /// What one of its two estimates alone says of it: its own direction, and nothing where it is no more than chance makes. That a
    /// function is new or gone, or its cost has moved, is true of both.
    #[must_use]
    pub fn verdict_of(&self, estimate: &Estimate) -> Verdict {
        match self.verdict {
            Verdict::New | Verdict::Gone | Verdict::Shifted => self.verdict,
            _ if !estimate.significant => Verdict::Same,
            _ if estimate.difference > 0.0 => Verdict::Up,
            _ => Verdict::Down,
        }
    }

    /// Whether it changed beyond chance, in itself or with what it called.
    #[must_use]
    pub fn is_significant(&self) -> bool {
        self.own.significant || self.total.significant
    }
}

/// A file of code on both sides: what was counted in its functions themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleChange {
    /// Its file name; empty for frames without any.
    pub name: String,
    /// What was counted.
    pub own: Estimate,
}

/// A function in the place where it was called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// The node of its caller, which stands before it.
    pub parent: Option<u32>,
    /// An index of [`Comparison::functions`].
    pub function: u32,
    /// The value that was counted in it, without what it called, on the base and the new side, as it stands in the files.
    pub value: [f64; 2],
    /// The same of samples.
    pub count: [f64; 2],
}

/// One side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SideSummary {
    /// What was recorded.
    pub about: About,
    /// Sub-windows: stretches of time that are counted apart.
    pub windows: usize,
    /// Recordings.
    pub runs: usize,
    /// Seconds that were recorded, summed over hosts and recordings.
    pub seconds: f64,
    /// Nanoseconds since 1970 at which the first sub-window begins; 0 if files do not tell.
    pub start: i64,
    /// Samples.
    pub samples: f64,
    /// Sum of values.
    pub total: f64,
    /// Sum of the values before filters left something out.
    pub all: f64,
    /// The share (0 to 1) of the value whose leaf has no name, or whose stack was cut.
    pub unknown_share: f64,
    /// A value times this is a rate.
    pub scale: f64,
}

impl SideSummary {
    /// The share (0 to 1) of samples that were lost.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share")]
    pub fn lost_share(&self) -> f64 {
        let lost = self.about.lost as f64;
        // Filters leave a part of the samples, but all that were lost.
        let taken = self.samples.max(self.about.taken as f64);
        if lost > 0.0 { lost / (lost + taken) } else { 0.0 }
    }

    /// The share (0 to 1) of user stacks that reached their root, if files tell.
    #[must_use]
    pub fn complete_share(&self) -> Option<f64> {
        (self.about.complete.1 > 0.0).then(|| self.about.complete.0 / self.about.complete.1)
    }
}

/// Two sides compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Name of the value (`cpu`).
    pub value: String,
    /// Its unit in files (`nanoseconds`).
    pub unit: String,
    /// What values are divided by.
    pub normalize: Normalize,
    /// How it was compared.
    pub options: CompareOptions,
    /// Base and new.
    pub sides: [SideSummary; 2],
    /// Everything together.
    pub whole: Estimate,
    /// Functions, in no order.
    pub functions: Vec<Change>,
    /// Files of code, in no order.
    pub modules: Vec<ModuleChange>,
    /// What calls what; a caller stands before what it calls.
    pub tree: Vec<Node>,
    /// Whether there were enough sub-windows on both sides to tell how much values vary; else a tenth is assumed.
    pub measured: bool,
    /// What to know of it, for people.
    pub remarks: Vec<String>,
    /// What it is made of, for further questions.
    joint: joint::Joint,
}

/// The ratio that most functions have, between the new side and the base: what a change of load, of the machine or of the share of others
/// makes of all alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CommonRatio {
    /// The ratio.
    pub ratio: f64,
    /// Functions that tell it.
    pub witnesses: usize,
    /// The standard error of its logarithm, by how far those functions lie from it.
    pub error: f64,
    /// How much further they lie from it than their own errors tell, 1 at least: what varies from run to run.
    pub apart: f64,
}

impl Comparison {
    /// How rates are called.
    #[must_use]
    pub fn rate_unit(&self) -> String {
        match self.normalize {
            Normalize::Cpus if self.unit == "nanoseconds" && self.value == "cpu" => "CPUs per CPU".into(),
            Normalize::Cpus if self.unit == "nanoseconds" => "threads per CPU".into(),
            Normalize::Cpus if joint::is_state(&self.value) => self.unit.clone(),
            Normalize::Cpus => format!("{} per second and CPU", self.unit),
            Normalize::Share => "share".into(),
            Normalize::Samples => self.unit.clone(),
            Normalize::Work(_) => format!("{} per unit of work", self.unit),
        }
    }

    /// The functions that either side has, those that changed most beyond chance first, then the others by their difference.
    #[must_use]
    pub fn by_change(&self, of: fn(&Change) -> &Estimate) -> Vec<usize> {
        let is_there = |at: &usize| self.functions[*at].total.rate != [0.0, 0.0];
        let mut order: Vec<usize> = (0..self.functions.len()).filter(is_there).collect();
        let key = |at: &usize| (of(&self.functions[*at]).significant, of(&self.functions[*at]).difference.abs());
        order.sort_by(|a, b| {
            let ((first, by_first), (second, by_second)) = (key(a), key(b));
            let names = || self.functions[*a].function.name.cmp(&self.functions[*b].function.name);
            second.cmp(&first).then(by_second.total_cmp(&by_first)).then_with(names)
        });
        order
    }

    /// What a value of the base is multiplied by, to be as one of the new side: of the same time and number of CPUs, of the same sum, …
    #[must_use]
    pub fn base_factor(&self) -> f64 {
        let [base, new] = &self.sides;
        if base.scale > 0.0 && new.scale > 0.0 { base.scale / new.scale } else { 1.0 }
    }

    /// The nodes from the root to one in which something was counted, and what: samples, or values, of the base as if it were like the new
    /// side.
    pub fn stacks(&self, by_value: bool) -> impl Iterator<Item = (Vec<usize>, [f64; 2])> + '_ {
        let factor = self.base_factor();
        self.tree.iter().enumerate().filter_map(move |(at, node)| {
            let [base, new] = if by_value { node.value } else { node.count };
            (base != 0.0 || new != 0.0).then(|| {
                let mut stack: Vec<usize> =
                    std::iter::successors(Some(at), |&at| self.tree[at].parent.map(|parent| parent as usize)).collect();
                stack.reverse();
                (stack, [base * factor, new])
            })
        })
    }

    /// The function of a node.
    #[must_use]
    pub fn change_at(&self, node: usize) -> &Change {
        &self.functions[self.tree[node].function as usize]
    }
}
