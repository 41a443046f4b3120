//! Stacks as a prefix tree: each node is a frame and the stack of its caller, so that stacks with a common root share
//! it, and a stack is one number.

use rustc_hash::FxHashMap;

use super::window::ProcessIndex;
use crate::ids::{Address, KernelAddress, Place};

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

/// A stack: the node of its leaf in a [`StackTree`]. [`StackTree::EMPTY`] is the stack without frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(u32);

#[derive(Clone, Copy, Debug)]
struct Node {
    caller: StackId,
    frame: Frame,
}

/// All distinct stacks of a window. Node `n` (from 1) is `nodes[n - 1]`, and a caller always comes before its callees.
#[derive(Debug, Default)]
pub struct StackTree {
    nodes: Vec<Node>,
    index: FxHashMap<(StackId, Frame), StackId>,
}

impl StackTree {
    /// The stack without frames, caller of every root.
    pub const EMPTY: StackId = StackId(0);

    /// The stack of `frame` called from `caller`.
    pub fn push(&mut self, caller: StackId, frame: Frame) -> StackId {
        let nodes = &mut self.nodes;
        *self.index.entry((caller, frame)).or_insert_with(|| {
            nodes.push(Node { caller, frame });
            StackId(u32::try_from(nodes.len()).unwrap_or(u32::MAX))
        })
    }

    /// The frames of a stack, leaf first.
    pub fn frames(&self, stack: StackId) -> impl Iterator<Item = Frame> + '_ {
        let mut at = stack;
        std::iter::from_fn(move || {
            let node = self.nodes.get((at.0 as usize).checked_sub(1)?)?;
            at = node.caller;
            Some(node.frame)
        })
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
    fn a_frame_stays_small() {
        // One node for each distinct frame of each distinct stack: a day of a busy host makes millions.
        assert_eq!(size_of::<Frame>(), 16);
    }
}
