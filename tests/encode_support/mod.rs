//! A window as the collector makes them, and a namer that knows its functions.
#![allow(dead_code, reason = "each test uses a part")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rprof::collect::{
    EventInfo, Frame, Loss, Marker, ProcessIndex, SampleKey, StackId, StackTree, Tally, Thread, ThreadIndex, Unit,
    Window,
};
use rprof::health::{Count, Health};
use rprof::ids::{Address, BuildId, ImageId, KernelAddress, Pid, Place, Rva, Tid, Timestamp};
use rprof::process::{ImageInfo, ProcessInfo, ProcessKey};
use rprof::profile::{Namer, Profile, build};
use rprof::symbol::Symbol;
use rustc_hash::FxHashMap;

/// Nanoseconds between two samples at 1000 Hz.
pub(crate) const PERIOD: u64 = 1_000_000;

/// Names by a few rules, and counts how often each address was asked for.
#[derive(Default)]
pub(crate) struct FakeNamer {
    pub(crate) asked: Vec<String>,
}

pub(crate) fn symbol(name: &str, file: &str, line: u32, inlined: bool) -> Symbol {
    let file = (!file.is_empty()).then(|| Arc::from(file));
    let name: Arc<str> = name.into();
    Symbol {
        function: name.clone(),
        system_name: name,
        file,
        line,
        start_line: line.min(1),
        inlined,
        named: true,
        module: None,
    }
}

impl FakeNamer {
    fn one(&mut self, info: &ImageInfo, rva: Rva) -> Vec<Symbol> {
        self.asked.push(format!("{}+{:#x}", info.name, rva.0));
        match (&*info.name, rva.0) {
            ("/usr/bin/server", 0x1100) => vec![symbol("main", "server.c", 10, false)],
            ("/usr/bin/server", 0x1200) => {
                vec![symbol("hash", "hash.h", 3, true), symbol("lookup(int)", "server.c", 20, false)]
            }
            ("/usr/bin/server", 0x1300) => vec![symbol("recurse", "server.c", 30, false)],
            (_, 0x5000) => vec![symbol("memcpy", "", 0, false)],
            (name, rva) => {
                let name: Arc<str> = format!("{name}+{rva:#x}").into();
                vec![Symbol {
                    function: name.clone(),
                    system_name: name,
                    file: None,
                    line: 0,
                    start_line: 0,
                    inlined: false,
                    named: false,
                    module: None,
                }]
            }
        }
    }
}

impl Namer for FakeNamer {
    fn image(&mut self, info: &ImageInfo, rvas: &[Rva]) -> Vec<Arc<[Symbol]>> {
        rvas.iter().map(|&rva| self.one(info, rva).into()).collect()
    }

    fn kernel(&mut self, address: KernelAddress) -> Symbol {
        self.asked.push(format!("kernel+{:#x}", address.0));
        symbol("do_syscall_64", "", 0, false)
    }

    fn anonymous(&mut self, process: &ProcessInfo, address: Address) -> Symbol {
        self.asked.push(format!("{}+{:#x}", process.pid.0, address.0));
        symbol("LazyCompile:~tick", "", 0, false)
    }
}

pub(crate) fn image(id: u32, name: &str, build_id: &[u8]) -> ImageInfo {
    ImageInfo { id: ImageId(id), name: name.into(), build_id: BuildId::new(build_id), root: None, image: None }
}

pub(crate) fn process(pid: i32, comm: &str) -> ProcessInfo {
    ProcessInfo { uid: 0, comm: comm.into(), ..ProcessInfo::new(ProcessKey(0), Pid(pid)) }
}

pub(crate) fn thread(process: u32, pid: i32, tid: i32, comm: &str) -> Thread {
    Thread { process: ProcessIndex(process), pid: Pid(pid), tid: Tid(tid), comm: comm.into() }
}

pub(crate) fn cpu_clock() -> EventInfo {
    EventInfo {
        name: "cpu-clock".into(),
        value_name: "cpu".into(),
        unit: Unit::Nanoseconds,
        period: 0,
        frequency: 1000,
        loss: Loss { lost: 7, throttled: 1 },
        passed_on: 0,
        count_name: "samples",
        apart: false,
    }
}

pub(crate) fn at(image: u32, rva: u64) -> Frame {
    Frame::Image(Place { image: ImageId(image), rva: Rva(rva) })
}

