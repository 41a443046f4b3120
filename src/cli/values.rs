//! Values of options: frequencies, times, sizes, shares.

use std::str::FromStr;
use std::time::Duration;

use crate::capture::{CallGraph, MAX_STACK_BYTES};
use crate::when;

/// `-F`: a number, or `max`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frequency(pub(super) u64);

impl FromStr for Frequency {
    type Err = String;

    fn from_str(text: &str) -> Result<Frequency, String> {
        match text {
            // The kernel's limit is known where events are opened.
            "max" => Ok(Frequency(u64::MAX)),
            _ => text.parse().map(Frequency).map_err(|_| "a number above 0, or max".into()),
        }
    }
}

/// `--call-graph`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Graph {
    pub(super) mode: CallGraph,
    /// The most frames that the kernel follows by frame pointers.
    pub(super) max_stack: Option<u16>,
}

impl FromStr for Graph {
    type Err = String;

    fn from_str(text: &str) -> Result<Graph, String> {
        let (mode, size) = text.split_once(',').unwrap_or((text, ""));
        let mut max_stack = None;
        let mode = match (mode, size) {
            ("auto", "") => CallGraph::Auto,
            ("fp", "") => CallGraph::FramePointer,
            ("fp", frames) => {
                max_stack = Some(most_frames(frames)?);
                CallGraph::FramePointer
            }
            ("no" | "none", "") => CallGraph::No,
            ("dwarf", "") => CallGraph::Dwarf { stack_bytes: 16 << 10 },
            ("dwarf", size) => CallGraph::Dwarf { stack_bytes: stack_bytes(size)? },
            ("lbr", _) => return Err("branch records are not supported; use auto".into()),
            _ => return Err("auto, dwarf, dwarf,BYTES, fp, fp,FRAMES or no".into()),
        };
        Ok(Graph { mode, max_stack })
    }
}

/// What is more than the kernel ever follows is no limit.
fn most_frames(text: &str) -> Result<u16, String> {
    let frames: Option<u64> = text.parse().ok().filter(|&frames| frames > 0);
    let frames = frames.ok_or_else(|| format!("'{text}' is not a number of frames above 0"))?;
    Ok(u16::try_from(frames).unwrap_or(u16::MAX))
}

/// The kernel takes multiples of eight.
fn stack_bytes(text: &str) -> Result<u32, String> {
    let bytes: u32 = text.parse().map_err(|_| format!("'{text}' is not a number of bytes"))?;
    let rounded = bytes.div_ceil(8).saturating_mul(8);
    if (8..=MAX_STACK_BYTES).contains(&rounded) {
        Ok(rounded)
    } else {
        Err(format!("a copy of a stack has 8 to {MAX_STACK_BYTES} bytes"))
    }
}

/// A length of time, in the grammar of [`when::duration`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        when::duration(text).map(Span)
    }
}

/// Bytes: a number with B, K, M, G or T; without a letter, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size(pub(super) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let (number, unit) = number_and_unit(text);
        let wrong = || format!("'{text}' is no size; write a number with B, K, M, G or T");
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let shift = match unit.trim_end_matches("iB") {
            "" | "B" => 0,
            "K" | "k" => 10,
            "M" | "m" => 20,
            "G" | "g" => 30,
            "T" | "t" => 40,
            _ => return Err(wrong()),
        };
        let bytes = number * (1_u64 << shift) as f64;
        if bytes < u64::MAX as f64 { Ok(Size(bytes as u64)) } else { Err(wrong()) }
    }
}

/// A share of a whole: `1%` or `0.01`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share(pub(super) f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
        let share: Option<f64> = number.trim().parse().ok().map(|number: f64| number / scale);
        share
            .filter(|share| *share > 0.0 && *share <= 1.0)
            .map(Share)
            .ok_or_else(|| format!("'{text}' is no share; write 1% or 0.5%, at most 100%"))
    }
}

