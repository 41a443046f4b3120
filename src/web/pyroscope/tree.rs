//! Stacks of functions' names as a tree, and the forms in which Pyroscope tells it: the levels of a flame graph of one profile or two,
//! and bytes.

use rustc_hash::FxHashMap;

use super::messages::{FlameGraph, FlameGraphDiff, Level};
use crate::profile::{Profile, Sample};

/// What stands for all that is too small to be shown.
const OTHER: &str = "other";
const ROOT_NAME: &str = "total";

/// A tree with the values of one profile, or of two beside each other.
#[derive(Debug)]
pub(super) struct Tree {
    names: Vec<String>,
    ids: FxHashMap<String, u32>,
    /// The first is the root.
    nodes: Vec<Node>,
    known: FxHashMap<(u32, u32), u32>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    name: u32,
    own: [i64; 2],
    total: [i64; 2],
    children: Vec<u32>,
}

impl Node {
    fn largest(&self) -> i64 {
        self.total[0].max(self.total[1])
    }
}

impl Tree {
    pub(super) fn new() -> Tree {
        let mut tree = Tree {
            names: Vec::new(),
            ids: FxHashMap::default(),
            nodes: vec![Node::default()],
            known: FxHashMap::default(),
        };
        tree.name(ROOT_NAME);
        tree
    }

    /// Adds the samples of a profile to one side (0 or 1); only those whose stack begins, at its root, with these names.
    pub(super) fn add(&mut self, profile: &Profile, column: usize, side: usize, call_site: &[String]) {
        let mut path: Vec<u32> = Vec::new();
        for sample in &profile.samples {
            let value = sample.values.get(column).copied().unwrap_or(0);
            if value <= 0 || !begins_with(profile, sample, call_site) {
                continue;
            }
            path.clear();
            path.extend(profile.frames(sample).rev().map(|frame| self.name(&frame.name)));
            self.nodes[0].total[side] = self.nodes[0].total[side].saturating_add(value);
            let mut at = 0;
            for &name in &path {
                at = self.child(at, name);
                let total = &mut self.nodes[at as usize].total[side];
                *total = total.saturating_add(value);
            }
            let own = &mut self.nodes[at as usize].own[side];
            *own = own.saturating_add(value);
        }
    }

    /// Leaves about so many nodes, the largest; what is cut off becomes one child, `other`, of the node that it hung from.
    pub(super) fn truncate(&mut self, most: usize) {
        if most == 0 || self.nodes.len() <= most {
            return;
        }
        let mut totals: Vec<i64> = self.nodes[1..].iter().map(Node::largest).collect();
        totals.sort_unstable_by(|a, b| b.cmp(a));
        let least = totals.get(most - 1).copied().unwrap_or(0);
        let other = self.name(OTHER);
        let mut waiting = vec![0_u32];
        while let Some(at) = waiting.pop() {
            let children = std::mem::take(&mut self.nodes[at as usize].children);
            let (kept, cut): (Vec<u32>, Vec<u32>) =
                children.into_iter().partition(|&child| self.nodes[child as usize].largest() >= least);
            let rest = cut.iter().fold([0_i64; 2], |rest, &child| {
                let total = self.nodes[child as usize].total;
                [rest[0].saturating_add(total[0]), rest[1].saturating_add(total[1])]
            });
            waiting.extend(&kept);
            self.nodes[at as usize].children = kept;
            if rest != [0, 0] {
                let node = Node { name: other, own: rest, total: rest, children: Vec::new() };
                self.nodes.push(node);
                let id = number(self.nodes.len() - 1);
                self.nodes[at as usize].children.push(id);
            }
        }
    }

    pub(super) fn flame_graph(&self) -> FlameGraph {
        let mut levels = self.levels(|node, x| vec![x[0], node.total[0], node.own[0], i64::from(node.name)], &[0]);
        let names = self.compact(&mut levels, 4);
        let max_self = self.reached().map(|node| node.own[0]).max().unwrap_or(0);
        FlameGraph { names, levels, total: self.nodes[0].total[0], max_self }
    }

    pub(super) fn flame_graph_diff(&self) -> FlameGraphDiff {
        let values = |node: &Node, x: [i64; 2]| {
            vec![x[0], node.total[0], node.own[0], x[1], node.total[1], node.own[1], i64::from(node.name)]
        };
        let [left_ticks, right_ticks] = self.nodes[0].total;
        let max_self = self.reached().map(|node| node.own[0].max(node.own[1])).max().unwrap_or(0);
        let total = left_ticks.saturating_add(right_ticks);
        let mut levels = self.levels(values, &[0, 3]);
        let names = self.compact(&mut levels, 7);
        FlameGraphDiff { names, levels, total, max_self, left_ticks, right_ticks }
    }

