//! The stacks behind a row of perf's table, drawn as a tree.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::str::FromStr;

use rustc_hash::FxHashMap;

use super::percent;

/// Which stacks are drawn behind a row, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Graph {
    /// Which end comes first; `None` draws none.
    pub order: Option<Order>,
    /// Branches with a smaller share (in percent) are left out.
    pub least: Option<f64>,
}

/// Which end of the stacks comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The root.
    Caller,
    /// The code itself.
    Callee,
}

impl FromStr for Graph {
    type Err = String;

    /// perf's list: `graph,0.5,caller,function,percent`, of which any may be left out.
    fn from_str(text: &str) -> Result<Graph, String> {
        const AS_IT_IS: [&str; 3] = ["graph", "function", "percent"];
        let mut graph = Graph { order: Some(Order::Caller), least: None };
        for word in text.split(',') {
            match (word, word.parse::<f64>()) {
                ("caller", _) => graph.order = Some(Order::Caller),
                ("callee", _) => graph.order = Some(Order::Callee),
                ("none" | "no", _) => graph.order = None,
                (word, _) if AS_IT_IS.contains(&word) => {}
                ("flat" | "fractal" | "folded", _) => {
                    return Err(format!("stacks are drawn as graph alone, and not as {word}"));
                }
                ("address" | "branch" | "period" | "count", _) => {
                    return Err(format!("branches are functions with their shares: there is no {word}"));
                }
                (_, Ok(_)) if graph.least.is_some() => {
                    return Err(format!("the number of branches has no limit: {word} is a second number"));
                }
                (_, Ok(share)) if (0.0..=100.0).contains(&share) => graph.least = Some(share),
                _ => return Err(format!("{word:?} is no order of stacks (caller, callee or none) and no share")),
            }
        }
        Ok(graph)
    }
}

/// Stacks with a common beginning in one branch.
#[derive(Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    index: FxHashMap<(usize, String), usize>,
    roots: Vec<usize>,
}

struct Node {
    name: String,
    value: i128,
    below: Vec<usize>,
}

/// In place of a node, above the roots.
const ABOVE: usize = usize::MAX;

impl Tree {
    pub(super) fn add(&mut self, names: &[String], value: i128) {
        let mut above = ABOVE;
        for name in names {
            let next = self.nodes.len();
            let at = *self.index.entry((above, name.clone())).or_insert(next);
            if at == next {
                self.nodes.push(Node { name: name.clone(), value: 0, below: Vec::new() });
                if above == ABOVE { self.roots.push(at) } else { self.nodes[above].below.push(at) }
            }
            self.nodes[at].value += value;
            above = at;
        }
    }

    pub(super) fn draw(&self, scale: &Scale, text: &mut String) {
        const MARGIN: &str = "            ";
        if !self.roots.iter().any(|&at| scale.shows(self.nodes[at].value)) {
            return;
        }
        let _ = writeln!(text, "{MARGIN}|");
        match &self.roots[..] {
            [only] => {
                let _ = writeln!(text, "{MARGIN}---{}", self.nodes[*only].name);
                self.draw_below(*only, scale, &format!("{MARGIN}   "), text);
            }
            several => self.draw_branches(several, scale, MARGIN, text),
        }
        text.push('\n');
    }

    /// A chain goes straight down; where it forks, each branch has its share.
    fn draw_below(&self, mut at: usize, scale: &Scale, margin: &str, text: &mut String) {
        while let [only] = self.nodes[at].below[..]
            && self.nodes[only].value == self.nodes[at].value
        {
            let _ = writeln!(text, "{margin}{}", self.nodes[only].name);
            at = only;
        }
        if !self.nodes[at].below.is_empty() {
            let mut branches = String::new();
            self.draw_branches(&self.nodes[at].below, scale, margin, &mut branches);
            if !branches.is_empty() {
                let _ = writeln!(text, "{margin}|");
                text.push_str(&branches);
            }
        }
    }

    fn draw_branches(&self, branches: &[usize], scale: &Scale, margin: &str, text: &mut String) {
        let mut branches: Vec<usize> = branches.to_vec();
        branches.retain(|&at| scale.shows(self.nodes[at].value));
        branches.sort_by_key(|&at| Reverse(self.nodes[at].value));
        let last = branches.len().saturating_sub(1);
        for (number, &at) in branches.iter().enumerate() {
            let (lead, below) = if number == last { (" ", " ") } else { ("|", "|") };
            let share = format!("--{:.2}%--", percent(self.nodes[at].value, scale.total));
            let _ = writeln!(text, "{margin}{lead}{share}{}", self.nodes[at].name);
            self.draw_below(at, scale, &format!("{margin}{below}{}", " ".repeat(share.len())), text);
            if number != last {
                let _ = writeln!(text, "{margin}|");
            }
        }
    }
}

/// What shares of branches are of, and the least one that is drawn, in percent.
pub(super) struct Scale {
    pub(super) total: i128,
    pub(super) least: f64,
}

impl Scale {
    fn shows(&self, value: i128) -> bool {
        percent(value, self.total) >= self.least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_said_in_perfs_words_or_refused() {
        let caller = Graph { order: Some(Order::Caller), least: None };
        assert_eq!("graph".parse(), Ok(caller));
        assert_eq!(
            "graph,50,callee,function,percent".parse(),
            Ok(Graph { order: Some(Order::Callee), least: Some(50.0) })
        );
        assert_eq!("none".parse(), Ok(Graph { order: None, least: None }));
        for wrong in ["folded", "flat,caller", "fractal", "address", "0.5,5", "101", "up", ""] {
            assert!(wrong.parse::<Graph>().is_err(), "{wrong}");
        }
    }
}
