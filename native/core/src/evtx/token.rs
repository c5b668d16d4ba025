//! BinXML tokens, read one by one from a chunk.
//!
//! Grammar: [MS-EVEN6] 2.2.12; layout inside a chunk, where names are stored once and referred to by
//! offset: libyal, "Windows XML Event Log (EVTX) format", section 5. All positions count from the
//! chunk's start, because names and definitions do.

use super::damage::{Damage, Decoded, Reason};
use super::limits::Budget;
use crate::bytes::{array_at, u16_at};

/// A name or text as it stands in the chunk: UTF-16, little-endian.
pub(super) type Utf16<'c> = &'c [u8];

/// Bytes of a stored name before its characters: next offset, checksum, count.
pub(super) const NAME_HEADER_BYTES: usize = 8;

/// One token with what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'c> {
    /// End of the fragment, by its token or because the data ends.
    End,
    FragmentHeader,
    OpenElement(Utf16<'c>),
    CloseStart,
    CloseEmpty,
    EndElement,
    Attribute(Utf16<'c>),
    /// Literal text, or a literal of another type.
    Value {
        type_code: u8,
        bytes: &'c [u8],
    },
    CData(Utf16<'c>),
    CharacterReference(u16),
    EntityReference(Utf16<'c>),
    ProcessingInstruction,
    /// The reader stands on the first byte behind the token.
    TemplateInstance,
    Substitution {
        slot: u16,
        optional: bool,
    },
}

/// Reads tokens from a part of a chunk.
#[derive(Debug, Clone)]
pub(super) struct TokenReader<'c> {
    chunk: &'c [u8],
    /// The chunk up to the end of the part.
    data: &'c [u8],
    /// The next byte.
    pub(super) at: usize,
    /// Elements of template definitions carry a dependency identifier; others do not.
    dependency_ids: bool,
}

impl<'c> TokenReader<'c> {
    /// Read `chunk[start..end]`; `end` lies within the chunk.
    pub(super) fn new(chunk: &'c [u8], start: usize, end: usize, dependency_ids: bool) -> Self {
        debug_assert!(end <= chunk.len());
        Self {
            chunk,
            data: chunk.get(..end).unwrap_or(chunk),
            at: start,
            dependency_ids,
        }
    }

    /// The next token.
    pub(super) fn next(&mut self, budget: &mut Budget) -> Decoded<Token<'c>> {
        let at = self.at;
        budget.spend(1, at)?;
        let Some(&code) = self.data.get(at) else {
            return Ok(Token::End);
        };
        self.at += 1;
        // 0x40 says that more of the same kind follow; the grammar does not need it.
        Ok(match code & !0x40 {
            0x00 => Token::End,
            0x01 => {
                if self.dependency_ids {
                    self.array::<2>()?;
                }
                self.array::<4>()?; // length of the element's data
                let name = self.name()?;
                if code & 0x40 != 0 {
                    self.array::<4>()?; // length of the attribute list
                }
                Token::OpenElement(name)
            }
            0x02 => Token::CloseStart,
            0x03 => Token::CloseEmpty,
            0x04 => Token::EndElement,
            0x05 => self.literal()?,
            0x06 => Token::Attribute(self.name()?),
            0x07 => Token::CData(self.counted_text()?),
            0x08 => Token::CharacterReference(self.u16()?),
            0x09 => Token::EntityReference(self.name()?),
            0x0a => {
                self.name()?;
                Token::ProcessingInstruction
            }
            0x0b => {
                self.counted_text()?;
                Token::ProcessingInstruction
            }
            0x0c => Token::TemplateInstance,
            kind @ (0x0d | 0x0e) => {
                let slot = self.u16()?;
                self.array::<1>()?; // the type that the definition expects; the value's own type counts
                Token::Substitution {
                    slot,
                    optional: kind == 0x0e,
                }
            }
            0x0f => {
                self.array::<3>()?; // major and minor version, flags
                Token::FragmentHeader
            }
            _ => return Err(Damage::new(Reason::Token, at, "this byte is no token")),
        })
    }

    #[inline]
    fn take(&mut self, count: usize) -> Decoded<&'c [u8]> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let Some(taken) = rest.get(..count) else {
            return Err(Damage::truncated(self.at));
        };
        self.at += count;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let Some(taken) = array_at(self.data, self.at) else {
            return Err(Damage::truncated(self.at));
        };
        self.at += N;
        Ok(taken)
    }

    #[inline]
    fn u16(&mut self) -> Decoded<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Text behind a count of UTF-16 units.
    fn counted_text(&mut self) -> Decoded<Utf16<'c>> {
        let units = usize::from(self.u16()?);
        self.take(units * 2)
    }

    /// A literal. The grammar knows text only; fixed-size types explain themselves, others do not.
    fn literal(&mut self) -> Decoded<Token<'c>> {
        let at = self.at;
        let [type_code] = self.array()?;
        let bytes = match type_code {
            0x00 => self.take(0)?,
            0x01 => self.counted_text()?,
            0x03 | 0x04 => self.take(1)?,
            0x05 | 0x06 => self.take(2)?,
            0x07 | 0x08 | 0x0b | 0x0d | 0x14 => self.take(4)?,
            0x09 | 0x0a | 0x0c | 0x11 | 0x15 => self.take(8)?,
            0x0f | 0x12 => self.take(16)?,
            _ => {
                return Err(Damage::new(
                    Reason::ValueType,
                    at,
                    "a literal of this type has no known length",
                ));
            }
        };
        Ok(Token::Value { type_code, bytes })
    }

    /// A reference to a stored name, which stands right here when it is used for the first time.
    fn name(&mut self) -> Decoded<Utf16<'c>> {
        let reference = self.at;
        let stored = u32::from_le_bytes(self.array()?) as usize;
        let (name, stop) = self.stored_name(stored, reference)?;
        if stored == self.at {
            self.take(stop - stored)?;
        }
        Ok(name)
    }

    /// The stored name at `stored` and where it stops.
    ///
    /// Its checksum tells a name from bytes that were overwritten since: damaged sectors, and
    /// slack records whose names have made room for others.
    fn stored_name(&self, stored: usize, reference: usize) -> Decoded<(Utf16<'c>, usize)> {
        let wrong = |detail| Damage::new(Reason::Name, reference, detail);
        let outside = || wrong("a name lies outside the chunk");
        let header = self.chunk.get(stored..).ok_or_else(outside)?;
        let checksum = u16_at(header, 4).ok_or_else(outside)?;
        let units = u16_at(header, 6).ok_or_else(outside)?;
        let text_end = NAME_HEADER_BYTES + usize::from(units) * 2;
        let name = header
            .get(NAME_HEADER_BYTES..text_end)
            .ok_or_else(outside)?;
        if name.is_empty() {
            return Err(wrong("a name is empty"));
        }
        if name_checksum(name) != checksum {
            return Err(wrong("a name does not match its checksum"));
        }
        Ok((name, stored + text_end + 2)) // a NUL ends the name
    }
}

