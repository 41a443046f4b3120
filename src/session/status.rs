//! How a running recorder does, as a file in the text format of Prometheus: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//! A node exporter's textfile collector takes it as it is, and `rprof status` shows it to people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::health::{Count, Health};
use crate::ids::UnixNanos;
use crate::profile::{KindQuality, Quality};
use crate::store::Mode;
use crate::sys::{self, output};

/// The name of the status file in a directory of windows.
pub const STATUS: &str = "rprof.prom";

/// Bytes of a status file that are read; a recorder with a hundred events writes 40 KB.
const LONGEST: u64 = 4 << 20;

/// How a recorder does.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Whether it runs; not, after it has ended as asked.
    pub running: bool,
    /// Its PID, where it runs.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// When it began.
    pub began: UnixNanos,
    /// All that was counted since.
    pub health: Health,
    /// Samples of each kind, and how many of them the kernel dropped, in the windows that ended.
    pub counted: Quality,
    /// Samples a second and CPU now, and as asked for.
    pub hertz: f64,
    /// See `hertz`.
    pub hertz_asked: f64,
    /// How often each event is sampled, by name, in proportion to what was asked for.
    pub scales: Vec<(String, f64)>,
    /// CPUs that are watched.
    pub cpus: usize,
    /// The share (0 to 1) of the machine that may be used.
    pub max_overhead: Option<f64>,
    /// CPU time that was used.
    pub cpu: Duration,
    /// Bytes of memory that are resident.
    pub resident: u64,
    /// Windows written by this recorder.
    pub windows_written: u64,
    /// Windows that could not be written.
    pub windows_dropped: u64,
    /// Windows that this recorder removed because of the limits.
    pub windows_removed: u64,
    /// Windows in the directory.
    pub files: u64,
    /// Bytes of them.
    pub disk_bytes: u64,
}

/// The metrics of each kind of event.
const KIND_SAMPLES: &str = "rprof_kind_samples_total";
const KIND_LOST: &str = "rprof_kind_samples_lost_total";

/// The ends that a user stack can have.
const ENDS: [(Count, &str); 7] = [
    (Count::StacksRoot, "root"),
    (Count::StacksFiber, "fiber"),
    (Count::StacksTruncated, "truncated"),
    (Count::StacksNoCfi, "no_unwind_information"),
    (Count::StacksBroken, "broken"),
    (Count::StacksTooDeep, "too_deep"),
    (Count::StacksNoRegisters, "no_registers"),
];

impl Status {
    /// The status of a recorder that begins now.
    #[must_use]
    pub fn new(command: &str, hertz: f64, max_overhead: Option<f64>) -> Status {
        Status {
            running: true,
            pid: std::process::id(),
            command: command.to_owned(),
            began: UnixNanos::from(SystemTime::now()),
            hertz,
            hertz_asked: hertz,
            max_overhead,
            ..Status::default()
        }
    }

    /// Writes the file: readers see the old one or the new one, and all of it. It holds the command line, so who may read it is told by the
    /// directory's mode.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn write(&self, path: &Path, mode: Mode) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".rprof.prom.").tempfile_in(output::folder(path))?;
        sys::set_mode(file.as_file(), mode.file())?;
        file.write_all(self.text().as_bytes())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let info = [("version", env!("CARGO_PKG_VERSION")), ("pid", &self.pid.to_string()), ("command", &self.command)];
        metric(&mut text, "rprof_info", "gauge", "The recorder.", &[(&info, 1.0)]);
        let mut plain =
            |name: &str, kind: &str, help: &str, value: f64| metric(&mut text, name, kind, help, &[(&[], value)]);
        plain("rprof_up", "gauge", "Whether the recorder runs.", f64::from(u8::from(self.running)));
        plain("rprof_start_time_seconds", "gauge", "When it began, since 1970.", self.began.0 as f64 / 1e9);
        plain("rprof_samples_total", "counter", "Samples of the target.", self.health.get(Count::Samples) as f64);
        let lost: u64 = self.counted.kinds().map(|(_, counted)| counted.lost).sum();
        plain("rprof_samples_lost_total", "counter", "Samples that the kernel dropped, of all kinds.", lost as f64);
        plain("rprof_frequency_hertz", "gauge", "Samples a second and CPU, now.", self.hertz);
        plain("rprof_frequency_asked_hertz", "gauge", "Samples a second and CPU, as asked for.", self.hertz_asked);
        plain("rprof_cpus", "gauge", "CPUs that are watched.", self.cpus as f64);
        if let Some(share) = self.max_overhead {
            plain("rprof_max_overhead_ratio", "gauge", "The share of the machine's CPU time that may be used.", share);
        }
        plain("rprof_cpu_seconds_total", "counter", "CPU time that the recorder used.", self.cpu.as_secs_f64());
        plain("rprof_resident_memory_bytes", "gauge", "Memory of the recorder.", self.resident as f64);
        plain("rprof_windows_written_total", "counter", "Windows written.", self.windows_written as f64);
        plain(
            "rprof_windows_dropped_total",
            "counter",
            "Windows that could not be written.",
            self.windows_dropped as f64,
        );
        plain(
            "rprof_windows_removed_total",
            "counter",
            "Windows removed because of the limits.",
            self.windows_removed as f64,
        );
        plain("rprof_files", "gauge", "Windows in the directory.", self.files as f64);
        plain("rprof_disk_bytes", "gauge", "Bytes of the windows in the directory.", self.disk_bytes as f64);
        let scales: Vec<_> = self.scales.iter().map(|(event, scale)| ([("event", &event[..])], *scale)).collect();
        let scales: Vec<(&[_], f64)> = scales.iter().map(|(labels, value)| (&labels[..], *value)).collect();
        let help = "How often each event is sampled, in proportion to what was asked for.";
        metric(&mut text, "rprof_event_scale_ratio", "gauge", help, &scales);
        self.kinds(&mut text);
        let ends = ENDS.map(|(row, end)| ([("end", end)], self.health.get(row) as f64));
        let ends: Vec<(&[_], f64)> = ends.iter().map(|(labels, value)| (&labels[..], *value)).collect();
        metric(&mut text, "rprof_stacks_total", "counter", "User stacks, by how their walk ended.", &ends);
        let rows = self.health.rows().map(|(row, number)| ([("row", row.name())], number as f64)).collect::<Vec<_>>();
        let rows: Vec<(&[_], f64)> = rows.iter().map(|(labels, value)| (&labels[..], *value)).collect();
        metric(&mut text, "rprof_health_total", "counter", "Everything that is counted.", &rows);
        text
    }
}

