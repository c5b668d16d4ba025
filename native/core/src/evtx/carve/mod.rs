//! Records and chunks in any source: unallocated space, a memory image, a log without its header.
//!
//! Each record that is found is a row or a quarantine row, flagged [`flags::CARVED`]; chunks whose header or
//! records have a right checksum are rows of `evtx_chunks`. Nothing here counts as present. Work is bounded by
//! a budget for each 64 KiB that are searched, as it is for each chunk of a log.

mod anchor;
mod scan;

use arrow_array::RecordBatch;

use self::anchor::{Base, covers, guesses};
use self::scan::{Found, Scanner};
use super::cache::PlanCache;
use super::damage::{Damage, Decoded, Reason};
use super::layout::{CHUNK_MAGIC, Chunk, RECORD_HEADER_BYTES, SLOT_BYTES};
use super::limits::Budget;
use super::rows::Frame;
use super::state::{State, chunk_flags};
use super::tables::ChunkCounts;
use super::{EvtxOptions, EvtxOutput};
use crate::bytes::{nonzero_count, u64_at};
use crate::error::CoreError;
use crate::flags::{self, Flags};
use crate::source::ReadAt;

/// Work that looking for a record's chunk costs.
const GUESS_WORK: u32 = 1_024;
/// Magics before a record that are tried when it is rendered.
const MAGICS_MAX: usize = 8;
/// Work that going to another chunk costs.
const ROOM_WORK: u32 = 256;

/// Carves one source into record batches. Memory is bounded whatever the size of the source.
pub struct EvtxCarver<S: ReadAt> {
    source: S,
    options: EvtxOptions,
    scanner: Scanner,
    /// The chunk that the scan is in, when there is one.
    chunk: Option<OpenChunk>,
    chunks_found: u32,
    room: Room,
    /// By which chunk the last record was decoded, or the one that has begun since.
    likeliest: Option<Base>,
    budget: Budget,
    /// Which 64 KiB the budget is for.
    stride: u64,
    state: State,
    is_scanned: bool,
}

/// A chunk that was found, and what was found in it.
struct OpenChunk {
    number: u32,
    at: u64,
    bytes: Vec<u8>,
    live_end: usize,
    /// Where another chunk begins in it, else its end.
    limit: usize,
    flags: Flags,
    crc_ok: bool,
    counts: ChunkCounts,
    recovered_bytes: usize,
}

/// Where the chunk of a carved record may begin, the likeliest place first: at a chunk's magic before it, or where
/// the record itself says.
pub(super) fn bases<S: ReadAt>(source: &S, record: &[u8], at: u64) -> Result<Vec<Base>, CoreError> {
    let first = at.saturating_sub(SLOT_BYTES as u64);
    let mut before = vec![0; (at - first) as usize];
    source.read_exact_at(&mut before, first)?;
    let magics = memchr::memmem::rfind_iter(&before, &CHUNK_MAGIC);
    let magics = magics.map(|place| (first + place as u64).cast_signed());
    let mut found: Vec<Base> = magics
        .filter(|base| covers(*base, at, record.len()))
        .take(MAGICS_MAX)
        .collect();
    found.extend(guesses(source, record, at)?);
    Ok(found)
}

/// The bytes of a chunk, real or supposed.
pub(super) fn chunk_at<S: ReadAt>(source: &S, base: Base) -> Result<Vec<u8>, CoreError> {
    let mut room = Room::default();
    room.enter(source, base)?;
    Ok(room.bytes)
}

/// The bytes of one chunk, real or supposed, by which records are decoded.
#[derive(Default)]
struct Room {
    base: Option<Base>,
    bytes: Vec<u8>,
}

impl Room {
    /// Read what there is of a chunk at `base`; zeros stand for what would be before the source.
    fn enter<S: ReadAt>(&mut self, source: &S, base: Base) -> Result<(), CoreError> {
        self.base = None;
        let before = base.min(0).unsigned_abs().min(SLOT_BYTES as u64) as usize;
        let start = base.max(0).cast_unsigned();
        let left = source.len().saturating_sub(start);
        let size = left.min((SLOT_BYTES - before) as u64) as usize;
        self.bytes.clear();
        self.bytes.resize(before + size, 0);
        let real = self.bytes.get_mut(before..).unwrap_or_default();
        source.read_exact_at(real, start)?;
        self.base = Some(base);
        Ok(())
    }
}

