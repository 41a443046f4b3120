//! perf.data: what `perf record` writes and every tool of its kind reads.
//!
//! Source: the kernel's `tools/perf/Documentation/perf.data-file-format.txt`, `tools/perf/util/header.h` and
//! `tools/lib/perf/include/perf/event.h`.

pub mod format;
pub mod write;
