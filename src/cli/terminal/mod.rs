//! Profiles in a terminal that one can move about in: a table of functions, a flame graph, and a function between its callers and callees;
//! of a file, or of what runs now.

mod app;
mod draw;
mod flame;
pub mod guard;
mod input;
mod keys;
mod sandwich;
mod search;
mod table;
pub mod theme;

use std::io::{self, IsTerminal};

use anyhow::Context;
use crossbeam_channel::{Receiver, never, select};
use regex::Regex;

use self::app::{App, Then};
use self::guard::Guard;
use self::input::Input;
pub(super) use self::search::compile;
use self::theme::Theme;
use super::show::{Counts, Sort};
use crate::session::top::Seen;

/// How a profile is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Table,
    Flame,
    /// A function between its callers and its callees.
    Sandwich,
}

impl View {
    fn next(self) -> View {
        match self {
            View::Table => View::Flame,
            View::Flame => View::Sandwich,
            View::Sandwich => View::Table,
        }
    }
}

/// What time is shown of what runs now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Span {
    /// The last interval
    #[default]
    Interval,
    /// The last minute
    Minute,
    /// All since the start
    All,
}

impl Span {
    fn next(self) -> Span {
        match self {
            Span::Interval => Span::Minute,
            Span::Minute => Span::All,
            Span::All => Span::Interval,
        }
    }
}

/// What stands above.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// What it is.
    pub(super) title: String,
    /// What is known of it, the most important first.
    pub(super) facts: Vec<Fact>,
}

/// What is known.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) text: String,
    /// Whether it makes the rest doubtful.
    pub(super) is_wrong: bool,
}

impl Fact {
    pub(super) fn plain(text: String) -> Fact {
        Fact { text, is_wrong: false }
    }
}

/// What is looked at.
pub(super) trait Subject {
    /// The names of the kinds of events, or of values.
    fn kinds(&self) -> Vec<String>;

    /// The one that is shown at first.
    fn first_kind(&self) -> usize {
        0
    }

    /// What was counted of a kind; `None` while there is nothing yet.
    ///
    /// # Errors
    /// If it cannot be shown.
    fn counts(&self, kind: usize, span: Span) -> anyhow::Result<Option<Counts>>;

    /// What stands above.
    fn head(&self, kind: usize, span: Span, counts: Option<&Counts>) -> Head;

    /// What is said where there is nothing yet.
    fn nothing(&self) -> &str {
        "nothing was counted"
    }

    /// What was said.
    fn messages(&self) -> &[String];

    /// What is to be seen at once.
    fn note(&self) -> Option<&str> {
        None
    }

    /// Whether more comes in.
    fn is_live(&self) -> bool {
        false
    }

    /// Takes what was seen.
    fn see(&mut self, _seen: Seen) {}

    /// Takes what was said.
    fn hear(&mut self, _line: String) {}

    /// No more comes in.
    fn end(&mut self) {}

    /// Whether it has been looked at long enough.
    fn is_enough(&self) -> bool {
        false
    }
}

/// How it is looked at at first.
pub(super) struct Options {
    pub(super) view: View,
    pub(super) sort: Sort,
    pub(super) theme: Theme,
    pub(super) search: Option<Regex>,
    pub(super) span: Span,
}

/// Where more comes from.
pub(super) struct News {
    pub(super) seen: Receiver<Box<Seen>>,
    pub(super) said: Receiver<String>,
}

impl News {
    /// Nothing ever comes.
    pub(super) fn none() -> News {
        News { seen: never(), said: never() }
    }
}

/// Whether the standard output is a terminal that can be drawn on.
pub(super) fn can_draw() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    io::stdout().is_terminal() && !dumb
}

/// Takes the terminal until the user has seen enough. Answers the number of the signal that ended it, if one did.
///
/// # Errors
/// If the terminal refuses.
pub(super) fn run(title: &str, subject: Box<dyn Subject>, options: Options, news: News) -> anyhow::Result<Option<i32>> {
    let inputs = input::listen().context("cannot listen to the terminal")?;
    let mut guard = Guard::take(title).context("cannot take the terminal")?;
    let mut looker = Looker { app: App::new(subject, options), waiting: None, news };
    let ended = loop {
        guard.terminal().draw(|frame| draw::draw(&mut looker.app, frame)).context("cannot draw")?;
        match looker.wait(&inputs) {
            Next::Draw => {}
            Next::Clear => guard.clear().context("cannot draw")?,
            Next::Suspend => guard.suspend(title).context("cannot stop")?,
            Next::End(signal) => break signal,
        }
    };
    Ok(ended)
}

/// What comes next.
enum Next {
    Draw,
    /// The screen may hold something else.
    Clear,
    Suspend,
    /// By a signal, or not.
    End(Option<i32>),
}

/// Who looks: the application, and what it is told.
struct Looker {
    app: App,
    /// What was seen meanwhile, while the picture is to stay.
    waiting: Option<Box<Seen>>,
    news: News,
}

impl Looker {
    /// Waits for something, and takes all that is there.
    fn wait(&mut self, inputs: &Receiver<Input>) -> Next {
        let next = select! {
            recv(inputs) -> input => self.input(input.unwrap_or(Input::Gone)),
            recv(self.news.seen) -> seen => {
                match seen {
                    Ok(seen) => self.waiting = Some(seen),
                    Err(_) => {
                        self.news.seen = never();
                        self.app.end();
                    }
                }
                Next::Draw
            }
            recv(self.news.said) -> line => {
                match line {
                    Ok(line) => self.app.subject.hear(line),
                    Err(_) => self.news.said = never(),
                }
                Next::Draw
            }
        };
        let mut next = next;
        // Many come at once when the mouse moves or a window is drawn larger.
        while let (Next::Draw, Ok(input)) = (&next, inputs.try_recv()) {
            next = self.input(input);
        }
        if !self.app.paused
            && let Some(seen) = self.waiting.take()
        {
            self.app.subject.see(*seen);
            self.app.renew();
        }
        if self.app.subject.is_enough() { Next::End(None) } else { next }
    }

    fn input(&mut self, input: Input) -> Next {
        match input {
            Input::Event(event) => match self.app.event(&event) {
                Then::Nothing => Next::Draw,
                Then::Suspend => Next::Suspend,
                Then::Quit => Next::End(None),
            },
            Input::Signal(signal) => Next::End(Some(signal)),
            Input::Continued => Next::Clear,
            Input::Gone => Next::End(None),
        }
    }
}
