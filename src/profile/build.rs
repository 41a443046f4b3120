//! From a window to a profile: each distinct frame is named once, and what is equal then is one.

use std::hash::Hash;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Function, FunctionId, KindQuality, Known, Label, LabelValue, Location, LocationId, Mapping, MappingId, Profile,
    Sample, SourceLine, event_comment, health_comments, unit_name,
};
use crate::collect::{EventInfo, Frame, SampleKey, StackId, Tally, Unit, WakerIndex, Window};
use crate::health::Count;
use crate::ids::{Address, ImageId, KernelAddress, Pid, Rva, Timestamp};
use crate::process::{ImageInfo, ProcessInfo};
use crate::record::State;
use crate::symbol::{Symbol, Symbolizer};

/// The mapping of the kernel; backends know it by this name.
pub const KERNEL: &str = "[kernel.kallsyms]";
/// Frames named together: enough that a unit of debug information is seldom read twice, few enough to show progress.
const BATCH: usize = 4096;
/// The label of a sample's own time: nanoseconds since 1970, as google's perf_data_converter names it.
pub const TIME_LABEL: &str = "timestamp_ns";
/// The label of a process's name: see [`ProcessInfo::name`]. `comm` is the name of the sample's thread.
pub const PROCESS_LABEL: &str = "process";
/// The label of what a thread did: see [`crate::record::State`].
const STATE_LABEL: &str = "state";
/// The label of the thread that woke another.
const WAKER_LABEL: &str = "waker";
/// The mapping of code that lies in no file.
const ANONYMOUS: &str = "[anon]";

/// What names addresses.
pub trait Namer {
    /// The functions at each address of an image, innermost first; never empty.
    fn image(&mut self, info: &ImageInfo, rvas: &[Rva]) -> Vec<Arc<[Symbol]>>;
    /// The kernel's function at an address.
    fn kernel(&mut self, address: KernelAddress) -> Symbol;
    /// The function that a process made at run time.
    fn anonymous(&mut self, process: &ProcessInfo, address: Address) -> Symbol;
}

impl Namer for Symbolizer {
    fn image(&mut self, info: &ImageInfo, rvas: &[Rva]) -> Vec<Arc<[Symbol]>> {
        self.image_batch(info, rvas)
    }

    fn kernel(&mut self, address: KernelAddress) -> Symbol {
        self.kernel(address)
    }

    fn anonymous(&mut self, process: &ProcessInfo, address: Address) -> Symbol {
        self.anonymous(process, address)
    }
}

/// Makes the profile of a window. `progress` is told from time to time how many
/// distinct frames are named and how many there are.
pub fn build(window: Window, namer: &mut dyn Namer, progress: &mut dyn FnMut(usize, usize)) -> Profile {
    let mut window = window;
    let frames = distinct_frames(&window);
    let mut builder = Builder::default();
    builder.add_mappings(&window, &frames);
    let mut done = 0;
    for batch in frames.chunk_by(|a, b| a.image() == b.image()).flat_map(|frames| frames.chunks(BATCH)) {
        for (&frame, symbols) in batch.iter().zip(names(&window, namer, batch)) {
            let named = symbols.first().is_some_and(|symbol| symbol.named);
            if !matches!(frame, Frame::Marker(_)) {
                window.health.add(if named { Count::FramesNamed } else { Count::FramesUnnamed }, 1);
            }
            builder.add_frame(frame, &symbols, named);
        }
        done += batch.len();
        progress(done, frames.len());
    }
    builder.add_header(&window);
    builder.add_samples(&window);
    builder.add_comments(&window);
    builder.profile
}

/// The functions of each distinct frame of a window, innermost first; never none.
pub fn name_frames(window: &Window, namer: &mut dyn Namer) -> FxHashMap<Frame, Arc<[Symbol]>> {
    let frames = distinct_frames(window);
    let of_image = frames.chunk_by(|a, b| a.image() == b.image());
    of_image.flat_map(|frames| frames.iter().copied().zip(names(window, namer, frames)).collect::<Vec<_>>()).collect()
}

