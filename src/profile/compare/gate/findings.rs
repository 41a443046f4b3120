//! From what rose to what is told of it: one finding for one cause.

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::calls::add_to_callers;
use super::super::noise::Series;
use super::super::statistics::false_discovery_rates;
use super::super::{Change, CommonRatio, Comparison, Estimate, Sums, TESTED_FROM};
use super::{Allowed, Finding, Policy, Status, Subject};

/// A function or a module is explained by findings below it if they make up so much of its rise.
const EXPLAINED: f64 = 0.5;
/// Callers that are told of a finding.
const MOST_CALLERS: usize = 3;
/// Functions further up that are told of a finding.
const MOST_RISEN_WITH: usize = 8;

/// A function that has more than is allowed.
struct Candidate {
    subject: Subject,
    estimate: Estimate,
    /// A rule allows it more than others: it is no finding, but explains what its callers have more.
    excused: bool,
}

impl Comparison {
    /// The functions that could fail: those that have enough samples for a test, and enough of the whole for a rise to matter. What they
    /// have on both sides together decides, which tells nothing of the difference.
    pub(super) fn tested(&self, policy: &Policy) -> Vec<usize> {
        let least = policy.rules.iter().filter_map(|rule| rule.min_share).fold(policy.min_share, f64::min);
        let whole: f64 = self.whole.rate.iter().sum();
        let can_matter = |change: &&Change| {
            let samples: f64 = change.total.samples.iter().sum();
            samples >= TESTED_FROM && change.total.rate.iter().sum::<f64>() >= least / 2.0 * whole
        };
        (0..self.functions.len()).filter(|&at| can_matter(&&self.functions[at])).collect()
    }

    /// Everything that has more than is allowed, each cause once.
    pub(super) fn findings(&self, policy: &Policy, tested: &[usize]) -> Vec<Finding> {
        let (own, total) = self.candidates(policy, tested);
        let mut explained = vec![false; self.tree.len()];
        let mut found: Vec<Candidate> = Vec::new();
        for candidate in own {
            if let Subject::Own(function) = candidate.subject {
                self.mark(function, true, &mut explained);
            }
            found.extend(Some(candidate).filter(|candidate| !candidate.excused));
        }
        let mut risen: Vec<usize> = Vec::new();
        for candidate in total {
            let Subject::Total(function) = candidate.subject else { continue };
            let below = self.below(function, false);
            if found.iter().any(|of| of.subject == Subject::Own(function)) || self.is_explained(&below, &explained) {
                risen.push(function);
                continue;
            }
            self.mark(function, false, &mut explained);
            found.extend(Some(candidate).filter(|candidate| !candidate.excused));
        }
        found.extend(self.module_candidates(policy, &explained));
        self.fold_what_all_share(policy, &mut found, &explained);
        let mut findings: Vec<Finding> = self.told(found, policy, &risen);
        findings.sort_by(|a, b| {
            let fails = |of: &Finding| of.status == Status::Fails;
            fails(b).cmp(&fails(a)).then(b.share.total_cmp(&a.share))
        });
        findings
    }

