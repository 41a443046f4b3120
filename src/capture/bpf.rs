//! What the loading of BPF programs has in common, whatever they tell.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use aya::Ebpf;
use aya::maps::Map;

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
