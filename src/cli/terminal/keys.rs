//! What keys do: one table, by which keys are read and the help is written.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Help,
    Messages,
    NextView,
    Table,
    Flame,
    Sandwich,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    First,
    Last,
    Enter,
    Back,
    Whole,
    Search,
    NextMatch,
    LastMatch,
    Clear,
    Order,
    Invert,
    Flip,
    Colour,
    Theme,
    Kind,
    Span,
    Pause,
    Suspend,
}

/// Keys that ask for the same.
pub(super) struct Binding {
    keys: &'static [KeyCode],
    control: bool,
    pub(super) action: Action,
    /// The keys, for people; empty for those that are told elsewhere.
    pub(super) shown: &'static str,
    pub(super) help: &'static str,
    /// Whether it means something only while something is recorded.
    pub(super) live: bool,
}

const fn bind(keys: &'static [KeyCode], action: Action, shown: &'static str, help: &'static str) -> Binding {
    Binding { keys, control: false, action, shown, help, live: false }
}

const fn live(binding: Binding) -> Binding {
    Binding { live: true, ..binding }
}

const fn control(binding: Binding) -> Binding {
    Binding { control: true, ..binding }
}

use KeyCode::{BackTab, Backspace, Char, Down, End, Enter, Esc, F, Home, Left, PageDown, PageUp, Right, Tab, Up};

/// All keys, in the order of the help.
pub(super) const KEYS: &[Binding] = &[
    bind(&[Char('1'), Char('t')], Action::Table, "1 t", "table of functions"),
    bind(&[Char('2'), Char('f')], Action::Flame, "2 f", "flame graph"),
    bind(&[Char('3'), Char('s')], Action::Sandwich, "3 s", "callers and callees of what the cursor is on"),
    bind(&[Tab, BackTab], Action::NextView, "Tab", "the next of them"),
    bind(&[Up, Char('k')], Action::Up, "arrows", "move the cursor (also h j k l)"),
    bind(&[Down, Char('j')], Action::Down, "", ""),
    bind(&[Left, Char('h')], Action::Left, "", ""),
    bind(&[Right, Char('l')], Action::Right, "", ""),
    bind(&[PageUp], Action::PageUp, "PgUp PgDn", "a page up, down"),
    bind(&[PageDown, Char(' ')], Action::PageDown, "", ""),
    bind(&[Home, Char('g')], Action::First, "g G", "to the first, the last (also Home End)"),
    bind(&[End, Char('G')], Action::Last, "", ""),
    bind(&[Enter], Action::Enter, "Enter", "zoom; in the table: callers and callees"),
    bind(&[Backspace, Char('u')], Action::Back, "u", "zoom out a level (also Backspace)"),
    bind(&[Char('0'), Char('r')], Action::Whole, "0 r", "zoom out to all"),
    bind(&[Char('/')], Action::Search, "/", "search (an expression); the table shows what matches"),
    bind(&[Char('n')], Action::NextMatch, "n N", "the next, the last match"),
    bind(&[Char('N')], Action::LastMatch, "", ""),
    bind(&[Esc], Action::Clear, "Esc", "end the search, the zoom, the sandwich"),
    bind(&[Char('o')], Action::Order, "o", "order by self, by total"),
    bind(&[Char('i')], Action::Invert, "i", "invert: from leaves to their callers"),
    bind(&[Char('v')], Action::Flip, "v", "flames up, icicles down"),
    bind(&[Char('c')], Action::Colour, "c", "colours tell the module, the kind, the name"),
    bind(&[Char('L')], Action::Theme, "L", "light, dark"),
    bind(&[Char('e')], Action::Kind, "e", "another kind of event or value"),
    live(bind(&[Char('w')], Action::Span, "w", "the last interval, the last minute, all since the start")),
    live(bind(&[Char('p')], Action::Pause, "p", "pause (recording goes on)")),
    bind(&[Char('m')], Action::Messages, "m", "what was said"),
    bind(&[Char('?'), F(1)], Action::Help, "?", "this help"),
    control(bind(&[Char('z')], Action::Suspend, "^Z", "stop; fg goes on")),
    bind(&[Char('q'), Char('Q')], Action::Quit, "q", "quit (also ^C)"),
    control(bind(&[Char('c'), Char('d')], Action::Quit, "", "")),
];

/// What a key asks for, if it asks for anything.
pub(super) fn action(key: KeyEvent) -> Option<Action> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let binding = KEYS.iter().find(|binding| binding.control == control && binding.keys.contains(&key.code));
    binding.map(|binding| binding.action)
}
