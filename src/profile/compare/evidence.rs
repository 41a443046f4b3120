//! What one side of a comparison is judged by: counts of each stack in each stretch of time.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::{CompareError, MAX_WINDOWS};
use crate::collect::{PrefixTree, StackId};
use crate::profile::names::{comparable, comparable_module};
use crate::profile::{LabelValue, LocationId, Origin, Profile, Quality, Sample, TIME_LABEL};

/// A stretch of time shorter than this is no sub-window: what a program does from one quarter of a second to the next is one thing.
const SHORTEST: i64 = 250_000_000;

/// Stands for the stack of a sample without one.
const NO_STACK: &str = "[no stack]";

/// A function as both sides know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, without what changes from build to build.
    pub name: String,
    /// The file name of its module; empty if there is none.
    pub module: String,
    /// Where its code comes from, where it was met first.
    pub origin: Origin,
}

impl Function {
    /// Whether it stands for code whose name is not known, or for a stack that was cut.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.name.ends_with("0x…")
            || self.name == "[unknown]"
            || self.name == "[anon]"
            || self.origin == Origin::Nowhere && self.name.starts_with('[') && self.module.is_empty()
    }
}

/// Sums over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Samples.
    pub count: f64,
    /// Their values.
    pub value: f64,
    /// The least sum of their squares: that of samples which share a row is taken as if all were equal.
    pub square: f64,
}

impl Sums {
    pub(super) fn add(&mut self, more: Sums) {
        self.count += more.count;
        self.value += more.value;
        self.square += more.square;
    }
}

/// A stretch of time and what was counted in it.
#[derive(Clone, Debug, Default)]
pub(super) struct SubWindow {
    /// Nanoseconds since 1970.
    pub(super) start: i64,
    /// Seconds.
    pub(super) seconds: f64,
    /// Seconds times CPUs times the share of samples that was kept.
    pub(super) cpu_seconds: f64,
    /// The recording that it is of.
    pub(super) run: u32,
    /// Of all samples, also those that filters left out.
    pub(super) all: Sums,
    /// Of each stack: the value that was counted in its leaf.
    pub(super) own: Vec<(u32, f64)>,
}

impl SubWindow {
    /// Adds the next one to it.
    fn join(&mut self, next: SubWindow) {
        self.seconds += next.seconds;
        self.cpu_seconds += next.cpu_seconds;
        self.all.add(next.all);
        let mut sums: BTreeMap<u32, f64> = std::mem::take(&mut self.own).into_iter().collect();
        next.own.into_iter().for_each(|(node, value)| *sums.entry(node).or_default() += value);
        self.own = sums.into_iter().collect();
    }
}

/// What was recorded, as far as it decides whether two sides can be compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// Name and unit of the value.
    pub value: Option<(String, String)>,
    /// Events with the frequencies that were asked for (0 for a fixed period), as the files tell them.
    pub events: BTreeSet<(String, u64)>,
    /// Numbers of CPUs that were watched.
    pub cpus: BTreeSet<u32>,
    /// Files of the main programs.
    pub programs: BTreeSet<String>,
    /// Profiles that were added.
    pub profiles: usize,
    /// Those that tell no duration.
    pub without_duration: usize,
    /// Those whose samples tell their times.
    pub timed: usize,
    /// Samples that were lost.
    pub lost: u64,
    /// Samples that were taken, also those that filters left out; 0 where files do not tell.
    pub taken: u64,
    /// Stacks that reached their root, and all user stacks; none where files do not tell.
    pub complete: (f64, f64),
}

/// How evidence is gathered.
#[derive(Clone, Debug)]
pub struct EvidenceOptions {
    /// The column of values; `None` for each profile's own.
    pub value: Option<String>,
    /// How many sub-windows a profile is cut into, if its samples tell their times.
    pub parts: usize,
}

impl Default for EvidenceOptions {
    fn default() -> EvidenceOptions {
        EvidenceOptions { value: None, parts: 1 }
    }
}

/// A stretch of time in which nothing was counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stretch {
    /// Nanoseconds since 1970.
    pub start: i64,
    /// Seconds.
    pub seconds: f64,
    /// CPUs that were watched; 0 if it is not known.
    pub cpus: u32,
    /// The share (0 to 1) of samples that was kept.
    pub kept: f64,
}

