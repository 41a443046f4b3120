//! Frames that the CPU knows nothing of: code made at run time, and interpreters.

pub mod jitdump;
pub mod perf_map;
