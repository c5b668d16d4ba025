//! Errors of the engine as Python exceptions, and the way out of the GIL.

use std::panic::{AssertUnwindSafe, catch_unwind};

use casparian_core::CoreError;
use pyo3::exceptions::{PyException, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

pyo3::create_exception!(
    casparian._native,
    SourceError,
    PyException,
    "The engine could not read a source or reached a limit.\n\n\
     Attributes: `code` (a stable slug), `message`, `offset` (bytes, or None), `errno` (or None)."
);

/// Run `work` without the GIL. Its errors become exceptions, and so does a panic: a bug in the engine
/// ends the call, not the process.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, CoreError> + Send,
) -> PyResult<T> {
    // What a panic leaves behind is not used again: readers refuse to go on after one.
    match py.detach(|| catch_unwind(AssertUnwindSafe(work))) {
        Ok(result) => result.map_err(|error| to_exception(py, &error)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            Err(PyRuntimeError::new_err(format!(
                "bug: the native engine panicked: {text}"
            )))
        }
    }
}

/// The one mapping from the engine's errors to exceptions.
pub(crate) fn to_exception(py: Python<'_>, error: &CoreError) -> PyErr {
    if let CoreError::Invalid { .. } = error {
        return PyValueError::new_err(error.to_string());
    }
    let errno = match error {
        CoreError::Io { source, .. } => source.raw_os_error(),
        _ => None,
    };
    let message = error.to_string();
    let exception = SourceError::new_err(message.clone());
    let value = exception.value(py);
    let attributes = value
        .setattr("code", error.code())
        .and_then(|()| value.setattr("message", message))
        .and_then(|()| value.setattr("offset", error.offset()))
        .and_then(|()| value.setattr("errno", errno));
    match attributes {
        Ok(()) => exception,
        Err(other) => other,
    }
}

/// An error of the operating system as the fitting subclass of `OSError`, with its number.
pub(crate) fn os_error(error: &std::io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(errno) => PyOSError::new_err((errno, error.to_string())),
        None => PyOSError::new_err(error.to_string()),
    }
}
