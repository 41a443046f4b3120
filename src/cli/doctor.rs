//! `rprof doctor`: what this kernel and these privileges allow, and the command that mends what they do not.
//!
//! First everything is read into a `Host`; the answers follow from that alone, so that tests can ask about hosts they do not run on.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use caps::{CapSet, Capability};
use nix::sys::resource::{Resource, getrlimit};

use crate::capture;

/// Tell what this kernel and these privileges allow, and the command that mends the rest
#[derive(clap::Args, Debug)]
pub struct DoctorArgs {}

/// Prints the report. Fails unless at least own commands can be recorded.
///
/// # Errors
/// Where standard output cannot be written.
pub fn run(_: &DoctorArgs) -> anyhow::Result<i32> {
    let host = Host::read();
    super::show::print(&report(&host))?;
    Ok(if own_commands(&host).works { 0 } else { 1 })
}

/// The capabilities that rprof can use, and for what.
const CAPABILITIES: [(Capability, &str); 9] = [
    (Capability::CAP_PERFMON, "events on any process, on whole CPUs and in the kernel"),
    (Capability::CAP_SYS_PTRACE, "the mappings and programs of other users' processes"),
    (Capability::CAP_SYSLOG, "the addresses of the kernel's functions"),
    (Capability::CAP_DAC_READ_SEARCH, "tracefs and programs that only their owner may read"),
    (Capability::CAP_IPC_LOCK, "rings larger than kernel.perf_event_mlock_kb"),
    (
        Capability::CAP_CHECKPOINT_RESTORE,
        "programs deleted while they run, with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
    ),
    (Capability::CAP_SYS_NICE, "rings emptied in time on a busy host"),
    (Capability::CAP_SYS_ADMIN, "in place of CAP_PERFMON, CAP_SYSLOG and CAP_CHECKPOINT_RESTORE"),
    (Capability::CAP_BPF, "times away from CPUs (off-cpu, wall, lock) and allocations, with CAP_PERFMON"),
];

/// Everything that rprof makes use of, in one command: each `setcap` replaces what the one before gave.
const SETCAP: &str = "sudo setcap cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_checkpoint_restore,cap_syslog,cap_sys_nice,cap_ipc_lock,cap_bpf+ep";

/// Everything that the answers follow from.
#[derive(Clone, Debug, Default)]
struct Host {
    kernel: String,
    program: String,
    capabilities: Vec<Capability>,
    /// `None`: the kernel has no perf events, or /proc/sys is hidden.
    paranoid: Option<i64>,
    kptr_restrict: Option<i64>,
    ptrace_scope: Option<i64>,
    mlock_kb: Option<i64>,
    max_rate: Option<i64>,
    max_stack: Option<i64>,
    /// Bytes that a process may lock.
    memlock: u64,
    /// The soft and the hard limit of open files.
    open_files: (u64, u64),
    cpus: usize,
    tracefs: Tracefs,
    kernel_types: bool,
    pmu: bool,
    kernel_names: bool,
    debug_files: bool,
    first_pid_namespace: bool,
    seccomp: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tracefs {
    #[default]
    NotMounted,
    NotReadable,
    Readable,
}

impl Host {
    fn read() -> Host {
        let limit = |resource| getrlimit(resource).unwrap_or_default();
        Host {
            kernel: text("/proc/sys/kernel/osrelease").unwrap_or_else(|| "of unknown version".to_owned()),
            program: std::env::current_exe().map_or_else(|_| "rprof".to_owned(), |path| path.display().to_string()),
            capabilities: CAPABILITIES.map(|(capability, _)| capability).into_iter().filter(|&c| has(c)).collect(),
            paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
            kptr_restrict: number("/proc/sys/kernel/kptr_restrict"),
            ptrace_scope: number("/proc/sys/kernel/yama/ptrace_scope"),
            mlock_kb: number("/proc/sys/kernel/perf_event_mlock_kb"),
            max_rate: number("/proc/sys/kernel/perf_event_max_sample_rate"),
            max_stack: number("/proc/sys/kernel/perf_event_max_stack"),
            memlock: limit(Resource::RLIMIT_MEMLOCK).0,
            open_files: limit(Resource::RLIMIT_NOFILE),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            tracefs: tracefs(),
            kernel_types: Path::new("/sys/kernel/btf/vmlinux").exists(),
            pmu: has_pmu(),
            kernel_names: kernel_names(),
            debug_files: fs::read_dir("/usr/lib/debug").is_ok_and(|mut entries| entries.next().is_some()),
            first_pid_namespace: capture::in_first_pid_namespace(),
            seccomp: text("/proc/self/status").is_some_and(|status| status.contains("\nSeccomp:\t2")),
        }
    }