/// Each frame once. Sorted by image and address, so that whoever names them walks through each file's tables in order.
fn distinct_frames(window: &Window) -> Vec<Frame> {
    let mut frames = window.stacks.distinct_frames().to_vec();
    frames.sort_unstable_by_key(|frame| match *frame {
        Frame::Image(place) => (0, place.image.0, place.rva.0),
        Frame::Kernel(address) => (1, 0, address.0),
        Frame::Anonymous(process, address) => (2, process.0, address.0),
        Frame::Marker(marker) => (3, marker as u32, 0),
    });
    frames
}

/// Names frames that are all of one image, or of none.
fn names(window: &Window, namer: &mut dyn Namer, frames: &[Frame]) -> Vec<Arc<[Symbol]>> {
    let rva = |frame: &Frame| if let Frame::Image(place) = frame { Some(place.rva) } else { None };
    let image = frames.first().and_then(Frame::image).and_then(|id| window.images.get(&id));
    match image {
        Some(info) => namer.image(info, &frames.iter().filter_map(rva).collect::<Vec<_>>()),
        None => frames.iter().map(|&frame| [name(window, namer, frame)].into()).collect(),
    }
}

/// Names a frame of no image.
fn name(window: &Window, namer: &mut dyn Namer, frame: Frame) -> Symbol {
    match frame {
        Frame::Kernel(address) => namer.kernel(address),
        Frame::Anonymous(process, address) => {
            let process = window.processes.get(process.0 as usize);
            process.map_or_else(|| plain("[anon]"), |process| namer.anonymous(process, address))
        }
        Frame::Marker(marker) => plain(marker.name()),
        Frame::Image(_) => plain("[unknown image]"),
    }
}

/// Whether a function of the kernel is part of how it runs a BPF program at a tracepoint.
fn is_machinery(symbol: &Symbol) -> bool {
    const NAMES: [&str; 5] = ["bpf_prog_", "bpf_trace_run", "__bpf_trace_", "__traceiter_", "bpf_get_"];
    NAMES.iter().any(|prefix| symbol.function.starts_with(prefix))
}

/// A name that is no function's.
fn plain(name: &str) -> Symbol {
    let name: Arc<str> = name.into();
    Symbol {
        function: name.clone(),
        system_name: name,
        file: None,
        line: 0,
        start_line: 0,
        inlined: false,
        named: false,
        module: None,
    }
}

/// What makes two images one mapping: the same file by its build ID, or else by being the same image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum MappingKey {
    Named(Arc<str>, String),
    Image(ImageId),
    Kernel,
    Anonymous,
}

/// What samples are told apart by: the stack, the first thread with the same labels, and what else becomes a label.
type SampleOf = (usize, usize, Timestamp, Option<State>, Option<WakerIndex>);

#[derive(Default)]
struct Builder {
    profile: Profile,
    mappings: FxHashMap<MappingKey, MappingId>,
    image_mappings: FxHashMap<ImageId, MappingId>,
    functions: FxHashMap<Function, FunctionId>,
    locations: FxHashMap<Location, LocationId>,
    frames: FxHashMap<Frame, LocationId>,
    /// Frames by which the kernel runs our programs: no stack begins with them.
    machinery: FxHashSet<LocationId>,
    /// Code of which no function's name is known.
    unnamed: FxHashSet<LocationId>,
    /// What was counted of each of the window's events.
    counted: Vec<KindQuality>,
}

impl Builder {
    /// The main program comes first: readers take the first mapping as the name of the profile.
    fn add_mappings(&mut self, window: &Window, frames: &[Frame]) {
        let main = main_image(window, frames).map(mapping_key);
        if let Some(main) = main {
            self.mappings.insert(main, MappingId(0));
            self.profile.mappings.push(Mapping::default());
        }
        for &frame in frames {
            match frame {
                Frame::Image(place) => {
                    if let Some(info) = window.images.get(&place.image) {
                        let build_id = info.build_id.as_ref().map(ToString::to_string).unwrap_or_default();
                        let code = || code_range(info);
                        let id = self.add_to_mapping(mapping_key(info), &info.name, &build_id, &code, place.rva.0);
                        self.image_mappings.insert(place.image, id);
                    }
                }
                Frame::Kernel(address) => {
                    self.add_to_mapping(MappingKey::Kernel, KERNEL, "", &|| None, address.0);
                }
                Frame::Anonymous(_, address) => {
                    self.add_to_mapping(MappingKey::Anonymous, ANONYMOUS, "", &|| None, address.0);
                }
                Frame::Marker(_) => {}
            }
        }
    }

