//! Distinct stacks, of which each is one number, and those with a common root share it.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap, FxHasher};

use super::window::ProcessIndex;
use crate::ids::{Address, ImageId, KernelAddress, Place};

/// One frame of a stack before it has a name. The address of a caller lies within its call instruction (the return address less one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// Code of a file.
    Image(Place),
    /// Code that lies in no file, made at run time by this process.
    Anonymous(ProcessIndex, Address),
    /// The kernel's code.
    Kernel(KernelAddress),
    /// Not code: the root of a stack that could not be followed to its end.
    Marker(Marker),
}

impl Frame {
    /// The image that it lies in, if it lies in one.
    #[must_use]
    pub fn image(&self) -> Option<ImageId> {
        match self {
            Frame::Image(place) => Some(place.image),
            _ => None,
        }
    }
}

/// Why a stack has no true root; shown in the root's place, so that no incomplete stack looks like a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Marker {
    /// The stack went on behind the part that was copied.
    Truncated,
    /// Code without unwind information or frame pointers.
    NoUnwindInfo,
    /// A caller's address where no code lies.
    Broken,
    /// More frames than are followed.
    TooDeep,
    /// No user registers came with the sample.
    NoRegisters,
}

impl Marker {
    /// The name under which the marker stands in a profile.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Marker::Truncated => "[truncated]",
            Marker::NoUnwindInfo => "[no unwind information]",
            Marker::Broken => "[broken stack]",
            Marker::TooDeep => "[too deep]",
            Marker::NoRegisters => "[no user registers]",
        }
    }
}

/// A stack of a [`PrefixTree`] or a [`StackTree`]; [`PrefixTree::EMPTY`] is the one without frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(u32);

impl StackId {
    /// In a [`PrefixTree`], the index among [`PrefixTree::nodes`] plus one; 0 is the stack without frames.
    #[must_use]
    pub fn number(self) -> usize {
        self.0 as usize
    }
}

/// A frame, as an index into a table of distinct frames, called from a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Node {
    caller: StackId,
    frame: u32,
}

/// Distinct stacks of frames that somebody else numbers. Node `n` (from 1) is `nodes[n - 1]`, and a caller always comes
/// before its callees.
///
/// A minute of a busy compiler makes a million nodes of some ten thousand distinct frames. So a node holds its frame's index,
/// and the table that finds a node holds nothing but the node's: 13 to 21 bytes a node instead of a hundred.
#[derive(Debug, Default)]
pub struct PrefixTree {
    nodes: Vec<Node>,
    index: HashTable<StackId>,
}

impl PrefixTree {
    /// The stack without frames, caller of every root.
    pub const EMPTY: StackId = StackId(0);

    /// The stack of `frame` called from `caller`.
    pub fn push(&mut self, caller: StackId, frame: u32) -> StackId {
        let nodes = &mut self.nodes;
        let node = Node { caller, frame };
        let same = |id: &StackId| nodes.get(id.0 as usize - 1) == Some(&node);
        if let Some(&id) = self.index.find(hash(node), same) {
            return id;
        }
        nodes.push(node);
        let id = StackId(index(nodes.len()));
        self.index.insert_unique(hash(node), id, |id| nodes.get(id.0 as usize - 1).map_or(0, |&node| hash(node)));
        id
    }

    /// The frames of a stack, leaf first.
    pub fn frames(&self, stack: StackId) -> impl Iterator<Item = u32> + '_ {
        let mut at = stack;
        std::iter::from_fn(move || {
            let node = self.nodes.get(at.number().checked_sub(1)?)?;
            at = node.caller;
            Some(node.frame)
        })
    }

    /// Every stack's caller and frame, callers first; stack `n` (from 1) is item `n - 1`.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (StackId, u32)> + '_ {
        self.nodes.iter().map(|node| (node.caller, node.frame))
    }

    /// Distinct stacks, counting every stack's callers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no stack.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// All distinct stacks of a window. A stack is a run of frames behind those that it shares with the stack that came before it: samples
/// that follow each other share most of their callers. It is looked up as a whole: to look each frame up behind
/// its callers misses the cache frame by frame, where stacks are many.
#[derive(Debug, Default)]
pub struct StackTree {
    frames: Vec<Frame>,
    frame_index: FxHashMap<Frame, u32>,
    runs: Vec<Run>,
    /// Frames of all runs, the root's side first.
    numbers: Vec<u32>,
    index: HashTable<StackId>,
    /// The last stacks, by whose they are: what runs on other CPUs comes between those that share.
    last: [Last; LAST],
}

/// How many last stacks are kept.
const LAST: usize = 8;

/// A stack: frames of another one, from the root on, and a run of its own.
#[derive(Clone, Copy, Debug)]
struct Run {
    base: StackId,
    /// Frames that are the base's.
    shared: u32,
    /// All frames.
    depth: u32,
    /// Where its own frames begin.
    start: u32,
    hash: u64,
}

/// A stack that was pushed lately, root first.
#[derive(Clone, Debug, Default)]
struct Last {
    stack: StackId,
    frames: Vec<(Frame, u32)>,
}

impl StackTree {
    /// The stack without frames.
    pub const EMPTY: StackId = PrefixTree::EMPTY;

