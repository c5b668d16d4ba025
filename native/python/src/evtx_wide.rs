//! The list of wide tables.

use casparian_core::evtx::wide::{COMMON, REST, WideBatch, WideSelection, WideTable, wide_tables};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::batch::Batch;

/// A batch with the name of its table.
pub(crate) fn named(batch: WideBatch) -> (&'static str, Batch) {
    let name = wide_tables()
        .get(batch.table)
        .map_or("", |table| table.name);
    (name, Batch(batch.rows))
}

/// Name and type of a column, its value's name in the event, and which value of that name.
type Column = (&'static str, &'static str, Option<&'static str>, usize);
/// Name, provider, event id and origin of a table, and its columns of the payload.
type Table = (&'static str, &'static str, u32, &'static str, Vec<Column>);
/// Name, type and meaning of a column that each table has.
type Shared = (&'static str, &'static str, &'static str);

/// The wide tables that event logs can be read into, in the order of their numbers.
#[pyfunction]
pub(crate) fn evtx_wide_tables() -> Vec<Table> {
    let columns = |table: &WideTable| {
        let own = table.columns.iter();
        own.map(|own| (own.name, own.type_name, own.source, own.occurrence))
            .collect()
    };
    let tables = wide_tables().iter();
    tables
        .map(|table| {
            (
                table.name,
                table.provider,
                table.event_id,
                table.origin,
                columns(table),
            )
        })
        .collect()
}

/// The columns that each wide table begins with, and those that it ends with.
#[pyfunction]
pub(crate) fn evtx_wide_common() -> (Vec<Shared>, Vec<Shared>) {
    (COMMON.to_vec(), REST.to_vec())
}

/// Positions in `evtx_wide_tables` of the tables that a setting asks for.
#[pyfunction]
pub(crate) fn evtx_wide_selection(setting: &str) -> PyResult<Vec<usize>> {
    let selection =
        WideSelection::read(setting).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(selection.positions().to_vec())
}