/// A size, or a share of what there is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Amount {
    Bytes(u64),
    Share(f64),
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Amount, String> {
        match text {
            "0" | "0%" => Ok(Amount::Bytes(0)),
            _ if text.ends_with('%') => text.parse().map(|Share(share)| Amount::Share(share)),
            _ => text.parse().map(|Size(bytes)| Amount::Bytes(bytes)),
        }
    }
}

/// `-m`: a number of pages, or of bytes with a unit. Behind a comma perf takes the size of rings for hardware tracing, which there is
/// none of.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingSize(pub(super) u64);

impl FromStr for RingSize {
    type Err = String;

    fn from_str(text: &str) -> Result<RingSize, String> {
        let (text, aux) = text.split_once(',').map_or((text, None), |(text, aux)| (text, Some(aux)));
        aux.map_or(Ok(()), |aux| RingSize::one(aux).map(|_| ()))?;
        RingSize::one(text)
    }
}

impl RingSize {
    fn one(text: &str) -> Result<RingSize, String> {
        let pages: Option<u64> = text.parse().ok();
        let bytes = match pages {
            Some(pages) => pages.checked_mul(crate::sys::page_size()),
            None => Some(text.parse::<Size>()?.0),
        };
        let bytes = bytes.filter(|bytes| (1..=4 << 30).contains(bytes));
        bytes.map(RingSize).ok_or_else(|| format!("'{text}' is no size for a ring (1B to 4G)"))
    }
}

fn number_and_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        let ring = |text: &str| text.parse::<RingSize>().map(|RingSize(bytes)| bytes);
        assert_eq!(ring("8M"), Ok(8 << 20));
        assert_eq!(ring("128"), Ok(128 * crate::sys::page_size()));
        assert!(ring("8X").is_err() && ring("0").is_err() && ring("99999999999999999999").is_err());
        assert_eq!((ring("128,64"), ring("8M,4M")), (ring("128"), ring("8M")));
        assert!(ring("8M,x").is_err() && ring("8M,").is_err() && ring(",4M").is_err());
        assert_eq!(Span::from_str("1.5s").unwrap().0, Duration::from_millis(1500));
        assert_eq!(Span::from_str("2m").unwrap().0, Duration::from_secs(120));
        assert_eq!(Span::from_str("7d").unwrap().0, Duration::from_secs(7 * 86_400));
        assert_eq!(Span::from_str("20us").unwrap().0, Duration::from_micros(20));
        assert_eq!(Span::from_str("1h30m").unwrap().0, Duration::from_secs(5400));
        assert_eq!(Span::from_str("2").unwrap().0, Duration::from_secs(2));
        assert!(Span::from_str("2y").is_err());
        assert_eq!(Size::from_str("1.5GiB").unwrap().0, 3 << 29);
    }

    #[test]
    fn shares() {
        assert!((Share::from_str("0.5%").unwrap().0 - 0.005).abs() < 1e-12);
        assert!(Share::from_str("101%").is_err() && Share::from_str("0").is_err());
        assert!(
            matches!(Amount::from_str("5%"), Ok(Amount::Share(_)))
                && matches!(Amount::from_str("2G"), Ok(Amount::Bytes(_)))
        );
    }

    #[test]
    fn call_graphs() {
        let parse = |text| Graph::from_str(text).map(|graph| graph.mode);
        assert_eq!(parse("dwarf,1001"), Ok(CallGraph::Dwarf { stack_bytes: 1008 }));
        assert_eq!(parse("dwarf,65528"), Ok(CallGraph::Dwarf { stack_bytes: 65_528 }));
        assert!(parse("dwarf,100000").is_err() && parse("lbr").is_err() && parse("x").is_err());
        let limited = |most| Ok(Graph { mode: CallGraph::FramePointer, max_stack: most });
        assert_eq!((Graph::from_str("fp,64"), Graph::from_str("fp")), (limited(Some(64)), limited(None)));
        assert!(parse("fp,0").is_err() && parse("fp,x").is_err() && parse("auto,64").is_err());
    }
}
