//! `@quarantine`: units and regions that became no row, with their bytes.

use std::sync::{Arc, LazyLock};

use arrow_array::RecordBatch;
use arrow_array::builder::{BinaryBuilder, StringBuilder, UInt32Builder, UInt64Builder};
use arrow_array::new_null_array;
use arrow_schema::{DataType, SchemaRef};

use crate::error::CoreError;
use crate::flags::Flags;
use crate::schema::{optional, required, schema};

/// The longest raw bytes that a row holds itself.
const RAW_BYTES_MAX: usize = 65_536;
/// What a row weighs beside its texts, about.
const ROW_BYTES: usize = 64;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema([
        required("reason", DataType::Utf8),
        optional("field", DataType::Utf8),
        required("message", DataType::Utf8),
        optional("raw", DataType::Binary),
    ])
});

/// `@quarantine`: one row for each unit or region that became no row, with its bytes up to 65,536.
pub fn quarantine_schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// The columns of `@quarantine`.
#[derive(Debug, Default)]
pub(crate) struct QuarantineRows {
    offsets: UInt64Builder,
    lengths: UInt64Builder,
    flags: UInt32Builder,
    reasons: StringBuilder,
    messages: StringBuilder,
    raw: BinaryBuilder,
    count: usize,
}

impl QuarantineRows {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// How many bytes the columns hold, about.
    pub(crate) fn byte_size(&self) -> usize {
        self.raw.values_slice().len() + self.messages.values_slice().len() + self.count * ROW_BYTES
    }

    /// Append a row for the bytes `raw`, which begin at `offset` of the file.
    pub(crate) fn push(
        &mut self,
        offset: u64,
        flags: Flags,
        reason: &str,
        message: &str,
        raw: &[u8],
    ) {
        self.count += 1;
        self.offsets.append_value(offset);
        self.lengths.append_value(raw.len() as u64);
        self.flags.append_value(flags);
        self.reasons.append_value(reason);
        self.messages.append_value(message);
        self.raw
            .append_option((raw.len() <= RAW_BYTES_MAX).then_some(raw));
    }

    /// All rows as one batch; no row is left.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, CoreError> {
        let count = std::mem::take(&mut self.count);
        Ok(RecordBatch::try_new(
            quarantine_schema(),
            vec![
                Arc::new(self.offsets.finish()),
                Arc::new(self.lengths.finish()),
                Arc::new(self.flags.finish()),
                Arc::new(self.reasons.finish()),
                new_null_array(&DataType::Utf8, count),
                Arc::new(self.messages.finish()),
                Arc::new(self.raw.finish()),
            ],
        )?)
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;

    use super::*;

    #[test]
    fn bytes_are_kept_up_to_a_length_and_a_batch_leaves_nothing() {
        let mut rows = QuarantineRows::default();
        rows.push(7, 1, "a.b", "why", b"xy");
        rows.push(9, 0, "a.c", "long", &vec![0; RAW_BYTES_MAX + 1]);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows.byte_size(), 2 + 7 + 2 * ROW_BYTES);
        let batch = rows.finish().unwrap();
        assert_eq!(batch.num_rows(), 2);
        assert_eq!(batch.column(4).null_count(), 2);
        assert!(batch.column(6).is_valid(0));
        assert!(batch.column(6).is_null(1));
        assert_eq!((rows.len(), rows.byte_size()), (0, 0));
        assert_eq!(rows.finish().unwrap().num_rows(), 0);
    }
}
