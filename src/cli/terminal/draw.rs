//! Where everything stands on the screen: the head, a view, the foot, and what covers them.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::app::{App, Overlay};
use super::flame::{Flame, Look};
use super::keys::KEYS;
use super::{Head, View};
use crate::cli::show::Counts;

/// Lower screens have no title.
const TITLE_FROM: u16 = 8;
/// Lower ones no facts either.
const FACTS_FROM: u16 = 4;

/// Draws all.
pub(super) fn draw(app: &mut App, frame: &mut Frame<'_>) {
    let (area, buffer) = (frame.area(), frame.buffer_mut());
    let theme = app.theme();
    buffer.set_style(area, Style::reset());
    let head = app.subject.head(app.kind, app.span, app.picture.as_ref().map(|picture| &picture.counts));
    let mut body = area;
    if area.height >= TITLE_FROM {
        title(app, &head, take_top(&mut body), buffer);
    }
    if area.height >= FACTS_FROM {
        facts(app, &head, take_top(&mut body), buffer);
    }
    let foot = take_bottom(&mut body);
    let details = (area.height >= TITLE_FROM).then(|| take_bottom(&mut body));
    view(app, body, buffer);
    if let Some(details) = details {
        buffer.set_style(details, theme.bar());
        buffer.set_stringn(details.x, details.y, about_cursor(app), details.width.into(), theme.bar());
    }
    let cursor = self::foot(app, foot, buffer);
    if let Some(overlay) = app.overlay {
        let lines = lines_of(overlay, app);
        app.scrolled = cover(overlay, &lines, app, body, buffer);
    }
    if let Some(at) = cursor {
        frame.set_cursor_position(at);
    }
}

fn take_top(area: &mut Rect) -> Rect {
    let line = Rect { height: area.height.min(1), ..*area };
    (area.y, area.height) = (area.y + line.height, area.height - line.height);
    line
}

fn take_bottom(area: &mut Rect) -> Rect {
    let height = area.height.min(1);
    area.height -= height;
    Rect { y: area.bottom(), height, ..*area }
}

fn title(app: &App, head: &Head, line: Rect, buffer: &mut Buffer) {
    let theme = app.theme();
    buffer.set_style(line, theme.bar());
    let (x, _) = buffer.set_stringn(line.x, line.y, &head.title, line.width.into(), theme.bar_strong());
    let tabs = [("table", View::Table), ("flame", View::Flame), ("sandwich", View::Sandwich)];
    let name = |view: View, name: &str| match view {
        View::Flame if app.inverted => format!(" {name} (inverted) "),
        _ => format!(" {name} "),
    };
    let tabs = tabs.map(|(text, view)| (name(view, text), view));
    let width: usize = tabs.iter().map(|(text, _)| text.chars().count()).sum();
    let Some(mut x) = line.right().checked_sub(u16::try_from(width).unwrap_or(u16::MAX)).filter(|from| *from > x)
    else {
        return;
    };
    for (text, view) in &tabs {
        let style = if *view == app.view { theme.selected() } else { theme.bar() };
        (x, _) = buffer.set_stringn(x, line.y, text, line.right().saturating_sub(x).into(), style);
    }
}

fn facts(app: &App, head: &Head, line: Rect, buffer: &mut Buffer) {
    let theme = app.theme();
    buffer.set_style(line, theme.bar());
    let mut x = line.x;
    let mut put = |text: &str, style| {
        (x, _) = buffer.set_stringn(x, line.y, text, line.right().saturating_sub(x).into(), style);
    };
    if app.paused {
        put(" PAUSED ", theme.warning());
        put(" ", theme.bar());
    }
    for (at, fact) in head.facts.iter().enumerate() {
        if at > 0 {
            put(" · ", theme.bar());
        }
        put(&fact.text, if fact.is_wrong { theme.warning() } else { theme.bar() });
    }
}

fn view(app: &mut App, area: Rect, buffer: &mut Buffer) {
    let theme = app.theme();
    let nothing = |text: &str, buffer: &mut Buffer| {
        if !area.is_empty() {
            buffer.set_stringn(area.x, area.y, text, area.width.into(), theme.quiet());
        }
    };
    if let Some(problem) = &app.problem {
        return nothing(problem, buffer);
    }
    let focused = app.overlay.is_none();
    let Some(picture) = &app.picture else { return nothing(app.subject.nothing(), buffer) };
    let look = Look { counts: &picture.counts, paint: &app.paint, found: app.search.found(), focused };
    match app.view {
        View::Table => {
            app.table.place(area, &picture.counts);
            app.table.draw(&picture.counts, &picture.sums, theme, buffer);
        }
        View::Flame => {
            if let Some(flame) = &mut app.flame {
                flame.place(area);
                flame.draw(&look, buffer);
            }
        }
        View::Sandwich => match &mut app.sandwich {
            Some(sandwich) => {
                sandwich.place(area);
                sandwich.draw(&look, buffer);
            }
            None => {
                let of = app.between.as_ref().map_or("", |row| &*row.name);
                nothing(&format!("no samples of {of}"), buffer);
            }
        },
    }
}

