//! Why a recording has no sample.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{AccessFlags, access};

use crate::capture::{self, Live, Rate, Settings, Sharing, Target};
use crate::ids::{Tid, Unit};

/// `S_ISUID` and `S_ISGID` of a file's mode (inode(7)).
const SET_ID: u32 = 0o6000;

/// Why nothing was sampled, as far as that can be told. `lost` samples were dropped.
pub(super) fn reason(live: &Live, lost: u64) -> String {
    let settings = live.settings();
    if let Some(program) = shielded(live) {
        let program = program.display();
        return format!(
            "the kernel lets ordinary users sample no program that is set-uid or set-gid or that they may not read, as {program} is; run rprof as root"
        );
    }
    let lost = (lost > 0).then(|| {
        format!("{lost} samples of these CPUs were lost, as the rings were full: a lower -F or a larger -m mends that")
    });
    let facts = [of_target(settings), of_rate(settings), of_cpus(settings), of_modes(settings), lost];
    facts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// The program, where the kernel closed the events of an ordinary user when it was executed.
fn shielded(live: &Live) -> Option<PathBuf> {
    let settings = live.settings();
    if live.sharing() != Sharing::PerTask || !matches!(settings.target, Target::Command(_)) {
        return None;
    }
    let program = capture::found_in_path(settings.program.as_deref()?)?;
    let mode = fs::metadata(&program).ok()?.permissions().mode();
    (mode & SET_ID != 0 || access(&program, AccessFlags::R_OK).is_err()).then_some(program)
}

fn of_target(settings: &Settings) -> Option<String> {
    match &settings.target {
        Target::Command(_) => {
            let used = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
            let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
            let micros = micros(used.user_time()) + micros(used.system_time());
            Some(format!("the command used {:.1} ms of CPU time", micros as f64 / 1e3))
        }
        Target::Processes(pids) => {
            Some(asleep(&pids.iter().flat_map(|&pid| capture::threads(pid)).collect::<Vec<_>>()))
        }
        Target::Threads(tids) => Some(asleep(tids)),
        Target::System => Some("nothing ran".into()),
        Target::Cgroups(_) => Some("nothing of the cgroup ran".into()),
        Target::Selected(_) => Some("no process that was chosen ran".into()),
    }
}

/// What threads are about that used no CPU time.
fn asleep(threads: &[Tid]) -> String {
    let state =
        |tid: &Tid| procfs::process::Process::new(tid.0).and_then(|thread| thread.stat()).map(|stat| stat.state);
    let states: Vec<char> = threads.iter().filter_map(|tid| state(tid).ok()).filter(|state| *state != 'Z').collect();
    let sleep = states.iter().filter(|state| **state != 'R').count();
    match states.len() {
        0 => "the target has ended".into(),
        all if all == sleep => format!("the target did not run: its threads ({all}) are asleep; --off-cpu tells where"),
        all => format!("{sleep} of the target's {all} threads are asleep"),
    }
}

/// What one sample stands for, of a clock.
fn of_rate(settings: &Settings) -> Option<String> {
    let clock = settings.events.iter().find(|event| event.is_counted() && event.unit == Unit::Nanoseconds)?;
    let nanos = match clock.rate {
        Rate::Frequency(hertz) => 1_000_000_000 / hertz.max(1),
        Rate::Period(nanos) => nanos,
    };
    Some(format!("a sample is taken after {:.1} ms of it", Duration::from_nanos(nanos).as_secs_f64() * 1e3))
        .filter(|_| matches!(settings.target, Target::Command(_)))
}

fn of_cpus(settings: &Settings) -> Option<String> {
    let cpus: Vec<String> = settings.cpus.as_ref()?.iter().map(u32::to_string).collect();
    Some(format!("only CPU {} is looked at (-C)", cpus.join(",")))
}

fn of_modes(settings: &Settings) -> Option<String> {
    let events = &settings.events;
    if events.iter().all(|event| !event.kernel) {
        return Some("only user code is sampled".into());
    }
    events.iter().all(|event| !event.user).then(|| "only the kernel is sampled".into())
}
