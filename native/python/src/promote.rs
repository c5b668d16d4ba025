//! The final name of a file.

use casparian_core::promote as core;
use pyo3::prelude::*;

use crate::errors::os_error;

/// Rename `src` to `dst`, which must not exist; gives `rename` or `link`, the way that was used.
#[pyfunction]
pub(crate) fn promote_noreplace(py: Python<'_>, src: &[u8], dst: &[u8]) -> PyResult<&'static str> {
    py.detach(|| core::promote_noreplace(src, dst))
        .map(core::Promotion::name)
        .map_err(|error| os_error(&error))
}
