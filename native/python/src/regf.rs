//! The decoder of registry hives as a Python iterator.

use casparian_core::regf::{HiveDecoder, HiveOptions, LogRole};
use casparian_core::source::FileSource;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::batch::Batch;
use crate::descriptor::duplicate;
use crate::errors::{detached, to_exception};

/// Decodes a hive and its transaction logs, batch by batch: iterate to get (output name, batch).
#[pyclass(module = "casparian._native")]
pub(crate) struct HiveReader(State);

enum State {
    Reading(Box<HiveDecoder<FileSource>>),
    Finished,
    /// An error or a panic came out; what is left in the decoder is not used.
    Failed,
}

#[pymethods]
impl HiveReader {
    #[new]
    #[pyo3(signature = (fd, size, *, logs = Vec::new(), batch_rows = 65_536, batch_bytes = 8 << 20))]
    fn new(
        py: Python<'_>,
        fd: i32,
        size: u64,
        logs: Vec<(String, i32, u64)>,
        batch_rows: usize,
        batch_bytes: usize,
    ) -> PyResult<Self> {
        if batch_rows == 0 || batch_bytes == 0 {
            return Err(PyValueError::new_err(
                "batch_rows and batch_bytes are at least 1",
            ));
        }
        let options = HiveOptions {
            batch_rows,
            batch_bytes,
        };
        let source = FileSource::new(duplicate(fd)?, size);
        let logs = logs
            .into_iter()
            .map(|(role, fd, size)| {
                let role = LogRole::from_name(&role)
                    .ok_or_else(|| PyValueError::new_err("a log is LOG, LOG1 or LOG2"))?;
                Ok((role, FileSource::new(duplicate(fd)?, size)))
            })
            .collect::<PyResult<Vec<_>>>()?;
        let decoder =
            HiveDecoder::new(source, logs, options).map_err(|error| to_exception(py, &error))?;
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
                    "the reader failed before; what it gave is not the whole hive",
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
