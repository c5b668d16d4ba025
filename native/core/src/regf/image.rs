//! The effective image: the hive as it is once its logs have been applied, in memory.

use super::base::{BASE_BYTES, BaseBlock};
use super::cells::{PAGE_BYTES, size_at};
use super::log::{Format, Log, Page, Verdict};
use crate::bytes::{array_at, u32_at, u64_at};

/// Dirty sectors of logs have this size.
const SECTOR_BYTES: usize = 512;
/// To what size logs may always let a hive grow, though they and it are smaller: a hive that was cut off can be much shorter
/// than it was.
const GROWTH_FREE_BYTES: usize = 64 << 20;
/// The largest hive and its logs together: 2 GiB, so that every place fits the format's 31 bits.
pub(super) const IMAGE_BYTES_MAX: u64 = 1 << 31;

/// A hive in memory.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// From the base block to the end of the file, or what the logs made of it.
    bytes: Vec<u8>,
    pub(super) base: BaseBlock,
    /// Where the live part of the bins ends, from the first bin.
    area_end: usize,
    /// For each sector of the bins 0, or one more than the place of the log it came from.
    origins: Vec<u8>,
    /// By place in the list of logs.
    roles: Vec<&'static str>,
}

/// A cell as a reference to it finds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell<'i> {
    /// Behind the size field.
    pub(super) data: &'i [u8],
    pub(super) is_allocated: bool,
}

