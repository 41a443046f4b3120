//! What the integration tests share.

#![allow(dead_code, unreachable_pub, clippy::expect_used, reason = "each test file is a crate, and uses a part")]

pub mod perf;
pub mod perfparser;
pub mod programs;
pub mod pty;
pub mod recording;
pub mod tmpfs;
pub mod written;
