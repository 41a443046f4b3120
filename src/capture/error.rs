//! Why nothing can be captured, told so that the user can mend it.

use std::io;

use super::bpf::BpfError;

/// Why nothing can be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The kernel refuses.
    #[error(
        "not allowed to {what}: perf_event_paranoid is {paranoid}{hint}\n  run as root, or give the program the privilege: setcap cap_perfmon,cap_sys_ptrace+ep $(which rprof)\n  or open it to everyone: sysctl kernel.perf_event_paranoid=-1"
    )]
    NotAllowed {
        /// What was refused.
        what: &'static str,
        /// Why root may be refused too; empty where that is not so.
        hint: &'static str,
        /// The sysctl.
        paranoid: String,
    },
    /// An event of the kernel alone, without the privilege to sample it.
    #[error(
        "event '{name}' samples the kernel alone, which is not allowed: perf_event_paranoid is {paranoid}\n  run as root, or give the program the privilege: setcap cap_perfmon+ep $(which rprof)\n  or open it to everyone: sysctl kernel.perf_event_paranoid=1"
    )]
    KernelNotAllowed {
        /// The event.
        name: String,
        /// The sysctl.
        paranoid: String,
    },
    /// The machine has no such event.
    #[error(
        "event '{name}' is not supported on this machine (no hardware counters: a virtual machine without a PMU?); try -e cpu-clock"
    )]
    NoSuchEvent {
        /// The event.
        name: String,
    },
    /// The kernel does not open it.
    #[error("cannot open event '{name}': {source}")]
    Open {
        /// The event.
        name: String,
        /// Its answer.
        source: io::Error,
    },
    /// The kernel does not take the filter of an event.
    #[error(
        "event '{name}' cannot be filtered by '{filter}': {source}; a filter compares the fields of a tracepoint, as in --filter 'prev_pid > 0' behind -e sched:sched_switch"
    )]
    Filter {
        /// The event.
        name: String,
        /// The filter.
        filter: String,
        /// Its answer.
        source: io::Error,
    },
    /// The kernel does not run programs of ours.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// Too many files.
    #[error(
        "too many events: {needed} files are needed and {limit} allowed; raise it (ulimit -n {needed}), or run with CAP_PERFMON, which needs one a CPU"
    )]
    Files {
        /// How many would be needed.
        needed: usize,
        /// `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// No memory may be locked for rings.
    #[error(
        "cannot map ring buffers: {0}; raise the limit (sysctl kernel.perf_event_mlock_kb=2048, or ulimit -l unlimited) or ask for less with -m"
    )]
    Rings(io::Error),
    /// No task to profile.
    #[error("no such process or thread: all of the target's have ended")]
    Gone,
    /// A cgroup that is not there.
    #[error("cannot open the cgroup: {0}")]
    Cgroup(io::Error),
    /// The list of CPUs is not readable, or none of those asked for is online.
    #[error("no CPU to profile: {0}")]
    Cpus(String),
}