    /// The bytes of Pyroscope's own tree: of each node, a caller before what it calls, the length of its name, the name, its own value
    /// and how many it calls. Lengths and numbers are as protobuf's.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut waiting = vec![0_u32];
        while let Some(at) = waiting.pop() {
            let node = &self.nodes[at as usize];
            // Its root has no name and no value.
            let (name, own) = if at == 0 { ("", 0) } else { (&*self.names[node.name as usize], node.own[0]) };
            prost::encoding::encode_varint(name.len() as u64, &mut bytes);
            bytes.extend_from_slice(name.as_bytes());
            prost::encoding::encode_varint(own.unsigned_abs(), &mut bytes);
            prost::encoding::encode_varint(node.children.len() as u64, &mut bytes);
            waiting.extend(&node.children);
        }
        bytes
    }

    /// How many frames of a sample's stack, from its root, are still there after [`Tree::truncate`].
    pub(super) fn kept_depth(&self, profile: &Profile, sample: &Sample) -> usize {
        let mut at = 0_u32;
        let mut depth = 0;
        for frame in profile.frames(sample).rev() {
            let next = self.ids.get(&*frame.name).and_then(|&name| self.known.get(&(at, name)));
            match next.filter(|next| self.nodes[at as usize].children.contains(next)) {
                Some(&next) => at = next,
                None => break,
            }
            depth += 1;
        }
        depth
    }

    /// The nodes that hang from the root, each before what it calls.
    fn reached(&self) -> impl Iterator<Item = &Node> {
        let mut waiting = vec![0_u32];
        std::iter::from_fn(move || {
            let node = &self.nodes[waiting.pop()? as usize];
            waiting.extend(&node.children);
            Some(node)
        })
    }

    /// The values of each level from left to right. Of each node the places, in columns `starts`, are told from the end of the node
    /// before it.
    fn levels(&self, values: impl Fn(&Node, [i64; 2]) -> Vec<i64>, starts: &[usize]) -> Vec<Level> {
        let mut levels = Vec::new();
        let mut row: Vec<(u32, [i64; 2])> = vec![(0, [0, 0])];
        while !row.is_empty() {
            let (mut level, mut below, mut ends) = (Vec::new(), Vec::new(), vec![0_i64; starts.len()]);
            for &(at, place) in &row {
                let node = &self.nodes[at as usize];
                let mut chunk = values(node, place);
                for (end, &start) in ends.iter_mut().zip(starts) {
                    let absolute = chunk[start];
                    chunk[start] = absolute.saturating_sub(*end);
                    *end = absolute.saturating_add(chunk[start + 1]);
                }
                level.extend(chunk);
                let mut x = [place[0].saturating_add(node.own[0]), place[1].saturating_add(node.own[1])];
                let mut children = node.children.clone();
                children.sort_by(|&a, &b| self.name_of(a).cmp(self.name_of(b)));
                for child in children {
                    below.push((child, x));
                    let total = self.nodes[child as usize].total;
                    x = [x[0].saturating_add(total[0]), x[1].saturating_add(total[1])];
                }
            }
            levels.push(Level { values: level });
            row = below;
        }
        levels
    }

    /// The names that levels refer to, in the last value of each so many; the levels then refer to these.
    fn compact(&self, levels: &mut [Level], width: usize) -> Vec<String> {
        let (mut names, mut ids) = (Vec::new(), FxHashMap::default());
        for chunk in levels.iter_mut().flat_map(|level| level.values.chunks_exact_mut(width)) {
            let Some(last) = chunk.last_mut() else { continue };
            *last = *ids.entry(*last).or_insert_with_key(|&old| {
                names.push(usize::try_from(old).ok().and_then(|old| self.names.get(old)).cloned().unwrap_or_default());
                i64::try_from(names.len() - 1).unwrap_or(i64::MAX)
            });
        }
        names
    }

    fn name_of(&self, node: u32) -> &str {
        &self.names[self.nodes[node as usize].name as usize]
    }

    fn name(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = number(self.names.len());
        self.names.push(text.to_owned());
        self.ids.insert(text.to_owned(), id);
        id
    }

    fn child(&mut self, parent: u32, name: u32) -> u32 {
        let nodes = &mut self.nodes;
        *self.known.entry((parent, name)).or_insert_with(|| {
            let id = number(nodes.len());
            nodes.push(Node { name, ..Node::default() });
            nodes[parent as usize].children.push(id);
            id
        })
    }
}