    /// What is allowed for a subject.
    fn allowed<'a>(&self, subject: &Subject, policy: &'a Policy) -> Allowed<'a> {
        match *subject {
            Subject::Whole => policy.allowed("", ""),
            Subject::Module(at) => policy.allowed("", &self.modules[at].name),
            Subject::Own(at) | Subject::Total(at) => {
                let function = &self.functions[at].function;
                policy.allowed(&function.name, &function.module)
            }
        }
    }

    /// Whether it is only a rule that allows what a function has more.
    fn is_excused(&self, estimate: &Estimate, allowed: &Allowed<'_>, policy: &Policy) -> bool {
        let plain = Allowed { max_regression: policy.max_regression, min_share: policy.min_share, rule: None };
        allowed.rule.is_some() && !self.exceeds(estimate, allowed) && self.exceeds(estimate, &plain)
    }

    /// Whether an estimate is above what is allowed, even at its lower bound, and of a share that matters.
    fn exceeds(&self, estimate: &Estimate, allowed: &Allowed<'_>) -> bool {
        estimate.ratio_low > 1.0 + allowed.max_regression
            && estimate.difference >= allowed.min_share * self.whole.rate[0].max(f64::MIN_POSITIVE)
    }

    /// Functions that rose, in themselves and with what they call; those with the least first.
    fn candidates(&self, policy: &Policy, tested: &[usize]) -> (Vec<Candidate>, Vec<Candidate>) {
        let chance = |at: &usize| {
            let change = &self.functions[*at];
            (change.tests() * change.own.chance_up.min(change.total.chance_up)).min(1.0)
        };
        let chances: Vec<f64> = tested.iter().map(chance).collect();
        let rates = false_discovery_rates(&chances);
        let rate = self.options.false_discovery;
        let counts = chances.iter().zip(&rates).filter(|(_, of)| **of <= rate);
        let bound = counts.map(|(chance, _)| *chance).fold(-1.0, f64::max);
        let (mut own, mut total) = (Vec::new(), Vec::new());
        for &at in tested {
            let change = &self.functions[at];
            let rises = |estimate: &Estimate, subject: Subject| {
                let beyond = change.tests() * estimate.chance_up <= bound;
                let allowed = self.allowed(&subject, policy);
                let excused = self.is_excused(estimate, &allowed, policy);
                let rises = beyond && (excused || self.exceeds(estimate, &allowed));
                rises.then_some(Candidate { subject, estimate: *estimate, excused })
            };
            own.extend(rises(&change.own, Subject::Own(at)));
            total.extend(rises(&change.total, Subject::Total(at)));
        }
        total.sort_by(|a, b| a.estimate.rate[1].total_cmp(&b.estimate.rate[1]));
        (own, total)
    }

    /// Modules that rose without a function of theirs that explains it.
    fn module_candidates(&self, policy: &Policy, explained: &[bool]) -> Vec<Candidate> {
        let whole: f64 = self.whole.rate.iter().sum();
        let can_matter = |at: &usize| {
            let own = &self.modules[*at].own;
            own.samples.iter().sum::<f64>() >= TESTED_FROM
                && own.rate.iter().sum::<f64>() >= policy.min_share / 2.0 * whole
        };
        let tested: Vec<usize> = (0..self.modules.len()).filter(can_matter).collect();
        let chances: Vec<f64> = tested.iter().map(|&at| self.modules[at].own.chance_up).collect();
        let rates = false_discovery_rates(&chances);
        let beyond = tested.into_iter().zip(rates).filter(|(_, rate)| *rate <= self.options.false_discovery);
        beyond
            .map(|(at, _)| Candidate { subject: Subject::Module(at), estimate: self.modules[at].own, excused: false })
            .filter(|candidate| self.exceeds(&candidate.estimate, &self.allowed(&candidate.subject, policy)))
            .filter(|candidate| {
                let Subject::Module(at) = candidate.subject else { return false };
                let of_module = |node: &super::super::Node| {
                    self.functions[node.function as usize].function.module == self.modules[at].name
                };
                let nodes: Vec<bool> = self.tree.iter().map(of_module).collect();
                !self.is_explained(&nodes, explained)
            })
            .collect()
    }

    /// Where everything rose alike, that is one finding: what rose no more than all others is a part of it.
    fn fold_what_all_share(&self, policy: &Policy, found: &mut Vec<Candidate>, explained: &[bool]) {
        let allowed = policy.allowed("", "");
        let rose = self.whole.chance_up <= self.options.false_discovery && self.exceeds(&self.whole, &allowed);
        if !rose {
            return;
        }
        let rises = |common: &CommonRatio| common.low() > 1.0 + allowed.max_regression / 2.0;
        let common = self.common_ratio().filter(rises).map(|common| common.ratio);
        if let Some(common) = common {
            found.retain(|candidate| candidate.estimate.ratio_low > common * (1.0 + allowed.max_regression));
        }
        if common.is_some() || !self.is_explained(&vec![true; self.tree.len()], explained) {
            found.push(Candidate { subject: Subject::Whole, estimate: self.whole, excused: false });
        }
    }

    fn rise_of(&self, node: usize) -> f64 {
        let of = &self.tree[node];
        of.value[1] * self.sides[1].scale - of.value[0] * self.sides[0].scale
    }

    /// Whether findings make up most of the rise of these nodes.
    fn is_explained(&self, nodes: &[bool], explained: &[bool]) -> bool {
        let (mut rise, mut by_findings) = (0.0, 0.0);
        for node in (0..self.tree.len()).filter(|&node| nodes[node]) {
            let of = self.rise_of(node);
            rise += of;
            by_findings += if explained[node] { of } else { 0.0 };
        }
        by_findings >= EXPLAINED * rise
    }

    fn mark(&self, function: usize, own: bool, explained: &mut [bool]) {
        self.below(function, own).iter().zip(explained).for_each(|(below, mark)| *mark |= *below);
    }

    /// Candidates as findings, with what became of them and who called them.
    fn told(&self, found: Vec<Candidate>, policy: &Policy, risen: &[usize]) -> Vec<Finding> {
        let series = self.series_of(&found);
        let told = found.into_iter().zip(series).map(|(Candidate { subject, estimate, .. }, values)| {
            let allowed = self.allowed(&subject, policy);
            let sums = estimate.samples.map(|count| Sums { count, ..Sums::default() });
            let sums = [0, 1].map(|side: usize| Sums { value: values[side].iter().sum(), ..sums[side] });
            let series = Series { values: [&values[0], &values[1]], sums };
            let (callers, risen_with) = match subject {
                Subject::Own(at) | Subject::Total(at) => self.around(at, &subject, risen),
                Subject::Whole | Subject::Module(_) => (Vec::new(), Vec::new()),
            };
            Finding {
                status: self.status(&subject, &series, &allowed, policy),
                share: if self.whole.rate[0] > 0.0 { estimate.difference / self.whole.rate[0] } else { f64::INFINITY },
                allowed: allowed.max_regression,
                subject,
                estimate,
                callers,
                risen_with,
            }
        });
        told.collect()
    }

    fn status(&self, subject: &Subject, series: &Series<'_>, allowed: &Allowed<'_>, policy: &Policy) -> Status {
        if let Some(rule) = allowed.rule.filter(|rule| rule.ignore) {
            return Status::Ignored(rule.reason.clone());
        }
        let shifted = match *subject {
            Subject::Own(at) => self.moved_within(at, true),
            Subject::Total(at) => self.moved_within(at, false),
            Subject::Whole | Subject::Module(_) => None,
        };
        match shifted {
            Some(moved) if !policy.fail_on_shifted => Status::Shifted(moved.within as usize),
            _ if self.went_away(series, allowed.max_regression) => Status::WentAway,
            _ => Status::Fails,
        }
    }

    /// The values of each candidate in each sub-window.
    fn series_of(&self, found: &[Candidate]) -> Vec<[Vec<f64>; 2]> {
        let one = |candidate: &Candidate| {
            let wanted = |function: usize| match candidate.subject {
                Subject::Whole => true,
                Subject::Module(at) => self.joint.functions[function].module == self.modules[at].name,
                Subject::Own(at) | Subject::Total(at) => at == function,
            };
            let group: Vec<u32> = (0..self.functions.len()).map(|at| if wanted(at) { 0 } else { u32::MAX }).collect();
            let [mut base, mut new] = match candidate.subject {
                Subject::Total(_) => self.joint.series_of_totals(&group, 1),
                Subject::Whole | Subject::Module(_) | Subject::Own(_) => self.joint.series_of_own(&group, 1),
            };
            [base.swap_remove(0), new.swap_remove(0)]
        };
        found.iter().map(one).collect()
    }

    /// Who called a function more, and which functions above it rose with it.
    fn around(&self, function: usize, subject: &Subject, risen: &[usize]) -> (Vec<(usize, f64)>, Vec<usize>) {
        let below = if matches!(subject, Subject::Own(_)) {
            self.tree.iter().map(|node| node.function as usize == function).collect()
        } else {
            self.below(function, false)
        };
        let nodes = &self.joint.nodes;
        let part = |node: usize| if below[node] { self.rise_of(node) } else { 0.0 };
        let mut rises: Vec<f64> = (0..nodes.len()).map(part).collect();
        add_to_callers(nodes, &mut rises, |sum, more| *sum += more);
        let rise: f64 = (0..nodes.len()).map(part).sum();
        let mut callers: FxHashMap<usize, f64> = FxHashMap::default();
        for (node, &(caller, of)) in nodes.iter().enumerate() {
            // Who made the function's outermost call.
            if of as usize == function && self.joint.outermost[node] && caller > 0 {
                *callers.entry(nodes[caller as usize - 1].1 as usize).or_default() += rises[node];
            }
        }
        let above = self.above_rises(function, &below);
        let mut callers: Vec<(usize, f64)> =
            callers.into_iter().map(|(caller, of)| (caller, of / rise)).filter(|(_, part)| *part >= 0.05).collect();
        callers.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        callers.truncate(MOST_CALLERS);
        let risen_with = risen.iter().copied().filter(|at| *at != function && above.contains(at));
        (callers, risen_with.take(MOST_RISEN_WITH).collect())
    }

    /// The functions that called a function where some of these nodes, which lie in it or below it, rose.
    fn above_rises(&self, function: usize, below: &[bool]) -> FxHashSet<usize> {
        // Whether any node here or below rose, and whether the function was called on the way to it.
        let mut rose = vec![[false; 2]; self.tree.len()];
        let mut above = FxHashSet::default();
        for node in (0..self.tree.len()).rev() {
            let of = self.tree[node].function as usize;
            rose[node][0] |= below[node] && self.rise_of(node) > 0.0;
            if of == function {
                rose[node][1] |= rose[node][0];
            } else if rose[node][1] {
                above.insert(of);
            }
            let of_node = rose[node];
            if let Some(caller) = self.tree[node].parent {
                (0..2).for_each(|at| rose[caller as usize][at] |= of_node[at]);
            }
        }
        above
    }
}
