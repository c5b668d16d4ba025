//! Transaction logs: what each says of itself, and its pages (regf specification, "Format of transaction log
//! files").

use super::base::BaseBlock;
use super::cells::PAGE_BYTES;
use super::marvin::marvin32;
use crate::bytes::{u32_at, u64_at};

/// Logs are written in sectors of this size.
const SECTOR_BYTES: usize = 512;
/// Bytes of an entry in front of its page references.
const ENTRY_HEADER_BYTES: usize = 40;

/// Which of a hive's logs it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogRole {
    /// `.LOG`
    Log,
    /// `.LOG1`
    Log1,
    /// `.LOG2`
    Log2,
}

impl LogRole {
    /// The role that has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "LOG" => Some(Self::Log),
            "LOG1" => Some(Self::Log1),
            "LOG2" => Some(Self::Log2),
            _ => None,
        }
    }

    /// The name: the file's suffix without its dot.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "LOG",
            Self::Log1 => "LOG1",
            Self::Log2 => "LOG2",
        }
    }
}

/// How a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One bitmap of dirty sectors (`DIRT`).
    Old,
    /// Entries with sequence numbers (`HvLE`), as of Windows 8.1.
    New,
}

/// What became of a log. The order is that of a good reader's questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it that continues the hive was applied.
    Applied,
    /// The hive is not dirty: logs say nothing about it.
    HiveClean,
    /// Zero bytes, or zeros only.
    Empty,
    /// The base block is not valid, or its two sequence numbers differ.
    BaseBlock,
    /// It does not say that it is a log, or there is no bitmap where there must be one.
    Format,
    /// The sequence number or time does not continue the hive.
    Sequence,
    /// An entry is not whole, or its hash is wrong; nothing of it nor behind it was applied.
    Entry,
    /// Another log was chosen.
    NotChosen,
}

impl Verdict {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Applied => "log.applied",
            Self::HiveClean => "log.hive_clean",
            Self::Empty => "log.empty",
            Self::BaseBlock => "log.base_block",
            Self::Format => "log.format",
            Self::Sequence => "log.sequence",
            Self::Entry => "log.entry",
            Self::NotChosen => "log.not_chosen",
        }
    }
}

/// A log's bytes, and what was found about it.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) role: LogRole,
    pub(super) bytes: Vec<u8>,
    pub(super) base: BaseBlock,
    /// None when it cannot be used at all.
    pub(super) format: Option<Format>,
    pub(super) verdict: Verdict,
    /// Entries of the new format, or 1 for the old one, that were applied.
    pub(super) applied: u32,
    /// Sequence numbers of the first and last entry that were applied.
    pub(super) sequences: Option<(u32, u32)>,
}

impl Log {
    /// Look at a log. Its verdict is of its own form alone as yet.
    pub(super) fn read(role: LogRole, bytes: Vec<u8>) -> Self {
        let base = BaseBlock::read(&bytes);
        let is_whole = base.is_valid() && base.primary_sequence == base.secondary_sequence;
        let format = match base.file_type {
            1 | 2 => Some(Format::Old),
            6 => Some(Format::New),
            _ => None,
        };
        let verdict = if bytes.iter().all(|byte| *byte == 0) {
            Verdict::Empty
        } else if !is_whole {
            Verdict::BaseBlock
        } else if format.is_none() {
            Verdict::Format
        } else {
            Verdict::NotChosen
        };
        Self {
            role,
            format: format.filter(|_| is_whole),
            bytes,
            base,
            verdict,
            applied: 0,
            sequences: None,
        }
    }

