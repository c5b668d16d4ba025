//! The outputs of the decoder and their columns. Names, order and types are a contract.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, FieldRef, SchemaRef};

use crate::schema::{optional, required, schema, texts, time};

/// A list's item of value type.
pub(super) fn type_item() -> FieldRef {
    Arc::new(Field::new("item", DataType::UInt8, true))
}

static EVENTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema([
        optional("record_id", DataType::UInt64),
        required("header_record_id", DataType::UInt64),
        optional("time_created", time()),
        optional("time_written", time()),
        optional("provider_name", DataType::Utf8),
        optional("provider_guid", DataType::Utf8),
        optional("event_source_name", DataType::Utf8),
        optional("event_id", DataType::UInt32),
        optional("qualifiers", DataType::UInt32),
        optional("version", DataType::UInt8),
        optional("level", DataType::UInt8),
        optional("task", DataType::UInt16),
        optional("opcode", DataType::UInt8),
        optional("keywords", DataType::UInt64),
        optional("process_id", DataType::UInt32),
        optional("thread_id", DataType::UInt32),
        optional("channel", DataType::Utf8),
        optional("computer", DataType::Utf8),
        optional("user_sid", DataType::Utf8),
        optional("activity_id", DataType::Utf8),
        optional("related_activity_id", DataType::Utf8),
        optional("payload_kind", DataType::Utf8),
        required("data_names", texts()),
        required("data_values", texts()),
        required("data_types", DataType::List(type_item())),
        optional("template_id", DataType::Utf8),
        optional("chunk", DataType::UInt32),
        optional("chunk_crc_ok", DataType::Boolean),
    ])
});

static CHUNKS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema([
        required("chunk", DataType::UInt32),
        required("available_bytes", DataType::UInt32),
        required("magic_ok", DataType::Boolean),
        required("header_crc_ok", DataType::Boolean),
        required("data_crc_ok", DataType::Boolean),
        required("trusted", DataType::Boolean),
        optional("first_record_number", DataType::UInt64),
        optional("last_record_number", DataType::UInt64),
        optional("first_record_id", DataType::UInt64),
        optional("last_record_id", DataType::UInt64),
        optional("last_record_offset", DataType::UInt32),
        optional("free_space_offset", DataType::UInt32),
        required("records", DataType::UInt32),
        required("quarantined", DataType::UInt32),
        required("damaged_regions", DataType::UInt32),
        required("slack_records", DataType::UInt32),
        required("slack_bytes", DataType::UInt32),
        optional("min_header_record_id", DataType::UInt64),
        optional("max_header_record_id", DataType::UInt64),
    ])
});

/// `evtx_events`: one row for each record.
///
/// `chunk_crc_ok` says whether both checksums of the chunk are right; it and `chunk` are null for a carved record
/// outside of any chunk. Values without a column of their own
/// are in three lists of equal length; `data_types` holds BinXML type codes ([MS-EVEN6] 2.2.12).
pub fn events_schema() -> SchemaRef {
    Arc::clone(&EVENTS)
}

/// `evtx_chunks`: one row for each slot that is not all zeros.
///
/// Header fields are null when the slot is cut inside its header. `records` counts live rows, `quarantined` live
/// records that did not decode, `slack_records` records found behind the live area (decoded or not), `slack_bytes` non-zero
/// bytes of slack outside those records.
pub fn chunks_schema() -> SchemaRef {
    Arc::clone(&CHUNKS)
}