pub(crate) fn empty_window() -> Window {
    Window {
        start: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        began: Timestamp(1_000_000_000),
        duration: Duration::from_secs(10),
        events: vec![cpu_clock()],
        samples: Default::default(),
        stacks: StackTree::default(),
        threads: Vec::new(),
        processes: Vec::new(),
        wakers: Vec::new(),
        images: Default::default(),
        main_process: None,
        comments: vec!["rprof 0.1.0".into(), "command: server --port 80".into()],
        health: Health::default(),
    }
}

pub(crate) fn images<const N: usize>(infos: [ImageInfo; N]) -> FxHashMap<ImageId, ImageInfo> {
    infos.into_iter().map(|info| (info.id, info)).collect()
}

/// Pushes the frames of a stack, root first.
pub(crate) fn push(window: &mut Window, root_first: &[Frame]) -> StackId {
    window.stacks.push(ProcessIndex(0), root_first.iter().copied())
}

pub(crate) fn count(window: &mut Window, event: u32, thread: u32, stack: StackId, samples: u64) {
    let weight = if event == 0 { samples * PERIOD } else { samples };
    let key = SampleKey { event, thread: ThreadIndex(thread), stack, time: Timestamp(0), state: None, waker: None };
    let tally = window.samples.entry(key).or_default();
    *tally = Tally { samples: tally.samples + samples, weight: tally.weight + weight };
}

/// 100 samples of two processes: inlined functions, recursion, the kernel, a JIT, the vDSO and a cut stack.
pub(crate) fn server_window() -> Window {
    let mut window = empty_window();
    // libc is first and has the most frames: the main image must be found nonetheless.
    window.images = images([
        image(0, "/usr/lib/libc.so.6", &[0xcc; 20]),
        image(1, "/usr/bin/server", &[0xaa; 20]),
        image(2, "[vdso]", &[]),
    ]);
    window.processes = vec![process(42, "server"), process(77, "node")];
    window.threads = vec![thread(0, 42, 42, "server"), thread(0, 42, 43, "worker 1"), thread(1, 77, 77, "node")];
    window.main_process = Some(Pid(42));
    let main = at(1, 0x1100);
    let lookup = push(&mut window, &[at(0, 0x2000), main, at(1, 0x1200)]);
    let copy = push(&mut window, &[at(0, 0x2000), main, at(1, 0x1200), at(0, 0x5000)]);
    let recurse = push(&mut window, &[main, at(1, 0x1300), at(1, 0x1300), at(1, 0x1300)]);
    let kernel = push(&mut window, &[main, at(0, 0x5000), Frame::Kernel(KernelAddress(0xffff_ffff_8100_0000))]);
    let jit = push(&mut window, &[Frame::Anonymous(ProcessIndex(1), Address(0x7f00_0000_1000))]);
    let cut = push(&mut window, &[Frame::Marker(Marker::Truncated), at(2, 0xa00)]);
    for (thread, stack, samples) in
        [(0, lookup, 40), (1, copy, 25), (0, recurse, 15), (0, kernel, 10), (2, jit, 6), (1, cut, 4)]
    {
        count(&mut window, 0, thread, stack, samples);
    }
    window.health.add(Count::Samples, 100);
    window.health.add(Count::StacksRoot, 96);
    window.health.add(Count::StacksTruncated, 4);
    window
}

/// The values of all samples so many times, and what the comments tell of them.
pub(crate) fn multiply(profile: &mut Profile, times: i64) {
    profile.samples.iter_mut().flat_map(|sample| &mut sample.values).for_each(|value| *value *= times);
    let numbers = ["samples=", "counted=", "unnamed="];
    let multiplied = |word: &str| {
        let number = numbers.iter().find_map(|field| Some((field, word.strip_prefix(field)?.parse::<i64>().ok()?)));
        number.map_or_else(|| word.to_owned(), |(field, number)| format!("{field}{}", number * times))
    };
    for at in 0..profile.comments.len() {
        let line = profile.text(profile.comments[at]).to_owned();
        if line.starts_with("event ") {
            let line = line.split(' ').map(multiplied).collect::<Vec<_>>().join(" ");
            profile.comments[at] = profile.strings.intern(&line);
        }
    }
}

pub(crate) fn server_profile() -> Profile {
    build(server_window(), &mut FakeNamer::default(), &mut |_, _| {})
}
