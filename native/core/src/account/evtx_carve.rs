//! Accounting for carving: how many event records a source of any kind holds.
//!
//! Nothing is known of such a source, so nothing is `present`. What is counted is what a carver must bring out: each
//! frame of a record (magic, a size from 28 to 65,024, and that size again at the end), found one behind the other at
//! whatever byte, as `slack_records`, which also are outside of `present`. Chunks with a believable header are
//! examined, so that what is missing in them is told. The walk shares no code with the carver.

use memchr::memmem::Finder;

use super::evtx::slot::{Slot, u32_at};
use super::{Account, Unit};
use crate::error::CoreError;
use crate::source::ReadAt;
use crate::tally::Windows;

const CHUNK_MAGIC: &[u8] = b"ElfChnk\0";
const RECORD_MAGIC: &[u8] = &[0x2A, 0x2A, 0, 0];
const CHUNK_BYTES: u64 = 65_536;
const CHUNK_HEADER_BYTES: u64 = 512;
const RECORD_BYTES_MIN: usize = 28;
const RECORD_BYTES_MAX: usize = 65_536 - 512;
/// Bytes that are judged at a time; a chunk more is read with them.
const BLOCK_BYTES: u64 = 1 << 20;
/// Origin of the windows; there are no units in them.
const WINDOW_ORIGIN: u64 = 4_096;

/// Count what carving must find.
///
/// # Errors
/// The first error of a read.
pub fn account_evtx_carved<S: ReadAt + ?Sized>(source: &S) -> Result<Account, CoreError> {
    let mut walk = Walk {
        account: Account::empty(Unit::Record, Windows::new(WINDOW_ORIGIN, CHUNK_BYTES)?),
        chunk_magic: Finder::new(CHUNK_MAGIC),
        record_magic: Finder::new(RECORD_MAGIC),
        open: Vec::new(),
        chunks: 0,
        whole_chunks: 0,
        next_record: 0,
        next_chunk: 0,
    };
    let size = source.len();
    let mut block = Vec::new();
    let mut start = 0;
    while start < size {
        let length = (size - start).min(BLOCK_BYTES + CHUNK_BYTES);
        block.resize(length as usize, 0);
        source.read_exact_at(&mut block, start)?;
        let judged = (size - start).min(BLOCK_BYTES) as usize;
        walk.find_chunks(&block, start, judged);
        walk.find_records(&block, start, judged);
        start += judged as u64;
    }
    Ok(walk.finish(size))
}

/// A chunk whose header is believed.
struct Chunk {
    start: u64,
    live_end: u64,
    claimed: Option<u64>,
    found: u64,
}

struct Walk {
    account: Account,
    chunk_magic: Finder<'static>,
    record_magic: Finder<'static>,
    /// Chunks in which records may still follow, in order.
    open: Vec<Chunk>,
    chunks: u64,
    whole_chunks: u64,
    next_record: u64,
    next_chunk: u64,
}

impl Walk {
    fn find_chunks(&mut self, block: &[u8], start: u64, judged: usize) {
        let mut from = self.next_chunk.saturating_sub(start) as usize;
        while let Some(at) = next(&self.chunk_magic, block, from, judged, CHUNK_MAGIC.len()) {
            let end = block.len().min(at + CHUNK_BYTES as usize);
            let slot = Slot::examine(&block[at..end]);
            if slot.trusted {
                self.report(&slot, start + at as u64);
            }
            // Examining costs a checksum over the chunk: not for each of many magics side by side.
            from = at + CHUNK_HEADER_BYTES as usize;
        }
        self.next_chunk = start + from as u64;
    }

    fn report(&mut self, slot: &Slot<'_>, base: u64) {
        self.chunks += 1;
        let available = slot.bytes.len() as u64;
        let findings = &mut self.account.findings;
        if slot.header_crc_ok && slot.data_crc_ok {
            self.whole_chunks += 1;
        } else if available < CHUNK_BYTES {
            findings.add("chunk.cut", base, available, || {
                format!("the source ends after {available} of the chunk's {CHUNK_BYTES} bytes")
            });
        } else if slot.header_crc_ok {
            findings.add("chunk.data_crc", base, available, || {
                "the checksum of the chunk's records does not match".to_owned()
            });
        } else {
            findings.add("chunk.header_crc", base, CHUNK_HEADER_BYTES, || {
                "the checksum of the chunk header does not match".to_owned()
            });
        }
        self.open.push(Chunk {
            start: base,
            live_end: base + slot.live_end as u64,
            claimed: slot.records_claimed,
            found: 0,
        });
    }

    fn find_records(&mut self, block: &[u8], start: u64, judged: usize) {
        let mut from = self.next_record.saturating_sub(start) as usize;
        while let Some(at) = next(&self.record_magic, block, from, judged, RECORD_MAGIC.len()) {
            let Some(size) = frame(&block[at..]) else {
                from = at + 1;
                continue;
            };
            self.account.slack_records += 1;
            let place = start + at as u64;
            let is_in = |chunk: &&mut Chunk| chunk.start + CHUNK_HEADER_BYTES <= place;
            if let Some(chunk) = self.open.iter_mut().rev().find(is_in)
                && place + size as u64 <= chunk.live_end
            {
                chunk.found += 1;
            }
            from = at + size;
        }
        self.next_record = (start + from as u64).max(start + judged as u64);
        self.settle(start + judged as u64);
    }

    /// Judge the chunks that end before `place`.
    fn settle(&mut self, place: u64) {
        let findings = &mut self.account.findings;
        self.open.retain(|chunk| {
            if chunk.live_end > place {
                return true;
            }
            if let Some(claimed) = chunk.claimed.filter(|claimed| *claimed != chunk.found) {
                let length = chunk.live_end - chunk.start;
                findings.add("chunk.record_count", chunk.start, length, || {
                    let found = chunk.found;
                    format!("the chunk header claims {claimed} records, {found} were found")
                });
            }
            false
        });
    }

    fn finish(mut self, size: u64) -> Account {
        self.settle(u64::MAX);
        let (records, chunks, whole) = (self.account.slack_records, self.chunks, self.whole_chunks);
        if records > 0 || chunks > 0 {
            self.account.findings.add("source.carved", 0, size, || {
                format!("{records} records and {chunks} chunks were found by their signatures; in {whole} of the chunks all checksums are right")
            });
        }
        self.account
    }
}

/// The first signature of `width` bytes that begins in `block[from..judged]`.
fn next(
    magic: &Finder<'_>,
    block: &[u8],
    from: usize,
    judged: usize,
    width: usize,
) -> Option<usize> {
    let end = block.len().min(judged + width - 1);
    Some(from + magic.find(block.get(from..end)?)?)
}

/// The size of the record that `bytes` begin with.
fn frame(bytes: &[u8]) -> Option<usize> {
    let size = u32_at(bytes, 4)? as usize;
    let is_sane = (RECORD_BYTES_MIN..=RECORD_BYTES_MAX).contains(&size);
    (is_sane && u32_at(bytes, size - 4)? as usize == size).then_some(size)
}
