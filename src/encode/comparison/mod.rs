//! Comparisons as files: what changed between two sides, for people and for programs.

mod json;

pub use json::json;
