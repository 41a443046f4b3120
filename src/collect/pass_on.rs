//! Samples that are handed on one by one instead of being counted: their stacks as true addresses of the process.

use super::stack::Frame;
use crate::ids::{Pid, Tid, Timestamp};
use crate::record::EventIndex;
use crate::unwind::UserFrame;

/// The stack of a sample, as it was walked.
#[derive(Clone, Copy, Debug)]
pub struct Walked<'a> {
    /// The kernel's part as the kernel wrote it: an instruction, then return addresses.
    pub kernel: &'a [u64],
    /// The user part, leaf first.
    pub(super) frames: &'a [UserFrame],
}

impl<'a> Walked<'a> {
    /// The user part in the kernel's way: an instruction, then return addresses.
    pub fn user(&self) -> impl Iterator<Item = u64> + use<'a> {
        // A frame's address lies within its call.
        self.frames.iter().enumerate().map(|(at, frame)| frame.address.0.wrapping_add(u64::from(at > 0)))
    }
}

/// A time that a thread spent away from a CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeAway {
    /// The event that it is told of.
    pub event: EventIndex,
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// When it was back, or the recording ended.
    pub back: Timestamp,
    /// The CPU that it left.
    pub cpu: u32,
    /// For how long, and for how long those are that it stands for.
    pub nanoseconds: u64,
    /// The stack with which it left, as in [`Walked`].
    pub kernel: Vec<u64>,
    /// Its user part.
    pub user: Vec<u64>,
}

/// A stack that was kept by its addresses, taken apart into the kernel's part and the user's.
pub(super) fn addresses(frames: impl Iterator<Item = Frame>) -> (Vec<u64>, Vec<u64>) {
    let (mut kernel, mut user) = (Vec::new(), Vec::new());
    for frame in frames {
        let (part, address) = match frame {
            Frame::Kernel(address) => (&mut kernel, address.0),
            Frame::Anonymous(_, address) => (&mut user, address.0),
            // A marker has no address; files are not told apart where addresses are kept.
            Frame::Image(_) | Frame::Marker(_) => continue,
        };
        part.push(address.wrapping_add(u64::from(!part.is_empty())));
    }
    (kernel, user)
}
