//! Completes a walk by the kernel's own.
//!
//! The kernel follows frame pointers through the thread's memory while it takes the sample. That crosses from one of Go's
//! stacks to another and goes on behind the copied part, where frame pointers are kept; and it leads nowhere where they are not.
//! So it is believed only from a return address on that the walk has found as well.

use super::rule::Kind;
use super::stack::{End, UserFrame};
use super::walk::{MAX_FRAMES, Unwinder};
use crate::health::{Count, Health};
use crate::ids::Address;
use crate::process::AddressSpace;

impl Unwinder {
    /// Where a walk did not reach the root and the kernel's user callchain (leaf first: the program counter, then return
    /// addresses as they are) holds the last walked frame, appends the rest of it. `frames` are those of this stack alone.
    /// Answers the new end: the root if the last frame is one, or the old one.
    pub fn splice(
        &mut self,
        space: &AddressSpace,
        chain: &[u64],
        frames: &mut Vec<UserFrame>,
        end: End,
        health: &mut Health,
    ) -> End {
        let rest = match end {
            End::Root => return end,
            End::Truncated(_) => common(chain, frames).and_then(|at| chain.get(at + 1..)).unwrap_or_default(),
        };
        let walked = frames.len();
        for &return_address in rest.iter().take(MAX_FRAMES.saturating_sub(walked)) {
            let address = Address(return_address.wrapping_sub(1));
            // The kernel ends its walk by whatever the frame pointer held.
            let Some(mapping) = space.find(address) else { break };
            frames.push(UserFrame { address, place: mapping.place(address) });
        }
        if frames.len() == walked {
            return end;
        }
        health.add(Count::FramesSpliced, 1);
        let last = frames.last().and_then(|last| self.look_up(space, last.address.0));
        if last.is_some_and(|line| line.rule.kind == Kind::Root) { End::Root } else { end }
    }
}

/// Where in the chain the last frame is. In a recursion it is there more than once: then where most of the frames before it
/// agree too, and of those the nearest to the leaf.
fn common(chain: &[u64], frames: &[UserFrame]) -> Option<usize> {
    let same = |at: usize, frame: usize| {
        let return_address = frames[frame].address.0.wrapping_add(u64::from(frame != 0));
        chain[at] == return_address
    };
    let last = frames.len().checked_sub(1)?;
    let agreeing = |&at: &usize| (0..=at.min(last).min(64)).take_while(|&back| same(at - back, last - back)).count();
    let candidates = (0..chain.len()).rev().filter(|&at| same(at, last));
    candidates.max_by_key(agreeing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(addresses: &[u64]) -> Vec<UserFrame> {
        addresses.iter().map(|&address| UserFrame { address: Address(address), place: None }).collect()
    }

    #[test]
    fn the_last_frame_is_found_by_its_return_address() {
        assert_eq!(common(&[10, 20, 30, 40], &frames(&[10, 19, 29])), Some(2));
        assert_eq!(
            common(&[10, 20, 30, 40], &frames(&[10, 15, 29])),
            Some(2),
            "a frame that the kernel's walk left out"
        );
        assert_eq!(common(&[10, 20, 30, 40], &frames(&[10])), Some(0));
        assert_eq!(common(&[10, 20], &frames(&[10, 24])), None);
        assert_eq!(common(&[10, 20], &[]), None);
    }

    #[test]
    fn in_a_recursion_the_longest_agreement_counts() {
        assert_eq!(common(&[10, 20, 20, 20, 30], &frames(&[10, 19, 19])), Some(2));
    }
}