/// One side of a comparison: profiles of the same program or host, one after the other.
#[derive(Debug, Default)]
pub struct Evidence {
    options: EvidenceOptions,
    pub(super) about: About,
    pub(super) functions: Functions,
    pub(super) tree: PrefixTree,
    /// What was counted in the leaf of each stack of the tree, in all sub-windows; by [`StackId::number`].
    pub(super) nodes: Vec<Sums>,
    pub(super) windows: Vec<SubWindow>,
}

/// Functions, found by what they are called in files.
#[derive(Debug, Default)]
pub(super) struct Functions {
    pub(super) list: Vec<Function>,
    comparable: FxHashMap<(String, String), u32>,
    /// By module and name as in files: a name is made comparable once, however many profiles have it.
    raw: FxHashMap<String, FxHashMap<String, u32>>,
}

impl Functions {
    fn id(&mut self, name: &str, module: &str, origin: Origin) -> u32 {
        if let Some(&id) = self.raw.get(module).and_then(|names| names.get(name)) {
            return id;
        }
        let id = self.comparable_id(&comparable(name), comparable_module(module), origin);
        self.raw.entry(module.to_owned()).or_default().insert(name.to_owned(), id);
        id
    }

    pub(super) fn comparable_id(&mut self, name: &str, module: &str, origin: Origin) -> u32 {
        let list = &mut self.list;
        *self.comparable.entry((name.to_owned(), module.to_owned())).or_insert_with(|| {
            list.push(Function { name: name.to_owned(), module: module.to_owned(), origin });
            u32::try_from(list.len() - 1).unwrap_or(u32::MAX)
        })
    }
}

/// Where the samples of a profile go.
struct Cut {
    key: Option<crate::profile::StringId>,
    start: i64,
    length: i64,
    parts: usize,
}

impl Evidence {
    /// A side without any profile.
    #[must_use]
    pub fn new(options: EvidenceOptions) -> Evidence {
        Evidence { options, ..Evidence::default() }
    }

    /// Whether a profile was added, and not only time in which nothing was counted.
    #[must_use]
    pub fn has_profiles(&self) -> bool {
        self.about.profiles > 0
    }

    /// Adds a profile, the next in time. `run` tells recordings apart: what one knows of another minute of itself, two recordings do not
    /// know of each other. `all` is the sum of the value before anything was left out, if something was.
    ///
    /// # Errors
    /// [`CompareError`] if it has no such value, or another than those before.
    pub fn add(&mut self, profile: &Profile, run: u32, all: Option<i128>) -> Result<(), CompareError> {
        let column = profile.column(self.options.value.as_deref())?;
        self.about.add(profile, column)?;
        let cut = self.cut(profile);
        let first = self.windows.len();
        self.windows.extend(sub_windows(profile, column, &cut, run));
        let mut own: Vec<FxHashMap<u32, f64>> = vec![FxHashMap::default(); cut.parts];
        let frames = self.frames(profile);
        let count = profile.count_column();
        for sample in &profile.samples {
            let part = cut.part(sample);
            let sums = sums(sample, column, count);
            let roots_first = sample.stack.iter().rev().flat_map(|id| frames[id.0 as usize].iter().rev());
            let mut stack = roots_first.fold(PrefixTree::EMPTY, |caller, &function| self.tree.push(caller, function));
            if stack == PrefixTree::EMPTY {
                let none = self.functions.comparable_id(NO_STACK, "", Origin::Nowhere);
                stack = self.tree.push(stack, none);
            }
            let at = stack.number();
            if self.nodes.len() <= at {
                self.nodes.resize(self.tree.len() + 1, Sums::default());
            }
            self.nodes[at].add(sums);
            *own[part].entry(index(at)).or_default() += sums.value;
            self.windows[first + part].all.add(sums);
        }
        self.nodes.resize(self.tree.len() + 1, Sums::default());
        self.settle_totals(first, all);
        for (window, own) in self.windows[first..].iter_mut().zip(own) {
            window.own = own.into_iter().collect();
            window.own.sort_unstable_by_key(|(node, _)| *node);
        }
        if self.windows.len() > 4 * MAX_WINDOWS {
            self.fold(2 * MAX_WINDOWS);
        }
        Ok(())
    }

    /// Adds time in which nothing was counted of what is compared.
    pub fn add_nothing(&mut self, stretch: &Stretch) {
        self.about.cpus.extend(Some(stretch.cpus).filter(|&cpus| cpus > 0));
        self.windows.push(SubWindow {
            start: stretch.start,
            seconds: stretch.seconds,
            cpu_seconds: stretch.seconds * f64::from(stretch.cpus.max(1)) * stretch.kept,
            ..SubWindow::default()
        });
    }

