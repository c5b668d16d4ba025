//! The effective image of a hive: the file with what its transaction logs would write, in memory.
//!
//! Which logs are applied, and how far, is what Windows does (M. Suhanov, "Windows registry file format
//! specification", sections "Dirty state of a hive" and "Multiple transaction log files"):
//!   * A file whose base block is valid and has equal sequence numbers is taken as it is.
//!   * Logs with numbered entries: the log with the lower number goes first, and its first entry has the number
//!     that its base block says, not below the file's secondary number. An entry that is broken or out of order
//!     ends that log; the next log goes on where its first entry has the number that follows.
//!     When the base block of the file is not valid, only the log with the latest entries is used, base block included.
//!   * Old logs are cumulative: one that was written when the file was, or a newer one beside it. When the base block of
//!     the file is not valid, the newest, if it is not older than the first bin.

use super::base::{BASE_BYTES, Base, SECTOR_BYTES};
use super::bytes::{u32_at, u64_at};
use super::log::{Entry, Log, Page};
use super::{HiveLog, LogRole};
use crate::account::Findings;
use crate::error::CoreError;
use crate::source::ReadAt;

/// Bytes that a hive and its logs may have together: Windows stops at 2 GiB.
const BYTES_MAX: u64 = 2 << 30;
/// To what size a log may always let a hive grow: a hive that was cut off can be much shorter than it was.
const GROWTH_FREE: u64 = 64 << 20;
/// Where the first bin keeps the time of the last write to the base block.
const FIRST_BIN_TIME_AT: usize = BASE_BYTES + 20;

/// The bytes to walk, and what is known of them.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) bytes: Vec<u8>,
    /// Of the image, so from a log when the file's own was of no use.
    pub(super) base: Base,
}

impl Image {
    /// Where the bins end: what the base block claims, when its checksum holds and the bytes are there.
    pub(super) fn area_end(&self) -> usize {
        if !self.base.checksum_ok {
            return self.bytes.len();
        }
        let claimed = (self.base.bins_bytes as usize).next_multiple_of(BASE_BYTES);
        self.bytes.len().min(BASE_BYTES + claimed)
    }

