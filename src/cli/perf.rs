//! The options of `perf record` that choose how perf.data is written.

use std::path::PathBuf;

use clap::Args;

use crate::capture::{AlsoRecords, Settings};
use crate::session::PerfData;

/// How perf.data is written.
#[derive(Args, Debug)]
#[command(next_help_heading = "Writing perf.data")]
pub struct PerfArgs {
    /// Keep registers and the copied part of each stack, for readers that unwind them, instead of the unwound stack
    #[arg(long)]
    raw_stacks: bool,
    /// Compress records with zstd, 1 to 22 [default: 1]
    #[arg(short = 'z', long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "1",
        value_parser = clap::value_parser!(i32).range(1..=22))]
    compression_level: Option<i32>,
}

impl PerfArgs {
    /// What else is captured for the file.
    pub(super) fn complete(&self, settings: &mut Settings) {
        settings.also = AlsoRecords { data_maps: self.raw_stacks, namespaces: true, switches: false };
    }

    /// What is written, to a file or to the standard output.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub(super) fn perf_data(&self, path: Option<PathBuf>) -> anyhow::Result<PerfData> {
        Ok(PerfData {
            path,
            arguments: std::env::args().collect(),
            raw_stacks: self.raw_stacks,
            compression: self.compression_level,
            build_ids: true,
            ..PerfData::default()
        })
    }
}
