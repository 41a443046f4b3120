//! Firefox Profiler's processed format, version 62, symbolicated. Source: the types of <https://github.com/firefox-devtools/profiler>
//! (`src/types/profile.ts`, `docs-developer/CHANGELOG-formats.md`); its front end upgrades what is older than itself.
//!
//! Where the profile keeps no times, the samples of a thread stand one behind the other, each as long as its value.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::tracks::{Entry, Track, tracks};
use super::{EncodeError, WriteOptions};
use crate::profile::{LocationId, MappingId, Origin, Profile, StringId};

/// The version of the format, and the one of the profiler of Firefox that it descends from.
const PROCESSED_VERSION: u32 = 62;
const GECKO_VERSION: u32 = 24;
/// What code is of: an index into [`categories`].
const USER: u32 = 1;
const KERNEL: u32 = 2;
const JIT: u32 = 3;
/// Milliseconds between two samples where the profile does not tell.
const INTERVAL: f64 = 1.0;

/// Writes the profile's own value, unless another is asked for.
pub(super) fn write(profile: &Profile, options: &WriteOptions, out: &mut dyn Write) -> Result<(), EncodeError> {
    let column = profile.column(options.value.as_deref())?;
    let tracks = tracks(profile, column);
    if tracks.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no samples to tell").into());
    }
    let is_time = profile.text(profile.sample_types[column].unit) == "nanoseconds";
    let mut tables = Tables::new(profile);
    let threads: Vec<Value> = tracks.iter().map(|track| thread(profile, track, is_time, &mut tables)).collect();
    let file = json!({
        "meta": meta(profile, is_time),
        "libs": libs(profile),
        "pages": [],
        "counters": [],
        "profilerOverhead": [],
        "shared": tables.shared(),
        "threads": threads,
    });
    serde_json::to_writer(&mut *out, &file).map_err(io::Error::from)?;
    Ok(())
}

fn meta(profile: &Profile, is_time: bool) -> Value {
    json!({
        "categories": categories(),
        "debug": false,
        "extensions": { "baseURL": [], "id": [], "length": 0, "name": [] },
        "interval": if is_time && profile.period > 0 { milliseconds(profile.period) } else { INTERVAL },
        "markerSchema": [],
        "oscpu": "Linux",
        "platform": "Linux",
        "pausedRanges": [],
        "preprocessedProfileVersion": PROCESSED_VERSION,
        "processType": 0,
        "product": profile.command().unwrap_or("rprof"),
        "importedFrom": concat!("rprof ", env!("CARGO_PKG_VERSION")),
        "sampleUnits": { "eventDelay": "ms", "threadCPUDelta": "µs", "time": "ms" },
        "sourceCodeIsNotOnSearchfox": true,
        "startTime": milliseconds(profile.time_nanos),
        "symbolicated": true,
        "usesOnlyOneStackType": true,
        "version": GECKO_VERSION,
    })
}

fn categories() -> Value {
    let category = |name: &str, color: &str| json!({ "name": name, "color": color, "subcategories": ["Other"] });
    json!([
        category("Other", "grey"),
        category("User", "yellow"),
        category("Kernel", "orange"),
        category("JIT", "green")
    ])
}

fn libs(profile: &Profile) -> Vec<Value> {
    let lib = |mapping: &crate::profile::Mapping| {
        let path = profile.text(mapping.file);
        let name = path.rsplit('/').next().unwrap_or(path);
        let build_id = profile.text(mapping.build_id);
        let code_id = (!build_id.is_empty()).then_some(build_id);
        json!({
            "arch": null, "breakpadId": "", "codeId": code_id,
            "debugName": name, "debugPath": path, "name": name, "path": path,
        })
    };
    profile.mappings.iter().map(lib).collect()
}

fn thread(profile: &Profile, track: &Track<'_>, is_time: bool, tables: &mut Tables<'_>) -> Value {
    let stacks: Vec<Option<usize>> =
        track.samples.iter().map(|entry| tables.stack(profile, &entry.sample.stack)).collect();
    let weights: Vec<Value> = track
        .samples
        .iter()
        .map(|entry| if is_time { json!(milliseconds(entry.value)) } else { json!(entry.value) })
        .collect();
    let pid = track.pid.unwrap_or(0);
    let or_all = |name: &'_ str| if name.is_empty() { "all".to_owned() } else { name.to_owned() };
    json!({
        "isMainThread": track.pid == track.tid,
        "markers": { "category": [], "data": [], "endTime": [], "length": 0, "name": [], "phase": [], "startTime": [] },
        "name": or_all(track.comm),
        "pausedRanges": [],
        "pid": pid.to_string(),
        "processName": or_all(track.process),
        "processShutdownTime": null,
        "processStartupTime": 0.0,
        "processType": "default",
        "registerTime": 0.0,
        "samples": {
            "length": stacks.len(),
            "stack": stacks,
            "time": times(profile, &track.samples, is_time),
            "weight": weights,
            "weightType": if is_time { "tracing-ms" } else { "samples" },
        },
        "showMarkersInTimeline": false,
        "tid": track.tid.unwrap_or(0).to_string(),
        "unregisterTime": null,
    })
}

/// Milliseconds since the profile began.
fn times(profile: &Profile, samples: &[Entry<'_>], is_time: bool) -> Vec<f64> {
    let mut at = 0.0;
    let time = |entry: &Entry<'_>| {
        let here = at;
        at += if is_time { milliseconds(entry.value) } else { INTERVAL };
        entry.time.map_or(here, |time| milliseconds(time.saturating_sub(profile.time_nanos)))
    };
    samples.iter().map(time).collect()
}

