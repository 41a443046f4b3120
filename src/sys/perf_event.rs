//! Event file descriptors: `perf_event_open(2)` and its ioctls.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use perf_event_open_sys as raw;
pub use perf_event_open_sys::bindings as abi;

use crate::ids::Tid;

/// What an event watches.
#[derive(Clone, Copy, Debug)]
pub enum Watch<'a> {
    /// Every task that runs on the CPU.
    Cpu,
    /// One thread, and with `inherit` those that it starts later.
    Task(Tid),
    /// The tasks of a cgroup, given by its open folder (`PERF_FLAG_PID_CGROUP`).
    Cgroup(BorrowedFd<'a>),
}

/// An open event. Closed, and with it its counting ended, when dropped.
#[derive(Debug)]
pub struct EventFd {
    file: File,
    id: u64,
    reads_lost: bool,
}

impl EventFd {
    /// Opens an event on a CPU; `None` for a task wherever it runs.
    ///
    /// # Errors
    /// As `perf_event_open(2)` says: `EACCES`/`EPERM` without the privilege, `ENOENT` for an event that this machine
    /// does not have, `ESRCH` for a task that has ended, `EMFILE` where file descriptors run out, `EINVAL` for a bit
    /// that this kernel does not know.
    pub fn open(attr: &abi::perf_event_attr, watch: Watch<'_>, cpu: Option<u32>) -> io::Result<EventFd> {
        let (pid, flags) = match watch {
            Watch::Cpu => (-1, 0),
            Watch::Task(tid) => (tid.0, 0),
            Watch::Cgroup(folder) => (folder.as_raw_fd(), abi::PERF_FLAG_PID_CGROUP),
        };
        let cpu = cpu.map_or(-1, |cpu| cpu as i32);
        let mut attr = *attr;
        attr.size = size_of_val(&attr) as u32;
        // SAFETY: the attr is a whole, initialized struct of the size that it names; the kernel writes at most its size field.
        let fd =
            unsafe { raw::perf_event_open(&raw mut attr, pid, cpu, -1, (flags | abi::PERF_FLAG_FD_CLOEXEC).into()) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor, and nothing else owns it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut id = 0_u64;
        ioctl(raw_ioctl::id(file.as_raw_fd(), &mut id))?;
        Ok(EventFd { file, id, reads_lost: attr.read_format & u64::from(abi::PERF_FORMAT_LOST) != 0 })
    }

    /// The id that the kernel writes into this event's records.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Starts counting.
    ///
    /// # Errors
    /// What the ioctl answers.
    pub fn enable(&self) -> io::Result<()> {
        ioctl(raw_ioctl::enable(self.file.as_raw_fd()))
    }

    /// Stops counting.
    ///
    /// # Errors
    /// What the ioctl answers.
    pub fn disable(&self) -> io::Result<()> {
        ioctl(raw_ioctl::disable(self.file.as_raw_fd()))
    }

    /// Sends this event's records into the ring that is mapped on `owner`, an event of the same CPU.
    ///
    /// # Errors
    /// What the ioctl answers.
    pub fn set_output(&self, owner: &EventFd) -> io::Result<()> {
        ioctl(raw_ioctl::set_output(self.file.as_raw_fd(), owner.file.as_raw_fd()))
    }

    /// Samples a tracepoint only where its fields are like this.
    ///
    /// # Errors
    /// `EINVAL` for a filter that the kernel does not understand, or an event that is no tracepoint.
    pub fn set_filter(&self, filter: &CStr) -> io::Result<()> {
        ioctl(raw_ioctl::set_filter(self.file.as_raw_fd(), filter))
    }

    /// How many of this event's samples the kernel dropped because the ring was full; `None` if the event was opened
    /// without `PERF_FORMAT_LOST` (Linux 6.0).
    ///
    /// # Errors
    /// What `read` answers.
    pub fn lost(&self) -> io::Result<Option<u64>> {
        if !self.reads_lost {
            return Ok(None);
        }
        // With read_format = PERF_FORMAT_LOST alone: { u64 value; u64 lost; }
        let mut words = [0_u8; 16];
        (&self.file).read_exact(&mut words)?;
        Ok(words.last_chunk().map(|lost| u64::from_ne_bytes(*lost)))
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn ioctl(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The ioctls, each safe for any descriptor: on one that is no event the kernel answers `ENOTTY`.
mod raw_ioctl {
    use super::{CStr, RawFd, raw};

    pub(super) fn enable(fd: RawFd) -> i32 {
        // SAFETY: takes no pointer.
        unsafe { raw::ioctls::ENABLE(fd, 0) }
    }

    pub(super) fn disable(fd: RawFd) -> i32 {
        // SAFETY: takes no pointer.
        unsafe { raw::ioctls::DISABLE(fd, 0) }
    }

    pub(super) fn set_output(fd: RawFd, owner: RawFd) -> i32 {
        // SAFETY: takes no pointer.
        unsafe { raw::ioctls::SET_OUTPUT(fd, owner) }
    }

    pub(super) fn set_filter(fd: RawFd, filter: &CStr) -> i32 {
        // SAFETY: the kernel reads the string up to its NUL, and keeps nothing of it.
        unsafe { raw::ioctls::SET_FILTER(fd, filter.as_ptr().cast_mut()) }
    }

    pub(super) fn id(fd: RawFd, id: &mut u64) -> i32 {
        // SAFETY: the kernel writes one u64 to the place that we lend it.
        unsafe { raw::ioctls::ID(fd, id) }
    }
}
