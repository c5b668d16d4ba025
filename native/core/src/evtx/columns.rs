//! Growing columns: values are appended, the last ones can be taken back, and all become one array.

use std::sync::Arc;

use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{ArrayRef, BinaryArray, ListArray, PrimitiveArray, StringArray};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, FieldRef};

/// Which items are missing, as positions where a run of them starts and ends: in most columns few or nearly all are.
#[derive(Debug, Default)]
struct Nulls(Vec<(u32, u32)>);

impl Nulls {
    #[inline]
    fn push(&mut self, position: usize) {
        // Batches are flushed long before 32 bits are used up.
        let position = position as u32;
        match self.0.last_mut() {
            Some((_, end)) if *end == position => *end += 1,
            _ => self.0.push((position, position + 1)),
        }
    }

    fn truncate(&mut self, count: usize) {
        while let Some((start, end)) = self.0.last_mut() {
            if *end as usize <= count {
                break;
            }
            if (*start as usize) < count {
                *end = count as u32;
                break;
            }
            self.0.pop();
        }
    }

    /// The validity of `count` items; no position is left.
    fn finish(&mut self, count: usize) -> Option<NullBuffer> {
        if self.0.is_empty() {
            return None;
        }
        let mut valid = BooleanBufferBuilder::new(count);
        for (start, end) in self.0.drain(..) {
            valid.append_n(start as usize - valid.len(), true);
            valid.append_n((end - start) as usize, false);
        }
        valid.append_n(count - valid.len(), true);
        Some(NullBuffer::new(valid.finish()))
    }
}

/// A column of numbers or times, each of which may be missing.
#[derive(Debug)]
pub(super) struct NumberColumn<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    nulls: Nulls,
    /// How many values the last array had.
    room: usize,
}

impl<T: ArrowPrimitiveType> NumberColumn<T> {
    pub(super) fn new() -> Self {
        Self {
            values: Vec::new(),
            nulls: Nulls::default(),
            room: 0,
        }
    }

    #[inline]
    pub(super) fn push(&mut self, value: Option<T::Native>) {
        if value.is_none() {
            self.nulls.push(self.values.len());
        }
        self.values.push(value.unwrap_or_default());
    }

    /// Make room for as many values as the last array had, `least` at least.
    pub(super) fn reserve(&mut self, least: usize) {
        self.values.reserve(self.room.max(least));
    }

    /// The array of all values; the column is empty afterwards.
    pub(super) fn finish(&mut self) -> PrimitiveArray<T> {
        self.room = self.values.len();
        let values = std::mem::take(&mut self.values);
        let nulls = self.nulls.finish(values.len());
        PrimitiveArray::new(ScalarBuffer::from(values), nulls)
    }

    pub(super) fn finish_ref(&mut self) -> ArrayRef {
        Arc::new(self.finish())
    }
}

/// A column of texts or bytes.
///
/// A value is written at the end of [`TextColumn::bytes`] first and becomes an item by
/// [`TextColumn::push`]; until then it can be dropped.
#[derive(Debug)]
pub(super) struct TextColumn {
    /// All items, one behind the other, and what is being written.
    pub(super) bytes: Vec<u8>,
    offsets: Vec<i32>,
    nulls: Nulls,
    /// How many offsets and bytes the last array had.
    room: (usize, usize),
}

