//! Attrs, and the features behind the records: what the machine is, what was asked for.

use std::path::Path;

use super::host::{self, KernelClock, KernelMap};
use super::records::Builder;
use super::{Binary, EventSpec, SpecRate, WriteOptions};
use crate::ids::{BuildId, Timestamp};
use crate::record::perf_data::format::{ATTR_BYTES, COMPRESSED_ROOM, Feature};
use crate::sys::perf_event::abi;

/// Bits of an attr, by their place in its word of bits.
mod bit {
    pub(super) const INHERIT: u64 = 1 << 1;
    pub(super) const EXCLUDE_USER: u64 = 1 << 4;
    pub(super) const EXCLUDE_KERNEL: u64 = 1 << 5;
    pub(super) const EXCLUDE_HV: u64 = 1 << 6;
    pub(super) const EXCLUDE_IDLE: u64 = 1 << 7;
    pub(super) const MMAP: u64 = 1 << 8;
    pub(super) const COMM: u64 = 1 << 9;
    pub(super) const FREQ: u64 = 1 << 10;
    pub(super) const TASK: u64 = 1 << 13;
    pub(super) const SAMPLE_ID_ALL: u64 = 1 << 18;
    pub(super) const EXCLUDE_GUEST: u64 = 1 << 20;
    pub(super) const EXCLUDE_CALLCHAIN_USER: u64 = 1 << 22;
    pub(super) const MMAP2: u64 = 1 << 23;
    pub(super) const COMM_EXEC: u64 = 1 << 24;
    pub(super) const USE_CLOCKID: u64 = 1 << 25;
    pub(super) const KSYMBOL: u64 = 1 << 29;
    pub(super) const CGROUP: u64 = 1 << 32;
}

/// What samples hold, in every event.
const SAMPLE_TYPE: u64 = abi::PERF_SAMPLE_IDENTIFIER as u64
    | abi::PERF_SAMPLE_IP as u64
    | abi::PERF_SAMPLE_TID as u64
    | abi::PERF_SAMPLE_TIME as u64
    | abi::PERF_SAMPLE_CPU as u64
    | abi::PERF_SAMPLE_PERIOD as u64
    | abi::PERF_SAMPLE_CALLCHAIN as u64;
/// And with raw stacks.
const RAW_STACK: u64 = abi::PERF_SAMPLE_REGS_USER as u64 | abi::PERF_SAMPLE_STACK_USER as u64;

/// The attrs of the events, [`ATTR_BYTES`] each.
pub(super) fn attrs(options: &WriteOptions) -> Vec<Vec<u8>> {
    options.events.iter().enumerate().map(|(at, event)| attr(event, at == 0, options)).collect()
}

/// `struct perf_event_attr`. The first event is the one that records of processes are told by.
fn attr(event: &EventSpec, first: bool, options: &WriteOptions) -> Vec<u8> {
    let (rate, freq) = match event.rate {
        SpecRate::Frequency(hertz) => (hertz, bit::FREQ),
        SpecRate::Period(period) => (period, 0),
    };
    let mut bits = bit::SAMPLE_ID_ALL | bit::EXCLUDE_GUEST | bit::EXCLUDE_IDLE | bit::USE_CLOCKID | freq;
    let mut set = |bit: u64, when: bool| bits |= if when { bit } else { 0 };
    set(bit::INHERIT, options.inherit);
    set(bit::EXCLUDE_USER, !event.user);
    set(bit::EXCLUDE_KERNEL | bit::EXCLUDE_HV, !event.kernel);
    set(bit::MMAP | bit::MMAP2 | bit::COMM | bit::COMM_EXEC | bit::TASK | bit::KSYMBOL, first);
    set(bit::CGROUP, first && options.cgroups);
    set(bit::EXCLUDE_CALLCHAIN_USER, options.raw_stacks.is_some());
    let (registers, stack_bytes) = options.raw_stacks.unwrap_or_default();
    let part = |bits: u64, when: bool| if when { bits } else { 0 };
    let fields = part(abi::PERF_SAMPLE_RAW.into(), event.tracepoint);
    let cgroups = part(abi::PERF_SAMPLE_CGROUP.into(), options.cgroups);
    let sample_type = SAMPLE_TYPE | fields | cgroups | part(RAW_STACK, options.raw_stacks.is_some());
    let mut attr = Vec::with_capacity(ATTR_BYTES as usize);
    put(&mut attr, &[event.kind, ATTR_BYTES as u32]);
    put64(&mut attr, &[event.config, rate, sample_type, 0, bits]);
    put(&mut attr, &[0, 0]);
    let [config1, config2] = event.more;
    // Behind them the branches.
    put64(&mut attr, &[config1, config2, 0, registers]);
    put(&mut attr, &[stack_bytes, options.clock.id() as u32]);
    attr.resize(ATTR_BYTES as usize, 0);
    attr
}

