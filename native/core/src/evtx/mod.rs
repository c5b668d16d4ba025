//! The EVTX decoder: Windows event logs to Arrow batches.
//!
//! What it promises:
//!   * Each record is a row of `evtx_events` or a row of `@quarantine`, never both and never neither; each
//!     region without a record is one row of `@quarantine`.
//!   * Nothing of an event is lost: what has no column is in the lists, with its type.
//!   * Input cannot make it panic, hang, or use more than a bounded amount of memory.
//!
//! Three lanes: records made from a template run a compiled `plan`; records without one are
//! walked token by token (`walk`); what does neither is quarantined with its bytes. The count that the result is checked against
//! comes from `crate::account`, which shares no code with this module.

#![forbid(unsafe_code)]

mod blocks;
mod cache;
mod carve;
mod columns;
mod damage;
mod decoder;
mod fault;
mod layout;
mod limits;
mod live;
mod piece;
mod plan;
mod put;
mod record;
mod render;
mod render_json;
mod render_tree;
mod render_xml;
mod rows;
mod schema;
mod shape;
mod slots;
mod state;
mod system;
mod tables;
mod target;
mod text;
mod time;
mod token;
mod value;
mod walk;
pub mod wide;

pub use crate::quarantine::quarantine_schema;
pub use blocks::EvtxBlocks;
pub use cache::PlanCache;
pub use carve::EvtxCarver;
pub use decoder::EvtxDecoder;
pub use fault::Fault;
pub use render::{RecordPlace, RenderedRecord, render_record};
pub use schema::{chunks_schema, events_schema};

/// An output of the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EvtxOutput {
    /// One row for each event.
    Events,
    /// One row for each chunk.
    Chunks,
    /// One row for each record or region that is no event.
    Quarantine,
}

impl EvtxOutput {
    /// How many outputs there are.
    pub const COUNT: usize = 3;

    /// Every output, in order.
    pub const ALL: [Self; Self::COUNT] = [Self::Events, Self::Chunks, Self::Quarantine];

    /// The name that the output has everywhere else.
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "evtx_events",
            Self::Chunks => "evtx_chunks",
            Self::Quarantine => "@quarantine",
        }
    }

    /// The columns of its batches.
    pub fn schema(self) -> arrow_schema::SchemaRef {
        match self {
            Self::Events => events_schema(),
            Self::Chunks => chunks_schema(),
            Self::Quarantine => quarantine_schema(),
        }
    }
}

/// How to decode.
#[derive(Debug, Clone, Copy)]
pub struct EvtxOptions {
    /// Rows after which a batch is finished.
    pub batch_rows: usize,
    /// Bytes of buffers after which a batch is finished, about.
    pub batch_bytes: usize,
    /// What to do wrong, in tests.
    pub fault: Fault,
}

impl Default for EvtxOptions {
    fn default() -> Self {
        Self {
            batch_rows: 65_536,
            batch_bytes: 8 << 20,
            fault: Fault::None,
        }
    }
}

/// Append UTF-16 text, little-endian, for the other decoders. Returns whether something was replaced: an unpaired
/// surrogate or half a unit at the end.
pub(crate) fn push_utf16(out: &mut Vec<u8>, text: &[u8]) -> bool {
    text::push_utf16(out, text)
}

/// A FILETIME as `YYYY-MM-DDTHH:MM:SS.fffffffZ`, for the other decoders; none behind the year 9999.
pub(crate) fn filetime_text(ticks: u64) -> Option<[u8; 28]> {
    time::filetime_text(ticks)
}

/// A FILETIME as nanoseconds since 1970, for the other decoders; none for zero, and when 64 bits do not hold it.
#[inline]
pub(crate) fn filetime(ticks: u64) -> Option<i64> {
    time::filetime(ticks)
}

/// Append an unsigned integer in decimal, for the other decoders.
#[inline]
pub(crate) fn push_decimal(out: &mut Vec<u8>, value: u64) {
    text::push_decimal(out, value);
}
