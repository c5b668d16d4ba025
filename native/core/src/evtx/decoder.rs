//! From a file to batches, slot by slot.

use std::collections::VecDeque;

use arrow_array::RecordBatch;

use super::cache::PlanCache;
use super::damage::{Damage, Reason};
use super::layout::{Chunk, FILE_HEADER_BYTES, RECORD_HEADER_BYTES, SLOT_BYTES, Unit};
use super::limits::Budget;
use super::rows::Frame;
use super::state::{State, chunk_flags};
use super::tables::ChunkCounts;
use super::{EvtxOptions, EvtxOutput};
use crate::bytes::{nonzero_count, u64_at};
use crate::error::CoreError;
use crate::flags::{self, Flags};
use crate::source::ReadAt;

/// Slots that are read at a time: 256 KiB, which stay in a core's own cache until they are decoded.
const SLOTS_PER_READ: usize = 4;

/// Decodes one EVTX file into record batches.
///
/// What the file header says is not used: a log that was not closed has a stale one. Memory is bounded whatever the size of
/// the file: one read, and at most a chunk more than one batch of each output.
pub struct EvtxDecoder<S: ReadAt> {
    source: S,
    options: EvtxOptions,
    /// The next slot, and where to end.
    slot: u32,
    slots: u32,
    /// How many slots the source has.
    source_slots: u32,
    buffer: Vec<u8>,
    /// The slots that `buffer` holds begin with this one.
    buffer_slot: u32,
    state: State,
    is_finished: bool,
}

/// A slot and what holds for everything in it.
struct SlotView<'c> {
    number: u32,
    offset: u64,
    chunk: Chunk<'c>,
    flags: Flags,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Row,
    Quarantined,
    Lost,
}

impl<S: ReadAt> EvtxDecoder<S> {
    /// A decoder for `source`.
    ///
    /// # Errors
    /// [`CoreError::Limit`] when there are more slots than 32 bits can count.
    pub fn new(source: S, options: EvtxOptions) -> Result<Self, CoreError> {
        Self::with_cache(source, options, PlanCache::new())
    }

    /// A decoder that begins with the plans of an earlier one.
    ///
    /// # Errors
    /// As [`EvtxDecoder::new`].
    pub fn with_cache(
        source: S,
        options: EvtxOptions,
        cache: PlanCache,
    ) -> Result<Self, CoreError> {
        let slots = slots_of(&source)?;
        Ok(Self {
            source,
            options,
            slot: 0,
            slots,
            source_slots: slots,
            buffer: Vec::new(),
            buffer_slot: 0,
            state: State::new(cache),
            is_finished: false,
        })
    }

    /// Go on with another source, once [`EvtxDecoder::finish_source`] has said that this one is decoded: its rows
    /// stand behind those of the one before, in the same batches. It is decoded as if it were alone.
    ///
    /// # Errors
    /// As [`EvtxDecoder::new`]; the decoder goes on with the source that it has.
    pub fn next_source(&mut self, source: S) -> Result<(), CoreError> {
        self.slots = slots_of(&source)?;
        self.source_slots = self.slots;
        self.slot = 0;
        self.buffer.clear();
        self.buffer_slot = 0;
        self.state.rows = 0;
        self.source = source;
        Ok(())
    }

    /// Decode the source to its end, and say how many rows there are of each output, by [`EvtxOutput`], of all sources so
    /// far. What it leaves waiting is given by [`EvtxDecoder::next_batch`] or joined by the next source.
    ///
    /// # Errors
    /// As [`EvtxDecoder::next_batch`].
    pub fn finish_source(&mut self) -> Result<[u64; EvtxOutput::COUNT], CoreError> {
        while self.slot < self.slots {
            self.decode_slot()?;
        }
        Ok(self.state.rows_by_output())
    }

    /// How many slots the source has, the rest of the last one included.
    pub(super) fn source_slots(&self) -> u32 {
        self.source_slots
    }

    /// Decode the slots from `first` up to `end`, or up to the last, into batches that hold nothing else.
    ///
    /// # Errors
    /// As [`EvtxDecoder::next_batch`].
    pub(super) fn decode_slots(
        &mut self,
        first: u32,
        end: u32,
    ) -> Result<VecDeque<(EvtxOutput, RecordBatch)>, CoreError> {
        self.slot = first;
        self.slots = end.min(self.source_slots);
        self.buffer.clear();
        self.buffer_slot = first;
        while self.slot < self.slots {
            self.decode_slot()?;
        }
        self.state.flush(0, 0)?;
        Ok(std::mem::take(&mut self.state.ready))
    }

    /// The next batch that is full; what waits goes on waiting.
    pub fn full_batch(&mut self) -> Option<(EvtxOutput, RecordBatch)> {
        self.state.ready.pop_front()
    }

    /// The plans that were compiled, for the next decoder.
    pub fn into_cache(self) -> PlanCache {
        self.state.cache
    }

    /// The next batch of any output, or nothing at the end.
    ///
    /// # Errors
    /// When the source cannot be read, or a batch cannot be built. Damage in the file is no error.
    pub fn next_batch(&mut self) -> Result<Option<(EvtxOutput, RecordBatch)>, CoreError> {
        loop {
            if let Some(batch) = self.state.ready.pop_front() {
                return Ok(Some(batch));
            }
            if self.slot < self.slots {
                self.decode_slot()?;
            } else if !self.is_finished {
                self.is_finished = true;
                self.state.flush(0, 0)?;
            } else {
                return Ok(None);
            }
        }
    }

    /// Where slot `slot` begins.
    fn slot_offset(slot: u32) -> u64 {
        FILE_HEADER_BYTES + u64::from(slot) * SLOT_BYTES as u64
    }

