//! Rows of one wide table, on their way to a batch.

use std::sync::Arc;

use arrow_array::types::{TimestampNanosecondType, UInt8Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, UInt8Array};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};

use super::super::columns::{NumberColumn, TextColumn, list};
use super::super::schema::type_item;
use super::super::value::is_array;
use super::layout::{Layouts, NO_COLUMN};
use super::registry::WideTable;
use super::split::Events;
use super::values::Values;
use crate::error::CoreError;
use crate::schema::{UTC, text_item};

/// Bytes that a row has in the columns of fixed width that each table has, about.
const FIXED_BYTES_PER_ROW: usize = 96;
/// No value.
const NO_ITEM: usize = usize::MAX;

/// Rows that wait.
#[derive(Debug)]
pub(super) struct WideRows {
    table: &'static WideTable,
    layouts: Layouts,
    len: usize,
    /// Bytes of texts, about.
    text_bytes: usize,
    offset: NumberColumn<UInt64Type>,
    length: NumberColumn<UInt64Type>,
    flags: NumberColumn<UInt32Type>,
    record_id: NumberColumn<UInt64Type>,
    time_created: NumberColumn<TimestampNanosecondType>,
    /// Computer, channel, provider, user, activity.
    texts: [TextColumn; 5],
    version: NumberColumn<UInt8Type>,
    level: NumberColumn<UInt8Type>,
    keywords: NumberColumn<UInt64Type>,
    process_id: NumberColumn<UInt32Type>,
    thread_id: NumberColumn<UInt32Type>,
    chunk: NumberColumn<UInt32Type>,
    values: Vec<Values>,
    misfits: NumberColumn<UInt32Type>,
    list_offsets: Vec<i32>,
    other_names: TextColumn,
    other_values: TextColumn,
    other_types: Vec<u8>,
    /// Room: the value of each column in the row at hand.
    items: Vec<usize>,
}

impl WideRows {
    pub(super) fn new(table: &'static WideTable) -> Self {
        Self {
            table,
            layouts: Layouts::default(),
            len: 0,
            text_bytes: 0,
            offset: NumberColumn::new(),
            length: NumberColumn::new(),
            flags: NumberColumn::new(),
            record_id: NumberColumn::new(),
            time_created: NumberColumn::new(),
            texts: std::array::from_fn(|_| TextColumn::new()),
            version: NumberColumn::new(),
            level: NumberColumn::new(),
            keywords: NumberColumn::new(),
            process_id: NumberColumn::new(),
            thread_id: NumberColumn::new(),
            chunk: NumberColumn::new(),
            values: table
                .columns
                .iter()
                .map(|column| Values::new(column.kind))
                .collect(),
            misfits: NumberColumn::new(),
            list_offsets: vec![0],
            other_names: TextColumn::new(),
            other_values: TextColumn::new(),
            other_types: Vec::new(),
            items: Vec::new(),
        }
    }

    /// How many rows wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many bytes they take, about.
    pub(super) fn byte_size(&self) -> usize {
        self.text_bytes + self.len * (FIXED_BYTES_PER_ROW + 8 * self.values.len())
    }

