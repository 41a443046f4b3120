//! How much a file may stand for. A few bytes can name a location that stands for thousands of inlined frames, and name it thousands
//! of times: 4 KB make 3.6 thousand million frames. Whoever shows or writes a profile walks all of them, so they are counted before they
//! are made, and a file that stands for too much is refused.

use std::cell::Cell;

use super::DecodeError;

/// Frames of one stack, inlined ones among them. Stacks that programs have end at some thousand.
const DEEPEST: u64 = 1 << 18;
/// Frames of all stacks that any file may stand for: 100,000 stacks of a busy host have 6 million.
const FRAMES: u64 = 16 << 20;
/// Frames for each byte of the file (as it lies on the disk) beyond that: profiles that were recorded have about one.
const FRAMES_A_BYTE: u64 = 16;
/// Frames of all stacks at most.
const MOST_FRAMES: u64 = 64 << 20;
/// Bytes of the names of those frames that any file may stand for, those for each of its bytes beyond, and the most.
const TEXT: u64 = 512 << 20;
const TEXT_A_BYTE: u64 = 1 << 10;
const MOST_TEXT: u64 = 4 << 30;
/// Bytes of lists (stacks, values, labels, lines) in memory; the largest files that are read need half of it.
const LISTS: u64 = 640 << 20;

/// What is left of each.
pub(super) struct Bounds {
    frames: Left,
    text: Left,
    lists: Left,
}

struct Left {
    limit: u64,
    left: Cell<u64>,
    what: &'static str,
}

impl Bounds {
    /// The bounds of a file of so many bytes.
    pub(super) fn of_file(bytes: usize) -> Bounds {
        let bytes = bytes as u64;
        let of = |floor: u64, each: u64, most: u64| floor.saturating_add(bytes.saturating_mul(each)).min(most);
        Bounds {
            frames: Left::of(of(FRAMES, FRAMES_A_BYTE, MOST_FRAMES), "frames in all stacks together"),
            text: Left::of(of(TEXT, TEXT_A_BYTE, MOST_TEXT), "bytes of names in all stacks together"),
            lists: Left::of(LISTS, "bytes of lists in memory"),
        }
    }

    /// Counts a stack.
    pub(super) fn stack(&self, frames: u64, text: u64) -> Result<(), DecodeError> {
        if frames > DEEPEST {
            return Err(too_large(DEEPEST, "frames in one stack"));
        }
        self.frames.take(frames)?;
        self.text.take(text)
    }

    /// Counts text that each sample shows.
    pub(super) fn text(&self, bytes: usize) -> Result<(), DecodeError> {
        self.text.take(bytes as u64)
    }

    /// Counts entries of a list, before there is room for them.
    pub(super) fn list<T>(&self, entries: usize) -> Result<(), DecodeError> {
        self.lists.take((entries as u64).saturating_mul(size_of::<T>() as u64))
    }
}

impl Left {
    fn of(limit: u64, what: &'static str) -> Left {
        Left { limit, left: Cell::new(limit), what }
    }

    fn take(&self, number: u64) -> Result<(), DecodeError> {
        let left = self.left.get().checked_sub(number).ok_or_else(|| too_large(self.limit, self.what))?;
        self.left.set(left);
        Ok(())
    }
}

fn too_large(limit: u64, what: &'static str) -> DecodeError {
    DecodeError::TooLarge { limit: usize::try_from(limit).unwrap_or(usize::MAX), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_far_within() {
        // The window of a busy host, twelve times over, and ten million frames of deep recursion that gzip makes small.
        let day = Bounds::of_file(50 << 20);
        for _ in 0..1_200_000 {
            day.stack(50, 50 * 60).unwrap();
            day.list::<u32>(40).unwrap();
            day.list::<[u64; 3]>(8).unwrap();
        }
        let recursion = Bounds::of_file(50 << 10);
        (0..10_000).for_each(|_| recursion.stack(1000, 20_000).unwrap());
    }

    #[test]
    fn what_nobody_recorded_is_refused() {
        let error =
            |of: &dyn Fn(&Bounds) -> Result<(), DecodeError>| of(&Bounds::of_file(4096)).unwrap_err().to_string();
        assert_eq!(error(&|bounds| bounds.stack(1 << 19, 0)), "more than 262144 frames in one stack");
        assert_eq!(
            error(&|bounds| (0..1000).try_for_each(|_| bounds.stack(60_000, 0))),
            "more than 16842752 frames in all stacks together"
        );
        assert!(error(&|bounds| bounds.stack(1000, 1 << 30)).ends_with("bytes of names in all stacks together"));
        assert!(error(&|bounds| bounds.list::<u64>(256 << 20)).ends_with("bytes of lists in memory"));
    }
}