    /// A mapping covers the code of its image, and in any case every address that was met.
    fn add_to_mapping(
        &mut self,
        key: MappingKey,
        file: &str,
        build_id: &str,
        code: &dyn Fn() -> Option<CodeRange>,
        address: u64,
    ) -> MappingId {
        let profile = &mut self.profile;
        let id = *self.mappings.entry(key).or_insert_with(|| {
            profile.mappings.push(Mapping::default());
            MappingId(index(profile.mappings.len() - 1))
        });
        let file = profile.strings.intern(file);
        let build_id = profile.strings.intern(build_id);
        let mapping = &mut profile.mappings[id.0 as usize];
        if mapping.file.is_empty() {
            let code = code().unwrap_or(CodeRange { addresses: address..address.saturating_add(1), offset: 0 });
            let Range { start, end } = code.addresses;
            *mapping = Mapping { start, limit: end, offset: code.offset, file, build_id, has: Known::default() };
        }
        mapping.limit = mapping.limit.max(address.saturating_add(1));
        if address < mapping.start {
            mapping.offset = mapping.offset.saturating_sub(mapping.start - address);
            mapping.start = address;
        }
        id
    }

    fn add_frame(&mut self, frame: Frame, symbols: &[Symbol], named: bool) {
        let (mapping, address) = self.place(frame);
        let lines: Vec<SourceLine> = symbols.iter().map(|symbol| self.line(symbol)).collect();
        if let Some(mapping) = mapping {
            let mapping = &mut self.profile.mappings[mapping.0 as usize];
            mapping.has = mapping.has.or(known(symbols));
        }
        let locations = &mut self.profile.locations;
        let location = Location { mapping, address, lines, folded: false };
        let id = intern(locations, &mut self.locations, location, LocationId);
        if matches!(frame, Frame::Kernel(_)) && symbols.first().is_some_and(is_machinery) {
            self.machinery.insert(id);
        }
        if !named && !matches!(frame, Frame::Marker(_)) {
            self.unnamed.insert(id);
        }
        self.frames.insert(frame, id);
    }

    fn place(&self, frame: Frame) -> (Option<MappingId>, u64) {
        let mapping = |key: &MappingKey| self.mappings.get(key).copied();
        match frame {
            Frame::Image(place) => (self.image_mappings.get(&place.image).copied(), place.rva.0),
            Frame::Kernel(address) => (mapping(&MappingKey::Kernel), address.0),
            Frame::Anonymous(_, address) => (mapping(&MappingKey::Anonymous), address.0),
            Frame::Marker(_) => (None, 0),
        }
    }

    fn line(&mut self, symbol: &Symbol) -> SourceLine {
        let strings = &mut self.profile.strings;
        let function = Function {
            name: strings.intern(&symbol.function),
            system_name: strings.intern(&symbol.system_name),
            file: strings.intern(symbol.file.as_deref().unwrap_or("")),
            start_line: symbol.start_line.into(),
        };
        let function = intern(&mut self.profile.functions, &mut self.functions, function, FunctionId);
        SourceLine { function, line: symbol.line.into(), column: 0 }
    }

    fn add_header(&mut self, window: &Window) {
        let types = column_names(&window.events);
        let profile = &mut self.profile;
        for (event, (count, value)) in window.events.iter().zip(&types) {
            let count = profile.value_type(count, "count");
            let value = profile.value_type(value, unit_name(event.unit));
            profile.sample_types.extend([count, value]);
        }
        if let (Some(event), Some(&value)) = (window.events.first(), profile.sample_types.get(1)) {
            profile.default_sample_type = value.name;
            profile.period_type = Some(value);
            profile.period = period(window, event);
        }
        profile.time_nanos = nanoseconds_since_1970(window.start);
        profile.duration_nanos = nanoseconds(window.duration).max(1);
    }

    fn add_comments(&mut self, window: &Window) {
        let profile = &mut self.profile;
        window.comments.iter().for_each(|line| profile.comment(line));
        let columns = column_names(&window.events);
        for ((event, counted), (_, value)) in window.events.iter().zip(&self.counted).zip(&columns) {
            profile.comment(&event_comment(event, value, counted));
        }
        health_comments(&window.health).for_each(|line| profile.comment(&line));
    }

