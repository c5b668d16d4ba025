//! What must hold for any bytes whatever: the checks of the fuzzers, and of the inputs they once found.
//!
//! The targets in `fuzz/` and the ordinary test `fuzz_replay` share these functions. Each ends in a panic when
//! the engine panics, when walk and decoder do not name the same units, or when memory goes beyond a bound.

#![allow(clippy::unwrap_used, reason = "a check ends where its assumptions do")]

mod allocation;
mod batches;
mod event_log;
mod hive;
mod text;

pub(crate) use event_log::{event_log, event_records};
pub(crate) use hive::{hive, transaction_log};
pub(crate) use text::{delimited, json_lines};

/// A check with the name of its target, which is also the name of the folder with its inputs.
pub(crate) type Check = (&'static str, fn(&[u8]));

/// All checks.
pub(crate) const CHECKS: [Check; 6] = [
    ("event_log", event_log),
    ("event_records", event_records),
    ("hive", hive),
    ("transaction_log", transaction_log),
    ("delimited", delimited),
    ("json_lines", json_lines),
];
