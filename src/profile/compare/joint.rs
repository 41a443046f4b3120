//! Both sides in one table of functions and one tree of calls, and the judgement of each function.

use rustc_hash::{FxHashMap, FxHashSet};

use super::calls::{add_to_callers, outermost, roots};
use super::evidence::{About, SubWindow, index};
use super::noise::{Exposure, Noise, Series};
use super::statistics::false_discovery_rates;
use super::{
    Change, CompareError, CompareOptions, Comparison, Estimate, Evidence, Function, MAX_WINDOWS, ModuleChange, Node,
    Normalize, SIDES, SideSummary, Sums, TESTED_FROM, Verdict,
};

/// Values of which a single sample may hold more than all others: times that threads waited, sizes of allocations.
const HEAVY: [&str; 5] = ["off_cpu", "lock_wait", "wall", "alloc_space", "inuse_space"];
/// Above this square of their relative deviation, single samples weigh too differently for counts.
const UNEVEN: f64 = 1.0;
/// The row of a function that has too few samples for a series of its own.
const NO_SERIES: u32 = u32::MAX;

/// Whether values of this name are of a moment, and not of a time.
pub(super) fn is_state(value: &str) -> bool {
    value.starts_with("inuse_")
}

/// Both sides in one set of tables.
#[derive(Clone, Debug)]
pub(super) struct Joint {
    pub(super) functions: Vec<Function>,
    /// Parent (0 for none; node `n` is `nodes[n - 1]`) and function of each node.
    pub(super) nodes: Vec<(u32, u32)>,
    /// What was counted in each node itself.
    pub(super) own: Vec<[Sums; 2]>,
    /// Whether each node's function is on none of its callers.
    pub(super) outermost: Vec<bool>,
    pub(super) windows: [Vec<SubWindow>; 2],
    pub(super) noise: Noise,
}

impl Joint {
    /// Both sides' stacks as one tree.
    fn new(mut base: Evidence, mut new: Evidence) -> (Joint, [About; 2]) {
        base.fold(MAX_WINDOWS);
        new.fold(MAX_WINDOWS);
        let alias = alias(&base, &new);
        let nodes = base.translate(&new, &alias);
        let mut own: Vec<[Sums; 2]> = base.nodes.iter().map(|&sums| [sums, Sums::default()]).collect();
        for (from, &sums) in new.nodes.iter().enumerate() {
            own[nodes[from] as usize][1].add(sums);
        }
        for window in &mut new.windows {
            window.own.iter_mut().for_each(|(node, _)| *node = nodes[*node as usize]);
        }
        let nodes: Vec<(u32, u32)> =
            base.tree.nodes().map(|(caller, function)| (index(caller.number()), function)).collect();
        let joint = Joint {
            outermost: outermost(&nodes, base.functions.list.len()),
            nodes,
            own: own.split_off(1.min(own.len())),
            functions: base.functions.list,
            windows: [base.windows, new.windows],
            noise: Noise::default(),
        };
        (joint, [base.about, new.about])
    }

    /// Sums of each function: in itself, and with all that it called.
    fn sums(&self) -> Vec<[[Sums; 2]; 2]> {
        let mut sums = vec![[[Sums::default(); 2]; 2]; self.functions.len()];
        let add = |to: &mut [Sums; 2], more: [Sums; 2]| (0..2).for_each(|side| to[side].add(more[side]));
        let mut below = self.own.clone();
        add_to_callers(&self.nodes, &mut below, add);
        for (at, &(_, function)) in self.nodes.iter().enumerate() {
            let of = &mut sums[function as usize];
            add(&mut of[0], self.own[at]);
            if self.outermost[at] {
                add(&mut of[1], below[at]);
            }
        }
        sums
    }

    /// For groups of functions, what was counted in them themselves in each sub-window: `group` of a function is its row.
    pub(super) fn series_of_own(&self, group: &[u32], rows: usize) -> [Vec<Vec<f64>>; 2] {
        [0, 1].map(|side: usize| {
            let windows = &self.windows[side];
            let mut series = vec![vec![0.0; windows.len()]; rows];
            for (at, window) in windows.iter().enumerate() {
                for &(node, value) in &window.own {
                    let row = group[self.nodes[node as usize - 1].1 as usize];
                    if row != NO_SERIES {
                        series[row as usize][at] += value;
                    }
                }
            }
            series
        })
    }

