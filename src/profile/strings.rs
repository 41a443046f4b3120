//! Interned strings: a profile names each function, file and label once.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

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
///
/// They lie one behind the other in one text: a profile has thousands, and a day of profiles is read by making and dropping millions.
#[derive(Clone, Debug)]
pub struct Strings {
    text: String,
    /// Where each string ends; it begins where the one before ends.
    ends: Vec<usize>,
    index: HashTable<StringId>,
}

impl Default for Strings {
    fn default() -> Strings {
        let mut strings = Strings { text: String::new(), ends: Vec::new(), index: HashTable::new() };
        strings.intern("");
        strings
    }
}

/// The index follows from the strings.
impl PartialEq for Strings {
    fn eq(&self, other: &Strings) -> bool {
        self.ends == other.ends && self.text == other.text
    }
}

impl Strings {
    /// The id of a string, which is added if it is new.
    pub fn intern(&mut self, text: &str) -> StringId {
        if let Some(id) = self.find(text) {
            return id;
        }
        let id = StringId(u32::try_from(self.ends.len()).unwrap_or(u32::MAX));
        self.text.push_str(text);
        self.ends.push(self.text.len());
        let (all, ends) = (&self.text, &self.ends);
        self.index.insert_unique(hash(text), id, |&id| hash(slice(all, ends, id)));
        id
    }

    /// The id of a string, if the profile has it.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<StringId> {
        self.index.find(hash(text), |&id| self.get(id) == text).copied()
    }

    /// The string; the empty one for an id that was not given out.
    #[must_use]
    pub fn get(&self, id: StringId) -> &str {
        slice(&self.text, &self.ends, id)
    }

    /// Makes room for further strings, so many and of so many bytes in all.
    pub fn reserve(&mut self, number: usize, bytes: usize) {
        self.text.reserve(bytes);
        self.ends.reserve(number);
        let (all, ends) = (&self.text, &self.ends);
        self.index.reserve(number, |&id| hash(slice(all, ends, id)));
    }

    /// Forgets all strings but the empty one, and keeps their room.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.index.clear();
        self.intern("");
    }

    /// All strings by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| &self.text[std::mem::replace(&mut start, end)..end])
    }

    /// How many there are; never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "the empty string is always there")]
    pub fn len(&self) -> usize {
        self.ends.len()
    }
}

fn slice<'a>(text: &'a str, ends: &[usize], id: StringId) -> &'a str {
    let at = id.0 as usize;
    let start = at.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    ends.get(at).map_or("", |&end| &text[start..end])
}

fn hash(text: &str) -> u64 {
    FxBuildHasher.hash_one(text)
}
