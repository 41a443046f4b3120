//! A flame graph as one SVG that searches and zooms in any browser.
//!
//! The drawing is done by the crate `inferno`, which is under the CDDL-1.0, a licence by file: it asks that inferno's
//! own files stay under it and be offered as source, and nothing of the program around them. No other file imports it.
//!
//! Kernel code is orange, inlined functions aqua, code made at run time green, C++ and Rust yellow, other native code
//! red, and what has no name grey. The crate's own palettes guess the language from a name, and take the dot of
//! `libc.so.6` for Java's.

use std::io::{self, Write};

use inferno::flamegraph::color::{Color, PaletteMap};
use inferno::flamegraph::{self, Options, TextTruncateDirection};

use super::{EncodeError, WriteOptions, comparison, folded};
use crate::profile::compare::{Change, Comparison};
use crate::profile::{FrameView, Origin, Profile, Quality};

/// Sums up to here are exact in the arithmetic of whoever draws.
const EXACT: i128 = 1 << 53;

/// The bar below all stacks, and what changed no more than chance makes.
const GREY: Color = Color { r: 220, g: 220, b: 220 };

/// Draws the profile's own value, unless another is asked for.
pub(super) fn write(profile: &Profile, options: &WriteOptions, out: &mut dyn Write) -> Result<(), EncodeError> {
    let column = profile.column(options.value.as_deref())?;
    let stacks = folded::stacks(profile, column, annotated);
    let total: i128 = stacks.values().filter(|count| **count > 0).sum();
    let divisor = total / EXACT + 1;
    // Flame chart mode is the one that takes the order as it is, last first. The other sorts whole lines, which tears
    // a function in two where the name of a sibling begins with its own (`copy` and `copy.cold`).
    let counts = stacks.iter().rev().filter(|(_, count)| **count >= divisor);
    let lines: Vec<String> =
        counts.map(|(stack, count)| format!("{} {}", folded::line(stack), count / divisor)).collect();
    if lines.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no samples to draw").into());
    }
    let mut colours = colours(stacks.keys().flatten());
    let mut drawing = drawing(profile, column, divisor);
    drawing.palette_map = Some(&mut colours);
    flamegraph::from_lines(&mut drawing, lines.iter().map(String::as_str), out)?;
    Ok(())
}

/// Draws what changed: red frames have more than the base, blue ones less, the more the deeper; grey ones are of functions that changed no more
/// than chance makes. What has less is as wide as it was, so that what is gone shows too.
///
/// # Errors
/// [`EncodeError`] if there is nothing to draw, or the bytes cannot be written.
pub fn differential(comparison: &Comparison, out: &mut dyn Write) -> Result<(), EncodeError> {
    let mut colours = PaletteMap::default();
    colours.insert("", GREY);
    let mut names = Vec::with_capacity(comparison.tree.len());
    for (node, ratio) in ratios(comparison).into_iter().enumerate() {
        let change = comparison.change_at(node);
        let name = marked(comparison::name(comparison, node), change, ratio);
        colours.insert(name.clone(), change_colour(change, ratio));
        names.push(name);
    }
    let stacks = comparison::stacks(comparison, true, |node| names[node].clone());
    let lines = stacks.iter().rev().filter_map(|(stack, [base, new])| {
        let width = comparison::whole(base.max(*new));
        (width > 0).then(|| format!("{} {width}", folded::line(stack)))
    });
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no samples to draw").into());
    }
    let mut drawing = options(&comparison.value, &comparison.unit, 1);
    drawing.title = "Differential flame graph".into();
    let percent = |side: usize| comparison::rate(comparison, comparison.whole.rate[side]);
    let sums = format!(
        "red: more than the base, blue: less, grey: no more than chance makes · all: {} → {}{}",
        percent(0),
        percent(1),
        comparison::of_what(comparison)
    );
    drawing.subtitle = Some(xml_safe(&sums));
    drawing.palette_map = Some(&mut colours);
    flamegraph::from_lines(&mut drawing, lines.iter().map(String::as_str), out)?;
    Ok(())
}

/// The new side of each node, with all that it called, by the base's as if it were like the new one.
fn ratios(comparison: &Comparison) -> Vec<f64> {
    let factor = comparison.base_factor();
    let mut sums: Vec<[f64; 2]> = comparison.tree.iter().map(|node| [node.value[0] * factor, node.value[1]]).collect();
    for (at, node) in comparison.tree.iter().enumerate().rev() {
        let [base, new] = sums[at];
        if let Some(above) = node.parent.map(|parent| &mut sums[parent as usize]) {
            *above = [above[0] + base, above[1] + new];
        }
    }
    sums.into_iter().map(|[base, new]| if base == new { 1.0 } else { new / base }).collect()
}

