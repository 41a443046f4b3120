//! The kernel's interfaces, and all of the crate's `unsafe` code.

pub mod bpf;
pub mod child;
mod fault;
pub mod memory;
mod open;
pub mod output;
pub mod perf_event;
pub mod ptrace;
pub mod ring;
pub mod stops;
mod threads;

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::OnceLock;

use memmap2::{Mmap, MmapOptions, UncheckedAdvice};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::time::{ClockId, clock_gettime};

use crate::ids::{Address, Tid, Timestamp};

pub use fault::survive_truncated_files;
pub use open::{open_own, open_regular, read_regular, set_mode};
pub use threads::in_threads;

/// Bytes of a page of memory.
#[must_use]
pub fn page_size() -> u64 {
    static SIZE: OnceLock<u64> = OnceLock::new();
    let ask = || nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    *SIZE.get_or_init(|| ask().map_or(4096, |size| size as u64))
}

/// Maps a whole file for reading.
///
/// # Errors
/// What `mmap` answers; an empty file cannot be mapped.
pub fn map_file(file: &File) -> io::Result<Mmap> {
    // SAFETY: another process may change the file while we read: the parsers treat every byte as hostile. Should it
    // truncate the file, `survive_truncated_files` puts zeros in the place of what is gone.
    unsafe { Mmap::map(file) }
}

/// Maps so many bytes of a file from an offset on, which is one of a page, for reading.
///
/// # Errors
/// What `mmap` answers.
pub fn map_part(file: &File, offset: u64, bytes: usize) -> io::Result<Mmap> {
    // SAFETY: as for `map_file`.
    unsafe { MmapOptions::new().offset(offset).len(bytes).map(file) }
}

/// Now, on the clock of every record.
#[must_use]
pub fn now() -> Timestamp {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC);
    Timestamp(time.map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64))
}

/// CPU time that this process has used, user and kernel, in nanoseconds.
#[must_use]
pub fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    time.map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

/// The most memory of this process that was ever resident, in bytes.
#[must_use]
pub fn peak_memory() -> Option<u64> {
    procfs::process::Process::myself().ok()?.status().ok()?.vmhwm.map(|kilobytes| kilobytes << 10)
}

/// Memory of this process that is resident now, in bytes.
#[must_use]
pub fn resident_memory() -> Option<u64> {
    procfs::process::Process::myself().ok()?.statm().ok().map(|pages| pages.resident * page_size())
}

/// A descriptor of ours that whoever started us gave us, duplicated, so that it can be closed. It does not wait any longer.
///
/// # Errors
/// `EBADF` if there is none of this number.
pub fn inherited(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer; a number that is no descriptor is answered by EBADF.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, and nothing else owns it.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    nix::fcntl::fcntl(&copy, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    Ok(copy)
}

/// Copies memory of a thread's process from an address upwards, and answers how many bytes could be read: fewer than `buffer` has
/// where the memory ends or may not be read.
pub fn read_memory(tid: Tid, from: Address, buffer: &mut [u8]) -> usize {
    let Ok(base) = usize::try_from(from.0) else { return 0 };
    let remote = [RemoteIoVec { base, len: buffer.len() }];
    process_vm_readv(nix::unistd::Pid::from_raw(tid.0), &mut [io::IoSliceMut::new(buffer)], &remote).unwrap_or(0)
}

/// Gives free memory of the heap back to the kernel: what a window needed, the next may not.
pub fn trim_memory() {
    // SAFETY: takes no pointer, and may be called by any thread at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lifts the soft limit of open files to the hard one: a busy host has more images and events than 1,024.
pub fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where it is refused, the limit stays, and opening says what it ran into.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// How the scheduler treats a thread against others (`nice`).
#[derive(Clone, Copy, Debug)]
pub struct Priority(i32);

impl Priority {
    /// Before all ordinary threads.
    pub const FIRST: Priority = Priority(-20);

    /// Behind all ordinary threads.
    pub const LATER: Priority = Priority(10);

    /// The calling thread's, which threads that it starts inherit.
    #[must_use]
    pub fn current() -> Priority {
        // SAFETY: takes no pointer; 0 is the calling thread.
        Priority(unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) })
    }

    /// Gives it to the calling thread. Without the privilege to raise it, it stays as it is.
    pub fn set(self) {
        // SAFETY: takes no pointer; 0 is the calling thread.
        unsafe {
            libc::setpriority(libc::PRIO_PROCESS, 0, self.0);
        }
    }
}

/// A copy of the kernel's vDSO, which is the same in every 64-bit process; `None` if the kernel gives none.
///
/// From our own memory: `/proc/self/mem` belongs to root where the program has file capabilities.
#[must_use]
pub fn vdso() -> Option<Vec<u8>> {
    let maps = procfs::process::Process::myself().ok()?.maps().ok()?;
    let map = maps.into_iter().find(|map| map.pathname == procfs::process::MMapPath::Vdso)?;
    let (start, end) = map.address;
    let readable = map.perms.contains(procfs::process::MMPermissions::READ);
    let bytes = usize::try_from(end.checked_sub(start)?).ok().filter(|_| readable)?;
    let start = std::ptr::with_exposed_provenance::<u8>(usize::try_from(start).ok()?);
    // SAFETY: the kernel mapped these pages, readable and never written by us, and nothing of ours moves or unmaps them.
    Some(unsafe { std::slice::from_raw_parts(start, bytes) }.to_vec())
}

/// Gives the memory of a mapped file back; its pages are read again from the file (mostly the page cache) when next used.
pub fn release_pages(map: &Mmap) {
    // SAFETY: the mapping is of a file, shared and never written, so that dropped pages come back with the file's bytes.
    // An answer of the kernel that it cannot only means that the memory stays in use.
    let _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
}
