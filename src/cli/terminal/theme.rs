//! Colours: of 256, which every terminal of today has, over SSH and in multiplexers too.

use std::hash::BuildHasher;

use clap::ValueEnum;
use ratatui::style::{Color, Modifier, Style};
use rustc_hash::FxBuildHasher;

use crate::cli::show::Row;
use crate::profile::Origin;

/// What the terminal's background is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Theme {
    /// As the terminal tells (COLORFGBG); dark, where it does not
    #[default]
    Auto,
    /// Dark
    Dark,
    /// Light
    Light,
    /// No colours (also if NO_COLOR is set)
    Mono,
}

impl Theme {
    /// The theme to draw with: never [`Theme::Auto`].
    pub(super) fn settled(self) -> Theme {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Theme::Auto if is_set("NO_COLOR") => Theme::Mono,
            Theme::Auto => {
                let colours = std::env::var("COLORFGBG").unwrap_or_default();
                let background: Option<u8> = colours.rsplit(';').next().and_then(|last| last.parse().ok());
                // Of the sixteen, 7 and those from 9 on are light.
                if background.is_some_and(|colour| colour == 7 || colour > 8) { Theme::Light } else { Theme::Dark }
            }
            theme => theme,
        }
    }

    /// The other one of light and dark.
    pub(super) fn other(self) -> Theme {
        if self == Theme::Light { Theme::Dark } else { Theme::Light }
    }

    fn colours(self, dark: (u8, u8), light: (u8, u8)) -> Style {
        let (front, back) = match self {
            Theme::Mono => return Style::new(),
            Theme::Light => light,
            Theme::Dark | Theme::Auto => dark,
        };
        Style::new().fg(Color::Indexed(front)).bg(Color::Indexed(back))
    }

    /// The lines above and below.
    pub(super) fn bar(self) -> Style {
        let style = self.colours((252, 236), (235, 254));
        if self == Theme::Mono { style.add_modifier(Modifier::REVERSED) } else { style }
    }

    /// What is to be seen at once within them.
    pub(super) fn bar_strong(self) -> Style {
        self.bar().patch(self.colours((231, 236), (16, 254))).add_modifier(Modifier::BOLD)
    }

    /// Something is wrong.
    pub(super) fn warning(self) -> Style {
        self.bar().patch(self.colours((16, 214), (231, 160))).add_modifier(Modifier::BOLD)
    }

    /// What the cursor is on.
    pub(super) fn selected(self) -> Style {
        let style = self.colours((16, 231), (231, 16)).add_modifier(Modifier::BOLD);
        if self == Theme::Mono { style.add_modifier(Modifier::REVERSED) } else { style }
    }

    /// Text of less weight.
    pub(super) fn quiet(self) -> Style {
        match self {
            Theme::Mono => Style::new(),
            Theme::Light => Style::new().fg(Color::Indexed(242)),
            Theme::Dark | Theme::Auto => Style::new().fg(Color::Indexed(246)),
        }
    }

    /// A text that was found.
    pub(super) fn found(self) -> Style {
        let style = self.colours((231, 127), (231, 127)).add_modifier(Modifier::BOLD);
        if self == Theme::Mono { style.add_modifier(Modifier::UNDERLINED) } else { style }
    }

    /// A frame that was not found, while others were.
    fn passed_over(self, shade: usize) -> Style {
        let grey = u8::from(shade % 2 == 1);
        let style = self.colours((250, 237 + grey), (241, 253 - grey));
        if self == Theme::Mono { self.plain_frame(shade).add_modifier(Modifier::DIM) } else { style }
    }

    /// Without colours, frames are told apart by turns.
    fn plain_frame(self, shade: usize) -> Style {
        let style = Style::new().add_modifier(Modifier::REVERSED);
        if shade % 2 == 1 { style.add_modifier(Modifier::DIM) } else { style }
    }
}

/// What the colour of a frame tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Colouring {
    /// Its module.
    #[default]
    Module,
    /// Where its code comes from.
    Kind,
    /// Nothing but its name.
    Name,
}

impl Colouring {
    pub(super) fn next(self) -> Colouring {
        match self {
            Colouring::Module => Colouring::Kind,
            Colouring::Kind => Colouring::Name,
            Colouring::Name => Colouring::Module,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Colouring::Module => "module",
            Colouring::Kind => "kind: user blue, inlined turquoise, kernel orange, JIT green",
            Colouring::Name => "name",
        }
    }
}

/// Shades of a colour.
type Shades = [u8; 3];

/// Colours of the 256 by shades, for dark and for light: orange, grey, blue, turquoise, green, then the others.
const HUES: [(Shades, Shades); 10] = [
    ([215, 209, 216], [223, 216, 222]),
    ([250, 247, 253], [254, 252, 250]),
    ([111, 75, 117], [153, 117, 189]),
    ([80, 116, 79], [159, 152, 123]),
    ([114, 150, 120], [157, 194, 151]),
    ([221, 222, 185], [229, 228, 187]),
    ([141, 147, 183], [183, 189, 147]),
    ([176, 218, 175], [219, 225, 182]),
    ([174, 210, 180], [217, 224, 211]),
    ([149, 186, 192], [192, 193, 191]),
];
const ORANGE: usize = 0;
const GREY: usize = 1;
const BLUE: usize = 2;
const TURQUOISE: usize = 3;
const GREEN: usize = 4;

/// The look of a frame.
pub(super) struct Paint {
    pub(super) theme: Theme,
    pub(super) colouring: Colouring,
}

impl Paint {
    /// The style of a row's frame. `found` is whether it was found, while something is searched for; `turn` tells it from its neighbours.
    pub(super) fn frame(&self, row: &Row, origin: Origin, found: Option<bool>, turn: usize) -> Style {
        let of_name = usize::try_from(hash(&row.name) % 3).unwrap_or(0);
        match found {
            Some(true) => self.theme.found(),
            Some(false) => self.theme.passed_over(turn),
            None if self.theme == Theme::Mono => self.theme.plain_frame(turn),
            None => {
                let (dark, light) = HUES[self.hue(row, origin)];
                // Neighbours of one colour and name have another shade still.
                let shade = (of_name + turn % 2) % 3;
                self.theme.colours((16, dark[shade]), (16, light[shade]))
            }
        }
    }

    fn hue(&self, row: &Row, origin: Origin) -> usize {
        let any = |text: &str| BLUE + usize::try_from(hash(text)).unwrap_or(0) % (HUES.len() - BLUE);
        match (self.colouring, origin) {
            (Colouring::Name, _) => any(&row.name),
            (_, Origin::Kernel) => ORANGE,
            (_, Origin::Nowhere) if row.module.is_empty() && self.colouring == Colouring::Kind => GREY,
            (Colouring::Module, _) if row.module.is_empty() => any(&row.name),
            (Colouring::Module, _) => any(&row.module),
            (Colouring::Kind, Origin::Inlined) => TURQUOISE,
            (Colouring::Kind, Origin::Jit) => GREEN,
            (Colouring::Kind, Origin::Native | Origin::Nowhere) => BLUE,
        }
    }
}

fn hash(text: &str) -> u32 {
    // Its upper bits are the better ones.
    (FxBuildHasher.hash_one(text) >> 32) as u32
}
