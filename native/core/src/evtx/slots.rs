//! The substitution values of a template instance.

use std::ops::Range;

use super::damage::{Damage, Decoded, Reason};
use super::limits::{Budget, SUBSTITUTIONS_MAX};
use super::value;
use crate::bytes::offset_at;

/// Bytes of a value's description: size, type, zero.
const DESCRIPTION_BYTES: usize = 4;

/// A substitution value: its type, and where it is in the chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    start: u32,
    end: u32,
    pub(super) type_code: u8,
}

impl Slot {
    /// The value's place in the chunk.
    #[inline]
    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The value's bytes in `chunk`.
    #[inline]
    pub(super) fn bytes(self, chunk: &[u8]) -> &[u8] {
        chunk.get(self.range()).unwrap_or_default()
    }
}

/// The values of the template instances that are being run, the innermost last.
pub(super) type SlotStack = Vec<Slot>;

/// What was read for one instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotsRead {
    /// Where the values end.
    pub(super) stop: usize,
    /// Whether one of them is BinXML or an array: then a value is not one item of the lists.
    pub(super) has_compound: bool,
}

/// Push the values that are described at `at` and lie before `end`.
pub(super) fn read_slots(
    stack: &mut SlotStack,
    chunk: &[u8],
    at: usize,
    end: usize,
    budget: &mut Budget,
) -> Decoded<SlotsRead> {
    let truncated = || Damage::truncated(at);
    let header = chunk.get(at..end).ok_or_else(truncated)?;
    let count = offset_at(header, 0).ok_or_else(truncated)?;
    if count > SUBSTITUTIONS_MAX {
        return Err(Damage::new(
            Reason::SubstitutionLimit,
            at,
            "a template instance has too many values",
        ));
    }
    budget.spend(count as u32, at)?;
    let descriptions = header
        .get(4..4 + count * DESCRIPTION_BYTES)
        .ok_or_else(truncated)?;
    // Positions in a chunk, and sums of 8,192 sizes behind them, need 30 bits.
    let mut start = (at + 4 + descriptions.len()) as u32;
    let mut has_compound = false;
    let (descriptions, _) = descriptions.as_chunks::<DESCRIPTION_BYTES>();
    stack.extend(descriptions.iter().map(|[low, high, type_code, _]| {
        let slot = Slot {
            start,
            end: start + u32::from(u16::from_le_bytes([*low, *high])),
            type_code: *type_code,
        };
        start = slot.end;
        has_compound |= *type_code == value::BINXML || value::is_array(*type_code);
        slot
    }));
    let stop = start as usize;
    if stop > end {
        return Err(truncated());
    }
    Ok(SlotsRead { stop, has_compound })
}