    /// The stack of these frames, root first. Stacks of one `owner` are looked for among its own first.
    pub fn push(&mut self, owner: ProcessIndex, frames: impl IntoIterator<Item = Frame>) -> StackId {
        let at = owner.0 as usize % LAST;
        let mut last = std::mem::take(&mut self.last[at]);
        let (mut shared, mut depth) = (0, 0);
        for frame in frames {
            if shared == depth && last.frames.get(depth).is_some_and(|&(known, _)| known == frame) {
                shared += 1;
            } else {
                last.frames.truncate(depth);
                last.frames.push((frame, self.number(frame)));
            }
            depth += 1;
        }
        last.frames.truncate(depth);
        last.stack = self.find_or_add(&last, shared);
        let stack = last.stack;
        self.last[at] = last;
        stack
    }

    /// A frame's index among the distinct ones.
    fn number(&mut self, frame: Frame) -> u32 {
        if let Some(&known) = self.frame_index.get(&frame) {
            return known;
        }
        let number = index(self.frames.len());
        self.frames.push(frame);
        self.frame_index.insert(frame, number);
        number
    }

    /// The stack of frames of which so many are those of the stack before.
    fn find_or_add(&mut self, wanted: &Last, shared: usize) -> StackId {
        if wanted.frames.is_empty() {
            return StackTree::EMPTY;
        }
        let numbers = || wanted.frames.iter().map(|&(_, number)| number);
        let mut hasher = FxHasher::default();
        numbers().for_each(|number| hasher.write_u32(number));
        let hash = hasher.finish();
        let same = |&id: &StackId| {
            let run = self.run(id);
            run.is_some_and(|run| run.hash == hash && run.depth as usize == wanted.frames.len())
                && self.numbers(id).eq(numbers().rev())
        };
        if let Some(&id) = self.index.find(hash, same) {
            return id;
        }
        let (mut base, shared) = (wanted.stack, index(shared));
        while let Some(run) = self.run(base).filter(|run| shared <= run.shared) {
            base = run.base;
        }
        let start = index(self.numbers.len());
        self.numbers.extend(numbers().skip(shared as usize));
        self.runs.push(Run { base, shared, depth: index(wanted.frames.len()), start, hash });
        let id = StackId(index(self.runs.len()));
        let runs = &self.runs;
        self.index.insert_unique(hash, id, |id| runs.get(id.number().wrapping_sub(1)).map_or(0, |run| run.hash));
        id
    }

    fn run(&self, stack: StackId) -> Option<&Run> {
        self.runs.get(stack.number().checked_sub(1)?)
    }

    /// The frames of a stack, leaf first, as indices into [`StackTree::distinct_frames`].
    pub fn numbers(&self, stack: StackId) -> impl Iterator<Item = u32> + '_ {
        let mut run = self.run(stack);
        let mut depth = run.map_or(0, |run| run.depth);
        std::iter::from_fn(move || {
            depth = depth.checked_sub(1)?;
            while let Some(above) = run.filter(|run| depth < run.shared) {
                run = self.run(above.base);
            }
            let run = run?;
            self.numbers.get((run.start + depth - run.shared) as usize).copied()
        })
    }

    /// The frames of a stack, leaf first.
    pub fn frames(&self, stack: StackId) -> impl Iterator<Item = Frame> + '_ {
        self.numbers(stack).filter_map(|number| self.frames.get(number as usize).copied())
    }

    /// All frames, each once.
    #[must_use]
    pub fn distinct_frames(&self) -> &[Frame] {
        &self.frames
    }
}

/// Four billion frames of stacks are 16 GB: the window ends long before.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn hash(node: Node) -> u64 {
    FxBuildHasher.hash_one(node)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stacks_share_their_callers() {
        let mut tree = PrefixTree::default();
        let main = tree.push(PrefixTree::EMPTY, 1);
        let a = tree.push(main, 2);
        let b = tree.push(main, 3);
        assert_eq!(tree.push(main, 2), a);
        assert_eq!(tree.len(), 3);
        assert_eq!(tree.frames(b).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(tree.frames(PrefixTree::EMPTY).count(), 0);
    }

    proptest! {
        #[test]
        fn each_stack_is_its_frames(stacks in vec((0_u32..20, vec(1_u64..4, 0..12)), 1..200)) {
            let mut tree = StackTree::default();
            let mut known: FxHashMap<Vec<u64>, StackId> = FxHashMap::default();
            for (owner, addresses) in &stacks {
                let frames = addresses.iter().map(|&address| Frame::Kernel(KernelAddress(address)));
                let id = tree.push(ProcessIndex(*owner), frames);
                prop_assert_eq!(*known.entry(addresses.clone()).or_insert(id), id);
            }
            prop_assert_eq!(tree.runs.len(), known.keys().filter(|addresses| !addresses.is_empty()).count());
            for (addresses, id) in known {
                let frames = addresses.iter().rev().map(|&address| Frame::Kernel(KernelAddress(address)));
                prop_assert!(tree.frames(id).eq(frames));
            }
        }
    }

    #[test]
    fn what_is_shared_is_kept_once() {
        let mut tree = StackTree::default();
        let frames = |addresses: &[u64]| -> Vec<Frame> {
            addresses.iter().map(|&address| Frame::Kernel(KernelAddress(address))).collect()
        };
        tree.push(ProcessIndex(0), frames(&[1, 2, 3, 4]));
        tree.push(ProcessIndex(1), frames(&[9]));
        tree.push(ProcessIndex(0), frames(&[1, 2, 3, 5]));
        tree.push(ProcessIndex(0), frames(&[1, 2, 3]));
        assert_eq!(tree.numbers.len(), 4 + 1 + 1);
    }

    #[test]
    fn a_node_stays_small() {
        // A minute of a busy compiler makes a million.
        assert_eq!(size_of::<Node>(), 8);
    }
}
