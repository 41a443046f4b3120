//! speedscope's own format, a profile for each thread. Source: <https://www.speedscope.app/file-format-schema.json>.
//!
//! Samples stand in the order of their times where the profile keeps them, each as wide as its value: the format has no gaps.

use std::io::{self, Write};

use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use super::tracks::{Track, tracks};
use super::{EncodeError, WriteOptions};
use crate::profile::{LocationId, Profile};

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

/// Writes the profile's own value, unless another is asked for.
pub(super) fn write(profile: &Profile, options: &WriteOptions, out: &mut dyn Write) -> Result<(), EncodeError> {
    let column = profile.column(options.value.as_deref())?;
    let kind = profile.sample_types[column];
    let unit = match profile.text(kind.unit) {
        unit @ ("nanoseconds" | "microseconds" | "milliseconds" | "seconds" | "bytes") => unit,
        _ => "none",
    };
    let mut frames = Frames::default();
    let profiles: Vec<Value> =
        tracks(profile, column).iter().map(|track| sampled(profile, track, unit, &mut frames)).collect();
    if profiles.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no samples to tell").into());
    }
    let file = json!({
        "$schema": SCHEMA,
        "exporter": concat!("rprof ", env!("CARGO_PKG_VERSION")),
        "name": profile.command().unwrap_or("profile"),
        "activeProfileIndex": 0,
        "shared": { "frames": frames.list },
        "profiles": profiles,
    });
    serde_json::to_writer(&mut *out, &file).map_err(io::Error::from)?;
    Ok(())
}

fn sampled(profile: &Profile, track: &Track<'_>, unit: &str, frames: &mut Frames) -> Value {
    let stacks = track.samples.iter().map(|entry| {
        let locations = entry.sample.stack.iter().rev();
        locations.flat_map(|&location| frames.of(profile, location)).collect::<Vec<usize>>()
    });
    let samples: Vec<Vec<usize>> = stacks.collect();
    let weights: Vec<i64> = track.samples.iter().map(|entry| entry.value).collect();
    let total = weights.iter().fold(0_i64, |sum, &weight| sum.saturating_add(weight));
    let ids = [track.pid, track.tid].into_iter().flatten().map(|id| id.to_string()).collect::<Vec<_>>().join("/");
    let thread = if track.comm == track.process { "" } else { track.comm };
    let name = [track.process, thread, &ids].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let name = if name.is_empty() { "all".to_owned() } else { name };
    json!({
        "type": "sampled",
        "name": name,
        "unit": unit,
        "startValue": 0,
        "endValue": total,
        "samples": samples,
        "weights": weights,
    })
}

/// The shared table of frames, and those of each location, outermost first.
#[derive(Default)]
struct Frames {
    list: Vec<Value>,
    ids: FxHashMap<(String, String, i64), usize>,
    of_location: FxHashMap<LocationId, Vec<usize>>,
}

impl Frames {
    fn of(&mut self, profile: &Profile, location: LocationId) -> Vec<usize> {
        if let Some(known) = self.of_location.get(&location) {
            return known.clone();
        }
        let lines = &profile.locations[location.0 as usize].lines;
        let frames = profile.frames_at(location).enumerate().map(|(at, frame)| {
            let line = lines.get(at);
            let source = line.map_or("", |line| profile.text(profile.functions[line.function.0 as usize].file));
            let file = if source.is_empty() { frame.module } else { source };
            let number = line.filter(|_| !source.is_empty()).map_or(0, |line| line.line);
            self.id((frame.name.into_owned(), file.to_owned(), number))
        });
        let mut frames: Vec<usize> = frames.collect();
        frames.reverse();
        self.of_location.insert(location, frames.clone());
        frames
    }

    fn id(&mut self, key: (String, String, i64)) -> usize {
        if let Some(&id) = self.ids.get(&key) {
            return id;
        }
        let (name, file, line) = &key;
        let mut frame = json!({ "name": name });
        if !file.is_empty() {
            frame["file"] = json!(file);
        }
        if *line > 0 {
            frame["line"] = json!(line);
        }
        self.list.push(frame);
        self.ids.insert(key, self.list.len() - 1);
        self.list.len() - 1
    }
}