impl Image {
    /// The hive as its file has it.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let base = BaseBlock::read(&bytes);
        let mut image = Self {
            bytes,
            base,
            ..Self::default()
        };
        image.measure();
        image
    }

    /// Everything behind the base block.
    pub(super) fn bins(&self) -> &[u8] {
        self.bytes.get(BASE_BYTES..).unwrap_or_default()
    }

    /// The live part of the bins.
    pub(super) fn area(&self) -> &[u8] {
        self.bins().get(..self.area_end).unwrap_or_default()
    }

    /// How long the file is, or would be once the logs are applied.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The cell at `at`, in the live part.
    #[inline]
    pub(super) fn cell(&self, at: u32) -> Option<Cell<'_>> {
        let at = at as usize;
        if !at.is_multiple_of(8) {
            return None;
        }
        let start = BASE_BYTES + at;
        let size = size_at(&self.bytes, start, BASE_BYTES + self.area_end)?;
        Some(Cell {
            data: self
                .bytes
                .get(start + 4..start + size.unsigned_abs() as usize)?,
            is_allocated: size < 0,
        })
    }

    /// The log that the bytes at `at` of the bins came from.
    #[inline]
    pub(super) fn origin(&self, at: usize) -> Option<&'static str> {
        let origin = *self.origins.get(at / SECTOR_BYTES)?;
        self.roles.get(usize::from(origin).checked_sub(1)?).copied()
    }

    /// Whether any log was applied.
    pub(super) fn is_recovered(&self) -> bool {
        !self.roles.is_empty()
    }

    /// Find where the live part ends: where the base block says, but not behind the end of the file; a base block
    /// with a wrong checksum says nothing.
    fn measure(&mut self) {
        let available = self.bins().len();
        self.area_end = if self.base.checksum_ok {
            let claimed = (self.base.bins_bytes as usize).next_multiple_of(PAGE_BYTES);
            claimed.min(available)
        } else {
            available
        };
    }

    /// The hive with what its logs hold, or none when no log was applied; the logs' verdicts say why.
    pub(super) fn recovered(&self, logs: &mut [Log]) -> Option<Self> {
        if !self.base.is_dirty() {
            for log in logs.iter_mut().filter(|log| log.format.is_some()) {
                log.verdict = Verdict::HiveClean;
            }
            return None;
        }
        // Logs of the new format are tried first: a hive that has both was written by the newer system last.
        let files = logs.iter().map(|log| log.bytes.len()).sum::<usize>() + self.len();
        let length_max = files.max(GROWTH_FREE_BYTES).next_multiple_of(PAGE_BYTES);
        self.recovered_by_entries(logs, length_max)
            .or_else(|| self.recovered_by_bitmap(logs, length_max))
    }

    fn copy(&self, logs: &[Log]) -> Self {
        Self {
            bytes: self.bytes.clone(),
            base: self.base.clone(),
            area_end: self.area_end,
            origins: Vec::new(),
            roles: logs.iter().map(|log| log.role.name()).collect(),
        }
    }

    /// Take the base block from a log when the hive's own is not valid.
    fn repair_base(&mut self, log: &Log) {
        if !self.base.is_valid() {
            self.base = BaseBlock {
                file_type: 0,
                ..log.base.clone()
            };
        }
    }

    /// Set how long the bins are; the file grows with them, but not over `length_max`.
    fn resize(&mut self, bins_bytes: usize, length_max: usize) {
        let length = (BASE_BYTES + bins_bytes.next_multiple_of(PAGE_BYTES)).min(length_max);
        if length > self.bytes.len() {
            self.bytes.resize(length, 0);
        }
        self.base.bins_bytes = bins_bytes as u32;
        self.measure();
    }

    fn write(&mut self, place: usize, page: &[u8], log: usize) {
        let at = BASE_BYTES + place;
        if let Some(target) = self.bytes.get_mut(at..at + page.len()) {
            target.copy_from_slice(page);
        }
        let sectors = self.bins().len().div_ceil(SECTOR_BYTES);
        self.origins.resize(sectors, 0);
        let end = (place + page.len()).div_ceil(SECTOR_BYTES);
        if let Some(origins) = self.origins.get_mut(place / SECTOR_BYTES..end.min(sectors)) {
            origins.fill(log as u8 + 1);
        }
    }

    /// Apply logs of the new format: with a valid base block all of them, in the order of their sequence numbers, and
    /// without one the latest alone (regf specification, "Multiple transaction log files", "New format").
    fn recovered_by_entries(&self, logs: &mut [Log], length_max: usize) -> Option<Self> {
        let mut order: Vec<usize> = (0..logs.len())
            .filter(|place| logs[*place].format == Some(Format::New))
            .collect();
        if self.base.is_valid() {
            order.sort_by_key(|place| logs[*place].base.primary_sequence);
        } else {
            order.sort_by_key(|place| logs[*place].last_sequence());
            let chosen = order.len().saturating_sub(1);
            order.drain(..chosen);
        }
        let mut image: Option<Self> = None;
        let mut last: Option<u32> = None;
        for place in order {
            let log = &logs[place];
            let first = log.base.primary_sequence;
            let continues = match last {
                Some(last) => first == last.wrapping_add(1),
                None => !self.base.is_valid() || first >= self.base.secondary_sequence,
            };
            if !continues {
                logs[place].verdict = Verdict::Sequence;
                continue;
            }
            let mut at = log.first_entry();
            let mut expected = first;
            let mut applied = 0;
            // Room behind the last entry holds anything: only the first one must be there.
            let mut verdict = Verdict::Entry;
            while let Some(entry) = log.entry(at) {
                if entry.sequence != expected {
                    if applied == 0 {
                        verdict = Verdict::Sequence;
                    }
                    break;
                }
                if !are_within(&entry.pages, length_max) {
                    verdict = Verdict::Entry;
                    break;
                }
                let recovered = image.get_or_insert_with(|| self.copy(logs));
                recovered.repair_base(log);
                recovered.resize(entry.bins_bytes, length_max);
                for (to, page) in &entry.pages {
                    recovered.write(*to, page, place);
                }
                last = Some(entry.sequence);
                applied += 1;
                verdict = Verdict::Applied;
                expected = entry.sequence.wrapping_add(1);
                at = entry.end;
            }
            let log = &mut logs[place];
            log.verdict = verdict;
            log.applied = applied;
            log.sequences = (applied > 0).then(|| (first, expected.wrapping_sub(1)));
        }
        if let (Some(image), Some(last)) = (&mut image, last) {
            image.base.primary_sequence = last;
            image.base.secondary_sequence = last;
        }
        image
    }

    /// Apply one log of the old format: the newest, when one of them was written when the hive was. With a base block
    /// that is not valid it must only be as new as the first bin, which keeps a time of its own (regf specification,
    /// "Multiple transaction log files", "Old format", as of Windows 8).
    fn recovered_by_bitmap(&self, logs: &mut [Log], length_max: usize) -> Option<Self> {
        let old = |log: &&Log| log.format == Some(Format::Old);
        let newest = logs
            .iter()
            .filter(old)
            .map(|log| log.base.last_written)
            .max()?;
        let is_fitting = if self.base.is_valid() {
            let written = self.base.last_written;
            newest >= written
                && logs
                    .iter()
                    .filter(old)
                    .any(|log| log.base.last_written == written)
        } else {
            newest >= u64_at(self.bins(), 20).unwrap_or_default()
        };
        let mut chosen = None;
        for (place, log) in logs.iter_mut().enumerate() {
            if log.format != Some(Format::Old) {
                continue;
            }
            if !is_fitting {
                log.verdict = Verdict::Sequence;
            } else if chosen.is_none() && log.base.last_written == newest {
                chosen = Some(place);
            }
        }
        let place = chosen?;
        let log = logs.get(place)?;
        let mut verdict = Verdict::Applied;
        let mut image = None;
        match log.dirty_runs() {
            None => verdict = Verdict::Format,
            Some((runs, is_whole)) => {
                if !is_whole || runs.is_empty() {
                    verdict = Verdict::Entry;
                }
                if !runs.is_empty() && are_within(&runs, length_max) {
                    let recovered = image.insert(self.copy(logs));
                    recovered.repair_base(log);
                    recovered.resize(log.base.bins_bytes as usize, length_max);
                    if !recovered.write_runs(self.bins(), &runs, place) {
                        verdict = Verdict::Entry;
                    }
                }
            }
        }
        let log = logs.get_mut(place)?;
        log.verdict = verdict;
        let mut image: Self = image?;
        log.applied = 1;
        log.sequences = Some((log.base.primary_sequence, log.base.primary_sequence));
        image.base.secondary_sequence = image.base.primary_sequence;
        Some(image)
    }

    /// Write dirty sectors up to the first that does not fit. Returns whether all did.
    fn write_runs(&mut self, before: &[u8], runs: &[Page<'_>], log: usize) -> bool {
        for (start, run) in runs {
            for (number, sector) in run.chunks(SECTOR_BYTES).enumerate() {
                let to = start + number * SECTOR_BYTES;
                if !is_fitting_sector(before, to, sector) {
                    return false;
                }
                self.write(to, sector, log);
            }
        }
        true
    }
}

/// Whether pages lie below `length_max` of the file.
fn are_within(pages: &[Page<'_>], length_max: usize) -> bool {
    pages
        .iter()
        .all(|(to, page)| BASE_BYTES + to + page.len() <= length_max)
}

/// Whether a dirty sector that replaces the beginning of a bin begins that bin: recovery stops at one that does not
/// (regf specification, "Dirty pages").
fn is_fitting_sector(bins: &[u8], to: usize, sector: &[u8]) -> bool {
    let replaces_bin = to.is_multiple_of(PAGE_BYTES)
        && bins.get(to..).is_some_and(|bin| bin.starts_with(b"hbin"))
        && u32_at(bins, to + 4) == Some(to as u32);
    !replaces_bin
        || (array_at(sector, 0) == Some(*b"hbin")
            && u32_at(sector, 4) == Some(to as u32)
            && u32_at(sector, 8).is_some_and(|size| size as usize >= PAGE_BYTES))
}