/// Whether a stack begins, at its root, with these names.
pub(super) fn begins_with(profile: &Profile, sample: &Sample, call_site: &[String]) -> bool {
    let mut frames = profile.frames(sample).rev();
    call_site.iter().all(|name| frames.next().is_some_and(|frame| frame.name == **name))
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Function, FunctionId, Location, LocationId, SourceLine};

    /// A profile of stacks, root first, and values.
    fn profile(stacks: &[(&[&str], i64)]) -> Profile {
        let mut profile = Profile::default();
        profile.sample_types = vec![profile.value_type("cpu", "nanoseconds")];
        for (frames, value) in stacks {
            let mut stack = Vec::new();
            for name in frames.iter().rev() {
                let name = profile.strings.intern(name);
                profile.functions.push(Function { name, ..Function::default() });
                let function = FunctionId(number(profile.functions.len() - 1));
                let lines = vec![SourceLine { function, line: 0, column: 0 }];
                profile.locations.push(Location { lines, ..Location::default() });
                stack.push(LocationId(number(profile.locations.len() - 1)));
            }
            profile.samples.push(Sample { stack, values: vec![*value], labels: Vec::new() });
        }
        profile
    }

    fn tree(stacks: &[(&[&str], i64)]) -> Tree {
        let mut tree = Tree::new();
        tree.add(&profile(stacks), 0, 0, &[]);
        tree
    }

    const STACKS: [(&[&str], i64); 4] =
        [(&["main", "b"], 3), (&["main", "a"], 2), (&["main"], 1), (&["idle", "wait", "deep"], 4)];

    #[test]
    fn levels_tell_places_from_the_end_of_the_node_before() {
        let graph = tree(&STACKS).flame_graph();
        assert_eq!((graph.total, graph.max_self), (10, 4));
        assert_eq!(graph.names, ["total", "idle", "main", "wait", "a", "b", "deep"]);
        let levels: Vec<&[i64]> = graph.levels.iter().map(|level| &*level.values).collect();
        let expected: [&[i64]; 4] = [
            &[0, 10, 0, 0],
            &[0, 4, 0, 1, 0, 6, 1, 2],
            // Below main, whose own part is 1, a begins at 4 + 1.
            &[0, 4, 0, 3, 1, 2, 2, 4, 0, 3, 3, 5],
            &[0, 4, 4, 6],
        ];
        assert_eq!(levels, expected);
    }

    #[test]
    fn what_is_cut_off_stays_in_the_sum() {
        let mut tree = tree(&STACKS);
        tree.truncate(4);
        let graph = tree.flame_graph();
        assert_eq!(graph.total, 10);
        let own: i64 = graph.levels.iter().flat_map(|level| level.values.chunks(4)).map(|chunk| chunk[2]).sum();
        assert_eq!(own, 10);
        assert!(graph.names.contains(&"other".to_owned()) && !graph.names.contains(&"a".to_owned()), "{graph:?}");
    }

    #[test]
    fn two_sides_share_the_levels() {
        let mut tree = tree(&[(&["main", "a"], 2)]);
        tree.add(&profile(&[(&["main", "b"], 5), (&["main", "a"], 1)]), 0, 1, &[]);
        let graph = tree.flame_graph_diff();
        assert_eq!((graph.left_ticks, graph.right_ticks, graph.total, graph.max_self), (2, 6, 8, 5));
        let below: &[i64] = &[0, 2, 2, 0, 1, 1, 2, 0, 0, 0, 0, 5, 5, 3];
        assert_eq!(graph.levels[2].values, below);
    }

    #[test]
    fn a_call_site_selects_stacks_from_the_root() {
        let mut tree = Tree::new();
        tree.add(&profile(&STACKS), 0, 0, &["main".into(), "a".into()]);
        assert_eq!(tree.flame_graph().total, 2);
    }

    #[test]
    fn bytes_are_a_caller_before_what_it_calls() {
        let bytes = tree(&[(&["ab", "c"], 200)]).bytes();
        let expected: &[u8] = &[0, 0, 1, 2, b'a', b'b', 0, 1, 1, b'c', 200, 1, 0];
        assert_eq!(bytes, expected);
    }
}
