//! Accounting for Windows event logs (EVTX): the walk over the file.
//!
//! Structure only: the file header, 64 KiB slots, and in each slot where records begin and end
//! ([`slot`]). Layout: "Windows XML Event Log (EVTX)" by the libyal project, sections 2 to 4. This walk shares no
//! code with the decoder, which is the point of it.

pub(super) mod slot;

use std::fmt::Write as _;

use memchr::memmem::Finder;

use self::slot::{Slot, u16_at, u32_at};
use super::{Account, Unit};
use crate::error::CoreError;
use crate::source::ReadAt;
use crate::tally::Windows;

/// Size of the file header, in bytes.
const FILE_HEADER_BYTES: u64 = 4096;
/// Size of a slot, and width of a window, in bytes.
const SLOT_BYTES: u64 = 65_536;
/// How many slots are read at a time: 1 MiB.
const SLOTS_PER_READ: u64 = 16;
const FILE_MAGIC: &[u8; 8] = b"ElfFile\0";
/// Bit 0 of the file flags: the log was open, or not closed cleanly.
const FLAG_DIRTY: u32 = 1;
/// What each record begins with, the upper half of the u32 magic included.
const RECORD_MAGIC: [u8; 4] = [0x2A, 0x2A, 0, 0];

/// Find the units of an event log. Bad content makes findings, never an error.
///
/// # Errors
/// The first error of a read.
pub fn account_evtx<S: ReadAt + ?Sized>(source: &S) -> Result<Account, CoreError> {
    let size = source.len();
    let mut walk = Walk {
        account: Account::empty(Unit::Record, Windows::new(FILE_HEADER_BYTES, SLOT_BYTES)?),
        record_magic: Finder::new(&RECORD_MAGIC),
        chunks: 0,
        cut: None,
        last_id: None,
    };
    if size < FILE_HEADER_BYTES {
        walk.account.findings.add("file.too_short", 0, size, || {
            format!("{size} bytes are less than the file header of {FILE_HEADER_BYTES}")
        });
        return Ok(walk.account);
    }
    let mut header = [0; FILE_HEADER_BYTES as usize];
    source.read_exact_at(&mut header, 0)?;
    walk.check_file_header(&header);

    let mut buffer = Vec::new();
    let mut position = FILE_HEADER_BYTES;
    while position < size {
        let length = (size - position).min(SLOTS_PER_READ * SLOT_BYTES);
        buffer.resize(length as usize, 0);
        source.read_exact_at(&mut buffer, position)?;
        for bytes in buffer.chunks(SLOT_BYTES as usize) {
            walk.slot(bytes, position)?;
            position += bytes.len() as u64;
        }
    }
    Ok(walk.finish(&header, size))
}

struct Walk {
    account: Account,
    record_magic: Finder<'static>,
    /// Slots that are not all zeros.
    chunks: u64,
    /// Offset and length of the slot that the end of the file cuts off, when it is a chunk.
    cut: Option<(u64, u64)>,
    /// Record id of the live record before, in whichever chunk.
    last_id: Option<u64>,
}

impl Walk {
    fn check_file_header(&mut self, header: &[u8]) {
        let findings = &mut self.account.findings;
        if !header.starts_with(FILE_MAGIC) {
            findings.add("file.magic", 0, 8, || {
                "the file does not begin with the magic of an event log".to_owned()
            });
        }
        let computed = crc32fast::hash(&header[..120]);
        let stored = u32_at(header, 124).unwrap_or(0);
        if computed != stored {
            findings.add("file.header_crc", 0, 128, || {
                format!(
                    "checksum of the file header is {stored:#010x}, its bytes give {computed:#010x}"
                )
            });
        }
    }

    fn slot(&mut self, bytes: &[u8], base: u64) -> Result<(), CoreError> {
        if slot::all_zero(bytes) {
            return Ok(());
        }
        self.chunks += 1;
        let slot = Slot::examine(bytes);
        self.report_verdicts(&slot, base);
        if let Some(at) = slot.misplaced_chunk() {
            let (offset, length) = (base + at as u64, (bytes.len() - at) as u64);
            self.account
                .findings
                .add("chunk.misplaced", offset, length, || {
                    "a chunk begins here, off the grid of 64 KiB slots; carving the log reads it whole".to_owned()
                });
        }
        let live_records = self.walk_live(&slot, base)?;
        if let Some(claimed) = slot.records_claimed {
            let declared = self.account.declared.unwrap_or(0);
            self.account.declared = Some(declared.saturating_add(claimed));
            if claimed != live_records {
                self.account
                    .findings
                    .add("chunk.record_count", base, bytes.len() as u64, || {
                        format!(
                            "the chunk header claims {claimed} records, {live_records} were found"
                        )
                    });
            }
        }
        if slot.trusted {
            self.walk_slack(&slot, base);
        }
        Ok(())
    }

