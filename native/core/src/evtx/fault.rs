//! Faults that a test asks for.

/// A fault to commit silently, so that a test can show that the ledger notices.
///
/// Faults other than `None` exist in builds with the feature `sabotage` alone, which no release has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Decode faithfully.
    #[default]
    None,
    /// Drop every n-th record row.
    #[cfg(feature = "sabotage")]
    DropEvery(u64),
    /// Drop the chunk in this slot.
    #[cfg(feature = "sabotage")]
    DropChunk(u32),
}

#[cfg(feature = "sabotage")]
impl Fault {
    /// Whether the chunk in slot `number` is to be lost.
    pub(super) fn drops_chunk(self, number: u32) -> bool {
        self == Self::DropChunk(number)
    }

    /// Whether record row `row`, counted from one, is to be lost.
    pub(super) fn drops_row(self, row: u64) -> bool {
        matches!(self, Self::DropEvery(every) if every > 0 && row.is_multiple_of(every))
    }
}

#[cfg(not(feature = "sabotage"))]
impl Fault {
    pub(super) fn drops_chunk(self, _number: u32) -> bool {
        false
    }

    pub(super) fn drops_row(self, _row: u64) -> bool {
        false
    }
}
