//! Event rows, written column by column.
//!
//! A row is written while its record is decoded and becomes one by [`EventRows::commit`]. A record that
//! fails half-way leaves nothing behind: [`EventRows::roll_back`].

mod items;

use std::sync::Arc;

use arrow_array::builder::BooleanBuilder;
use arrow_array::types::{TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, RecordBatch, UInt8Array};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};

use super::columns::{NumberColumn, TextColumn, list};
use super::damage::Reason;
use super::schema::{events_schema, type_item};
use super::target::Column;
use super::time::filetime_nanoseconds;
use super::value;
use crate::error::CoreError;
use crate::flags::{self, Flags};
use crate::schema::{UTC, text_item};

/// Columns of numbers and times come first in [`Column`], texts behind them.
const NUMBERS: usize = Column::ProviderName as usize;
const TEXTS: usize = Column::COUNT - NUMBERS;

/// Bytes that a row has in columns of fixed width, about.
const FIXED_BYTES_PER_ROW: usize = 160;
/// Bytes of an item of the lists besides its texts: two offsets and a type.
const FIXED_BYTES_PER_ITEM: usize = 9;

/// What the frame of a record says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// From the start of the file, in bytes.
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) flags: Flags,
    pub(super) header_record_id: u64,
    /// A FILETIME; zero when unknown.
    pub(super) time_written: u64,
    /// Absent for a carved record outside of any chunk.
    pub(super) chunk: Option<u32>,
    pub(super) chunk_crc_ok: Option<bool>,
}

/// The row that is being written.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// One bit for each [`Column`] that has a value.
    set: u32,
    numbers: [u64; NUMBERS],
    flags: Flags,
    /// Whether the payload at hand is not the one that `payload_kind` names.
    in_other_payload: bool,
    outer_template: Option<[u8; 36]>,
    payload_template: Option<[u8; 36]>,
    /// Bytes of names and values before the row, and how many more it may write.
    text_start: usize,
    text_bytes_max: usize,
}

impl Row {
    fn new(text_start: usize, text_bytes_max: usize) -> Self {
        Self {
            set: 0,
            numbers: [0; NUMBERS],
            flags: flags::NONE,
            in_other_payload: false,
            outer_template: None,
            payload_template: None,
            text_start,
            text_bytes_max,
        }
    }
}

/// The columns of `evtx_events`.
#[derive(Debug)]
pub(super) struct EventRows {
    row: Row,
    offset: NumberColumn<UInt64Type>,
    length: NumberColumn<UInt64Type>,
    flags: NumberColumn<UInt32Type>,
    record_id: NumberColumn<UInt64Type>,
    header_record_id: NumberColumn<UInt64Type>,
    time_created: NumberColumn<TimestampNanosecondType>,
    time_written: NumberColumn<TimestampNanosecondType>,
    event_id: NumberColumn<UInt32Type>,
    qualifiers: NumberColumn<UInt32Type>,
    version: NumberColumn<UInt8Type>,
    level: NumberColumn<UInt8Type>,
    task: NumberColumn<UInt16Type>,
    opcode: NumberColumn<UInt8Type>,
    keywords: NumberColumn<UInt64Type>,
    process_id: NumberColumn<UInt32Type>,
    thread_id: NumberColumn<UInt32Type>,
    /// By [`Column`], from `ProviderName` on.
    texts: [TextColumn; TEXTS],
    payload_kind: TextColumn,
    list_offsets: Vec<i32>,
    names: TextColumn,
    values: TextColumn,
    item_types: Vec<u8>,
    template_id: TextColumn,
    chunk: NumberColumn<UInt32Type>,
    chunk_crc_ok: BooleanBuilder,
    /// How many rows, plus one, and items the last batch had.
    room: (usize, usize),
}

impl EventRows {
    pub(super) fn new() -> Self {
        Self {
            row: Row::new(0, 0),
            offset: NumberColumn::new(),
            length: NumberColumn::new(),
            flags: NumberColumn::new(),
            record_id: NumberColumn::new(),
            header_record_id: NumberColumn::new(),
            time_created: NumberColumn::new(),
            time_written: NumberColumn::new(),
            event_id: NumberColumn::new(),
            qualifiers: NumberColumn::new(),
            version: NumberColumn::new(),
            level: NumberColumn::new(),
            task: NumberColumn::new(),
            opcode: NumberColumn::new(),
            keywords: NumberColumn::new(),
            process_id: NumberColumn::new(),
            thread_id: NumberColumn::new(),
            texts: std::array::from_fn(|_| TextColumn::new()),
            payload_kind: TextColumn::new(),
            list_offsets: vec![0],
            names: TextColumn::new(),
            values: TextColumn::new(),
            item_types: Vec::new(),
            template_id: TextColumn::new(),
            chunk: NumberColumn::new(),
            chunk_crc_ok: BooleanBuilder::new(),
            room: (0, 0),
        }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.list_offsets.len() - 1
    }

