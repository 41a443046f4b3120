//! The table of functions.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use regex::Regex;

use super::theme::Theme;
use crate::cli::show::{Counts, FunctionSums, Listing, Sort, amount, order, percent};

/// Room between two columns.
const GAP: u16 = 2;
/// Columns of numbers are left out where names would have less room.
const MIN_NAME: u16 = 24;

/// The table as it is looked at.
pub(super) struct Table {
    pub(super) sort: Sort,
    /// Rows of the counts, in the order of the table.
    order: Vec<usize>,
    cursor: usize,
    scroll: usize,
    area: Rect,
    columns: Vec<Column>,
}

/// A column of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    OwnShare,
    Own,
    TotalShare,
    Total,
    Samples,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    number: Number,
    x: u16,
    width: u16,
}

impl Number {
    /// Those that are left out first stand last.
    const ALL: [Number; 5] = [Number::OwnShare, Number::TotalShare, Number::Own, Number::Total, Number::Samples];

    fn heading(self) -> &'static str {
        match self {
            Number::OwnShare => "SELF %",
            Number::Own => "SELF",
            Number::TotalShare => "TOTAL %",
            Number::Total => "TOTAL",
            Number::Samples => "SAMPLES",
        }
    }

    fn width(self) -> u16 {
        match self {
            Number::OwnShare | Number::TotalShare => 8,
            Number::Own | Number::Total => 10,
            Number::Samples => 9,
        }
    }

    fn sort(self) -> Option<Sort> {
        match self {
            Number::OwnShare | Number::Own => Some(Sort::Own),
            Number::TotalShare | Number::Total => Some(Sort::Total),
            Number::Samples => None,
        }
    }

    fn text(self, counts: &Counts, sums: FunctionSums) -> String {
        match self {
            Number::OwnShare => percent(sums.own, counts.total),
            Number::Own => counts.amount(sums.own),
            Number::TotalShare => percent(sums.total, counts.total),
            Number::Total => counts.amount(sums.total),
            Number::Samples => amount(sums.samples, ""),
        }
    }
}

impl Table {
    pub(super) fn new(sort: Sort) -> Table {
        Table { sort, order: Vec::new(), cursor: 0, scroll: 0, area: Rect::default(), columns: Vec::new() }
    }

    /// Takes the functions that are `wanted`, in order. The cursor stays on its function where `keep` tells which that is now; else it
    /// stays where it is.
    pub(super) fn fill(&mut self, counts: &Counts, sums: &[FunctionSums], wanted: Option<&Regex>, keep: Option<usize>) {
        let listing = Listing { order: self.sort, limit: 0, nodefraction: 0.0, mean: false, wanted };
        self.order = order(sums, counts, &listing);
        let kept = keep.and_then(|row| self.order.iter().position(|&other| other == row));
        self.cursor = kept.unwrap_or(self.cursor).min(self.order.len().saturating_sub(1));
    }

    /// The row of the counts that the cursor is on.
    pub(super) fn row(&self) -> Option<usize> {
        self.order.get(self.cursor).copied()
    }

    /// Rows that fit.
    pub(super) fn page(&self) -> usize {
        usize::from(self.area.height.saturating_sub(1)).max(1)
    }

    /// Whether the cursor was moved off the top: then it stays on its function as the table changes.
    pub(super) fn is_off_top(&self) -> bool {
        self.cursor > 0
    }

    /// The cursor goes so many rows down or up.
    pub(super) fn go(&mut self, by: isize) {
        self.cursor = self.cursor.saturating_add_signed(by).min(self.order.len().saturating_sub(1));
    }

    /// The cursor goes to the row under a point of the screen. Answers whether it was there already; `None` if there is none. A heading
    /// orders by its numbers.
    pub(super) fn point(&mut self, x: u16, y: u16) -> Option<bool> {
        let at = usize::from(y.checked_sub(self.area.y + 1)?) + self.scroll;
        let there = self.area.contains((x, y).into()) && at < self.order.len();
        there.then(|| std::mem::replace(&mut self.cursor, at) == at)
    }

