//! Completes a walk by the kernel's own.
//!
//! The kernel follows frame pointers through the thread's memory while it takes the sample. That crosses from one of Go's
//! stacks to another and goes on behind the copied part, where frame pointers are kept; and it leads nowhere where they are not.
//! So it is believed only from a return address on that the walk has found as well.

use super::stack::{End, StackCopy, UserFrame};
use super::walk::{MAX_FRAMES, Unwinder};
use crate::health::{Count, Health};
use crate::ids::{Address, Place};
use crate::process::AddressSpace;

impl Unwinder {
    /// Where a walk did not reach the root and the kernel's user callchain (leaf first: the program counter, then return
    /// addresses as they are) holds the last walked frame, appends the rest of it. `frames` are those of this stack alone.
    /// Answers the new end: the root if the last frame is one, or the old one.
    pub(super) fn splice(
        &mut self,
        space: &AddressSpace,
        chain: &[u64],
        frames: &mut Vec<UserFrame>,
        end: End,
        health: &mut Health,
    ) -> End {
        let rest = match end {
            End::Root | End::Fiber => return end,
            End::Truncated(_) => common(chain, frames).and_then(|at| chain.get(at + 1..)).unwrap_or_default(),
        };
        let walked = frames.len();
        append(self, space, rest, frames);
        if frames.len() == walked {
            return end;
        }
        health.add(Count::FramesSpliced, 1);
        self.end_at_last(space, frames).unwrap_or(end)
    }

    /// Appends what the kernel's own walk found, alone: an instruction, then return addresses as far as they lie in code.
    pub fn believe(&self, space: &AddressSpace, chain: &[u64], frames: &mut Vec<UserFrame>) {
        let Some((&leaf, rest)) = chain.split_first() else { return };
        frames.push(UserFrame { address: Address(leaf), place: space.place(Address(leaf)) });
        append(self, space, rest, frames);
    }

    /// Whether a place is in the function by which C enters Go.
    pub(super) fn enters_go(&self, place: Place) -> bool {
        let table = self.cfi(place).and_then(|cfi| cfi.go());
        table.is_some_and(|table| {
            table.find(place.rva).is_some_and(|function| table.name(&function) == Some("crosscall2"))
        })
    }
}

/// Appends return addresses of the kernel's walk, up to one where no code lies: the kernel ends its walk by whatever the frame pointer
/// held. Go's entry from C, `crosscall2`, stores the frame pointer twice, so that the kernel meets it in place of a return address.
pub(super) fn append(unwinder: &Unwinder, space: &AddressSpace, rest: &[u64], frames: &mut Vec<UserFrame>) {
    let mut entered = frames.last().and_then(|frame| frame.place).is_some_and(|place| unwinder.enters_go(place));
    for &return_address in rest {
        let address = Address(return_address.wrapping_sub(1));
        match space.find(address) {
            Some(_) if frames.len() >= MAX_FRAMES => return,
            Some(mapping) => {
                let place = mapping.place(address);
                entered = place.is_some_and(|place| unwinder.enters_go(place));
                frames.push(UserFrame { address, place });
            }
            None if entered => entered = false,
            None => return,
        }
    }
}

/// Where the kernel's walk has the return address that is stored beside the frame pointer `fp`. The walk began with the frame pointer
/// `start`; it is followed through the copy, and has to agree with what lies there.
pub(super) fn position(chain: &[u64], start: u64, copy: StackCopy<'_>, fp: u64) -> Option<usize> {
    let mut reached = start;
    for (at, &return_address) in chain.iter().enumerate().skip(1) {
        if reached == fp {
            return Some(at);
        }
        if copy.read(reached.wrapping_add(8)) != Ok(return_address) {
            return None;
        }
        reached = copy.read(reached).ok()?;
    }
    None
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
    fn a_frame_pointer_has_a_position_where_the_copy_agrees_with_the_chain() {
        let words = [0x120_u64, 0x400, 0, 0, 0x9000, 0x500];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let copy = StackCopy { start: Address(0x100), bytes: &bytes };
        let chain = [0x300, 0x400, 0x500, 0x600, 0x700];
        assert_eq!(position(&chain, 0x100, copy, 0x9000), Some(3));
        assert_eq!(position(&chain, 0x9000, copy, 0x9000), Some(1));
        assert_eq!(position(&chain, 0x100, copy, 0x8000), None);
        assert_eq!(position(&[0x300, 0x401, 0x500, 0x600], 0x100, copy, 0x9000), None, "another stack than the copy's");
    }

    #[test]
    fn in_a_recursion_the_longest_agreement_counts() {
        assert_eq!(common(&[10, 20, 20, 20, 30], &frames(&[10, 19, 19])), Some(2));
    }
}
