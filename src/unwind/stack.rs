//! What a walk reads and what it makes: the copy of a stack, frames, and how a walk ended.

use crate::health::Count;
use crate::ids::{Address, Place};

/// A copy of the top of a stack, as `PERF_SAMPLE_STACK_USER` brings it.
#[derive(Clone, Copy, Debug)]
pub struct StackCopy<'a> {
    /// The address of the first byte: the stack pointer.
    pub start: Address,
    /// The bytes, from the top of the stack (lowest address) on.
    pub bytes: &'a [u8],
}

impl StackCopy<'_> {
    /// The word at an address.
    ///
    /// # Errors
    /// [`Why::Truncated`] behind the copied part, [`Why::Broken`] before it.
    #[inline]
    pub fn read(&self, address: u64) -> Result<u64, Why> {
        let offset = address.wrapping_sub(self.start.0);
        match usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)?.first_chunk()) {
            Some(&word) => Ok(u64::from_le_bytes(word)),
            None if address >= self.start.0 => Err(Why::Truncated),
            None => Err(Why::Broken),
        }
    }
}

/// How far up the stack a walk went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Bytes of the stack, from the stack pointer on, that the walk needed as far as it is certain: up to the last step that was not
    /// by the frame pointer of code without unwind information.
    pub bytes: u64,
    /// Where the return address lies that the copy does not hold.
    pub missing: Option<Address>,
}

/// A frame of a user stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserFrame {
    /// Where the thread was: for the leaf, and for a function that a signal interrupted, the next instruction; for every
    /// other one an address within the call (the return address less one).
    pub address: Address,
    /// The place in an image; `None` for code that lies in no file.
    pub place: Option<Place>,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the first function of the thread: one that is known as such, by its unwind information, its name or its code.
    Root,
    /// At the first function of a stack that the program made itself: a fiber's, a coroutine's.
    Fiber,
    /// Before it.
    Truncated(Why),
}

/// Why a walk did not reach the first function of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The stack goes on behind the copied part, or on another stack.
    Truncated,
    /// Code without unwind information or frame pointers.
    NoUnwindInfo,
    /// A caller's address where no code lies, or a caller's frame where no stack can be.
    Broken,
    /// [`MAX_FRAMES`](super::MAX_FRAMES) were walked.
    TooDeep,
}

impl End {
    /// The row of the table of health that counts stacks with this end.
    #[must_use]
    pub fn count(self) -> Count {
        match self {
            End::Root => Count::StacksRoot,
            End::Fiber => Count::StacksFiber,
            End::Truncated(Why::Truncated) => Count::StacksTruncated,
            End::Truncated(Why::NoUnwindInfo) => Count::StacksNoCfi,
            End::Truncated(Why::Broken) => Count::StacksBroken,
            End::Truncated(Why::TooDeep) => Count::StacksTooDeep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_outside_says_on_which_side() {
        let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0];
        let stack = StackCopy { start: Address(0x1000), bytes: &bytes };
        assert_eq!(stack.read(0x1000), Ok(1));
        assert_eq!(stack.read(0x1008), Err(Why::Truncated));
        assert_eq!(stack.read(u64::MAX), Err(Why::Truncated));
        assert_eq!(stack.read(0xff8), Err(Why::Broken));
    }
}
