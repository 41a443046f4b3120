//! The terminal while we have it, given back however we end.

use std::io::{self, Stdout};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use ratatui::crossterm::terminal::{
    DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen, SetTitle, disable_raw_mode,
    enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};
use ratatui::layout::{Position, Rect};

/// Whether the terminal is ours now.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// What other threads would have told of their panics meanwhile.
static KEPT: Mutex<Vec<String>> = Mutex::new(Vec::new());

type Hook = dyn Fn(&PanicHookInfo<'_>) + Send + Sync;

/// A terminal that is ours until this is dropped, or the thread that took it panics.
pub struct Guard {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    /// What told panics before.
    hook: Arc<Hook>,
}

impl Guard {
    /// Takes the terminal that the standard output is.
    ///
    /// # Errors
    /// If it is none, or refuses.
    pub fn take(title: &str) -> io::Result<Guard> {
        let hook: Arc<Hook> = Arc::from(panic::take_hook());
        let (ours, before) = (thread::current().id(), hook.clone());
        panic::set_hook(Box::new(move |info| {
            if thread::current().id() == ours {
                give_back();
                before(info);
            } else if TAKEN.load(Ordering::Relaxed) {
                KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
            } else {
                before(info);
            }
        }));
        let entered = enter(title).and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match entered {
            Ok(terminal) => Ok(Guard { terminal, hook }),
            Err(error) => {
                give_back();
                panic::set_hook(Box::new(move |info| hook(info)));
                Err(error)
            }
        }
    }

    /// The terminal, to draw on.
    pub(super) fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<Stdout>> {
        &mut self.terminal
    }

    /// Gives the terminal back and stops, with all that runs in it, as ^Z does; takes it again when the shell lets us go on.
    pub(super) fn suspend(&mut self, title: &str) -> io::Result<()> {
        give_back();
        // All of the group in the foreground, as the terminal would.
        kill(Pid::from_raw(0), Signal::SIGTSTP)?;
        enter(title)?;
        self.clear()
    }

    /// Makes all be drawn anew. The cursor is not asked for: the answer would come among the keys.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        give_back();
        // Nobody may change the hook while it tells a panic.
        if !thread::panicking() {
            let hook = self.hook.clone();
            panic::set_hook(Box::new(move |info| hook(info)));
        }
        tell(&std::mem::take(&mut *KEPT.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

#[expect(clippy::print_stderr, reason = "what panics tell goes there")]
fn tell(lines: &[String]) {
    lines.iter().for_each(|line| eprintln!("{line}"));
}

fn enter(title: &str) -> io::Result<()> {
    TAKEN.store(true, Ordering::Relaxed);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, SetTitle(title), EnableMouseCapture, DisableLineWrap, cursor::Hide)
}

/// Does nothing where it was given back already.
fn give_back() {
    if TAKEN.swap(false, Ordering::Relaxed) {
        // A terminal that is gone needs nothing any more.
        let _ = execute!(io::stdout(), cursor::Show, EnableLineWrap, DisableMouseCapture, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}
