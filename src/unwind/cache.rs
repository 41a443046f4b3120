//! The addresses that were walked through last, each with its rule and place, so that a hot frame costs one read of
//! memory in place of a search of the mappings and one of a table.

use super::rule::Rule;
use crate::ids::{ImageId, Place, Rva};

/// Lines: 2^14 of 32 bytes are 512 KiB, half of a core's second-level cache. A profiled process has some thousands of hot
/// addresses; ones that share a line cost a look-up in the table, not an error.
const BITS: u32 = 14;

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    address: u64,
    rva: Rva,
    /// The state of the address space that it was looked up in.
    epoch: u32,
    image: u32,
    /// The rule that holds there.
    pub(super) rule: Rule,
}

/// In place of an image, for code that lies in none.
const NO_IMAGE: u32 = u32::MAX;

impl Line {
    /// Never found: no address space has code at its last byte.
    const EMPTY: Line = Line { address: u64::MAX, rva: Rva(0), epoch: 0, image: NO_IMAGE, rule: Rule::GAP };

    pub(super) fn new(address: u64, epoch: u32, place: Option<Place>, rule: Rule) -> Line {
        let (image, rva) = place.map_or((NO_IMAGE, Rva(0)), |place| (place.image.0, place.rva));
        Line { address, rva, epoch, image, rule }
    }

    #[inline]
    pub(super) fn place(&self) -> Option<Place> {
        (self.image != NO_IMAGE).then_some(Place { image: ImageId(self.image), rva: self.rva })
    }
}

/// A direct-mapped cache, keyed by address and the epoch of the address space, so that nothing ever has to be removed.
pub(super) struct Cache(Box<[Line; 1 << BITS]>);

impl Cache {
    pub(super) fn new() -> Cache {
        let lines: Box<[Line]> = vec![Line::EMPTY; 1 << BITS].into();
        Cache(lines.try_into().unwrap_or_else(|_| Box::new([Line::EMPTY; 1 << BITS])))
    }

    #[inline]
    pub(super) fn get(&self, address: u64, epoch: u32) -> Option<&Line> {
        let line = &self.0[slot(address, epoch)];
        (line.address == address && line.epoch == epoch).then_some(line)
    }

    pub(super) fn put(&mut self, line: Line) {
        self.0[slot(line.address, line.epoch)] = line;
    }
}

/// Fibonacci hashing: the high bits of the product depend on all bits of the address.
#[inline]
fn slot(address: u64, epoch: u32) -> usize {
    let key = address ^ u64::from(epoch) << 40;
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_small() {
        // Two to a cache line, none across two.
        assert_eq!(size_of::<Line>(), 32);
    }

    #[test]
    fn a_line_is_of_one_address_in_one_space() {
        let mut cache = Cache::new();
        let place = Some(Place { image: ImageId(3), rva: Rva(0x123) });
        cache.put(Line::new(0x5000_0123, 7, place, Rule::ROOT));
        assert_eq!(cache.get(0x5000_0123, 7).map(Line::place), Some(place));
        assert_eq!(cache.get(0x5000_0123, 8), None);
        assert_eq!(cache.get(0x5000_0124, 7), None);
    }
}
