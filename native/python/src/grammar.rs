//! The grammar of values written as text: see `casparian_core::text`.

use casparian_core::text::{Format, Spec};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

fn format(
    type_name: &str,
    format: Option<&str>,
    zone: Option<&str>,
    meaning: Option<&str>,
) -> PyResult<Format> {
    let spec = Spec {
        type_name,
        format,
        zone,
        meaning,
    };
    Format::new(&spec).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Refuse a contract's words about a column that are no format: a `ValueError` says why.
#[pyfunction]
#[pyo3(signature = (type_name, text=None, zone=None, meaning=None))]
pub(crate) fn check_format(
    type_name: &str,
    text: Option<&str>,
    zone: Option<&str>,
    meaning: Option<&str>,
) -> PyResult<()> {
    format(type_name, text, zone, meaning).map(|_| ())
}

/// Whether a column (or the items of its lists) can have this text as a value.
#[pyfunction]
#[pyo3(signature = (value, type_name, text=None, zone=None, meaning=None))]
pub(crate) fn format_reads(
    value: &str,
    type_name: &str,
    text: Option<&str>,
    zone: Option<&str>,
    meaning: Option<&str>,
) -> PyResult<bool> {
    let format = format(type_name, text, zone, meaning)?;
    Ok(format.read(value.as_bytes()).is_some())
}
