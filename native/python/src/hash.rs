//! Hashes of files.

use casparian_core::hash as core;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::descriptor::duplicate;
use crate::errors::detached;

/// Hashes, size and beginning of one file, or why there are none.
#[pyclass(frozen, get_all, module = "casparian._native")]
pub(crate) struct FileDigest {
    blake3: Option<String>,
    sha256: Option<String>,
    size: u64,
    head: Vec<u8>,
    changed: bool,
    error: Option<&'static str>,
    message: Option<String>,
}

#[pymethods]
impl FileDigest {
    fn __repr__(&self) -> String {
        match (&self.blake3, self.error) {
            (Some(blake3), _) => format!("FileDigest(blake3='{blake3}', size={})", self.size),
            (None, error) => format!("FileDigest(error={error:?}, size={})", self.size),
        }
    }
}

impl From<core::FileDigest> for FileDigest {
    fn from(file: core::FileDigest) -> Self {
        let (error, message) = file.error.map(|error| (error.code, error.message)).unzip();
        let digest = file.digest;
        Self {
            blake3: digest.as_ref().map(|digest| hexadecimal(&digest.blake3)),
            sha256: digest
                .as_ref()
                .and_then(|digest| digest.sha256.as_ref().map(hexadecimal)),
            size: file.size_bytes,
            head: digest.map_or_else(Vec::new, |digest| digest.head),
            changed: file.changed,
            error,
            message,
        }
    }
}

fn hexadecimal(bytes: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// Hash files on `threads` threads; results have the order of `paths`, errors are values.
#[pyfunction]
#[pyo3(signature = (paths, *, threads = 2, sha256 = true))]
pub(crate) fn digest_files(
    py: Python<'_>,
    paths: Vec<PyBackedBytes>,
    threads: usize,
    sha256: bool,
) -> PyResult<Vec<FileDigest>> {
    if !(1..=256).contains(&threads) {
        return Err(PyValueError::new_err("threads is not between 1 and 256"));
    }
    let digests = detached(py, || Ok(core::digest_files(&paths, threads, sha256)))?;
    Ok(digests.into_iter().map(FileDigest::from).collect())
}

/// Hash an open regular file from its first byte; its position is not moved.
#[pyfunction]
#[pyo3(signature = (fd, *, sha256 = false))]
pub(crate) fn digest_fd(py: Python<'_>, fd: i32, sha256: bool) -> PyResult<FileDigest> {
    let file = duplicate(fd)?;
    detached(py, || Ok(core::digest_open_file(file, sha256))).map(FileDigest::from)
}

/// Hash open regular files one after the other; results have the order of `fds`, errors are values.
#[pyfunction]
#[pyo3(signature = (fds, *, sha256 = false))]
pub(crate) fn digest_fds(py: Python<'_>, fds: Vec<i32>, sha256: bool) -> PyResult<Vec<FileDigest>> {
    let files = fds.into_iter().map(duplicate).collect::<PyResult<_>>()?;
    let digests = detached(py, || Ok(core::digest_open_files(files, sha256)))?;
    Ok(digests.into_iter().map(FileDigest::from).collect())
}