impl<S: ReadAt> EvtxCarver<S> {
    /// A carver for `source`.
    pub fn new(source: S, options: EvtxOptions) -> Self {
        Self {
            source,
            options,
            scanner: Scanner::new(),
            chunk: None,
            chunks_found: 0,
            room: Room::default(),
            likeliest: None,
            budget: Budget::new(),
            stride: 0,
            state: State::new(PlanCache::new()),
            is_scanned: false,
        }
    }

    /// The next batch of any output, or nothing at the end.
    ///
    /// # Errors
    /// When the source cannot be read, or a batch cannot be built. What cannot be decoded is no error.
    pub fn next_batch(&mut self) -> Result<Option<(EvtxOutput, RecordBatch)>, CoreError> {
        loop {
            if let Some(batch) = self.state.ready.pop_front() {
                return Ok(Some(batch));
            }
            if self.is_scanned {
                return Ok(None);
            }
            match self.scanner.next(&self.source)? {
                Some(Found::Chunk { at }) => self.open_chunk(at)?,
                Some(Found::Record { at, size }) => self.record(at, size)?,
                None => {
                    self.is_scanned = true;
                    self.close_chunk();
                    self.state.flush(1, 0)?;
                }
            }
            if !self.is_scanned {
                let EvtxOptions {
                    batch_rows,
                    batch_bytes,
                    ..
                } = self.options;
                self.state.flush(batch_rows.max(1), batch_bytes.max(1))?;
            }
        }
    }

    fn open_chunk(&mut self, at: u64) -> Result<(), CoreError> {
        if let Some(open) = &mut self.chunk {
            open.limit = open.limit.min(at.saturating_sub(open.at) as usize);
        }
        self.close_chunk();
        let left = self.source.len().saturating_sub(at);
        let mut bytes = vec![0; left.min(SLOT_BYTES as u64) as usize];
        self.source.read_exact_at(&mut bytes, at)?;
        let Some(chunk) = Chunk::read(&bytes) else {
            return Ok(());
        };
        let flags = flags::CARVED | chunk_flags(&chunk);
        self.likeliest = Some(at.cast_signed());
        self.chunk = Some(OpenChunk {
            number: self.chunks_found,
            at,
            live_end: chunk.live_end,
            limit: SLOT_BYTES,
            flags,
            crc_ok: chunk.header_crc_ok && chunk.data_crc_ok,
            counts: ChunkCounts::default(),
            recovered_bytes: 0,
            bytes,
        });
        self.chunks_found = self.chunks_found.saturating_add(1);
        Ok(())
    }

    /// Make a row of the chunk at hand: another one begins, or the scan is behind it.
    fn close_chunk(&mut self) {
        let Some(mut open) = self.chunk.take() else {
            return;
        };
        if let Some(chunk) = Chunk::read(&open.bytes) {
            let limit = open.limit.min(open.bytes.len());
            let slack = open.bytes.get(chunk.live_end..limit);
            let slack = nonzero_count(slack.unwrap_or_default());
            open.counts.slack_bytes = slack.saturating_sub(open.recovered_bytes) as u32;
            let rows = &mut self.state.chunks;
            rows.push(open.number, open.at, open.flags, &chunk, &open.counts);
        }
    }

