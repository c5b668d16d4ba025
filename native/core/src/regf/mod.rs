//! The hive decoder: Windows registry hives and their transaction logs to Arrow batches.
//!
//! What it promises:
//!   * Each allocated key and value cell is a row or a row of `@quarantine`, never both and never neither; each
//!     damaged region is one row of `@quarantine`.
//!   * What is left of deleted keys and values, and what the logs remove, are rows that say so.
//!   * Input cannot make it panic, hang, or use more memory than a small multiple of its size.
//!
//! A hive is read once, as a whole; its logs are applied in memory. `cells` says what is a unit without following a
//! single reference; `walk` follows them from the root; `orphans` takes what is left of the units; `deleted` what is left
//! between them. The count that the result is checked against comes from `crate::account`, which shares no code with this
//! module.

#![forbid(unsafe_code)]

mod base;
mod bits;
mod cells;
mod changes;
mod columns;
mod data;
mod decoder;
mod deleted;
mod emit;
mod hive;
mod image;
mod lists;
mod log;
mod marvin;
mod node;
mod orphans;
mod output;
mod problem;
mod render;
mod rows;
mod schema;
mod security;
mod tables;
mod value_rows;
mod walk;
mod work;

pub use crate::quarantine::quarantine_schema;
pub use decoder::HiveDecoder;
pub use log::LogRole;
pub use schema::{changes_schema, hives_schema, keys_schema, values_schema};

/// An output of the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HiveOutput {
    /// One row for each key.
    Keys,
    /// One row for each value.
    Values,
    /// One row for the hive.
    Hives,
    /// One row for each thing that the logs change.
    Changes,
    /// One row for each cell or region that is no key or value.
    Quarantine,
}

impl HiveOutput {
    /// The name that the output has everywhere else.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keys => "registry_keys",
            Self::Values => "registry_values",
            Self::Hives => "registry_hives",
            Self::Changes => "registry_changes",
            Self::Quarantine => "@quarantine",
        }
    }

    /// The columns of its batches.
    pub fn schema(self) -> arrow_schema::SchemaRef {
        match self {
            Self::Keys => keys_schema(),
            Self::Values => values_schema(),
            Self::Hives => hives_schema(),
            Self::Changes => changes_schema(),
            Self::Quarantine => quarantine_schema(),
        }
    }
}

/// How to decode.
#[derive(Debug, Clone, Copy)]
pub struct HiveOptions {
    /// Rows after which a batch is finished.
    pub batch_rows: usize,
    /// Bytes of buffers after which a batch is finished, about.
    pub batch_bytes: usize,
}

impl Default for HiveOptions {
    fn default() -> Self {
        Self {
            batch_rows: 65_536,
            batch_bytes: 8 << 20,
        }
    }
}
