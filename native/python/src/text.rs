//! The decoders of text under a dataset's contract as Python iterators.

use std::sync::Arc;

use arrow_array::RecordBatch;
use casparian_core::CoreError;
use casparian_core::dataset::{Dataset, Output, TextForm};
use casparian_core::delimited::DelimitedDecoder;
use casparian_core::jsonl::JsonlDecoder;
use casparian_core::source::FileSource;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::account::Account;
use crate::batch::Batch;
use crate::descriptor::duplicate;
use crate::errors::{detached, to_exception};

/// Decodes text as a dataset's contract says, batch by batch: iterate to get (output name, batch).
#[pyclass(module = "casparian._native")]
pub(crate) struct TextReader {
    state: State,
    table: String,
}

enum State {
    Reading(Box<Decoder>),
    Finished,
    /// An error or a panic came out; what is left in the decoder is not used.
    Failed,
}

enum Decoder {
    Delimited(DelimitedDecoder<FileSource>),
    Jsonl(JsonlDecoder<FileSource>),
}

impl Decoder {
    fn next_batch(&mut self) -> Result<Option<(Output, RecordBatch)>, CoreError> {
        match self {
            Self::Delimited(decoder) => decoder.next_batch(),
            Self::Jsonl(decoder) => decoder.next_batch(),
        }
    }
}

#[pymethods]
impl TextReader {
    #[new]
    #[pyo3(signature = (fd, size, dataset, *, batch_rows = 65_536, batch_bytes = 8 << 20))]
    fn new(
        py: Python<'_>,
        fd: i32,
        size: u64,
        dataset: &str,
        batch_rows: usize,
        batch_bytes: usize,
    ) -> PyResult<Self> {
        if batch_rows == 0 || batch_bytes == 0 {
            return Err(PyValueError::new_err(
                "batch_rows and batch_bytes are at least 1",
            ));
        }
        let source = FileSource::new(duplicate(fd)?, size);
        let decoder = || -> Result<_, CoreError> {
            let dataset = Arc::new(Dataset::parse(dataset)?);
            let table = dataset.table.clone();
            let decoder = match dataset.form {
                TextForm::Delimited { .. } => Decoder::Delimited(DelimitedDecoder::new(
                    source,
                    dataset,
                    batch_rows,
                    batch_bytes,
                )?),
                TextForm::Jsonl { .. } => {
                    Decoder::Jsonl(JsonlDecoder::new(source, dataset, batch_rows, batch_bytes)?)
                }
            };
            Ok((decoder, table))
        };
        let (decoder, table) = decoder().map_err(|error| to_exception(py, &error))?;
        Ok(Self {
            state: State::Reading(Box::new(decoder)),
            table,
        })
    }

    fn __iter__(reader: PyRef<'_, Self>) -> PyRef<'_, Self> {
        reader
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<(String, Batch)>> {
        let mut decoder = match std::mem::replace(&mut self.state, State::Failed) {
            State::Reading(decoder) => decoder,
            State::Finished => {
                self.state = State::Finished;
                return Ok(None);
            }
            State::Failed => {
                return Err(PyRuntimeError::new_err(
                    "the reader failed before; what it gave is not the whole text",
                ));
            }
        };
        match detached(py, || decoder.next_batch())? {
            Some((output, batch)) => {
                self.state = State::Reading(decoder);
                let name = match output {
                    Output::Rows => self.table.clone(),
                    Output::Quarantine => "@quarantine".to_owned(),
                };
                Ok(Some((name, Batch(batch))))
            }
            None => {
                self.state = State::Finished;
                Ok(None)
            }
        }
    }
}

/// Find the records of a delimited text. The descriptor stays the caller's.
#[pyfunction]
pub(crate) fn account_delimited(
    py: Python<'_>,
    fd: i32,
    size: u64,
    dataset: &str,
) -> PyResult<Account> {
    let source = FileSource::new(duplicate(fd)?, size);
    detached(py, || {
        let dataset = Dataset::parse(dataset)?;
        let TextForm::Delimited { layout, .. } = &dataset.form else {
            return Err(CoreError::Contract {
                reason: "it is of another parser".to_owned(),
            });
        };
        casparian_core::account::account_delimited(&source, layout)
    })
    .map(Account)
}