    fn has(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// The kernel takes CAP_SYS_ADMIN for CAP_PERFMON, which it knows only since Linux 5.8.
    fn may_observe(&self) -> bool {
        self.has(Capability::CAP_PERFMON) || self.has(Capability::CAP_SYS_ADMIN)
    }

    /// Whether kernel.perf_event_paranoid lets through what is allowed up to a level, or a capability does.
    fn passes(&self, most: i64) -> bool {
        self.paranoid.is_some_and(|level| level <= most || self.may_observe())
    }
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

fn number(path: &str) -> Option<i64> {
    text(path)?.parse().ok()
}

fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

fn tracefs() -> Tracefs {
    let roots = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    let readable = |root: &&str| fs::read_to_string(format!("{root}/events/sched/sched_switch/id")).is_ok();
    if roots.iter().any(readable) {
        return Tracefs::Readable;
    }
    let mounted = text("/proc/self/mounts").is_some_and(|mounts| mounts.lines().any(|line| line.contains(" tracefs ")));
    if mounted { Tracefs::NotReadable } else { Tracefs::NotMounted }
}

/// Whether the CPU's own counters are listed. Hybrid CPUs and ARM name them otherwise than `cpu`.
fn has_pmu() -> bool {
    let names =
        fs::read_dir("/sys/bus/event_source/devices").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.into_string().ok()).any(|name| {
        matches!(name.as_str(), "cpu" | "cpu_core" | "cpu_atom")
            || name.starts_with("armv8")
            || name.starts_with("apple_")
    })
}

/// Whether /proc/kallsyms shows addresses: it shows zeros to those who may not know them.
fn kernel_names() -> bool {
    let is_address =
        |line: &str| line.split(' ').next().is_some_and(|address| address.bytes().any(|byte| byte != b'0'));
    fs::read_to_string("/proc/kallsyms").is_ok_and(|text| text.lines().take(100).any(is_address))
}

/// Whether something works, why, and what to do where it does not.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    what: &'static str,
    works: bool,
    why: String,
    mend: Vec<String>,
}

impl Answer {
    fn yes(what: &'static str, why: impl Into<String>) -> Answer {
        Answer { what, works: true, why: why.into(), mend: Vec::new() }
    }

    fn no(what: &'static str, why: impl Into<String>, mend: &[String]) -> Answer {
        Answer { what, works: false, why: why.into(), mend: mend.to_vec() }
    }

