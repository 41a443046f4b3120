//! Comparisons as files: what changed between two sides, for people and for programs.

mod folded;
mod gate;
mod json;
mod markdown;

pub use super::flamegraph::differential as flamegraph;
pub use folded::folded;
pub use gate::{gate_json, gate_markdown, junit};
pub use json::json;
pub use markdown::{markdown, of_what, percent_of, rate, signed};

pub(in crate::encode) use folded::{name, stacks, whole};
