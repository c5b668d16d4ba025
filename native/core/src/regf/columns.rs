//! Growing columns: values are appended, and all become one array.

use std::sync::Arc;

use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{ArrayRef, BooleanArray, ListArray, PrimitiveArray, StringArray};
use arrow_buffer::{
    BooleanBuffer, BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer,
};
use arrow_schema::{ArrowError, FieldRef};

/// One bit for each item.
#[derive(Debug, Default)]
struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    #[inline]
    fn push(&mut self, bit: bool) {
        let place = self.len % 64;
        if place == 0 {
            self.words.push(0);
        }
        if let Some(word) = self.words.last_mut() {
            *word |= u64::from(bit) << place;
        }
        self.len += 1;
    }

    fn finish(&mut self) -> BooleanBuffer {
        let len = std::mem::take(&mut self.len);
        let words = std::mem::take(&mut self.words);
        BooleanBuffer::new(Buffer::from_vec(words), 0, len)
    }
}

/// Which items are missing, as runs: in turn so many that are there, and so many that are not.
#[derive(Debug, Default)]
struct Validity {
    runs: Vec<u32>,
    /// Length of the last run, which is not in `runs` yet, and whether its items are missing.
    last: u32,
    is_missing: bool,
}

impl Validity {
    #[inline]
    fn push(&mut self, is_valid: bool) {
        if is_valid == self.is_missing {
            self.runs.push(self.last);
            self.last = 0;
            self.is_missing = !is_valid;
        }
        self.last += 1;
    }

    /// As many missing items at once.
    fn push_nulls(&mut self, count: usize) {
        if count > 0 {
            self.push(false);
            self.last += count as u32 - 1;
        }
    }

    fn finish(&mut self) -> Option<NullBuffer> {
        let mut runs = std::mem::take(&mut self.runs);
        runs.push(std::mem::take(&mut self.last));
        self.is_missing = false;
        // One run only: nothing is missing.
        if runs.len() == 1 {
            return None;
        }
        let items = runs.iter().map(|run| *run as usize).sum();
        let mut bits = BooleanBufferBuilder::new(items);
        let mut is_valid = true;
        for run in runs {
            bits.append_n(run as usize, is_valid);
            is_valid = !is_valid;
        }
        Some(NullBuffer::new(bits.finish()))
    }
}

/// An array's worth of a vector, which keeps room for as many.
pub(super) fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len() + values.len() / 8);
    std::mem::replace(values, room)
}

/// A column of numbers or times.
#[derive(Debug)]
pub(super) struct NumberColumn<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    validity: Validity,
}

impl<T: ArrowPrimitiveType> NumberColumn<T> {
    pub(super) fn new() -> Self {
        Self {
            values: Vec::new(),
            validity: Validity::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Make room for this many items.
    pub(super) fn reserve(&mut self, items: usize) {
        self.values.reserve(items);
    }

    #[inline]
    pub(super) fn push(&mut self, value: impl Into<Option<T::Native>>) {
        let value = value.into();
        self.validity.push(value.is_some());
        self.values.push(value.unwrap_or_default());
    }

    /// Append to a column none of whose items is missing.
    #[inline]
    pub(super) fn push_known(&mut self, value: T::Native) {
        self.values.push(value);
    }

    /// The array of all values; the column is empty afterwards.
    pub(super) fn finish(&mut self) -> PrimitiveArray<T> {
        let values = take(&mut self.values);
        PrimitiveArray::new(ScalarBuffer::from(values), self.validity.finish())
    }

    pub(super) fn finish_ref(&mut self) -> ArrayRef {
        Arc::new(self.finish())
    }
}

/// A column of truth values, all of them known.
#[derive(Debug, Default)]
pub(super) struct BoolColumn(Bits);

impl BoolColumn {
    pub(super) fn push(&mut self, value: bool) {
        self.0.push(value);
    }

    pub(super) fn finish_ref(&mut self) -> ArrayRef {
        Arc::new(BooleanArray::new(self.0.finish(), None))
    }
}

/// A column of texts or bytes.
///
/// A value is written at the end of [`TextColumn::bytes`] first and becomes an item by [`TextColumn::push`].
#[derive(Debug)]
pub(super) struct TextColumn {
    /// All items, one behind the other, and what is being written.
    pub(super) bytes: Vec<u8>,
    offsets: Vec<i32>,
    validity: Validity,
    /// Items that are missing before the first that is not: most columns of this kind have no other.
    leading_nulls: usize,
}

impl TextColumn {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            offsets: vec![0],
            validity: Validity::default(),
            leading_nulls: 0,
        }
    }

