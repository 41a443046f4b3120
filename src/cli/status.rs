//! `rprof status`: how a recorder does.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::show::{self, amount};
use crate::profile::{KindQuality, Quality};
use crate::session::status::{self, STATUS, read, text};
use crate::store;

/// Show how the recorder of a directory does: samples, losses, unwinding, cost, disk
///
/// Exit status 0 if it runs, 1 if it has ended or was killed.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// The directory [default: /var/lib/rprof, or ~/.local/state/rprof for ordinary users]
    directory: Option<PathBuf>,
    /// Print the metrics as they are, in Prometheus's text format
    #[arg(long)]
    metrics: bool,
}

/// Prints the status, and answers the exit status.
///
/// # Errors
/// If there is no recorder's status.
pub fn run(args: &StatusArgs) -> anyhow::Result<i32> {
    let directory = args.directory.clone().unwrap_or_else(store::default_directory);
    let path = directory.join(STATUS);
    let metrics = read(&path).with_context(|| {
        format!(
            "no recorder has told how it does in {} (rprof record --continuous -o DIR begins one)",
            directory.display()
        )
    })?;
    let runs = store::recorder(&directory).is_some();
    let shown = if args.metrics {
        text(&path)?
    } else {
        let age = fs::metadata(&path)?.modified()?.elapsed().unwrap_or_default();
        table(&metrics, runs, age)?
    };
    show::print(&shown)?;
    Ok(i32::from(!runs))
}

fn table(metrics: &BTreeMap<String, f64>, runs: bool, age: Duration) -> anyhow::Result<String> {
    let value = |name: &str| metrics.get(name).copied().unwrap_or(0.0);
    let Some(info) = metrics.keys().find(|name| name.starts_with("rprof_info{")) else {
        bail!("the status file is not one of rprof's");
    };
    let state = match (runs, value("rprof_up") > 0.0) {
        (true, _) => "running",
        (false, true) => "killed",
        (false, false) => "ended",
    };
    let count = |name: &str| amount(value(name) as i128, "");
    let bytes = |name: &str| amount(value(name) as i128, "bytes");
    let ends: Vec<(&str, f64)> = metrics
        .iter()
        .filter_map(|(name, value)| {
            Some((name.strip_prefix("rprof_stacks_total{end=\"")?.strip_suffix("\"}")?, *value))
        })
        .collect();
    let quality = status::quality(metrics);
    let cut = ends.iter().filter(|(end, number)| *number > 0.0 && *end != "root");
    let cut = cut.map(|(end, number)| format!("{} {}", amount(*number as i128, ""), end.replace('_', " ")));
    let stacks: Vec<String> = show::complete(&quality).into_iter().chain(cut).collect();
    let seconds = age.as_secs();
    let rows = [
        ("recorder", format!("{state}; told {seconds} s ago")),
        ("", info.trim_start_matches("rprof_info").to_owned()),
        ("since", jiff::Timestamp::from_second(value("rprof_start_time_seconds") as i64)?.to_string()),
        ("samples", count("rprof_samples_total")),
        ("lost", lost(&quality)),
        ("stacks", stacks.join(", ")),
        (
            "frequency",
            format!(
                "{:.1} Hz of {:.0} Hz asked for",
                value("rprof_frequency_hertz"),
                value("rprof_frequency_asked_hertz")
            ),
        ),
        ("CPUs", count("rprof_cpus")),
        ("CPU time", format!("{:.2} s", value("rprof_cpu_seconds_total"))),
        ("memory", bytes("rprof_resident_memory_bytes")),
        (
            "windows",
            format!(
                "{} written, {} dropped, {} removed",
                count("rprof_windows_written_total"),
                count("rprof_windows_dropped_total"),
                count("rprof_windows_removed_total")
            ),
        ),
        ("disk", format!("{} in {} files", bytes("rprof_disk_bytes"), count("rprof_files"))),
    ];
    Ok(rows.iter().map(|(name, text)| format!("{name:<10} {}\n", show::printable(text))).collect())
}

/// What was lost of each kind: `7 (6.54 %) of cpu, 0 (0.00 %) of off_cpu`.
fn lost(quality: &Quality) -> String {
    let of_kind = |(kind, counted): (&str, &KindQuality)| {
        format!("{} ({}) of {kind}", amount(counted.lost.into(), ""), counted.lost_percent())
    };
    let parts: Vec<String> = quality.kinds().map(of_kind).collect();
    if parts.is_empty() { "no window has ended yet".into() } else { parts.join(", ") }
}