    /// Threads and stacks that turned out equal share a sample.
    fn add_samples(&mut self, window: &Window) {
        let mut keys: Vec<_> = window.samples.iter().collect();
        keys.sort_unstable_by_key(|(key, _)| (key.stack, key.thread, key.event, key.time, key.state, key.waker));
        let labels = self.thread_labels(window);
        let mut first: FxHashMap<&[Label], usize> = FxHashMap::default();
        let of_thread: Vec<usize> =
            labels.iter().enumerate().map(|(at, labels)| *first.entry(labels).or_insert(at)).collect();
        let distinct = keys.chunk_by(|(one, _), (other, _)| one.stack == other.stack).count();
        let mut stacks: FxHashMap<Vec<LocationId>, usize> = FxHashMap::default();
        stacks.reserve(distinct);
        let mut before: Option<(StackId, usize)> = None;
        let mut of_sample: FxHashMap<SampleOf, usize> = FxHashMap::default();
        of_sample.reserve(keys.len());
        let of_frame: Vec<Option<LocationId>> =
            window.stacks.distinct_frames().iter().map(|frame| self.frames.get(frame).copied()).collect();
        let mut locations = Vec::new();
        let columns = window.events.len() * 2;
        self.counted = window.events.iter().map(KindQuality::of_event).collect();
        // Whether each distinct stack has a frame without a name.
        let mut unnamed: Vec<bool> = Vec::new();
        for (key, tally) in keys {
            let same = before.filter(|&(id, _)| id == key.stack).map(|(_, stack)| stack);
            let stack = same.unwrap_or_else(|| {
                let of_stack = window.stacks.numbers(key.stack).filter_map(|frame| of_frame[frame as usize]);
                locations.clear();
                locations.extend(of_stack.skip_while(|location| self.machinery.contains(location)));
                let next = stacks.len();
                if !stacks.contains_key(&locations[..]) {
                    unnamed.push(locations.iter().any(|location| self.unnamed.contains(location)));
                }
                stacks.get(&locations[..]).copied().unwrap_or_else(|| *stacks.entry(locations.clone()).or_insert(next))
            });
            before = Some((key.stack, stack));
            let thread = of_thread.get(key.thread.0 as usize).copied().unwrap_or(usize::MAX);
            let sample = of_sample.entry((stack, thread, key.time, key.state, key.waker));
            let at = *sample.or_insert_with(|| {
                let mut all = labels.get(thread).cloned().unwrap_or_default();
                all.extend(self.other_labels(window, key));
                self.profile.samples.push(Sample { stack: Vec::new(), values: vec![0; columns], labels: all });
                self.profile.samples.len() - 1
            });
            add_tally(&mut self.profile.samples[at].values, key.event as usize, *tally);
            if let Some(counted) = self.counted.get_mut(key.event as usize) {
                counted.count(*tally, unnamed[stack]);
            }
        }
        self.fill_stacks(stacks, of_sample);
    }

    /// The labels of a sample beside its thread's.
    fn other_labels(&mut self, window: &Window, key: &SampleKey) -> impl Iterator<Item = Label> + use<> {
        let strings = &mut self.profile.strings;
        let time = (key.time.0 > 0).then(|| {
            let unit = strings.intern(unit_name(Unit::Nanoseconds));
            (TIME_LABEL, LabelValue::Number(civil_time(window, key.time), unit))
        });
        let state = key.state.map(|state| (STATE_LABEL, LabelValue::Text(strings.intern(state.name()))));
        let waker = key.waker.and_then(|waker| window.wakers.get(waker.0 as usize));
        let waker = waker.map(|name| (WAKER_LABEL, LabelValue::Text(strings.intern(name))));
        [time, state, waker]
            .map(|label| label.map(|(key, value)| Label { key: strings.intern(key), value }))
            .into_iter()
            .flatten()
    }

