//! The wide tables there are: read from the parser's own list, once.
//!
//! A table is a line `name, event id, provider, origin`; the lines of its columns follow, each indented by a tab:
//! `column, type, name in the event, which value of that name`. Fields are separated by tabs.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::super::schema::type_item;
use crate::schema::{UTC, text_item};

const TABLES: &str = include_str!("../../../../../parsers/windows.evtx/wide.tsv");

/// What a column of the payload holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An unsigned integer of so many bits.
    Unsigned(u8),
    /// A signed integer of so many bits.
    Signed(u8),
    Real,
    Bool,
    Time,
    Text,
    Binary,
}

impl Kind {
    /// The kind of a contract's type name.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "uint8" => Self::Unsigned(8),
            "uint16" => Self::Unsigned(16),
            "uint32" => Self::Unsigned(32),
            "uint64" => Self::Unsigned(64),
            "int8" => Self::Signed(8),
            "int16" => Self::Signed(16),
            "int32" => Self::Signed(32),
            "int64" => Self::Signed(64),
            "float64" => Self::Real,
            "bool" => Self::Bool,
            "timestamp[ns, UTC]" => Self::Time,
            "utf8" => Self::Text,
            "binary" => Self::Binary,
            _ => return None,
        })
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Unsigned(8) => DataType::UInt8,
            Self::Unsigned(16) => DataType::UInt16,
            Self::Unsigned(32) => DataType::UInt32,
            Self::Unsigned(_) => DataType::UInt64,
            Self::Signed(8) => DataType::Int8,
            Self::Signed(16) => DataType::Int16,
            Self::Signed(32) => DataType::Int32,
            Self::Signed(_) => DataType::Int64,
            Self::Real => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Time => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
            Self::Text => DataType::Utf8,
            Self::Binary => DataType::Binary,
        }
    }
}

/// A column that holds a value of the payload.
#[derive(Debug, Clone, Copy)]
pub struct WideColumn {
    /// Its name in the table.
    pub name: &'static str,
    /// Its type, as contracts name it.
    pub type_name: &'static str,
    /// The value's name in the event; `None` for values without one.
    pub source: Option<&'static str>,
    /// Which value of that name, from 1.
    pub occurrence: usize,
    pub(super) kind: Kind,
}

/// A table of one kind of event.
#[derive(Debug)]
pub struct WideTable {
    /// `evtx_<provider>_<id>`.
    pub name: &'static str,
    /// The provider's name, as events give it.
    pub provider: &'static str,
    /// The event's id.
    pub event_id: u32,
    /// Where the columns come from: `template` (event logs) or `published` (the vendor's documentation).
    pub origin: &'static str,
    /// The columns of the payload, in order.
    pub columns: Vec<WideColumn>,
    pub(super) schema: SchemaRef,
}

/// The columns that each wide table begins with, behind the place of the row: name, type, meaning.
pub const COMMON: [(&str, &str, &str); 13] = [
    ("record_id", "uint64", "EventRecordID, as in evtx_events"),
    (
        "time_created",
        "timestamp[ns, UTC]",
        "TimeCreated SystemTime, as in evtx_events",
    ),
    ("computer", "utf8", "Computer"),
    ("channel", "utf8", "Channel: the log it was written to"),
    ("provider_name", "utf8", "Provider Name"),
    ("version", "uint8", "Version of the event's definition"),
    ("level", "uint8", "Level"),
    (
        "keywords",
        "uint64",
        "Keywords bit mask; bit 53 is audit success, bit 52 audit failure",
    ),
    (
        "user_sid",
        "utf8",
        "Security UserID: who was the source of the event",
    ),
    (
        "process_id",
        "uint32",
        "Execution ProcessID: the process that wrote the event",
    ),
    ("thread_id", "uint32", "Execution ThreadID"),
    ("activity_id", "utf8", "Correlation ActivityID"),
    (
        "chunk",
        "uint32",
        "number of the 64 KiB slot in the file, from 0",
    ),
];

/// The columns that each wide table ends with: name, type, meaning.
pub const REST: [(&str, &str, &str); 4] = [
    (
        "misfits",
        "uint32",
        "values that do not fit the type of their column: it is null, they are in the lists",
    ),
    (
        "other_names",
        "list<utf8>",
        "names of the values without a column, and of misfits",
    ),
    (
        "other_values",
        "list<utf8>",
        "these values as text, as evtx_events has them",
    ),
    ("other_types", "list<uint8>", "BinXML type of each of them"),
];

fn field_type(name: &str) -> DataType {
    match name {
        "list<utf8>" => DataType::List(text_item()),
        "list<uint8>" => DataType::List(type_item()),
        _ => Kind::named(name).map_or(DataType::Utf8, Kind::data_type),
    }
}

fn schema(columns: &[WideColumn]) -> SchemaRef {
    let field =
        |(name, type_name, _): &(&str, &str, &str)| Field::new(*name, field_type(type_name), true);
    let mut fields = vec![
        Field::new("@offset", DataType::UInt64, false),
        Field::new("@length", DataType::UInt64, false),
        Field::new("@flags", DataType::UInt32, false),
    ];
    fields.extend(COMMON.iter().map(field));
    let own = columns.iter();
    fields.extend(own.map(|column| Field::new(column.name, column.kind.data_type(), true)));
    fields.extend(REST.iter().map(field));
    Arc::new(Schema::new(fields))
}

/// Read the list; `None` where a line is not as it must be.
fn read(text: &'static str) -> Option<Vec<WideTable>> {
    let mut tables: Vec<WideTable> = Vec::new();
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut fields = line.split('\t');
        let first = fields.next()?;
        if first.is_empty() {
            let [name, type_name, source, occurrence] = std::array::from_fn(|_| fields.next());
            let source = source.unwrap_or_default();
            tables.last_mut()?.columns.push(WideColumn {
                name: name?,
                type_name: type_name?,
                source: (!source.is_empty()).then_some(source),
                occurrence: occurrence.map_or(Some(1), |digits| digits.parse().ok())?,
                kind: Kind::named(type_name?)?,
            });
        } else {
            tables.push(WideTable {
                name: first,
                event_id: fields.next()?.parse().ok()?,
                provider: fields.next()?,
                origin: fields.next()?,
                columns: Vec::new(),
                schema: Arc::new(Schema::empty()),
            });
        }
    }
    for table in &mut tables {
        table.schema = schema(&table.columns);
    }
    Some(tables)
}

static REGISTRY: LazyLock<Vec<WideTable>> = LazyLock::new(|| read(TABLES).unwrap_or_default());

/// All wide tables, in the order of the list.
pub fn wide_tables() -> &'static [WideTable] {
    &REGISTRY
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_line_of_the_list_is_read() {
        let heads = TABLES.lines().filter(|line| line.starts_with("evtx_"));
        let columns = TABLES.lines().filter(|line| line.starts_with('\t'));
        assert!(wide_tables().len() > 100);
        assert_eq!(wide_tables().len(), heads.count());
        let read: usize = wide_tables().iter().map(|table| table.columns.len()).sum();
        assert_eq!(read, columns.count());
    }

    #[test]
    fn names_and_events_are_unique() {
        let mut names = HashSet::new();
        let mut events = HashSet::new();
        for table in wide_tables() {
            assert!(names.insert(table.name), "{}", table.name);
            assert!(
                events.insert((table.provider, table.event_id)),
                "{}",
                table.name
            );
            let fields = table.schema.fields();
            let distinct: HashSet<&str> =
                fields.iter().map(|field| field.name().as_str()).collect();
            assert_eq!(distinct.len(), fields.len(), "{}", table.name);
        }
    }
}
