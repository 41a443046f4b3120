//! The part of `bpf(2)` that the loader of BPF programs leaves to others.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BPF_MAP_UPDATE_ELEM` of `enum bpf_cmd` in the kernel's `linux/bpf.h`.
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;

/// `struct { … } /* BPF_MAP_*_ELEM commands */` of `union bpf_attr`.
#[repr(C)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Puts a descriptor (of an event, of a cgroup) into a map of descriptors.
///
/// # Errors
/// As `bpf(2)` says: `E2BIG` for an index behind the map's end, `EINVAL` for a descriptor of another kind.
pub fn put_descriptor(map: BorrowedFd<'_>, index: u32, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let value = descriptor.as_raw_fd() as u32;
    let element = MapElement {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: (&raw const index) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    // SAFETY: key and value are four bytes each, as in every map of descriptors, and outlive the call; the kernel checks which kind
    // of map it is.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_UPDATE_ELEM, &raw const element, size_of::<MapElement>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
