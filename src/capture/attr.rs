//! What the kernel is asked for: `struct perf_event_attr`.

use crate::capture::event::{Event, Rate};
use crate::record::{Layout, Part};
use crate::sys::perf_event::abi;

/// How the stacks of samples are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallGraph {
    /// Not at all: the instruction alone.
    No,
    /// The kernel follows frame pointers.
    FramePointer,
    /// By unwind information, from a copy of so many bytes of the stack's top.
    Dwarf {
        /// Bytes copied, at most [`MAX_STACK_BYTES`].
        stack_bytes: u32,
    },
    /// Per frame: by unwind information where there is any, else by frame pointer; the kernel's own walk where it goes
    /// further than the copy. The copy grows when stacks turn out to be longer.
    Auto,
}

/// The most that the kernel copies: a record's size is a u16, and a multiple of eight.
pub const MAX_STACK_BYTES: u32 = 65_528;

/// Records that who only counts stacks has no use for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlsoRecords {
    /// Mappings that are not executable: where readers look for unwind information.
    pub data_maps: bool,
    /// Namespaces that processes enter.
    pub namespaces: bool,
    /// Each time that a thread gets a CPU or leaves it.
    pub switches: bool,
    /// Code that the kernel makes: that of BPF programs.
    pub kernel_code: bool,
    /// Cgroups that are made (Linux 5.7); and each sample tells its task's.
    pub cgroups: bool,
    /// Not a record, but a part of one: the fields of tracepoints.
    pub fields: bool,
}

/// What this kernel knows and older ones do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features {
    /// `PERF_FORMAT_LOST` (Linux 6.0).
    pub(super) lost: bool,
    /// Build IDs in `MMAP2` records (Linux 5.12).
    pub(super) build_id: bool,
}

/// The general-purpose registers and the instruction pointer, by the numbers of `asm/perf_regs.h`.
#[cfg(target_arch = "x86_64")]
pub const REGISTERS: u64 = 0xff_01ff;
#[cfg(target_arch = "aarch64")]
pub const REGISTERS: u64 = 0x1_ffff_ffff;

/// An attr with what all of ours have in common.
fn common(features: Features) -> abi::perf_event_attr {
    let mut attr = abi::perf_event_attr { sample_type: Layout::COMMON, ..Default::default() };
    attr.set_disabled(1);
    attr.set_sample_id_all(1);
    attr.set_use_clockid(1);
    attr.clockid = libc::CLOCK_MONOTONIC;
    if features.lost {
        attr.read_format = abi::PERF_FORMAT_LOST.into();
    }
    attr
}

/// The event that never happens and carries the records of mappings, names, forks and exits.
pub(super) fn sideband(features: Features, also: AlsoRecords) -> abi::perf_event_attr {
    let mut attr = common(features);
    attr.set_mmap_data(also.data_maps.into());
    attr.set_namespaces(also.namespaces.into());
    attr.set_cgroup(also.cgroups.into());
    // Kernels that know build IDs know it (Linux 5.1).
    attr.set_ksymbol((also.kernel_code && features.build_id).into());
    attr.type_ = abi::PERF_TYPE_SOFTWARE;
    attr.config = abi::PERF_COUNT_SW_DUMMY.into();
    attr.set_mmap(1);
    attr.set_mmap2(1);
    attr.set_comm(1);
    attr.set_comm_exec(1);
    attr.set_task(1);
    attr.set_exclude_kernel(1);
    attr.set_build_id(features.build_id.into());
    attr
}

