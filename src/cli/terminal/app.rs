//! What is looked at, and what keys and the mouse do to it.

use ratatui::crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use regex::Regex;

use super::flame::Flame;
use super::keys::{self, Action};
use super::sandwich::Sandwich;
use super::search::{Line, Search};
use super::table::Table;
use super::theme::{Paint, Theme};
use super::{Options, Span, Subject, View};
use crate::cli::show::{Counts, FunctionSums, Row, Sort, Tree, functions};

/// Rows that the mouse's wheel goes.
const WHEEL: usize = 3;

/// What the loop is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    Quit,
    Suspend,
}

/// What covers the view.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Overlay {
    Help,
    Messages,
}

pub(super) struct App {
    pub(super) subject: Box<dyn Subject>,
    pub(super) kind: usize,
    pub(super) span: Span,
    pub(super) view: View,
    pub(super) paint: Paint,
    pub(super) search: Search,
    pub(super) overlay: Option<Overlay>,
    /// Lines of the overlay that are scrolled away.
    pub(super) scrolled: usize,
    pub(super) paused: bool,
    /// What was counted, once there is something.
    pub(super) picture: Option<Picture>,
    pub(super) table: Table,
    /// Whether something else is searched for than what the table was filled with.
    stale: bool,
    /// Whether callers hang from callees.
    pub(super) inverted: bool,
    downwards: bool,
    pub(super) flame: Option<Flame>,
    /// The function that the sandwich is of, whether it was counted or not.
    pub(super) between: Option<Row>,
    pub(super) sandwich: Option<Sandwich>,
    /// Why nothing can be shown.
    pub(super) problem: Option<String>,
}

/// What was counted, and its sums by function.
pub(super) struct Picture {
    pub(super) counts: Counts,
    pub(super) sums: Vec<FunctionSums>,
}

impl App {
    pub(super) fn new(subject: Box<dyn Subject>, options: Options) -> App {
        let Options { view, sort, theme, search, span } = options;
        let mut app = App {
            subject,
            kind: 0,
            span,
            view,
            paint: Paint { theme: theme.settled(), colouring: Default::default() },
            search: Search::of(search),
            overlay: None,
            scrolled: 0,
            paused: false,
            picture: None,
            table: Table::new(sort),
            stale: false,
            inverted: false,
            downwards: true,
            flame: None,
            between: None,
            sandwich: None,
            problem: None,
        };
        app.kind = app.subject.first_kind();
        app.renew();
        app
    }

    /// Takes the counts anew, and looks at the same of them as before.
    pub(super) fn renew(&mut self) {
        self.problem = None;
        let counts = match self.subject.counts(self.kind, self.span) {
            Ok(counts) => counts,
            Err(error) => {
                self.problem = Some(format!("{error:#}"));
                None
            }
        };
        let Some(counts) = counts else { return };
        let sums = functions(&counts);
        let before = self.picture.replace(Picture { counts, sums });
        self.search_again();
        let Some(Picture { counts, sums }) = &self.picture else { return };
        let row = self.table.row().filter(|_| self.table.is_off_top());
        let row = before.as_ref().zip(row).map(|(before, row)| before.counts.rows[row].clone());
        let keep = row.and_then(|row| counts.rows.iter().position(|other| *other == row));
        self.table.fill(counts, sums, self.search.regex.as_ref(), keep);
        self.stale = false;
        // What is not looked at now is made when it is.
        let old = (self.flame.take(), self.sandwich.take());
        match self.view {
            View::Table => {}
            View::Flame => {
                let mut flame = self.new_flame(counts);
                if let (Some(before), Some(old)) = (&before, &old.0) {
                    flame.look_as(old, &before.counts, counts);
                }
                self.flame = Some(flame);
            }
            View::Sandwich => {
                let row = self.between.as_ref().and_then(|of| counts.rows.iter().position(|row| row == of));
                self.sandwich = row.map(|row| Sandwich::new(row, counts));
                if let (Some(new), Some(before), Some(old)) = (&mut self.sandwich, &before, &old.1) {
                    new.look_as(old, &before.counts, counts);
                }
            }
        }
    }

    fn new_flame(&self, counts: &Counts) -> Flame {
        let tree = if self.inverted { Tree::of_callers(counts) } else { Tree::of_processes(counts) };
        Flame::new(tree, self.downwards)
    }

    /// Makes the tree where it is looked at and there is none.
    fn draw_tree(&mut self) {
        if self.view == View::Flame && self.flame.is_none() {
            self.flame = self.picture.as_ref().map(|picture| self.new_flame(&picture.counts));
        }
    }

    fn search_again(&mut self) {
        if let Some(picture) = &self.picture {
            self.search.look(&picture.counts);
        }
    }

