//! The values of one column, from the first row of a batch to its last.
//!
//! Arrow's own builders cannot take a value back; here a row that turns out not to fit is cut off again.

use std::sync::Arc;

use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, ListArray, PrimitiveArray, StringArray,
};
use arrow_buffer::{
    BooleanBuffer, BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer,
};
use arrow_schema::{DataType, Field, TimeUnit};

use crate::error::CoreError;
use crate::text::{Format, Type, Unit, Value};

/// Values of one type, some of them null.
#[derive(Debug)]
pub struct Column {
    data_type: DataType,
    values: Values,
    /// Which are not null; nothing while none is.
    valid: Option<BooleanBufferBuilder>,
    length: usize,
}

#[derive(Debug)]
enum Values {
    Bool(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
    Text {
        offsets: Vec<i32>,
        bytes: Vec<u8>,
    },
    List {
        offsets: Vec<i32>,
        items: Box<Column>,
    },
}

impl Column {
    /// An empty column for what `format` reads.
    #[must_use]
    pub fn new(format: &Format) -> Self {
        let mut column = Self::of(format.kind());
        for _ in 0..format.lists() {
            column = Self {
                data_type: DataType::List(Arc::new(Field::new(
                    "item",
                    column.data_type.clone(),
                    true,
                ))),
                values: Values::List {
                    offsets: vec![0],
                    items: Box::new(column),
                },
                valid: None,
                length: 0,
            };
        }
        column
    }

    fn of(kind: Type) -> Self {
        let (data_type, values) = match kind {
            Type::Bool => (DataType::Boolean, Values::Bool(Vec::new())),
            Type::Int { bits: 8 } => (DataType::Int8, Values::Int8(Vec::new())),
            Type::Int { bits: 16 } => (DataType::Int16, Values::Int16(Vec::new())),
            Type::Int { bits: 32 } => (DataType::Int32, Values::Int32(Vec::new())),
            Type::Int { .. } => (DataType::Int64, Values::Int64(Vec::new())),
            Type::UInt { bits: 8 } => (DataType::UInt8, Values::UInt8(Vec::new())),
            Type::UInt { bits: 16 } => (DataType::UInt16, Values::UInt16(Vec::new())),
            Type::UInt { bits: 32 } => (DataType::UInt32, Values::UInt32(Vec::new())),
            Type::UInt { .. } => (DataType::UInt64, Values::UInt64(Vec::new())),
            Type::Float32 => (DataType::Float32, Values::Float32(Vec::new())),
            Type::Float64 => (DataType::Float64, Values::Float64(Vec::new())),
            Type::Decimal { precision, scale } => (
                // A scale is at most 38.
                DataType::Decimal128(precision, scale.cast_signed()),
                Values::Decimal(Vec::new()),
            ),
            Type::Utf8 => (
                DataType::Utf8,
                Values::Text {
                    offsets: vec![0],
                    bytes: Vec::new(),
                },
            ),
            Type::Date => (DataType::Date32, Values::Int32(Vec::new())),
            Type::Time => (
                DataType::Time64(TimeUnit::Microsecond),
                Values::Int64(Vec::new()),
            ),
            Type::Timestamp { unit, utc } => {
                let unit = match unit {
                    Unit::Second => TimeUnit::Second,
                    Unit::Milli => TimeUnit::Millisecond,
                    Unit::Micro => TimeUnit::Microsecond,
                    Unit::Nano => TimeUnit::Nanosecond,
                };
                let zone = utc.then(|| "UTC".into());
                (DataType::Timestamp(unit, zone), Values::Int64(Vec::new()))
            }
        };
        Self {
            data_type,
            values,
            valid: None,
            length: 0,
        }
    }

    /// Its Arrow type.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// How many values it has, nulls included.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many bytes its texts take; numbers are not counted.
    pub fn text_bytes(&self) -> usize {
        match &self.values {
            Values::Text { bytes, .. } => bytes.len(),
            Values::List { items, .. } => items.text_bytes() + items.len() * 8,
            _ => 0,
        }
    }

    /// Append a value, which is of the column's type; whether it was.
    #[inline]
    pub fn push(&mut self, value: Value<'_>) -> bool {
        match (&mut self.values, value) {
            (Values::Text { offsets, bytes }, Value::Text(text)) => {
                bytes.extend_from_slice(text.as_bytes());
                offsets.push(bytes.len() as i32);
            }
            (
                Values::Int64(values),
                Value::Int(value) | Value::Time(value) | Value::Timestamp(value),
            ) => {
                values.push(value);
            }
            (Values::Bool(values), Value::Bool(value)) => values.push(value),
            // The format has shown that a value fits the width.
            (Values::Int8(values), Value::Int(value)) => values.push(value as i8),
            (Values::Int16(values), Value::Int(value)) => values.push(value as i16),
            (Values::Int32(values), Value::Int(value)) => values.push(value as i32),
            (Values::Int32(values), Value::Date(value)) => values.push(value),
            (Values::UInt8(values), Value::UInt(value)) => values.push(value as u8),
            (Values::UInt16(values), Value::UInt(value)) => values.push(value as u16),
            (Values::UInt32(values), Value::UInt(value)) => values.push(value as u32),
            (Values::UInt64(values), Value::UInt(value)) => values.push(value),
            (Values::Float32(values), Value::Float(value)) => values.push(value as f32),
            (Values::Float64(values), Value::Float(value)) => values.push(value),
            (Values::Decimal(values), Value::Decimal(value)) => values.push(value),
            _ => return false,
        }
        self.appended(true);
        true
    }

