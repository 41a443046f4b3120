//! Signals: SIGINT, SIGTERM and SIGHUP end a recording and finish its file instead of losing it; SIGUSR2 ends a window.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};

/// Listens for the signals, from its making on.
pub(super) struct Signals {
    last: Arc<AtomicUsize>,
    cut: Arc<AtomicBool>,
    /// Whether the next signal has its ordinary effect.
    deadly: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
    wake: UnixStream,
    /// The other end.
    waker: UnixStream,
}

/// Ends a recording from another thread.
#[derive(Debug)]
pub(super) struct Stopper {
    stopped: Arc<AtomicBool>,
    waker: UnixStream,
}

impl Stopper {
    /// As a signal would, but none is told.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Where it cannot be woken, it looks by itself, a moment later.
        let _ = io::Write::write(&mut &self.waker, &[0]);
    }
}

impl Signals {
    /// Listens for the signals that end a recording.
    pub(super) fn listen() -> io::Result<Signals> {
        Signals::new(&[])
    }

    /// Listens for those that end a window too. A hang-up ends one where there is no terminal that could hang up, as daemons
    /// take it.
    pub(super) fn listen_for_cuts() -> io::Result<Signals> {
        let daemon = std::fs::File::open("/dev/tty").is_err();
        Signals::new(if daemon { &[SIGUSR2, SIGHUP] } else { &[SIGUSR2] })
    }

    /// As [`Signals::listen`], where SIGUSR2 ends a file.
    pub(super) fn listen_for_files() -> io::Result<Signals> {
        Signals::new(&[SIGUSR2])
    }

    fn new(cutting: &[i32]) -> io::Result<Signals> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let (last, cut, deadly, stopped) = Default::default();
        let signals = Signals { last, cut, deadly, stopped, wake, waker };
        crate::sys::output::watch_signal(signals.last.clone());
        let ending = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !cutting.contains(signal));
        for signal in ending.filter(|&signal| !is_ignored(signal)) {
            signal_hook::flag::register_conditional_default(signal, signals.deadly.clone())?;
            signal_hook::flag::register_usize(signal, signals.last.clone(), signal as usize)?;
            // In this order: whoever is woken must find the number.
            signal_hook::low_level::pipe::register(signal, signals.waker.try_clone()?)?;
        }
        for &signal in cutting {
            signal_hook::flag::register(signal, signals.cut.clone())?;
            signal_hook::low_level::pipe::register(signal, signals.waker.try_clone()?)?;
        }
        Ok(signals)
    }

    /// Readable once a signal came.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// From now on a signal that ends kills: what remains takes long, and whoever asks again means it.
    pub(super) fn let_kill(&self) {
        self.deadly.store(true, Ordering::Relaxed);
    }

    /// Waits for another one.
    pub(super) fn forget(&self) {
        self.deadly.store(false, Ordering::Relaxed);
        self.last.store(0, Ordering::Relaxed);
    }

    /// The number of the last signal that came to end the recording.
    pub(super) fn received(&self) -> Option<i32> {
        i32::try_from(self.last.load(Ordering::Relaxed)).ok().filter(|&signal| signal != 0)
    }

    /// What ends the recording from another thread.
    pub(super) fn stopper(&self) -> io::Result<Stopper> {
        Ok(Stopper { stopped: self.stopped.clone(), waker: self.waker.try_clone()? })
    }

    /// Whether the recording is to end, by a signal or by whoever stopped it.
    pub(super) fn is_over(&self) -> bool {
        self.received().is_some() || self.is_stopped()
    }

    /// Whether the recording was stopped by somebody.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether a window was asked to end since the last call.
    pub(super) fn take_cut(&self) -> bool {
        let mut bytes = [0; 64];
        // Else the descriptor would be readable for ever.
        let _ = io::Read::read(&mut &self.wake, &mut bytes);
        self.cut.swap(false, Ordering::Relaxed)
    }
}

/// Whether whoever started us wants a signal to have no effect (`nohup`).
fn is_ignored(signal: i32) -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign & (1 << (signal - 1)) != 0)
}