    /// How many items there are.
    pub(super) fn len(&self) -> usize {
        self.leading_nulls + self.offsets.len() - 1
    }

    /// Write the missing items that were only counted.
    #[cold]
    fn write_leading_nulls(&mut self) {
        let count = std::mem::take(&mut self.leading_nulls);
        self.offsets.resize(1 + count, 0);
        self.validity.push_nulls(count);
    }

    /// Make room for this many items of so many bytes each.
    pub(super) fn reserve(&mut self, items: usize, bytes_each: usize) {
        self.offsets.reserve(items);
        self.bytes.reserve(items * bytes_each);
    }

    /// Make an item of what was written.
    #[inline]
    pub(super) fn push(&mut self) {
        if self.leading_nulls > 0 {
            self.write_leading_nulls();
        }
        self.validity.push(true);
        // Batches are flushed long before 31 bits are used up.
        self.offsets.push(self.bytes.len() as i32);
    }

    /// Append a whole item.
    #[inline]
    pub(super) fn push_value(&mut self, value: &[u8]) {
        push_short(&mut self.bytes, value);
        self.push();
    }

    /// Append the same item so many times, to a column without missing items.
    pub(super) fn push_repeated(&mut self, value: &[u8], count: usize) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&value.repeat(count));
        let ends = (1..=count).map(|number| (start + number * value.len()) as i32);
        self.offsets.extend(ends);
    }

    /// Append a missing item; nothing was written.
    #[inline]
    pub(super) fn push_null(&mut self) {
        if self.offsets.len() == 1 {
            self.leading_nulls += 1;
            return;
        }
        self.validity.push(false);
        self.offsets.push(self.bytes.len() as i32);
    }

    #[inline]
    pub(super) fn push_text(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.push_value(value.as_bytes()),
            None => self.push_null(),
        }
    }

    fn finish_parts(&mut self) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        if self.leading_nulls > 0 {
            self.write_leading_nulls();
        }
        let mut offsets = Vec::with_capacity(self.offsets.len());
        offsets.push(0);
        let offsets = std::mem::replace(&mut self.offsets, offsets);
        (
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Buffer::from_vec(take(&mut self.bytes)),
            self.validity.finish(),
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
}

/// A column of lists of texts.
#[derive(Debug)]
pub(super) struct ListColumn {
    pub(super) items: TextColumn,
    offsets: Vec<i32>,
    validity: Validity,
    /// As those of a [`TextColumn`].
    leading_nulls: usize,
}

impl ListColumn {
    pub(super) fn new() -> Self {
        Self {
            items: TextColumn::new(),
            offsets: vec![0],
            validity: Validity::default(),
            leading_nulls: 0,
        }
    }

    #[cold]
    fn write_leading_nulls(&mut self) {
        let count = std::mem::take(&mut self.leading_nulls);
        self.offsets.resize(1 + count, 0);
        self.validity.push_nulls(count);
    }

    /// Make a list of the items that were added since the last one.
    #[inline]
    pub(super) fn push(&mut self) {
        if self.leading_nulls > 0 {
            self.write_leading_nulls();
        }
        self.validity.push(true);
        self.offsets.push(self.items.len() as i32);
    }

    /// Append a missing list; no item was added.
    #[inline]
    pub(super) fn push_null(&mut self) {
        if self.offsets.len() == 1 {
            self.leading_nulls += 1;
            return;
        }
        self.validity.push(false);
        self.offsets.push(self.items.len() as i32);
    }

    /// Append a list of texts.
    pub(super) fn push_texts(&mut self, texts: impl IntoIterator<Item = &'static str>) {
        for text in texts {
            self.items.push_value(text.as_bytes());
        }
        self.push();
    }

    /// All lists; the column is empty afterwards.
    ///
    /// # Errors
    /// When an item is not UTF-8, which would be a fault of the decoder.
    pub(super) fn finish(&mut self, item: FieldRef) -> Result<ArrayRef, ArrowError> {
        if self.leading_nulls > 0 {
            self.write_leading_nulls();
        }
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let items = self.items.finish_text()?;
        let valid = self.validity.finish();
        Ok(Arc::new(ListArray::try_new(item, offsets, items, valid)?))
    }
}