/// What is known of what the cursor is on.
fn about_cursor(app: &App) -> String {
    let Some((picture, row)) = app.picture.as_ref().zip(app.row()) else { return String::new() };
    let (counts, sums) = (&picture.counts, picture.sums[row]);
    let of = &counts.rows[row];
    let module = if of.module.is_empty() { String::new() } else { format!(" [{}]", of.module) };
    let told = |value: i128| format!("{} ({})", counts.percent(value), counts.amount(value));
    let here = |flame: &Flame| {
        let node = &flame.tree.nodes[flame.cursor?];
        Some(format!("here {}, ", told(node.value)))
    };
    let here = match app.view {
        View::Table => None,
        View::Flame => app.flame.as_ref().and_then(here),
        View::Sandwich => app.sandwich.as_ref().and_then(|sandwich| here(sandwich.half())),
    };
    let here = here.unwrap_or_default();
    format!("{}{module}: {here}self {}, total {}", of.name, told(sums.own), told(sums.total))
}

/// Draws the last line; answers where the terminal's cursor is, if a line is being written.
fn foot(app: &App, line: Rect, buffer: &mut Buffer) -> Option<(u16, u16)> {
    let theme = app.theme();
    if line.is_empty() {
        return None;
    }
    buffer.set_style(line, theme.bar());
    let mut x = line.x;
    let mut put = |text: &str, style| {
        (x, _) = buffer.set_stringn(x, line.y, text, line.right().saturating_sub(x).into(), style);
        x
    };
    if let Some(input) = &app.search.prompt {
        let room = usize::from(line.width.saturating_sub(2)).max(1);
        let scrolled = input.visual_scroll(room);
        let shown: String = input.value().chars().skip(scrolled).collect();
        put("/", theme.bar_strong());
        put(&shown, theme.bar_strong());
        put("  ", theme.bar());
        put(&about_search(app), if app.search.error.is_some() { theme.warning() } else { theme.bar() });
        let at = u16::try_from(1 + input.visual_cursor().saturating_sub(scrolled)).unwrap_or(0);
        return Some((line.x + at.min(line.width.saturating_sub(1)), line.y));
    }
    if let Some(wanted) = app.wanted() {
        put(&format!("/{}  ", wanted.as_str()), theme.bar_strong());
        put(&format!("{} · n N next, Esc ends", about_search(app)), theme.bar());
    } else if let Some(note) = app.subject.note() {
        put(note, theme.bar_strong());
        put(" · q quits", theme.bar());
    } else {
        put("? help · q quit · Tab views · / search · Enter zoom", theme.bar());
        let more = if app.subject.is_live() { " · p pause · w interval" } else { " · i invert · c colours" };
        put(more, theme.bar());
        put(&format!(" · colours: {}", app.paint.colouring.name()), theme.bar());
    }
    None
}

fn about_search(app: &App) -> String {
    if let Some(error) = &app.search.error {
        return error.clone();
    }
    let Some((picture, rows)) = app.picture.as_ref().zip(app.search.found()) else { return String::new() };
    let counts: &Counts = &picture.counts;
    let of = rows.iter().filter(|found| **found).count();
    let (share, value) = (counts.percent(app.search.value), counts.amount(app.search.value));
    let plural = if of == 1 { "" } else { "s" };
    format!("{of} function{plural}, in stacks of {share} ({value})")
}

fn lines_of(overlay: Overlay, app: &App) -> Vec<String> {
    match overlay {
        Overlay::Help => {
            let is_told = |live: bool| app.subject.is_live() || !live;
            let told = KEYS.iter().filter(|key| !key.shown.is_empty() && is_told(key.live));
            let keys = told.map(|key| format!("{:>10}  {}", key.shown, key.help));
            let mouse =
                ["     mouse  click: cursor; again: zoom; right: zoom out; wheel: move; headings: order".to_owned()];
            keys.chain(mouse).collect()
        }
        Overlay::Messages => {
            let lines = app.subject.messages();
            if lines.is_empty() { vec!["nothing was said".into()] } else { lines.to_vec() }
        }
    }
}

/// Draws lines over the view; answers how many of them are scrolled away.
fn cover(overlay: Overlay, lines: &[String], app: &App, body: Rect, buffer: &mut Buffer) -> usize {
    let theme = app.theme();
    let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0) + 2;
    let width = u16::try_from(widest).unwrap_or(u16::MAX).max(20).min(body.width);
    let height = u16::try_from(lines.len() + 1).unwrap_or(u16::MAX).min(body.height);
    let (x, y) = (body.x + (body.width - width) / 2, body.y + (body.height - height) / 2);
    let area = Rect { x, y, width, height };
    if area.is_empty() {
        return 0;
    }
    let room = usize::from(height - 1);
    let scrolled = app.scrolled.min(lines.len().saturating_sub(room.max(1)));
    let name = if overlay == Overlay::Help { " Keys" } else { " What was said" };
    let more = if lines.len() > room { "  (arrows scroll; Esc)" } else { "  (Esc)" };
    buffer.set_stringn(
        x,
        y,
        format!("{:<1$}", format!("{name}{more}"), usize::from(width)),
        width.into(),
        theme.selected(),
    );
    for (at, y) in (y + 1..area.bottom()).enumerate() {
        let line = lines.get(scrolled + at).map_or("", String::as_str);
        buffer.set_stringn(x, y, format!("{:<1$}", format!(" {line}"), usize::from(width)), width.into(), theme.bar());
    }
    scrolled
}
