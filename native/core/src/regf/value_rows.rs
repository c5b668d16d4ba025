//! Rows of values.
//!
//! A value's row is kept as one record and a few texts; its columns are made when a batch is finished, one after the other,
//! without a branch for what each value has or has not.

use std::sync::Arc;

use arrow_array::types::{ArrowPrimitiveType, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, BinaryArray, ListArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::base::BASE_BYTES;
use super::columns::{TextColumn, push_short, take};
use super::node::{DataPlace, NOWHERE, Value};
use super::problem::Problems;
use super::render::{self, Parts};
use super::rows::{FIXED_BYTES_PER_ROW, Found, PATH_BYTES_USUAL, Place};
use super::schema::values_schema;
use crate::error::CoreError;
use crate::flags::{self, Flags};
use crate::schema::text_item;

/// Whether the value has a name; the other bits are those of [`Parts`].
const HAS_NAME: u8 = 1 << 7;

/// What a row says, but for its texts.
#[derive(Debug, Clone, Copy)]
struct Row {
    number: u64,
    cell: u32,
    length: u32,
    flags: Flags,
    kind: u32,
    data_bytes: u32,
    /// Or [`NOWHERE`], as the next.
    data_cell: u32,
    key_cell: u32,
    /// Where its part of the texts ends.
    path_end: u32,
    name_end: u32,
    text_end: u32,
    raw_end: u32,
    list_end: u32,
    value_flags: u16,
    has: u8,
}

/// The columns of `registry_values`.
#[derive(Debug)]
pub(super) struct ValueRows {
    rows: Vec<Row>,
    path: Vec<u8>,
    name: Vec<u8>,
    text: Vec<u8>,
    raw: Vec<u8>,
    list: TextColumn,
    found: Found,
}

/// What a value's row says besides the value itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValueContext<'a> {
    pub(super) path: &'a [u8],
    pub(super) key_cell: Option<u32>,
    pub(super) data: Option<&'a [u8]>,
    pub(super) problems: Problems,
}