    /// The dirty runs of a log of the old format, as (place from the first bin, bytes); a run is what lies together.
    ///
    /// Cut short where the log ends; the second value says whether all are there. None when there is no bitmap.
    pub(super) fn dirty_runs(&self) -> Option<(Vec<Page<'_>>, bool)> {
        if !self.bytes.get(SECTOR_BYTES..)?.starts_with(b"DIRT") {
            return None;
        }
        let bins_bytes = self.base.bins_bytes as usize;
        let bitmap_bytes = bins_bytes / SECTOR_BYTES / 8;
        let bitmap_start = SECTOR_BYTES + 4;
        let Some(bitmap) = self.bytes.get(bitmap_start..bitmap_start + bitmap_bytes) else {
            return Some((Vec::new(), false));
        };
        let mut from = (bitmap_start + bitmap_bytes).next_multiple_of(SECTOR_BYTES);
        let mut runs = Vec::new();
        let mut sector = 0;
        let sectors = bitmap_bytes * 8;
        let is_dirty = |sector: usize| {
            bitmap
                .get(sector / 8)
                .is_some_and(|byte| byte >> (sector % 8) & 1 == 1)
        };
        while sector < sectors {
            if !is_dirty(sector) {
                sector += 1;
                continue;
            }
            let first = sector;
            while sector < sectors && is_dirty(sector) {
                sector += 1;
            }
            let length = (sector - first) * SECTOR_BYTES;
            let Some(bytes) = self.bytes.get(from..from + length) else {
                return Some((runs, false));
            };
            runs.push((first * SECTOR_BYTES, bytes));
            from += length;
        }
        Some((runs, true))
    }

    /// The entry of the new format at `at`, when it is whole and both of its hashes are right.
    pub(super) fn entry(&self, at: usize) -> Option<Entry<'_>> {
        let rest = self.bytes.get(at..)?;
        if !rest.starts_with(b"HvLE") {
            return None;
        }
        let size = u32_at(rest, 4)? as usize;
        let entry = rest.get(..size)?;
        let body = entry.get(ENTRY_HEADER_BYTES..)?;
        let bins_bytes = u32_at(entry, 16)? as usize;
        let is_whole = size.is_multiple_of(SECTOR_BYTES)
            && bins_bytes.is_multiple_of(PAGE_BYTES)
            && u64_at(entry, 24)? == marvin32(body)
            && u64_at(entry, 32)? == marvin32(entry.get(..32)?);
        if !is_whole {
            return None;
        }
        let count = u32_at(entry, 20)? as usize;
        let references = body.get(..count.checked_mul(8)?)?;
        let (references, _) = references.as_chunks::<8>();
        let mut pages = Vec::with_capacity(count);
        let mut from = count * 8;
        for reference in references {
            let place = u32_at(reference, 0)? as usize;
            let length = u32_at(reference, 4)? as usize;
            if place.checked_add(length)? > bins_bytes {
                return None;
            }
            pages.push((place, body.get(from..from.checked_add(length)?)?));
            from += length;
        }
        Some(Entry {
            sequence: u32_at(entry, 12)?,
            bins_bytes,
            pages,
            end: at + size,
        })
    }

    /// Where the first entry of the new format begins.
    pub(super) fn first_entry(&self) -> usize {
        SECTOR_BYTES
    }

    /// The sequence number of the last whole entry in an unbroken row.
    pub(super) fn last_sequence(&self) -> Option<u32> {
        let mut last: Option<u32> = None;
        let mut at = self.first_entry();
        while let Some(entry) = self.entry(at) {
            if last.is_some_and(|last| entry.sequence != last.wrapping_add(1)) {
                break;
            }
            last = Some(entry.sequence);
            at = entry.end;
        }
        last
    }
}

/// Place from the first bin, and what is written there.
pub(super) type Page<'l> = (usize, &'l [u8]);

/// An entry of a log of the new format.
#[derive(Debug)]
pub(super) struct Entry<'l> {
    pub(super) sequence: u32,
    /// How long the bins are from this entry on.
    pub(super) bins_bytes: usize,
    pub(super) pages: Vec<Page<'l>>,
    /// Where the next entry begins.
    pub(super) end: usize,
}