    /// How many bytes the columns hold, about.
    pub(super) fn byte_size(&self) -> usize {
        let texts: usize = self.texts.iter().map(|column| column.bytes.len()).sum();
        texts
            + self.names.bytes.len()
            + self.values.bytes.len()
            + self.item_types.len() * FIXED_BYTES_PER_ITEM
            + self.len() * FIXED_BYTES_PER_ROW
    }

    /// Begin a row that may write `text_bytes_max` bytes of names and values.
    pub(super) fn begin(&mut self, text_bytes_max: usize) {
        if self.len() == 0 {
            self.reserve();
        }
        let text_start = self.names.bytes.len() + self.values.bytes.len();
        self.row = Row::new(text_start, text_bytes_max);
    }

    /// Make room for as much as the last batch had, or what a small log has: columns that grow step by step are copied often.
    #[cold]
    fn reserve(&mut self) {
        const ROWS: usize = 64;
        self.offset.reserve(ROWS);
        self.length.reserve(ROWS);
        self.flags.reserve(ROWS);
        self.record_id.reserve(ROWS);
        self.header_record_id.reserve(ROWS);
        self.time_created.reserve(ROWS);
        self.time_written.reserve(ROWS);
        self.event_id.reserve(ROWS);
        self.qualifiers.reserve(ROWS);
        self.version.reserve(ROWS);
        self.level.reserve(ROWS);
        self.task.reserve(ROWS);
        self.opcode.reserve(ROWS);
        self.keywords.reserve(ROWS);
        self.process_id.reserve(ROWS);
        self.thread_id.reserve(ROWS);
        for text in &mut self.texts {
            text.reserve(ROWS, 0);
        }
        self.payload_kind.reserve(ROWS, ROWS * 9);
        self.list_offsets.reserve(self.room.0.max(ROWS));
        self.names.reserve(ROWS * 16, ROWS * 160);
        self.values.reserve(ROWS * 16, ROWS * 160);
        self.item_types.reserve(self.room.1.max(ROWS * 16));
        self.template_id.reserve(ROWS, ROWS * 36);
        self.chunk.reserve(ROWS);
    }

    /// Bytes of names and values that the row has written.
    pub(super) fn text_bytes(&self) -> usize {
        self.names.bytes.len() + self.values.bytes.len() - self.row.text_start
    }

    /// Say something of the row.
    #[inline]
    pub(super) fn add_flags(&mut self, flags: Flags) {
        self.row.flags |= flags;
    }

    /// Whether the row has a value in `column` already.
    #[inline]
    pub(super) fn has(&self, column: Column) -> bool {
        self.row.set & (1 << column as u32) != 0
    }

    #[inline]
    fn mark(&mut self, column: Column) {
        self.row.set |= 1 << column as u32;
    }

    /// Give a column of numbers its value; it fits.
    #[inline]
    pub(super) fn set_number(&mut self, column: Column, value: u64) {
        if let Some(place) = self.row.numbers.get_mut(column as usize) {
            *place = value;
            self.mark(column);
        }
    }

    /// Give a time column its value.
    pub(super) fn set_time(&mut self, column: Column, nanoseconds: i64) {
        self.set_number(column, nanoseconds.cast_unsigned());
    }

    /// Give a text column what `write` writes, when it says that this fits.
    #[inline]
    pub(super) fn set_text(
        &mut self,
        column: Column,
        write: impl FnOnce(&mut Vec<u8>) -> Result<Option<Flags>, Reason>,
    ) -> Result<bool, Reason> {
        let place = (column as usize)
            .checked_sub(NUMBERS)
            .and_then(|place| self.texts.get_mut(place));
        let Some(text) = place else { return Ok(false) };
        match write(&mut text.bytes) {
            Ok(Some(flags)) => {
                self.row.flags |= flags;
                self.mark(column);
                Ok(true)
            }
            Ok(None) => {
                text.drop_written();
                Ok(false)
            }
            Err(reason) => {
                text.drop_written();
                Err(reason)
            }
        }
    }

    /// A payload element begins. The first one gives the row its `payload_kind`.
    pub(super) fn enter_payload(&mut self, kind: &str) {
        if self.payload_kind.written().is_empty() {
            self.payload_kind.bytes.extend_from_slice(kind.as_bytes());
            self.row.in_other_payload = false;
        } else {
            self.row.in_other_payload = self.payload_kind.written() != kind.as_bytes();
        }
    }

    /// The record's outermost template.
    pub(super) fn set_outer_template(&mut self, guid: &[u8; 36]) {
        self.row.outer_template.get_or_insert(*guid);
    }

    /// The template of the event's payload.
    pub(super) fn set_payload_template(&mut self, guid: &[u8; 36]) {
        self.row.payload_template.get_or_insert(*guid);
    }

    /// Whether the payload at hand is not the one that `payload_kind` names.
    pub(super) fn is_in_other_payload(&self) -> bool {
        self.row.in_other_payload
    }

    /// Take back everything that the row has written.
    pub(super) fn roll_back(&mut self) {
        let items = self
            .list_offsets
            .last()
            .map_or(0, |offset| *offset as usize);
        self.names.truncate(items);
        self.values.truncate(items);
        self.item_types.truncate(items);
        self.payload_kind.drop_written();
        for text in &mut self.texts {
            text.drop_written();
        }
    }

