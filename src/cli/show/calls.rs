//! What calls what: stacks as a tree, from the roots or the leaves of all, or from one function on.

use std::cmp::Reverse;
use std::ops::Range;

use super::{CountedStack, Counts};

/// A function in the place where it was called, and what was counted there.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Node {
    /// An index of [`Counts::rows`].
    pub(in crate::cli) row: usize,
    /// Here and below.
    pub(in crate::cli) value: i128,
    /// Where the stack ends here.
    pub(in crate::cli) own: i128,
    /// The node that it hangs from, which stands before it.
    pub(in crate::cli) parent: Option<usize>,
    children: Range<usize>,
}

/// A tree of nodes; those with the same parent are in the order of their values, largest first.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Tree {
    pub(in crate::cli) nodes: Vec<Node>,
    pub(in crate::cli) roots: Vec<usize>,
    /// The children of all nodes.
    children: Vec<usize>,
}

/// A way through the tree: its first row where that is not one of the stack, and the stack's rows behind it.
struct Path<'a> {
    first: Option<usize>,
    rows: &'a [u32],
    value: i128,
}

/// In which order the rows of a path are gone through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As they stand: from a function to its callers.
    Up,
    /// From the last one on: from a function to what it calls.
    Down,
}

impl Tree {
    /// From the roots of the stacks to what they call.
    pub(in crate::cli) fn of_callees(counts: &Counts) -> Tree {
        Tree::of_whole_stacks(counts, Way::Down)
    }

    /// As [`Tree::of_callees`]; where there are several processes, each is a root.
    pub(in crate::cli) fn of_processes(counts: &Counts) -> Tree {
        Tree::around(counts, |stack| Some((stack.process, 0..stack.frames.len())), Way::Down)
    }

    /// From the leaves of the stacks to their callers.
    pub(in crate::cli) fn of_callers(counts: &Counts) -> Tree {
        Tree::of_whole_stacks(counts, Way::Up)
    }

    /// Who calls a function: each stack from the function's innermost call up. `found` tells for each row whether it is one of the
    /// function's, and which row stands for all of them.
    pub(in crate::cli) fn callers_of(counts: &Counts, found: &[Option<usize>]) -> Tree {
        let path = |stack: &CountedStack| {
            let rows = counts.rows_of(stack);
            let innermost = rows.iter().position(|&row| found[row as usize].is_some())?;
            Some((found[rows[innermost] as usize], innermost + 1..rows.len()))
        };
        Tree::around(counts, path, Way::Up)
    }

    /// What a function calls: each stack from the function's outermost call down.
    pub(in crate::cli) fn callees_of(counts: &Counts, found: &[Option<usize>]) -> Tree {
        let path = |stack: &CountedStack| {
            let rows = counts.rows_of(stack);
            let outermost = rows.iter().rposition(|&row| found[row as usize].is_some())?;
            Some((found[rows[outermost] as usize], 0..outermost))
        };
        Tree::around(counts, path, Way::Down)
    }

    /// The nodes below a node, largest first.
    pub(in crate::cli) fn children(&self, node: usize) -> &[usize] {
        &self.children[self.nodes[node].children.clone()]
    }

    fn of_whole_stacks(counts: &Counts, way: Way) -> Tree {
        Tree::around(counts, |stack| Some((None, 0..stack.frames.len())), way)
    }

    fn around(
        counts: &Counts,
        part: impl Fn(&CountedStack) -> Option<(Option<usize>, Range<usize>)>,
        way: Way,
    ) -> Tree {
        let paths = counts.stacks.iter().filter_map(|stack| {
            let (first, range) = part(stack)?;
            Some(Path { first, rows: &counts.rows_of(stack)[range], value: stack.value })
        });
        Tree::of_paths(paths.collect(), way)
    }

    /// Paths in their order have what they share with the one before.
    fn of_paths(mut paths: Vec<Path<'_>>, way: Way) -> Tree {
        paths.sort_unstable_by(|one, other| one.rows(way).cmp(other.rows(way)));
        let mut tree = Tree::default();
        // The nodes of the path before.
        let mut before: Vec<usize> = Vec::new();
        for path in &paths {
            let rows = || path.rows(way);
            let shared = before.iter().zip(rows()).take_while(|(node, row)| tree.nodes[**node].row == *row).count();
            before.truncate(shared);
            for row in rows().skip(shared) {
                let parent = before.last().copied();
                before.push(tree.nodes.len());
                tree.nodes.push(Node { row, value: 0, own: 0, parent, children: 0..0 });
            }
            if let Some(&last) = before.last() {
                tree.nodes[last].own += path.value;
            }
        }
        tree.sum_up();
        tree.link();
        tree
    }

    /// A parent stands before its children.
    fn sum_up(&mut self) {
        for at in (0..self.nodes.len()).rev() {
            self.nodes[at].value += self.nodes[at].own;
            if let Some(parent) = self.nodes[at].parent {
                self.nodes[parent].value += self.nodes[at].value;
            }
        }
    }

    /// Tells each node its children.
    fn link(&mut self) {
        let largest_first = |node: &usize| Reverse(self.nodes[*node].value.abs());
        let (mut roots, mut others): (Vec<usize>, Vec<usize>) =
            (0..self.nodes.len()).partition(|&node| self.nodes[node].parent.is_none());
        roots.sort_by_key(largest_first);
        others.sort_by_key(|node| (self.nodes[*node].parent, largest_first(node)));
        for (at, &child) in others.iter().enumerate() {
            if let Some(parent) = self.nodes[child].parent {
                let children = &mut self.nodes[parent].children;
                *children = if children.start == children.end { at..at + 1 } else { children.start..at + 1 };
            }
        }
        (self.roots, self.children) = (roots, others);
    }
}

impl Path<'_> {
    fn rows(&self, way: Way) -> impl Iterator<Item = usize> {
        let (up, down) = match way {
            Way::Up => (self.rows, &[][..]),
            Way::Down => (&[][..], self.rows),
        };
        self.first.into_iter().chain(up.iter().chain(down.iter().rev()).map(|&row| row as usize))
    }
}
