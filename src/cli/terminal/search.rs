//! What is searched for: an expression, the rows that it was found in, and what they come to.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use regex::{Regex, RegexBuilder};
use tui_input::{Input, InputRequest};

use crate::cli::show::Counts;

/// A search.
#[derive(Default)]
pub(super) struct Search {
    /// The line that is being written.
    pub(super) prompt: Option<Input>,
    /// What was searched for when the line was begun.
    before: Option<Regex>,
    pub(super) regex: Option<Regex>,
    /// Why what was written is no expression.
    pub(super) error: Option<String>,
    /// For each row, whether it was found.
    pub(super) rows: Vec<bool>,
    /// What was counted in stacks with one of them.
    pub(super) value: i128,
}

/// What became of the line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// It goes on; something else is searched for.
    Written,
    /// It goes on.
    Moved,
    /// It was taken.
    Taken,
    /// It was given up: what was searched for before is again.
    GivenUp,
}

impl Search {
    /// Searches for an expression from the start.
    pub(super) fn of(regex: Option<Regex>) -> Search {
        Search { regex, ..Search::default() }
    }

    /// Begins the line, with what is searched for.
    pub(super) fn begin(&mut self) {
        self.before = self.regex.clone();
        let text = self.regex.as_ref().map_or("", Regex::as_str);
        self.prompt = Some(Input::new(text.to_owned()));
    }

    /// Takes a key of the line.
    pub(super) fn key(&mut self, key: KeyEvent) -> Line {
        let Some(input) = &mut self.prompt else { return Line::GivenUp };
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let request = match key.code {
            KeyCode::Enter => {
                self.prompt = None;
                return Line::Taken;
            }
            KeyCode::Esc => {
                (self.prompt, self.regex, self.error) = (None, self.before.take(), None);
                return Line::GivenUp;
            }
            KeyCode::Backspace => InputRequest::DeletePrevChar,
            KeyCode::Delete => InputRequest::DeleteNextChar,
            KeyCode::Left => InputRequest::GoToPrevChar,
            KeyCode::Right => InputRequest::GoToNextChar,
            KeyCode::Home => InputRequest::GoToStart,
            KeyCode::End => InputRequest::GoToEnd,
            KeyCode::Char('u') if control => InputRequest::DeleteLine,
            KeyCode::Char('w') if control => InputRequest::DeletePrevWord,
            KeyCode::Char('a') if control => InputRequest::GoToStart,
            KeyCode::Char('e') if control => InputRequest::GoToEnd,
            KeyCode::Char(letter) if !control => InputRequest::InsertChar(letter),
            _ => return Line::Moved,
        };
        if input.handle(request).is_none_or(|changed| !changed.value) {
            return Line::Moved;
        }
        match compile(input.value()) {
            Ok(regex) => (self.regex, self.error) = (regex, None),
            // What was found last stays until there is an expression again.
            Err(error) => self.error = Some(error),
        }
        Line::Written
    }

    /// Searches for nothing; answers whether something was searched for.
    pub(super) fn clear(&mut self) -> bool {
        self.error = None;
        self.regex.take().is_some()
    }

    /// Looks through the rows.
    pub(super) fn look(&mut self, counts: &Counts) {
        self.rows.clear();
        self.value = 0;
        if let Some(regex) = &self.regex {
            self.rows.extend(counts.rows.iter().map(|row| row.matches(regex)));
            self.value = counts.value_with(&self.rows);
        }
    }

    /// For each row whether it was found, while something is searched for.
    pub(super) fn found(&self) -> Option<&[bool]> {
        self.regex.as_ref().map(|_| &*self.rows)
    }
}

/// An expression in which case counts only where it has a capital letter; none, of nothing.
///
/// # Errors
/// Why it is none.
pub(in crate::cli) fn compile(text: &str) -> Result<Option<Regex>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let regex = RegexBuilder::new(text).case_insensitive(!text.chars().any(char::is_uppercase)).build();
    // The last line of its account is the reason.
    regex.map(Some).map_err(|error| error.to_string().lines().last().unwrap_or_default().trim().to_owned())
}