    /// What filters left out belongs to the whole: it is spread over the sub-windows as the rest is.
    fn settle_totals(&mut self, first: usize, all: Option<i128>) {
        let Some(all) = all.map(float) else { return };
        let windows = &mut self.windows[first..];
        let kept: f64 = windows.iter().map(|window| window.all.value).sum();
        let seconds: f64 = windows.iter().map(|window| window.seconds).sum();
        let number = float(windows.len() as i128).max(1.0);
        for window in windows {
            let by_time = if seconds > 0.0 { window.seconds / seconds } else { 1.0 / number };
            let part = if kept > 0.0 { window.all.value / kept } else { by_time };
            window.all.value = all * part;
        }
    }

    /// Adds what another has of the same side, of later profiles.
    ///
    /// # Errors
    /// [`CompareError`] if it has another value.
    pub fn absorb(&mut self, other: Evidence) -> Result<(), CompareError> {
        self.about.absorb(&other.about)?;
        let nodes = self.translate(&other, &FxHashMap::default());
        for (from, &sums) in other.nodes.iter().enumerate() {
            self.nodes[nodes[from] as usize].add(sums);
        }
        for mut window in other.windows {
            window.own.iter_mut().for_each(|(node, _)| *node = nodes[*node as usize]);
            self.windows.push(window);
        }
        if self.windows.len() > 4 * MAX_WINDOWS {
            self.fold(2 * MAX_WINDOWS);
        }
        Ok(())
    }

    /// The stacks of another side as stacks of this one. Modules in `alias` are renamed.
    pub(super) fn translate(&mut self, other: &Evidence, alias: &FxHashMap<String, String>) -> Vec<u32> {
        let module = |name: &String| alias.get(name).unwrap_or(name).clone();
        let functions: Vec<u32> = other
            .functions
            .list
            .iter()
            .map(|of| self.functions.comparable_id(&of.name, &module(&of.module), of.origin))
            .collect();
        let mut nodes: Vec<StackId> = vec![PrefixTree::EMPTY];
        for (caller, function) in other.tree.nodes() {
            nodes.push(self.tree.push(nodes[caller.number()], functions[function as usize]));
        }
        self.nodes.resize(self.tree.len() + 1, Sums::default());
        nodes.into_iter().map(|id| index(id.number())).collect()
    }

    /// Joins neighbours until there are at most so many sub-windows.
    pub(super) fn fold(&mut self, most: usize) {
        self.windows.sort_by_key(|window| (window.run, window.start));
        while self.windows.len() > most.max(1) {
            let before = self.windows.len();
            let mut folded: Vec<SubWindow> = Vec::with_capacity(before / 2 + 1);
            let mut waiting: Option<SubWindow> = None;
            for window in std::mem::take(&mut self.windows) {
                match waiting.take() {
                    Some(mut last) if last.run == window.run => {
                        last.join(window);
                        folded.push(last);
                    }
                    last => {
                        folded.extend(last);
                        waiting = Some(window);
                    }
                }
            }
            folded.extend(waiting);
            self.windows = folded;
            if self.windows.len() == before {
                // As many recordings as sub-windows: they are one from here on.
                self.windows.iter_mut().for_each(|window| window.run = 0);
            }
        }
        self.windows.sort_by_key(|window| (window.start, window.run));
    }

    /// The functions of each location, innermost first.
    fn frames(&mut self, profile: &Profile) -> Vec<Vec<u32>> {
        let functions = &mut self.functions;
        let ids = (0..profile.locations.len()).map(|id| LocationId(index(id)));
        ids.map(|id| {
            let frames = profile.frames_at(id);
            frames.map(|frame| functions.id(&frame.name, frame.module, frame.origin)).collect()
        })
        .collect()
    }

    /// Where a profile is cut: nowhere, if a sample tells no time. One of which filters left nothing is cut as it would have been with
    /// its samples: the name of the label is there still.
    fn cut(&mut self, profile: &Profile) -> Cut {
        let whole = Cut { key: None, start: profile.time_nanos, length: profile.duration_nanos, parts: 1 };
        let Some(key) = profile.strings.find(TIME_LABEL) else { return whole };
        let timed = profile.samples.iter().all(|sample| time(sample, key).is_some());
        if !timed || whole.length <= 0 {
            return whole;
        }
        self.about.timed += 1;
        let most = usize::try_from(whole.length / SHORTEST).unwrap_or(usize::MAX);
        Cut { key: Some(key), parts: self.options.parts.min(most).max(1), ..whole }
    }
}