    /// Make the record at `at` a row, or put it into quarantine.
    fn record(&mut self, at: u64, size: usize) -> Result<(), CoreError> {
        let record = self.scanner.bytes(at).get(..size).unwrap_or_default();
        let record = record.to_vec();
        let stride = at / SLOT_BYTES as u64;
        if stride != self.stride {
            self.stride = stride;
            self.budget = Budget::new();
        }
        if let Some(open) = &self.chunk
            && !covers(open.at.cast_signed(), at, size)
            && at >= open.at + SLOT_BYTES as u64
        {
            self.close_chunk();
        }
        let decoded = self.decode(&record, at)?;
        let in_chunk = self
            .chunk
            .as_mut()
            .filter(|open| covers(open.at.cast_signed(), at, size));
        let mut flags = flags::CARVED | flags::RECOVERED;
        let mut chunk = None;
        if let Some(open) = in_chunk
            && decoded
                .as_ref()
                .map_or(true, |base| *base == open.at.cast_signed())
        {
            let is_live = at - open.at < open.live_end as u64;
            flags = open.flags;
            if is_live {
                match &decoded {
                    Ok(_) => open
                        .counts
                        .add_record(u64_at(&record, 8).unwrap_or_default()),
                    Err(_) => open.counts.quarantined += 1,
                }
            } else {
                flags = flags & !flags::CRC_BAD | flags::RECOVERED | flags::SLACK;
                open.counts.slack_records += 1;
                open.recovered_bytes += nonzero_count(&record);
            }
            chunk = Some((open.number, open.crc_ok));
        }
        if let Err(damage) = decoded {
            self.state.set_aside(at, flags, &damage, &record);
            return Ok(());
        }
        self.state.rows += 1;
        if self.options.fault.drops_row(self.state.rows) {
            self.state.events.roll_back();
            return Ok(());
        }
        self.state.events.commit(&Frame {
            offset: at,
            length: size as u64,
            flags,
            header_record_id: u64_at(&record, 8).unwrap_or_default(),
            time_written: u64_at(&record, 16).unwrap_or_default(),
            chunk: chunk.map(|(number, _)| number),
            chunk_crc_ok: chunk.map(|(_, crc_ok)| crc_ok),
        });
        Ok(())
    }

    /// Write the row of a record; gives the beginning of the chunk by which it was decoded.
    ///
    /// The outer error is the source's, the inner one says why there is no row.
    fn decode(&mut self, record: &[u8], at: u64) -> Result<Decoded<Base>, CoreError> {
        // A guess that was right is tried first: records of one chunk lie together, and each try costs work.
        let nearby = [
            self.likeliest,
            self.chunk.as_ref().map(|open| open.at.cast_signed()),
            self.scanner.last_magic.map(u64::cast_signed),
        ];
        let mut tried: Vec<Base> = Vec::new();
        let mut first_damage = None;
        let nearby = nearby.into_iter().flatten();
        for base in nearby.filter(|base| covers(*base, at, record.len())) {
            if tried.contains(&base) {
                continue;
            }
            tried.push(base);
            match self.decode_at(base, at, record.len())? {
                Ok(()) => {
                    self.likeliest = Some(base);
                    return Ok(Ok(base));
                }
                Err(damage) => first_damage = first_damage.or(Some(damage)),
            }
        }
        if let Err(damage) = self.budget.spend(GUESS_WORK, RECORD_HEADER_BYTES) {
            return Ok(Err(first_damage.unwrap_or(damage)));
        }
        for base in guesses(&self.source, record, at)? {
            if tried.contains(&base) {
                continue;
            }
            tried.push(base);
            match self.decode_at(base, at, record.len())? {
                Ok(()) => {
                    self.likeliest = Some(base);
                    return Ok(Ok(base));
                }
                Err(damage) => first_damage = first_damage.or(Some(damage)),
            }
        }
        Ok(Err(first_damage.unwrap_or_else(|| {
            Damage::new(
                Reason::Template,
                RECORD_HEADER_BYTES,
                "what the record refers to in its chunk is not here",
            )
        })))
    }

    /// Write the row of the record at `at` as one of the chunk at `base`.
    fn decode_at(&mut self, base: Base, at: u64, size: usize) -> Result<Decoded<()>, CoreError> {
        if self.room.base != Some(base) {
            if let Err(damage) = self.budget.spend(ROOM_WORK, RECORD_HEADER_BYTES) {
                return Ok(Err(damage));
            }
            self.state.plans.clear();
            self.room.enter(&self.source, base)?;
        }
        // The caller has checked that the chunk covers the record.
        let start = (at.cast_signed() - base) as usize;
        let end = start + size - 4;
        let place = start + RECORD_HEADER_BYTES..end;
        Ok(self
            .state
            .decode_record(&self.room.bytes, place, &mut self.budget))
    }
}