/// The name of a node with how it changed, which also is what its colour is known by.
fn marked(name: String, change: &Change, ratio: f64) -> String {
    match change {
        _ if change.total.is_new() => format!("{name} (new)"),
        _ if change.total.is_gone() => format!("{name} (gone)"),
        _ if !change.is_significant() => name,
        _ if ratio.is_finite() => format!("{name} ({:+.0} %)", (ratio - 1.0) * 100.0),
        _ => format!("{name} (new here)"),
    }
}

/// Red for more, blue for less, by the change in doublings; grey where it may be chance.
fn change_colour(change: &Change, ratio: f64) -> Color {
    if !change.is_significant() || ratio == 1.0 {
        return GREY;
    }
    let strength = (0.25 + ratio.log2().abs() / 1.5).min(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 80 and 230")]
    let pale = (230.0 - 150.0 * strength) as u8;
    if ratio > 1.0 { Color { r: 250, g: pale, b: pale } } else { Color { r: pale, g: pale, b: 250 } }
}

fn drawing<'a>(profile: &Profile, column: usize, divisor: i128) -> Options<'a> {
    let kind = profile.sample_types[column];
    let mut options = options(profile.text(kind.name), profile.text(kind.unit), divisor);
    options.title = "Flame graph".into();
    options.subtitle = Some(xml_safe(&subtitle(profile, column)));
    options
}

/// How values of a name and unit are drawn.
fn options<'a>(name: &str, unit: &str, divisor: i128) -> Options<'a> {
    let mut options = Options::default();
    let (unit, factor) = match unit {
        "nanoseconds" => ("ms", 1e-6),
        "count" => (name, 1.0),
        unit => (unit, 1.0),
    };
    options.count_name = xml_safe(unit);
    options.factor = factor * scale(divisor);
    options.flame_chart = true;
    options.deterministic = true;
    options.text_truncate_direction = TextTruncateDirection::Right;
    options
}

#[allow(clippy::cast_precision_loss, reason = "a scale of what is drawn")]
fn scale(divisor: i128) -> f64 {
    divisor as f64
}

/// The name with the mark by which the palette knows the kind of code; it is not shown.
fn annotated(frame: &FrameView<'_>) -> String {
    let name = folded::safe(&frame.name);
    match frame.origin {
        Origin::Kernel => format!("{name}_[k]"),
        Origin::Inlined => format!("{name}_[i]"),
        Origin::Jit => format!("{name}_[j]"),
        Origin::Native | Origin::Nowhere => name.into_owned(),
    }
}

/// A colour for each name: the hue by its mark, the shade by the name, so that neighbours differ and every drawing agrees.
fn colours<'a>(names: impl Iterator<Item = &'a String>) -> PaletteMap {
    let mut colours = PaletteMap::default();
    // The bar below all stacks has no name.
    colours.insert("", GREY);
    for name in names {
        if colours.get(name).is_none() {
            colours.insert(name, colour(name));
        }
    }
    colours
}

fn colour(name: &str) -> Color {
    let shade = shade(name);
    let between = |low: u8, span: u8| low + u8::try_from(u16::from(span) * u16::from(shade) / 255).unwrap_or(0);
    let [r, g, b] = match name {
        _ if name.ends_with("_[k]") => [between(190, 65), between(90, 65), 0],
        _ if name.ends_with("_[i]") => [between(50, 60), between(165, 55), between(165, 55)],
        _ if name.ends_with("_[j]") => [between(50, 60), between(200, 55), between(50, 60)],
        _ if name.starts_with('[') || name.contains("+0x") => [between(180, 40); 3],
        _ if name.contains("::") => [between(185, 45), between(175, 45), between(50, 20)],
        _ => [between(215, 40), between(80, 60), between(70, 60)],
    };
    Color { r, g, b }
}

/// A byte of the FNV-1a hash, which is the same everywhere.
fn shade(name: &str) -> u8 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash.to_be_bytes()[3]
}

/// What was profiled, and how good the profile is.
fn subtitle(profile: &Profile, column: usize) -> String {
    let mut parts: Vec<String> = profile.command().map(str::to_owned).into_iter().collect();
    if profile.duration_nanos > 0 {
        parts.push(format!(
            "{:.1} s",
            std::time::Duration::from_nanos(profile.duration_nanos.unsigned_abs()).as_secs_f64()
        ));
    }
    if let Some(count) = profile.count_column() {
        parts.push(format!("{} samples", profile.total(count)));
    }
    if let Some(quality) = Quality::of(profile) {
        parts.push(format!("lost {}", quality.of_column(profile, column).lost_percent()));
        parts.extend(quality.cut_percent().map(|percent| format!("incomplete stacks {percent}")));
    }
    parts.join(" · ")
}

/// XML has no way to write control characters.
fn xml_safe(text: &str) -> String {
    folded::safe(text).into_owned()
}