    /// Takes what is wanted into the table, once it is looked at.
    fn fill_table(&mut self) {
        self.stale = self.view != View::Table;
        if self.stale {
            return;
        }
        let keep = self.table.row();
        if let Some(Picture { counts, sums }) = &self.picture {
            self.table.fill(counts, sums, self.search.regex.as_ref(), keep);
        }
    }

    /// What is searched for has changed.
    fn searched(&mut self) {
        self.search_again();
        self.fill_table();
    }

    /// The row of the counts that the cursor is on, in any view.
    pub(super) fn row(&self) -> Option<usize> {
        let of = |flame: &Flame| flame.cursor.map(|node| flame.tree.nodes[node].row);
        match self.view {
            View::Table => self.table.row(),
            View::Flame => self.flame.as_ref().and_then(of),
            View::Sandwich => self.sandwich.as_ref().and_then(|sandwich| of(sandwich.half())),
        }
    }

    /// Shows a view.
    fn show(&mut self, view: View) {
        if view == View::Sandwich {
            let Some((picture, row)) = self.picture.as_ref().zip(self.row().or(self.table.row())) else { return };
            let of = &picture.counts.rows[row];
            if self.sandwich.is_none() || self.between.as_ref() != Some(of) {
                self.between = Some(of.clone());
                self.sandwich = Some(Sandwich::new(row, &picture.counts));
            }
        }
        self.view = view;
        self.draw_tree();
        if self.stale {
            self.fill_table();
        }
    }

    pub(super) fn event(&mut self, event: &Event) -> Then {
        match event {
            Event::Key(key) if key.kind == KeyEventKind::Release => Then::Nothing,
            // ^C means the same everywhere.
            Event::Key(key) if self.search.prompt.is_some() && !is_interrupt(key) => self.write(*key),
            Event::Key(key) => keys::action(*key).map_or(Then::Nothing, |action| self.act(action)),
            Event::Mouse(mouse) => self.mouse(*mouse),
            _ => Then::Nothing,
        }
    }

    fn write(&mut self, key: KeyEvent) -> Then {
        match self.search.key(key) {
            Line::Written | Line::GivenUp => self.searched(),
            Line::Taken if self.view != View::Table => self.next_match(true),
            Line::Taken | Line::Moved => {}
        }
        Then::Nothing
    }

    fn act(&mut self, action: Action) -> Then {
        if self.overlay.is_some() {
            return self.act_on_overlay(action);
        }
        match action {
            Action::Quit => return Then::Quit,
            Action::Suspend => return Then::Suspend,
            Action::Help => self.cover(Overlay::Help),
            Action::Messages => self.cover(Overlay::Messages),
            Action::Table => self.show(View::Table),
            Action::Flame => self.show(View::Flame),
            Action::Sandwich => self.show(View::Sandwich),
            Action::NextView => self.show(self.view.next()),
            Action::Search => self.search.begin(),
            Action::NextMatch => self.next_match(true),
            Action::LastMatch => self.next_match(false),
            Action::Clear => self.clear(),
            Action::Order => self.order(if self.table.sort == Sort::Own { Sort::Total } else { Sort::Own }),
            Action::Colour => self.paint.colouring = self.paint.colouring.next(),
            Action::Theme => self.paint.theme = self.paint.theme.other(),
            Action::Invert => {
                self.inverted = !self.inverted;
                self.flame = None;
                self.show(View::Flame);
            }
            Action::Flip => {
                self.downwards = !self.downwards;
                self.flame.iter_mut().for_each(|flame| flame.downwards = self.downwards);
            }
            Action::Kind => {
                self.kind = (self.kind + 1) % self.subject.kinds().len().max(1);
                self.look_elsewhere();
            }
            Action::Span if self.subject.is_live() => {
                self.span = self.span.next();
                self.look_elsewhere();
            }
            Action::Pause if self.subject.is_live() => {
                self.paused = !self.paused;
                self.renew();
            }
            Action::Span | Action::Pause => {}
            _ => self.go(action),
        }
        Then::Nothing
    }

    /// Something else is counted: where the cursor was means nothing there.
    fn look_elsewhere(&mut self) {
        self.flame = None;
        self.renew();
    }

    /// No more comes in. The last interval may have been a short one: all of it says more.
    pub(super) fn end(&mut self) {
        self.subject.end();
        (self.span, self.paused) = (Span::All, false);
        self.renew();
    }

    fn cover(&mut self, overlay: Overlay) {
        (self.overlay, self.scrolled) = (Some(overlay), 0);
    }

    fn act_on_overlay(&mut self, action: Action) -> Then {
        match action {
            Action::Down => self.scrolled += 1,
            Action::PageDown => self.scrolled += 10,
            Action::Up => self.scrolled = self.scrolled.saturating_sub(1),
            Action::PageUp => self.scrolled = self.scrolled.saturating_sub(10),
            Action::First => self.scrolled = 0,
            Action::Quit | Action::Clear | Action::Enter | Action::Help | Action::Messages => self.overlay = None,
            _ => {}
        }
        Then::Nothing
    }

