//! Rows of `evtx_chunks`.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::BooleanBuilder;
use arrow_array::types::{UInt32Type, UInt64Type};

use super::columns::NumberColumn;
use super::layout::Chunk;
use super::schema::chunks_schema;
use crate::error::CoreError;
use crate::flags::Flags;

/// What was found in a chunk.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct ChunkCounts {
    pub(super) records: u32,
    pub(super) quarantined: u32,
    pub(super) damaged_regions: u32,
    pub(super) slack_records: u32,
    pub(super) slack_bytes: u32,
    pub(super) header_record_ids: Option<(u64, u64)>,
}

impl ChunkCounts {
    /// Count a live row.
    pub(super) fn add_record(&mut self, header_record_id: u64) {
        self.records += 1;
        let (lowest, highest) = self
            .header_record_ids
            .unwrap_or((header_record_id, header_record_id));
        self.header_record_ids =
            Some((lowest.min(header_record_id), highest.max(header_record_id)));
    }
}

/// The columns of `evtx_chunks`.
#[derive(Debug)]
pub(super) struct ChunkRows {
    count: usize,
    places: [NumberColumn<UInt64Type>; 2],
    flags: NumberColumn<UInt32Type>,
    sizes: [NumberColumn<UInt32Type>; 2],
    verdicts: [BooleanBuilder; 4],
    numbers: [NumberColumn<UInt64Type>; 4],
    offsets: [NumberColumn<UInt32Type>; 2],
    counts: [NumberColumn<UInt32Type>; 5],
    record_ids: [NumberColumn<UInt64Type>; 2],
}

impl ChunkRows {
    pub(super) fn new() -> Self {
        Self {
            count: 0,
            places: std::array::from_fn(|_| NumberColumn::new()),
            flags: NumberColumn::new(),
            sizes: std::array::from_fn(|_| NumberColumn::new()),
            verdicts: std::array::from_fn(|_| BooleanBuilder::new()),
            numbers: std::array::from_fn(|_| NumberColumn::new()),
            offsets: std::array::from_fn(|_| NumberColumn::new()),
            counts: std::array::from_fn(|_| NumberColumn::new()),
            record_ids: std::array::from_fn(|_| NumberColumn::new()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Append the row of slot `slot`, which begins at `offset` of the file.
    pub(super) fn push(
        &mut self,
        slot: u32,
        offset: u64,
        flags: Flags,
        chunk: &Chunk<'_>,
        counts: &ChunkCounts,
    ) {
        self.count += 1;
        let header = chunk.header;
        let available = chunk.bytes.len();
        fill(&mut self.places, [offset, available as u64].map(Some));
        self.flags.push(Some(flags));
        fill(&mut self.sizes, [slot, available as u32].map(Some));
        let verdicts = [
            chunk.magic_ok,
            chunk.header_crc_ok,
            chunk.data_crc_ok,
            chunk.trusted,
        ];
        for (column, verdict) in self.verdicts.iter_mut().zip(verdicts) {
            column.append_value(verdict);
        }
        let numbers = [
            header.map(|header| header.first_record_number),
            header.map(|header| header.last_record_number),
            header.map(|header| header.first_record_id),
            header.map(|header| header.last_record_id),
        ];
        fill(&mut self.numbers, numbers);
        let offsets = [
            header.map(|header| header.last_record_offset),
            header.map(|header| header.free_space_offset),
        ];
        fill(&mut self.offsets, offsets);
        let found = [
            counts.records,
            counts.quarantined,
            counts.damaged_regions,
            counts.slack_records,
            counts.slack_bytes,
        ];
        fill(&mut self.counts, found.map(Some));
        let lowest = counts.header_record_ids.map(|(lowest, _)| lowest);
        let highest = counts.header_record_ids.map(|(_, highest)| highest);
        fill(&mut self.record_ids, [lowest, highest]);
    }

    /// All rows as one batch; no row is left.
    pub(super) fn finish(&mut self) -> Result<RecordBatch, CoreError> {
        self.count = 0;
        let mut columns = Vec::with_capacity(22);
        columns.extend(self.places.iter_mut().map(NumberColumn::finish_ref));
        columns.push(self.flags.finish_ref());
        columns.extend(self.sizes.iter_mut().map(NumberColumn::finish_ref));
        for verdict in &mut self.verdicts {
            columns.push(Arc::new(verdict.finish()));
        }
        columns.extend(self.numbers.iter_mut().map(NumberColumn::finish_ref));
        columns.extend(self.offsets.iter_mut().map(NumberColumn::finish_ref));
        columns.extend(self.counts.iter_mut().map(NumberColumn::finish_ref));
        columns.extend(self.record_ids.iter_mut().map(NumberColumn::finish_ref));
        Ok(RecordBatch::try_new(chunks_schema(), columns)?)
    }
}

/// Append one value to each of `N` columns.
fn fill<T: arrow_array::types::ArrowPrimitiveType, const N: usize>(
    columns: &mut [NumberColumn<T>; N],
    values: [Option<T::Native>; N],
) {
    for (column, value) in columns.iter_mut().zip(values) {
        column.push(value);
    }
}
