//! One recording: open, sample until the end, name, write.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::control::{Command, Control, ControlPlace};
use super::perf_data::{Closing, PerfData, PerfDataError};
use super::sampler::{ALLOCATIONS, DRAIN, Sampler};
use super::screen::{Screen, Summary};
use super::signals::Signals;
use super::silence;
use crate::capture::{CaptureError, Live, Settings};
use crate::collect::{Frame, OFF_CPU_STACKS, Window};
use crate::encode::{self, FileError, Format};
use crate::ids::Timestamp;
use crate::profile::{self, Profile};
use crate::store::{self, Mode, Source, StoreError, WindowName, Writer};
use crate::symbol::Symbolizer;
use crate::sys;
use crate::sys::child::Child;

/// How often it is looked whether the target still lives, and the live line is drawn.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// When to sample.
#[derive(Clone, Debug, Default)]
pub struct Timing {
    /// How long to wait before sampling begins.
    pub delay: Duration,
    /// How long to sample; until the target ends, or a signal comes, where `None`.
    pub duration: Option<Duration>,
    /// When to stop sampling and when to go on, by turns, each since the start.
    pub turns: Vec<Duration>,
    /// Whether sampling begins only when somebody asks for it, by a line of commands.
    pub disabled: bool,
}

/// Where the profile goes.
pub enum Output {
    /// Into one file; `-` is the standard output.
    File(PathBuf),
    /// Sample by sample into perf.data.
    PerfData(PerfData),
    /// As a window into a directory of them: a snapshot.
    Window(PathBuf, Option<Mode>),
}

