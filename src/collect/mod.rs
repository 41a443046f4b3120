//! From records to windows: the one record loop, and stacks counted.

mod stack;
mod window;

pub use stack::{Frame, Marker, StackId, StackTree};
pub use window::{EventInfo, Loss, ProcessIndex, SampleKey, Tally, Thread, ThreadIndex, Window};

pub use crate::ids::Unit;