fn put(out: &mut Vec<u8>, words: &[u32]) {
    out.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
}

fn put64(out: &mut Vec<u8>, words: &[u64]) {
    out.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
}

/// A string as features hold it: its room, a multiple of 64, then its bytes and NULs.
fn string(out: &mut Vec<u8>, text: &str) {
    let room = (text.len() + 1).next_multiple_of(64);
    put(out, &[room as u32]);
    let end = out.len() + room;
    out.extend_from_slice(text.as_bytes());
    out.resize(end, 0);
}

fn one_string(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    string(&mut bytes, text);
    bytes
}

/// `struct { u32 version, type, level, ratio, mmap_len; }`, where readers unpack each record into so many bytes.
pub(super) fn compressed(level: i32, ratio: u32) -> Vec<u8> {
    const VERSION: u32 = 1;
    const ZSTD: u32 = 1;
    let mut bytes = Vec::new();
    put(&mut bytes, &[VERSION, ZSTD, level as u32, ratio, COMPRESSED_ROOM as u32]);
    bytes
}

/// `struct { u64 first, last; }`
pub(super) fn sample_time(first: Timestamp, last: Timestamp) -> Vec<u8> {
    [first.0, last.0].map(u64::to_ne_bytes).concat()
}

/// What is known of the machine.
pub(super) struct Facts {
    machine: host::Machine,
    kernel: Vec<KernelMap>,
}

impl Facts {
    pub(super) fn gather() -> Facts {
        Facts { machine: host::Machine::this(), kernel: host::kernel_maps(Path::new("/")) }
    }

    pub(super) fn kernel_maps(&self) -> Vec<KernelMap> {
        self.kernel.clone()
    }

    /// The features that need no recording, in the order of their numbers.
    pub(super) fn known_at_start(&self, options: &WriteOptions) -> Vec<(Feature, Vec<u8>)> {
        let machine = &self.machine;
        let mut features: Vec<_> =
            options.tracing.iter().map(|tracing| (Feature::TracingData, tracing.to_vec())).collect();
        features.extend([
            (Feature::Hostname, one_string(&machine.host)),
            (Feature::OsRelease, one_string(&machine.release)),
            (Feature::Version, one_string(concat!("rprof-", env!("CARGO_PKG_VERSION")))),
            (Feature::Arch, one_string(&machine.architecture)),
            (Feature::NrCpus, machine.cpus.iter().flat_map(|count| count.to_ne_bytes()).collect()),
            (Feature::CpuDesc, one_string(&machine.cpu)),
            (Feature::CpuId, one_string(&machine.cpu_id)),
            (Feature::TotalMem, machine.memory_kb.to_ne_bytes().to_vec()),
            (Feature::CmdLine, command_line(&options.arguments)),
            (Feature::EventDesc, event_descriptions(options)),
        ]);
        features.extend(groups(&options.events).map(|bytes| (Feature::GroupDesc, bytes)));
        features.push((Feature::ClockId, options.clock.resolution().to_ne_bytes().to_vec()));
        features.extend(options.compression.map(|level| (Feature::Compressed, compressed(level, 1))));
        features.push((Feature::ClockData, clock_data(options.clock)));
        features
    }

    /// All features, in the order of their numbers.
    pub(super) fn known_at_end(
        &self,
        options: &WriteOptions,
        binaries: &[Binary],
        span: Option<(Timestamp, Timestamp)>,
        ratio: u32,
    ) -> Vec<(Feature, Vec<u8>)> {
        let mut features = self.known_at_start(options);
        features.retain(|(feature, _)| *feature != Feature::Compressed);
        features.extend(options.compression.map(|level| (Feature::Compressed, compressed(level, ratio))));
        if options.build_ids {
            features.push((Feature::BuildId, self.build_ids(binaries, 0).concat()));
        }
        features.extend(span.map(|(first, last)| (Feature::SampleTime, sample_time(first, last))));
        features.sort_by_key(|(feature, _)| *feature);
        features
    }