impl TextColumn {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            offsets: vec![0],
            nulls: Nulls::default(),
            room: (0, 0),
        }
    }

    /// How many items there are.
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Make room for as much as the last array had, `least` items and `least_bytes` bytes at least.
    pub(super) fn reserve(&mut self, least: usize, least_bytes: usize) {
        let (offsets, bytes) = self.room;
        self.offsets.reserve(offsets.max(least));
        self.bytes.reserve(bytes.max(least_bytes));
    }

    /// Where the next item's bytes begin.
    #[inline]
    fn item_start(&self) -> usize {
        self.offsets.last().map_or(0, |offset| *offset as usize)
    }

    /// Make an item of what was written, or a null.
    #[inline]
    pub(super) fn push(&mut self, is_valid: bool) {
        if !is_valid {
            self.drop_written();
            self.nulls.push(self.len());
        }
        // Batches are flushed long before 31 bits are used up.
        self.offsets.push(self.bytes.len() as i32);
    }

    /// Append a whole item.
    #[inline]
    pub(super) fn push_value(&mut self, value: Option<&[u8]>) {
        if let Some(value) = value {
            push_short(&mut self.bytes, value);
        }
        self.push(value.is_some());
    }

    /// Append several items at once: `ends` are their ends in `values`, `nulls` the positions of
    /// those that are missing.
    pub(super) fn push_values(&mut self, values: &[u8], ends: &[u32], nulls: &[u32]) {
        let start = self.bytes.len() as i32;
        for null in nulls {
            self.nulls.push(self.len() + *null as usize);
        }
        self.bytes.extend_from_slice(values);
        self.offsets
            .extend(ends.iter().map(|end| start + end.cast_signed()));
    }

    /// What was written since the last item.
    pub(super) fn written(&self) -> &[u8] {
        self.bytes.get(self.item_start()..).unwrap_or_default()
    }

    /// Drop what was written since the last item.
    #[inline]
    pub(super) fn drop_written(&mut self) {
        self.bytes.truncate(self.item_start());
    }

    /// Take back all items behind the first `count`, and what was written.
    pub(super) fn truncate(&mut self, count: usize) {
        self.offsets.truncate(count + 1);
        self.nulls.truncate(count);
        self.drop_written();
    }

    fn finish_parts(&mut self) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        let nulls = self.nulls.finish(self.len());
        self.room = (self.offsets.len(), self.bytes.len());
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let bytes = std::mem::take(&mut self.bytes);
        (
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Buffer::from_vec(bytes),
            nulls,
        )
    }

    /// All items as texts; the column is empty afterwards.
    ///
    /// # Errors
    /// When an item is not UTF-8, which would be a fault of the decoder.
    pub(super) fn finish_text(&mut self) -> Result<ArrayRef, ArrowError> {
        let (offsets, bytes, valid) = self.finish_parts();
        Ok(Arc::new(StringArray::try_new(offsets, bytes, valid)?))
    }

    /// All items as bytes; the column is empty afterwards.
    ///
    /// # Errors
    /// When the parts do not fit together, which would be a fault of the decoder.
    pub(super) fn finish_binary(&mut self) -> Result<ArrayRef, ArrowError> {
        let (offsets, bytes, valid) = self.finish_parts();
        Ok(Arc::new(BinaryArray::try_new(offsets, bytes, valid)?))
    }
}

/// A list column of items that were collected elsewhere.
pub(super) fn list(
    item: FieldRef,
    offsets: OffsetBuffer<i32>,
    items: ArrayRef,
) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(ListArray::try_new(item, offsets, items, None)?))
}

/// Append bytes that are few as a rule: short ones are copied without a call.
#[inline]
pub(super) fn push_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let (blocks, rest) = bytes.as_chunks::<16>();
    if blocks.len() > 2 {
        out.extend_from_slice(bytes);
        return;
    }
    for block in blocks {
        out.extend_from_slice(block);
    }
    if let Some(last) = bytes.last_chunk::<16>() {
        // What is left is the end of the last sixteen bytes: write it over those that are there.
        out.truncate(out.len() + rest.len() - 16);
        out.extend_from_slice(last);
        return;
    }
    let (blocks, rest) = rest.as_chunks::<4>();
    for block in blocks {
        out.extend_from_slice(block);
    }
    for byte in rest {
        out.push(*byte);
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;

    use super::*;

    #[test]
    fn runs_of_nulls_that_are_cut_and_begun_again_stay_where_they_were() {
        let mut column = TextColumn::new();
        for value in [None, Some("a"), None, None, None, Some("b")] {
            column.push_value(value.map(str::as_bytes));
        }
        column.truncate(4);
        column.push_value(Some(b"c"));
        column.push_value(None);
        let array = column.finish_text().unwrap();
        let valid: Vec<bool> = (0..array.len()).map(|item| array.is_valid(item)).collect();
        assert_eq!(valid, [false, true, false, false, true, false]);
        column.push_value(Some(b"d"));
        assert_eq!(column.finish_text().unwrap().null_count(), 0);
    }
}