    /// For functions, each with a row of its own or none, what was counted in them and all that they called in each sub-window. Looks at
    /// each node of a sub-window once, and at none that it does not have.
    pub(super) fn series_of_totals(&self, row_of: &[u32], rows: usize) -> [Vec<Vec<f64>>; 2] {
        let mut below = vec![0.0; self.nodes.len()];
        let mut is_met = vec![false; self.nodes.len()];
        let mut met: Vec<u32> = Vec::new();
        [0, 1].map(|side: usize| {
            let windows = &self.windows[side];
            let mut series = vec![vec![0.0; windows.len()]; rows];
            for (at, window) in windows.iter().enumerate() {
                for &(node, value) in &window.own {
                    below[node as usize - 1] += value;
                    let mut node = node;
                    while node != 0 && !std::mem::replace(&mut is_met[node as usize - 1], true) {
                        met.push(node);
                        node = self.nodes[node as usize - 1].0;
                    }
                }
                // What is called stands behind its caller.
                met.sort_unstable_by(|a, b| b.cmp(a));
                for node in met.drain(..).map(|node| node as usize - 1) {
                    is_met[node] = false;
                    let value = std::mem::take(&mut below[node]);
                    let (caller, function) = self.nodes[node];
                    if let Some(caller) = (caller as usize).checked_sub(1) {
                        below[caller] += value;
                    }
                    let row = row_of[function as usize];
                    if row != NO_SERIES && self.outermost[node] {
                        series[row as usize][at] += value;
                    }
                }
            }
            series
        })
    }

    fn sum(&self, side: usize) -> Sums {
        self.own.iter().fold(Sums::default(), |mut sum, own| {
            sum.add(own[side]);
            sum
        })
    }
}

/// Where each side is of one program whose file has another name, the two names are one: `app-v1` and `app-v2`.
fn alias(base: &Evidence, new: &Evidence) -> FxHashMap<String, String> {
    let programs = (&base.about.programs, &new.about.programs);
    let (Some(old), Some(renamed), 1, 1) = (programs.0.first(), programs.1.first(), programs.0.len(), programs.1.len())
    else {
        return FxHashMap::default();
    };
    let has = |side: &Evidence, name: &str| side.functions.list.iter().any(|of| of.module == name);
    let apart = old != renamed && !has(base, renamed) && !has(new, old);
    apart.then(|| (renamed.clone(), old.clone())).into_iter().collect()
}

impl Comparison {
    /// Compares two sides.
    ///
    /// # Errors
    /// [`CompareError`] if they count different things, a side has no profile, or does not tell what it is to be normalized by. A side
    /// that has profiles, none of whose samples were asked for, has nothing: what the other one has is new, or gone.
    pub fn of(base: Evidence, new: Evidence, options: &CompareOptions) -> Result<Comparison, CompareError> {
        for (side, evidence) in SIDES.iter().zip([&base, &new]) {
            if evidence.about.profiles == 0 {
                return Err(CompareError::Nothing(side));
            }
        }
        let values = [&base, &new].map(|side| side.about.value.clone().unwrap_or_default());
        if values[0] != values[1] {
            return Err(CompareError::values(&values[0], &values[1]));
        }
        let (mut joint, about) = Joint::new(base, new);
        let [(value, unit), _] = values;
        let mut remarks = Vec::new();
        let normalize = normalization(options.normalize, &about, &mut remarks)?;
        let exposure =
            [0, 1].map(|side: usize| Exposure::new(&joint.windows[side], normalize, side, &unit, is_state(&value)));
        let of_shares = normalize == Normalize::Share;
        if let Some(side) = (0..2).find(|&side| exposure[side].total <= 0.0) {
            let error = if of_shares { CompareError::Share } else { CompareError::Duration };
            return Err(error(SIDES[side]));
        }
        let by_means = HEAVY.contains(&&*value) || is_uneven([joint.sum(0), joint.sum(1)]);
        let sums = joint.sums();
        let judged = Judged::of(&mut joint, (exposure, by_means, of_shares), &sums, options);
        let sides = summaries(&joint, about);
        let mut comparison = Comparison {
            value,
            unit,
            normalize,
            options: CompareOptions { normalize: Some(normalize), ..options.clone() },
            sides,
            whole: judged.whole,
            functions: judged.functions,
            modules: judged.modules,
            tree: tree(&joint),
            measured: joint.noise.measured,
            remarks,
            joint,
        };
        comparison.mark_shifted();
        Ok(comparison)
    }
}

