//! perf.data: what `perf record` writes and every tool of its kind reads.
//!
//! Source: the kernel's `tools/perf/Documentation/perf.data-file-format.txt`, `tools/perf/util/header.h` and
//! `tools/lib/perf/include/perf/event.h`.

mod attr;
mod fields;
pub mod format;
mod header;
mod members;
mod queue;
mod reader;
mod stream;

pub use attr::Attr;
pub use header::{Clock, Header, RecordedImage};
pub use reader::{Counts, PerfData, PerfDataError};
pub mod write;