impl ValueRows {
    pub(super) fn new() -> Self {
        Self {
            rows: Vec::new(),
            path: Vec::new(),
            name: Vec::new(),
            text: Vec::new(),
            raw: Vec::new(),
            list: TextColumn::new(),
            found: Found::new(),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Make room for a batch.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.rows.reserve(rows);
        self.path.reserve(rows * PATH_BYTES_USUAL);
        self.name.reserve(rows * 16);
        self.text.reserve(rows * 32);
        self.raw.reserve(rows * 16);
    }

    /// How many bytes the columns hold, about.
    #[inline]
    pub(super) fn byte_size(&self) -> usize {
        self.path.len()
            + self.name.len()
            + self.text.len()
            + self.raw.len()
            + self.list.bytes.len()
            + self.len() * FIXED_BYTES_PER_ROW
    }

    #[inline]
    pub(super) fn push(&mut self, place: &Place, value: &Value<'_>, context: &ValueContext<'_>) {
        let mut problems = context.problems;
        let mut lossy = false;
        let mut has = 0;
        if let Some(name) = value.name {
            lossy = name.push_to(&mut self.name);
            has = HAS_NAME;
        }
        let mut parts = Parts {
            text: &mut self.text,
            list: &mut self.list,
            raw: &mut self.raw,
        };
        let is_cut = !problems.is_none();
        let rendered = parts.push(value.kind, context.data, is_cut);
        problems.add(rendered.problems);
        lossy |= rendered.is_lossy;
        push_short(&mut self.path, context.path);
        let lossy_flag = if lossy {
            flags::LOSSY_TEXT
        } else {
            flags::NONE
        };
        // Batches are flushed long before 31 bits are used up.
        self.rows.push(Row {
            number: rendered.number,
            cell: place.cell,
            length: place.length as u32,
            flags: place.flags | lossy_flag,
            kind: value.kind,
            data_bytes: value.data_bytes,
            data_cell: match value.data {
                DataPlace::Inline(_) => NOWHERE,
                DataPlace::Cell(place) => place,
            },
            key_cell: context.key_cell.unwrap_or(NOWHERE),
            path_end: self.path.len() as u32,
            name_end: self.name.len() as u32,
            text_end: self.text.len() as u32,
            raw_end: self.raw.len() as u32,
            list_end: self.list.len() as u32,
            value_flags: value.flags,
            has: has | rendered.has,
        });
        self.found.push(place, problems);
    }

    /// All rows as one batch; no row is left.
    pub(super) fn finish(&mut self) -> Result<RecordBatch, CoreError> {
        let rows = &self.rows;
        let has = |bit| nulls(rows, move |row| row.has & bit != 0);
        let text = |bytes: &mut Vec<u8>, end: fn(&Row) -> u32, valid| {
            StringArray::try_new(offsets(rows, end), Buffer::from_vec(take(bytes)), valid)
        };
        let raw = Buffer::from_vec(take(&mut self.raw));
        let raw = BinaryArray::try_new(offsets(rows, |row| row.raw_end), raw, has(Parts::RAW))?;
        let list_ends = offsets(rows, |row| row.list_end);
        let items = self.list.finish_text()?;
        let list = ListArray::try_new(text_item(), list_ends, items, has(Parts::LIST))?;
        let [state, from_log, problems] = self.found.finish()?;
        let base = BASE_BYTES as u64;
        let columns: Vec<ArrayRef> = vec![
            numbers::<UInt64Type>(rows, |row| base + u64::from(row.cell), None),
            numbers::<UInt64Type>(rows, |row| row.length.into(), None),
            numbers::<UInt32Type>(rows, |row| row.flags, None),
            Arc::new(text(&mut self.path, |row| row.path_end, None)?),
            Arc::new(text(&mut self.name, |row| row.name_end, has(HAS_NAME))?),
            numbers::<UInt32Type>(rows, |row| row.kind, None),
            Arc::new(kind_names(rows)?),
            Arc::new(text(&mut self.text, |row| row.text_end, has(Parts::TEXT))?),
            numbers::<UInt64Type>(rows, |row| row.number, has(Parts::NUMBER)),
            Arc::new(list),
            Arc::new(raw),
            numbers::<UInt32Type>(rows, |row| row.data_bytes, None),
            references(rows, |row| row.data_cell),
            references(rows, |row| row.key_cell),
            numbers::<UInt32Type>(rows, |row| row.cell, None),
            numbers::<UInt32Type>(rows, |row| row.value_flags.into(), None),
            state,
            from_log,
            problems,
        ];
        self.rows.clear();
        Ok(RecordBatch::try_new(values_schema(), columns)?)
    }
}

/// A column of numbers.
fn numbers<T: ArrowPrimitiveType>(
    rows: &[Row],
    number: impl Fn(&Row) -> T::Native,
    valid: Option<NullBuffer>,
) -> ArrayRef {
    let numbers: Vec<T::Native> = rows.iter().map(number).collect();
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(numbers), valid))
}

/// A column of references, of which those to nothing are missing.
fn references(rows: &[Row], place: impl Fn(&Row) -> u32) -> ArrayRef {
    let valid = nulls(rows, |row| place(row) != NOWHERE);
    let known = |row: &Row| match place(row) {
        NOWHERE => 0,
        place => place,
    };
    numbers::<UInt32Type>(rows, known, valid)
}

/// Which rows have something; none when all have.
fn nulls(rows: &[Row], is_there: impl Fn(&Row) -> bool) -> Option<NullBuffer> {
    let bit = |word, row| word << 1 | u64::from(is_there(row));
    let words: Vec<u64> = rows
        .chunks(64)
        .map(|rows| rows.iter().rev().fold(0, bit))
        .collect();
    let bits = BooleanBuffer::new(Buffer::from_vec(words), 0, rows.len());
    let nulls = NullBuffer::new(bits);
    (nulls.null_count() > 0).then_some(nulls)
}

/// The offsets of items that end where `end` says.
fn offsets(rows: &[Row], end: impl Fn(&Row) -> u32) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(rows.len() + 1);
    offsets.push(0);
    offsets.extend(rows.iter().map(|row| end(row) as i32));
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

/// The names of all rows' types.
fn kind_names(rows: &[Row]) -> Result<StringArray, CoreError> {
    let mut names = Vec::with_capacity(rows.len() * 12);
    let mut ends = Vec::with_capacity(rows.len() + 1);
    ends.push(0);
    for row in rows {
        render::push_kind(&mut names, row.kind);
        ends.push(names.len() as i32);
    }
    let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
    Ok(StringArray::try_new(ends, Buffer::from_vec(names), None)?)
}
