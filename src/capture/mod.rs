//! The live source: which events, of whom, opened how, and their rings drained.

mod alive;
mod alloc;
mod attr;
mod bpf;
pub mod cgroup;
mod error;
mod event;
mod grammar;
mod live;
mod namespace;
mod off_cpu;
mod pmu;
mod selector;
mod sites;
pub mod snapshot;
mod target;
mod uprobe;

pub use alive::{exists, lives, teller, thread_lives};
pub use alloc::{AllocTotals, found_in_path};
pub use attr::{AlsoRecords, CallGraph, MAX_STACK_BYTES, REGISTERS};
pub use bpf::BpfError;
pub use error::CaptureError;
pub use event::{Event, EventError, Probe, Rate};
pub use grammar::{Terms, parse_items, parse_list};
pub use live::{CpuChange, Live, Settings, Sharing};
pub use namespace::{ProcError, check_proc, in_first_pid_namespace};
pub use off_cpu::LeftOut;
pub use selector::{Choice, Selector, SelectorError};
pub use target::{Scope, Target, cgroups, online_cpus, parse_cpus, process_of, threads};
