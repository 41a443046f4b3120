//! Recording for ever: windows follow each other without a gap, while the one before is named and written.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::archive::Archive;
use super::budget::{Budget, Pace, Spent};
use super::finisher::{Bench, Finisher, Shelf, Work};
use super::record::{LOOK, Recording, RecordingError, Timing, wait};
use super::sampler::{ALL, DRAIN, Moment, Sampler};
use super::screen::Screen;
use super::signals::Signals;
use super::status::{STATUS, Status};
use crate::capture::{Event, Live, Rate};
use crate::health::Health;
use crate::ids::{Timestamp, UnixNanos};
use crate::profile::{KindQuality, Quality};
use crate::store::{Mode, Policy, Source, Writer};
use crate::sys;
use crate::sys::child::Child;

/// How often the status is written.
const TELL: Duration = Duration::from_secs(10);
/// Civil time that moves by more than this against our clock was set, or the machine slept.
const CLOCK_STEP: Duration = Duration::from_millis(200);
/// How often the periods of clocks are varied at most: each time costs every CPU half a period of sampling.
const JITTER: Duration = Duration::from_secs(30);
/// A window is not begun for less than this share of its length: the one before becomes longer.
const SHORTEST: f64 = 0.1;
/// The share of the memory that may be used, above which something is given back.
const CROWDED: f64 = 0.9;

/// How to record for ever.
pub struct Continuous {
    /// The directory of windows.
    pub directory: PathBuf,
    /// What of the old is kept.
    pub policy: Policy,
    /// How long windows are, and what they may cost.
    pub bounds: Bounds,
    /// A further file for the status, for a collector of metrics.
    pub metrics: Option<PathBuf>,
    /// Who may read the files, if somebody says so.
    pub mode: Option<Mode>,
}

/// How long windows are, and what recording them may cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// How long a window is; only a signal ends one where `None`.
    pub window: Option<Duration>,
    /// The share (0 to 1) of the machine's CPU time that may be used.
    pub max_overhead: Option<f64>,
    /// Bytes of resident memory that may be used.
    pub max_memory: Option<u64>,
}

/// Records windows until the target, the command or the time ends, or a signal comes; answers the exit status as [`super::record()`].
///
/// # Errors
/// [`RecordingError`] if nothing could be begun; what happens later is told and counted, and the recorder goes on.
pub fn record_continuously(
    recording: Recording,
    continuous: Continuous,
    screen: &Screen,
) -> Result<i32, RecordingError> {
    let signals = Signals::listen_for_cuts().map_err(no_signals)?;
    let writer = Writer::open_with(&continuous.directory, Source::Recorder, continuous.mode)?;
    let metrics = [continuous.directory.join(STATUS)].into_iter().chain(continuous.metrics).collect();
    let (format, verbose) = (recording.format, recording.verbose);
    let archive = Archive::new(writer, continuous.policy, format, metrics, screen.clone(), verbose);
    screen.say(&format!("recording into {}", continuous.directory.display()));
    record_windows(recording, continuous.bounds, Box::new(archive), &signals, screen)
}

pub(super) fn no_signals(source: std::io::Error) -> RecordingError {
    RecordingError::System { what: "listen for signals", source }
}

/// Records windows onto a shelf until the target, the command or the time ends, a signal comes or the recording is stopped; answers the
/// exit status as [`super::record()`], 0 where it was stopped.
pub(super) fn record_windows(
    recording: Recording,
    bounds: Bounds,
    shelf: Box<dyn Shelf>,
    signals: &Signals,
    screen: &Screen,
) -> Result<i32, RecordingError> {
    let Recording { settings, timing, mut child, command, times, labels, symbolizer, .. } = recording;
    let hertz = settings.events.iter().find_map(|event| match event.rate {
        Rate::Frequency(hertz) => Some(hertz as f64),
        Rate::Period(_) => None,
    });
    let mut sampler = Sampler::open(settings, &command, None, screen)?;
    if times {
        sampler.keep_times();
    }
    let finisher = Finisher::start(Bench { symbolizer, shelf, labels, screen: screen.clone() })?;
    sampler.begin(!timing.delay.is_zero(), child.as_mut())?;
    finisher.offer(Work::Begin);
    let spent = Spent { at: sys::now(), cpu: sys::cpu_time(), samples: sampler.live.taken().to_vec() };
    let budget = bounds.max_overhead.map(|share| {
        let (cpus, events) = (sampler.live.cpu_count(), sampler.live.events());
        Budget::new(share, cpus, events.iter().map(|event| event.rate), &spent)
    });
    let mut recorder = Recorder {
        schedule: Schedule::new(bounds.window, sampler.start()),
        scales: vec![Scales::new(spent.at); sampler.live.events().len()],
        status: Status::new(&command, hertz.unwrap_or(0.0), bounds.max_overhead),
        sampler,
        finisher,
        screen,
        budget,
        max_memory: bounds.max_memory,
        total: Health::default(),
        counted: Quality::default(),
        remarks: Vec::new(),
        reopened: spent.at,
        window_began: spent,
        crowded: false,
    };
    recorder.run(timing, child.as_mut(), signals)?;
    let stopped = signals.is_stopped();
    recorder.finish(signals);
    Ok(match child {
        Some(mut child) => {
            child.terminate();
            let status = wait(child, signals, screen);
            // That it was asked to end is no failure of its own.
            if stopped { 0 } else { status }
        }
        None => signals.received().map_or(0, |signal| 128 + signal),
    })
}

