//! Wiring: a recording from its first event to its file.

mod archive;
mod budget;
mod continuous;
mod control;
mod finisher;
mod perf_data;
mod record;
pub mod replay;
mod sampler;
mod screen;
mod signals;
mod silence;
pub mod stack;
pub mod status;
pub mod top;

pub use crate::text::{printable, printable_lines};
pub use continuous::{Bounds, Continuous, record_continuously};
pub use control::ControlPlace;
pub use perf_data::{PerfData, PerfDataError, Switch};
pub use record::{Output, Recording, RecordingError, Timing, record};
pub use screen::Screen;