    fn order(&mut self, sort: Sort) {
        self.table.sort = sort;
        let top = !self.table.is_off_top();
        self.fill_table();
        if top {
            self.table.go(isize::MIN);
        }
    }

    /// One thing less that is looked at more closely.
    fn clear(&mut self) {
        if self.search.clear() {
            return self.searched();
        }
        match self.view {
            View::Table => {}
            View::Flame => drop(self.flame.as_mut().map(Flame::zoom_off)),
            View::Sandwich => {
                if !self.sandwich.as_mut().is_some_and(Sandwich::zoom_off) {
                    self.show(View::Table);
                }
            }
        }
    }

    fn next_match(&mut self, forward: bool) {
        match self.view {
            View::Table => self.table.go(if forward { 1 } else { -1 }),
            View::Flame | View::Sandwich => {
                let flame = match self.view {
                    View::Flame => self.flame.as_mut(),
                    _ => self.sandwich.as_mut().map(Sandwich::half_mut),
                };
                if let Some((flame, found)) = flame.zip(self.search.found()) {
                    flame.find(found, forward);
                }
            }
        }
    }

    /// Moves the cursor, or zooms.
    fn go(&mut self, action: Action) {
        match self.view {
            View::Table => self.go_in_table(action),
            View::Flame => {
                if let Some(flame) = &mut self.flame {
                    let down = self.downwards;
                    match action {
                        Action::Down | Action::Up => flame.levels_on(1, (action == Action::Down) == down),
                        _ => go_in_flame(flame, action),
                    }
                }
            }
            View::Sandwich => {
                if let Some(sandwich) = &mut self.sandwich {
                    match action {
                        Action::Down | Action::Up => sandwich.vertical(action == Action::Down),
                        Action::Whole => drop(sandwich.zoom_off()),
                        _ => go_in_flame(sandwich.half_mut(), action),
                    }
                }
            }
        }
    }

    fn go_in_table(&mut self, action: Action) {
        let page = isize::try_from(self.table.page()).unwrap_or(1);
        match action {
            Action::Down => self.table.go(1),
            Action::Up => self.table.go(-1),
            Action::PageDown => self.table.go(page),
            Action::PageUp => self.table.go(-page),
            Action::First => self.table.go(isize::MIN),
            Action::Last => self.table.go(isize::MAX),
            Action::Enter => self.show(View::Sandwich),
            _ => {}
        }
    }

    fn mouse(&mut self, mouse: MouseEvent) -> Then {
        let (x, y) = (mouse.column, mouse.row);
        match mouse.kind {
            MouseEventKind::ScrollDown | MouseEventKind::ScrollUp => {
                let action = if mouse.kind == MouseEventKind::ScrollDown { Action::Down } else { Action::Up };
                for _ in 0..WHEEL {
                    self.act(action);
                }
            }
            _ if self.overlay.is_some() => {
                if matches!(mouse.kind, MouseEventKind::Down(_)) {
                    self.overlay = None;
                }
            }
            MouseEventKind::Down(MouseButton::Left) => self.click(x, y),
            MouseEventKind::Down(MouseButton::Right) => drop(self.act(Action::Back)),
            _ => {}
        }
        Then::Nothing
    }

    /// The first click moves the cursor, the second asks for more.
    fn click(&mut self, x: u16, y: u16) {
        let heading = (self.view == View::Table).then(|| self.table.heading(x, y)).flatten();
        if let Some(sort) = heading {
            return self.order(sort);
        }
        let again = match self.view {
            View::Table => self.table.point(x, y),
            View::Flame => self.flame.as_mut().and_then(|flame| {
                let node = flame.at(x, y)?;
                Some(std::mem::replace(&mut flame.cursor, node) == node)
            }),
            View::Sandwich => self.sandwich.as_mut().and_then(|sandwich| sandwich.point(x, y)),
        };
        if again == Some(true) {
            self.go(Action::Enter);
        }
    }

    /// The expression that is searched for.
    pub(super) fn wanted(&self) -> Option<&Regex> {
        self.search.regex.as_ref()
    }

    /// The theme that is drawn with.
    pub(super) fn theme(&self) -> Theme {
        self.paint.theme
    }
}

fn is_interrupt(key: &KeyEvent) -> bool {
    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL)
}

fn go_in_flame(flame: &mut Flame, action: Action) {
    match action {
        Action::Left => flame.sideways(false),
        Action::Right => flame.sideways(true),
        Action::PageDown | Action::PageUp => flame.levels_on(flame.page(), action == Action::PageDown),
        Action::First => flame.cursor = flame.zoom,
        Action::Last => flame.levels_on(usize::from(u16::MAX), true),
        Action::Enter => flame.zoom_in(),
        Action::Back => drop(flame.zoom_out()),
        Action::Whole => drop(flame.zoom_off()),
        _ => {}
    }
}