impl Cut {
    /// The part that a sample is in. Times are a little inexact: what lies before the start is of the first, what lies behind the end of
    /// the last.
    fn part(&self, sample: &Sample) -> usize {
        let Some(at) = self.key.and_then(|key| time(sample, key)) else { return 0 };
        let since = (i128::from(at) - i128::from(self.start)).max(0);
        let part = since * self.parts as i128 / i128::from(self.length.max(1));
        usize::try_from(part).unwrap_or(usize::MAX).min(self.parts - 1)
    }
}

/// The sub-windows of a profile, without their counts.
fn sub_windows(profile: &Profile, column: usize, cut: &Cut, run: u32) -> Vec<SubWindow> {
    let kept = 1.0 - Quality::of(profile).map_or(0.0, |quality| quality.of_column(profile, column).lost_share());
    let seconds = float(cut.length.max(0).into()) / 1e9 / float(cut.parts as i128);
    let cpus = f64::from(profile.cpus().max(1));
    let step = cut.length / i64::try_from(cut.parts).unwrap_or(1).max(1);
    (0..)
        .take(cut.parts)
        .map(|part: i64| SubWindow {
            start: cut.start.saturating_add(step.saturating_mul(part)),
            seconds,
            cpu_seconds: seconds * cpus * kept,
            run,
            ..SubWindow::default()
        })
        .collect()
}

fn sums(sample: &Sample, column: usize, count: Option<usize>) -> Sums {
    let at = |column: usize| float(sample.values.get(column).copied().unwrap_or(0).into());
    let value = at(column);
    let count = match count.map(at) {
        Some(count) if count > 0.0 => count,
        // A column of values alone: as if each row were one sample.
        _ if value != 0.0 => 1.0,
        _ => 0.0,
    };
    Sums { count, value, square: if count > 0.0 { value * value / count } else { 0.0 } }
}

fn time(sample: &Sample, key: crate::profile::StringId) -> Option<i64> {
    let label = sample.labels.iter().find(|label| label.key == key)?;
    if let LabelValue::Number(time, _) = label.value { Some(time) } else { None }
}

impl About {
    fn add(&mut self, profile: &Profile, column: usize) -> Result<(), CompareError> {
        let kind = profile.sample_types.get(column).copied().unwrap_or_default();
        let value = (profile.text(kind.name).to_owned(), profile.text(kind.unit).to_owned());
        self.same_value(&value)?;
        self.value = Some(value);
        self.events.extend(profile.events().map(|(name, frequency)| (name.to_owned(), frequency)));
        self.cpus.extend(Some(profile.cpus()).filter(|&cpus| cpus > 0));
        let program = profile.mappings.first().map(|mapping| comparable_module(profile.text(mapping.file)).to_owned());
        self.programs.extend(program.filter(|name| !name.is_empty() && !name.starts_with('[')));
        self.profiles += 1;
        self.without_duration += usize::from(profile.duration_nanos <= 0);
        if let Some(quality) = Quality::of(profile) {
            let counted = quality.of_column(profile, column);
            self.lost = self.lost.saturating_add(counted.lost);
            self.taken = self.taken.saturating_add(counted.samples);
            let (complete, all) = quality.stacks();
            self.complete.0 += float(complete.into());
            self.complete.1 += float(all.into());
        }
        Ok(())
    }

    fn absorb(&mut self, other: &About) -> Result<(), CompareError> {
        other.value.as_ref().map_or(Ok(()), |value| self.same_value(value))?;
        self.value = self.value.take().or_else(|| other.value.clone());
        self.events.extend(other.events.iter().cloned());
        self.cpus.extend(&other.cpus);
        self.programs.extend(other.programs.iter().cloned());
        self.profiles += other.profiles;
        self.without_duration += other.without_duration;
        self.timed += other.timed;
        self.lost = self.lost.saturating_add(other.lost);
        self.taken = self.taken.saturating_add(other.taken);
        self.complete = (self.complete.0 + other.complete.0, self.complete.1 + other.complete.1);
        Ok(())
    }

    fn same_value(&self, value: &(String, String)) -> Result<(), CompareError> {
        match &self.value {
            Some(known) if known != value => Err(CompareError::values(known, value)),
            _ => Ok(()),
        }
    }
}

pub(super) fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "sums of samples, of which statistics know some digits")]
pub(super) fn float(number: i128) -> f64 {
    number as f64
}
