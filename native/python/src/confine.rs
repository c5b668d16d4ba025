//! The lockdown of guests. Not to be called in a process that has anything else to do.

use casparian_confine as core;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;

fn to_exception(error: &core::ConfineError) -> PyErr {
    match error.errno() {
        Some(errno) => PyOSError::new_err((errno, error.to_string())),
        None => PyRuntimeError::new_err(error.to_string()),
    }
}

/// Compile the filters once, so that the guests forked from this process need not.
#[pyfunction]
pub(crate) fn prepare_confinement(py: Python<'_>) -> PyResult<()> {
    py.detach(core::prepare)
        .map_err(|error| to_exception(&error))
}

/// Give up in a zygote what no guest may have: namespaces, user, capabilities. Gives the record.
#[pyfunction]
#[pyo3(signature = (*, parent_pid, user))]
pub(crate) fn isolate_zygote(parent_pid: i32, user: Option<(u32, u32)>) -> PyResult<core::Record> {
    core::isolate(&core::Isolation { parent_pid, user }).map_err(|error| to_exception(&error))
}

/// Lock this process down for good; gives the record of what is in force.
#[pyfunction]
#[pyo3(signature = (*, parent_pid, bridge_fd, log_fd, memory_bytes, cpu_seconds))]
pub(crate) fn lock_down(
    parent_pid: i32,
    bridge_fd: i32,
    log_fd: i32,
    memory_bytes: u64,
    cpu_seconds: u64,
) -> PyResult<core::Record> {
    // The GIL is kept: this process has one thread, and a hand-over would only make system calls.
    core::lock_down(&core::Request {
        parent_pid,
        bridge_fd,
        log_fd,
        memory_bytes,
        cpu_seconds,
    })
    .map_err(|error| to_exception(&error))
}

/// What this kernel offers to confine a guest, found out by trying.
#[pyfunction]
pub(crate) fn confinement_support(py: Python<'_>) -> core::Record {
    py.detach(core::support)
}
