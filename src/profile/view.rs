//! A profile as those see it who show it: columns by name, and stacks as frames with inlined functions in their places.

use std::borrow::Cow;

use super::{Location, LocationId, PROCESS_LABEL, Profile, Sample};

/// Where a frame's code comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A file of code.
    Native,
    /// A function that was inlined into the next one.
    Inlined,
    /// The kernel.
    Kernel,
    /// Code made at run time.
    Jit,
    /// No code: a marker, or a profile that knows only names.
    Nowhere,
}

/// A frame: one function of one location.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FrameView<'a> {
    /// The function's name; `module+0xaddress` for a location without functions. Never empty.
    pub name: Cow<'a, str>,
    /// The path of the mapping; empty if there is none.
    pub module: &'a str,
    /// Where its code comes from.
    pub origin: Origin,
}

/// There is no column of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the profile has no value named {name:?}; it has {}", list(.known))]
pub struct UnknownValue {
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub known: Vec<String>,
}

impl Profile {
    /// The column of a name; without a name the one that the profile shows at first.
    ///
    /// # Errors
    /// [`UnknownValue`] if there is none.
    pub fn column(&self, name: Option<&str>) -> Result<usize, UnknownValue> {
        let default = self.text(self.default_sample_type);
        let wanted = name.unwrap_or(default);
        if let Some(at) = self.sample_types.iter().position(|kind| self.text(kind.name) == wanted) {
            return Ok(at);
        }
        match (name, self.sample_types.len().checked_sub(1)) {
            (None, Some(last)) => Ok(last),
            _ => Err(UnknownValue { name: wanted.into(), known: self.column_names() }),
        }
    }

    fn column_names(&self) -> Vec<String> {
        self.sample_types.iter().map(|kind| self.text(kind.name).to_owned()).collect()
    }

    /// The column that counts samples: the first one with the unit `count`; `None` if there is none.
    #[must_use]
    pub fn count_column(&self) -> Option<usize> {
        self.sample_types.iter().position(|kind| self.text(kind.unit) == "count")
    }

    /// The frames of a location, innermost first; never none.
    pub fn frames_at(&self, id: LocationId) -> impl DoubleEndedIterator<Item = FrameView<'_>> {
        let location = &self.locations[id.0 as usize];
        let module = self.module(location);
        let last = location.lines.len().saturating_sub(1);
        let bare = location.lines.is_empty().then(|| self.bare_frame(location));
        let named = location.lines.iter().enumerate().map(move |(index, line)| {
            let name = self.text(self.functions[line.function.0 as usize].name);
            let name = if name.is_empty() { "[unknown]" } else { name };
            let origin = if index < last { Origin::Inlined } else { origin(module) };
            FrameView { name: Cow::Borrowed(name), module, origin }
        });
        bare.into_iter().chain(named)
    }

    /// The frames of a sample, leaf first.
    pub fn frames<'a>(&'a self, sample: &'a Sample) -> impl DoubleEndedIterator<Item = FrameView<'a>> {
        sample.stack.iter().flat_map(|&id| self.frames_at(id))
    }

    /// The text of a label of a sample, if it has it.
    #[must_use]
    pub fn label<'a>(&'a self, sample: &Sample, key: &str) -> Option<&'a str> {
        let key = self.strings.find(key)?;
        sample.labels.iter().find(|label| label.key == key).and_then(|label| match label.value {
            super::LabelValue::Text(text) => Some(self.text(text)),
            super::LabelValue::Number(..) => None,
        })
    }

    /// The name of a sample's process; its thread's, where the profile tells no processes' names, as those of other programs.
    #[must_use]
    pub fn process_name<'a>(&'a self, sample: &Sample) -> Option<&'a str> {
        self.label(sample, PROCESS_LABEL).or_else(|| self.label(sample, "comm"))
    }

    /// Whether samples are of processes with different names.
    #[must_use]
    pub fn has_several_processes(&self) -> bool {
        let mut names = self.samples.iter().map(|sample| self.process_name(sample));
        let first = names.next();
        names.any(|name| Some(name) != first)
    }

    fn module(&self, location: &Location) -> &str {
        location.mapping.map_or("", |id| self.text(self.mappings[id.0 as usize].file))
    }

    fn bare_frame(&self, location: &Location) -> FrameView<'_> {
        let module = self.module(location);
        let file = module.rsplit('/').next().unwrap_or(module);
        let name = if file.is_empty() {
            format!("{:#x}", location.address)
        } else {
            format!("{file}+{:#x}", location.address)
        };
        FrameView { name: Cow::Owned(name), module, origin: origin(module) }
    }
}

fn list(known: &[String]) -> String {
    if known.is_empty() { "none".into() } else { known.join(", ") }
}

fn origin(module: &str) -> Origin {
    match module {
        "" => Origin::Nowhere,
        _ if module.starts_with("[kernel") => Origin::Kernel,
        "[anon]" => Origin::Jit,
        _ => Origin::Native,
    }
}