/// The factor of [`name_checksum`]: 65,599, of which sixteen bits count.
const CHECKSUM_FACTOR: u16 = 63;

/// The checksum stored with a name: the low half of a multiplicative hash of its UTF-16 units.
pub(super) fn name_checksum(name: Utf16<'_>) -> u16 {
    // Four units at a time: one multiplication must not wait for the one before it.
    const POWERS: [u16; 4] = [
        CHECKSUM_FACTOR.wrapping_pow(3),
        CHECKSUM_FACTOR.pow(2),
        CHECKSUM_FACTOR,
        1,
    ];
    let (blocks, rest) = name.as_chunks::<8>();
    let sum = blocks.iter().fold(0_u16, |sum, block| {
        let (units, _) = block.as_chunks::<2>();
        let terms = units.iter().zip(POWERS);
        let block_sum = terms.fold(0_u16, |block_sum, (unit, power)| {
            block_sum.wrapping_add(u16::from_le_bytes(*unit).wrapping_mul(power))
        });
        sum.wrapping_mul(CHECKSUM_FACTOR.wrapping_pow(4))
            .wrapping_add(block_sum)
    });
    let (units, _) = rest.as_chunks::<2>();
    units.iter().fold(sum, |sum, unit| {
        sum.wrapping_mul(CHECKSUM_FACTOR)
            .wrapping_add(u16::from_le_bytes(*unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_definition() {
        for name in [
            "E",
            "Data",
            "Event",
            "EventData",
            "RelatedActivityID",
            "ä€😀",
        ] {
            let bytes: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let defined = name.encode_utf16().fold(0_u32, |sum, unit| {
                sum.wrapping_mul(65_599).wrapping_add(u32::from(unit))
            });
            assert_eq!(name_checksum(&bytes), defined as u16, "{name}");
        }
    }
}
