//! The decoder of event logs as Python iterators.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use arrow_array::RecordBatch;
use casparian_core::CoreError;
use casparian_core::evtx::wide::{WideBatch, WideSelection, WideSplitter};
use casparian_core::evtx::{EvtxBlocks, EvtxDecoder, EvtxOptions, EvtxOutput, Fault, PlanCache};
use casparian_core::source::FileSource;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::batch::Batch;
use crate::descriptor::duplicate;
use crate::errors::{detached, to_exception};
use crate::evtx_wide::named;

type Item = (&'static str, Batch);

/// Compiled templates, for the logs that are decoded after the one that had them.
#[pyclass(frozen, module = "casparian._native")]
pub(crate) struct EvtxPlans(Mutex<PlanCache>);

#[pymethods]
impl EvtxPlans {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(PlanCache::new()))
    }
}

impl EvtxPlans {
    /// Take what is there; another reader that takes at the same time begins with nothing.
    fn take(&self) -> PlanCache {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut cache, PlanCache::new())
    }

    fn give_back(&self, plans: PlanCache) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = plans;
    }
}

enum State<D> {
    Reading(Box<D>),
    Finished,
    /// An error or a panic came out; what is left in the decoder is not used.
    Failed,
}

impl<D: Send> State<D> {
    /// One step, without the GIL. A step that gives nothing is the last: then `finish` takes the decoder.
    fn step(
        &mut self,
        py: Python<'_>,
        step: impl FnOnce(&mut D) -> Result<Option<(EvtxOutput, RecordBatch)>, CoreError> + Send,
        finish: impl FnOnce(D),
    ) -> PyResult<Option<Item>> {
        let mut decoder = match std::mem::replace(self, Self::Failed) {
            Self::Reading(decoder) => decoder,
            Self::Finished => {
                *self = Self::Finished;
                return Ok(None);
            }
            Self::Failed => {
                return Err(PyRuntimeError::new_err(
                    "the reader failed before; what it gave is not the whole log",
                ));
            }
        };
        match detached(py, || step(&mut decoder))? {
            Some((output, batch)) => {
                *self = Self::Reading(decoder);
                Ok(Some((output.name(), Batch(batch))))
            }
            None => {
                *self = Self::Finished;
                finish(*decoder);
                Ok(None)
            }
        }
    }
}

fn begin_with(plans: Option<&Py<EvtxPlans>>) -> PlanCache {
    plans.map_or_else(PlanCache::new, |plans| plans.get().take())
}

fn end_with(plans: Option<&Py<EvtxPlans>>, cache: PlanCache) {
    if let Some(plans) = plans {
        plans.get().give_back(cache);
    }
}

/// Decodes an event log, batch by batch: iterate to get (output name, batch).
#[pyclass(module = "casparian._native")]
pub(crate) struct EvtxReader {
    state: State<EvtxBlocks<FileSource>>,
    plans: Option<Py<EvtxPlans>>,
    /// Makes wide rows, when some are wanted.
    wide: Option<WideSplitter>,
    ready: VecDeque<WideBatch>,
}

#[pymethods]
impl EvtxReader {
    #[new]
    #[pyo3(signature = (fd, size, *, batch_rows = 65_536, batch_bytes = 8 << 20, fault = None, plans = None, threads = 1, wide = "none"))]
    #[expect(clippy::too_many_arguments, reason = "they have names in Python")]
    fn new(
        py: Python<'_>,
        fd: i32,
        size: u64,
        batch_rows: usize,
        batch_bytes: usize,
        fault: Option<&str>,
        plans: Option<Py<EvtxPlans>>,
        threads: usize,
        wide: &str,
    ) -> PyResult<Self> {
        let options = options(batch_rows, batch_bytes, fault)?;
        let selection =
            WideSelection::read(wide).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let source = FileSource::new(duplicate(fd)?, size);
        let cache = begin_with(plans.as_ref());
        let blocks = EvtxBlocks::new(source, options, cache, threads)
            .map_err(|error| to_exception(py, &error))?;
        let state = State::Reading(Box::new(blocks));
        Ok(Self {
            state,
            plans,
            wide: (!selection.is_empty()).then(|| WideSplitter::new(&selection)),
            ready: VecDeque::new(),
        })
    }

