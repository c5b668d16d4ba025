//! Carving and rendering of event records, for Python.

use casparian_core::account;
use casparian_core::evtx::{EvtxCarver, EvtxOptions, Fault, RecordPlace, render_record};
use casparian_core::source::FileSource;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::account::Account;
use crate::batch::Batch;
use crate::descriptor::duplicate;
use crate::errors::detached;

/// Carves a source, batch by batch: iterate to get (output name, batch).
#[pyclass(module = "casparian._native")]
pub(crate) struct EvtxCarveReader(State);

enum State {
    Reading(Box<EvtxCarver<FileSource>>),
    Finished,
    /// An error or a panic came out; what is left in the carver is not used.
    Failed,
}

#[pymethods]
impl EvtxCarveReader {
    #[new]
    #[pyo3(signature = (fd, size, *, batch_rows = 65_536, batch_bytes = 8 << 20))]
    fn new(fd: i32, size: u64, batch_rows: usize, batch_bytes: usize) -> PyResult<Self> {
        if batch_rows == 0 || batch_bytes == 0 {
            return Err(PyValueError::new_err(
                "batch_rows and batch_bytes are at least 1",
            ));
        }
        let options = EvtxOptions {
            batch_rows,
            batch_bytes,
            fault: Fault::None,
        };
        let source = FileSource::new(duplicate(fd)?, size);
        Ok(Self(State::Reading(Box::new(EvtxCarver::new(
            source, options,
        )))))
    }

    fn __iter__(reader: PyRef<'_, Self>) -> PyRef<'_, Self> {
        reader
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<(&'static str, Batch)>> {
        let mut carver = match std::mem::replace(&mut self.0, State::Failed) {
            State::Reading(carver) => carver,
            State::Finished => {
                self.0 = State::Finished;
                return Ok(None);
            }
            State::Failed => {
                return Err(PyRuntimeError::new_err(
                    "the reader failed before; what it gave is not all that is there",
                ));
            }
        };
        match detached(py, || carver.next_batch())? {
            Some((output, batch)) => {
                self.0 = State::Reading(carver);
                Ok(Some((output.name(), Batch(batch))))
            }
            None => {
                self.0 = State::Finished;
                Ok(None)
            }
        }
    }
}

/// Count the event records that carving must find. The descriptor stays the caller's.
#[pyfunction]
pub(crate) fn account_evtx_carved(py: Python<'_>, fd: i32, size: u64) -> PyResult<Account> {
    let source = FileSource::new(duplicate(fd)?, size);
    detached(py, || account::account_evtx_carved(&source)).map(Account)
}

/// Render the record at a place: (XML, JSON, characters that XML cannot hold).
#[pyfunction]
#[pyo3(signature = (fd, size, offset, length, *, carved = false))]
pub(crate) fn render_evtx(
    py: Python<'_>,
    fd: i32,
    size: u64,
    offset: u64,
    length: u64,
    carved: bool,
) -> PyResult<(String, String, usize)> {
    let source = FileSource::new(duplicate(fd)?, size);
    let place = RecordPlace {
        offset,
        length,
        carved,
    };
    let rendered = detached(py, || render_record(&source, place))?;
    Ok((rendered.xml, rendered.json, rendered.unfit_for_xml))
}