    fn report_verdicts(&mut self, slot: &Slot<'_>, base: u64) {
        let available = slot.bytes.len() as u64;
        let cut = available < SLOT_BYTES;
        let verdicts = [
            (
                !slot.magic_ok,
                "chunk.magic",
                8,
                "the slot is in use but does not begin with the magic of a chunk",
            ),
            (
                !slot.header_crc_ok && available >= 512,
                "chunk.header_crc",
                512,
                "the checksum of the chunk header does not match",
            ),
            (
                !slot.data_crc_ok && !cut,
                "chunk.data_crc",
                available,
                "the checksum of the chunk's records does not match",
            ),
        ];
        for (holds, code, length, message) in verdicts {
            if holds {
                let length = length.min(available);
                self.account
                    .findings
                    .add(code, base, length, || message.to_owned());
            }
        }
        if cut {
            self.cut = Some((base, available));
            self.account.findings.add("chunk.cut", base, available, || {
                format!("the file ends after {available} of the chunk's {SLOT_BYTES} bytes")
            });
        }
    }

    /// Cut the live area into units; gives the number of records, damaged regions not included.
    fn walk_live(&mut self, slot: &Slot<'_>, base: u64) -> Result<u64, CoreError> {
        let mut records = 0;
        let mut at = slot::FIRST_RECORD;
        while at < slot.live_end {
            // A whole record that begins before the free-space offset is live, wherever it ends.
            if let Some(record) = slot.record_at(at, slot.bytes.len()) {
                self.unit(base + at as u64, record.size as u64)?;
                self.follow_id(record.id, base + at as u64, record.size as u64);
                records += 1;
                at += record.size;
                continue;
            }
            let Some(end) = slot.damage_end(at, &self.record_magic) else {
                break;
            };
            let (offset, length) = (base + at as u64, (end - at) as u64);
            self.unit(offset, length)?;
            self.account.damaged += 1;
            self.account
                .findings
                .add("chunk.damaged", offset, length, || {
                    format!("{length} bytes of the live area are not records")
                });
            at = end;
        }
        Ok(records)
    }

    fn unit(&mut self, offset: u64, length: u64) -> Result<(), CoreError> {
        self.account.present += 1;
        self.account.windows.add(offset, length)
    }

    fn follow_id(&mut self, id: u64, offset: u64, length: u64) {
        if let Some(last) = self.last_id.replace(id) {
            let expected = last.wrapping_add(1);
            if id != expected {
                self.account
                    .findings
                    .add("chunk.id_gap", offset, length, || {
                        let kind = if id < expected {
                            "goes back: a circular log starts over, or records were repeated"
                        } else {
                            "leaves a gap"
                        };
                        format!("record id {id} follows {last}, which {kind}")
                    });
            }
        }
    }

    fn walk_slack(&mut self, slot: &Slot<'_>, base: u64) {
        let available = slot.bytes.len();
        let mut at = slot.live_end;
        let mut endless = Vec::new();
        while let Some(start) = slot.find_record(at, available, &self.record_magic) {
            let Some(record) = slot.record_at(start, available) else {
                break;
            };
            endless.extend(slot.endless_records(at, start, &self.record_magic));
            self.account.slack_records += 1;
            at = start + record.size;
        }
        endless.extend(slot.endless_records(at, available, &self.record_magic));
        for (start, length) in slot.zeroed_slack() {
            let offset = base + start as u64;
            self.account
                .findings
                .add("chunk.slack_zeroed", offset, length as u64, || {
                    format!(
                        "{length} bytes of whole zero sectors lie between other bytes of the slack"
                    )
                });
        }
        for (start, length) in endless {
            let offset = base + start as u64;
            self.account
                .findings
                .add("chunk.slack_cut", offset, length as u64, || {
                    format!("a record of {length} bytes begins in the slack, zeros are where it should end")
                });
        }
    }

    fn finish(mut self, header: &[u8], size: u64) -> Account {
        let claimed = u64::from(u16_at(header, 42).unwrap_or(0));
        let dirty = u32_at(header, 120).unwrap_or(0) & FLAG_DIRTY != 0;
        let found = self.chunks;
        // The header's count has 16 bits; a log over 4 GiB has more chunks than it can say.
        if claimed != found & 0xFFFF {
            self.account.findings.add("file.chunk_count", 42, 2, || {
                let explained = if dirty {
                    "the log was not closed cleanly (dirty flag), which explains it"
                } else {
                    "the log was closed cleanly (no dirty flag), which does not explain it"
                };
                format!("the file header counts {claimed} chunks, {found} were found; {explained}")
            });
        }
        let slots = (size - FILE_HEADER_BYTES).div_ceil(SLOT_BYTES);
        let mut reasons = String::new();
        let present = self.account.present;
        // Writing to a String does not fail.
        if let Some(declared) = self.account.declared.filter(|declared| *declared > present) {
            let _ = write!(
                reasons,
                "; chunk headers claim {declared} records, {present} are there"
            );
        }
        if let Some((offset, length)) = self.cut {
            let _ = write!(
                reasons,
                "; the chunk at {offset} is cut off after {length} bytes"
            );
        }
        if !dirty && claimed > slots {
            let _ = write!(
                reasons,
                "; the file header of a closed log counts {claimed} chunks, the file has room for {slots}"
            );
        }
        if let Some(reasons) = reasons.strip_prefix("; ") {
            self.account
                .findings
                .add("source.truncated", size, 0, || reasons.to_owned());
        }
        self.account
    }
}

#[cfg(test)]
mod tests;
