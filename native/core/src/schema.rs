//! What the decoders' outputs have in common: the columns that each begins with, and short names for fields.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};

/// The time zone of every time.
pub(crate) const UTC: &str = "UTC";

/// A list's item of text.
pub(crate) fn text_item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Utf8, true))
}

/// A column that is never null.
pub(crate) fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

/// A column that may be null.
pub(crate) fn optional(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// Nanoseconds, in [`UTC`].
pub(crate) fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()))
}

/// A list of texts.
pub(crate) fn texts() -> DataType {
    DataType::List(text_item())
}

/// The three columns that each output begins with, and those behind them.
pub(crate) fn schema(columns: impl IntoIterator<Item = Field>) -> SchemaRef {
    let mut fields = vec![
        required("@offset", DataType::UInt64),
        required("@length", DataType::UInt64),
        required("@flags", DataType::UInt32),
    ];
    fields.extend(columns);
    Arc::new(Schema::new(fields))
}
