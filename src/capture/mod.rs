//! The live source: which events, of whom, opened how, and their rings drained.

mod attr;
mod error;
mod event;
mod live;
mod target;

pub use attr::{CallGraph, MAX_STACK_BYTES};
pub use error::CaptureError;
pub use event::{Event, EventError, Rate, parse_list};
pub use live::{Live, Settings, Sharing};
pub use target::{Scope, Target, lives, online_cpus, parse_cpus, process_of, threads};