    /// The order of the heading under a point.
    pub(super) fn heading(&self, x: u16, y: u16) -> Option<Sort> {
        let of = |column: &&Column| (column.x..column.x + column.width).contains(&x);
        self.columns.iter().find(of).filter(|_| y == self.area.y)?.number.sort()
    }

    pub(super) fn place(&mut self, area: Rect, counts: &Counts) {
        self.area = area;
        let mut shown: Vec<Number> = Vec::new();
        let mut room = area.width.saturating_sub(MIN_NAME);
        for number in Number::ALL {
            let needed = number.width() + GAP;
            let tells = number != Number::Samples || counts.has_samples();
            if tells && (room >= needed || shown.is_empty()) {
                room = room.saturating_sub(needed);
                shown.push(number);
            }
        }
        shown.sort_by_key(|number| *number as usize);
        let mut x = area.x;
        self.columns.clear();
        for number in shown {
            self.columns.push(Column { number, x, width: number.width() });
            x += number.width() + GAP;
        }
        let page = self.page();
        self.scroll = self.scroll.min(self.order.len().saturating_sub(page));
        self.scroll = self.scroll.clamp((self.cursor + 1).saturating_sub(page), self.cursor);
    }

    pub(super) fn draw(&self, counts: &Counts, sums: &[FunctionSums], theme: Theme, buffer: &mut Buffer) {
        if self.area.is_empty() {
            return;
        }
        let names = self.columns.last().map_or(self.area.x, |column| column.x + column.width + GAP);
        let room = usize::from(self.area.right().saturating_sub(names));
        let longest = |of: fn(&Counts, usize) -> usize| {
            let rows = self.order.iter().skip(self.scroll).take(self.page());
            rows.map(|&row| of(counts, row)).max().unwrap_or(0)
        };
        let module = longest(|counts, row| counts.rows[row].module.chars().count()).max(6).min(room / 3);
        let name = longest(|counts, row| counts.rows[row].name.chars().count()).max(8);
        let name = name.min(room.saturating_sub(module + usize::from(GAP)));
        let line = |y: u16, (first, second): (&str, &str), style: Style, buffer: &mut Buffer| {
            buffer.set_stringn(names, y, first, name, style);
            let x = names.saturating_add(u16::try_from(name).unwrap_or(u16::MAX)).saturating_add(GAP);
            if x < self.area.right() {
                buffer.set_stringn(x, y, second, module, style);
            }
        };
        let number = |column: &Column, y: u16, text: &str, style: Style, buffer: &mut Buffer| {
            let width = usize::from(column.width);
            let right = usize::from(column.width.min(self.area.right().saturating_sub(column.x)));
            buffer.set_stringn(column.x, y, format!("{text:>width$}"), right, style);
        };
        let head = theme.bar();
        buffer.set_style(Rect { height: 1, ..self.area }, head);
        for column in &self.columns {
            let ordered = column.number.sort() == Some(self.sort);
            let style = if ordered { theme.bar_strong() } else { head };
            number(column, self.area.y, column.number.heading(), style, buffer);
        }
        line(self.area.y, ("FUNCTION", "MODULE"), head, buffer);
        let rows = self.order.iter().enumerate().skip(self.scroll).take(usize::from(self.area.height - 1));
        for (y, (at, &row)) in (self.area.y + 1..).zip(rows) {
            let style = if at == self.cursor { theme.selected() } else { Style::new() };
            buffer.set_style(Rect { y, height: 1, ..self.area }, style);
            for column in &self.columns {
                number(column, y, &column.number.text(counts, sums[row]), style, buffer);
            }
            line(y, (&counts.rows[row].name, &counts.rows[row].module), style, buffer);
        }
    }
}
