//! A profile in the layout of `perf script`: each of its samples is a block, and what it stands for is its period.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::{Choice, PIECE, Place, ScriptArgs, is_closed, line, tell_thread, tell_time};
use crate::cli::input;
use crate::cli::overhead::{event_name, number, value_columns};
use crate::cli::show::printable;
use crate::profile::{LocationId, Profile, Sample, TIME_LABEL};
use crate::symbol::without_parameters;

/// Prints a profile. A reader that has seen enough (a closed pipe) is no error.
///
/// # Errors
/// If it cannot be read, or an option is for recordings alone.
pub(super) fn print(path: &Path, args: &ScriptArgs, choice: &Choice) -> anyhow::Result<()> {
    for (option, given) in [("--header", args.header), ("--header-only", args.header_only)] {
        if given {
            input::needs_recording(path, option)?;
        }
    }
    let profile = input::read(path, &args.recording, false)?;
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let written = Teller::new(&profile, args, choice).tell(&mut out);
    is_closed(written.and_then(|()| out.flush()))?;
    Ok(())
}

/// Tells the samples one by one.
struct Teller<'a> {
    profile: &'a Profile,
    choice: &'a Choice,
    inlined: bool,
    /// The columns with the names of their events.
    events: Vec<(usize, String)>,
    /// The lines of each location, once they were needed.
    lines: Vec<Option<String>>,
}

impl<'a> Teller<'a> {
    fn new(profile: &'a Profile, args: &ScriptArgs, choice: &'a Choice) -> Teller<'a> {
        let event = |column| (column, printable(event_name(profile, column)));
        Teller {
            profile,
            choice,
            inlined: !args.no_inline,
            events: value_columns(profile).into_iter().map(event).collect(),
            lines: vec![None; profile.locations.len()],
        }
    }

    fn tell(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let profile = self.profile;
        let mut text = String::with_capacity(2 * PIECE);
        for sample in &profile.samples {
            let events = if self.wants(sample) { self.events.len() } else { 0 };
            for at in 0..events {
                self.sample(sample, at, &mut text);
            }
            if text.len() >= PIECE {
                out.write_all(text.as_bytes())?;
                text.clear();
            }
        }
        out.write_all(text.as_bytes())
    }

    fn wants(&self, sample: &Sample) -> bool {
        let (profile, choice) = (self.profile, self.choice);
        let is = |wanted: &[i32], key| {
            wanted.is_empty() || wanted.iter().any(|&id| number(profile, sample, key) == Some(id.into()))
        };
        let comm = profile.label(sample, "comm").unwrap_or_default();
        let module = || {
            let leaf = sample.stack.first().and_then(|&id| profile.frames_at(id).next());
            leaf.map_or("", |leaf| leaf.module)
        };
        (choice.comm.is_empty() || choice.comm.iter().any(|wanted| wanted == comm))
            && is(&choice.pid, "pid")
            && is(&choice.tid, "tid")
            && choice.dso.as_ref().is_none_or(|dso| dso.is_match(module()))
    }

    /// What one event counted there, if anything.
    fn sample(&mut self, sample: &Sample, event: usize, text: &mut String) {
        let (profile, choice) = (self.profile, self.choice);
        let (column, name) = &self.events[event];
        let value = sample.values[*column];
        if value == 0 {
            return;
        }
        // Collapsers know a line by its number of a thread.
        let id = |key| number(profile, sample, key).unwrap_or(0);
        let comm = profile.label(sample, "comm").unwrap_or("[unknown]");
        tell_thread(comm, (id("pid"), id("tid")), choice, choice.callers, text);
        if let Some(time) = number(profile, sample, TIME_LABEL).filter(|_| choice.has("time")) {
            tell_time(time.unsigned_abs(), choice, text);
        }
        if choice.has("period") {
            let _ = write!(text, "{value:>10} ");
        }
        if choice.has("event") {
            let widest = self.events.iter().map(|(_, name)| name.len()).max().unwrap_or(0);
            let _ = write!(text, "{name:>widest$}: ");
        }
        if choice.has("ip") || choice.has("sym") {
            self.stack(sample, text);
        }
        text.push('\n');
    }

    fn stack(&mut self, sample: &Sample, text: &mut String) {
        if !self.choice.callers {
            // The place alone, as one function.
            if let Some(&leaf) = sample.stack.first() {
                each_place(self.profile, leaf, false, &mut |place| line(place, self.choice, text));
            }
            return;
        }
        text.push('\n');
        for &id in &sample.stack {
            let (profile, choice, inlined) = (self.profile, self.choice, self.inlined);
            let lines = self.lines[id.0 as usize].get_or_insert_with(|| lines(profile, id, inlined, choice));
            text.push_str(lines);
        }
    }
}

fn lines(profile: &Profile, id: LocationId, inlined: bool, choice: &Choice) -> String {
    let mut lines = String::new();
    each_place(profile, id, inlined, &mut |place| {
        lines.push('\t');
        line(place, choice, &mut lines);
        lines.push('\n');
    });
    lines
}

/// The functions of a location, innermost first: the last alone, if not those that were `inlined`.
fn each_place(profile: &Profile, id: LocationId, inlined: bool, tell: &mut dyn FnMut(&Place<'_>)) {
    let location = &profile.locations[id.0 as usize];
    let module = printable(location.mapping.map_or("", |id| profile.text(profile.mappings[id.0 as usize].file)));
    let module = if module.is_empty() { "[unknown]" } else { &*module };
    let unnamed = Place { address: location.address, name: "[unknown]", module, inlined: false, source: None };
    if location.lines.is_empty() {
        return tell(&unnamed);
    }
    let last = location.lines.len() - 1;
    for (at, of) in location.lines.iter().enumerate().skip(if inlined { 0 } else { last }) {
        let function = profile.functions[of.function.0 as usize];
        let bare = without_parameters(profile.text(function.system_name));
        let name = printable(bare.as_deref().unwrap_or(profile.text(function.name)));
        let file = profile.text(function.file);
        let source = (!file.is_empty()).then_some((file, of.line));
        let name = if name.is_empty() { unnamed.name } else { &*name };
        tell(&Place { name, inlined: at < last, source, ..unnamed });
    }
}
