//! Batches of events in, batches of wide tables out.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, TimestampNanosecondType, UInt8Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ListArray, PrimitiveArray, RecordBatch, StringArray, UInt8Array};

use super::registry::{WideTable, wide_tables};
use super::rows::WideRows;
use super::select::WideSelection;
use crate::error::CoreError;

/// Rows of one table after which they become a batch.
const BATCH_ROWS: usize = 65_536;
/// Bytes of one table after which its rows become a batch, about.
const BATCH_BYTES: usize = 4 << 20;
/// Bytes of all tables together after which all waiting rows become batches, about.
const WAITING_BYTES: usize = 24 << 20;
/// Places for the kinds of events that were met last; a power of two.
const RECENT: usize = 64;

/// Rows of one wide table.
#[derive(Debug)]
pub struct WideBatch {
    /// Position of the table in [`wide_tables`].
    pub table: usize,
    /// Its rows, in the order of the events.
    pub rows: RecordBatch,
}

/// A kind of event, and its table if it has one.
#[derive(Debug, Default)]
struct Recent {
    event_id: u32,
    provider: Box<str>,
    table: Option<usize>,
}

/// Makes wide rows from batches of events.
///
/// Memory is bounded, whatever the number of tables: rows that wait take a few batches' room.
#[derive(Debug)]
pub struct WideSplitter {
    wanted: Vec<(u32, usize)>,
    recent: Vec<Recent>,
    /// By position in [`wide_tables`].
    rows: Vec<Option<Box<WideRows>>>,
}

impl WideSplitter {
    /// A splitter for these tables.
    pub fn new(selection: &WideSelection) -> Self {
        let event_id = |position: &usize| wide_tables().get(*position).map(|table| table.event_id);
        let wanted = selection.positions().iter();
        Self {
            wanted: wanted
                .filter_map(|place| Some((event_id(place)?, *place)))
                .collect(),
            recent: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Take a batch of `evtx_events`; the batches that are full.
    ///
    /// # Errors
    /// [`CoreError::Invalid`] when it is no such batch, [`CoreError::Arrow`] when a batch cannot be built.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<Vec<WideBatch>, CoreError> {
        let events = Events::of(batch).ok_or(CoreError::Invalid {
            what: "a batch of events",
            reason: "it has other columns than it must have",
        })?;
        for row in 0..batch.num_rows() {
            if events.event_id.is_null(row) || events.provider().is_null(row) {
                continue;
            }
            let event_id = events.event_id.value(row);
            let Some(table) = self.table(event_id, events.provider().value(row)) else {
                continue;
            };
            if let Some(rows) = self.rows(table) {
                rows.push(&events, row);
            }
        }
        let waiting: usize = self
            .rows
            .iter()
            .flatten()
            .map(|rows| rows.byte_size())
            .sum();
        if waiting >= WAITING_BYTES {
            return self.flush(1, 1);
        }
        self.flush(BATCH_ROWS, BATCH_BYTES)
    }

    /// All rows that still wait.
    ///
    /// # Errors
    /// [`CoreError::Arrow`] when a batch cannot be built.
    pub fn finish(&mut self) -> Result<Vec<WideBatch>, CoreError> {
        self.flush(1, 1)
    }

    /// The table of a kind of event. What was met before is compared, not looked up.
    #[inline]
    fn table(&mut self, event_id: u32, provider: &str) -> Option<usize> {
        let place = event_id as usize % RECENT;
        if let Some(recent) = self.recent.get(place)
            && recent.event_id == event_id
            && *recent.provider == *provider
        {
            return recent.table;
        }
        let is_its = |table: &&WideTable| table.provider == provider;
        let table = self
            .wanted
            .iter()
            .filter(|(id, _)| *id == event_id)
            .map(|(_, position)| *position)
            .find(|position| wide_tables().get(*position).filter(is_its).is_some());
        self.recent.resize_with(RECENT, Recent::default);
        if let Some(recent) = self.recent.get_mut(place) {
            *recent = Recent {
                event_id,
                provider: provider.into(),
                table,
            };
        }
        table
    }

    #[inline]
    fn rows(&mut self, table: usize) -> Option<&mut WideRows> {
        if self.rows.len() <= table {
            self.rows.resize_with(wide_tables().len(), || None);
        }
        let rows = self.rows.get_mut(table)?;
        if rows.is_none() {
            *rows = Some(Box::new(WideRows::new(wide_tables().get(table)?)));
        }
        rows.as_deref_mut()
    }

    /// Batches of the tables that have `rows_min` rows or `bytes_min` bytes.
    fn flush(&mut self, rows_min: usize, bytes_min: usize) -> Result<Vec<WideBatch>, CoreError> {
        let mut full = Vec::new();
        for (table, rows) in self.rows.iter_mut().enumerate() {
            if let Some(rows) = rows
                && rows.len() > 0
                && (rows.len() >= rows_min || rows.byte_size() >= bytes_min)
            {
                let rows = rows.finish()?;
                full.push(WideBatch { table, rows });
            }
        }
        Ok(full)
    }
}

/// The columns of `evtx_events` that wide rows are made from.
#[derive(Debug)]
pub(super) struct Events<'b> {
    pub(super) offset: Column<'b, UInt64Type>,
    pub(super) length: Column<'b, UInt64Type>,
    pub(super) flags: Column<'b, UInt32Type>,
    pub(super) record_id: Column<'b, UInt64Type>,
    pub(super) time_created: Column<'b, TimestampNanosecondType>,
    event_id: &'b PrimitiveArray<UInt32Type>,
    /// Computer, channel, provider, user, activity.
    pub(super) texts: [&'b StringArray; 5],
    pub(super) version: Column<'b, UInt8Type>,
    pub(super) level: Column<'b, UInt8Type>,
    pub(super) keywords: Column<'b, UInt64Type>,
    pub(super) process_id: Column<'b, UInt32Type>,
    pub(super) thread_id: Column<'b, UInt32Type>,
    pub(super) chunk: Column<'b, UInt32Type>,
    lists: &'b ListArray,
    pub(super) names: &'b StringArray,
    pub(super) values: &'b StringArray,
    pub(super) types: &'b UInt8Array,
}

/// A column of numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column<'b, T: ArrowPrimitiveType>(&'b PrimitiveArray<T>);

impl<T: ArrowPrimitiveType> Column<'_, T> {
    #[inline]
    pub(super) fn get(&self, row: usize) -> Option<T::Native> {
        self.0.is_valid(row).then(|| self.0.value(row))
    }

