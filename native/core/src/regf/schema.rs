//! The outputs of the decoder and their columns. Names, order and types are a contract.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, SchemaRef};

use crate::schema::{optional, required, schema, texts, time};

static KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema([
        required("key_path", DataType::Utf8),
        required("name", DataType::Utf8),
        optional("last_write", time()),
        required("flags", DataType::UInt32),
        optional("class_name", DataType::Utf8),
        optional("owner_sid", DataType::Utf8),
        optional("group_sid", DataType::Utf8),
        optional("security_cell", DataType::UInt32),
        required("subkey_count", DataType::UInt32),
        required("value_count", DataType::UInt32),
        required("key_cell", DataType::UInt32),
        optional("parent_cell", DataType::UInt32),
        required("depth", DataType::UInt32),
        required("state", DataType::Utf8),
        optional("from_log", DataType::Utf8),
        optional("problems", texts()),
    ])
});

static VALUES: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema([
        required("key_path", DataType::Utf8),
        optional("value_name", DataType::Utf8),
        required("type", DataType::UInt32),
        required("type_name", DataType::Utf8),
        optional("value_text", DataType::Utf8),
        optional("value_int", DataType::UInt64),
        optional("value_list", texts()),
        optional("value_raw", DataType::Binary),
        required("data_size", DataType::UInt32),
        optional("data_cell", DataType::UInt32),
        optional("key_cell", DataType::UInt32),
        required("value_cell", DataType::UInt32),
        required("flags", DataType::UInt32),
        required("state", DataType::Utf8),
        optional("from_log", DataType::Utf8),
        optional("problems", texts()),
    ])
});

/// Counted columns of `registry_hives`, in order.
pub(super) const HIVE_COUNTS: [&str; 16] = [
    "file_bytes",
    "bins_bytes",
    "bins",
    "allocated_cells",
    "free_cells",
    "free_bytes",
    "damaged_regions",
    "quarantined_cells",
    "keys_live",
    "keys_orphaned",
    "keys_deleted",
    "keys_superseded",
    "values_live",
    "values_orphaned",
    "values_deleted",
    "values_superseded",
];

static HIVES: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut columns = vec![
        optional("hive_type", DataType::Utf8),
        optional("file_name", DataType::Utf8),
        optional("root_name", DataType::Utf8),
        required("primary_sequence", DataType::UInt32),
        required("secondary_sequence", DataType::UInt32),
        required("is_dirty", DataType::Boolean),
        required("is_recovered", DataType::Boolean),
        required("checksum_ok", DataType::Boolean),
        optional("last_written", time()),
        optional("last_reorganized", time()),
        required("major_version", DataType::UInt32),
        required("minor_version", DataType::UInt32),
    ];
    let counts = HIVE_COUNTS
        .iter()
        .map(|name| required(name, DataType::UInt64));
    columns.extend(counts);
    columns.extend([
        required("logs", texts()),
        required("log_verdicts", texts()),
        required("log_sequences", texts()),
        optional("problems", texts()),
    ]);
    schema(columns)
});

static CHANGES: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema([
        required("change", DataType::Utf8),
        required("subject", DataType::Utf8),
        required("key_path", DataType::Utf8),
        optional("value_name", DataType::Utf8),
        optional("before", DataType::Utf8),
        optional("before_type", DataType::Utf8),
        optional("after", DataType::Utf8),
        optional("after_type", DataType::Utf8),
        optional("from_log", DataType::Utf8),
    ])
});

/// `registry_keys`: one row for each key.
///
/// Cells are numbered as the hive does: in bytes from the first bin (4096 bytes behind the beginning of the file).
pub fn keys_schema() -> SchemaRef {
    Arc::clone(&KEYS)
}

/// `registry_values`: one row for each value.
///
/// `value_int` is unsigned, as the numbers in a hive are. `value_raw` has the bytes of every value that no other column
/// gives back whole.
pub fn values_schema() -> SchemaRef {
    Arc::clone(&VALUES)
}

/// `registry_hives`: one row.
///
/// `logs`, `log_verdicts` and `log_sequences` (`first-last`, or null when nothing was applied) go together.
pub fn hives_schema() -> SchemaRef {
    Arc::clone(&HIVES)
}

/// `registry_changes`: what the logs change, key by key and value by value; no row when none was applied.
pub fn changes_schema() -> SchemaRef {
    Arc::clone(&CHANGES)
}
