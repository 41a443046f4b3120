//! A flame graph: a tree drawn level by level, each node as wide as its share.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use super::theme::Paint;
use crate::cli::show::{Counts, Row, Tree};

/// A name is not written into less.
const MIN_NAME: u16 = 2;
/// Wider ones keep a column between names free.
const WIDE: u16 = 4;

/// A tree as it is looked at.
pub(super) struct Flame {
    pub(super) tree: Tree,
    /// Whether there is a level for all of it before the roots.
    has_all: bool,
    /// The first level that is drawn.
    first: usize,
    /// Whether callees are drawn below their callers.
    pub(super) downwards: bool,
    /// What takes the whole width, with those that it hangs from before it; all where `None`.
    pub(super) zoom: Option<usize>,
    /// Where the cursor is; on all where `None`.
    pub(super) cursor: Option<usize>,
    /// Levels that are scrolled away.
    scroll: usize,
    cells: Vec<Cell>,
    /// Levels that there are to see.
    levels: usize,
    area: Rect,
}

/// Where a node is drawn.
#[derive(Clone, Copy, Debug)]
struct Cell {
    /// All where `None`.
    node: Option<usize>,
    level: usize,
    /// Columns from the left.
    from: u16,
    to: u16,
}

/// What is drawn besides.
pub(super) struct Look<'a> {
    pub(super) counts: &'a Counts,
    pub(super) paint: &'a Paint,
    /// For each row whether it was found, while something is searched for.
    pub(super) found: Option<&'a [bool]>,
    /// Whether the cursor is here.
    pub(super) focused: bool,
}

/// The way to a node, for a tree that was made anew.
pub(super) type Way = Vec<Row>;

impl Flame {
    /// All of a tree.
    pub(super) fn new(tree: Tree, downwards: bool) -> Flame {
        let (zoom, cursor, area) = (None, None, Rect::default());
        Flame { tree, has_all: true, first: 0, downwards, zoom, cursor, scroll: 0, cells: Vec::new(), levels: 0, area }
    }

    /// A tree of one root, the first levels of which are left out.
    pub(super) fn rooted(tree: Tree, downwards: bool, first: usize) -> Flame {
        let root = tree.roots.first().copied();
        Flame { has_all: false, first, zoom: root, cursor: root, ..Flame::new(tree, downwards) }
    }

    /// Levels that there are to see.
    pub(super) fn levels(&self) -> usize {
        self.levels.saturating_sub(self.first)
    }

    fn value(&self, node: Option<usize>) -> i128 {
        match node {
            Some(node) => self.tree.nodes[node].value,
            None => self.tree.roots.iter().map(|&root| self.tree.nodes[root].value).sum(),
        }
    }

    fn below(&self, node: Option<usize>) -> &[usize] {
        node.map_or(&self.tree.roots, |node| self.tree.children(node))
    }

    /// A node and those that it hangs from, from the root on.
    pub(super) fn line(&self, node: Option<usize>) -> Vec<usize> {
        let mut line: Vec<usize> = std::iter::successors(node, |&node| self.tree.nodes[node].parent).collect();
        line.reverse();
        line
    }

    fn level_of(&self, node: Option<usize>) -> usize {
        (self.line(node).len() + usize::from(self.has_all)).saturating_sub(1)
    }

    /// Places the nodes that can be seen in so many columns. A level has no more of them than columns, so neither the size of the tree nor
    /// its depth is felt.
    pub(super) fn place(&mut self, area: Rect) {
        self.area = area;
        let mut cells: Vec<Cell> = Vec::new();
        let mut level = 0;
        let whole = |node, level| Cell { node, level, from: 0, to: area.width };
        if self.has_all {
            cells.push(whole(None, 0));
            level = 1;
        }
        for node in self.line(self.zoom) {
            cells.push(whole(Some(node), level));
            level += 1;
        }
        let base = self.value(self.zoom);
        // A node, and where exactly it begins.
        let mut frontier = vec![(self.zoom, 0.0_f64)];
        while !frontier.is_empty() && base != 0 {
            let mut next = Vec::new();
            for &(parent, from) in &frontier {
                let mut at = from;
                for &node in self.below(parent) {
                    let to = at + self.tree.nodes[node].value as f64 / base as f64 * f64::from(area.width);
                    let (first, behind) = (at.round().max(0.0) as u16, to.round().min(f64::from(area.width)) as u16);
                    if behind > first {
                        cells.push(Cell { node: Some(node), level, from: first, to: behind });
                        next.push((Some(node), at));
                    }
                    at = to;
                }
            }
            level += usize::from(!next.is_empty());
            frontier = next;
        }
        (self.cells, self.levels) = (cells, level);
        self.keep_in_view();
    }