#[allow(clippy::cast_precision_loss, reason = "a place on a line of time")]
fn milliseconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// A table whose rows are found by what they hold.
struct Table<T>(Vec<T>, HashMap<T, usize>);

impl<T: Clone + Eq + Hash> Table<T> {
    fn id(&mut self, row: T) -> usize {
        if let Some(&id) = self.1.get(&row) {
            return id;
        }
        self.0.push(row.clone());
        self.1.insert(row, self.0.len() - 1);
        self.0.len() - 1
    }

    fn column<'a, V>(&'a self, of: impl FnMut(&'a T) -> V) -> Vec<V> {
        self.0.iter().map(of).collect()
    }
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table(Vec::new(), HashMap::new())
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Function {
    name: String,
    file: StringId,
    start_line: i64,
    mapping: Option<MappingId>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Frame {
    address: u64,
    depth: usize,
    function: usize,
    line: i64,
    category: u32,
}

/// The tables that all threads share.
struct Tables<'a> {
    profile: &'a Profile,
    functions: Table<Function>,
    frames: Table<Frame>,
    stacks: Table<(Option<usize>, usize)>,
    of_location: HashMap<LocationId, Vec<usize>>,
}

impl<'a> Tables<'a> {
    fn new(profile: &'a Profile) -> Tables<'a> {
        Tables {
            profile,
            functions: Table::default(),
            frames: Table::default(),
            stacks: Table::default(),
            of_location: HashMap::new(),
        }
    }

    /// The row of a stack; `None` without frames.
    fn stack(&mut self, profile: &Profile, stack: &[LocationId]) -> Option<usize> {
        let mut prefix = None;
        for &location in stack.iter().rev() {
            for frame in self.frames_of(profile, location) {
                prefix = Some(self.stacks.id((prefix, frame)));
            }
        }
        prefix
    }

    /// The frames of a location, outermost first.
    fn frames_of(&mut self, profile: &Profile, id: LocationId) -> Vec<usize> {
        if let Some(known) = self.of_location.get(&id) {
            return known.clone();
        }
        let location = &profile.locations[id.0 as usize];
        let views: Vec<_> = profile.frames_at(id).collect();
        let physical = views.last().map_or(Origin::Nowhere, |view| view.origin);
        let category = match physical {
            Origin::Kernel => KERNEL,
            Origin::Jit => JIT,
            Origin::Native | Origin::Inlined => USER,
            Origin::Nowhere => 0,
        };
        let last = views.len().saturating_sub(1);
        let frames = views.into_iter().enumerate().map(|(at, view)| {
            let line = location.lines.get(at);
            let function = line.map(|line| profile.functions[line.function.0 as usize]).unwrap_or_default();
            let row = Function {
                name: view.name.into_owned(),
                file: function.file,
                start_line: function.start_line,
                mapping: location.mapping,
            };
            let function = self.functions.id(row);
            let line = line.map_or(0, |line| line.line);
            self.frames.id(Frame { address: location.address, depth: last - at, function, line, category })
        });
        let mut frames: Vec<usize> = frames.collect();
        frames.reverse();
        self.of_location.insert(id, frames.clone());
        frames
    }

    fn shared(&self) -> Value {
        let profile = self.profile;
        let mut strings: Table<String> = Table::default();
        let names = self.functions.column(|of| strings.id(of.name.clone()));
        let module = |mapping: &crate::profile::Mapping| {
            let path = profile.text(mapping.file);
            path.rsplit('/').next().unwrap_or(path).to_owned()
        };
        let resources: Vec<usize> = profile.mappings.iter().map(|mapping| strings.id(module(mapping))).collect();
        let mut sources: Table<StringId> = Table::default();
        let source = self.functions.column(|of| (!of.file.is_empty()).then(|| sources.id(of.file)));
        let files = sources.column(|&file| strings.id(profile.text(file).to_owned()));
        let line = |line: i64| (line > 0).then_some(line);
        let none = |count: usize| vec![Value::Null; count];
        let (frames, functions) = (self.frames.0.len(), self.functions.0.len());
        json!({
            "frameTable": {
                "length": frames,
                "address": self.frames.column(|of| i64::try_from(of.address).unwrap_or(-1)),
                "inlineDepth": self.frames.column(|of| of.depth),
                "category": self.frames.column(|of| of.category),
                "subcategory": vec![0; frames],
                "func": self.frames.column(|of| of.function),
                "nativeSymbol": none(frames),
                "innerWindowID": vec![0; frames],
                "line": self.frames.column(|of| line(of.line)),
                "column": none(frames),
            },
            "funcTable": {
                "length": functions,
                "name": names,
                "isJS": vec![false; functions],
                "relevantForJS": vec![false; functions],
                "resource": self.functions.column(|of| of.mapping.map_or(-1, |id| i64::from(id.0))),
                "source": source,
                "lineNumber": self.functions.column(|of| line(of.start_line)),
                "columnNumber": none(functions),
            },
            "nativeSymbols": { "length": 0, "address": [], "functionSize": [], "libIndex": [], "name": [] },
            "resourceTable": {
                "length": resources.len(),
                "lib": (0..resources.len()).collect::<Vec<usize>>(),
                "name": resources,
                "host": none(profile.mappings.len()),
                "type": vec![1; profile.mappings.len()],
            },
            "sources": {
                "length": files.len(),
                "id": none(files.len()),
                "filename": files,
                "startLine": vec![1; sources.0.len()],
                "startColumn": vec![1; sources.0.len()],
                "sourceMapURL": none(sources.0.len()),
            },
            "stackTable": {
                "length": self.stacks.0.len(),
                "prefix": self.stacks.column(|of| of.0),
                "frame": self.stacks.column(|of| of.1),
            },
            "stringArray": strings.0,
        })
    }
}
