//! Stacks as a prefix tree: each node is a frame and the stack of its caller, so that stacks with a common root share
//! it, and a stack is one number.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap};

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

/// A stack: the node of its leaf in a [`PrefixTree`]. [`PrefixTree::EMPTY`] is the stack without frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(u32);

impl StackId {
    /// The index among [`PrefixTree::nodes`] plus one; 0 is the stack without frames.
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
        self.path(stack).map(|(_, frame)| frame)
    }

    /// The frames of a stack, leaf first, each with the stack that it is the leaf of. The numbers of those stacks fall.
    pub fn path(&self, stack: StackId) -> impl Iterator<Item = (StackId, u32)> + '_ {
        let mut at = stack;
        std::iter::from_fn(move || {
            let node = self.nodes.get((at.0 as usize).checked_sub(1)?)?;
            Some((std::mem::replace(&mut at, node.caller), node.frame))
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

/// All distinct stacks of a window.
#[derive(Debug, Default)]
pub struct StackTree {
    frames: Vec<Frame>,
    frame_index: FxHashMap<Frame, u32>,
    tree: PrefixTree,
    /// The stack that was pushed last, root first.
    last: Vec<(Frame, StackId)>,
}

impl StackTree {
    /// The stack without frames, caller of every root.
    pub const EMPTY: StackId = PrefixTree::EMPTY;

    /// The stack of `frame` called from `caller`.
    pub fn push(&mut self, caller: StackId, frame: Frame) -> StackId {
        let frames = &mut self.frames;
        let frame = *self.frame_index.entry(frame).or_insert_with(|| {
            frames.push(frame);
            index(frames.len() - 1)
        });
        self.tree.push(caller, frame)
    }

    /// The stack of these frames, root first. Samples that follow each other share most of their callers, which are not looked up again.
    pub fn push_all(&mut self, frames: impl Iterator<Item = Frame>) -> StackId {
        let (mut stack, mut depth, mut shared) = (StackTree::EMPTY, 0, true);
        for frame in frames {
            shared &= self.last.get(depth).is_some_and(|(known, _)| *known == frame);
            if shared {
                stack = self.last[depth].1;
            } else {
                stack = self.push(stack, frame);
                self.last.truncate(depth);
                self.last.push((frame, stack));
            }
            depth += 1;
        }
        stack
    }

    /// The frames of a stack, leaf first.
    pub fn frames(&self, stack: StackId) -> impl Iterator<Item = Frame> + '_ {
        self.path(stack).map(|(_, frame)| frame)
    }

    /// The frames of a stack, leaf first, each with the stack that it is the leaf of. The numbers of those stacks fall.
    pub fn path(&self, stack: StackId) -> impl Iterator<Item = (StackId, Frame)> + '_ {
        let frame = |(id, frame): (StackId, u32)| Some((id, *self.frames.get(frame as usize)?));
        self.tree.path(stack).filter_map(frame)
    }

    /// All frames, each once.
    #[must_use]
    pub fn distinct_frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Distinct stacks, counting every stack's callers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether there is no stack.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }
}

/// Four billion nodes are 80 GB: the window ends long before.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn hash(node: Node) -> u64 {
    FxBuildHasher.hash_one(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_share_their_callers() {
        let mut tree = StackTree::default();
        let kernel = |address| Frame::Kernel(KernelAddress(address));
        let main = tree.push(StackTree::EMPTY, kernel(1));
        let a = tree.push(main, kernel(2));
        let b = tree.push(main, kernel(3));
        assert_eq!(tree.push(main, kernel(2)), a);
        assert_eq!(tree.len(), 3);
        assert_eq!(tree.frames(b).collect::<Vec<_>>(), [kernel(3), kernel(1)]);
        assert_eq!(tree.frames(StackTree::EMPTY).count(), 0);
    }

    #[test]
    fn stacks_one_after_the_other_are_as_pushed_by_themselves() {
        let mut tree = StackTree::default();
        let kernel = |address| Frame::Kernel(KernelAddress(address));
        for addresses in [&[1, 2, 3][..], &[1, 2], &[1, 2, 3, 4], &[1, 5, 3], &[], &[1, 5, 3, 4], &[2], &[1, 2, 3]] {
            let stack = tree.push_all(addresses.iter().map(|&address| kernel(address)));
            let alone = addresses.iter().fold(StackTree::EMPTY, |caller, &address| tree.push(caller, kernel(address)));
            assert_eq!(stack, alone);
            let frames: Vec<Frame> = tree.frames(stack).collect();
            assert!(
                frames.iter().rev().eq(addresses.iter().map(|&address| kernel(address)).collect::<Vec<_>>().iter())
            );
        }
        assert_eq!(tree.len(), 8);
    }

    #[test]
    fn a_node_stays_small() {
        // A minute of a busy compiler makes a million.
        assert_eq!(size_of::<Node>(), 8);
    }
}
