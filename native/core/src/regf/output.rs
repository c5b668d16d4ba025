//! All rows on their way out: batches are finished as they get full.

use std::collections::VecDeque;

use arrow_array::RecordBatch;

use super::rows::{KeyRows, State};
use super::tables::ChangeRows;
use super::value_rows::ValueRows;
use super::{HiveOptions, HiveOutput};
use crate::error::CoreError;
use crate::quarantine::QuarantineRows;

/// Bytes that a row has in all of its columns, about.
const ROW_BYTES_USUAL: usize = 256;

/// The rows of every output.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) keys: KeyRows,
    pub(super) values: ValueRows,
    pub(super) changes: ChangeRows,
    pub(super) quarantine: QuarantineRows,
    /// Rows so far, by [`State`].
    pub(super) key_counts: [u64; State::COUNT],
    pub(super) value_counts: [u64; State::COUNT],
    pub(super) quarantined_cells: u64,
    ready: VecDeque<(HiveOutput, RecordBatch)>,
    options: HiveOptions,
}

impl Output {
    pub(super) fn new(options: HiveOptions) -> Self {
        Self {
            keys: KeyRows::new(),
            values: ValueRows::new(),
            changes: ChangeRows::new(),
            quarantine: QuarantineRows::default(),
            key_counts: [0; State::COUNT],
            value_counts: [0; State::COUNT],
            quarantined_cells: 0,
            ready: VecDeque::new(),
            options,
        }
    }

    /// Make room for a batch of so many keys and values, or for as many as a batch may have.
    pub(super) fn reserve(&mut self, keys: u64, values: u64) {
        let options = self.options;
        let rows_max = options
            .batch_rows
            .min(options.batch_bytes / ROW_BYTES_USUAL);
        let rows = |count: u64| rows_max.min(usize::try_from(count).unwrap_or(rows_max));
        self.keys.reserve(rows(keys));
        self.values.reserve(rows(values));
    }

    /// A finished batch, the oldest first.
    pub(super) fn take_ready(&mut self) -> Option<(HiveOutput, RecordBatch)> {
        self.ready.pop_front()
    }

    pub(super) fn push_ready(&mut self, output: HiveOutput, batch: RecordBatch) {
        self.ready.push_back((output, batch));
    }

    /// Finish the batch of keys when it is full: after each that was added.
    #[inline]
    pub(super) fn flush_full_keys(&mut self) -> Result<(), CoreError> {
        if self.is_full(self.keys.len(), self.keys.byte_size()) {
            let batch = self.keys.finish()?;
            self.ready.push_back((HiveOutput::Keys, batch));
        }
        Ok(())
    }

    /// Finish the batch of values when it is full: after each that was added.
    #[inline]
    pub(super) fn flush_full_values(&mut self) -> Result<(), CoreError> {
        if self.is_full(self.values.len(), self.values.byte_size()) {
            let batch = self.values.finish()?;
            self.ready.push_back((HiveOutput::Values, batch));
        }
        Ok(())
    }

    #[inline]
    fn is_full(&self, rows: usize, bytes: usize) -> bool {
        let options = &self.options;
        rows >= options.batch_rows.max(1) || bytes >= options.batch_bytes.max(1)
    }

    /// Finish the batches that are full.
    #[inline]
    pub(super) fn flush_full(&mut self) -> Result<(), CoreError> {
        let options = self.options;
        self.flush(options.batch_rows.max(1), options.batch_bytes.max(1))
    }

    /// Finish the batches that have `rows_min` rows or `bytes_min` bytes.
    #[inline]
    pub(super) fn flush(&mut self, rows_min: usize, bytes_min: usize) -> Result<(), CoreError> {
        let is_due = |rows: usize, bytes: &dyn Fn() -> usize| {
            rows > 0 && (rows >= rows_min || bytes() >= bytes_min)
        };
        if is_due(self.keys.len(), &|| self.keys.byte_size()) {
            let batch = self.keys.finish()?;
            self.ready.push_back((HiveOutput::Keys, batch));
        }
        if is_due(self.values.len(), &|| self.values.byte_size()) {
            let batch = self.values.finish()?;
            self.ready.push_back((HiveOutput::Values, batch));
        }
        if is_due(self.changes.len(), &|| self.changes.byte_size()) {
            let batch = self.changes.finish()?;
            self.ready.push_back((HiveOutput::Changes, batch));
        }
        if is_due(self.quarantine.len(), &|| self.quarantine.byte_size()) {
            let batch = self.quarantine.finish()?;
            self.ready.push_back((HiveOutput::Quarantine, batch));
        }
        Ok(())
    }
}