    /// Read everything and apply what applies.
    pub(super) fn build<S: ReadAt + ?Sized>(
        source: &S,
        logs: &[HiveLog<'_>],
        findings: &mut Findings,
    ) -> Result<Self, CoreError> {
        let total = logs.iter().fold(source.len(), |sum, log| {
            sum.saturating_add(log.source.len())
        });
        if total > BYTES_MAX {
            return Err(CoreError::Limit {
                what: "bytes of a hive and its logs",
                limit: BYTES_MAX,
                offset: source.len(),
            });
        }
        let bytes = read(source)?;
        let primary = Base::read(&bytes);
        let mut image = Self {
            bytes,
            base: primary,
        };
        if !primary.is_dirty() {
            return Ok(image);
        }
        let mut usable = Vec::new();
        for log in logs {
            match Log::read(log.role, read(log.source)?) {
                Ok(log) => usable.push(log),
                // An empty second log is the usual state.
                Err(("log.empty", _)) => {}
                Err(why) => refuse(findings, log.role, why),
            }
        }
        let mut applied = Vec::new();
        let (new, old): (Vec<_>, Vec<_>) = usable.into_iter().partition(Log::is_new);
        image.apply_entries(new, total, findings, &mut applied);
        if applied.is_empty() {
            image.apply_sectors(old, total, findings, &mut applied);
        }
        report(primary, &applied, findings);
        Ok(image)
    }

    /// Numbered entries of one log or of several, each number one above the one before.
    fn apply_entries(
        &mut self,
        mut logs: Vec<Log>,
        bytes_max: u64,
        findings: &mut Findings,
        applied: &mut Vec<String>,
    ) {
        let mut next = None;
        let mut lowest = 0;
        if self.base.is_valid() {
            lowest = self.base.secondary_sequence;
            logs.sort_by_key(|log| log.base.primary_sequence);
        } else {
            logs.sort_by_key(Log::last_sequence);
            logs.drain(..logs.len().saturating_sub(1));
        }
        for log in &logs {
            let first = log.base.primary_sequence;
            if first < lowest {
                refuse(
                    findings,
                    log.role,
                    ("log.stale", "its entries are older than the file"),
                );
                continue;
            }
            if next.is_some_and(|next| next != first) {
                refuse(
                    findings,
                    log.role,
                    (
                        "log.gap",
                        "its first entry does not follow the last one of the log before",
                    ),
                );
                continue;
            }
            let mut expected = first;
            let mut offset = SECTOR_BYTES;
            let why = loop {
                match log.entry_at(offset) {
                    Ok(entry) if entry.sequence != expected => {
                        break (
                            "log.end",
                            "the entry there belongs to an earlier use of the log",
                        );
                    }
                    Ok(entry) => {
                        if let Err(why) = self.apply_entry(log, &entry, bytes_max) {
                            break why;
                        }
                        offset = entry.offset + entry.size;
                        expected = expected.wrapping_add(1);
                    }
                    Err(why) => break why,
                }
            };
            if why.0 != "log.end" {
                refuse(findings, log.role, why);
            }
            if expected != first {
                next = Some(expected);
                applied.push(format!(
                    "{} entries {first} to {}",
                    log.role.name(),
                    expected.wrapping_sub(1)
                ));
            } else if why.0 == "log.end" {
                refuse(
                    findings,
                    log.role,
                    (
                        "log.no_entry",
                        "it has no entry with the number that its base block says",
                    ),
                );
            }
        }
    }

    fn apply_entry(
        &mut self,
        log: &Log,
        entry: &Entry,
        bytes_max: u64,
    ) -> Result<(), (&'static str, &'static str)> {
        self.grow(entry.bins_bytes, &entry.pages, bytes_max)?;
        self.repair_base(log);
        self.base.bins_bytes = entry.bins_bytes;
        for page in &entry.pages {
            self.write(log, page);
        }
        Ok(())
    }

    /// The dirty sectors of the old log that was written last.
    fn apply_sectors(
        &mut self,
        logs: Vec<Log>,
        bytes_max: u64,
        findings: &mut Findings,
        applied: &mut Vec<String>,
    ) {
        let latest = logs.iter().rev().max_by_key(|log| log.base.last_written);
        let chosen = if self.base.is_valid() {
            let written = self.base.last_written;
            let matches = |log: &Log| log.base.last_written == written;
            latest.filter(|log| log.base.last_written >= written && logs.iter().any(matches))
        } else {
            // The write that the log is about may have been cut short before it came to the first bin.
            let written = u64_at(&self.bytes, FIRST_BIN_TIME_AT).unwrap_or(0);
            latest.filter(|log| log.base.last_written >= written)
        };
        let Some(log) = chosen else {
            for log in &logs {
                let why = ("log.stale", "it was not written when the file was");
                refuse(findings, log.role, why);
            }
            return;
        };
        let runs = match log.dirty_runs() {
            Ok(runs) => runs,
            Err(why) => return refuse(findings, log.role, why),
        };
        if let Err(why) = self.grow(log.base.bins_bytes, &runs, bytes_max) {
            return refuse(findings, log.role, why);
        }
        self.repair_base(log);
        self.base.bins_bytes = log.base.bins_bytes;
        let mut sectors = 0;
        for page in runs.iter().flat_map(sectors_of) {
            if !self.is_fitting(log, &page) {
                refuse(
                    findings,
                    log.role,
                    ("log.bin", "it would put something else where a bin begins"),
                );
                break;
            }
            self.write(log, &page);
            sectors += 1;
        }
        applied.push(format!("{} with {sectors} sectors", log.role.name()));
    }

    /// The base block that a log kept takes the place of one that is not valid.
    fn repair_base(&mut self, log: &Log) {
        if !self.base.is_valid() {
            self.base = log.base;
        }
    }

    /// Make room for bins of this size; none when it is more than file and logs could fill.
    fn grow(
        &mut self,
        bins_bytes: u32,
        pages: &[Page],
        bytes_max: u64,
    ) -> Result<(), (&'static str, &'static str)> {
        let bytes_max = bytes_max
            .max(GROWTH_FREE)
            .next_multiple_of(BASE_BYTES as u64);
        let last = pages.iter().map(|page| page.to + page.length as u64).max();
        if last.is_some_and(|last| last > bytes_max) {
            return Err(("log.beyond", "a page lies far behind the end of the file"));
        }
        let end = BASE_BYTES as u64 + u64::from(bins_bytes).next_multiple_of(BASE_BYTES as u64);
        // Not above `BYTES_MAX`.
        let end = end.min(bytes_max) as usize;
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        Ok(())
    }

    /// Put a page in its place; one that lies behind the bins has none.
    fn write(&mut self, log: &Log, page: &Page) {
        let to = page.to as usize;
        if let Some(target) = self.bytes.get_mut(to..to + page.length) {
            target.copy_from_slice(&log.bytes[page.from..page.from + page.length]);
        }
    }

    /// Whether a sector that lies where a bin begins begins that bin (section "Dirty pages").
    fn is_fitting(&self, log: &Log, page: &Page) -> bool {
        let to = page.to as usize;
        let place = (to - BASE_BYTES) as u32;
        let begins = |bytes: &[u8]| bytes.starts_with(b"hbin") && u32_at(bytes, 4) == Some(place);
        let replaces = to.is_multiple_of(BASE_BYTES) && self.bytes.get(to..).is_some_and(begins);
        let sector = &log.bytes[page.from..];
        !replaces
            || begins(sector) && u32_at(sector, 8).is_some_and(|size| size as usize >= BASE_BYTES)
    }
}

fn sectors_of(run: &Page) -> impl Iterator<Item = Page> + use<> {
    let run = *run;
    (0..run.length).step_by(SECTOR_BYTES).map(move |at| Page {
        to: run.to + at as u64,
        from: run.from + at,
        length: SECTOR_BYTES,
    })
}

fn read<S: ReadAt + ?Sized>(source: &S) -> Result<Vec<u8>, CoreError> {
    let mut bytes = vec![0; source.len() as usize];
    source.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn refuse(findings: &mut Findings, role: LogRole, (code, why): (&'static str, &'static str)) {
    findings.add(code, 0, 0, || format!("log {}: {why}", role.name()));
}

/// Say once that the file is dirty, and what came of it.
fn report(base: Base, applied: &[String], findings: &mut Findings) {
    let state = if base.is_valid() {
        format!(
            "a write was cut short (sequence numbers {} and {})",
            base.primary_sequence, base.secondary_sequence
        )
    } else {
        "the base block is not valid".to_owned()
    };
    if applied.is_empty() {
        findings.add("hive.dirty", 0, SECTOR_BYTES as u64, || {
            format!("{state}; no transaction log could be applied")
        });
    } else {
        findings.add("hive.recovered", 0, SECTOR_BYTES as u64, || {
            format!("{state}; applied: {}", applied.join(", "))
        });
    }
}
