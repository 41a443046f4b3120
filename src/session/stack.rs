//! Every thread's stack at one moment, named: a snapshot goes the way of samples, each thread being one sample.

use std::time::{Duration, SystemTime};

use rustc_hash::FxHashMap;

use super::sampler::origin;
use crate::capture::snapshot::{KernelLine, NoStack, Snapshot, SnapshotError, Task, ThreadStack, Wanted};
use crate::capture::{CallGraph, Event, Rate, Terms};
use crate::collect::{Collector, Span};
use crate::health::{Count, Health};
use crate::ids::{Pid, Tid, Unit};
use crate::profile::{
    self, Function, FunctionId, KERNEL, Known, Label, LabelValue, Location, LocationId, Mapping, MappingId, Profile,
    Quality, SourceLine,
};
use crate::record::{EventIndex, Flow, Record};
use crate::symbol::Symbolizer;
use crate::sys;

/// How long stacks wait for the images of their processes to be opened: nothing is lost meanwhile, as nobody is held any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// The stacks of threads at one moment.
pub struct Stacks {
    /// One sample for each thread, its value 1, with the labels `pid`, `tid`, `comm`, `state` and `wchan`.
    pub profile: Profile,
    /// The threads, by process and number.
    pub threads: Vec<Thread>,
    /// When they were held.
    pub time: SystemTime,
    /// How long they were held.
    pub stopped: Duration,
    /// What is missing and why, in lines for people.
    pub remarks: Vec<String>,
}

/// A thread of [`Stacks`].
pub struct Thread {
    /// What /proc told of it.
    pub task: Task,
    /// Why it has no user stack, if it has none.
    pub missing: Option<NoStack>,
    /// Whether it went on between the look at /proc and the moment when it was held.
    pub moved: bool,
    /// Its stack, leaf first.
    pub stack: Vec<LocationId>,
}

/// Takes the stacks. `command` is the whole command line, for the profile.
///
/// # Errors
/// [`SnapshotError`] if a process is gone or may not be looked into.
pub fn take(wanted: &Wanted, command: &str, symbolizer: &mut Symbolizer) -> Result<Stacks, SnapshotError> {
    sys::survive_truncated_files();
    let mut collector = Collector::new(&[event()], CallGraph::Auto);
    collector.wait_for_images(PATIENCE);
    // What is mapped is read while nobody can map anything.
    let snapshot = Snapshot::take(wanted, |pids| collector.know(pids))?;
    let mut health = Health::default();
    snapshot.threads.iter().for_each(|thread| collect(thread, &mut collector, &mut health));
    let remarks = remarks(&snapshot);
    let span = Span {
        start: snapshot.start,
        began: snapshot.began,
        duration: snapshot.stopped,
        main_process: snapshot.threads.first().map(|thread| thread.task.pid),
        comments: origin(command).into_iter().chain(remarks.iter().cloned()).collect(),
    };
    let window = collector.seal(span, &[event()], None, health);
    let profile = profile::build(window, symbolizer, &mut |_, _| {});
    let Snapshot { threads, start, stopped, .. } = snapshot;
    let (profile, threads) = Completed::new(profile).complete(threads);
    let remarks = remarks.into_iter().chain(incomplete(&profile)).collect();
    Ok(Stacks { profile, threads, time: start, stopped, remarks })
}

/// What is counted: threads, one by one.
fn event() -> Event {
    Event {
        name: "threads".into(),
        value_name: "threads".into(),
        unit: Unit::Count,
        kind: 0,
        config: 0,
        rate: Rate::Period(1),
        user: true,
        kernel: true,
        probe: None,
        uprobe: None,
        terms: Terms::default(),
    }
}

fn collect(thread: &ThreadStack, collector: &mut Collector, health: &mut Health) {
    let Task { pid, tid, ref comm, .. } = thread.task;
    // Its name was read when it was alive for certain.
    collector.record(&Record::Comm { pid, tid, comm: comm.as_ref(), exec: false }, health);
    let sample = Record::Sample(thread.sample(EventIndex(0)));
    loop {
        collector.load(false, health);
        if collector.record(&sample, health) == Flow::Continue {
            return;
        }
    }
}

fn remarks(snapshot: &Snapshot) -> Vec<String> {
    let count = |is: &dyn Fn(&ThreadStack) -> bool| snapshot.threads.iter().filter(|thread| is(thread)).count();
    let without = |why| count(&|thread| thread.user.as_ref().err() == Some(&why));
    let traced = count(&|thread| matches!(thread.user, Err(NoStack::Traced(_))));
    let lines = [
        (snapshot.ended, "ended before they could be held"),
        (
            without(NoStack::Uninterruptible),
            "in uninterruptible sleep (D), which nothing interrupts: only their stacks in the kernel are shown",
        ),
        (without(NoStack::NotInTime), "got no CPU within a second, and so did not stop: the host is too busy"),
        (traced, "traced by another process: they can have one tracer only"),
        (without(NoStack::Denied), "may not be traced"),
        (
            count(&|thread| thread.moved),
            "went on before they could be held: their stacks in the kernel are left out, their states are of before",
        ),
        (
            count(&|thread| thread.task.kernel_denied),
            "without their stacks in the kernel, which take CAP_SYS_ADMIN: run as root, or with --no-kernel",
        ),
    ];
    let lines = lines.into_iter().filter(|(threads, _)| *threads > 0);
    lines.map(|(threads, what)| format!("threads: {threads} {what}")).collect()
}