/// Where windows are cut: at multiples of their length in civil time, so that those of all hosts begin together.
struct Schedule {
    window: Option<Duration>,
    /// The next cut; never without a length.
    next: Timestamp,
}

impl Schedule {
    fn new(window: Option<Duration>, start: Moment) -> Schedule {
        let mut schedule = Schedule { window, next: ALL };
        schedule.begin(start);
        schedule
    }

    /// A window begins here.
    fn begin(&mut self, start: Moment) {
        self.next = self.window.map_or(ALL, |window| start.clock.after(until_boundary(start.civil, window)));
    }
}

fn until_boundary(civil: SystemTime, window: Duration) -> Duration {
    let length = i128::from(UnixNanos::from(SystemTime::UNIX_EPOCH + window).0).max(1);
    let into = i128::from(UnixNanos::from(civil).0).rem_euclid(length);
    let left = length - into;
    let left = if (left as f64) < SHORTEST * length as f64 { left + length } else { left };
    Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))
}

/// How often was sampled, over a window.
#[derive(Clone)]
struct Scales {
    now: f64,
    since: Timestamp,
    /// Scale times nanoseconds until `since`.
    sum: f64,
    began: Timestamp,
}

impl Scales {
    fn new(began: Timestamp) -> Scales {
        Scales { now: 1.0, since: began, sum: 0.0, began }
    }

    fn set(&mut self, scale: f64, at: Timestamp) {
        self.sum += self.now * at.since(self.since).as_nanos() as f64;
        (self.now, self.since) = (scale, at);
    }

    /// The mean until here, where the next window begins.
    fn seal(&mut self, at: Timestamp) -> f64 {
        self.set(self.now, at);
        let mean = self.sum / at.since(self.began).as_nanos().max(1) as f64;
        *self = Scales { now: self.now, ..Scales::new(at) };
        mean
    }
}

struct Recorder<'a> {
    sampler: Sampler<'a>,
    schedule: Schedule,
    finisher: Finisher,
    screen: &'a Screen,
    budget: Option<Budget>,
    max_memory: Option<u64>,
    status: Status,
    /// Of all windows that were sealed.
    total: Health,
    /// What was counted of each kind in those windows.
    counted: Quality,
    /// Of each event.
    scales: Vec<Scales>,
    /// What happened within the window.
    remarks: Vec<String>,
    window_began: Spent,
    /// When the periods of clocks were varied.
    reopened: Timestamp,
    /// Whether memory was short at the last look.
    crowded: bool,
}

