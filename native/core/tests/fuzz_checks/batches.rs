//! What holds for the batches of every decoder.

use arrow_array::{Array, RecordBatch, UInt32Array, UInt64Array};
use casparian_core::flags::{CARVED, SLACK};
use casparian_core::tally::Tally;

/// Each column is what its type says, down to the last offset and UTF-8 sequence.
pub(crate) fn check_columns(batch: &RecordBatch) {
    for column in batch.columns() {
        column.to_data().validate_full().unwrap();
        assert_eq!(column.len(), batch.num_rows());
    }
}

/// Add the units of a batch, which lie within `size` bytes; gives how many are of what was deleted or carved, which are no units.
pub(crate) fn add_units(batch: &RecordBatch, size: u64, tally: &mut Tally) -> u64 {
    let column = |name: &str| batch.column_by_name(name).unwrap();
    let u64s = |name: &str| -> UInt64Array { column(name).to_data().into() };
    let (offsets, lengths) = (u64s("@offset"), u64s("@length"));
    let flags: UInt32Array = column("@flags").to_data().into();
    let mut slack = 0;
    for row in 0..batch.num_rows() {
        let (offset, length) = (offsets.value(row), lengths.value(row));
        assert!(
            offset.checked_add(length).is_some_and(|end| end <= size),
            "a unit at {offset} of {length} bytes in a file of {size}"
        );
        if flags.value(row) & (SLACK | CARVED) == 0 {
            tally.add(offset, length).unwrap();
        } else {
            slack += 1;
        }
    }
    slack
}