impl Status {
    /// What was counted of each kind of event.
    fn kinds(&self, text: &mut String) {
        let mut kind = |name: &str, help: &str, value: fn(&KindQuality) -> u64| {
            let rows: Vec<_> =
                self.counted.kinds().map(|(kind, counted)| ([("kind", kind)], value(counted) as f64)).collect();
            let rows: Vec<(&[_], f64)> = rows.iter().map(|(labels, value)| (&labels[..], *value)).collect();
            metric(text, name, "counter", help, &rows);
        };
        kind(KIND_SAMPLES, "Samples of each kind, in windows that ended.", |counted| counted.samples);
        kind(KIND_LOST, "Samples of each kind that the kernel dropped.", |counted| counted.lost);
    }
}

/// What the metrics of a status file tell of samples, losses and stacks.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole numbers")]
pub fn quality(metrics: &BTreeMap<String, f64>) -> Quality {
    let of_label = |name: &str, metric: &str, label: &str| -> Option<String> {
        let value = name.strip_prefix(metric)?.strip_prefix(&*format!("{{{label}=\""))?;
        value.strip_suffix("\"}").map(str::to_owned)
    };
    let mut quality = Quality::default();
    for (name, &value) in metrics {
        if let Some(kind) = of_label(name, KIND_SAMPLES, "kind") {
            quality.add(&kind, &KindQuality { samples: value as u64, ..KindQuality::default() });
        } else if let Some(kind) = of_label(name, KIND_LOST, "kind") {
            quality.add(&kind, &KindQuality { lost: value as u64, ..KindQuality::default() });
        } else if let Some(row) = of_label(name, "rprof_health_total", "row") {
            let row = Count::ALL.iter().find(|known| known.name() == row);
            row.into_iter().for_each(|&row| quality.health.add(row, value as u64));
        }
    }
    quality
}

type Labels<'a> = &'a [(&'a str, &'a str)];

fn metric(text: &mut String, name: &str, kind: &str, help: &str, values: &[(Labels<'_>, f64)]) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The text of a status file.
///
/// # Errors
/// If it cannot be read, or is no file.
pub fn text(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&sys::read_regular(path, false, LONGEST)?).into_owned())
}

/// Reads the metrics of a status file: each name with its labels as they are written, and its value.
///
/// # Errors
/// If the file cannot be read.
pub fn read(path: &Path) -> io::Result<BTreeMap<String, f64>> {
    let text = text(path)?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(STATUS);
        let mut status = Status::new("rprof record -- sh -c \"a\\b\nc\"", 19.0, Some(0.01));
        status.health.add(Count::StacksRoot, 7);
        for (kind, samples, lost) in [("cpu", 100, 7), ("off_cpu", 3000, 0)] {
            status.counted.add(kind, &KindQuality { samples, lost, ..KindQuality::default() });
        }
        status.disk_bytes = 5;
        status.write(&path, Mode::default()).unwrap();
        let read = read(&path).unwrap();
        assert_eq!(read["rprof_up"], 1.0);
        assert_eq!(read["rprof_disk_bytes"], 5.0);
        assert_eq!(read["rprof_stacks_total{end=\"root\"}"], 7.0);
        assert_eq!(read["rprof_health_total{row=\"stacks.root\"}"], 7.0);
        assert_eq!(read["rprof_kind_samples_lost_total{kind=\"cpu\"}"], 7.0);
        let quality = quality(&read);
        let told: Vec<_> = quality.kinds().map(|(kind, counted)| (kind, counted.lost_percent())).collect();
        assert_eq!(told, [("cpu", "6.54 %".to_owned()), ("off_cpu", "0.00 %".to_owned())]);
        assert_eq!(quality.complete_percent().as_deref(), Some("100.0 %"));
    }
}
