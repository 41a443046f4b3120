//! Signals that end a recording: SIGINT, SIGTERM and SIGHUP finish the file instead of losing it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Listens for the signals, from its making on.
pub(super) struct Signals {
    last: Arc<AtomicUsize>,
    wake: UnixStream,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Signals> {
        let (wake, sender) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let last = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: whoever is woken must find the number.
            signal_hook::flag::register_usize(signal, last.clone(), signal as usize)?;
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(Signals { last, wake })
    }

    /// Readable once a signal came.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Waits for another one.
    pub(super) fn forget(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    /// The number of the last signal that came.
    pub(super) fn received(&self) -> Option<i32> {
        i32::try_from(self.last.load(Ordering::Relaxed)).ok().filter(|&signal| signal != 0)
    }
}