/// Append bytes that are few as a rule: short ones are copied without a call.
#[inline]
pub(super) fn push_short(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() > 48 {
        out.extend_from_slice(bytes);
        return;
    }
    let end = out.len() + bytes.len();
    let (blocks, _) = bytes.as_chunks::<16>();
    if let Some(last) = bytes.last_chunk::<16>() {
        for block in blocks {
            out.extend_from_slice(block);
        }
        // What is left is the end of the last sixteen bytes: write it over those that are there.
        out.truncate(end - 16);
        out.extend_from_slice(last);
        return;
    }
    out.extend_from_slice(&padded(bytes).to_le_bytes());
    out.truncate(end);
}

/// Append bytes that are few as a rule, when they are ASCII. Returns whether they are.
#[inline]
pub(super) fn push_short_ascii(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    const HIGH: u128 = u128::from_le_bytes([0x80; 16]);
    if bytes.len() < 16 {
        let number = padded(bytes);
        if number & HIGH != 0 {
            return false;
        }
        let end = out.len() + bytes.len();
        out.extend_from_slice(&number.to_le_bytes());
        out.truncate(end);
        return true;
    }
    if !bytes.is_ascii() {
        return false;
    }
    push_short(out, bytes);
    true
}

/// Fewer than sixteen bytes as the lowest ones of a number, read from both ends.
#[inline]
fn padded(bytes: &[u8]) -> u128 {
    let join = |first: u64, last: u64, width: usize| {
        u128::from(first) | u128::from(last) << ((bytes.len() - width) * 8)
    };
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return join(u64::from_le_bytes(*first), u64::from_le_bytes(*last), 8);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return join(first.into(), last.into(), 4);
    }
    let number = |sum, byte: &u8| sum << 8 | u128::from(*byte);
    bytes.iter().rev().fold(0, number)
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_array::types::UInt32Type;

    use super::*;

    #[test]
    fn short_bytes_are_copied_whole() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..=100 {
            let mut out = b"before".to_vec();
            push_short(&mut out, &bytes[..length]);
            assert_eq!(out[6..], bytes[..length]);
            for high in [None, Some(0), length.checked_sub(1)] {
                let mut bytes = bytes[..length].to_vec();
                let high = high.and_then(|place| bytes.get_mut(place));
                let is_ascii = high.map(|byte| *byte |= 0x80).is_none();
                let mut out = b"before".to_vec();
                assert_eq!(push_short_ascii(&mut out, &bytes), is_ascii);
                assert_eq!(&out[6..], if is_ascii { &bytes[..] } else { &[] });
            }
        }
    }

    #[test]
    fn texts_and_lists_may_begin_with_nulls() {
        for first in [0, 1, 64, 100] {
            let mut texts = TextColumn::new();
            let mut lists = ListColumn::new();
            for place in 0..130 {
                if place == first || place > first && place % 2 == 0 {
                    texts.push_text(Some("text"));
                    lists.push_texts(["item"; 2]);
                } else {
                    texts.push_null();
                    lists.push_null();
                }
                assert_eq!(texts.len(), place + 1);
            }
            let texts = texts.finish_text().unwrap();
            let item = Arc::new(arrow_schema::Field::new(
                "item",
                texts.data_type().clone(),
                true,
            ));
            let lists = lists.finish(item).unwrap();
            assert_eq!((texts.len(), lists.len()), (130, 130));
            for place in 0..130 {
                let expected = place == first || place > first && place % 2 == 0;
                assert_eq!(
                    (texts.is_valid(place), lists.is_valid(place)),
                    (expected, expected)
                );
            }
        }
        let mut nothing = TextColumn::new();
        nothing.push_null();
        assert_eq!(nothing.finish_text().unwrap().null_count(), 1);
        assert_eq!(nothing.len(), 0);
    }

    #[test]
    fn nulls_may_begin_anywhere() {
        for first in [0, 1, 63, 64, 65, 130] {
            let mut column = NumberColumn::<UInt32Type>::new();
            for place in 0..200_u32 {
                column.push((place < first || place % 3 == 0).then_some(place));
            }
            let array = column.finish();
            for place in 0..200 {
                let expected = place < first || place % 3 == 0;
                assert_eq!(array.is_valid(place as usize), expected);
            }
            column.push(7);
            assert_eq!(column.finish().null_count(), 0);
        }
    }
}
