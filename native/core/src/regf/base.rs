//! The base block: the first 4096 bytes of a hive, of which a log repeats the first 512
//! (regf specification, "Base block").

use crate::bytes::{all_zero, u32_at, u64_at};
use crate::evtx::filetime;

/// Bytes in front of the first bin.
pub(super) const BASE_BYTES: usize = 4096;
/// Bytes that the checksum is about.
const SUMMED_BYTES: usize = 508;

/// What a base block says.
#[derive(Debug, Clone, Default)]
pub(super) struct BaseBlock {
    pub(super) signature_ok: bool,
    pub(super) checksum_ok: bool,
    pub(super) primary_sequence: u32,
    pub(super) secondary_sequence: u32,
    /// A FILETIME.
    pub(super) last_written: u64,
    pub(super) major_version: u32,
    pub(super) minor_version: u32,
    /// 0 a hive, 1 and 2 a log of the old format, 6 one of the new.
    pub(super) file_type: u32,
    /// From the first bin.
    pub(super) root_cell: u32,
    pub(super) bins_bytes: u32,
    /// UTF-16, up to its first NUL.
    pub(super) file_name: Vec<u8>,
    /// A FILETIME whose two lowest bits are flags; zero before Windows 8.
    pub(super) last_reorganized: u64,
}

impl BaseBlock {
    /// Read what is there of a base block; what is cut off counts as zero, and the checksum as wrong.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let u32_or_zero = |at| u32_at(bytes, at).unwrap_or_default();
        let name = bytes.get(48..112).unwrap_or_default();
        let (units, _) = name.as_chunks::<2>();
        let used = units.iter().take_while(|unit| **unit != [0, 0]).count();
        Self {
            signature_ok: bytes.starts_with(b"regf"),
            checksum_ok: bytes.len() >= 512
                && !all_zero(bytes.get(..512).unwrap_or_default())
                && checksum(bytes) == u32_or_zero(SUMMED_BYTES),
            primary_sequence: u32_or_zero(4),
            secondary_sequence: u32_or_zero(8),
            last_written: u64_at(bytes, 12).unwrap_or_default(),
            major_version: u32_or_zero(20),
            minor_version: u32_or_zero(24),
            file_type: u32_or_zero(28),
            root_cell: u32_or_zero(36),
            bins_bytes: u32_or_zero(40),
            file_name: name.get(..used * 2).unwrap_or_default().to_vec(),
            last_reorganized: u64_at(bytes, 168).unwrap_or_default(),
        }
    }

    /// Whether the block is whole: what it says can be used.
    pub(super) fn is_valid(&self) -> bool {
        self.signature_ok && self.checksum_ok
    }

    /// Whether the writer was interrupted: only then are logs applied
    /// (regf specification, "Dirty state of a hive").
    pub(super) fn is_dirty(&self) -> bool {
        !self.is_valid() || self.primary_sequence != self.secondary_sequence
    }

    /// When the hive was reorganized, without the flags; the small numbers that ask for it are no time.
    pub(super) fn reorganized_at(&self) -> Option<i64> {
        filetime(self.last_reorganized & !3)
    }
}

/// The XOR of the first 127 numbers, which is never 0 nor -1.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let (numbers, _) = bytes
        .get(..SUMMED_BYTES.min(bytes.len()))
        .unwrap_or_default()
        .as_chunks::<4>();
    let sum = numbers
        .iter()
        .fold(0, |sum, number| sum ^ u32::from_le_bytes(*number));
    match sum {
        u32::MAX => u32::MAX - 1,
        0 => 1,
        sum => sum,
    }
}