    /// Append the event in row `row`.
    pub(super) fn push(&mut self, events: &Events<'_>, row: usize) {
        self.len += 1;
        self.push_common(events, row);
        let (first, end) = events.items(row);
        let columns = self.layouts.columns(self.table, events.names, first, end);
        self.items.clear();
        self.items.resize(self.values.len(), NO_ITEM);
        let mut misfits = 0;
        for (position, item) in (first..end).enumerate() {
            let column = columns.get(position).copied().unwrap_or(NO_COLUMN);
            // An array is several values of one name: no column holds them.
            let is_array = is_array(events.types.value(item));
            if column == NO_COLUMN || is_array {
                misfits += u32::from(column != NO_COLUMN);
                push_other(
                    (
                        &mut self.other_names,
                        &mut self.other_values,
                        &mut self.other_types,
                    ),
                    events,
                    item,
                );
            } else if let Some(place) = self.items.get_mut(usize::from(column)) {
                *place = item;
            }
        }
        for (values, item) in self.values.iter_mut().zip(&self.items) {
            if *item == NO_ITEM || events.values.is_null(*item) {
                values.push_null();
                continue;
            }
            let text = events.values.value(*item);
            self.text_bytes += text.len();
            if !values.push(text) {
                misfits += 1;
                push_other(
                    (
                        &mut self.other_names,
                        &mut self.other_values,
                        &mut self.other_types,
                    ),
                    events,
                    *item,
                );
            }
        }
        self.misfits.push(Some(misfits));
        self.list_offsets.push(self.other_names.len() as i32);
    }

    fn push_common(&mut self, events: &Events<'_>, row: usize) {
        self.offset.push(Some(events.offset.value(row)));
        self.length.push(Some(events.length.value(row)));
        self.flags.push(Some(events.flags.value(row)));
        self.record_id.push(events.record_id.get(row));
        self.time_created.push(events.time_created.get(row));
        for (column, source) in self.texts.iter_mut().zip(events.texts) {
            let text = source.is_valid(row).then(|| source.value(row).as_bytes());
            self.text_bytes += text.map_or(0, <[u8]>::len);
            column.push_value(text);
        }
        self.version.push(events.version.get(row));
        self.level.push(events.level.get(row));
        self.keywords.push(events.keywords.get(row));
        self.process_id.push(events.process_id.get(row));
        self.thread_id.push(events.thread_id.get(row));
        self.chunk.push(events.chunk.get(row));
    }

    /// All rows as one batch; none is left.
    ///
    /// # Errors
    /// When the columns do not fit together, which would be a fault of this module.
    pub(super) fn finish(&mut self) -> Result<RecordBatch, CoreError> {
        self.len = 0;
        self.text_bytes = 0;
        let [computer, channel, provider, user, activity] = &mut self.texts;
        let mut columns: Vec<ArrayRef> = vec![
            self.offset.finish_ref(),
            self.length.finish_ref(),
            self.flags.finish_ref(),
            self.record_id.finish_ref(),
            Arc::new(self.time_created.finish().with_timezone(UTC)),
            computer.finish_text()?,
            channel.finish_text()?,
            provider.finish_text()?,
            self.version.finish_ref(),
            self.level.finish_ref(),
            self.keywords.finish_ref(),
            user.finish_text()?,
            self.process_id.finish_ref(),
            self.thread_id.finish_ref(),
            activity.finish_text()?,
            self.chunk.finish_ref(),
        ];
        for values in &mut self.values {
            columns.push(values.finish()?);
        }
        let offsets = std::mem::replace(&mut self.list_offsets, vec![0]);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let types = UInt8Array::new(
            ScalarBuffer::from(std::mem::take(&mut self.other_types)),
            None,
        );
        columns.push(self.misfits.finish_ref());
        let names = self.other_names.finish_text()?;
        columns.push(list(text_item(), offsets.clone(), names)?);
        let values = self.other_values.finish_text()?;
        columns.push(list(text_item(), offsets.clone(), values)?);
        columns.push(list(type_item(), offsets, Arc::new(types))?);
        Ok(RecordBatch::try_new(
            Arc::clone(&self.table.schema),
            columns,
        )?)
    }
}

/// Append a value to the lists.
fn push_other(
    (names, values, types): (&mut TextColumn, &mut TextColumn, &mut Vec<u8>),
    events: &Events<'_>,
    item: usize,
) {
    let text = |array: &StringArray, out: &mut TextColumn| {
        out.push_value(array.is_valid(item).then(|| array.value(item).as_bytes()));
    };
    text(events.names, names);
    text(events.values, values);
    types.push(events.types.value(item));
}
