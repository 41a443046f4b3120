//! What every recording does: drains the rings into the collector, adapts, and seals windows.

use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime};

use super::RecordingError;
use super::perf_data::{Closing, PerfData, Recorder};
use super::screen::Screen;
use crate::capture::{AllocTotals, CallGraph, Event, Live, Probe, Rate, Settings, Sharing, Target};
use crate::collect::{Collector, CopySize, Span, Window};
use crate::health::{Count, Health};
use crate::ids::{ImageId, Pid, Tid, Timestamp};
use crate::profile;
use crate::record::perf_data::write::Stamp;
use crate::record::{Flow, Record};
use crate::sys::child::Child;
use crate::sys::{self, Priority};

/// How often the rings are drained when nothing fills them earlier. A wake-up costs ten times what a sample's copy does, so none is
/// made for a sample.
pub(super) const DRAIN: Duration = Duration::from_millis(100);

/// The end of everything that is in the rings.
pub(super) const ALL: Timestamp = Timestamp(u64::MAX);

/// How the comment begins that tells of all allocations, and of the cost of looking.
pub(super) const ALLOCATIONS: &str = "allocations: ";

/// A point in time, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) civil: SystemTime,
    pub(super) clock: Timestamp,
}

impl Moment {
    pub(super) fn now() -> Moment {
        Moment { civil: SystemTime::now(), clock: sys::now() }
    }

    /// The moment of a point on our clock, as civil time is reckoned now.
    pub(super) fn of(clock: Timestamp) -> Moment {
        let now = Moment::now();
        let civil = now.civil - now.clock.since(clock) + clock.since(now.clock);
        Moment { civil, clock }
    }
}

/// A difference of civil time from our clock that was neither set nor slept: they are read one after the other, and civil time is
/// slewed.
const UNNOTICED: Duration = Duration::from_millis(1);

impl Moment {
    /// So much later: without a gap behind what was before, unless civil time was set meanwhile.
    fn after(self, duration: Duration) -> Moment {
        let clock = self.clock.after(duration);
        let (reckoned, told) = (self.civil + duration, Moment::of(clock).civil);
        let apart = told.duration_since(reckoned).unwrap_or_else(|error| error.duration());
        Moment { clock, civil: if apart < UNNOTICED { reckoned } else { told } }
    }
}

/// Open events, and what was counted of them since the last window was sealed.
pub(super) struct Sampler<'a> {
    pub(super) live: Live,
    collector: Collector,
    /// Of the window that grows.
    health: Health,
    screen: &'a Screen,
    /// Where samples go, if they are not counted.
    recorder: Option<Recorder>,
    target: Target,
    command: String,
    start: Moment,
    /// What earlier windows told of allocations.
    allocated: AllocTotals,
    ordinary: Priority,
    /// Whether another size of copies was tried and refused.
    refused: bool,
    /// Notes that were said.
    said: usize,
}

