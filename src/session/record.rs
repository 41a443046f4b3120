//! One recording: open, sample until the end, name, write.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::screen::{Screen, Summary};
use super::signals::Signals;
use crate::capture::{CallGraph, CaptureError, Live, Settings, Sharing, Target};
use crate::collect::{Collector, Frame, Span, Window};
use crate::encode::{self, FileError, Format};
use crate::health::{Count, Health};
use crate::ids::{Pid, Unit};
use crate::profile::{self, Profile};
use crate::symbol::Symbolizer;
use crate::sys::child::Child;
use crate::sys::{self, Priority};

/// How often the rings are drained when nothing fills them earlier. A wake-up costs ten times what a sample's copy does, so none is
/// made for a sample.
const DRAIN: Duration = Duration::from_millis(100);

/// How often it is looked whether the target still lives, and the live line is drawn.
const LOOK: Duration = Duration::from_secs(1);

/// A share of stacks that were cut, above which a larger copy is taken.
const CUT_SHARE: f64 = 0.005;

/// When to sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// How long to wait before sampling begins.
    pub delay: Duration,
    /// How long to sample; until the target ends, or a signal comes, where `None`.
    pub duration: Option<Duration>,
}

/// Where the profile goes.
pub struct Output {
    /// The file; `-` is the standard output.
    pub path: PathBuf,
    /// Its format.
    pub format: &'static Format,
}

/// What to record.
pub struct Recording {
    /// Events and target.
    pub settings: Settings,
    /// When.
    pub timing: Timing,
    /// A command to run meanwhile: the target itself, or a timer (`-p PID -- sleep 10`).
    pub child: Option<Child>,
    /// The command line, as the profile tells it.
    pub command: String,
    /// Where the profile goes.
    pub output: Output,
    /// Names frames.
    pub symbolizer: Symbolizer,
    /// Whether to tell every row of the table of health at the end.
    pub verbose: bool,
}