/// What values are divided by: what was asked for, or what the files allow.
fn normalization(
    asked: Option<Normalize>,
    about: &[About; 2],
    remarks: &mut Vec<String>,
) -> Result<Normalize, CompareError> {
    let timeless = (0..2).find(|&side| about[side].without_duration > 0);
    let normalize = match (asked, timeless) {
        (Some(Normalize::Cpus), Some(side)) => return Err(CompareError::Duration(SIDES[side])),
        (None, Some(side)) => {
            remarks.push(format!(
                "the {} side does not tell how long it was recorded: compared by share of all samples",
                SIDES[side]
            ));
            Normalize::Share
        }
        (asked, _) => asked.unwrap_or(Normalize::Cpus),
    };
    if normalize == Normalize::Cpus {
        let unknown = [0, 1].map(|side: usize| about[side].cpus.is_empty());
        if unknown[0] != unknown[1] {
            let side = SIDES[usize::from(unknown[1])];
            remarks.push(format!("the {side} side does not tell how many CPUs were watched: taken as one"));
        }
    }
    Ok(normalize)
}

/// Whether samples weigh so differently that their number tells little.
fn is_uneven(sums: [Sums; 2]) -> bool {
    sums.iter().any(|sums| sums.value > 0.0 && sums.square * sums.count / (sums.value * sums.value) - 1.0 > UNEVEN)
}

fn summaries(joint: &Joint, about: [About; 2]) -> [SideSummary; 2] {
    let unknown = unknown_values(joint);
    let mut summaries = [0, 1].map(|side: usize| {
        let windows = &joint.windows[side];
        let sums = joint.sum(side);
        let runs: FxHashSet<u32> = windows.iter().map(|window| window.run).collect();
        let exposure = joint.noise.exposure[side].total;
        SideSummary {
            windows: windows.len(),
            runs: runs.len(),
            seconds: windows.iter().map(|window| window.seconds).sum(),
            start: windows.iter().map(|window| window.start).min().unwrap_or(0),
            samples: sums.count,
            total: sums.value,
            all: windows.iter().map(|window| window.all.value).sum(),
            unknown_share: if sums.value > 0.0 { unknown[side] / sums.value } else { 0.0 },
            scale: if exposure > 0.0 { 1.0 / exposure } else { 0.0 },
            about: About::default(),
        }
    });
    for (summary, about) in summaries.iter_mut().zip(about) {
        summary.about = about;
    }
    summaries
}

/// The value whose leaf has no name, or whose stack has no root.
fn unknown_values(joint: &Joint) -> [f64; 2] {
    let mut unknown = [0.0; 2];
    let is_unknown: Vec<bool> = joint.functions.iter().map(Function::is_unknown).collect();
    let is_unknown = |node: usize| is_unknown[joint.nodes[node].1 as usize];
    for (node, (root, own)) in roots(&joint.nodes).into_iter().zip(&joint.own).enumerate() {
        if is_unknown(node) || is_unknown(root as usize) {
            (0..2).for_each(|side| unknown[side] += own[side].value);
        }
    }
    unknown
}

fn tree(joint: &Joint) -> Vec<Node> {
    let nodes = joint.nodes.iter().zip(&joint.own);
    nodes
        .map(|(&(parent, function), own)| Node {
            parent: parent.checked_sub(1),
            function,
            value: own.map(|sums| sums.value),
            count: own.map(|sums| sums.count),
        })
        .collect()
}

/// What all functions are.
struct Judged {
    whole: Estimate,
    functions: Vec<Change>,
    modules: Vec<ModuleChange>,
}

impl Judged {
    fn of(
        joint: &mut Joint,
        (exposure, by_means, of_shares): ([Exposure; 2], bool, bool),
        sums: &[[[Sums; 2]; 2]],
        options: &CompareOptions,
    ) -> Judged {
        let tested = |of: &[[Sums; 2]; 2]| of[1][0].count + of[1][1].count >= TESTED_FROM;
        let mut rows: Vec<u32> = vec![NO_SERIES; sums.len()];
        let mut number = 0;
        for (row, _) in rows.iter_mut().zip(sums).filter(|(_, of)| tested(of)) {
            *row = number;
            number += 1;
        }
        let owns = joint.series_of_own(&rows, number as usize);
        let totals = joint.series_of_totals(&rows, number as usize);
        let of_row: Vec<usize> = (0..sums.len()).filter(|&at| rows[at] != NO_SERIES).collect();
        let all = of_row.iter().enumerate().flat_map(|(row, &at)| {
            [(&owns, 0), (&totals, 1)]
                .map(|(series, kind)| Series { values: [&series[0][row], &series[1][row]], sums: sums[at][kind] })
        });
        // A function that calls nothing is one series, not two.
        let distinct =
            all.clone().enumerate().filter(|(at, of)| at % 2 == 1 || of.sums[0].value + of.sums[1].value > 0.0);
        let distinct = distinct.map(|(_, of)| of);
        joint.noise = Noise::of(exposure, by_means, of_shares, distinct);
        let empty = [vec![0.0; joint.windows[0].len()], vec![0.0; joint.windows[1].len()]];
        let functions = (0..sums.len()).map(|at| {
            let estimate = |series: &[Vec<Vec<f64>>; 2], kind: usize| {
                let values = match rows[at] {
                    NO_SERIES => [&*empty[0], &*empty[1]],
                    row => [&*series[0][row as usize], &*series[1][row as usize]],
                };
                Estimate::of(&Series { values, sums: sums[at][kind] }, &joint.noise, options.confidence)
            };
            Change {
                function: joint.functions[at].clone(),
                own: estimate(&owns, 0),
                total: estimate(&totals, 1),
                verdict: Verdict::Same,
                shifted_within: None,
            }
        });
        let mut functions: Vec<Change> = functions.collect();
        discover(&mut functions, &of_row, options.false_discovery);
        Judged { whole: joint.whole(options), modules: joint.modules(options), functions }
    }
}