    /// Fill the buffer from slot `self.slot` on.
    fn read(&mut self) -> Result<(), CoreError> {
        let offset = Self::slot_offset(self.slot);
        let left = self.source.len().saturating_sub(offset);
        let size = left.min((SLOTS_PER_READ * SLOT_BYTES) as u64) as usize;
        self.buffer.resize(size, 0);
        self.buffer_slot = self.slot;
        self.source.read_exact_at(&mut self.buffer, offset)
    }

    fn decode_slot(&mut self) -> Result<(), CoreError> {
        let mut start = (self.slot - self.buffer_slot) as usize * SLOT_BYTES;
        if start >= self.buffer.len() {
            self.read()?;
            start = 0;
        }
        let number = self.slot;
        self.slot += 1;
        let buffer = std::mem::take(&mut self.buffer);
        let end = (start + SLOT_BYTES).min(buffer.len());
        let slot = buffer.get(start..end).unwrap_or_default();
        let decoded = match Chunk::read(slot) {
            Some(chunk) if !self.options.fault.drops_chunk(number) => {
                self.decode_chunk(number, chunk)
            }
            _ => Ok(()),
        };
        self.buffer = buffer;
        decoded
    }

    fn decode_chunk(&mut self, number: u32, chunk: Chunk<'_>) -> Result<(), CoreError> {
        self.state.plans.clear();
        let mut budget = Budget::new();
        let mut counts = ChunkCounts::default();
        let mut slot = SlotView {
            number,
            offset: Self::slot_offset(number),
            chunk,
            flags: chunk_flags(&chunk),
        };
        let chunk_flags = slot.flags;
        if !chunk.trusted || chunk.is_cut() {
            slot.flags |= flags::RECOVERED;
        }
        for unit in chunk.live_units() {
            match unit {
                Unit::Record { at, size } => match self.record(&slot, at, size, &mut budget) {
                    Outcome::Row => counts.add_record(header_record_id(&chunk, at)),
                    Outcome::Quarantined => counts.quarantined += 1,
                    Outcome::Lost => {}
                },
                Unit::Damaged { at, size } => {
                    counts.damaged_regions += 1;
                    self.damaged_region(&slot, chunk_flags, at, size);
                    slot.flags |= flags::RECOVERED;
                }
            }
            self.flush_full()?;
        }
        // A checksum says nothing of the slack.
        slot.flags = (chunk_flags & flags::CUT) | flags::RECOVERED | flags::SLACK;
        let mut recovered_bytes = 0;
        for (at, size) in chunk.slack_records() {
            counts.slack_records += 1;
            recovered_bytes += chunk.bytes.get(at..at + size).map_or(0, nonzero_count);
            self.record(&slot, at, size, &mut budget);
            self.flush_full()?;
        }
        if chunk.trusted {
            let slack_bytes = nonzero_count(chunk.slack()) - recovered_bytes;
            counts.slack_bytes = slack_bytes as u32;
        }
        let rows = &mut self.state.chunks;
        rows.push(number, slot.offset, chunk_flags, &chunk, &counts);
        self.flush_full()
    }

    /// Decode the record at `at` into a row, or put it into quarantine.
    fn record(
        &mut self,
        slot: &SlotView<'_>,
        at: usize,
        size: usize,
        budget: &mut Budget,
    ) -> Outcome {
        let chunk = slot.chunk.bytes;
        let offset = slot.offset + at as u64;
        // The last four bytes repeat the size.
        let place = at + RECORD_HEADER_BYTES..at + size - 4;
        if let Err(damage) = self.state.decode_record(chunk, place, budget) {
            let raw = chunk.get(at..at + size).unwrap_or_default();
            self.state.set_aside(offset, slot.flags, &damage, raw);
            return Outcome::Quarantined;
        }
        self.state.rows += 1;
        if self.options.fault.drops_row(self.state.rows) {
            self.state.events.roll_back();
            return Outcome::Lost;
        }
        self.state.events.commit(&Frame {
            offset,
            length: size as u64,
            flags: slot.flags,
            header_record_id: header_record_id(&slot.chunk, at),
            time_written: u64_at(chunk, at + 16).unwrap_or_default(),
            chunk: Some(slot.number),
            chunk_crc_ok: Some(slot.chunk.header_crc_ok && slot.chunk.data_crc_ok),
        });
        Outcome::Row
    }

    fn damaged_region(&mut self, slot: &SlotView<'_>, flags: Flags, at: usize, size: usize) {
        let raw = slot.chunk.bytes.get(at..at + size).unwrap_or_default();
        let damage = Damage::new(
            Reason::DamagedRegion,
            at,
            "these bytes hold no valid record",
        );
        let offset = slot.offset + at as u64;
        self.state.set_aside(offset, flags, &damage, raw);
    }

    /// Finish the batches that are full.
    fn flush_full(&mut self) -> Result<(), CoreError> {
        self.state.flush(
            self.options.batch_rows.max(1),
            self.options.batch_bytes.max(1),
        )
    }
}

/// How many slots a source has.
fn slots_of<S: ReadAt>(source: &S) -> Result<u32, CoreError> {
    let slots = source
        .len()
        .saturating_sub(FILE_HEADER_BYTES)
        .div_ceil(SLOT_BYTES as u64);
    u32::try_from(slots).map_err(|_| CoreError::Limit {
        what: "chunks in a file",
        limit: u64::from(u32::MAX),
        offset: 0,
    })
}

fn header_record_id(chunk: &Chunk<'_>, at: usize) -> u64 {
    u64_at(chunk.bytes, at + 8).unwrap_or_default()
}
