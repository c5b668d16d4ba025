//! Accounts and tallies: the two sides of the ledger.

use casparian_core::account as core;
use casparian_core::flags::{CARVED, RECOVERED, SLACK};
use casparian_core::source::FileSource;
use casparian_core::tally;
use pyo3::buffer::{Element, PyBuffer, PyUntypedBuffer};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::descriptor::duplicate;
use crate::errors::{detached, to_exception};

/// What an independent walk found in one source.
#[pyclass(frozen, eq, module = "casparian._native")]
#[derive(PartialEq)]
pub(crate) struct Account(pub(crate) core::Account);

#[pymethods]
impl Account {
    #[getter]
    fn unit(&self) -> &'static str {
        self.0.unit.name()
    }

    #[getter]
    fn declared(&self) -> Option<u64> {
        self.0.declared
    }

    #[getter]
    fn present(&self) -> u64 {
        self.0.present
    }

    #[getter]
    fn damaged(&self) -> u64 {
        self.0.damaged
    }

    #[getter]
    fn slack_records(&self) -> u64 {
        self.0.slack_records
    }

    #[getter]
    fn window_origin(&self) -> u64 {
        self.0.windows.origin()
    }

    #[getter]
    fn window_bytes(&self) -> u64 {
        self.0.windows.window_bytes()
    }

    #[getter]
    fn blank_units(&self) -> u64 {
        self.0.blank_units
    }

    #[getter]
    fn blank_bytes(&self) -> u64 {
        self.0.blank_bytes
    }

    /// The findings as (code, offset, length, message).
    #[getter]
    fn findings(&self) -> Vec<(&str, u64, u64, &str)> {
        let list = self.0.findings.list().iter();
        list.map(|f| (f.code.as_str(), f.offset, f.length, f.message.as_str()))
            .collect()
    }

    /// The account in its stored form.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.to_bytes())
    }

    /// Read an account that another process wrote; ValueError unless it is whole and consistent.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        detached(py, || core::Account::from_bytes(data)).map(Self)
    }

    fn __repr__(&self) -> String {
        format!(
            "Account(unit='{}', present={}, damaged={}, findings={})",
            self.0.unit.name(),
            self.0.present,
            self.0.damaged,
            self.0.findings.list().len()
        )
    }
}

/// Find the units of an event log. The descriptor stays the caller's.
#[pyfunction]
pub(crate) fn account_evtx(py: Python<'_>, fd: i32, size: u64) -> PyResult<Account> {
    let source = FileSource::new(duplicate(fd)?, size);
    detached(py, || core::account_evtx(&source)).map(Account)
}

/// Find the units of a registry hive. `logs` are (role, descriptor, size) of its transaction logs, role one of
/// `LOG`, `LOG1`, `LOG2`; all descriptors stay the caller's.
#[pyfunction]
#[pyo3(signature = (fd, size, logs = Vec::new()))]
pub(crate) fn account_hive(
    py: Python<'_>,
    fd: i32,
    size: u64,
    logs: Vec<(String, i32, u64)>,
) -> PyResult<Account> {
    let source = FileSource::new(duplicate(fd)?, size);
    let mut files = Vec::with_capacity(logs.len());
    for (role, fd, size) in logs {
        let role = core::LogRole::named(&role)
            .ok_or_else(|| PyValueError::new_err("a log's role is not one of LOG, LOG1, LOG2"))?;
        files.push((role, FileSource::new(duplicate(fd)?, size)));
    }
    detached(py, || {
        let logs: Vec<_> = files
            .iter()
            .map(|(role, source)| core::HiveLog {
                role: *role,
                source,
            })
            .collect();
        core::account_hive(&source, &logs)
    })
    .map(Account)
}

/// Find the lines of a text. `encoding` is used when the text has no byte-order mark.
#[pyfunction]
#[pyo3(signature = (fd, size, *, encoding = None))]
pub(crate) fn account_lines(
    py: Python<'_>,
    fd: i32,
    size: u64,
    encoding: Option<&str>,
) -> PyResult<Account> {
    let hint = encoding.map(text_encoding).transpose()?;
    let source = FileSource::new(duplicate(fd)?, size);
    detached(py, || core::account_lines(&source, hint)).map(Account)
}

fn text_encoding(name: &str) -> PyResult<core::TextEncoding> {
    match name {
        "bytes" | "utf-8" | "utf-8-sig" => Ok(core::TextEncoding::Bytes),
        "utf-16-le" => Ok(core::TextEncoding::Utf16Le),
        "utf-16-be" => Ok(core::TextEncoding::Utf16Be),
        _ => Err(PyValueError::new_err(
            "encoding is not one of bytes, utf-8, utf-8-sig, utf-16-le, utf-16-be",
        )),
    }
}

/// A window of the source in which walk and decoder do not agree.
#[pyclass(frozen, get_all, module = "casparian._native")]
pub(crate) struct WindowDifference {
    index: u64,
    offset: u64,
    present: u64,
    accounted: u64,
    same_units: bool,
}

#[pymethods]
impl WindowDifference {
    fn __repr__(&self) -> String {
        format!(
            "WindowDifference(index={}, offset={}, present={}, accounted={}, same_units={})",
            self.index,
            self.offset,
            self.present,
            self.accounted,
            if self.same_units { "True" } else { "False" }
        )
    }
}