impl Recorder<'_> {
    fn run(&mut self, timing: Timing, mut child: Option<&mut Child>, signals: &Signals) -> Result<(), RecordingError> {
        let mut begins = (!timing.delay.is_zero()).then(|| self.sampler.start().clock.after(timing.delay));
        let end = timing.duration.map(|duration| self.sampler.start().clock.after(timing.delay).after(duration));
        let (mut looked, mut told) = (sys::now(), Timestamp(0));
        let mut offset = clock_offset();
        loop {
            let next = [begins, end, Some(self.schedule.next)].into_iter().flatten().min().unwrap_or(ALL);
            let fds = [Some(signals.fd()), child.as_ref().and_then(|child| child.pidfd())];
            self.sampler.wait(&fds.into_iter().flatten().collect::<Vec<_>>(), next.since(sys::now()).min(DRAIN));
            if self.sampler.drain(Live::settled().min(self.schedule.next)) {
                self.cut_if_due();
            }
            self.sampler.adapt();
            if begins.take_if(|begins| *begins <= sys::now()).is_some() {
                self.sampler.enable()?;
                self.schedule.begin(self.sampler.start());
            }
            if signals.take_cut() {
                self.schedule.next = sys::now();
            }
            let ended = child.as_mut().is_some_and(|child| child.try_wait().is_some());
            if ended || signals.is_over() || end.is_some_and(|end| end <= sys::now()) {
                return Ok(());
            }
            let now = sys::now();
            if now.since(looked) >= LOOK {
                looked = now;
                if child.is_none() && self.sampler.live.is_over() {
                    self.screen.say("the target has ended");
                    return Ok(());
                }
                self.look(now, &mut offset);
            }
            if now.since(told) >= TELL {
                told = now;
                self.tell();
            }
        }
    }

    /// What is looked at every second.
    fn look(&mut self, now: Timestamp, offset: &mut i128) {
        let moved = clock_offset() - *offset;
        if moved.unsigned_abs() > CLOCK_STEP.as_nanos() {
            *offset += moved;
            // The window keeps the clock that it began with; the next one begins with the new one.
            self.remark(format!(
                "the clock was set by {:+.1} s within this window, or the machine slept",
                moved as f64 / 1e9
            ));
            self.schedule.next = now;
        }
        self.follow_cpus();
        self.keep_budget(now);
        self.keep_memory(now);
        if self.finisher.is_gone() {
            self.screen.say("the thread that writes windows has ended: nothing is written any more");
        }
        self.sampler.count_left_out();
        self.sampler.show();
    }

    fn remark(&mut self, remark: String) {
        const MOST: usize = 100;
        if self.remarks.len() < MOST {
            self.remarks.push(format!("{}: {remark}", jiff::Timestamp::now().strftime("%H:%M:%SZ")));
        }
    }

    fn follow_cpus(&mut self) {
        match self.sampler.live.follow_cpus() {
            Ok(change) if change.is_empty() => {}
            Ok(change) => {
                let line = format!("CPUs that came on line: {:?}, went off line: {:?}", change.came, change.went);
                self.screen.say(&line);
                self.remark(line);
            }
            Err(error) => self.remark(format!("cannot follow CPUs that came on line: {error}")),
        }
    }

    /// What we have cost since the beginning.
    fn spent(&self) -> Spent {
        Spent { at: sys::now(), cpu: sys::cpu_time(), samples: self.sampler.live.taken().to_vec() }
    }

    fn keep_budget(&mut self, now: Timestamp) {
        let (spent, cpus) = (self.spent(), self.sampler.live.cpu_count());
        let Some(budget) = &mut self.budget else { return };
        let Some(pace) = budget.step(&spent, cpus) else { return };
        let used = budget.used(&self.window_began, &spent);
        self.set_pace(&pace, now, &format!("rprof used {:.2} % of the machine in this window", 100.0 * used));
    }

    fn set_pace(&mut self, pace: &Pace, now: Timestamp, why: &str) {
        let was_followed = self.sampler.follows_processes();
        if pace.follow != was_followed {
            self.sampler.follow_processes(pace.follow);
            let how = if pace.follow { "followed again" } else { "no longer followed, but read when they are sampled" };
            self.remark(format!("processes are {how}: {why}"));
        }
        let old = self.sampler.live.scales().to_vec();
        if old == pace.scales {
            return;
        }
        if let Err(error) = self.sampler.live.set_scales(&pace.scales) {
            return self.remark(format!("cannot change the frequency: {error}"));
        }
        self.reopened = now;
        for (at, (&from, &to)) in old.iter().zip(&pace.scales).enumerate().filter(|(_, (from, to))| from != to) {
            self.scales[at].set(to, now);
            let change = change(&self.sampler.live.events()[at], from, to);
            self.remark(format!("{change}: {why}"));
        }
    }

    /// Gives memory back where it becomes short: what was counted goes to the finisher and what it remembers is forgotten; if
    /// that was not enough, less is sampled.
    fn keep_memory(&mut self, now: Timestamp) {
        let Some(most) = self.max_memory else { return };
        let used = sys::resident_memory().unwrap_or(0);
        let crowded = used as f64 > CROWDED * most as f64;
        if crowded && self.finisher.is_free() && now.since(self.window_began.at) > LOOK * 5 {
            self.finisher.offer(Work::Forget);
            self.schedule.next = now;
            self.remark(format!("{} MB of {} MB are used: the window ends early", used >> 20, most >> 20));
            if std::mem::replace(&mut self.crowded, true) {
                let pace = match &mut self.budget {
                    Some(budget) => budget.halve(),
                    None => {
                        let half = |scale: &f64| (scale / 2.0).max(0.01);
                        Pace { scales: self.sampler.live.scales().iter().map(half).collect(), follow: true }
                    }
                };
                self.set_pace(&pace, now, "memory is short");
            }
        }
        self.crowded &= used as f64 > 0.7 * most as f64;
    }

    /// Cuts the window where everything until its end has been drained, unless the finisher is still busy: then it becomes longer.
    fn cut_if_due(&mut self) {
        let at = self.schedule.next;
        if at > Live::settled() {
            return;
        }
        if !self.finisher.is_free() && !self.finisher.is_gone() {
            self.remark("the window before is still being written: this one becomes longer".into());
            self.schedule.begin(Moment::of(at));
            return;
        }
        self.cut(at);
        if at.since(self.reopened) >= JITTER {
            self.reopened = at;
            // As varied as before, then.
            let _ = self.sampler.live.reopen();
        }
    }

    fn cut(&mut self, at: Timestamp) {
        let work = self.seal(at);
        self.schedule.begin(self.sampler.start());
        // It was free a moment ago, and nobody else sends.
        self.finisher.offer(work);
    }

    fn seal(&mut self, at: Timestamp) -> Work {
        let spent = self.spent();
        let own = Duration::from_nanos(spent.cpu - self.window_began.cpu);
        let memory = sys::resident_memory().unwrap_or(0) >> 20;
        self.window_began = spent;
        self.total.merge(self.sampler.health());
        let mut remarks = std::mem::take(&mut self.remarks);
        remarks.push(format!("rprof itself: {:.3} s of CPU, {memory} MB of memory", own.as_secs_f64()));
        let scales: Vec<f64> = self.scales.iter_mut().map(|scale| scale.seal(at)).collect();
        let window = self.sampler.seal(at, &scales, remarks);
        for (event, tally) in window.events.iter().zip(window.tallies()) {
            let mut counted = KindQuality::of_event(event);
            counted.samples += tally.samples;
            self.counted.add(&event.value_name, &counted);
        }
        let gone = self.sampler.forget_images();
        Work::Window(Box::new(window), gone)
    }

    fn tell(&mut self) {
        if self.finisher.is_free() {
            let status = self.status(true);
            self.finisher.offer(Work::Status(Box::new(status)));
        }
    }

    /// How often the first event that has a frequency is sampled, in proportion to what was asked for.
    fn clock_scale(&self) -> f64 {
        let mut events = self.sampler.live.events().iter().zip(self.sampler.live.scales());
        events.find(|(event, _)| matches!(event.rate, Rate::Frequency(_))).map_or(1.0, |(_, &scale)| scale)
    }

    fn event_scales(&self) -> Vec<(String, f64)> {
        let events = self.sampler.live.events().iter().map(|event| event.name.clone());
        events.zip(self.sampler.live.scales().iter().copied()).collect()
    }

    fn status(&self, running: bool) -> Status {
        let mut health = self.total.clone();
        health.merge(self.sampler.health());
        Status {
            running,
            health,
            counted: self.counted.clone(),
            hertz: self.status.hertz_asked * self.clock_scale(),
            scales: self.event_scales(),
            cpu: Duration::from_nanos(sys::cpu_time()),
            resident: sys::resident_memory().unwrap_or(0),
            cpus: self.sampler.live.cpu_count(),
            ..self.status.clone()
        }
    }

    /// Seals the last window and waits until it is written.
    fn finish(mut self, signals: &Signals) {
        let end = self.sampler.stop();
        signals.let_kill();
        self.remarks.extend(signals.received().map(|signal| format!("ended by signal {signal}")));
        let last = self.seal(end);
        let status = self.status(false);
        self.finisher.finish(vec![last, Work::Status(Box::new(status))]);
    }
}

