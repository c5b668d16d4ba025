//! The base block of a hive, and the copy of it at the beginning of a transaction log.
//!
//! Layout: M. Suhanov, "Windows registry file format specification", section "Base block".

use super::bytes::{u32_at, u64_at};

/// Size of the base block, in bytes; bins begin behind it.
pub(super) const BASE_BYTES: usize = 4096;
/// The part of it that its checksum covers, the checksum included; all that a log has of it.
pub(super) const SECTOR_BYTES: usize = 512;

const MAGIC: &[u8; 4] = b"regf";
const CHECKSUM_AT: usize = 508;

/// What the fields say. All of them are claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) magic_ok: bool,
    pub(super) checksum_ok: bool,
    /// Raised when a write begins …
    pub(super) primary_sequence: u32,
    /// … and when it ends: unequal numbers mean that a write was cut short.
    pub(super) secondary_sequence: u32,
    pub(super) last_written: u64,
    pub(super) minor_version: u32,
    pub(super) file_type: u32,
    /// Where the root key's cell is, from the first bin.
    pub(super) root: u32,
    /// Size of all bins together, in bytes.
    pub(super) bins_bytes: u32,
}

impl Base {
    /// Read the first sector; what is cut off it counts as zeros, and its checksum as wrong.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut sector = [0; SECTOR_BYTES];
        let there = bytes.len().min(SECTOR_BYTES);
        sector[..there].copy_from_slice(&bytes[..there]);
        let number = |at| u32_at(&sector, at).unwrap_or(0);
        Self {
            magic_ok: sector.starts_with(MAGIC),
            checksum_ok: there == SECTOR_BYTES && number(CHECKSUM_AT) == checksum(&sector),
            primary_sequence: number(4),
            secondary_sequence: number(8),
            last_written: u64_at(&sector, 12).unwrap_or(0),
            minor_version: number(24),
            file_type: number(28),
            root: number(36),
            bins_bytes: number(40),
        }
    }

    /// Whether its fields may be believed.
    pub(super) fn is_valid(&self) -> bool {
        self.magic_ok && self.checksum_ok
    }

    /// Whether the last write to the file may be incomplete.
    pub(super) fn is_dirty(&self) -> bool {
        !self.is_valid() || self.primary_sequence != self.secondary_sequence
    }
}

/// XOR of the 127 numbers before it; the two values that would look like no checksum are moved.
pub(super) fn checksum(sector: &[u8; SECTOR_BYTES]) -> u32 {
    let sum = (0..CHECKSUM_AT)
        .step_by(4)
        .filter_map(|at| u32_at(sector, at))
        .fold(0, |sum, number| sum ^ number);
    match sum {
        0 => 1,
        u32::MAX => u32::MAX - 1,
        other => other,
    }
}
