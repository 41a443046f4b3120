//! From records to windows: the one record loop, and stacks counted.

mod chain;
mod collector;
mod counts;
mod heap;
mod loader;
mod off_cpu;
mod pass_on;
mod pressure;
mod stack;
mod window;

pub use collector::{Collector, Journaled, OFF_CPU_STACKS, Span};
pub use pass_on::{TimeAway, Walked};
pub use pressure::CopySize;
pub use stack::{Frame, Marker, PrefixTree, StackId, StackTree};
pub use window::{EventInfo, Loss, ProcessIndex, SampleKey, Tally, Thread, ThreadIndex, WakerIndex, Window};

pub use crate::ids::Unit;
