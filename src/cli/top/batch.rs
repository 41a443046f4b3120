//! Tables one after the other, for scripts: as text, or as lines of JSON.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use crossbeam_channel::{never, select};
use serde_json::{Value, json};

use super::super::show::{self, Listing, amount, functions, functions_json, functions_table, order, printable};
use super::super::terminal::Span;
use super::super::when;
use super::live::{counts, own_in_words, profile, total_in_words};
use crate::ids::UnixNanos;
use crate::profile::{MergeOptions, Profile, Quality};
use crate::session::Screen;
use crate::session::top::{Kind, Seen, Top};

/// How tables are printed.
pub(super) struct Printer<'a> {
    pub(super) listing: Listing<'a>,
    pub(super) json: bool,
    pub(super) span: Span,
    pub(super) merging: MergeOptions,
}

/// Prints tables until the recording ends, or as many as were asked for. Answers the exit status.
///
/// # Errors
/// If they cannot be printed, or the recording failed. A reader that has seen enough (a closed pipe) is no error.
pub(super) fn run(top: Top, printer: &Printer<'_>, most: Option<u64>, screen: &Screen) -> anyhow::Result<i32> {
    let (seen, mut said) = (top.seen().clone(), top.said().clone());
    let mut printed = Ok(());
    loop {
        select! {
            recv(seen) -> seen => {
                let Ok(seen) = seen else { break };
                printed = printer.text(&seen).and_then(|text| Ok(write(&text)?));
                if printed.is_err() || most.is_some_and(|most| seen.windows >= most) {
                    break;
                }
            }
            recv(said) -> line => match line {
                Ok(line) => screen.say(&line),
                Err(_) => said = never(),
            }
        }
    }
    drop(seen);
    let ended = top.finish(|line| screen.say(line));
    match printed {
        Err(error) if !is_closed(&error) => Err(error),
        _ => Ok(ended?),
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

impl Printer<'_> {
    fn text(&self, seen: &Seen) -> anyhow::Result<String> {
        if self.json {
            return self.line(seen);
        }
        let mut out = String::new();
        for kind in &seen.kinds {
            self.table(seen, kind, &mut out)?;
        }
        Ok(out)
    }

    fn table(&self, seen: &Seen, kind: &Kind, out: &mut String) -> anyhow::Result<()> {
        let shown = profile(kind, self.span, &self.merging);
        let counts = counts(&shown)?;
        let from = UnixNanos(shown.time_nanos);
        let to = UnixNanos(kind.last.time_nanos.saturating_add(kind.last.duration_nanos));
        let _ = write!(out, "# {} {}: {}", when::show_span(from, to), printable(&kind.name), total_in_words(&counts));
        if let Some(count) = shown.count_column() {
            let _ = write!(out, ", {} samples", amount(shown.total(count), ""));
        }
        for part in show::quality_in_words(&shown, shown.column(None)?) {
            let _ = write!(out, ", {part}");
        }
        let _ = writeln!(out, "; {}", own_in_words(seen));
        functions_table(&counts, &self.listing, show::width(), out);
        out.push('\n');
        Ok(())
    }

    fn line(&self, seen: &Seen) -> anyhow::Result<String> {
        let kinds = seen.kinds.iter().map(|kind| self.kind(kind)).collect::<anyhow::Result<Vec<Value>>>()?;
        let document = json!({
            "tables": seen.windows,
            "rprof": { "cpus": seen.own.cpus, "memory_bytes": seen.own.memory },
            "kinds": kinds,
        });
        Ok(format!("{document}\n"))
    }

    fn kind(&self, kind: &Kind) -> anyhow::Result<Value> {
        let shown = profile(kind, self.span, &self.merging);
        let counts = counts(&shown)?;
        let sums = functions(&counts);
        let order = order(&sums, &counts, &self.listing);
        let number = if self.listing.limit == 0 { order.len() } else { self.listing.limit.min(order.len()) };
        let quality = Quality::of(&shown).unwrap_or_default();
        let counted = quality.of_column(&shown, shown.column(None)?);
        Ok(json!({
            "kind": kind.name,
            "from_nanos": shown.time_nanos,
            "covered_nanos": shown.duration_nanos,
            "frequency": kind.last.frequency(),
            "value": { "name": counts.value, "unit": counts.unit },
            "total": show::number(counts.total),
            "samples": samples(&shown),
            "lost": counted.lost,
            "lost_share": counted.lost_share(),
            "complete_share": quality.complete_share(),
            "unnamed_share": counted.unnamed_share(),
            "functions": functions_json(&counts, &sums, &order[..number], shown.duration_nanos),
            "functions_left_out": order.len() - number,
        }))
    }
}

fn samples(profile: &Profile) -> Option<i64> {
    profile.count_column().map(|count| show::number(profile.total(count)))
}
