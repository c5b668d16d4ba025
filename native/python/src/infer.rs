//! Type inference over text: see `casparian_core::infer`.

use casparian_core::delimited::{Encoding, Escape, Layout};
use casparian_core::infer;
use casparian_core::source::FileSource;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::descriptor::duplicate;
use crate::errors::detached;

fn encoding_of(name: &str) -> PyResult<Encoding> {
    Encoding::named(name)
        .ok_or_else(|| PyValueError::new_err(format!("`{name}` is no encoding of text")))
}

/// Infers the columns of delimited text, file after file.
#[pyclass(module = "casparian._native")]
pub(crate) struct DelimitedInference {
    inference: infer::DelimitedInference,
    layout: Layout,
}

#[pymethods]
impl DelimitedInference {
    #[new]
    #[pyo3(signature = (*, delimiter, quote, escape, header, skip_lines, comment, encoding))]
    fn new(
        delimiter: String,
        quote: Option<char>,
        escape: Option<&str>,
        header: bool,
        skip_lines: u64,
        comment: Option<String>,
        encoding: &str,
    ) -> PyResult<Self> {
        let layout = Layout {
            delimiter,
            quote: quote
                .map(u8::try_from)
                .transpose()
                .map_err(|_| PyValueError::new_err("the quote is no ASCII character"))?,
            escape: match escape {
                None => Escape::None,
                Some("double") => Escape::Doubled,
                Some("backslash") => Escape::Byte(b'\\'),
                Some(_) => return Err(PyValueError::new_err("no such escape")),
            },
            header,
            skip_lines,
            comment,
            encoding: encoding_of(encoding)?,
            ..Layout::default()
        };
        layout
            .check()
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self {
            inference: infer::DelimitedInference::default(),
            layout,
        })
    }

    /// Take a file into account. The descriptor stays the caller's.
    #[pyo3(signature = (fd, size, *, threads = 1))]
    fn add(&mut self, py: Python<'_>, fd: i32, size: u64, threads: usize) -> PyResult<()> {
        let source = FileSource::new(duplicate(fd)?, size);
        let (inference, layout) = (&mut self.inference, &self.layout);
        detached(py, || inference.add(&source, layout, threads))
    }

    /// What was found, as a JSON document.
    fn report(&self) -> String {
        self.inference.report()
    }
}

/// Infers the columns of JSON Lines, file after file.
#[pyclass(module = "casparian._native")]
pub(crate) struct JsonlInference(infer::JsonlInference);

#[pymethods]
impl JsonlInference {
    #[new]
    fn new() -> Self {
        Self(infer::JsonlInference::default())
    }

    /// Take a file into account. The descriptor stays the caller's.
    fn add(&mut self, py: Python<'_>, fd: i32, size: u64) -> PyResult<()> {
        let source = FileSource::new(duplicate(fd)?, size);
        let inference = &mut self.0;
        detached(py, || inference.add(source))
    }

    /// What was found, as a JSON document.
    fn report(&self) -> String {
        self.0.report()
    }
}

/// Which layouts a text can have, as a JSON document. The descriptor stays the caller's.
#[pyfunction]
#[pyo3(signature = (fd, size, *, encoding = None, delimiter = None, header = None))]
pub(crate) fn text_dialect(
    py: Python<'_>,
    fd: i32,
    size: u64,
    encoding: Option<&str>,
    delimiter: Option<&str>,
    header: Option<bool>,
) -> PyResult<String> {
    let source = FileSource::new(duplicate(fd)?, size);
    let encoding = encoding.map(encoding_of).transpose()?;
    detached(py, || infer::dialect(&source, encoding, delimiter, header))
}