/// How an event is sampled from now on, instead of as before.
fn change(event: &Event, from: f64, to: f64) -> String {
    match event.rate {
        Rate::Frequency(hertz) if event.is_counted() => {
            format!("{}: frequency {:.1} to {:.1} Hz", event.name, hertz as f64 * from, hertz as f64 * to)
        }
        _ => format!("{}: {:.0} % to {:.0} % as often as asked for", event.name, 100.0 * from, 100.0 * to),
    }
}

/// Civil time less the time of our clock, in nanoseconds.
fn clock_offset() -> i128 {
    let Moment { civil, clock } = Moment::now();
    i128::from(UnixNanos::from(civil).0) - i128::from(clock.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_at_multiples_of_their_length() {
        let at = |seconds: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(1_700_000_040.0 + seconds);
        let minute = Duration::from_secs(60);
        assert_eq!(until_boundary(at(0.0), minute), minute);
        assert_eq!(until_boundary(at(17.5), minute), Duration::from_secs_f64(42.5));
        assert_eq!(until_boundary(at(57.0), minute), Duration::from_secs(63), "three seconds are no window");
        assert_eq!(until_boundary(SystemTime::UNIX_EPOCH - Duration::from_secs(20), minute), Duration::from_secs(20));
    }

    #[test]
    fn a_scale_is_averaged_over_its_window() {
        let second = |second: u64| Timestamp(second * 1_000_000_000);
        let mut scales = Scales::new(second(10));
        scales.set(0.5, second(20));
        assert!((scales.seal(second(40)) - (10.0 + 0.5 * 20.0) / 30.0).abs() < 1e-9);
        assert!((scales.seal(second(50)) - 0.5).abs() < 1e-9);
    }
}
