//! Chunks, and where the records in them are.
//!
//! A file is a header of 4,096 bytes and slots of 65,536; the last one may be cut. What the file header
//! claims is not used: slots are read to the end of the file. Layout of chunk and record headers:
//! libyal, "Windows XML Event Log (EVTX) format", sections 3 and 4.
//!
//! Rules, for a slot that is not all zeros:
//!   * It is *trusted* when its header and magic are right, or its data checksum proves its end. Then
//!     records are looked for up to the free space offset; behind it is slack. A whole record that begins before
//!     that offset is live, even when it ends behind it: then the offset is wrong, and not the record.
//!   * Otherwise the whole slot is searched.
//!   * What is no record, up to the next one, is one damaged region.

use crate::bytes::{all_zero, array_at, u32_at, u64_at};

/// Bytes before the first slot.
pub(super) const FILE_HEADER_BYTES: u64 = 4_096;
/// Bytes of a whole slot.
pub(super) const SLOT_BYTES: usize = 65_536;
/// Bytes of a chunk header; the first record follows it.
pub(super) const CHUNK_HEADER_BYTES: usize = 512;
/// Bytes of a record before its BinXML: magic, size, identifier, time.
pub(super) const RECORD_HEADER_BYTES: usize = 24;
/// The smallest record: its header and the copy of its size.
pub(super) const RECORD_BYTES_MIN: usize = 28;
pub(super) const CHUNK_MAGIC: [u8; 8] = *b"ElfChnk\0";
pub(super) const RECORD_MAGIC: [u8; 4] = [0x2a, 0x2a, 0, 0];

/// The fields of a chunk header that are read, as they stand there.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkHeader {
    pub(super) first_record_number: u64,
    pub(super) last_record_number: u64,
    pub(super) first_record_id: u64,
    pub(super) last_record_id: u64,
    pub(super) last_record_offset: u32,
    pub(super) free_space_offset: u32,
    data_crc: u32,
    header_crc: u32,
}

impl ChunkHeader {
    fn read(slot: &[u8]) -> Option<Self> {
        let header = slot.get(..CHUNK_HEADER_BYTES)?;
        Some(Self {
            first_record_number: u64_at(header, 8)?,
            last_record_number: u64_at(header, 16)?,
            first_record_id: u64_at(header, 24)?,
            last_record_id: u64_at(header, 32)?,
            last_record_offset: u32_at(header, 44)?,
            free_space_offset: u32_at(header, 48)?,
            data_crc: u32_at(header, 52)?,
            header_crc: u32_at(header, 124)?,
        })
    }
}

/// A slot that holds something, and what its checksums say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk<'c> {
    pub(super) bytes: &'c [u8],
    /// Absent when the slot is cut inside the header.
    pub(super) header: Option<ChunkHeader>,
    pub(super) magic_ok: bool,
    pub(super) header_crc_ok: bool,
    pub(super) data_crc_ok: bool,
    pub(super) trusted: bool,
    /// Where the live records end, in bytes from the chunk's start.
    pub(super) live_end: usize,
}

impl<'c> Chunk<'c> {
    /// Look at a slot; `None` when it is unallocated, that is all zeros.
    pub(super) fn read(slot: &'c [u8]) -> Option<Self> {
        if all_zero(slot) {
            return None;
        }
        let available = slot.len();
        let magic_ok = slot.starts_with(&CHUNK_MAGIC);
        let mut chunk = Self {
            bytes: slot,
            header: ChunkHeader::read(slot),
            magic_ok,
            header_crc_ok: false,
            data_crc_ok: false,
            trusted: false,
            live_end: available,
        };
        if let Some(header) = chunk.header {
            let end = header.free_space_offset as usize;
            chunk.header_crc_ok = header_crc(slot) == Some(header.header_crc);
            chunk.data_crc_ok = slot
                .get(CHUNK_HEADER_BYTES..end)
                .is_some_and(|data| crc32fast::hash(data) == header.data_crc);
            let end_claimed =
                magic_ok && chunk.header_crc_ok && (CHUNK_HEADER_BYTES..=SLOT_BYTES).contains(&end);
            let end_proven = chunk.data_crc_ok && end > CHUNK_HEADER_BYTES;
            chunk.trusted = end_claimed || end_proven;
            if chunk.trusted {
                chunk.live_end = end.min(available);
            }
        }
        Some(chunk)
    }

