//! Systems without these kernel interfaces: nothing is confined, and nothing pretends to be.

use std::path::PathBuf;

use crate::{ConfineError, Isolation, Record, Request};

const WHY: &str = "guests are confined on Linux only";

/// Always an error.
///
/// # Errors
/// Always.
pub fn prepare() -> Result<(), ConfineError> {
    Err(ConfineError::refused("system", WHY))
}

/// Always an error.
///
/// # Errors
/// Always.
pub fn isolate(_: &Isolation) -> Result<Record, ConfineError> {
    Err(ConfineError::refused("system", WHY))
}

/// Always an error.
///
/// # Errors
/// Always.
pub fn lock_down(_: &Request) -> Result<Record, ConfineError> {
    Err(ConfineError::refused("system", WHY))
}

/// Always an error.
///
/// # Errors
/// Always.
pub fn prepare_program() -> Result<(), ConfineError> {
    Err(ConfineError::refused("system", WHY))
}

/// Always an error.
///
/// # Errors
/// Always.
pub fn wall_imports(_: &[PathBuf]) -> Result<Record, ConfineError> {
    Err(ConfineError::refused("system", WHY))
}

/// Always an error.
///
/// # Errors
/// Always.
pub fn allow_program(_: i32, _: i32) -> Result<(), ConfineError> {
    Err(ConfineError::refused("system", WHY))
}

/// Always an error.
pub fn run_program() -> ConfineError {
    ConfineError::refused("system", WHY)
}

/// Says that nothing is supported.
pub fn support() -> Record {
    Record::from([("system", format!("{}: {WHY}", std::env::consts::OS))])
}
