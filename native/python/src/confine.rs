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
#[pyo3(signature = (*, parent_pid, bridge_fd, log_fd, memory_bytes, cpu_seconds, supervisor_fd=None, program_fd=None))]
pub(crate) fn lock_down(
    parent_pid: i32,
    bridge_fd: i32,
    log_fd: i32,
    memory_bytes: u64,
    cpu_seconds: u64,
    supervisor_fd: Option<i32>,
    program_fd: Option<i32>,
) -> PyResult<core::Record> {
    // The GIL is kept: this process has one thread, and a hand-over would only make system calls.
    core::lock_down(&core::Request {
        parent_pid,
        bridge_fd,
        log_fd,
        memory_bytes,
        cpu_seconds,
        once: supervisor_fd.map(|supervisor_fd| core::Once {
            supervisor_fd,
            program_fd,
        }),
    })
    .map_err(|error| to_exception(&error))
}

/// Compile the filters of guests that become a program.
#[pyfunction]
pub(crate) fn prepare_programs(py: Python<'_>) -> PyResult<()> {
    py.detach(core::prepare_program)
        .map_err(|error| to_exception(&error))
}

/// Let a guest's one `execveat` pass.
#[pyfunction]
pub(crate) fn allow_program(py: Python<'_>, listener_fd: i32, pid: i32) -> PyResult<()> {
    py.detach(|| core::allow_program(listener_fd, pid))
        .map_err(|error| to_exception(&error))
}

/// Become the program that `lock_down` was given; returns only by an exception.
#[pyfunction]
pub(crate) fn run_program() -> PyResult<()> {
    Err(to_exception(&core::run_program()))
}

/// Give up in a zygote what importing a parser's packages does not need.
#[pyfunction]
pub(crate) fn wall_imports(readable: Vec<std::path::PathBuf>) -> PyResult<core::Record> {
    core::wall_imports(&readable).map_err(|error| to_exception(&error))
}

/// What this kernel offers to confine a guest, found out by trying.
#[pyfunction]
pub(crate) fn confinement_support(py: Python<'_>) -> core::Record {
    py.detach(core::support)
}