    /// By kernel.perf_event_paranoid: allowed up to this level.
    fn by_level(what: &'static str, host: &Host, most: i64) -> Answer {
        let Some(level) = host.paranoid else {
            return Answer::no(
                what,
                "this kernel has no perf events (CONFIG_PERF_EVENTS), or /proc/sys is hidden",
                &[],
            );
        };
        if level <= most {
            return Answer::yes(what, format!("kernel.perf_event_paranoid is {level}"));
        }
        if host.may_observe() {
            return Answer::yes(what, "by capability");
        }
        let why = format!("needs CAP_PERFMON, as kernel.perf_event_paranoid is {level} and not {most} or less");
        Answer::no(what, why, &[format!("sudo sysctl kernel.perf_event_paranoid={most}")])
    }
}

fn answers(host: &Host) -> [Answer; 7] {
    [
        own_commands(host),
        any_process(host),
        whole_system(host),
        kernel_stacks(host),
        tracepoints(host),
        times_away(host),
        kernel_functions(host),
    ]
}

/// Debian and Ubuntu know the levels 3 and 4, which refuse everything.
fn own_commands(host: &Host) -> Answer {
    let answer = Answer::by_level("own commands", host, 2);
    if answer.works && host.seccomp && !host.may_observe() {
        let mend = "give the container CAP_PERFMON, or a seccomp profile that allows perf_event_open".to_owned();
        return Answer {
            why: format!("{}, but a seccomp filter may refuse it", answer.why),
            mend: vec![mend],
            ..answer
        };
    }
    answer
}

/// Events on another user's task need CAP_PERFMON or the right to trace it; its mappings and programs, the latter.
fn any_process(host: &Host) -> Answer {
    let what = "any process";
    if !host.first_pid_namespace {
        let mend = "run it in the host's PID namespace, as by docker run --pid=host …".to_owned();
        return Answer::no(what, "this is a container: processes outside it cannot be seen", &[mend]);
    }
    match (host.may_observe(), host.has(Capability::CAP_SYS_PTRACE)) {
        (true, true) => Answer::yes(what, "by capability"),
        (true, false) => Answer::no(what, "other users' programs cannot be read without CAP_SYS_PTRACE", &[]),
        (false, _) => {
            Answer::no(what, "needs CAP_PERFMON and CAP_SYS_PTRACE; only those of this user can be recorded", &[])
        }
    }
}

fn whole_system(host: &Host) -> Answer {
    Answer::by_level("whole system", host, 0)
}

fn kernel_stacks(host: &Host) -> Answer {
    Answer::by_level("kernel stacks", host, 1)
}

fn tracepoints(host: &Host) -> Answer {
    let what = "tracepoints";
    match host.tracefs {
        Tracefs::NotMounted => {
            let mend = "sudo mount -t tracefs tracefs /sys/kernel/tracing".to_owned();
            Answer::no(what, "tracefs is not mounted", &[mend])
        }
        Tracefs::NotReadable => {
            let mend =
                "sudo mount -o remount,mode=755 /sys/kernel/tracing && sudo sysctl kernel.perf_event_paranoid=-1"
                    .to_owned();
            Answer::no(what, "needs CAP_PERFMON, and CAP_DAC_READ_SEARCH to read tracefs", &[mend])
        }
        Tracefs::Readable => Answer::by_level(what, host, -1),
    }
}

fn times_away(host: &Host) -> Answer {
    let what = "times away from CPUs";
    if !host.kernel_types {
        return Answer::no(what, "this kernel does not tell its types (CONFIG_DEBUG_INFO_BTF)", &[]);
    }
    let may_load = host.has(Capability::CAP_BPF) || host.has(Capability::CAP_SYS_ADMIN);
    if may_load && host.may_observe() {
        return Answer::yes(what, "by capability");
    }
    Answer::no(what, "needs CAP_BPF and CAP_PERFMON, to load BPF programs", &[])
}

fn kernel_functions(host: &Host) -> Answer {
    let what = "names of kernel functions";
    if host.kernel_names {
        return Answer::yes(what, "/proc/kallsyms shows addresses");
    }
    if host.kptr_restrict == Some(2) {
        let mend = "sudo sysctl kernel.kptr_restrict=1".to_owned();
        return Answer::no(what, "kernel.kptr_restrict is 2: nobody sees addresses", &[mend]);
    }
    let mend = "sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1".to_owned();
    Answer::no(what, "needs CAP_SYSLOG: /proc/kallsyms shows no addresses", &[mend])
}

/// Something worth knowing that does not decide by itself what can be recorded.
struct Finding {
    mark: &'static str,
    name: String,
    value: String,
}

const GOOD: &str = "yes";
const BAD: &str = "no";
const NEUTRAL: &str = "-";

fn finding(good: Option<bool>, name: &str, value: impl Into<String>) -> Finding {
    let mark = good.map_or(NEUTRAL, |good| if good { GOOD } else { BAD });
    Finding { mark, name: name.to_owned(), value: value.into() }
}

fn findings(host: &Host) -> Vec<Finding> {
    let mut all = limits(host);
    all.extend(surroundings(host));
    all.extend(
        CAPABILITIES
            .iter()
            .map(|(capability, use_)| finding(Some(host.has(*capability)), &capability.to_string(), *use_)),
    );
    all
}

fn limits(host: &Host) -> Vec<Finding> {
    let shown = |value: Option<i64>| value.map_or_else(|| "not there".to_owned(), |value| value.to_string());
    let rings = if host.has(Capability::CAP_IPC_LOCK) || host.paranoid == Some(-1) {
        "rings of any size, by privilege".to_owned()
    } else {
        format!("{} KiB of rings a CPU, and {} beyond that in all", shown(host.mlock_kb), size(host.memlock))
    };
    let (soft, hard) = host.open_files;
    vec![
        finding(None, "kernel.perf_event_paranoid", shown(host.paranoid)),
        finding(None, "kernel.kptr_restrict", shown(host.kptr_restrict)),
        finding(None, "kernel.yama.ptrace_scope", shown(host.ptrace_scope)),
        finding(None, "kernel.perf_event_mlock_kb", rings),
        finding(None, "kernel.perf_event_max_sample_rate", shown(host.max_rate)),
        finding(
            None,
            "kernel.perf_event_max_stack",
            format!("{} frames where the kernel walks a stack", shown(host.max_stack)),
        ),
        finding(None, "open files", format!("{soft}, at most {hard}; {}", files_needed(host))),
    ]
}

fn files_needed(host: &Host) -> String {
    if host.passes(0) {
        format!("some {} are needed, whatever the target", 4 * host.cpus)
    } else {
        format!("{} for each thread of the target, as events on CPUs are not allowed", host.cpus)
    }
}

fn surroundings(host: &Host) -> Vec<Finding> {
    let either = |condition: bool, yes: &str, no: &str| if condition { yes.to_owned() } else { no.to_owned() };
    vec![
        finding(
            Some(host.pmu),
            "CPU's counters (PMU)",
            either(
                host.pmu,
                "cycles can be sampled",
                "no cycles here, as in most virtual machines: cpu-clock, a timer, takes their place",
            ),
        ),
        finding(
            Some(host.kernel_types),
            "BTF",
            either(host.kernel_types, "/sys/kernel/btf/vmlinux", "this kernel does not tell its types"),
        ),
        finding(
            Some(host.debug_files),
            "debug files",
            either(
                host.debug_files,
                "in /usr/lib/debug",
                "none in /usr/lib/debug: lines and inlined functions only of programs built with -g",
            ),
        ),
        finding(
            None,
            "PID namespace",
            either(host.first_pid_namespace, "the host's", "a container's: PIDs here are not those of the host"),
        ),
        finding(
            None,
            "seccomp",
            either(host.seccomp, "a filter is set, which may refuse perf_event_open", "no filter"),
        ),
    ]
}

fn size(bytes: u64) -> String {
    if bytes == u64::MAX { "without limit".to_owned() } else { format!("{} KiB", bytes / 1024) }
}

fn report(host: &Host) -> String {
    let mut text = format!("Linux {}, {} CPUs\n\nWhat can be recorded\n", host.kernel, host.cpus);
    let answers = answers(host);
    for answer in &answers {
        let mark = if answer.works { GOOD } else { BAD };
        line(&mut text, mark, answer.what, &answer.why);
        answer.mend.iter().for_each(|command| line(&mut text, "", "", &format!("  mend: {command}")));
    }
    if answers.iter().any(|answer| answer.why.contains("CAP_")) {
        let _ = writeln!(text, "\nAll of it for this program alone\n  {SETCAP} {}", host.program);
    }
    text.push_str("\nWhat that follows from\n");
    for finding in findings(host) {
        line(&mut text, finding.mark, &finding.name, &finding.value);
    }
    text
}

/// A line of the table. Writing to a string cannot fail.
fn line(text: &mut String, mark: &str, name: &str, value: &str) {
    let _ = writeln!(text, "  {mark:<4}{name:<35}{value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian() -> Host {
        Host {
            kernel: "6.1.0".to_owned(),
            program: "/usr/bin/rprof".to_owned(),
            paranoid: Some(2),
            kptr_restrict: Some(1),
            cpus: 2,
            first_pid_namespace: true,
            tracefs: Tracefs::NotReadable,
            ..Host::default()
        }
    }

    fn works(host: &Host) -> [bool; 7] {
        answers(host).map(|answer| answer.works)
    }

    #[test]
    fn a_plain_user_records_own_commands_alone() {
        assert_eq!(works(&debian()), [true, false, false, false, false, false, false]);
        assert!(report(&debian()).contains("cap_ipc_lock,cap_bpf+ep /usr/bin/rprof\n"));
    }

    #[test]
    fn levels_of_distributions_refuse_even_that() {
        let host = Host { paranoid: Some(3), ..debian() };
        assert_eq!(works(&host), [false; 7]);
        assert!(own_commands(&host).mend.contains(&"sudo sysctl kernel.perf_event_paranoid=2".to_owned()));
    }

    #[test]
    fn the_level_alone_opens_the_system_but_not_other_users_programs() {
        let host = Host { paranoid: Some(-1), tracefs: Tracefs::Readable, kernel_names: true, ..debian() };
        assert_eq!(works(&host), [true, false, true, true, true, false, true]);
    }

    #[test]
    fn capabilities_open_everything() {
        let capabilities = vec![Capability::CAP_PERFMON, Capability::CAP_SYS_PTRACE, Capability::CAP_BPF];
        let host = Host {
            capabilities,
            kernel_types: true,
            tracefs: Tracefs::Readable,
            kernel_names: true,
            paranoid: Some(4),
            ..debian()
        };
        assert_eq!(works(&host), [true; 7]);
        assert!(!report(&host).contains("setcap"));
    }

    #[test]
    fn a_container_sees_only_itself_and_a_filter_is_told() {
        let host = Host { first_pid_namespace: false, seccomp: true, ..debian() };
        assert!(own_commands(&host).works && !own_commands(&host).mend.is_empty());
        assert!(any_process(&host).why.contains("container"));
    }

    #[test]
    fn a_kernel_without_perf_events_says_so() {
        assert!(own_commands(&Host { paranoid: None, ..debian() }).why.contains("CONFIG_PERF_EVENTS"));
    }

    #[test]
    fn this_host_can_be_read() {
        let host = Host::read();
        assert!(
            !host.kernel.is_empty() && host.cpus > 0 && report(&host).lines().all(|line| line.chars().count() < 160)
        );
    }
}
