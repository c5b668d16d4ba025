//! One 64 KiB slot of an event log: its verdicts, and where records can begin and end in it.
//!
//! Offsets here are within the slot. The slot may be cut off by the end of the file at any byte.

use memchr::memmem::Finder;

const CHUNK_MAGIC: &[u8; 8] = b"ElfChnk\0";
/// Size of a whole slot, in bytes.
const SLOT_BYTES: usize = 65_536;
/// Records begin behind the chunk header and its string and template tables.
pub(in crate::account) const FIRST_RECORD: usize = 512;
const SECTOR_BYTES: usize = 512;
/// Magic, size, id and time before the event, the repeated size after it.
const RECORD_BYTES_MIN: usize = 28;

/// A slot that is not all zeros, examined.
pub(in crate::account) struct Slot<'bytes> {
    /// What the file has of it.
    pub(in crate::account) bytes: &'bytes [u8],
    pub(in crate::account) magic_ok: bool,
    pub(in crate::account) header_crc_ok: bool,
    pub(in crate::account) data_crc_ok: bool,
    /// Whether the free-space offset can be believed, so that slack can be told from damage.
    pub(in crate::account) trusted: bool,
    /// Where the live area ends.
    pub(in crate::account) live_end: usize,
    /// How many records a believable header claims.
    pub(in crate::account) records_claimed: Option<u64>,
}

/// A record, as far as accounting looks at it.
pub(in crate::account) struct RecordSpan {
    pub(in crate::account) size: usize,
    pub(in crate::account) id: u64,
}

impl<'bytes> Slot<'bytes> {
    pub(in crate::account) fn examine(bytes: &'bytes [u8]) -> Self {
        let available = bytes.len();
        let magic_ok = bytes.starts_with(CHUNK_MAGIC);
        let header_crc_ok = match (bytes.get(..120), bytes.get(128..512), u32_at(bytes, 124)) {
            (Some(first), Some(second), Some(stored)) => {
                let mut crc = crc32fast::Hasher::new();
                crc.update(first);
                crc.update(second);
                crc.finalize() == stored
            }
            _ => false,
        };
        let free_space = u32_at(bytes, 48).map_or(0, |value| value as usize);
        let data_crc_ok = bytes
            .get(FIRST_RECORD..free_space)
            .is_some_and(|live| u32_at(bytes, 52) == Some(crc32fast::hash(live)));

        let header_says =
            magic_ok && header_crc_ok && (FIRST_RECORD..=SLOT_BYTES).contains(&free_space);
        // A checksum over no bytes proves nothing about the offset.
        let data_says = data_crc_ok && free_space > FIRST_RECORD;
        let trusted = header_says || data_says;
        Self {
            bytes,
            magic_ok,
            header_crc_ok,
            data_crc_ok,
            trusted,
            live_end: if trusted {
                free_space.min(available)
            } else {
                available
            },
            records_claimed: (magic_ok && header_crc_ok).then(|| records_claimed(bytes)),
        }
    }

    /// Where a chunk with a right header begins inside a slot that begins with none.
    pub(in crate::account) fn misplaced_chunk(&self) -> Option<usize> {
        if self.magic_ok {
            return None;
        }
        memchr::memmem::find_iter(self.bytes, CHUNK_MAGIC).find(|at| {
            let header = self.bytes.get(*at..*at + FIRST_RECORD);
            // Without the records, only the header is looked at.
            header.is_some_and(|header| Slot::examine(header).header_crc_ok)
        })
    }

    /// The record that begins at `at` and ends at or before `limit`.
    pub(in crate::account) fn record_at(&self, at: usize, limit: usize) -> Option<RecordSpan> {
        let space = self.bytes.get(at..limit)?;
        if !space.starts_with(&super::RECORD_MAGIC) {
            return None;
        }
        let size = u32_at(space, 4)? as usize;
        if size < RECORD_BYTES_MIN || size > space.len() {
            return None;
        }
        let size_again = u32_at(space, size - 4)? as usize;
        (size_again == size).then_some(RecordSpan {
            size,
            id: u64_at(space, 8)?,
        })
    }

    /// Where the first record that begins in `from..limit` does, at whatever byte.
    pub(in crate::account) fn find_record(
        &self,
        from: usize,
        limit: usize,
        magic: &Finder<'_>,
    ) -> Option<usize> {
        // Where a record ends, and its magic with it, does not matter, only where it begins.
        let magic_limit = (limit + super::RECORD_MAGIC.len() - 1).min(self.bytes.len());
        let mut from = from;
        loop {
            let candidate = from + magic.find(self.bytes.get(from..magic_limit)?)?;
            if self.record_at(candidate, self.bytes.len()).is_some() {
                return Some(candidate);
            }
            from = candidate + 1;
        }
    }

    /// Beginnings of records in `from..until` whose closing size is zeros: (start, size that the header says).
    ///
    /// What overwrites old records comes from the front, so it takes their beginnings, never their ends.
    pub(in crate::account) fn endless_records(
        &self,
        from: usize,
        until: usize,
        magic: &Finder<'_>,
    ) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut from = from;
        while let Some(start) = self
            .bytes
            .get(from..until)
            .and_then(|part| Some(from + magic.find(part)?))
        {
            from = start + 1;
            let size = u32_at(self.bytes, start + 4).map_or(0, |size| size as usize);
            let is_sane = (RECORD_BYTES_MIN..=self.bytes.len()).contains(&size);
            if is_sane && u32_at(self.bytes, start + size - 4) == Some(0) {
                found.push((start, size));
            }
        }
        found
    }

    /// Where the damaged region that begins at `at` ends; `None` when only free space is left.
    pub(in crate::account) fn damage_end(&self, at: usize, magic: &Finder<'_>) -> Option<usize> {
        if let Some(next) = self.find_record(at + 1, self.live_end, magic) {
            return Some(next);
        }
        if self.trusted {
            return Some(self.live_end);
        }
        let rest = self.bytes.get(at..self.live_end)?;
        let last = rest.iter().rposition(|byte| *byte != 0)?;
        Some(at + last + 1)
    }

    /// Runs of whole zero sectors with other bytes of the slack before and after: (start, length).
    pub(in crate::account) fn zeroed_slack(&self) -> Vec<(usize, usize)> {
        let slack = &self.bytes[self.live_end..];
        let nonzero = |byte: &u8| *byte != 0;
        let (Some(first), Some(last)) = (
            slack.iter().position(nonzero),
            slack.iter().rposition(nonzero),
        ) else {
            return Vec::new();
        };
        let (first, last) = (self.live_end + first, self.live_end + last);
        let mut runs: Vec<(usize, usize)> = Vec::new();
        let mut sector = first.next_multiple_of(SECTOR_BYTES);
        while sector + SECTOR_BYTES <= last {
            if all_zero(&self.bytes[sector..sector + SECTOR_BYTES]) {
                match runs.last_mut() {
                    Some((start, length)) if *start + *length == sector => *length += SECTOR_BYTES,
                    _ => runs.push((sector, SECTOR_BYTES)),
                }
            }
            sector += SECTOR_BYTES;
        }
        runs
    }
}

/// Records that a chunk header claims by its first and last record number.
fn records_claimed(bytes: &[u8]) -> u64 {
    match (u64_at(bytes, 8), u64_at(bytes, 16)) {
        (Some(first), Some(last)) if first <= last && first != u64::MAX => {
            (last - first).saturating_add(1)
        }
        _ => 0,
    }
}

pub(in crate::account) fn all_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(64)
        .all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(in crate::account) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

pub(in crate::account) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}