    /// Scrolls no further than there is something, and to where the cursor is.
    fn keep_in_view(&mut self) {
        let height = usize::from(self.area.height);
        if height == 0 {
            return;
        }
        let level = self.level_of(self.cursor).saturating_sub(self.first);
        self.scroll = self.scroll.min(self.levels().saturating_sub(height));
        self.scroll = self.scroll.clamp((level + 1).saturating_sub(height), level);
    }

    fn row_of(&self, level: usize) -> Option<u16> {
        let at = u16::try_from(level.checked_sub(self.first + self.scroll)?).ok()?;
        let at = (at < self.area.height).then_some(at)?;
        Some(if self.downwards { self.area.y + at } else { self.area.bottom() - 1 - at })
    }

    pub(super) fn draw(&self, look: &Look<'_>, buffer: &mut Buffer) {
        let mut turns = (usize::MAX, 0);
        for cell in &self.cells {
            let Some(y) = self.row_of(cell.level) else { continue };
            turns = if turns.0 == cell.level { (cell.level, turns.1 + 1) } else { (cell.level, cell.level) };
            let rect = Rect::new(self.area.x + cell.from, y, cell.to - cell.from, 1);
            let (name, mut style) = match cell.node {
                None => ("all", look.paint.theme.bar()),
                Some(node) => {
                    let row = self.tree.nodes[node].row;
                    let (of, origin) = (&look.counts.rows[row], look.counts.origins[row]);
                    let found = look.found.map(|found| found[row]);
                    (&*of.name, look.paint.frame(of, origin, found, turns.1))
                }
            };
            if cell.node.is_some() && cell.node == self.lowest_zoom() {
                style = style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
            }
            if look.focused && cell.node == self.cursor {
                style = look.paint.theme.selected();
            }
            buffer.set_style(rect, style);
            if rect.width >= MIN_NAME {
                // Room to the next name, where there is enough.
                let room = rect.width - u16::from(rect.width > WIDE);
                buffer.set_stringn(rect.x, y, name, usize::from(room), style);
            }
        }
        self.tell_of_more(look, buffer);
    }

    /// Arrows where there is more than is seen.
    fn tell_of_more(&self, look: &Look<'_>, buffer: &mut Buffer) {
        if self.area.is_empty() {
            return;
        }
        let (x, top, bottom) = (self.area.right() - 1, self.area.y, self.area.bottom() - 1);
        let (before, behind) = (self.scroll > 0, self.levels() > self.scroll + usize::from(self.area.height));
        let (above, below) = if self.downwards { (before, behind) } else { (behind, before) };
        let style = look.paint.theme.bar_strong();
        if above {
            buffer.set_stringn(x, top, "▲", 1, style);
        }
        if below {
            buffer.set_stringn(x, bottom, "▼", 1, style);
        }
    }

    fn cell(&self, node: Option<usize>) -> Option<usize> {
        self.cells.iter().position(|cell| cell.node == node)
    }

    /// The cursor goes to what hangs from where it is, the largest that can be seen.
    pub(super) fn deeper(&mut self) {
        let below = self.below(self.cursor).iter().copied();
        if let Some(node) = below.map(Some).find(|&node| self.cell(node).is_some()) {
            self.cursor = node;
        }
    }

    /// The cursor goes to what the node hangs from; answers whether there is something.
    pub(super) fn shallower(&mut self) -> bool {
        let Some(node) = self.cursor else { return false };
        match self.tree.nodes[node].parent {
            None if !self.has_all => return false,
            parent => self.cursor = parent,
        }
        true
    }

    /// Whether the cursor is on something else than the root of a tree that has one.
    pub(super) fn is_off_root(&self) -> bool {
        self.cursor.is_some() && self.cursor != self.lowest_zoom()
    }

