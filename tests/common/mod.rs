//! What the integration tests share.

// Every test file is a crate of its own and uses only a part of this.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

pub mod perf;
pub mod perfparser;
pub mod programs;
pub mod pty;
pub mod recording;
pub mod written;
