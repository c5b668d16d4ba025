//! The native engine of Casparian: everything that must be fast or must look at raw bytes.
//!
//! This crate knows nothing of Python. It reads evidence through [`source::ReadAt`], never maps a
//! file, never follows a link, and never panics on input.

pub mod account;
mod bytes;
pub mod dataset;
pub mod delimited;
pub mod error;
pub mod evtx;
pub mod flags;
pub mod hash;
pub mod identity;
pub mod infer;
pub mod jsonl;
pub mod promote;
mod quarantine;
pub mod regf;
pub mod repeats;
mod schema;
pub mod source;
pub mod tally;
pub mod text;
pub mod walk;

pub use error::CoreError;
