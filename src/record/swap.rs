//! Records of a machine of the other byte order.

use super::counters;
use super::parse::{LAST_WORDS, Layout, TRAILER_FIELDS, WEIGHT, branch_words, misc};
use crate::sys::perf_event::abi;

/// Turns fields into the other byte order where they lie, in the same order as [`super::parse`] reads them; each that is needed to find
/// the next is answered.
pub(super) struct Swap<'a> {
    pub(super) bytes: &'a mut [u8],
    /// Where the next field lies.
    pub(super) at: usize,
}

impl Swap<'_> {
    fn number<const SIZE: usize>(&mut self) -> Option<[u8; SIZE]> {
        let field: &mut [u8; SIZE] = self.bytes.get_mut(self.at..)?.first_chunk_mut()?;
        field.reverse();
        self.at += SIZE;
        Some(*field)
    }

    fn half(&mut self) -> Option<u32> {
        self.number().map(u32::from_ne_bytes)
    }

    fn halves(&mut self, count: usize) -> Option<()> {
        (0..count).try_for_each(|_| self.half().map(|_| ()))
    }

    fn word(&mut self) -> Option<u64> {
        self.number().map(u64::from_ne_bytes)
    }

    fn words(&mut self, count: u64) -> Option<()> {
        (0..count).try_for_each(|_| self.word().map(|_| ()))
    }

    fn skip(&mut self, bytes: u64) -> Option<()> {
        self.at = self.at.checked_add(usize::try_from(bytes).ok()?)?;
        Some(())
    }

    pub(super) fn header(&mut self) -> Option<()> {
        self.half()?;
        self.number::<2>()?;
        self.number::<2>()?;
        Some(())
    }

    pub(super) fn sample(&mut self, layout: Layout) -> Option<()> {
        let has = |field| u64::from(layout.has(field));
        self.words(has(abi::PERF_SAMPLE_IDENTIFIER) + has(abi::PERF_SAMPLE_IP))?;
        self.halves(2 * has(abi::PERF_SAMPLE_TID) as usize)?;
        let words = [abi::PERF_SAMPLE_TIME, abi::PERF_SAMPLE_ADDR, abi::PERF_SAMPLE_ID, abi::PERF_SAMPLE_STREAM_ID];
        self.words(words.iter().map(|&field| has(field)).sum())?;
        self.halves(2 * has(abi::PERF_SAMPLE_CPU) as usize)?;
        self.words(has(abi::PERF_SAMPLE_PERIOD))?;
        if layout.has(abi::PERF_SAMPLE_READ) {
            let count = if counters::is_group(layout.read_format) { self.word()? } else { 1 };
            self.words(counters::words(layout.read_format, count)?)?;
        }
        if layout.has(abi::PERF_SAMPLE_CALLCHAIN) {
            let count = self.word()?;
            self.words(count)?;
        }
        if layout.has(abi::PERF_SAMPLE_RAW) {
            let size = self.half()?;
            self.skip(size.into())?;
        }
        if layout.has(abi::PERF_SAMPLE_BRANCH_STACK) {
            let count = self.word()?;
            self.words(branch_words(layout.branches, count)?)?;
        }
        if layout.has(abi::PERF_SAMPLE_REGS_USER) {
            self.registers(layout.registers)?;
        }
        if layout.has(abi::PERF_SAMPLE_STACK_USER) {
            let size = self.word()?;
            self.skip(size)?;
            self.words(u64::from(size > 0))?;
        }
        self.words(has(WEIGHT) + has(abi::PERF_SAMPLE_DATA_SRC) + has(abi::PERF_SAMPLE_TRANSACTION))?;
        if layout.has(abi::PERF_SAMPLE_REGS_INTR) {
            self.registers(layout.interrupted_registers)?;
        }
        self.words(LAST_WORDS.iter().map(|&field| has(field)).sum())?;
        self.words(has(abi::PERF_SAMPLE_AUX))
    }

    fn registers(&mut self, mask: u64) -> Option<()> {
        let abi = self.word()?;
        self.words(if abi == 0 { 0 } else { mask.count_ones().into() })
    }

    /// A record that is no sample, up to where its common fields begin.
    pub(super) fn other(&mut self, kind: u32, end: usize) -> Option<()> {
        match kind {
            abi::PERF_RECORD_MMAP | abi::PERF_RECORD_MMAP2 => {
                self.halves(2)?;
                self.words(3)?;
                if kind == abi::PERF_RECORD_MMAP {
                    return Some(());
                }
                if misc(self.bytes) & abi::PERF_RECORD_MISC_MMAP_BUILD_ID != 0 {
                    self.skip(24)?;
                } else {
                    self.halves(2)?;
                    self.words(2)?;
                }
                self.halves(2)
            }
            abi::PERF_RECORD_COMM => self.halves(2),
            abi::PERF_RECORD_FORK | abi::PERF_RECORD_EXIT => {
                self.halves(4)?;
                self.words(1)
            }
            abi::PERF_RECORD_LOST | abi::PERF_RECORD_LOST_SAMPLES | abi::PERF_RECORD_THROTTLE => {
                self.words((end.saturating_sub(self.at) / 8) as u64)
            }
            _ => None,
        }
    }

    pub(super) fn trailer(&mut self, layout: Layout) -> Option<()> {
        for field in TRAILER_FIELDS.into_iter().filter(|&field| layout.trailers && layout.has(field)) {
            match field {
                abi::PERF_SAMPLE_TID | abi::PERF_SAMPLE_CPU => self.halves(2)?,
                _ => self.words(1)?,
            }
        }
        Some(())
    }
}
