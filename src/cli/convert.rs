//! `rprof convert`: a recording or a profile in another format.

use std::path::{Path, PathBuf};

use clap::Args;

use super::input::{self, RecordingArgs};
use super::usage;
use crate::encode::{Format, WriteOptions, write_file_with};

/// Formats that tell when each sample was taken.
const TIMED: [&str; 2] = ["speedscope", "firefox"];

/// Convert a recording (perf.data) or a profile to another format
#[derive(Args, Debug, Clone)]
pub struct ConvertArgs {
    /// The recording (perf.data), pprof or folded stacks, told by content; `-` is the standard input
    #[arg(value_name = "IN")]
    pub from: PathBuf,
    /// The file to write; the ending chooses the format (.pb.gz, .folded, .svg, .speedscope.json, .json), - is the standard output
    #[arg(value_name = "OUT")]
    pub to: PathBuf,
    /// Format to write, whatever the file's ending: pprof, folded, flamegraph, speedscope, firefox
    #[arg(long, value_name = "NAME")]
    pub format: Option<String>,
    /// The value to write (`samples`, `cpu`, …), for formats that hold only one
    #[arg(long, value_name = "NAME")]
    pub value: Option<String>,
    /// Keep the time of each sample in a pprof too, as its label timestamp_ns
    #[arg(long)]
    pub timestamps: bool,
    /// How a recording is read
    #[command(flatten)]
    pub recording: RecordingArgs,
}

/// The endings that `rprof record` writes recordings by, and the name of the format.
const RECORDINGS: [&str; 3] = ["data", "perf", "perf.data"];

/// Whether a recording is to be written: a profile is sums, of which no samples can be made.
fn wants_recording(args: &ConvertArgs) -> bool {
    let ending = args.to.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    RECORDINGS.contains(&args.format.as_deref().unwrap_or(ending))
}

/// Converts a file.
///
/// # Errors
/// If it cannot be read or written, or no format was meant.
pub fn run(args: &ConvertArgs) -> anyhow::Result<()> {
    if wants_recording(args) {
        let problem = "no perf.data can be made of a profile: it has sums by stack, and no samples in time";
        return Err(usage(format!("cannot write {}: {problem} (rprof record writes one)", args.to.display())));
    }
    let format = match &args.format {
        Some(name) => Format::by_name(name).map_err(usage)?,
        None if args.to == Path::new("-") => {
            return Err(usage("name the format of the standard output: --format NAME"));
        }
        None => Format::for_path(&args.to).map_err(usage)?,
    };
    let times = args.timestamps || TIMED.contains(&format.name);
    let profile = input::read(&args.from, &args.recording, times)?;
    Ok(write_file_with(&args.to, format, &profile, &WriteOptions { value: args.value.clone() })?)
}