/// Decides what counts as changed: of each function the stronger of its tests, times their number, among all functions that were tested.
fn discover(functions: &mut [Change], tested: &[usize], rate: f64) {
    let chance = |change: &Change| (change.tests() * change.own.chance.min(change.total.chance)).min(1.0);
    let chances: Vec<f64> = tested.iter().map(|&at| chance(&functions[at])).collect();
    let rates = false_discovery_rates(&chances);
    // The chance up to which tests count.
    let bound =
        chances.iter().zip(&rates).filter(|(_, of)| **of <= rate).map(|(chance, _)| *chance).fold(-1.0, f64::max);
    for (&at, &discovery) in tested.iter().zip(&rates) {
        let tests = functions[at].tests();
        for estimate in [&mut functions[at].own, &mut functions[at].total] {
            let chance = (tests * estimate.chance).min(1.0);
            estimate.significant = chance <= bound;
            estimate.false_discovery = if estimate.significant { discovery.min(rate) } else { discovery.max(chance) };
        }
    }
    for change in functions {
        change.verdict = verdict(change);
    }
}

fn verdict(change: &Change) -> Verdict {
    let strongest = if change.total.significant { &change.total } else { &change.own };
    match strongest {
        _ if change.total.is_new() => Verdict::New,
        _ if change.total.is_gone() => Verdict::Gone,
        of if of.significant && of.difference > 0.0 => Verdict::Up,
        of if of.significant => Verdict::Down,
        _ => Verdict::Same,
    }
}

impl Joint {
    /// Everything together, as one series.
    fn whole(&self, options: &CompareOptions) -> Estimate {
        let group = vec![0; self.functions.len()];
        let series = self.series_of_own(&group, 1);
        let series = Series { values: [&series[0][0], &series[1][0]], sums: [self.sum(0), self.sum(1)] };
        let mut whole = Estimate::of(&series, &self.noise, options.confidence);
        whole.false_discovery = whole.chance;
        whole.significant = whole.chance <= options.false_discovery;
        whole
    }

    /// Files of code, each by what was counted in its functions themselves.
    fn modules(&self, options: &CompareOptions) -> Vec<ModuleChange> {
        let mut names: FxHashMap<&str, u32> = FxHashMap::default();
        let mut group = Vec::with_capacity(self.functions.len());
        for function in &self.functions {
            let next = index(names.len());
            group.push(*names.entry(&function.module).or_insert(next));
        }
        let mut sums = vec![[Sums::default(); 2]; names.len()];
        for (&(_, function), own) in self.nodes.iter().zip(&self.own) {
            let sums = &mut sums[group[function as usize] as usize];
            (0..2).for_each(|side| sums[side].add(own[side]));
        }
        let series = self.series_of_own(&group, names.len());
        let mut modules: Vec<ModuleChange> = vec![];
        let mut by_row: Vec<(&str, u32)> = names.into_iter().collect();
        by_row.sort_unstable_by_key(|(_, row)| *row);
        for (name, row) in by_row {
            let at = row as usize;
            let series = Series { values: [&series[0][at], &series[1][at]], sums: sums[at] };
            let own = Estimate::of(&series, &self.noise, options.confidence);
            modules.push(ModuleChange { name: name.to_owned(), own });
        }
        let tested: Vec<usize> =
            (0..modules.len()).filter(|&at| modules[at].own.samples.iter().sum::<f64>() >= TESTED_FROM).collect();
        let chances: Vec<f64> = tested.iter().map(|&at| modules[at].own.chance).collect();
        for (&at, rate) in tested.iter().zip(false_discovery_rates(&chances)) {
            modules[at].own.false_discovery = rate;
            modules[at].own.significant = rate <= options.false_discovery;
        }
        modules
    }
}