    fn fill_stacks(&mut self, stacks: FxHashMap<Vec<LocationId>, usize>, samples: FxHashMap<SampleOf, usize>) {
        let mut by_number: Vec<Vec<LocationId>> = vec![Vec::new(); stacks.len()];
        for (stack, number) in stacks {
            by_number[number] = stack;
        }
        let mut uses = vec![0_usize; by_number.len()];
        samples.keys().for_each(|&(stack, ..)| uses[stack] += 1);
        for ((stack, ..), sample) in samples {
            uses[stack] -= 1;
            let last = uses[stack] == 0;
            self.profile.samples[sample].stack =
                if last { std::mem::take(&mut by_number[stack]) } else { by_number[stack].clone() };
        }
    }

    fn thread_labels(&mut self, window: &Window) -> Vec<Vec<Label>> {
        let strings = &mut self.profile.strings;
        let [pid, tid, name, comm, container, unit, no_unit] =
            ["pid", "tid", PROCESS_LABEL, "comm", "container", "unit", ""].map(|key| strings.intern(key));
        let number = |key, value: i32| Label { key, value: LabelValue::Number(value.into(), no_unit) };
        let threads = window.threads.iter();
        threads
            .map(|thread| {
                let process = window.processes.get(thread.process.0 as usize);
                let texts = [
                    (name, process.map(ProcessInfo::name)),
                    (comm, Some(&thread.comm)),
                    (container, process.and_then(|process| process.container.as_ref())),
                    (unit, process.and_then(|process| process.unit.as_ref())),
                ];
                let texts = texts.into_iter().filter_map(|(key, text)| {
                    let text = strings.intern(text?);
                    (!text.is_empty()).then_some(Label { key, value: LabelValue::Text(text) })
                });
                [number(pid, thread.pid.0), number(tid, thread.tid.0)].into_iter().chain(texts).collect()
            })
            .collect()
    }
}

fn add_tally(values: &mut [i64], event: usize, tally: Tally) {
    let Some(pair) = values.get_mut(event * 2..event * 2 + 2) else { return };
    pair[0] = pair[0].saturating_add(signed(tally.samples));
    pair[1] = pair[1].saturating_add(signed(tally.weight));
}

/// `samples` and the first event's value, then a pair for each further event. Names are distinct: readers select by them.
fn column_names(events: &[EventInfo]) -> Vec<(String, String)> {
    let mut taken: FxHashSet<String> = FxHashSet::from_iter(["samples".to_owned()]);
    let mut names = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let mut value = event.value_name.clone();
        let mut number = 2;
        while taken.contains(&value) || taken.contains(&format!("{value}_samples")) {
            value = format!("{}_{number}", event.value_name);
            number += 1;
        }
        let count = match event.count_name {
            "samples" if index > 0 => format!("{value}_samples"),
            name => name.to_owned(),
        };
        taken.extend([count.clone(), value.clone()]);
        names.push((count, value));
    }
    names
}

/// What lies between two samples of an event: its fixed period, a second over its frequency, or else (an event other than
/// time, sampled by frequency: the kernel varies the period) the mean weight of its samples.
fn period(window: &Window, event: &EventInfo) -> i64 {
    if event.period > 0 {
        return signed(event.period);
    }
    if event.frequency > 0 && event.unit == Unit::Nanoseconds {
        return signed(1_000_000_000 / event.frequency);
    }
    let of_event = window.samples.iter().filter(|(key, _)| key.event == 0);
    let sums = of_event.fold((0_u64, 0_u64), |(samples, weight), (_, tally)| {
        (samples.saturating_add(tally.samples), weight.saturating_add(tally.weight))
    });
    signed(sums.1.checked_div(sums.0).unwrap_or(1).max(1))
}

/// What a symbol that is a true name tells of its mapping.
fn known(symbols: &[Symbol]) -> Known {
    let named = || symbols.iter().filter(|symbol| symbol.named);
    Known {
        functions: named().next().is_some(),
        filenames: named().any(|symbol| symbol.file.as_deref().is_some_and(|file| !file.is_empty())),
        line_numbers: named().any(|symbol| symbol.line > 0),
        inline_frames: symbols.len() > 1,
    }
}

