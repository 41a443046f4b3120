//! `rprof status`: how a recorder does.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::show::amount;
use crate::session::status::{STATUS, read};
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
    let text = if args.metrics {
        fs::read_to_string(&path)?
    } else {
        let age = fs::metadata(&path)?.modified()?.elapsed().unwrap_or_default();
        show(&metrics, runs, age)?
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write the status"),
        _ => Ok(i32::from(!runs)),
    }
}

fn show(metrics: &BTreeMap<String, f64>, runs: bool, age: Duration) -> anyhow::Result<String> {
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
    let stacks: f64 = ends.iter().map(|(_, number)| number).sum();
    let ends = ends.iter().filter(|(_, number)| *number > 0.0);
    let ends: Vec<String> =
        ends.map(|(end, number)| format!("{} {:.2} %", end.replace('_', " "), 100.0 * number / stacks)).collect();
    let seconds = age.as_secs();
    let rows = [
        ("recorder", format!("{state}; told {seconds} s ago")),
        ("", info.trim_start_matches("rprof_info").to_owned()),
        ("since", jiff::Timestamp::from_second(value("rprof_start_time_seconds") as i64)?.to_string()),
        ("samples", count("rprof_samples_total")),
        ("lost", count("rprof_samples_lost_total")),
        ("stacks", ends.join(", ")),
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
    Ok(rows.iter().map(|(name, text)| format!("{name:<10} {}\n", super::show::printable(text))).collect())
}
