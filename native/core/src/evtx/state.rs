//! What a decoder and a carver have in common: the rows under way, the plans, and the batches that are full.

use std::collections::VecDeque;
use std::ops::Range;

use arrow_array::RecordBatch;

use super::EvtxOutput;
use super::cache::{ChunkPlans, PlanCache};
use super::damage::{Damage, Decoded};
use super::layout::Chunk;
use super::limits::Budget;
use super::record::Decoder;
use super::rows::EventRows;
use super::slots::SlotStack;
use super::tables::ChunkRows;
use crate::error::CoreError;
use crate::flags::{self, Flags};
use crate::quarantine::QuarantineRows;

/// Everything that outlives a chunk.
pub(super) struct State {
    pub(super) events: EventRows,
    pub(super) chunks: ChunkRows,
    pub(super) quarantine: QuarantineRows,
    pub(super) cache: PlanCache,
    pub(super) plans: ChunkPlans,
    values: SlotStack,
    /// Record rows of the source so far, those lost on purpose included.
    pub(super) rows: u64,
    /// Rows in batches that were finished, by output.
    finished: [u64; EvtxOutput::COUNT],
    /// Batches that were finished and not given away yet.
    pub(super) ready: VecDeque<(EvtxOutput, RecordBatch)>,
}

impl State {
    /// Nothing yet, with the plans of an earlier decoder.
    pub(super) fn new(cache: PlanCache) -> Self {
        Self {
            events: EventRows::new(),
            chunks: ChunkRows::new(),
            quarantine: QuarantineRows::default(),
            cache,
            plans: ChunkPlans::new(),
            values: SlotStack::new(),
            rows: 0,
            finished: [0; EvtxOutput::COUNT],
            ready: VecDeque::new(),
        }
    }

    /// Rows so far by output: those in finished batches, and those that wait.
    pub(super) fn rows_by_output(&self) -> [u64; EvtxOutput::COUNT] {
        let mut rows = self.finished;
        rows[EvtxOutput::Events as usize] += self.events.len() as u64;
        rows[EvtxOutput::Chunks as usize] += self.chunks.len() as u64;
        rows[EvtxOutput::Quarantine as usize] += self.quarantine.len() as u64;
        rows
    }

    /// Write the row of the record whose BinXML is at `place` of a chunk, not yet committed; or no row, and why.
    #[inline]
    pub(super) fn decode_record(
        &mut self,
        chunk: &[u8],
        place: Range<usize>,
        budget: &mut Budget,
    ) -> Decoded<()> {
        self.events.begin(budget.record_text_bytes());
        let mut decoder = Decoder {
            chunk,
            rows: &mut self.events,
            plans: &mut self.plans,
            cache: &mut self.cache,
            budget,
            slots: &mut self.values,
        };
        let decoded = decoder.record(place);
        budget.spend_text(self.events.text_bytes());
        if decoded.is_err() {
            self.events.roll_back();
        }
        decoded
    }

    /// Set the bytes `raw` aside, which begin at `offset` of the file.
    pub(super) fn set_aside(&mut self, offset: u64, flags: Flags, damage: &Damage, raw: &[u8]) {
        let message = format!("{} (at byte {} of the chunk)", damage.detail, damage.at);
        self.quarantine
            .push(offset, flags, damage.reason.code(), &message, raw);
    }

    /// Finish the batches that have `rows_min` rows or `bytes_min` bytes.
    pub(super) fn flush(&mut self, rows_min: usize, bytes_min: usize) -> Result<(), CoreError> {
        let Self {
            events,
            chunks,
            quarantine,
            finished,
            ready,
            ..
        } = self;
        let is_due =
            |rows: usize, bytes: usize| rows > 0 && (rows >= rows_min || bytes >= bytes_min);
        let mut give = |output: EvtxOutput, batch: RecordBatch| {
            finished[output as usize] += batch.num_rows() as u64;
            ready.push_back((output, batch));
        };
        if is_due(events.len(), events.byte_size()) {
            give(EvtxOutput::Events, events.finish()?);
        }
        if is_due(quarantine.len(), quarantine.byte_size()) {
            give(EvtxOutput::Quarantine, quarantine.finish()?);
        }
        if is_due(chunks.len(), 0) {
            give(EvtxOutput::Chunks, chunks.finish()?);
        }
        Ok(())
    }
}

/// What a chunk itself says of everything that is in it.
pub(super) fn chunk_flags(chunk: &Chunk<'_>) -> Flags {
    if chunk.is_cut() {
        flags::CUT
    } else if chunk.data_crc_ok {
        flags::NONE
    } else {
        flags::CRC_BAD
    }
}
