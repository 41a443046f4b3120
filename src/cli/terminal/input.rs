//! What comes in from the terminal, and signals.

use std::io;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use ratatui::crossterm::event::{self, Event};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What came in.
pub(super) enum Input {
    /// A key, the mouse, another size.
    Event(Event),
    /// A signal that ends us.
    Signal(i32),
    /// We go on after we were stopped: the screen may hold something else.
    Continued,
    /// The terminal is gone.
    Gone,
}

/// Listens in threads of their own, which end with the process.
///
/// # Errors
/// If a thread cannot be started, or signals cannot be listened for.
pub(super) fn listen() -> io::Result<Receiver<Input>> {
    let (sender, inputs) = unbounded();
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGCONT])?;
    let of_signals = sender.clone();
    thread::Builder::new().name("rprof-signals".into()).spawn(move || {
        let inputs =
            signals.forever().map(|signal| if signal == SIGCONT { Input::Continued } else { Input::Signal(signal) });
        send_all(inputs, &of_signals);
    })?;
    thread::Builder::new().name("rprof-keys".into()).spawn(move || {
        let events = std::iter::repeat_with(event::read).map_while(Result::ok).map(Input::Event);
        send_all(events.chain([Input::Gone]), &sender);
    })?;
    Ok(inputs)
}

fn send_all(inputs: impl Iterator<Item = Input>, to: &Sender<Input>) {
    for input in inputs {
        if to.send(input).is_err() {
            return;
        }
    }
}
