//! The part of `bpf(2)` that the loader of BPF programs leaves to others.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::bpf_insn;

/// `BPF_MAP_UPDATE_ELEM` of `enum bpf_cmd` in the kernel's `linux/bpf.h`.
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;

/// `BPF_PROG_LOAD`.
const BPF_PROG_LOAD: libc::c_int = 5;
/// `BPF_LINK_CREATE`.
const BPF_LINK_CREATE: libc::c_int = 28;
/// `enum bpf_prog_type`.
const BPF_PROG_TYPE_KPROBE: u32 = 2;
/// `enum bpf_attach_type` (Linux 6.13).
const BPF_TRACE_UPROBE_SESSION: u32 = 57;

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
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &element) }.map(|_| ())
}

/// `struct { … } /* BPF_PROG_LOAD command */` of `union bpf_attr`, up to the last field that is set.
#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

/// Loads a program that is run where a function of a user's program is called, and, if it then answers 0, where that call returns
/// (Linux 6.13).
///
/// # Errors
/// As `bpf(2)` says; `EINVAL` from a kernel that does not know of this kind, or from its verifier.
pub fn load_session(name: &str, instructions: &[bpf_insn], license: &CStr) -> io::Result<OwnedFd> {
    let mut load = ProgramLoad {
        kind: BPF_PROG_TYPE_KPROBE,
        instruction_count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        expected_attach_type: BPF_TRACE_UPROBE_SESSION,
        ..ProgramLoad::default()
    };
    // With a zero behind it.
    load.name.iter_mut().take(15).zip(name.bytes()).for_each(|(to, from)| *to = from);
    // SAFETY: the instructions and the license outlive the call, and the kernel only reads them.
    unsafe { create(BPF_PROG_LOAD, &load) }
}

/// `struct { … } link_create` of `union bpf_attr` with its part `uprobe_multi`.
#[repr(C)]
struct SessionLink {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    reference_counts: u64,
    cookies: u64,
    count: u32,
    uprobe_flags: u32,
    pid: u32,
    padding: u32,
}

/// Runs a program of [`load_session`] at these places of a file, given as bytes from its beginning, each with a number that the program can
/// ask for; in one process, or in all for `None`. It ends with the descriptor.
///
/// # Errors
/// As `bpf(2)` says: `EBADF` for a file that is none, `ESRCH` for a process that is gone, `EINVAL` for a place that lies in no code.
pub fn link_session(
    program: BorrowedFd<'_>,
    path: &CStr,
    places: &[(u64, u64)],
    pid: Option<u32>,
) -> io::Result<OwnedFd> {
    let (offsets, cookies): (Vec<u64>, Vec<u64>) = places.iter().copied().unzip();
    let link = SessionLink {
        program: program.as_raw_fd() as u32,
        target: 0,
        attach_type: BPF_TRACE_UPROBE_SESSION,
        flags: 0,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        reference_counts: 0,
        cookies: cookies.as_ptr() as u64,
        count: u32::try_from(places.len()).unwrap_or(u32::MAX),
        uprobe_flags: 0,
        pid: pid.unwrap_or(0),
        padding: 0,
    };
    // SAFETY: path, offsets and cookies outlive the call, there are `count` of the latter, and the kernel only reads them.
    unsafe { create(BPF_LINK_CREATE, &link) }
}

/// A call that answers a new descriptor.
///
/// # Safety
/// What `attribute` points to must be as the command asks for, and the command one that creates something.
unsafe fn create<A>(command: libc::c_int, attribute: &A) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promised.
    let descriptor = unsafe { bpf(command, attribute) }?;
    // SAFETY: nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The system call, and its answer.
///
/// # Safety
/// What `attribute` points to must be as the command asks for.
unsafe fn bpf<A>(command: libc::c_int, attribute: &A) -> io::Result<i32> {
    // SAFETY: the kernel reads `size_of::<A>()` bytes; the rest is the caller's.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attribute, size_of::<A>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer as i32) }
}
