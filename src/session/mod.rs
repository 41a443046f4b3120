//! Wiring: a recording from its first event to its file.

mod record;
mod screen;
mod signals;

pub use record::{Output, Recording, RecordingError, Timing, record};
pub use screen::Screen;