/// Why a recording failed.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// No events could be opened.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The command could not be run.
    #[error("cannot run {command}: {source}")]
    Command {
        /// The command.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// The profile could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The kernel refused something that it never should.
    #[error("cannot {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Records, and answers the exit status: the command's own, or 128 and the number of the signal that ended the recording.
///
/// # Errors
/// [`RecordingError`]; nothing is written then.
pub fn record(recording: Recording, screen: &Screen) -> Result<i32, RecordingError> {
    let Recording { settings, timing, mut child, command, output, mut symbolizer, verbose } = recording;
    sys::survive_truncated_files();
    let signals = Signals::listen().map_err(|source| RecordingError::System { what: "listen for signals", source })?;
    let target = settings.target.clone();
    let live = Live::open(settings)?;
    live.notes().iter().for_each(|note| screen.say(note));
    let mut session = Session::new(live, screen);
    session.know(&target)?;
    session.begin(timing.delay, child.as_mut())?;
    session.run(timing, child.as_mut(), &signals);
    let (elapsed, window) = session.finish(&target, &command, &signals);
    if let Some(child) = &mut child {
        child.terminate();
    }
    let restricted = kernel_names_hidden(&window, &mut symbolizer);
    let cpus = cpus_used(&window);
    let profile = profile::build(window, &mut symbolizer, &mut |done, total| screen.naming(done, total));
    encode::write_file(&output.path, output.format, &profile)?;
    if restricted {
        screen.say("the kernel's functions have no names: /proc/kallsyms shows no addresses (run with CAP_SYSLOG, or sysctl kernel.kptr_restrict=0)");
    }
    screen.sum_up(&summary(&profile, elapsed, cpus, &output), verbose);
    Ok(match child {
        Some(child) => wait(child, &signals, screen),
        None => signals.received().map_or(0, |signal| 128 + signal),
    })
}

/// Whether frames of the kernel stay without names, because this user may not see its addresses.
fn kernel_names_hidden(window: &Window, symbolizer: &mut Symbolizer) -> bool {
    let kernel = window.stacks.distinct_frames().iter().any(|frame| matches!(frame, Frame::Kernel(_)));
    kernel && symbolizer.kernel_restricted()
}

/// Waits for the command that was asked to end, with the file written already; who loses patience may signal again, which ends it.
fn wait(mut child: Child, signals: &Signals, screen: &Screen) -> i32 {
    signals.forget();
    let asked = Instant::now();
    let mut said = false;
    loop {
        if let Some(status) = child.try_wait() {
            return status;
        }
        if signals.received().is_some() {
            child.kill();
        }
        if !said && asked.elapsed() > LOOK {
            said = true;
            screen.say(&format!("waiting for {} to end; ^C kills it", child.program()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn summary<'a>(profile: &'a Profile, elapsed: Duration, cpus: Option<f64>, output: &Output) -> Summary<'a> {
    let size = fs::metadata(&output.path)
        .ok()
        .filter(fs::Metadata::is_file)
        .map(|meta| format!(" ({} KB)", meta.len().div_ceil(1024)));
    Summary {
        profile,
        elapsed,
        cpus,
        own_cpu: Duration::from_nanos(sys::cpu_time()),
        own_memory: sys::peak_memory(),
        file: format!("{}{}", output.path.display(), size.unwrap_or_default()),
    }
}

/// How many CPUs the target used, if its first event counts time.
fn cpus_used(window: &Window) -> Option<f64> {
    window.events.first().filter(|event| event.unit == Unit::Nanoseconds)?;
    let weight: u64 = window.samples.iter().filter(|(key, _)| key.event == 0).map(|(_, tally)| tally.weight).sum();
    Some(weight as f64 / window.duration.as_nanos().max(1) as f64)
}

struct Session<'a> {
    ordinary: Priority,
    /// Whether a larger copy of stacks was tried and refused.
    refused: bool,
    live: Live,
    collector: Collector,
    health: Health,
    screen: &'a Screen,
    start: SystemTime,
    began: Instant,
}

impl<'a> Session<'a> {
    fn new(live: Live, screen: &'a Screen) -> Session<'a> {
        let collector = Collector::new(live.events().len(), live.graph());
        // The rings must be emptied in time on a busy host. Naming is in no hurry.
        let ordinary = Priority::current();
        Priority::FIRST.set();
        Session {
            refused: false,
            ordinary,
            live,
            collector,
            health: Health::default(),
            screen,
            start: SystemTime::now(),
            began: Instant::now(),
        }
    }

    /// What runs already is read once its changes are being recorded, so that nothing falls in between.
    fn know(&mut self, target: &Target) -> Result<(), RecordingError> {
        self.live.watch_processes().map_err(|source| RecordingError::System { what: "watch processes", source })?;
        match target {
            Target::System | Target::Cgroups(_) => self.collector.know_all(),
            Target::Processes(pids) => self.collector.know(pids),
            Target::Threads(tids) => {
                let pids: Vec<Pid> = tids.iter().filter_map(|&tid| crate::capture::process_of(tid)).collect();
                self.collector.know(&pids);
            }
            Target::Command(pid) => self.collector.know(&[*pid]),
            // Read at their first sample.
            Target::Selected(_) => {}
        }
        Ok(())
    }

    /// Starts sampling and releases the command.
    fn begin(&mut self, delay: Duration, child: Option<&mut Child>) -> Result<(), RecordingError> {
        if delay.is_zero() && !self.live.enables_on_exec() {
            self.live.enable().map_err(|source| RecordingError::System { what: "start the events", source })?;
        }
        if let Some(child) = child {
            let released = child.release();
            released.map_err(|source| RecordingError::Command { command: child.program().to_owned(), source })?;
        }
        self.start = SystemTime::now();
        self.began = Instant::now();
        Ok(())
    }

    fn run(&mut self, timing: Timing, mut child: Option<&mut Child>, signals: &Signals) {
        let mut delayed = !timing.delay.is_zero();
        let mut looked = Instant::now();
        loop {
            let elapsed = self.began.elapsed();
            let end = timing.duration.map(|duration| timing.delay * u32::from(delayed) + duration);
            let next = [Some(elapsed + DRAIN), delayed.then_some(timing.delay), end].into_iter().flatten().min();
            let fds: Vec<_> =
                [Some(signals.fd()), child.as_ref().and_then(|child| child.pidfd())].into_iter().flatten().collect();
            self.live.wait(&fds, next.unwrap_or_default().saturating_sub(elapsed));
            self.drain(false);
            self.adapt();
            if delayed && self.began.elapsed() >= timing.delay {
                delayed = false;
                self.start_late();
            }
            let ended = child.as_mut().is_some_and(|child| child.try_wait().is_some());
            if ended || signals.received().is_some() || end.is_some_and(|end| self.began.elapsed() >= end && !delayed) {
                return;
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                if child.is_none() && self.live.is_over() {
                    return;
                }
                self.show();
            }
        }
    }

    /// After the delay of `-D`; the window begins here.
    fn start_late(&mut self) {
        if let Err(error) = self.live.enable() {
            self.screen.say(&format!("cannot start the events: {error}"));
        }
        self.start = SystemTime::now();
        self.began = Instant::now();
    }

    /// Passes all complete records on; samples that wait for an image are waited for.
    fn drain(&mut self, everything: bool) {
        // A sample that waits still needs its process.
        if !self.collector.is_waiting() {
            self.collector.sweep();
        }
        let began = Instant::now();
        loop {
            self.collector.load(self.live.fullness() > 0.5, &mut self.health);
            let collector = &mut self.collector;
            self.live.drain(everything, &mut self.health, |record, health| collector.record(record, health));
            // Signals and the end must be looked at in between.
            if !self.collector.is_waiting() || (!everything && began.elapsed() >= DRAIN) {
                return;
            }
        }
    }

    /// Takes a larger copy of stacks, once enough of them were seen to be longer.
    fn adapt(&mut self) {
        let (old, most) = (self.live.stack_bytes(), self.live.most_stack_bytes());
        // Events on tasks have children on the tasks that were started since, which new ones would not have.
        let fixed = self.live.graph() != CallGraph::Auto || self.live.sharing() == Sharing::PerTask || self.refused;
        if fixed || old >= most {
            return;
        }
        let Some(pressure) = self.collector.take_pressure() else { return };
        if pressure.cut < 2 || pressure.cut as f64 <= CUT_SHARE * pressure.stacks as f64 {
            return;
        }
        let new = (old * 2).min(most);
        let grown = self.live.set_stack_bytes(new).map_err(|error| error.to_string());
        let grown = grown.and_then(|()| self.live.enable().map_err(|error| error.to_string()));
        let (cut, stacks) = (pressure.cut, pressure.stacks);
        match grown {
            Ok(()) => self.screen.say(&format!(
                "{cut} of {stacks} stacks were longer than the {} KB copied of each: copying {} KB",
                old >> 10,
                (new + 8) >> 10
            )),
            Err(error) => {
                self.refused = true;
                self.screen.say(&format!("cannot copy more of each stack: {error}"));
            }
        }
    }

    /// The live line.
    fn show(&self) {
        let lost = self.live.losses().map_or(self.health.get(Count::RecordsLost), |lost| lost.iter().sum());
        let elapsed = self.began.elapsed();
        let time = self.live.events().first().is_some_and(|event| event.unit == Unit::Nanoseconds);
        let cpus = time.then(|| self.collector.weight() as f64 / elapsed.as_nanos() as f64);
        self.screen.show(elapsed, self.health.get(Count::Samples), lost, cpus);
    }

    fn finish(mut self, target: &Target, command: &str, signals: &Signals) -> (Duration, Window) {
        self.live.disable();
        let elapsed = self.began.elapsed();
        self.drain(true);
        self.ordinary.set();
        let lost = self.live.losses();
        let main_process = match target {
            Target::Command(pid) => Some(*pid),
            Target::Processes(pids) => pids.first().copied(),
            Target::Threads(tids) => tids.first().and_then(|&tid| crate::capture::process_of(tid)),
            Target::System | Target::Cgroups(_) | Target::Selected(_) => None,
        };
        let comments = self.comments(command, signals);
        let span = Span { start: self.start, duration: elapsed, main_process, comments };
        (elapsed, self.collector.finish(span, self.live.events(), lost.as_deref(), self.health))
    }

    fn comments(&self, command: &str, signals: &Signals) -> Vec<String> {
        let host = nix::sys::utsname::uname().map_or(String::new(), |uname| {
            format!(
                "host: {} {} {}",
                uname.nodename().to_string_lossy(),
                uname.release().to_string_lossy(),
                uname.machine().to_string_lossy()
            )
        });
        let sharing = match self.live.sharing() {
            Sharing::PerCpu => "events: one a CPU",
            Sharing::PerTask => "events: one a task and CPU",
        };
        let stack = format!("stack bytes copied: {}", self.live.stack_bytes());
        let mut comments = vec![
            concat!("rprof ", env!("CARGO_PKG_VERSION")).to_owned(),
            format!("{}{command}", profile::COMMAND),
            host,
            sharing.into(),
            stack,
        ];
        comments.extend(self.live.notes().iter().cloned());
        comments.extend(signals.received().map(|signal| format!("ended by signal {signal}")));
        comments
    }
}