/// What is said of stacks that do not reach their root.
fn incomplete(profile: &Profile) -> Option<String> {
    let health = Quality::of(profile)?.health;
    let cut = [
        (Count::StacksTruncated, "longer than what is copied (or on another stack)"),
        (Count::StacksNoCfi, "in code without unwind information"),
        (Count::StacksBroken, "broken"),
        (Count::StacksTooDeep, "too deep"),
        (Count::StacksNoRegisters, "of 32-bit programs"),
        (Count::StacksEarly, "walked before all files were open"),
    ];
    let cut: Vec<String> = cut
        .iter()
        .filter(|(row, _)| health.get(*row) > 0)
        .map(|(row, what)| format!("{} {what}", health.get(*row)))
        .collect();
    (!cut.is_empty()).then(|| format!("stacks that do not reach their root: {}", cut.join(", ")))
}

/// A profile that gets what only a snapshot knows: stacks in the kernel by name, why there is no stack, states.
struct Completed {
    profile: Profile,
    locations: FxHashMap<KernelLine, LocationId>,
    markers: FxHashMap<&'static str, LocationId>,
    kernel: Option<MappingId>,
}

impl Completed {
    fn new(profile: Profile) -> Completed {
        Completed { profile, locations: FxHashMap::default(), markers: FxHashMap::default(), kernel: None }
    }

    fn complete(mut self, threads: Vec<ThreadStack>) -> (Profile, Vec<Thread>) {
        let by_thread: FxHashMap<(Pid, Tid), usize> =
            (0..self.profile.samples.len()).filter_map(|at| Some((self.thread_of(at)?, at))).collect();
        let complete = |thread: ThreadStack| {
            let at = by_thread.get(&(thread.task.pid, thread.task.tid)).copied();
            let missing = thread.user.as_ref().err().copied();
            let stack = at.map_or_else(Vec::new, |at| self.complete_sample(at, &thread.task, missing));
            Thread { missing, moved: thread.moved, stack, task: thread.task }
        };
        let threads = threads.into_iter().map(complete).collect();
        (self.profile, threads)
    }

    /// Whose stack a sample is.
    fn thread_of(&self, sample: usize) -> Option<(Pid, Tid)> {
        let number = |key: &str| {
            let key = self.profile.strings.find(key)?;
            let label = self.profile.samples.get(sample)?.labels.iter().find(|label| label.key == key)?;
            match label.value {
                LabelValue::Number(number, _) => i32::try_from(number).ok(),
                LabelValue::Text(_) => None,
            }
        };
        Some((Pid(number("pid")?), Tid(number("tid")?)))
    }

    fn complete_sample(&mut self, at: usize, task: &Task, missing: Option<NoStack>) -> Vec<LocationId> {
        let kernel: Vec<LocationId> = task.kernel.iter().map(|line| self.kernel_location(line)).collect();
        let marker = missing.and_then(NoStack::marker).map(|name| self.marker(name));
        let labels = [("state", Some(task.state.to_string())), ("wchan", task.wait_channel.clone())];
        let strings = &mut self.profile.strings;
        let labels = labels.map(|(key, text)| {
            text.map(|text| Label { key: strings.intern(key), value: LabelValue::Text(strings.intern(&text)) })
        });
        let Some(sample) = self.profile.samples.get_mut(at) else { return Vec::new() };
        sample.labels.extend(labels.into_iter().flatten());
        sample.stack.splice(0..0, kernel);
        sample.stack.extend(marker);
        sample.stack.clone()
    }

    /// A function of the kernel, as /proc names it. Its address stays unknown.
    fn kernel_location(&mut self, line: &KernelLine) -> LocationId {
        if let Some(&known) = self.locations.get(line) {
            return known;
        }
        let mapping = self.kernel_mapping();
        let id = self.location(Some(mapping), &line.function, line.module.as_deref().unwrap_or(""));
        self.locations.insert(line.clone(), id);
        id
    }

    fn kernel_mapping(&mut self) -> MappingId {
        if let Some(known) = self.kernel {
            return known;
        }
        let file = self.profile.strings.intern(KERNEL);
        let has = Known { functions: true, ..Known::default() };
        self.profile.mappings.push(Mapping { limit: 1, file, has, ..Mapping::default() });
        let id = MappingId(index(self.profile.mappings.len() - 1));
        self.kernel = Some(id);
        id
    }

    /// What stands in the root's place of a stack that is not there.
    fn marker(&mut self, name: &'static str) -> LocationId {
        if let Some(&known) = self.markers.get(name) {
            return known;
        }
        let id = self.location(None, name, "");
        self.markers.insert(name, id);
        id
    }

    fn location(&mut self, mapping: Option<MappingId>, function: &str, file: &str) -> LocationId {
        let profile = &mut self.profile;
        let name = profile.strings.intern(function);
        let file = profile.strings.intern(file);
        profile.functions.push(Function { name, system_name: name, file, start_line: 0 });
        let function = FunctionId(index(profile.functions.len() - 1));
        let lines = vec![SourceLine { function, line: 0, column: 0 }];
        profile.locations.push(Location { mapping, address: 0, lines, folded: false });
        LocationId(index(profile.locations.len() - 1))
    }
}

fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