    /// The build IDs of the kernel, its modules and these files.
    pub(super) fn build_ids(&self, binaries: &[Binary], kind: u32) -> Vec<Vec<u8>> {
        let kernel = self.kernel.iter().filter_map(|map| {
            let name = map.name.strip_suffix("_text").unwrap_or(&map.name);
            Some(build_id(kind, abi::PERF_RECORD_MISC_KERNEL, name, map.build_id.as_ref()?))
        });
        let user = binaries.iter();
        let user = user.map(|file| build_id(kind, abi::PERF_RECORD_MISC_USER, &file.name, &file.build_id));
        kernel.chain(user).collect()
    }
}

/// `struct { perf_event_header; pid_t pid; u8 build_id[20], size, reserved[3]; char filename[]; }`
fn build_id(kind: u32, mode: u32, name: &str, id: &BuildId) -> Vec<u8> {
    const HOST: u32 = u32::MAX;
    /// `PERF_RECORD_MISC_BUILD_ID_SIZE`: the size is told.
    const SIZED: u32 = 1 << 15;
    let bytes = &id.bytes()[..id.bytes().len().min(20)];
    let mut room = [0; 24];
    room[..bytes.len()].copy_from_slice(bytes);
    room[20] = bytes.len() as u8;
    let mut record = Vec::new();
    let fields = Builder::begin(&mut record, kind, (mode | SIZED) as u16).u32(HOST).bytes(&room);
    // Readers find the next one by the size, so it is a multiple of eight with the header and the PID.
    let padded = (name.len() + 1).next_multiple_of(64) + 4;
    let mut name = name.as_bytes().to_vec();
    name.resize(padded, 0);
    fields.bytes(&name).end();
    record
}

fn command_line(arguments: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, &[arguments.len() as u32]);
    arguments.iter().for_each(|argument| string(&mut bytes, argument));
    bytes
}

/// The attrs again, with names and ids.
fn event_descriptions(options: &WriteOptions) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, &[options.events.len() as u32, ATTR_BYTES as u32]);
    for (id, (event, attr)) in (1..).zip(options.events.iter().zip(attrs(options))) {
        bytes.extend_from_slice(&attr);
        put(&mut bytes, &[1]);
        string(&mut bytes, &event.name);
        put64(&mut bytes, &[id]);
    }
    bytes
}

/// The groups of several events: `{ string name; u32 leader, members; }` each.
fn groups(events: &[EventSpec]) -> Option<Vec<u8>> {
    let mut groups: Vec<(u32, usize, u32)> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let Some(group) = event.group else { continue };
        match groups.iter_mut().find(|(known, ..)| *known == group) {
            Some((_, _, members)) => *members += 1,
            None => groups.push((group, at, 1)),
        }
    }
    groups.retain(|(_, _, members)| *members > 1);
    let mut bytes = Vec::new();
    put(&mut bytes, &[groups.len() as u32]);
    for (_, leader, members) in &groups {
        string(&mut bytes, "");
        put(&mut bytes, &[*leader as u32, *members]);
    }
    (!groups.is_empty()).then_some(bytes)
}

/// `struct { u32 version, clockid; u64 wall_clock_ns, clockid_time_ns; }`
fn clock_data(clock: KernelClock) -> Vec<u8> {
    const VERSION: u32 = 1;
    let (civil, time) = clock.both();
    let mut bytes = Vec::new();
    put(&mut bytes, &[VERSION, clock.id() as u32]);
    put64(&mut bytes, &[civil, time]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::perf_data::format::user_record;

    #[test]
    fn attrs_have_the_size_that_every_reader_takes() {
        let event = EventSpec {
            name: "cpu-clock".into(),
            kind: 1,
            config: 0,
            more: [0; 2],
            rate: SpecRate::Frequency(999),
            user: true,
            kernel: true,
            group: None,
            tracepoint: false,
        };
        let options = WriteOptions {
            events: vec![event.clone(), event],
            arguments: Vec::new(),
            inherit: true,
            raw_stacks: None,
            cgroups: false,
            compression: None,
            clock: KernelClock::Monotonic,
            build_ids: true,
            tracing: None,
        };
        assert!(attrs(&options).iter().all(|attr| attr.len() == ATTR_BYTES as usize));
        assert_eq!(groups(&options.events), None);
    }

    #[test]
    fn build_ids_follow_each_other() {
        let id = BuildId::new(&[7; 20]).unwrap();
        for name in ["/a", "/usr/lib/x86_64-linux-gnu/libc.so.6", &"/x".repeat(100)] {
            let record = build_id(user_record::HEADER_BUILD_ID, 2, name, &id);
            assert_eq!(usize::from(u16::from_ne_bytes([record[6], record[7]])), record.len());
            assert_eq!(record.len() % 8, 0);
        }
    }
}
