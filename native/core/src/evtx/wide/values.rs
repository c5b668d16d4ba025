//! Growing columns of one kind each.

use std::sync::Arc;

use arrow_array::builder::BooleanBuilder;
use arrow_array::types::{
    ArrowPrimitiveType, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{ArrayRef, PrimitiveArray};
use arrow_schema::ArrowError;

use super::super::columns::{NumberColumn, TextColumn};
use super::parse;
use super::registry::Kind;
use crate::schema::UTC;

/// The values of a column.
#[derive(Debug)]
pub(super) enum Values {
    Unsigned(NumberColumn<UInt64Type>, u8),
    Signed(NumberColumn<Int64Type>, u8),
    Real(NumberColumn<Float64Type>),
    Bool(BooleanBuilder),
    Time(NumberColumn<TimestampNanosecondType>),
    Text(TextColumn),
    Binary(TextColumn),
}

impl Values {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Unsigned(bits) => Self::Unsigned(NumberColumn::new(), bits),
            Kind::Signed(bits) => Self::Signed(NumberColumn::new(), bits),
            Kind::Real => Self::Real(NumberColumn::new()),
            Kind::Bool => Self::Bool(BooleanBuilder::new()),
            Kind::Time => Self::Time(NumberColumn::new()),
            Kind::Text => Self::Text(TextColumn::new()),
            Kind::Binary => Self::Binary(TextColumn::new()),
        }
    }

    /// Append a null.
    #[inline]
    pub(super) fn push_null(&mut self) {
        match self {
            Self::Unsigned(column, _) => column.push(None),
            Self::Signed(column, _) => column.push(None),
            Self::Real(column) => column.push(None),
            Self::Bool(column) => column.append_null(),
            Self::Time(column) => column.push(None),
            Self::Text(column) | Self::Binary(column) => column.push_value(None),
        }
    }

    /// Append a value, or a null when the text is none of this kind; whether it is.
    #[inline]
    pub(super) fn push(&mut self, text: &str) -> bool {
        match self {
            Self::Text(column) => {
                column.push_value(Some(text.as_bytes()));
                true
            }
            Self::Unsigned(column, bits) => {
                let value = parse::unsigned(text, u64::MAX >> (64 - *bits));
                column.push(value);
                value.is_some()
            }
            Self::Signed(column, bits) => {
                let value = parse::signed(text, *bits);
                column.push(value);
                value.is_some()
            }
            Self::Real(column) => {
                let value = parse::real(text);
                column.push(value);
                value.is_some()
            }
            Self::Bool(column) => {
                let value = parse::boolean(text);
                column.append_option(value);
                value.is_some()
            }
            Self::Time(column) => {
                let value = parse::time(text);
                column.push(value);
                value.is_some()
            }
            Self::Binary(column) => {
                let is_binary = parse::binary(text, &mut column.bytes);
                column.push(is_binary);
                is_binary
            }
        }
    }

    /// All values as one array; the column is empty afterwards.
    ///
    /// # Errors
    /// When a text is not UTF-8, which would be a fault of the decoder.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Unsigned(column, 8) => narrow::<_, UInt8Type>(column, |value| value as u8),
            Self::Unsigned(column, 16) => narrow::<_, UInt16Type>(column, |value| value as u16),
            Self::Unsigned(column, 32) => narrow::<_, UInt32Type>(column, |value| value as u32),
            Self::Unsigned(column, _) => column.finish_ref(),
            Self::Signed(column, 8) => narrow::<_, Int8Type>(column, |value| value as i8),
            Self::Signed(column, 16) => narrow::<_, Int16Type>(column, |value| value as i16),
            Self::Signed(column, 32) => narrow::<_, Int32Type>(column, |value| value as i32),
            Self::Signed(column, _) => column.finish_ref(),
            Self::Real(column) => column.finish_ref(),
            Self::Bool(column) => Arc::new(column.finish()),
            Self::Time(column) => Arc::new(column.finish().with_timezone(UTC)),
            Self::Text(column) => column.finish_text()?,
            Self::Binary(column) => column.finish_binary()?,
        })
    }
}

/// The same numbers in a narrower type: each was checked against it when it was pushed.
fn narrow<Wide: ArrowPrimitiveType, Narrow: ArrowPrimitiveType>(
    column: &mut NumberColumn<Wide>,
    cast: impl Fn(Wide::Native) -> Narrow::Native,
) -> ArrayRef {
    let array: PrimitiveArray<Narrow> = column.finish().unary(cast);
    Arc::new(array)
}
