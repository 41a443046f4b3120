//! Interned strings: a profile names each function, file and label once.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// An index into a profile's [`Strings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StringId(pub u32);

impl StringId {
    /// The empty string, which is always the first.
    pub const EMPTY: StringId = StringId(0);

    /// Whether it is the empty string.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == StringId::EMPTY
    }
}

/// Distinct strings in the order in which they were first met. String 0 is the empty one, as pprof demands.
#[derive(Clone, Debug)]
pub struct Strings {
    list: Vec<Arc<str>>,
    index: FxHashMap<Arc<str>, StringId>,
}

impl Default for Strings {
    fn default() -> Strings {
        let empty: Arc<str> = "".into();
        Strings { list: vec![empty.clone()], index: FxHashMap::from_iter([(empty, StringId::EMPTY)]) }
    }
}

/// The index follows from the list.
impl PartialEq for Strings {
    fn eq(&self, other: &Strings) -> bool {
        self.list == other.list
    }
}

impl Strings {
    /// The id of a string, which is added if it is new.
    pub fn intern(&mut self, text: &str) -> StringId {
        if let Some(&id) = self.index.get(text) {
            return id;
        }
        let id = StringId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        let text: Arc<str> = text.into();
        self.list.push(text.clone());
        self.index.insert(text, id);
        id
    }

    /// The id of a string, if the profile has it.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<StringId> {
        self.index.get(text).copied()
    }

    /// The string; the empty one for an id that was not given out.
    #[must_use]
    pub fn get(&self, id: StringId) -> &str {
        self.list.get(id.0 as usize).map_or("", |text| text)
    }

    /// All strings by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.list.iter().map(|text| &**text)
    }

    /// How many there are; never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "the empty string is always there")]
    pub fn len(&self) -> usize {
        self.list.len()
    }
}
