//! A function between its callers, above it, and what it calls, below.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::flame::{Flame, Look};
use crate::cli::show::{Counts, Tree};

/// A function between its callers and callees.
pub(super) struct Sandwich {
    /// Grow upwards; their root, the function, is not drawn.
    callers: Flame,
    callees: Flame,
    /// Whether the cursor is among the callers.
    above: bool,
}

impl Sandwich {
    pub(super) fn new(row: usize, counts: &Counts) -> Sandwich {
        let found: Vec<Option<usize>> = (0..counts.rows.len()).map(|at| (at == row).then_some(row)).collect();
        let callers = Flame::rooted(Tree::callers_of(counts, &found), false, 1);
        let callees = Flame::rooted(Tree::callees_of(counts, &found), true, 0);
        Sandwich { callers, callees, above: false }
    }

    /// Looks at the same as another did.
    pub(super) fn look_as(&mut self, other: &Sandwich, of_other: &Counts, counts: &Counts) {
        self.callers.look_as(&other.callers, of_other, counts);
        self.callees.look_as(&other.callees, of_other, counts);
        self.above = other.above && self.callers.is_off_root();
    }

    /// Gives each half what it needs, or half.
    pub(super) fn place(&mut self, area: Rect) {
        self.callers.place(Rect { height: 0, ..area });
        self.callees.place(Rect { height: 0, ..area });
        let height = usize::from(area.height);
        let (above, below) = (self.callers.levels(), self.callees.levels().max(1));
        let above = above.min(height.saturating_sub(below).max(height / 2));
        let above = u16::try_from(above).unwrap_or(0).min(area.height);
        self.callers.place(Rect { height: above, ..area });
        self.callees.place(Rect { y: area.y + above, height: area.height - above, ..area });
    }

    pub(super) fn draw(&self, look: &Look<'_>, buffer: &mut Buffer) {
        self.callers.draw(&Look { focused: look.focused && self.above, ..*look }, buffer);
        self.callees.draw(&Look { focused: look.focused && !self.above, ..*look }, buffer);
    }

    /// The half that the cursor is in.
    pub(super) fn half(&self) -> &Flame {
        if self.above { &self.callers } else { &self.callees }
    }

    /// See [`Sandwich::half`].
    pub(super) fn half_mut(&mut self) -> &mut Flame {
        if self.above { &mut self.callers } else { &mut self.callees }
    }

    /// The cursor goes up on the screen, or down: from the function itself to its callers, or to what it calls.
    pub(super) fn vertical(&mut self, down: bool) {
        match (self.above, down) {
            (false, true) => self.callees.deeper(),
            (true, false) => self.callers.deeper(),
            (true, true) => {
                self.callers.shallower();
                self.above = self.callers.is_off_root();
            }
            (false, false) => {
                if !self.callees.shallower() {
                    self.callers.deeper();
                    self.above = self.callers.is_off_root();
                }
            }
        }
    }

    /// The cursor goes to what is under a point of the screen; answers whether it was there already.
    pub(super) fn point(&mut self, x: u16, y: u16) -> Option<bool> {
        for above in [true, false] {
            let flame = if above { &mut self.callers } else { &mut self.callees };
            if let Some(node) = flame.at(x, y) {
                let again = self.above == above && flame.cursor == node;
                flame.cursor = node;
                self.above = above;
                return Some(again);
            }
        }
        None
    }

    /// See [`Flame::zoom_off`], of both.
    pub(super) fn zoom_off(&mut self) -> bool {
        let callers = self.callers.zoom_off();
        self.callees.zoom_off() || callers
    }
}
