//! Type inference over text: see `casparian_core::infer`.

use casparian_core::delimited::dialect::Asked;
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
        quote: Option<&str>,
        escape: Option<&str>,
        header: bool,
        skip_lines: u64,
        comment: Option<String>,
        encoding: &str,
    ) -> PyResult<Self> {
        let layout = Layout {
            delimiter,
            quote: quote_of(quote.unwrap_or_default())?,
            escape: escape.map_or(Ok(Escape::None), escape_of)?,
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
    #[pyo3(signature = (fd, size, *, threads = 1))]
    fn add(&mut self, py: Python<'_>, fd: i32, size: u64, threads: usize) -> PyResult<()> {
        let source = FileSource::new(duplicate(fd)?, size);
        let inference = &mut self.0;
        detached(py, || inference.add(&source, threads))
    }

    /// What was found, as a JSON document.
    fn report(&self) -> String {
        self.0.report()
    }
}

/// Which layouts a text can have, as a JSON document. The descriptor stays the caller's. An empty quote or comment is none.
#[pyfunction]
#[pyo3(signature = (
    fd, size, *, encoding = None, delimiter = None, quote = None, escape = None, header = None, skip_lines = None,
    comment = None, strict = false
))]
#[allow(
    clippy::too_many_arguments,
    reason = "keywords of a function of Python"
)]
pub(crate) fn text_dialect(
    py: Python<'_>,
    fd: i32,
    size: u64,
    encoding: Option<&str>,
    delimiter: Option<String>,
    quote: Option<&str>,
    escape: Option<&str>,
    header: Option<bool>,
    skip_lines: Option<u64>,
    comment: Option<String>,
    strict: bool,
) -> PyResult<String> {
    let source = FileSource::new(duplicate(fd)?, size);
    let asked = Asked {
        encoding: encoding.map(encoding_of).transpose()?,
        delimiter,
        quote: quote.map(quote_of).transpose()?,
        escape: escape.map(escape_of).transpose()?,
        above_is_known: skip_lines.is_some() || comment.is_some(),
        skip_lines: skip_lines.unwrap_or_default(),
        comment: comment.filter(|prefix| !prefix.is_empty()),
        strict,
    };
    detached(py, || infer::form(&source, &asked, header))
}

fn quote_of(text: &str) -> PyResult<Option<u8>> {
    match text.as_bytes() {
        [] => Ok(None),
        [quote] => Ok(Some(*quote)),
        _ => Err(PyValueError::new_err("the quote is no ASCII character")),
    }
}

fn escape_of(name: &str) -> PyResult<Escape> {
    match name {
        "none" => Ok(Escape::None),
        "double" => Ok(Escape::Doubled),
        "backslash" => Ok(Escape::Byte(b'\\')),
        _ => match name.as_bytes() {
            [escape] if escape.is_ascii() => Ok(Escape::Byte(*escape)),
            _ => Err(PyValueError::new_err("no such escape")),
        },
    }
}
