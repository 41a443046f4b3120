//! What the loading of BPF programs has in common, whatever they tell.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya_obj::Object;
use aya_obj::generated::bpf_insn;

use crate::sys::bpf;

/// Why the kernel does not run programs of ours.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// It refuses them.
    #[error(
        "the kernel does not let rprof load its BPF programs, which tell {what}: {reason}\n  run as root, or give the program the privileges: setcap cap_perfmon,cap_bpf,cap_sys_ptrace+ep $(which rprof)"
    )]
    NotAllowed {
        /// What they tell.
        what: &'static str,
        /// Its answer.
        reason: String,
    },
    /// It does not describe its types.
    #[error(
        "this kernel does not describe its types ({reason}), which are needed to tell {what}: /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)"
    )]
    NoTypes {
        /// What they tell.
        what: &'static str,
        /// Its answer.
        reason: String,
    },
    /// Anything else.
    #[error("cannot load the BPF programs that tell {what} (Linux 5.18 or later): {reason}")]
    Load {
        /// What they tell.
        what: &'static str,
        /// Its answer.
        reason: String,
    },
    /// Another limit of theirs.
    #[error("{0}")]
    Limit(String),
}

impl BpfError {
    /// A refusal for want of privilege, or else what went wrong, with its causes.
    pub(super) fn new(what: &'static str, error: &(dyn std::error::Error + 'static)) -> BpfError {
        let mut cause = Some(error);
        while let Some(at) = cause {
            let refused = at.downcast_ref::<io::Error>().is_some_and(|at| at.kind() == io::ErrorKind::PermissionDenied);
            if refused {
                return BpfError::NotAllowed { what, reason: chain(error) };
            }
            cause = at.source();
        }
        BpfError::Load { what, reason: chain(error) }
    }

    /// An object that is not as it was built.
    pub(super) fn missing(what: &'static str, name: &str) -> BpfError {
        BpfError::Load { what, reason: format!("there is no {name}") }
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(at) = cause {
        let more = at.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = at.source();
    }
    text
}

/// Puts a descriptor (of an event, of a cgroup) into a map of descriptors.
pub(super) fn put(bpf: &Ebpf, map: &str, index: u32, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    match bpf.map(map) {
        Some(Map::PerfEventArray(data) | Map::Unsupported(data)) => {
            bpf::put_descriptor(data.fd().as_fd(), index, descriptor)
        }
        _ => Err(io::Error::other(format!("there is no map {map} of descriptors"))),
    }
}

/// The instructions of a program of an object and its license, with the maps of the same object as it is loaded: for kinds of programs
/// that the loader does not know of.
pub(super) fn instructions(object: &[u8], program: &str, bpf: &Ebpf) -> Option<(Vec<bpf_insn>, CString)> {
    let mut object = Object::parse(object).ok()?;
    let maps = object.maps.clone();
    let sections: HashSet<usize> = object.functions.keys().map(|&(section, _)| section).collect();
    let loaded = maps.iter().filter_map(|(name, map)| {
        let data = data_of(bpf.map(name)?)?;
        Some((name.as_str(), data.fd().as_fd().as_raw_fd(), map))
    });
    object.relocate_maps(loaded, &sections).ok()?;
    object.relocate_calls(&sections).ok()?;
    let program = object.programs.get(program)?;
    let function = object.functions.get(&program.function_key())?;
    Some((function.instructions.clone(), program.license.clone()))
}

fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerfEventArray(data)
        | Map::Unsupported(data) => Some(data),
        _ => None,
    }
}