/// What to record.
pub struct Recording {
    /// Events and target.
    pub settings: Settings,
    /// When.
    pub timing: Timing,
    /// Where commands come from while it runs.
    pub control: Option<ControlPlace>,
    /// A command to run meanwhile: the target itself, or a timer (`-p PID -- sleep 10`).
    pub child: Option<Child>,
    /// The command line, as the profile tells it.
    pub command: String,
    /// The format of what is written.
    pub format: &'static Format,
    /// Whether each sample keeps its time.
    pub times: bool,
    /// Labels that every sample gets: keys and values.
    pub labels: Vec<(String, String)>,
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
    /// Samples could not be written.
    #[error(transparent)]
    PerfData(#[from] PerfDataError),
    /// The directory of windows cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
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
pub fn record(recording: Recording, output: &Output, screen: &Screen) -> Result<i32, RecordingError> {
    let Recording { settings, timing, control, mut child, command, format, times, labels, mut symbolizer, verbose } =
        recording;
    let perf_data = if let Output::PerfData(data) = output { Some(data) } else { None };
    let signals = if perf_data.is_some() { Signals::listen_for_files() } else { Signals::listen() };
    let signals = signals.map_err(|source| RecordingError::System { what: "listen for signals", source })?;
    let mut writer = match output {
        Output::Window(directory, mode) => Some(Writer::open_with(directory, Source::Snapshot, *mode)?),
        Output::File(_) | Output::PerfData(_) => None,
    };
    let control = control.as_ref().map(Control::open).transpose();
    let control = control.map_err(|source| RecordingError::System { what: "open the line of commands", source })?;
    let mut sampler = Sampler::open(settings, &command, perf_data, screen)?;
    if times {
        sampler.keep_times();
    }
    let waits = timing.disabled || !timing.delay.is_zero();
    sampler.begin(waits, child.as_mut())?;
    if waits {
        screen.say_plainly(DISABLED);
    }
    let mut run = Run::new(&mut sampler, &timing, child.as_mut(), &signals, control, screen);
    let ran = run.until_the_end();
    let end = sampler.stop();
    signals.let_kill();
    if let Some(child) = &mut child {
        child.terminate();
    }
    ran?;
    let closing = sampler.finish_files(end)?;
    let ended = signals.received().map(|signal| format!("ended by signal {signal}"));
    let scales = sampler.live.scales().to_vec();
    let window = sampler.seal(end, &scales, ended.into_iter().collect());
    let told = |line: &&String| [ALLOCATIONS, OFF_CPU_STACKS].iter().any(|begins| line.starts_with(begins));
    window.comments.iter().filter(told).for_each(|line| screen.say(line));
    unmet_probes(&sampler.live).for_each(|name| {
        screen.say(&format!("{name}: no call of it was met; the target did not come by, or never mapped that file"));
    });
    let restricted = kernel_names_hidden(&window, &mut symbolizer);
    let mut summary = Summary {
        elapsed: window.duration,
        cpus: cpus_used(&window, sampler.weight()),
        silence: window.is_silent().then(|| silence::reason(&sampler.live, window.lost())),
        ..Summary::default()
    };
    let mut naming = |done, total| screen.naming(done, total);
    let apart = writer.is_some() || window.events.iter().any(|event| event.apart);
    let several = window.events.len() > 1;
    let windows = if apart && closing.is_none() { window.split() } else { vec![window] };
    for window in windows {
        let mut profile = profile::build(window, &mut symbolizer, &mut naming);
        profile.add_labels(&labels);
        summary.files.extend(match (output, &mut writer) {
            // They are written already.
            (Output::PerfData(_), _) => None,
            (Output::Window(..), Some(writer)) => {
                let written = writer.write(&window_name(&profile, Source::Snapshot), &profile, format)?;
                Some(size_of(&written.path))
            }
            (Output::File(path) | Output::Window(path, _), _) => {
                let path = if apart && several { named_after(path, format, &profile) } else { path.clone() };
                encode::write_file(&path, format, &profile)?;
                Some(size_of(&path))
            }
        });
        summary.profile.get_or_insert(profile);
    }
    if restricted {
        screen.say(KERNEL_HIDDEN);
    }
    summary.own_cpu = Duration::from_nanos(sys::cpu_time());
    summary.own_memory = sys::peak_memory();
    screen.sum_up(&summary, verbose);
    closing.iter().flat_map(Closing::lines).for_each(|line| screen.say_plainly(&line));
    Ok(match child {
        Some(child) => wait(child, &signals, screen),
        None => signals.received().map_or(0, |signal| 128 + signal),
    })
}

/// What is said where sampling begins, and where it pauses: in perf's words, which scripts wait for.
const ENABLED: &str = "Events enabled";
const DISABLED: &str = "Events disabled";

/// What is said where the kernel's functions have no names.
pub(super) const KERNEL_HIDDEN: &str = "the kernel's functions have no names: /proc/kallsyms shows no addresses (run with CAP_SYSLOG, or sysctl kernel.kptr_restrict=0)";

/// The name of a window in a store, by what its profile tells.
pub(super) fn window_name(profile: &Profile, source: Source) -> WindowName {
    let kind = profile.text(profile.default_sample_type);
    let host = nix::sys::utsname::uname().map_or("localhost".into(), |uname| uname.nodename().to_string_lossy().into());
    let start = profile.time_nanos;
    WindowName {
        host,
        kind: kind.to_owned(),
        source,
        level: store::Level::Window,
        start: crate::ids::UnixNanos(start),
        end: crate::ids::UnixNanos(start.saturating_add(profile.duration_nanos)),
    }
}

/// The probes of programs that nobody ran into.
fn unmet_probes(live: &Live) -> impl Iterator<Item = &str> {
    let events = live.events().iter().zip(live.taken());
    events.filter(|(event, taken)| event.uprobe.is_some() && **taken == 0).map(|(event, _)| &*event.name)
}

/// A recording between its beginning and its end.
struct Run<'a, 'b> {
    sampler: &'a mut Sampler<'b>,
    child: Option<&'a mut Child>,
    signals: &'a Signals,
    control: Option<Control>,
    screen: &'a Screen,
    /// When sampling begins, until it has.
    begins: Option<Timestamp>,
    duration: Option<Duration>,
    /// When to stop and when to go on, by turns.
    turns: VecDeque<Timestamp>,
    samples: bool,
    looked: Instant,
}

impl<'a, 'b> Run<'a, 'b> {
    fn new(
        sampler: &'a mut Sampler<'b>,
        timing: &Timing,
        child: Option<&'a mut Child>,
        signals: &'a Signals,
        control: Option<Control>,
        screen: &'a Screen,
    ) -> Run<'a, 'b> {
        let start = sampler.start().clock;
        Run {
            begins: (!timing.disabled && !timing.delay.is_zero()).then(|| start.after(timing.delay)),
            duration: timing.duration,
            turns: timing.turns.iter().map(|&turn| start.after(turn)).collect(),
            samples: true,
            looked: Instant::now(),
            sampler,
            child,
            signals,
            control,
            screen,
        }
    }

    /// Samples until the end of the time, the command or the target, or until a signal or a command comes.
    fn until_the_end(&mut self) -> Result<(), RecordingError> {
        loop {
            let start = self.begins.unwrap_or(self.sampler.start().clock);
            let end = self.duration.map(|duration| start.after(duration));
            let next = [self.begins, end, self.turns.front().copied()].into_iter().flatten().min();
            self.wait(next.map_or(DRAIN, |next: Timestamp| next.since(sys::now())));
            self.sampler.drain(Live::settled());
            self.sampler.adapt();
            self.keep_time()?;
            let stopped = self.obey()?;
            let ended = self.child.as_mut().is_some_and(|child| child.try_wait().is_some());
            let over = self.begins.is_none() && end.is_some_and(|end| end <= sys::now());
            if stopped || ended || over || self.signals.received().is_some() {
                return Ok(());
            }
            let cut = self.signals.take_cut() || self.sampler.reached_a_size();
            if cut || self.looked.elapsed() >= LOOK {
                if self.child.is_none() && self.sampler.live.is_over() {
                    return Ok(());
                }
                self.sampler.count_left_out();
                if !self.flush(cut)? {
                    return Ok(());
                }
            }
        }
    }

    fn wait(&mut self, timeout: Duration) {
        let child = self.child.as_ref().and_then(|child| child.pidfd());
        let control = self.control.as_ref().and_then(Control::fd);
        let fds: Vec<_> = [Some(self.signals.fd()), child, control].into_iter().flatten().collect();
        self.sampler.wait(&fds, timeout);
    }

    /// Answers whether there is room for more.
    fn flush(&mut self, asked: bool) -> Result<bool, RecordingError> {
        self.looked = Instant::now();
        let room = self.sampler.flush(asked)?;
        self.sampler.show();
        Ok(room)
    }

    /// Begins, stops and goes on when it is time to.
    fn keep_time(&mut self) -> Result<(), RecordingError> {
        let now = sys::now();
        if self.begins.take_if(|begins| *begins <= now).is_some() {
            self.sampler.enable()?;
            self.screen.say_plainly(ENABLED);
        }
        while self.turns.front().is_some_and(|turn| *turn <= now) {
            self.turns.pop_front();
            self.samples = !self.samples;
            self.sampler.turn(self.samples, None)?;
            self.screen.say_plainly(if self.samples { ENABLED } else { DISABLED });
        }
        Ok(())
    }

    /// Does what is asked for by commands; answers whether it is to end.
    fn obey(&mut self) -> Result<bool, RecordingError> {
        let mut stops = false;
        for command in self.control.as_mut().map(Control::take).unwrap_or_default() {
            match command {
                Command::Enable(name) => self.turn(true, name.as_deref())?,
                Command::Disable(name) => self.turn(false, name.as_deref())?,
                Command::Events => self.sampler.event_names().iter().for_each(|name| self.screen.say(name)),
                Command::Ping => {}
                Command::Snapshot => drop(self.flush(true)?),
                Command::Stop => stops = true,
                Command::Unknown(text) => self.screen.say(&format!(
                    "--control: unknown command '{text}' (enable, disable, evlist, ping, snapshot, stop)"
                )),
            }
            self.control.iter_mut().for_each(Control::answer);
        }
        Ok(stops)
    }

    fn turn(&mut self, on: bool, name: Option<&str>) -> Result<(), RecordingError> {
        if !self.sampler.turn(on, name)? {
            let names = self.sampler.event_names().join(", ");
            self.screen.say(&format!("--control: no event '{}' (there is {names})", name.unwrap_or_default()));
        } else if name.is_none() {
            self.screen.say_plainly(if on { ENABLED } else { DISABLED });
        }
        Ok(())
    }
}

/// The file of one kind of several: `x.off_cpu.pb.gz` of `x.pb.gz`.
fn named_after(path: &Path, format: &Format, profile: &Profile) -> PathBuf {
    let kind = profile.text(profile.default_sample_type);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let cut = |ending: &&str| Some((name.strip_suffix(*ending)?.strip_suffix('.')?, ending.to_string()));
    match format.endings.iter().find_map(cut) {
        Some((stem, ending)) => path.with_file_name(format!("{stem}.{kind}.{ending}")),
        None => path.with_file_name(format!("{name}.{kind}")),
    }
}

/// A file and its size.
fn size_of(path: &Path) -> String {
    let size = fs::metadata(path).ok().filter(fs::Metadata::is_file);
    let size = size.map_or(String::new(), |meta| format!(" ({} KB)", meta.len().div_ceil(1024)));
    format!("{}{size}", path.display())
}

/// Whether frames of the kernel stay without names, because this user may not see its addresses.
pub(super) fn kernel_names_hidden(window: &Window, symbolizer: &mut Symbolizer) -> bool {
    let kernel = window.stacks.distinct_frames().iter().any(|frame| matches!(frame, Frame::Kernel(_)));
    kernel && symbolizer.kernel_restricted()
}

/// Waits for the command that was asked to end, with the file written already; who loses patience may signal again, which ends it.
pub(super) fn wait(mut child: Child, signals: &Signals, screen: &Screen) -> i32 {
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

/// How many CPUs the target used, if its first event counts time: the event's weight.
fn cpus_used(window: &Window, weight: u64) -> Option<f64> {
    window.events.first().filter(|event| event.value_name == "cpu")?;
    Some(weight as f64 / window.duration.as_nanos().max(1) as f64)
}