    #[inline]
    pub(super) fn value(&self, row: usize) -> T::Native {
        self.0.value(row)
    }
}

impl<'b> Events<'b> {
    /// The columns of a batch; `None` when one is missing or of another type.
    fn of(batch: &'b RecordBatch) -> Option<Self> {
        fn number<'b, T: ArrowPrimitiveType>(
            batch: &'b RecordBatch,
            name: &str,
        ) -> Option<Column<'b, T>> {
            batch.column_by_name(name)?.as_primitive_opt().map(Column)
        }
        let text = |name| batch.column_by_name(name)?.as_string_opt::<i32>();
        let list = |name| batch.column_by_name(name)?.as_list_opt::<i32>();
        let lists: &ListArray = list("data_names")?;
        Some(Self {
            offset: number(batch, "@offset")?,
            length: number(batch, "@length")?,
            flags: number(batch, "@flags")?,
            record_id: number(batch, "record_id")?,
            time_created: number(batch, "time_created")?,
            event_id: batch.column_by_name("event_id")?.as_primitive_opt()?,
            texts: [
                text("computer")?,
                text("channel")?,
                text("provider_name")?,
                text("user_sid")?,
                text("activity_id")?,
            ],
            version: number(batch, "version")?,
            level: number(batch, "level")?,
            keywords: number(batch, "keywords")?,
            process_id: number(batch, "process_id")?,
            thread_id: number(batch, "thread_id")?,
            chunk: number(batch, "chunk")?,
            lists,
            names: lists.values().as_string_opt::<i32>()?,
            values: list("data_values")?.values().as_string_opt::<i32>()?,
            types: list("data_types")?.values().as_primitive_opt()?,
        })
    }

    fn provider(&self) -> &'b StringArray {
        self.texts[2]
    }

    /// The values of a row, as positions in the lists' items.
    #[inline]
    pub(super) fn items(&self, row: usize) -> (usize, usize) {
        let offsets = self.lists.value_offsets();
        (offsets[row] as usize, offsets[row + 1] as usize)
    }
}