impl From<tally::WindowDifference> for WindowDifference {
    fn from(difference: tally::WindowDifference) -> Self {
        Self {
            index: difference.index,
            offset: difference.offset,
            present: difference.present,
            accounted: difference.accounted,
            same_units: difference.same_units,
        }
    }
}

/// What came out of a decoder, by window of the source.
#[pyclass(module = "casparian._native")]
pub(crate) struct Tally(tally::Tally);

#[pymethods]
impl Tally {
    #[new]
    fn new(py: Python<'_>, window_origin: u64, window_bytes: u64) -> PyResult<Self> {
        tally::Tally::new(window_origin, window_bytes)
            .map(Self)
            .map_err(|error| to_exception(py, &error))
    }

    /// How many units were added.
    #[getter]
    fn total(&self) -> u64 {
        self.0.total()
    }

    /// Add units: two buffers of u64 in little-endian order, of equal length.
    fn add(
        &mut self,
        py: Python<'_>,
        offsets: &Bound<'_, PyAny>,
        lengths: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let offsets = little_endian_numbers(offsets)?;
        let lengths = little_endian_numbers(lengths)?;
        if offsets.len() != lengths.len() {
            return Err(PyValueError::new_err(
                "offsets and lengths have different numbers of values",
            ));
        }
        let tally = &mut self.0;
        detached(py, || {
            let mut spans = offsets.into_iter().zip(lengths);
            spans.try_for_each(|(offset, length)| tally.add(offset, length))
        })
    }

    /// Add the rows of three columns, as buffers of u64, u64 and u32, but those in slack or carved; gives how many were
    /// added, how many of these are flagged as recovered, and how many were left out.
    fn add_rows(
        &mut self,
        py: Python<'_>,
        offsets: &Bound<'_, PyAny>,
        lengths: &Bound<'_, PyAny>,
        flags: &Bound<'_, PyAny>,
    ) -> PyResult<(u64, u64, u64)> {
        let offsets = little_endian_numbers(offsets)?;
        let lengths = little_endian_numbers(lengths)?;
        let flags = bytes_of(py, &PyUntypedBuffer::get(flags)?)?;
        let (flags, rest) = flags.as_chunks::<4>();
        if offsets.len() != lengths.len() || offsets.len() != flags.len() || !rest.is_empty() {
            return Err(PyValueError::new_err(
                "offsets, lengths and flags have different numbers of values",
            ));
        }
        let (mut added, mut recovered, mut left_out) = (0, 0, 0);
        for ((offset, length), flags) in offsets.into_iter().zip(lengths).zip(flags) {
            let flags = u32::from_le_bytes(*flags);
            if flags & (SLACK | CARVED) != 0 {
                left_out += 1;
                continue;
            }
            let tallied = self.0.add(offset, length);
            tallied.map_err(|error| to_exception(py, &error))?;
            added += 1;
            recovered += u64::from(flags & RECOVERED != 0);
        }
        Ok((added, recovered, left_out))
    }

    /// The windows in which tally and account differ; empty when every unit came out exactly once.
    fn compare(&self, py: Python<'_>, account: &Account) -> PyResult<Vec<WindowDifference>> {
        let differences = detached(py, || self.0.compare(&account.0))?;
        Ok(differences
            .into_iter()
            .map(WindowDifference::from)
            .collect())
    }
}

/// Copy a contiguous buffer, when its items are of this type.
fn copy<T: Element>(py: Python<'_>, buffer: &PyUntypedBuffer) -> Option<PyResult<Vec<T>>> {
    let typed: &PyBuffer<T> = buffer.as_typed().ok()?;
    Some(typed.to_vec(py))
}

/// Copy a contiguous buffer of bytes.
fn bytes_of(py: Python<'_>, buffer: &PyUntypedBuffer) -> PyResult<Vec<u8>> {
    if buffer.len_bytes() == 0 {
        // No values: the pointer may be anything, and so be refused as not aligned.
        return Ok(Vec::new());
    }
    if let Some(bytes) = copy::<u8>(py, buffer) {
        return bytes;
    }
    if let Some(bytes) = copy::<i8>(py, buffer) {
        // pyarrow buffers call their bytes signed.
        return Ok(bytes?.into_iter().map(i8::cast_unsigned).collect());
    }
    Err(PyValueError::new_err(
        "a buffer holds neither aligned u64 nor bytes",
    ))
}

/// Copy a contiguous buffer of u64, or of bytes that are u64 in little-endian order.
fn little_endian_numbers(object: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    let py = object.py();
    let buffer = PyUntypedBuffer::get(object)?;
    if buffer.len_bytes() == 0 {
        return Ok(Vec::new());
    }
    if let Some(numbers) = copy::<u64>(py, &buffer) {
        return Ok(numbers?.into_iter().map(u64::from_le).collect());
    }
    let bytes = bytes_of(py, &buffer)?;
    let (numbers, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(PyValueError::new_err(
            "a buffer's length is not a multiple of 8",
        ));
    }
    Ok(numbers
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes))
        .collect())
}