/// A sampled event. The ring wakes us when `watermark` bytes wait in it; else it is drained by timer.
pub(super) fn sampling(
    event: &Event,
    graph: CallGraph,
    stack_bytes: u32,
    features: Features,
    watermark: u32,
) -> abi::perf_event_attr {
    let mut attr = common(features);
    attr.type_ = event.kind;
    attr.config = event.config;
    [attr.__bindgen_anon_3.config1, attr.__bindgen_anon_4.config2] = event.terms.config;
    if let Some(uprobe) = &event.uprobe {
        // The events of a session keep it until they are open.
        attr.__bindgen_anon_3.config1 = uprobe.held.as_ptr() as u64;
        attr.__bindgen_anon_4.config2 = uprobe.offset;
    }
    // Asked to tell periods that are fixed, the kernel samples a software event each time that it happens, however often that is to be,
    // and tells what it counted (`perf_swevent_event`): so it is asked where each is wanted.
    if matches!(event.rate, Rate::Frequency(_) | Rate::Period(1)) {
        attr.sample_type |= u64::from(abi::PERF_SAMPLE_PERIOD);
    }
    match event.rate {
        Rate::Frequency(hertz) => {
            attr.set_freq(1);
            attr.__bindgen_anon_1.sample_freq = hertz;
        }
        Rate::Period(period) => attr.__bindgen_anon_1.sample_period = period,
    }
    attr.set_exclude_user((!event.user).into());
    attr.set_exclude_kernel((!event.kernel).into());
    attr.set_exclude_guest(1);
    attr.set_exclude_idle(1);
    attr.set_watermark(1);
    attr.__bindgen_anon_2.wakeup_watermark = watermark;
    stacks(&mut attr, event, graph, stack_bytes);
    attr
}

/// An event into which a BPF program of ours writes (`bpf_perf_event_output`): where a thread's time away from a CPU begins, or it
/// allocates, with its stack; else without.
pub(super) fn probe(
    part: Part,
    event: &Event,
    graph: CallGraph,
    stack_bytes: u32,
    features: Features,
    watermark: u32,
) -> abi::perf_event_attr {
    let mut attr = common(features);
    attr.type_ = abi::PERF_TYPE_SOFTWARE;
    attr.config = abi::PERF_COUNT_SW_BPF_OUTPUT.into();
    attr.sample_type |= u64::from(abi::PERF_SAMPLE_RAW);
    attr.__bindgen_anon_1.sample_period = 1;
    attr.set_watermark(1);
    attr.__bindgen_anon_2.wakeup_watermark = watermark;
    if matches!(part, Part::Begin | Part::Allocation) {
        stacks(&mut attr, event, graph, stack_bytes);
    }
    attr
}

fn stacks(attr: &mut abi::perf_event_attr, event: &Event, graph: CallGraph, stack_bytes: u32) {
    let (graph, stack_bytes) = match event.terms.graph {
        Some(CallGraph::Dwarf { stack_bytes: own }) => {
            (CallGraph::Dwarf { stack_bytes: own }, own.min(MAX_STACK_BYTES))
        }
        Some(graph) => (graph, stack_bytes),
        None => (graph, stack_bytes),
    };
    if graph == CallGraph::No {
        return;
    }
    attr.sample_type |= u64::from(abi::PERF_SAMPLE_CALLCHAIN);
    attr.set_exclude_callchain_kernel((!event.kernel).into());
    if graph == CallGraph::FramePointer {
        return;
    }
    attr.sample_type |= u64::from(abi::PERF_SAMPLE_REGS_USER | abi::PERF_SAMPLE_STACK_USER);
    attr.sample_regs_user = REGISTERS;
    attr.sample_stack_user = stack_bytes;
    attr.set_exclude_callchain_user(matches!(graph, CallGraph::Dwarf { .. }).into());
}

/// How samples of an attr are laid out.
pub(super) fn layout(attr: &abi::perf_event_attr, rate: Rate, part: Option<Part>) -> Layout {
    Layout {
        period: if let Rate::Period(period) = rate { period } else { 0 },
        sample_type: attr.sample_type,
        registers: attr.sample_regs_user,
        trailers: true,
        part,
        ..Layout::default()
    }
}

/// Bytes of the largest sample of an attr: header and fixed fields, a callchain of the kernel's default limit, registers, and the
/// room for the stack, which the kernel reserves whole.
pub(super) fn largest_record(graph: CallGraph, stack_bytes: u32) -> u64 {
    const FIXED: u64 = 64;
    const CALLCHAIN: u64 = 8 * (127 + 8);
    match graph {
        CallGraph::No => FIXED,
        CallGraph::FramePointer => FIXED + CALLCHAIN,
        CallGraph::Dwarf { .. } | CallGraph::Auto => {
            FIXED + CALLCHAIN + 8 * (u64::from(REGISTERS.count_ones()) + 3) + u64::from(stack_bytes)
        }
    }
}
