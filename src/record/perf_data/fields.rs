//! Numbers and strings of headers, in either byte order.

/// What is left of a part of a header. Every read is checked; `None` at its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    swapped: bool,
}

impl<'a> Fields<'a> {
    /// Fields of these bytes; `swapped` if they were written in the other byte order.
    pub(super) fn new(bytes: &'a [u8], swapped: bool) -> Fields<'a> {
        Fields { bytes, swapped }
    }

    /// Fields of other bytes, in the same order.
    pub(super) fn of<'b>(&self, bytes: &'b [u8]) -> Fields<'b> {
        Fields { bytes, swapped: self.swapped }
    }

    pub(super) fn bytes(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(size)?;
        self.bytes = rest;
        Some(taken)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        let number = u16::from_ne_bytes(*self.bytes(2)?.first_chunk()?);
        Some(if self.swapped { number.swap_bytes() } else { number })
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let number = u32::from_ne_bytes(*self.bytes(4)?.first_chunk()?);
        Some(if self.swapped { number.swap_bytes() } else { number })
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let number = u64::from_ne_bytes(*self.bytes(8)?.first_chunk()?);
        Some(if self.swapped { number.swap_bytes() } else { number })
    }

    /// 64 flags, which C declares as bits: the other byte order numbers those of a byte from its other end.
    pub(super) fn flags(&mut self) -> Option<u64> {
        let bytes: [u8; 8] = *self.bytes(8)?.first_chunk()?;
        let big = self.swapped != cfg!(target_endian = "big");
        Some(u64::from_le_bytes(if big { bytes.map(u8::reverse_bits) } else { bytes }))
    }

    /// `struct perf_header_string`: its size, then bytes that end with a zero.
    pub(super) fn string(&mut self) -> Option<String> {
        let size = self.u32()?;
        self.bytes(usize::try_from(size).ok()?).map(text)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Text up to the first zero.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
