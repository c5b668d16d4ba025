//! Formats of values: see `casparian_core::text`.

use casparian_core::text::{Format, Spec, Value};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

fn format_of(
    type_name: &str,
    format: Option<&str>,
    zone: Option<&str>,
    group: Option<&str>,
    meaning: Option<&str>,
) -> PyResult<Format> {
    // The grammar has the mark between groups among the words of the format.
    let grouped = group.map(|mark| {
        let plain = if type_name.contains("int") {
            "decimal"
        } else {
            "point"
        };
        let mark = if mark == " " { "space" } else { mark };
        format!("{} group {mark}", format.unwrap_or(plain))
    });
    Format::new(&Spec {
        type_name,
        format: grouped.as_deref().or(format),
        zone,
        meaning,
    })
    .map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Refuse words about a column that are no format: `ValueError` says why.
#[pyfunction]
#[pyo3(signature = (type_name, format=None, zone=None, group=None, meaning=None))]
pub(crate) fn check_format(
    type_name: &str,
    format: Option<&str>,
    zone: Option<&str>,
    group: Option<&str>,
    meaning: Option<&str>,
) -> PyResult<()> {
    format_of(type_name, format, zone, group, meaning).map(drop)
}

/// What a text says in a format; `None` when it does not fit. Decimals are unscaled, times counts in the unit of the type.
#[pyfunction]
#[pyo3(signature = (text, type_name, format=None, zone=None, group=None, meaning=None))]
pub(crate) fn read_value<'py>(
    py: Python<'py>,
    text: &[u8],
    type_name: &str,
    format: Option<&str>,
    zone: Option<&str>,
    group: Option<&str>,
    meaning: Option<&str>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let format = format_of(type_name, format, zone, group, meaning)?;
    let Some(value) = format.read(text) else {
        return Ok(None);
    };
    Ok(Some(match value {
        Value::Bool(value) => value.into_pyobject(py)?.to_owned().into_any(),
        Value::Int(value) => value.into_pyobject(py)?.into_any(),
        Value::UInt(value) => value.into_pyobject(py)?.into_any(),
        Value::Float(value) => value.into_pyobject(py)?.into_any(),
        Value::Decimal(value) => value.into_pyobject(py)?.into_any(),
        Value::Date(value) => value.into_pyobject(py)?.into_any(),
        Value::Time(value) => value.into_pyobject(py)?.into_any(),
        Value::Timestamp(value) => value.into_pyobject(py)?.into_any(),
        Value::Text(value) => value.into_pyobject(py)?.into_any(),
    }))
}