    /// The cursor goes to the neighbour on its level.
    pub(super) fn sideways(&mut self, forward: bool) {
        let Some(at) = self.cell(self.cursor) else { return };
        let neighbour = if forward { Some(at + 1) } else { at.checked_sub(1) };
        let neighbour = neighbour.and_then(|at| self.cells.get(at));
        if let Some(cell) = neighbour.filter(|cell| cell.level == self.cells[at].level) {
            self.cursor = cell.node;
        }
    }

    /// The cursor goes so many levels away from the root, along the largest, or towards it.
    pub(super) fn levels_on(&mut self, number: usize, deeper: bool) {
        for _ in 0..number {
            if deeper {
                self.deeper();
            } else {
                self.shallower();
            }
        }
    }

    /// Levels that fit.
    pub(super) fn page(&self) -> usize {
        usize::from(self.area.height).max(1)
    }

    /// The node under a point of the screen: `Some(None)` is all.
    pub(super) fn at(&self, x: u16, y: u16) -> Option<Option<usize>> {
        let is_at = |cell: &&Cell| {
            let columns = self.area.x + cell.from..self.area.x + cell.to;
            columns.contains(&x) && self.row_of(cell.level) == Some(y)
        };
        self.cells.iter().find(is_at).map(|cell| cell.node)
    }

    /// What the cursor is on takes the whole width.
    pub(super) fn zoom_in(&mut self) {
        self.zoom = self.cursor.or_else(|| self.lowest_zoom());
    }

    /// A level less of it; answers whether there was one.
    pub(super) fn zoom_out(&mut self) -> bool {
        let Some(node) = self.zoom.filter(|_| self.zoom != self.lowest_zoom()) else { return false };
        self.zoom = self.tree.nodes[node].parent.or_else(|| self.lowest_zoom());
        true
    }

    /// All is seen again; answers whether that was not so.
    pub(super) fn zoom_off(&mut self) -> bool {
        let lowest = self.lowest_zoom();
        std::mem::replace(&mut self.zoom, lowest) != lowest
    }

    fn lowest_zoom(&self) -> Option<usize> {
        if self.has_all { None } else { self.tree.roots.first().copied() }
    }

    /// The cursor goes to the next node whose row was found, in the order of the tree; where it is too narrow to be seen, it is zoomed
    /// to.
    pub(super) fn find(&mut self, found: &[bool], forward: bool) {
        let number = self.tree.nodes.len();
        let is_found = |&node: &usize| found[self.tree.nodes[node].row];
        let next = match (self.cursor, forward) {
            (Some(at), true) => (at + 1..number).chain(0..at).find(is_found),
            (Some(at), false) => (0..at).rev().chain((at + 1..number).rev()).find(is_found),
            (None, true) => (0..number).find(is_found),
            (None, false) => (0..number).rev().find(is_found),
        };
        let Some(next) = next else { return };
        self.cursor = Some(next);
        if self.cell(self.cursor).is_none() {
            self.zoom = self.tree.nodes[next].parent.or_else(|| self.lowest_zoom());
            self.place(self.area);
            if self.cell(self.cursor).is_none() {
                self.zoom = self.cursor;
            }
        }
    }

    /// The way to a node, to find it again.
    fn way(&self, node: Option<usize>, counts: &Counts) -> Way {
        self.line(node).iter().map(|&node| counts.rows[self.tree.nodes[node].row].clone()).collect()
    }

    /// The node at the end of a way, or the last that is still there.
    fn follow(&self, way: &Way, counts: &Counts) -> Option<usize> {
        let mut at = None;
        for row in way {
            let below = self.below(at).iter().copied();
            match below.into_iter().find(|&node| counts.rows[self.tree.nodes[node].row] == *row) {
                Some(node) => at = Some(node),
                None => break,
            }
        }
        at.or_else(|| self.lowest_zoom())
    }

    /// Looks at the same as another did.
    pub(super) fn look_as(&mut self, other: &Flame, of_other: &Counts, counts: &Counts) {
        self.zoom = self.follow(&other.way(other.zoom, of_other), counts);
        self.cursor = self.follow(&other.way(other.cursor, of_other), counts);
        self.scroll = other.scroll;
    }
}
