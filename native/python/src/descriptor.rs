//! File descriptors that Python code lends.
#![allow(
    unsafe_code,
    reason = "a descriptor arrives from Python as a plain number"
)]

use std::fs::File;
use std::os::fd::BorrowedFd;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::os_error;

/// A descriptor of our own for the open file behind `number`, which stays open and the caller's.
///
/// A duplicate shares the file position, which nothing here uses.
pub(crate) fn duplicate(number: i32) -> PyResult<File> {
    if number < 0 {
        return Err(PyValueError::new_err("a file descriptor is not negative"));
    }
    // SAFETY: the number is not -1. The borrow ends within this function, in which no Python code runs,
    // so the caller cannot close it meanwhile; if it is not open, duplicating fails with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    borrowed
        .try_clone_to_owned()
        .map(File::from)
        .map_err(|error| os_error(&error))
}