    /// Whether a slot begins with a whole header whose checksum is right and whose end is possible.
    pub(super) fn has_right_header(slot: &[u8]) -> bool {
        slot.starts_with(&CHUNK_MAGIC)
            && ChunkHeader::read(slot).is_some_and(|header| {
                let end = header.free_space_offset as usize;
                (CHUNK_HEADER_BYTES..=SLOT_BYTES).contains(&end)
                    && header_crc(slot) == Some(header.header_crc)
            })
    }

    /// Whether the file ends before the slot does.
    pub(super) fn is_cut(&self) -> bool {
        self.bytes.len() < SLOT_BYTES
    }

    /// The size of the record at `at`, when there is a valid one that ends at or before `limit`.
    #[inline]
    fn record_size(&self, at: usize, limit: usize) -> Option<usize> {
        if array_at(self.bytes, at)? != RECORD_MAGIC {
            return None;
        }
        let size = u32_at(self.bytes, at + 4)?;
        let size_bytes = size as usize;
        if size_bytes < RECORD_BYTES_MIN || size_bytes > limit.checked_sub(at)? {
            return None;
        }
        (u32_at(self.bytes, at + size_bytes - 4)? == size).then_some(size_bytes)
    }

    /// The first valid record that begins in `at..limit`, as position and size. Every position is tried.
    fn next_record(&self, at: usize, limit: usize) -> Option<(usize, usize)> {
        let window = self.bytes.get(at..limit)?;
        memchr::memchr_iter(RECORD_MAGIC[0], window).find_map(|distance| {
            let position = at + distance;
            self.record_size(position, self.bytes.len())
                .map(|size| (position, size))
        })
    }

    /// Where the last damaged region of the live area ends, when no record follows `at`.
    fn damage_end(&self, at: usize) -> usize {
        if self.trusted {
            return self.live_end;
        }
        let live = self.bytes.get(at..self.live_end).unwrap_or_default();
        let used = live.iter().rposition(|byte| *byte != 0);
        used.map_or(at, |last| at + last + 1)
    }

    /// The units of the live area, in order: they tile it up to free space.
    pub(super) fn live_units(self) -> impl Iterator<Item = Unit> {
        let mut at = CHUNK_HEADER_BYTES;
        std::iter::from_fn(move || {
            if at >= self.live_end {
                return None;
            }
            let unit = match self.record_size(at, self.bytes.len()) {
                Some(size) => Unit::Record { at, size },
                None => {
                    let next = self.next_record(at + 1, self.live_end);
                    let end = next.map_or_else(|| self.damage_end(at), |(found, _)| found);
                    if end <= at {
                        at = self.live_end;
                        return None;
                    }
                    Unit::Damaged { at, size: end - at }
                }
            };
            at += unit.size();
            Some(unit)
        })
    }

    /// The records in the slack of a trusted chunk, as position and size.
    pub(super) fn slack_records(self) -> impl Iterator<Item = (usize, usize)> {
        let limit = self.bytes.len();
        let mut at = if self.trusted { self.live_end } else { limit };
        std::iter::from_fn(move || {
            let (position, size) = self.next_record(at, limit)?;
            at = position + size;
            Some((position, size))
        })
    }

    /// The bytes behind the live area.
    pub(super) fn slack(&self) -> &'c [u8] {
        self.bytes.get(self.live_end..).unwrap_or_default()
    }
}

/// The checksum covers the header without its own field and flags.
fn header_crc(slot: &[u8]) -> Option<u32> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(slot.get(..120)?);
    hasher.update(slot.get(128..CHUNK_HEADER_BYTES)?);
    Some(hasher.finalize())
}

/// One thing that the ledger counts. Positions are bytes from the chunk's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// A record whose frame is whole.
    Record { at: usize, size: usize },
    /// Bytes that are no record.
    Damaged { at: usize, size: usize },
}

impl Unit {
    fn size(self) -> usize {
        match self {
            Self::Record { size, .. } | Self::Damaged { size, .. } => size,
        }
    }
}