    fn __iter__(reader: PyRef<'_, Self>) -> PyRef<'_, Self> {
        reader
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Item>> {
        if let Some(batch) = self.ready.pop_front() {
            return Ok(Some(named(batch)));
        }
        let (wide, ready) = (&mut self.wide, &mut self.ready);
        let found = self.state.step(
            py,
            |blocks| {
                let found = blocks.next_batch()?;
                match (wide, &found) {
                    (Some(wide), Some((EvtxOutput::Events, batch))) => {
                        ready.extend(wide.push(batch)?);
                    }
                    (Some(wide), None) => ready.extend(wide.finish()?),
                    _ => {}
                }
                Ok(found)
            },
            |blocks| end_with(self.plans.as_ref(), blocks.into_cache()),
        )?;
        Ok(found.or_else(|| self.ready.pop_front().map(named)))
    }
}

/// Decodes several small logs into the same batches: one behind the other, each as if it were alone.
#[pyclass(module = "casparian._native")]
pub(crate) struct EvtxGroupReader {
    state: State<EvtxDecoder<FileSource>>,
    plans: Option<Py<EvtxPlans>>,
    /// The logs behind the one in work: they are opened when it is their turn.
    waiting: VecDeque<(i32, u64)>,
    /// Whether the log in work is decoded to its end.
    is_decoded: bool,
    /// Rows of each log that is decoded, by output.
    rows: Vec<[u64; EvtxOutput::COUNT]>,
    total: [u64; EvtxOutput::COUNT],
}

#[pymethods]
impl EvtxGroupReader {
    #[new]
    #[pyo3(signature = (sources, *, batch_rows = 65_536, batch_bytes = 8 << 20, fault = None, plans = None))]
    fn new(
        py: Python<'_>,
        sources: Vec<(i32, u64)>,
        batch_rows: usize,
        batch_bytes: usize,
        fault: Option<&str>,
        plans: Option<Py<EvtxPlans>>,
    ) -> PyResult<Self> {
        let options = options(batch_rows, batch_bytes, fault)?;
        let mut waiting = VecDeque::from(sources);
        let Some((fd, size)) = waiting.pop_front() else {
            return Err(PyValueError::new_err("a group has one source at least"));
        };
        let source = FileSource::new(duplicate(fd)?, size);
        let decoder = EvtxDecoder::with_cache(source, options, begin_with(plans.as_ref()))
            .map_err(|error| to_exception(py, &error))?;
        Ok(Self {
            state: State::Reading(Box::new(decoder)),
            plans,
            waiting,
            is_decoded: false,
            rows: Vec::new(),
            total: [0; EvtxOutput::COUNT],
        })
    }

    fn __iter__(reader: PyRef<'_, Self>) -> PyRef<'_, Self> {
        reader
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Item>> {
        loop {
            if !self.is_decoded {
                self.decode(py)?;
            }
            let next = self.waiting.pop_front();
            let Some((fd, size)) = next else {
                return self.state.step(py, EvtxDecoder::next_batch, |decoder| {
                    end_with(self.plans.as_ref(), decoder.into_cache());
                });
            };
            let State::Reading(decoder) = &mut self.state else {
                return self.state.step(py, |_| Ok(None), drop);
            };
            if let Some((output, batch)) = decoder.full_batch() {
                self.waiting.push_front((fd, size));
                return Ok(Some((output.name(), Batch(batch))));
            }
            let source = FileSource::new(duplicate(fd)?, size);
            decoder
                .next_source(source)
                .map_err(|error| to_exception(py, &error))?;
            self.is_decoded = false;
        }
    }

    /// Rows of each source that is decoded, in order, by output; all of them at the end.
    #[getter]
    fn rows(&self) -> Vec<HashMap<&'static str, u64>> {
        let named = |rows: &[u64; EvtxOutput::COUNT]| {
            EvtxOutput::ALL
                .into_iter()
                .filter(|output| rows[*output as usize] > 0)
                .map(|output| (output.name(), rows[output as usize]))
                .collect()
        };
        self.rows.iter().map(named).collect()
    }
}

impl EvtxGroupReader {
    /// Decode the source in work to its end.
    fn decode(&mut self, py: Python<'_>) -> PyResult<()> {
        let State::Reading(mut decoder) = std::mem::replace(&mut self.state, State::Failed) else {
            return Err(PyRuntimeError::new_err(
                "the reader failed before; what it gave is not the whole group",
            ));
        };
        let total = detached(py, || decoder.finish_source())?;
        let rows = std::array::from_fn(|output| total[output] - self.total[output]);
        self.rows.push(rows);
        self.total = total;
        self.is_decoded = true;
        self.state = State::Reading(decoder);
        Ok(())
    }
}

fn options(batch_rows: usize, batch_bytes: usize, fault: Option<&str>) -> PyResult<EvtxOptions> {
    if batch_rows == 0 || batch_bytes == 0 {
        return Err(PyValueError::new_err(
            "batch_rows and batch_bytes are at least 1",
        ));
    }
    Ok(EvtxOptions {
        batch_rows,
        batch_bytes,
        fault: fault
            .or(FAULT_COMPILED_IN)
            .map_or(Ok(Fault::None), fault_named)?,
    })
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