impl<'a> Sampler<'a> {
    /// Opens events on a target, and takes into account what runs already.
    pub(super) fn open(
        settings: Settings,
        command: &str,
        perf_data: Option<&PerfData>,
        screen: &'a Screen,
    ) -> Result<Sampler<'a>, RecordingError> {
        sys::survive_truncated_files();
        let (target, inherit) = (settings.target.clone(), settings.inherit);
        let (shortest, wakers) = (settings.shortest_off_cpu, settings.wakers);
        let live = Live::open(settings)?;
        let mut collector = Collector::new(live.events(), live.graph());
        collector.choose_intervals(shortest, wakers);
        let waiting = if let Target::Command(pid) = target { Some(pid) } else { None };
        let recorder = perf_data.map(|data| Recorder::begin(data, &live, inherit, waiting)).transpose()?;
        if recorder.is_some() {
            collector.pass_on();
        }
        // The rings must be emptied in time on a busy host. Naming is in no hurry.
        let ordinary = Priority::current();
        Priority::FIRST.set();
        let mut sampler = Sampler {
            live,
            collector,
            health: Health::default(),
            screen,
            recorder,
            target,
            command: command.to_owned(),
            start: Moment::now(),
            allocated: AllocTotals::default(),
            ordinary,
            refused: false,
            said: 0,
        };
        sampler.say_notes();
        sampler.know()?;
        sampler.say_notes();
        Ok(sampler)
    }

    /// Says what was met since the last time.
    fn say_notes(&mut self) {
        let notes = self.live.notes();
        notes.iter().skip(self.said).for_each(|note| self.screen.say(note));
        self.said = notes.len();
    }

    /// What runs already is read once its changes are being recorded, so that nothing falls in between.
    fn know(&mut self) -> Result<(), RecordingError> {
        self.live.watch_processes().map_err(|source| RecordingError::System { what: "watch processes", source })?;
        match &self.target {
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
        if let Some(recorder) = &mut self.recorder {
            recorder.tell_present(&self.collector.take_present(), Stamp::default());
            recorder.told_present();
            recorder.flush()?;
        }
        Ok(())
    }

    /// Keeps the time of each sample.
    pub(super) fn keep_times(&mut self) {
        self.collector.keep_times();
    }

    /// Starts sampling, unless it is to be `delayed`, and releases the command.
    pub(super) fn begin(&mut self, delayed: bool, child: Option<&mut Child>) -> Result<(), RecordingError> {
        let enabled = !delayed && !self.live.enables_on_exec();
        if enabled {
            self.enable()?;
        }
        if child.is_some() || !enabled {
            // Before the command is let go: its first samples are of the window.
            self.start = Moment::now();
            self.collector.begin(self.start.clock);
        }
        child.map_or(Ok(()), |child| {
            let released = child.release();
            released.map_err(|source| RecordingError::Command { command: child.program().to_owned(), source })
        })
    }

    /// Starts sampling; the window begins here.
    pub(super) fn enable(&mut self) -> Result<(), RecordingError> {
        self.start = Moment::now();
        self.collector.begin(self.start.clock);
        self.allocated = self.live.alloc_totals().unwrap_or_default();
        self.live.enable().map_err(|source| RecordingError::System { what: "start the events", source })?;
        // What ended before is not of this window.
        self.count_asleep(false);
        Ok(())
    }

    /// Starts or stops sampling in the midst of a recording: all events, or those of a name; answers whether there are any.
    pub(super) fn turn(&mut self, on: bool, name: Option<&str>) -> Result<bool, RecordingError> {
        let what = if on { "start the events" } else { "stop the events" };
        self.live.turn(on, name).map_err(|source| RecordingError::System { what, source })
    }

    /// The names of the events.
    pub(super) fn event_names(&self) -> Vec<String> {
        self.live.events().iter().map(|event| event.name.clone()).collect()
    }

    /// Takes a census if times away from CPUs are known by lot only: the long ones are not to be left to chance.
    pub(super) fn count_left_out(&mut self) {
        if self.collector.is_thinned() {
            self.count_asleep(true);
        }
    }

    /// Whether the time of threads on their CPUs is to be known exactly at the end of each window.
    fn counts_running(&self) -> bool {
        self.live.events().iter().any(|event| event.probe == Some(Probe::Wall))
    }

    /// Takes the stacks of the threads that are away from their CPUs without theirs having been taken: before the first event, or since the
    /// lot fell on others. Nothing may be drained between the census and the records that it gives.
    fn count_asleep(&mut self, ended_too: bool) {
        let instant = sys::now();
        let left_out = match self.live.census() {
            Ok(left_out) => left_out,
            Err(error) => return self.screen.say(&format!("threads that are blocked already are not told: {error}")),
        };
        for task in &left_out {
            if ended_too {
                self.collector.leave_out(task.task, task.ended);
                self.collector.run(task.task, task.ran);
            }
            if task.begin.is_none() {
                continue;
            }
            if self.recorder.is_some() {
                self.collector.on_cpu(last_cpu(task.pid, task.tid));
            }
            let room = self.live.stack_bytes() as usize;
            let mut stack = vec![0; room];
            let copied = sys::read_memory(task.tid, task.stack_pointer(), &mut stack);
            stack.truncate(copied);
            let record = Record::Sample(task.sample(&stack, copied == room));
            while self.collector.record(&record, &mut self.health) == Flow::Pause {
                self.collector.load(false, &mut self.health);
            }
        }
        self.collector.counted_at(instant);
    }

    /// Weight of the first event's samples so far.
    pub(super) fn weight(&self) -> u64 {
        self.collector.weight()
    }

    /// When the window began.
    pub(super) fn start(&self) -> Moment {
        self.start
    }

    /// What was counted in the window so far.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Waits until there is something to drain, or one of `fds` is readable, at most so long.
    pub(super) fn wait(&mut self, fds: &[BorrowedFd<'_>], timeout: Duration) {
        self.live.wait(fds, timeout.min(DRAIN));
    }

    /// Passes the records until a point in time on, and answers whether all of them are; samples that wait for an image are waited for.
    pub(super) fn drain(&mut self, until: Timestamp) -> bool {
        self.say_notes();
        // A sample that waits still needs its process.
        if !self.collector.is_waiting() {
            self.collector.sweep();
        }
        let began = sys::now();
        loop {
            self.collector.load(self.live.fullness() > 0.5, &mut self.health);
            let (collector, recorder) = (&mut self.collector, &mut self.recorder);
            self.live.drain(until, &mut self.health, |record, raw, health| {
                collector.on_cpu(raw.cpu);
                // Where no code lies, nobody samples.
                let flow = if raw.is_data_map() { Flow::Continue } else { collector.record(record, health) };
                if let Some(recorder) = recorder.as_mut().filter(|_| flow == Flow::Continue) {
                    recorder.take(record, raw, collector);
                }
                flow
            });
            if !self.collector.is_waiting() {
                return true;
            }
            // Signals and the end must be looked at in between.
            if until != ALL && sys::now().since(began) >= DRAIN {
                return false;
            }
        }
    }

    /// Whether processes are followed by records of what happens to them.
    pub(super) fn follows_processes(&self) -> bool {
        self.collector.follows_processes()
    }

    /// Follows processes by records, or else reads them from /proc when they are sampled.
    pub(super) fn follow_processes(&mut self, follow: bool) {
        if follow {
            // An error only means that nothing is told: what is sampled goes on being read.
            let watched = self.live.watch_processes().is_ok();
            self.collector.follow_processes(watched);
        } else {
            self.live.ignore_processes();
            self.collector.follow_processes(false);
        }
    }

    /// Forgets images that no process has mapped any more, and answers which.
    pub(super) fn forget_images(&mut self) -> Vec<ImageId> {
        self.collector.forget_images()
    }

    /// Takes a larger copy of stacks where many are longer, and a smaller one where nearly all would fit into it.
    pub(super) fn adapt(&mut self) {
        let (old, most) = (self.live.stack_bytes(), self.live.most_stack_bytes());
        // Events on tasks have children on the tasks that were started since, which new ones would not have.
        if self.live.graph() != CallGraph::Auto || self.live.sharing() == Sharing::PerTask || self.refused {
            return;
        }
        let Some(CopySize { bytes, stacks, cut }) = self.collector.copy_size(old, most) else { return };
        match self.live.set_stack_bytes(bytes) {
            Ok(()) if bytes > old => self.screen.say(&format!(
                "{cut} of {stacks} stacks were longer than the {} KB copied of each: copying {} KB",
                (old + 8) >> 10,
                (bytes + 8) >> 10
            )),
            Ok(()) => {}
            Err(error) => {
                self.refused = true;
                self.screen.say(&format!("cannot change how much of each stack is copied: {error}"));
            }
        }
    }

    /// The live line.
    pub(super) fn show(&self) {
        let lost = self.live.losses().map_or(self.health.get(Count::RecordsLost), |lost| lost.iter().sum());
        let elapsed = sys::now().since(self.start.clock);
        let time = self.live.events().first().is_some_and(|event| event.value_name == "cpu");
        let cpus = time.then(|| self.collector.weight() as f64 / elapsed.as_nanos() as f64);
        self.screen.show(elapsed, self.health.get(Count::Samples), lost, cpus);
    }

    /// Brings to the disk what was recorded; answers whether there is room for more. `asked` is whether somebody wants another file.
    pub(super) fn flush(&mut self, asked: bool) -> Result<bool, RecordingError> {
        let Some(recorder) = &mut self.recorder else { return Ok(true) };
        recorder.tell_away(&self.collector.take_times_away(None, &mut self.health));
        recorder.flush()?;
        if recorder.wants_switch(asked) {
            recorder.switch(&self.collector, self.live.losses().as_deref(), Live::settled(), self.screen)?;
        }
        let full = recorder.full();
        full.iter().for_each(|line| self.screen.say_plainly(line));
        Ok(full.is_none())
    }

    /// Whether the files are due to be looked after, because of their size.
    pub(super) fn reached_a_size(&self) -> bool {
        self.recorder.as_ref().is_some_and(Recorder::reached_a_size)
    }

    /// Ends the files of a recording that was stopped at a point; `None` if it has none.
    pub(super) fn finish_files(&mut self, end: Timestamp) -> Result<Option<Closing>, RecordingError> {
        if self.recorder.is_none() {
            return Ok(None);
        }
        self.count_left_out();
        let Some(mut recorder) = self.recorder.take() else { return Ok(None) };
        recorder.tell_away(&self.collector.take_times_away(Some(end), &mut self.health));
        Ok(Some(recorder.finish(&self.collector, self.live.losses().as_deref(), end, self.screen)?))
    }

    /// Ends sampling, and passes on all that is left.
    pub(super) fn stop(&mut self) -> Timestamp {
        self.live.disable();
        let end = sys::now();
        self.drain(ALL);
        self.ordinary.set();
        end
    }

    /// Seals the window at a point up to which everything has been drained, and begins the next one there. `scales` is how often each
    /// event was sampled on average, in proportion to what was asked for.
    pub(super) fn seal(&mut self, end: Timestamp, scales: &[f64], remarks: Vec<String>) -> Window {
        if self.counts_running() {
            self.count_asleep(true);
        } else {
            self.count_left_out();
        }
        let lost = self.live.losses();
        let main_process = match &self.target {
            Target::Command(pid) => Some(*pid),
            Target::Processes(pids) => pids.first().copied(),
            Target::Threads(tids) => tids.first().and_then(|&tid| crate::capture::process_of(tid)),
            Target::System | Target::Cgroups(_) | Target::Selected(_) => None,
        };
        let mut comments = self.comments();
        comments.extend(remarks);
        let start = self.start;
        let duration = end.since(start.clock);
        comments.extend(self.allocations(duration));
        self.start = start.after(duration);
        let span = Span { start: start.civil, began: start.clock, duration, main_process, comments };
        let health = std::mem::take(&mut self.health);
        let events: Vec<Event> =
            self.live.events().iter().zip(scales).map(|(event, scale)| scaled(event, *scale)).collect();
        let window = self.collector.seal(span, &events, lost.as_deref(), health);
        self.live.forget_allocations(&self.collector.take_gone());
        window
    }

    /// What was allocated in the window, and what it cost the target that we looked.
    fn allocations(&mut self, duration: Duration) -> Option<String> {
        let totals = self.live.alloc_totals()?;
        let AllocTotals { allocations, bytes, untracked, stops, nanoseconds } = totals.since(self.allocated);
        self.allocated = totals;
        self.health.add(Count::AllocUntracked, untracked);
        let seconds = nanoseconds as f64 / 1e9;
        let share = seconds / duration.as_secs_f64().max(1e-9) * 100.0;
        let each = nanoseconds as f64 / 1e3 / (stops.max(1) as f64);
        Some(format!(
            "{ALLOCATIONS}{allocations} of {bytes} bytes in all; {stops} stops in allocators, {each:.2} us each, took the target about {seconds:.3} s ({share:.1} % of one CPU)"
        ))
    }

    fn comments(&self) -> Vec<String> {
        let sharing = match self.live.sharing() {
            Sharing::PerCpu => "events: one a CPU",
            Sharing::PerTask => "events: one a task and CPU",
        };
        let mut comments = origin(&self.command);
        comments.extend([
            sharing.into(),
            format!("stack bytes copied: {}", self.live.stack_bytes()),
            profile::cpus_comment(u32::try_from(self.live.cpu_count()).unwrap_or(0)),
        ]);
        comments.extend(self.live.notes().iter().cloned());
        comments
    }
}

/// The CPU that a thread ran on last; 0 if nobody knows any more.
fn last_cpu(pid: Pid, tid: Tid) -> u32 {
    let thread = procfs::process::Process::new(pid.0).and_then(|process| process.task_from_tid(tid.0));
    let cpu = thread.and_then(|thread| thread.stat()).ok().and_then(|stat| stat.processor);
    cpu.and_then(|cpu| u32::try_from(cpu).ok()).unwrap_or(0)
}

/// The comments on where a profile comes from: by which version and command line, on which host.
pub(super) fn origin(command: &str) -> Vec<String> {
    let host = nix::sys::utsname::uname().map_or(String::new(), |uname| {
        format!(
            "host: {} {} {}",
            uname.nodename().to_string_lossy(),
            uname.release().to_string_lossy(),
            uname.machine().to_string_lossy()
        )
    });
    vec![concat!("rprof ", env!("CARGO_PKG_VERSION")).to_owned(), format!("{}{command}", profile::COMMAND), host]
}

fn scaled(event: &Event, scale: f64) -> Event {
    let rate = match event.rate {
        rate @ Rate::Frequency(_) => rate.scaled(scale),
        rate @ Rate::Period(_) => rate,
    };
    Event { rate, ..event.clone() }
}