    /// Make the row one.
    pub(super) fn commit(&mut self, frame: &Frame) {
        let time_written = match frame.time_written {
            0 => None,
            ticks => self.time_written(ticks),
        };
        let row = self.row;
        let number = |column: Column| {
            (row.set & (1 << column as u32) != 0).then(|| row.numbers[column as usize])
        };
        // Numbers were checked against their column when they were set.
        self.offset.push(Some(frame.offset));
        self.length.push(Some(frame.length));
        self.flags.push(Some(frame.flags | row.flags));
        self.record_id.push(number(Column::RecordId));
        self.header_record_id.push(Some(frame.header_record_id));
        let time_created = number(Column::TimeCreated).map(u64::cast_signed);
        self.time_created.push(time_created);
        self.time_written.push(time_written);
        self.event_id
            .push(number(Column::EventId).map(|value| value as u32));
        self.qualifiers
            .push(number(Column::Qualifiers).map(|value| value as u32));
        self.version
            .push(number(Column::Version).map(|value| value as u8));
        self.level
            .push(number(Column::Level).map(|value| value as u8));
        self.task
            .push(number(Column::Task).map(|value| value as u16));
        self.opcode
            .push(number(Column::Opcode).map(|value| value as u8));
        self.keywords.push(number(Column::Keywords));
        self.process_id
            .push(number(Column::ProcessId).map(|value| value as u32));
        self.thread_id
            .push(number(Column::ThreadId).map(|value| value as u32));
        for (place, text) in self.texts.iter_mut().enumerate() {
            text.push(row.set & (1 << (NUMBERS + place)) != 0);
        }
        let has_payload = !self.payload_kind.written().is_empty();
        self.payload_kind.push(has_payload);
        self.list_offsets.push(self.names.len() as i32);
        let template = row.payload_template.or(row.outer_template);
        self.template_id
            .push_value(template.as_ref().map(<[u8; 36]>::as_slice));
        self.chunk.push(frame.chunk);
        self.chunk_crc_ok.append_option(frame.chunk_crc_ok);
    }

    /// The time of the record's header; when its column cannot hold it, the lists do.
    fn time_written(&mut self, ticks: u64) -> Option<i64> {
        let nanoseconds = filetime_nanoseconds(ticks);
        if nanoseconds.is_none() {
            self.row.flags |= flags::STRANGE_SYSTEM;
            self.names.push_value(Some(TIME_WRITTEN.as_bytes()));
            let bytes = ticks.to_le_bytes();
            let rendered = value::render(value::FILETIME, &bytes, &mut self.values.bytes);
            self.values.push(rendered.is_ok());
            self.item_types.push(value::FILETIME);
        }
        nanoseconds
    }

    /// All rows as one batch; no row is left.
    pub(super) fn finish(&mut self) -> Result<RecordBatch, CoreError> {
        self.room = (self.list_offsets.len(), self.item_types.len());
        let list_offsets = std::mem::replace(&mut self.list_offsets, vec![0]);
        let list_offsets = OffsetBuffer::new(ScalarBuffer::from(list_offsets));
        let types = std::mem::take(&mut self.item_types);
        let types = UInt8Array::new(ScalarBuffer::from(types), None);
        let mut texts = Vec::with_capacity(TEXTS);
        for column in &mut self.texts {
            texts.push(column.finish_text()?);
        }
        let text = |column: Column| Arc::clone(&texts[column as usize - NUMBERS]);
        let columns: Vec<ArrayRef> = vec![
            self.offset.finish_ref(),
            self.length.finish_ref(),
            self.flags.finish_ref(),
            self.record_id.finish_ref(),
            self.header_record_id.finish_ref(),
            Arc::new(self.time_created.finish().with_timezone(UTC)),
            Arc::new(self.time_written.finish().with_timezone(UTC)),
            text(Column::ProviderName),
            text(Column::ProviderGuid),
            text(Column::EventSourceName),
            self.event_id.finish_ref(),
            self.qualifiers.finish_ref(),
            self.version.finish_ref(),
            self.level.finish_ref(),
            self.task.finish_ref(),
            self.opcode.finish_ref(),
            self.keywords.finish_ref(),
            self.process_id.finish_ref(),
            self.thread_id.finish_ref(),
            text(Column::Channel),
            text(Column::Computer),
            text(Column::UserSid),
            text(Column::ActivityId),
            text(Column::RelatedActivityId),
            self.payload_kind.finish_text()?,
            list(text_item(), list_offsets.clone(), self.names.finish_text()?)?,
            list(
                text_item(),
                list_offsets.clone(),
                self.values.finish_text()?,
            )?,
            list(type_item(), list_offsets, Arc::new(types))?,
            self.template_id.finish_text()?,
            self.chunk.finish_ref(),
            Arc::new(self.chunk_crc_ok.finish()),
        ];
        Ok(RecordBatch::try_new(events_schema(), columns)?)
    }
}

/// The name in the lists of a header time that no column can hold.
const TIME_WRITTEN: &str = "Record/TimeWritten";
