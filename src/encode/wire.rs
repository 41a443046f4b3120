//! The wire form of protocol buffers, field by field, without a copy: <https://protobuf.dev/programming-guides/encoding/>.

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, check_wire_type, decode_key, decode_varint, skip_field};

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// A number.
    Number(u64),
    /// A text, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// A fixed number or a group, which no message that is read here has.
    Other(WireType),
}

impl<'a> Value<'a> {
    /// The number of a field that is one.
    #[inline]
    pub(super) fn number(self) -> Result<u64, DecodeError> {
        if let Value::Number(number) = self {
            return Ok(number);
        }
        check_wire_type(WireType::Varint, self.wire_type()).map(|()| 0)
    }

    /// The number as `int64`: two's complement.
    #[inline]
    pub(super) fn signed(self) -> Result<i64, DecodeError> {
        self.number().map(u64::cast_signed)
    }

    /// The bytes of a field that has some.
    #[inline]
    pub(super) fn bytes(self) -> Result<&'a [u8], DecodeError> {
        if let Value::Bytes(bytes) = self {
            return Ok(bytes);
        }
        check_wire_type(WireType::LengthDelimited, self.wire_type()).map(|()| &[][..])
    }

    /// Each number of a repeated field, packed or not.
    #[inline]
    pub(super) fn each_number(self, mut take: impl FnMut(u64)) -> Result<(), DecodeError> {
        let Value::Bytes(mut packed) = self else { return self.number().map(take) };
        while !packed.is_empty() {
            take(varint(&mut packed)?);
        }
        Ok(())
    }

    /// How many numbers a packed field holds: each ends with a byte below 128.
    pub(super) fn count(self) -> usize {
        match self {
            Value::Bytes(packed) => packed.iter().filter(|byte| **byte < 0x80).count(),
            _ => 0,
        }
    }

    fn wire_type(self) -> WireType {
        match self {
            Value::Number(_) => WireType::Varint,
            Value::Bytes(_) => WireType::LengthDelimited,
            Value::Other(wire_type) => wire_type,
        }
    }
}

/// The fields of a message: their numbers and values.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field; `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (tag, wire_type) = self.key()?;
        let value = match wire_type {
            WireType::Varint => Value::Number(varint(&mut self.0)?),
            WireType::LengthDelimited => Value::Bytes(self.length_delimited(tag)?),
            _ => {
                skip_field(wire_type, tag, &mut self.0, DecodeContext::default())?;
                Value::Other(wire_type)
            }
        };
        Ok(Some((tag, value)))
    }

    /// A tag and what its value looks like, of one byte in most cases.
    #[inline]
    fn key(&mut self) -> Result<(u32, WireType), DecodeError> {
        let (key, rest) = match *self.0 {
            [key @ 0x08..0x80, ref rest @ ..] => (key, rest),
            _ => return decode_key(&mut self.0),
        };
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            2 => WireType::LengthDelimited,
            _ => return decode_key(&mut self.0),
        };
        self.0 = rest;
        Ok((u32::from(key >> 3), wire_type))
    }

    /// A length that goes beyond the end is the error that skipping it gives.
    #[inline]
    fn length_delimited(&mut self, tag: u32) -> Result<&'a [u8], DecodeError> {
        let mut start = self.0;
        let length = varint(&mut self.0)?;
        let split = usize::try_from(length).ok().and_then(|length| self.0.split_at_checked(length));
        let Some((bytes, rest)) = split else {
            return skip_field(WireType::LengthDelimited, tag, &mut start, DecodeContext::default()).map(|()| &[][..]);
        };
        self.0 = rest;
        Ok(bytes)
    }
}

/// A number of variable length. Most have one byte or two: a file of a minute has some 200,000 of them.
#[inline(always)]
fn varint(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    let (number, rest) = match **bytes {
        [low @ ..0x80, ref rest @ ..] => (u64::from(low), rest),
        [low, high @ ..0x80, ref rest @ ..] => (u64::from(low & 0x7f) | u64::from(high) << 7, rest),
        _ => return decode_varint(bytes),
    };
    *bytes = rest;
    Ok(number)
}
