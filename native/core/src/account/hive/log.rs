//! Transaction logs: what they would write over a hive. Nothing is written here.
//!
//! Layout: M. Suhanov, "Windows registry file format specification", section "Format of transaction log
//! files". The old form has one bitmap of dirty sectors; the new one has entries that carry checksums and are numbered.

use super::LogRole;
use super::base::{BASE_BYTES, Base, SECTOR_BYTES};
use super::bytes::{all_zero, u32_at, u64_at};
use super::marvin::marvin32;

const ENTRY_HEADER_BYTES: usize = 40;
const PAGE_BYTES: u32 = 4096;

/// A log whose copy of the base block is valid.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) role: LogRole,
    pub(super) base: Base,
    pub(super) bytes: Vec<u8>,
}

/// Bytes of a log that belong into the hive at an offset (from the beginning of the file).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) to: u64,
    pub(super) from: usize,
    pub(super) length: usize,
}

/// A numbered entry of a log in the new form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: usize,
    pub(super) size: usize,
    pub(super) sequence: u32,
    pub(super) bins_bytes: u32,
    pub(super) pages: Vec<Page>,
}

impl Log {
    /// Take a log's bytes, or say with a code and a sentence why they are of no use.
    pub(super) fn read(
        role: LogRole,
        bytes: Vec<u8>,
    ) -> Result<Self, (&'static str, &'static str)> {
        if all_zero(&bytes) {
            return Err(("log.empty", "it has nothing in it"));
        }
        if bytes.len() < SECTOR_BYTES {
            return Err(("log.cut", "it has less than one sector"));
        }
        let base = Base::read(&bytes);
        if !base.magic_ok {
            return Err((
                "log.magic",
                "it does not begin with the magic of a registry file",
            ));
        }
        if !base.checksum_ok {
            return Err((
                "log.checksum",
                "the checksum of its base block does not match",
            ));
        }
        if !matches!(base.file_type, 1 | 2 | 6) {
            return Err((
                "log.type",
                "its base block does not say that it is a transaction log",
            ));
        }
        if base.primary_sequence != base.secondary_sequence {
            return Err((
                "log.incomplete",
                "its sequence numbers differ: it was not written to its end",
            ));
        }
        Ok(Self { role, base, bytes })
    }

    /// Whether it has numbered entries (since Windows 8.1).
    pub(super) fn is_new(&self) -> bool {
        self.base.file_type == 6
    }

    /// The whole entry at an offset, or with a code and a sentence why there is none.
    pub(super) fn entry_at(&self, offset: usize) -> Result<Entry, (&'static str, &'static str)> {
        let space = self.bytes.get(offset..).unwrap_or_default();
        if !space.starts_with(b"HvLE") {
            return Err(("log.end", "no further entry begins there"));
        }
        let size = u32_at(space, 4).unwrap_or(0) as usize;
        if size < ENTRY_HEADER_BYTES || !size.is_multiple_of(SECTOR_BYTES) {
            return Err(("log.entry_size", "the entry's size is impossible"));
        }
        let Some(entry) = space.get(..size) else {
            return Err(("log.cut", "the log ends within the entry"));
        };
        if u64_at(entry, 32) != Some(marvin32(&entry[..32])) {
            return Err((
                "log.entry_hash",
                "the checksum of the entry's header does not match",
            ));
        }
        if u64_at(entry, 24) != Some(marvin32(&entry[ENTRY_HEADER_BYTES..])) {
            return Err((
                "log.entry_hash",
                "the checksum of the entry's pages does not match",
            ));
        }
        let bins_bytes = u32_at(entry, 16).unwrap_or(0);
        if !bins_bytes.is_multiple_of(PAGE_BYTES) {
            return Err((
                "log.entry_bins",
                "the entry's size of the bins is no multiple of 4096",
            ));
        }
        let count = u32_at(entry, 20).unwrap_or(0) as usize;
        let pages = entry_pages(entry, offset, count, bins_bytes);
        Ok(Entry {
            offset,
            size,
            sequence: u32_at(entry, 12).unwrap_or(0),
            bins_bytes,
            pages: pages.ok_or(("log.entry_pages", "the entry's pages do not fit into it"))?,
        })
    }

    /// The number of the last of its entries that follow each other.
    pub(super) fn last_sequence(&self) -> Option<u32> {
        let mut last: Option<u32> = None;
        let mut offset = SECTOR_BYTES;
        while let Ok(entry) = self.entry_at(offset) {
            if last.is_some_and(|last| entry.sequence != last.wrapping_add(1)) {
                break;
            }
            last = Some(entry.sequence);
            offset += entry.size;
        }
        last
    }

    /// The dirty sectors of a log in the old form, in runs, as far as the log has them.
    pub(super) fn dirty_runs(&self) -> Result<Vec<Page>, (&'static str, &'static str)> {
        let vector = self.bytes.get(SECTOR_BYTES..).unwrap_or_default();
        if !vector.starts_with(b"DIRT") {
            return Err(("log.bitmap", "there is no bitmap of dirty sectors"));
        }
        let bitmap_bytes = self.base.bins_bytes as usize / SECTOR_BYTES / 8;
        let sectors = bitmap_bytes * 8;
        let Some(bitmap) = vector.get(4..4 + bitmap_bytes) else {
            return Err(("log.cut", "the log ends within the bitmap"));
        };
        let mut from = (SECTOR_BYTES + 4 + bitmap_bytes).next_multiple_of(SECTOR_BYTES);
        let mut runs: Vec<Page> = Vec::new();
        for sector in (0..sectors).filter(|sector| bitmap[sector / 8] >> (sector % 8) & 1 == 1) {
            let to = (BASE_BYTES + sector * SECTOR_BYTES) as u64;
            match runs.last_mut() {
                Some(run) if run.to + run.length as u64 == to => run.length += SECTOR_BYTES,
                _ => runs.push(Page {
                    to,
                    from,
                    length: SECTOR_BYTES,
                }),
            }
            from += SECTOR_BYTES;
        }
        runs.retain(|run| run.from + run.length <= self.bytes.len());
        if runs.is_empty() {
            return Err(("log.cut", "the log ends before its pages"));
        }
        Ok(runs)
    }
}

/// The pages of an entry; `None` when they lie outside of the entry or of the bins.
fn entry_pages(entry: &[u8], offset: usize, count: usize, bins_bytes: u32) -> Option<Vec<Page>> {
    let references = entry
        .get(ENTRY_HEADER_BYTES..)?
        .get(..count.checked_mul(8)?)?;
    let mut from = ENTRY_HEADER_BYTES + references.len();
    let mut pages = Vec::with_capacity(count);
    for reference in references.chunks_exact(8) {
        let (to, length) = (u32_at(reference, 0)?, u32_at(reference, 4)?);
        if u64::from(to) + u64::from(length) > u64::from(bins_bytes) {
            return None;
        }
        let end = from.checked_add(length as usize)?;
        if end > entry.len() {
            return None;
        }
        pages.push(Page {
            to: BASE_BYTES as u64 + u64::from(to),
            from: offset + from,
            length: length as usize,
        });
        from = end;
    }
    Some(pages)
}