    /// Append a null.
    pub fn push_null(&mut self) {
        match &mut self.values {
            Values::Text { offsets, bytes } => offsets.push(bytes.len() as i32),
            Values::List { offsets, items } => offsets.push(items.len() as i32),
            Values::Bool(values) => values.push(false),
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) => values.push(0),
            Values::Int64(values) => values.push(0),
            Values::UInt8(values) => values.push(0),
            Values::UInt16(values) => values.push(0),
            Values::UInt32(values) => values.push(0),
            Values::UInt64(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal(values) => values.push(0),
        }
        self.appended(false);
    }

    /// The column of a list's items; a list is these, once [`Column::close_list`] is called.
    pub fn items(&mut self) -> Option<&mut Self> {
        match &mut self.values {
            Values::List { items, .. } => Some(items),
            _ => None,
        }
    }

    /// Append the list of all items that came since the last one.
    pub fn close_list(&mut self) {
        if let Values::List { offsets, items } = &mut self.values {
            offsets.push(items.len() as i32);
            self.appended(true);
        }
    }

    #[inline]
    fn appended(&mut self, is_valid: bool) {
        match &mut self.valid {
            Some(valid) => valid.append(is_valid),
            None if is_valid => {}
            None => {
                let mut valid = BooleanBufferBuilder::new(self.length + 1);
                valid.append_n(self.length, true);
                valid.append(false);
                self.valid = Some(valid);
            }
        }
        self.length += 1;
    }

    /// Keep the first `length` values only, and of a list no item that is in none of them.
    pub fn truncate(&mut self, length: usize) {
        match &mut self.values {
            Values::Text { offsets, bytes } => {
                offsets.truncate(length + 1);
                bytes.truncate(offsets.last().map_or(0, |end| *end as usize));
            }
            Values::List { offsets, items } => {
                offsets.truncate(length + 1);
                items.truncate(offsets.last().map_or(0, |end| *end as usize));
            }
            Values::Bool(values) => values.truncate(length),
            Values::Int8(values) => values.truncate(length),
            Values::Int16(values) => values.truncate(length),
            Values::Int32(values) => values.truncate(length),
            Values::Int64(values) => values.truncate(length),
            Values::UInt8(values) => values.truncate(length),
            Values::UInt16(values) => values.truncate(length),
            Values::UInt32(values) => values.truncate(length),
            Values::UInt64(values) => values.truncate(length),
            Values::Float32(values) => values.truncate(length),
            Values::Float64(values) => values.truncate(length),
            Values::Decimal(values) => values.truncate(length),
        }
        if let Some(valid) = &mut self.valid {
            valid.truncate(length.min(self.length));
        }
        self.length = self.length.min(length);
    }

    /// All values as an array; none is left.
    ///
    /// # Errors
    /// [`CoreError::Arrow`]: a bug, as every value was checked.
    pub fn finish(&mut self) -> Result<ArrayRef, CoreError> {
        let valid = self.valid.take();
        let nulls = valid.map(|mut valid| NullBuffer::new(valid.finish()));
        let data_type = &self.data_type;
        self.length = 0;
        Ok(match &mut self.values {
            Values::Bool(values) => {
                let bits = BooleanBuffer::from(std::mem::take(values));
                Arc::new(BooleanArray::new(bits, nulls))
            }
            Values::Int8(values) => primitive::<Int8Type>(values, nulls, data_type),
            Values::Int16(values) => primitive::<Int16Type>(values, nulls, data_type),
            Values::Int32(values) if *data_type == DataType::Date32 => {
                primitive::<Date32Type>(values, nulls, data_type)
            }
            Values::Int32(values) => primitive::<Int32Type>(values, nulls, data_type),
            Values::Int64(values) => match data_type {
                DataType::Time64(_) => primitive::<Time64MicrosecondType>(values, nulls, data_type),
                DataType::Timestamp(TimeUnit::Second, _) => {
                    primitive::<TimestampSecondType>(values, nulls, data_type)
                }
                DataType::Timestamp(TimeUnit::Millisecond, _) => {
                    primitive::<TimestampMillisecondType>(values, nulls, data_type)
                }
                DataType::Timestamp(TimeUnit::Microsecond, _) => {
                    primitive::<TimestampMicrosecondType>(values, nulls, data_type)
                }
                DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                    primitive::<TimestampNanosecondType>(values, nulls, data_type)
                }
                _ => primitive::<Int64Type>(values, nulls, data_type),
            },
            Values::UInt8(values) => primitive::<UInt8Type>(values, nulls, data_type),
            Values::UInt16(values) => primitive::<UInt16Type>(values, nulls, data_type),
            Values::UInt32(values) => primitive::<UInt32Type>(values, nulls, data_type),
            Values::UInt64(values) => primitive::<UInt64Type>(values, nulls, data_type),
            Values::Float32(values) => primitive::<Float32Type>(values, nulls, data_type),
            Values::Float64(values) => primitive::<Float64Type>(values, nulls, data_type),
            Values::Decimal(values) => primitive::<Decimal128Type>(values, nulls, data_type),
            Values::Text { offsets, bytes } => {
                let offsets = take_offsets(offsets);
                let bytes = Buffer::from_vec(std::mem::take(bytes));
                Arc::new(StringArray::try_new(offsets, bytes, nulls)?)
            }
            Values::List { offsets, items } => {
                let offsets = take_offsets(offsets);
                let field = Arc::new(Field::new("item", items.data_type.clone(), true));
                Arc::new(ListArray::try_new(field, offsets, items.finish()?, nulls)?)
            }
        })
    }
}

fn take_offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, vec![0])))
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> ArrayRef {
    let values = ScalarBuffer::from(std::mem::take(values));
    Arc::new(PrimitiveArray::<T>::new(values, nulls).with_data_type(data_type.clone()))
}
