//! Linkage names to the names people wrote. A target chooses its own symbol names, so every step is bounded: the length
//! of what goes in, the recursion, and the length of what comes out (a mangled name of 100 bytes can stand for gigabytes).

use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use cpp_demangle::DemangleOptions;

/// Bytes of a linkage name that is demangled. The longest in a Chromium build are some 6 KB; time grows with the square.
const LONGEST_INPUT: usize = 8 << 10;
/// Bytes of a demangled name; beyond, the linkage name says more to a reader.
const LONGEST_OUTPUT: usize = 16 << 10;
/// Nesting that a C++ name may have; each level takes some hundred bytes of stack in each of a dozen functions.
const DEEPEST_NAME: u32 = 96;

/// The demangled form of a linkage name, without Rust's hash; `None` if it is not mangled, or not within the bounds.
pub(super) fn demangle(name: &str) -> Option<String> {
    if name.len() > LONGEST_INPUT || !looks_mangled(name) {
        return None;
    }
    // The last resort: neither demangler is known to panic, but both parse what a stranger wrote.
    catch_unwind(AssertUnwindSafe(|| rust(name).or_else(|| cpp(name, options())))).ok().flatten()
}

/// The demangled form of a linkage name without parameters and return type, as perf prints names; `None` if it is not mangled, or not
/// within the bounds.
#[must_use]
pub fn without_parameters(name: &str) -> Option<String> {
    if name.len() > LONGEST_INPUT || !name.starts_with("_Z") {
        return None;
    }
    let bare = || options().no_params().no_return_type();
    catch_unwind(AssertUnwindSafe(|| rust(name).or_else(|| cpp(name, bare())))).ok().flatten()
}

fn looks_mangled(name: &str) -> bool {
    ["_Z", "__Z", "_R", "__R", "_GLOBAL_"].iter().any(|prefix| name.starts_with(prefix))
}

fn rust(name: &str) -> Option<String> {
    let demangled = rustc_demangle::try_demangle(name).ok()?;
    let mut out = Bounded(String::with_capacity(name.len()));
    write!(out, "{demangled:#}").ok()?;
    Some(out.0)
}

fn options() -> DemangleOptions {
    DemangleOptions::default().recursion_limit(DEEPEST_NAME)
}

fn cpp(name: &str, options: DemangleOptions) -> Option<String> {
    let limit = cpp_demangle::ParseOptions::default().recursion_limit(DEEPEST_NAME);
    let symbol = cpp_demangle::Symbol::new_with_options(name, &limit).ok()?;
    let mut out = Bounded(String::with_capacity(2 * name.len()));
    symbol.structured_demangle(&mut out, &options).ok()?;
    Some(out.0)
}

/// A string that refuses to grow beyond [`LONGEST_OUTPUT`].
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > LONGEST_OUTPUT {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_each_language() {
        assert_eq!(demangle("_ZN4core3fmt5write17h0123456789abcdefE").as_deref(), Some("core::fmt::write"));
        assert_eq!(demangle("_RNvCs1234_7mycrate3foo").as_deref(), Some("mycrate::foo"));
        assert_eq!(
            demangle("_ZNSt6vectorIiSaIiEE9push_backEOi").as_deref(),
            Some("std::vector<int, std::allocator<int> >::push_back(int&&)")
        );
        assert_eq!(demangle("main"), None);
        assert_eq!(demangle("main.cold"), None);
        assert_eq!(demangle("_Z"), None);
    }

    #[test]
    fn hostile_names_end_soon() {
        let doubling = format!("_Z1f{}E", "I".repeat(2000));
        assert_eq!(demangle(&doubling), None);
        let mut expanding = String::from("_Z1fSt4pairIiiE");
        for _ in 0..200 {
            expanding.push_str("S_IS0_S0_E");
        }
        let _ = demangle(&expanding);
        let v0 = format!("_RNvC1a{}1b", "INtC1c1d".repeat(900));
        let _ = demangle(&v0);
        assert_eq!(demangle(&format!("_Z{}", "9".repeat(LONGEST_INPUT))), None);
    }
}
