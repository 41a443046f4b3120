//! Folded stacks: `process;root;…;leaf count`, a line for each distinct stack. The format of Brendan Gregg's
//! `flamegraph.pl`, which has no specification besides that program.
//!
//! The format knows no escapes and has no place for comments: characters that separate are replaced, and what was lost
//! is told only by the marker frames of incomplete stacks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

use rustc_hash::FxHashMap;

use super::bounds::Bounds;
use super::{DecodeError, EncodeError, ReadOptions, Room, WriteOptions};
use crate::profile::{FrameView, Function, FunctionId, Location, LocationId, Profile, Sample, SourceLine};
use crate::text::steers;

/// How much of a file is looked at to recognize it.
const LOOK: usize = 64 << 10;
/// Stands for the stack of a sample without one, which is still a sample.
const NO_STACK: &str = "[no stack]";
/// How much of a bad line an error shows.
const SHOWN: usize = 80;

/// Writes a line for each distinct stack of a process name, in alphabetical order. Counts samples unless another value is asked for.
pub(super) fn write(profile: &Profile, options: &WriteOptions, out: &mut dyn Write) -> Result<(), EncodeError> {
    let column = match &options.value {
        Some(name) => profile.column(Some(name))?,
        None => profile.count_column().map_or_else(|| profile.column(None), Ok)?,
    };
    let stacks = stacks(profile, column, |frame| safe(&frame.name).into_owned());
    for (stack, count) in stacks.iter().filter(|(_, count)| **count != 0) {
        writeln!(out, "{} {count}", line(stack))?;
    }
    Ok(())
}

/// The stacks root first with their sums. Stacks are sorted frame by frame, so that those with a common root stand together.
pub(super) fn stacks(
    profile: &Profile,
    column: usize,
    show: impl Fn(&FrameView<'_>) -> String,
) -> BTreeMap<Vec<String>, i128> {
    let mut stacks = BTreeMap::new();
    for sample in &profile.samples {
        let process = profile.process_name(sample).map(|name| safe(name).into_owned());
        let bare = sample.stack.is_empty().then(|| NO_STACK.to_owned());
        let frames = profile.frames(sample).rev().map(|frame| show(&frame));
        let sum = stacks.entry(process.into_iter().chain(bare).chain(frames).collect()).or_insert(0);
        *sum += sample.values.get(column).copied().map_or(0, i128::from);
    }
    stacks
}

/// The frames as a line without its count. A last word of digits would be read as one more count, a first `#` as a comment.
pub(super) fn line(stack: &[String]) -> String {
    let mut line = stack.join(";");
    if let Some((head, tail)) = line.rsplit_once(' ')
        && is_count(tail)
    {
        line = format!("{head}_{tail}");
    }
    if let Some(rest) = line.strip_prefix("# ") {
        line = format!("#_{rest}");
    }
    line
}

/// A frame's name without what separates frames and lines, and without control characters, which a terminal would obey.
pub(super) fn safe(name: &str) -> Cow<'_, str> {
    let trimmed = name.trim();
    if trimmed.is_empty() {
        return Cow::Borrowed("[unknown]");
    }
    if !trimmed.contains(|c: char| c == ';' || steers(c) || is_no_xml(c)) {
        return Cow::Borrowed(trimmed);
    }
    let replace = |c| match c {
        ';' => ':',
        '\t' => ' ',
        c if steers(c) || is_no_xml(c) => '?',
        c => c,
    };
    Cow::Owned(trimmed.chars().map(replace).collect())
}

/// Characters that are none, and that XML forbids.
fn is_no_xml(c: char) -> bool {
    matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// Text of which the first line is a stack and a count.
pub(super) fn recognize(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(LOOK)];
    let head = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or(""),
        Err(_) => return false,
    };
    let text = !head.contains(|c: char| c.is_control() && !"\n\r\t".contains(c));
    let first = head.lines().map(str::trim).find(|line| !is_blank(line));
    text && first.is_some_and(|line| head.len() == LOOK || parse(line).is_some())
}

/// Reads folded stacks of any program. Counts may have a fraction, as some write them; they are rounded.
pub(super) fn read(bytes: &[u8], _: &ReadOptions, room: &mut Room) -> Result<(), DecodeError> {
    let text = String::from_utf8_lossy(bytes);
    let (mut reader, bounds) = (Reader::default(), Bounds::of_file(bytes.len()));
    for (index, line) in text.lines().enumerate().map(|(index, line)| (index, line.trim())) {
        if is_blank(line) {
            continue;
        }
        let (stack, count) = parse(line)
            .ok_or_else(|| DecodeError::Folded { line: index + 1, text: line.chars().take(SHOWN).collect() })?;
        if stack.rsplit_once(char::is_whitespace).is_some_and(|(_, word)| is_count(word)) {
            return Err(DecodeError::TwoCounts { line: index + 1 });
        }
        let frames = 1 + stack.bytes().filter(|&byte| byte == b';').count();
        bounds.stack(frames as u64, stack.len() as u64)?;
        bounds.list::<LocationId>(frames)?;
        reader.add(stack, count);
    }
    let mut profile = reader.profile;
    let samples = profile.value_type("samples", "count");
    profile.sample_types.push(samples);
    profile.merge_equal_samples();
    room.profile = profile;
    Ok(())
}

/// Empty, or a comment, which some writers put at the head.
fn is_blank(line: &str) -> bool {
    line.is_empty() || line.starts_with("# ")
}

fn parse(line: &str) -> Option<(&str, i64)> {
    let (stack, count) = line.rsplit_once(char::is_whitespace)?;
    if !is_count(count) || stack.trim().is_empty() {
        return None;
    }
    Some((stack.trim_end(), count.parse().ok().or_else(|| rounded(count))?))
}

/// Digits, with a fraction perhaps.
fn is_count(word: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = word.split_once('.').unwrap_or((word, ""));
    !whole.is_empty() && digits(whole) && digits(fraction)
}

#[allow(clippy::cast_possible_truncation, reason = "a number above the range becomes its end")]
fn rounded(count: &str) -> Option<i64> {
    count.parse::<f64>().ok().map(|count| count.round() as i64)
}

#[derive(Default)]
struct Reader {
    profile: Profile,
    frames: FxHashMap<String, LocationId>,
}

impl Reader {
    fn add(&mut self, stack: &str, count: i64) {
        let stack = stack.rsplit(';').map(|name| self.frame(name)).collect();
        self.profile.samples.push(Sample { stack, values: vec![count], labels: Vec::new() });
    }

    fn frame(&mut self, name: &str) -> LocationId {
        if let Some(&id) = self.frames.get(name) {
            return id;
        }
        let id = u32::try_from(self.profile.locations.len()).unwrap_or(u32::MAX);
        let text = self.profile.strings.intern(name);
        let line = SourceLine { function: FunctionId(id), line: 0, column: 0 };
        self.profile.functions.push(Function { name: text, system_name: text, ..Function::default() });
        self.profile.locations.push(Location { lines: vec![line], ..Location::default() });
        self.frames.insert(name.into(), LocationId(id));
        LocationId(id)
    }
}
