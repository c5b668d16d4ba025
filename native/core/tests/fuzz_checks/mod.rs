//! What must hold for any bytes whatever: the checks of the fuzzers, and of the inputs they once found.
//!
//! The targets in `fuzz/` and the ordinary test `fuzz_replay` share these functions. Each ends in a panic when
//! the engine panics, when walk and decoder do not name the same units, or when memory goes beyond a bound.

#![allow(clippy::unwrap_used, reason = "a check ends where its assumptions do")]

mod allocation;
mod batches;
mod event_log;

pub use event_log::{event_log, event_records};

/// The checks by the name of their target, which is also the name of the folder with its findings.
pub const CHECKS: [(&str, fn(&[u8])); 2] =
    [("event_log", event_log), ("event_records", event_records)];
