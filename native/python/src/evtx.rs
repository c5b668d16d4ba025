//! The decoder of event logs as a Python iterator.

use casparian_core::evtx::{EvtxDecoder, EvtxOptions, Fault};
use casparian_core::source::FileSource;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::batch::Batch;
use crate::descriptor::duplicate;
use crate::errors::{detached, to_exception};

/// Decodes an event log, batch by batch: iterate to get (output name, batch).
#[pyclass(module = "casparian._native")]
pub(crate) struct EvtxReader(State);

enum State {
    Reading(Box<EvtxDecoder<FileSource>>),
    Finished,
    /// An error or a panic came out; what is left in the decoder is not used.
    Failed,
}

#[pymethods]
impl EvtxReader {
    #[new]
    #[pyo3(signature = (fd, size, *, batch_rows = 65_536, batch_bytes = 8 << 20, fault = None))]
    fn new(
        py: Python<'_>,
        fd: i32,
        size: u64,
        batch_rows: usize,
        batch_bytes: usize,
        fault: Option<&str>,
    ) -> PyResult<Self> {
        if batch_rows == 0 || batch_bytes == 0 {
            return Err(PyValueError::new_err(
                "batch_rows and batch_bytes are at least 1",
            ));
        }
        let options = EvtxOptions {
            batch_rows,
            batch_bytes,
            fault: fault
                .or(FAULT_COMPILED_IN)
                .map_or(Ok(Fault::None), fault_named)?,
        };
        let source = FileSource::new(duplicate(fd)?, size);
        let decoder =
            EvtxDecoder::new(source, options).map_err(|error| to_exception(py, &error))?;
        Ok(Self(State::Reading(Box::new(decoder))))
    }

    fn __iter__(reader: PyRef<'_, Self>) -> PyRef<'_, Self> {
        reader
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<(&'static str, Batch)>> {
        let mut decoder = match std::mem::replace(&mut self.0, State::Failed) {
            State::Reading(decoder) => decoder,
            State::Finished => {
                self.0 = State::Finished;
                return Ok(None);
            }
            State::Failed => {
                return Err(PyRuntimeError::new_err(
                    "the reader failed before; what it gave is not the whole log",
                ));
            }
        };
        match detached(py, || decoder.next_batch())? {
            Some((output, batch)) => {
                self.0 = State::Reading(decoder);
                Ok(Some((output.name(), Batch(batch))))
            }
            None => {
                self.0 = State::Finished;
                Ok(None)
            }
        }
    }
}

/// What a sabotaged build does wrong by itself: a test that runs the whole product has no other way to
/// reach the decoder. Set when building, by the variable `CASPARIAN_SABOTAGE`.
#[cfg(feature = "sabotage")]
const FAULT_COMPILED_IN: Option<&str> = option_env!("CASPARIAN_SABOTAGE");

/// The environment of a build without the feature changes nothing.
#[cfg(not(feature = "sabotage"))]
const FAULT_COMPILED_IN: Option<&str> = None;

/// `drop-record:N` or `drop-chunk:I`.
#[cfg(feature = "sabotage")]
fn fault_named(name: &str) -> PyResult<Fault> {
    let fault = match name.split_once(':') {
        Some(("drop-record", every)) => every.parse().ok().filter(|n| *n > 0).map(Fault::DropEvery),
        Some(("drop-chunk", slot)) => slot.parse().ok().map(Fault::DropChunk),
        _ => None,
    };
    fault.ok_or_else(|| PyValueError::new_err("fault is not drop-record:N or drop-chunk:I"))
}

/// A build that is not for tests loses nothing on request.
#[cfg(not(feature = "sabotage"))]
fn fault_named(_name: &str) -> PyResult<Fault> {
    Err(PyValueError::new_err(
        "this build has no faults: it was built without the feature `sabotage`",
    ))
}