/// The executable of the main process. The kernel does not tell which of a process's images it is: the one that its name
/// (at most 15 bytes of the file's) is taken from, else the one that is no library and has the most samples.
fn main_image<'a>(window: &'a Window, frames: &[Frame]) -> Option<&'a ImageInfo> {
    let comms: Vec<&str> = window
        .processes
        .iter()
        .filter(|process| window.main_process.is_none_or(|pid| pid == process.pid))
        .map(|process| &*process.comm)
        .collect();
    let rank = |info: &ImageInfo| {
        let file = info.name.rsplit('/').next().unwrap_or_default();
        let named_like = window.main_process.is_some() && comms.iter().any(|comm| is_comm_of(comm, file));
        let library = file.starts_with('[') || file.contains(".so.") || file.ends_with(".so");
        (named_like, !library)
    };
    let images = frames.chunk_by(|a, b| a.image() == b.image()).filter_map(|frames| frames.first()?.image());
    let images: Vec<&ImageInfo> = images.filter_map(|image| window.images.get(&image)).collect();
    let highest = images.iter().map(|info| rank(info)).max()?;
    let mut best = images.iter().filter(|info| rank(info) == highest);
    // To count the samples of each image is to walk all stacks once more.
    if let (Some(info), None, (true, _)) = (best.next(), best.next(), highest) {
        return Some(info);
    }
    let mut counts = image_samples(window, window.main_process);
    if counts.is_empty() {
        counts = image_samples(window, None);
    }
    let images = counts.iter().filter_map(|(image, count)| Some((window.images.get(image)?, *count)));
    images.max_by_key(|(info, count)| (rank(info), *count, std::cmp::Reverse(info.id))).map(|(info, _)| info)
}

/// Whether the kernel would have named a process that executes `file` so.
fn is_comm_of(comm: &str, file: &str) -> bool {
    !comm.is_empty() && (comm == file || (comm.len() == 15 && file.starts_with(comm)))
}

/// In how many samples of a process (or of all) each image has a frame.
fn image_samples(window: &Window, process: Option<Pid>) -> FxHashMap<ImageId, u64> {
    let mut counts = FxHashMap::default();
    let of_frame: Vec<Option<ImageId>> = window.stacks.distinct_frames().iter().map(Frame::image).collect();
    for (key, tally) in &window.samples {
        let thread = window.threads.get(key.thread.0 as usize);
        if process.is_some_and(|pid| thread.is_none_or(|thread| thread.pid != pid)) {
            continue;
        }
        // Most stacks are of few images, each with many frames in a row.
        let mut images: Vec<ImageId> = Vec::new();
        for image in window.stacks.numbers(key.stack).filter_map(|frame| of_frame[frame as usize]) {
            if images.last() != Some(&image) && !images.contains(&image) {
                images.push(image);
            }
        }
        for image in images {
            *counts.entry(image).or_insert(0) += tally.samples;
        }
    }
    counts
}

fn mapping_key(info: &ImageInfo) -> MappingKey {
    match &info.build_id {
        Some(build_id) => MappingKey::Named(info.name.clone(), build_id.to_string()),
        None => MappingKey::Image(info.id),
    }
}

/// Where an image's code lies among its own addresses, and in its file.
struct CodeRange {
    addresses: Range<u64>,
    offset: u64,
}

fn code_range(info: &ImageInfo) -> Option<CodeRange> {
    let image = info.image.as_ref()?;
    let code = || image.segments().iter().filter(|segment| segment.executable && segment.size > 0);
    let first = code().min_by_key(|segment| segment.address)?;
    let end = code().map(|segment| segment.address.saturating_add(segment.size)).max()?;
    Some(CodeRange { addresses: first.address..end, offset: first.offset })
}

/// The id of a value in a table, where it is added if it is new.
fn intern<T: Clone + Eq + Hash, I: Copy>(
    table: &mut Vec<T>,
    ids: &mut FxHashMap<T, I>,
    value: T,
    id: fn(u32) -> I,
) -> I {
    if let Some(&found) = ids.get(&value) {
        return found;
    }
    let new = id(index(table.len()));
    table.push(value.clone());
    ids.insert(value, new);
    new
}

/// Tables are indexed by 32 bits, as the stacks that they are made from.
fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Zero means "now" to backends, so that a clock before 1970 gives 1.
fn nanoseconds_since_1970(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(1, nanoseconds).max(1)
}

/// The time of a sample in nanoseconds since 1970.
fn civil_time(window: &Window, time: Timestamp) -> i64 {
    let since = i128::from(time.0) - i128::from(window.began.0);
    i64::try_from(i128::from(nanoseconds_since_1970(window.start)) + since).unwrap_or(i64::MAX)
}
