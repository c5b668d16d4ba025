//! The walk over an evidence directory.

use casparian_core::walk as core;
use pyo3::prelude::*;

use crate::errors::detached;

/// One name in the evidence.
#[pyclass(frozen, get_all, module = "casparian._native")]
pub(crate) struct Entry {
    path: Vec<u8>,
    kind: &'static str,
    size: u64,
    mtime_ns: i64,
    device: u64,
    inode: u64,
    links: u64,
    link_target: Option<Vec<u8>>,
    error: Option<String>,
    errno: Option<i32>,
}

#[pymethods]
impl Entry {
    fn __repr__(&self) -> String {
        let (path, kind) = (self.path.escape_ascii(), self.kind);
        format!("Entry(path=b'{path}', kind='{kind}', size={})", self.size)
    }
}

impl From<core::Entry> for Entry {
    fn from(entry: core::Entry) -> Self {
        let (errno, error) = entry
            .error
            .map(|error| (error.errno, error.message))
            .unzip();
        Self {
            path: entry.path,
            kind: entry.kind.name(),
            size: entry.size_bytes,
            mtime_ns: entry.mtime_nanoseconds,
            device: entry.device,
            inode: entry.inode,
            links: entry.links,
            link_target: entry.link_target,
            error,
            errno,
        }
    }
}

/// Every name below `root` in byte order of the relative paths; links are not followed.
#[pyfunction]
pub(crate) fn walk(py: Python<'_>, root: &[u8]) -> PyResult<Vec<Entry>> {
    let entries = detached(py, || Ok(core::walk(root)))?;
    Ok(entries.into_iter().map(Entry::from).collect())
}
