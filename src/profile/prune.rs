//! Dropping the frames that a profile says are of no interest (`drop_frames` and `keep_frames` in `profile.proto`), as `go tool pprof` does
//! to every profile that it reads: an allocator's own functions, say. See `profile/prune.go` of google/pprof.

use regex::Regex;

use super::{Location, Profile, StringId};

/// What has a `(` in its name and yet no list of arguments behind it.
const RESERVED: [&str; 2] = ["(anonymous namespace)", "operator()"];

/// What becomes of a location whose functions are dropped with all that they call.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// None of its functions is dropped.
    Kept,
    /// Its inlined functions are, and their callers stay.
    Cut,
    /// All are.
    Dropped,
}

impl Profile {
    /// Drops the functions whose whole name `drop_frames` matches and `keep_frames` does not, with all that they call. Frames below the first
    /// one that stays, seen from the root, are never dropped: something is left of every stack.
    ///
    /// # Errors
    /// An expression is none. Nothing was dropped then.
    pub fn prune(&mut self) -> Result<(), regex::Error> {
        if self.text(self.drop_frames).is_empty() {
            return Ok(());
        }
        let drop = self.whole_name(self.drop_frames)?;
        let keep = (!self.text(self.keep_frames).is_empty()).then(|| self.whole_name(self.keep_frames)).transpose()?;
        let is_dropped = |name: &str| {
            let bare = without_arguments(name);
            !name.is_empty() && drop.is_match(bare) && !keep.as_ref().is_some_and(|keep| keep.is_match(bare))
        };
        let dropped: Vec<bool> = self.functions.iter().map(|function| is_dropped(self.text(function.name))).collect();
        let fates: Vec<Fate> = self.locations.iter_mut().map(|location| cut(location, &dropped)).collect();
        for sample in &mut self.samples {
            let stack = &mut sample.stack;
            let of = |at: usize| fates[stack[at].0 as usize];
            let Some(first) = (0..stack.len()).rev().find(|&at| of(at) == Fate::Kept) else { continue };
            let below = (0..first).rev().find(|&at| of(at) != Fate::Kept);
            if let Some(at) = below {
                let end = if of(at) == Fate::Dropped { at + 1 } else { at };
                stack.drain(..end);
            }
        }
        Ok(())
    }

    fn whole_name(&self, expression: StringId) -> Result<Regex, regex::Error> {
        Regex::new(&format!("^(?:{})$", self.text(expression)))
    }
}

/// Takes the dropped functions off a location, with those that were inlined into them.
fn cut(location: &mut Location, dropped: &[bool]) -> Fate {
    let lines = &mut location.lines;
    match lines.iter().rposition(|line| dropped[line.function.0 as usize]) {
        None => Fate::Kept,
        Some(outermost) if outermost + 1 == lines.len() => Fate::Dropped,
        Some(at) => {
            lines.drain(..=at);
            Fate::Cut
        }
    }
}

/// A function's name without its arguments, and without the dot that PowerPC's ABI puts before it.
fn without_arguments(name: &str) -> &str {
    let name = name.strip_prefix('.').unwrap_or(name);
    let mut from = 0;
    while let Some(at) = name[from..].find(['(', 'o']).map(|at| from + at) {
        match RESERVED.iter().find(|reserved| name[at..].starts_with(**reserved)) {
            Some(reserved) => from = at + reserved.len(),
            None if name[at..].starts_with('(') => return &name[..at],
            None => from = at + 1,
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_no_part_of_a_name() {
        for (name, bare) in [
            ("malloc", "malloc"),
            (".malloc", "malloc"),
            ("operator new(unsigned long)", "operator new"),
            ("(anonymous namespace)::pool::get(int)", "(anonymous namespace)::pool::get"),
            ("foo::operator()(int) const", "foo::operator()"),
            ("main.(*T).Get", "main."),
            ("", ""),
        ] {
            assert_eq!(without_arguments(name), bare);
        }
    }
}
