//! Names, each kept once: a linkage name is demangled the first time it is met, and shared from then on. Demangling costs
//! 1–3 µs, more than finding the symbol.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::demangle::demangle;

/// Bytes of one name; a longer one is cut. Names are whatever the target wrote.
const LONGEST_NAME: usize = 64 << 10;
/// Bytes of names after which the tables are emptied (names in use live on in their symbols). A rustc compile uses 3 MB.
const MOST_BYTES: usize = 16 << 20;

/// A function's two names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// As people wrote it.
    pub(super) function: Arc<str>,
    /// As the linker knows it.
    pub(super) system: Arc<str>,
}

/// The names met so far.
#[derive(Default)]
pub(super) struct Names {
    functions: FxHashMap<Box<[u8]>, Name>,
    strings: FxHashSet<Arc<str>>,
    bytes: usize,
}

impl Names {
    /// The names of the function with this linkage name.
    pub(super) fn function(&mut self, linkage: &[u8]) -> Name {
        let linkage = &linkage[..linkage.len().min(LONGEST_NAME)];
        if let Some(name) = self.functions.get(linkage) {
            return name.clone();
        }
        let system = printable(linkage);
        let function = demangle(&system).map_or_else(|| system.clone(), Arc::from);
        self.account(2 * linkage.len() + function.len());
        let name = Name { function, system };
        self.functions.insert(linkage.into(), name.clone());
        name
    }

    /// The one copy of a string that is no function's name: a file, a module.
    pub(super) fn string(&mut self, text: &str) -> Arc<str> {
        if let Some(string) = self.strings.get(text) {
            return string.clone();
        }
        let string = printable(&text.as_bytes()[..text.len().min(LONGEST_NAME)]);
        self.account(string.len());
        self.strings.insert(string.clone());
        string
    }

    fn account(&mut self, bytes: usize) {
        const ENTRY: usize = 96;
        self.bytes += bytes + ENTRY;
        if self.bytes > MOST_BYTES {
            self.functions = FxHashMap::default();
            self.strings = FxHashSet::default();
            self.bytes = 0;
        }
    }
}

/// Valid UTF-8 without control characters, so that a name cannot break the lines of a text format.
fn printable(bytes: &[u8]) -> Arc<str> {
    let text = String::from_utf8_lossy(bytes);
    if text.contains(char::is_control) { text.replace(char::is_control, "?").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once() {
        let mut names = Names::default();
        let first = names.function(b"_ZN4core3fmt5write17h0123456789abcdefE");
        let second = names.function(b"_ZN4core3fmt5write17h0123456789abcdefE");
        assert!(Arc::ptr_eq(&first.function, &second.function));
        assert_eq!(&*first.function, "core::fmt::write");
        let plain = names.function(b"main\nx\xff");
        assert_eq!(&*plain.function, "main?x\u{fffd}");
        assert!(Arc::ptr_eq(&plain.function, &plain.system));
    }

    #[test]
    fn memory_is_bounded() {
        let mut names = Names::default();
        for number in 0..2000 {
            let name = format!("{number}{}", "x".repeat(20_000));
            names.function(name.as_bytes());
            assert!(names.bytes <= MOST_BYTES + 200_000);
        }
    }
}
