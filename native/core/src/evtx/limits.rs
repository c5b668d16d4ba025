//! The bounds that keep hostile input from costing more than a multiple of its size.
//!
//! A chunk has 65,536 bytes, yet its templates may name one value many times. Tokens, operations and
//! text are therefore counted, and a record that goes over a bound is quarantined like any other
//! that does not decode.

use super::damage::{Damage, Decoded, Reason};

/// Elements inside one another, and BinXML values inside one another.
pub(super) const DEPTH_MAX: usize = 16;
/// Elements of one template definition or one template-less fragment.
pub(super) const ELEMENTS_MAX: usize = 1_024;
/// Substitution values of one template instance.
pub(super) const SUBSTITUTIONS_MAX: usize = 8_192;
/// Tokens, operations and substitution values of all records of one chunk.
pub(super) const CHUNK_WORK_MAX: u32 = 1 << 20;
/// Bytes of names and values written for one record.
pub(super) const RECORD_TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes of names and values written for all records of one chunk.
pub(super) const CHUNK_TEXT_BYTES_MAX: usize = 8 << 20;
/// Bytes of compiled plans that are kept; the cache starts afresh when they are used up.
pub(super) const PLAN_CACHE_BYTES_MAX: usize = 16 << 20;

/// What is left of a chunk's work.
#[derive(Debug)]
pub(super) struct Budget {
    work: u32,
    text_bytes: usize,
}

impl Budget {
    /// The budget of a fresh chunk.
    pub(super) fn new() -> Self {
        Self {
            work: CHUNK_WORK_MAX,
            text_bytes: CHUNK_TEXT_BYTES_MAX,
        }
    }

    /// Pay for `units` tokens, operations or values met at `at`.
    #[inline]
    pub(super) fn spend(&mut self, units: u32, at: usize) -> Decoded<()> {
        match self.work.checked_sub(units) {
            Some(left) => {
                self.work = left;
                Ok(())
            }
            None => Err(Damage::new(
                Reason::WorkLimit,
                at,
                "the records of this chunk need more work than a chunk may cost",
            )),
        }
    }

    /// How many units are left.
    #[inline]
    pub(super) fn work_left(&self) -> u32 {
        self.work
    }

    /// How many bytes of text the next record may write.
    pub(super) fn record_text_bytes(&self) -> usize {
        self.text_bytes.min(RECORD_TEXT_BYTES_MAX)
    }

    /// Pay for the text that a record has written.
    pub(super) fn spend_text(&mut self, bytes: usize) {
        self.text_bytes = self.text_bytes.saturating_sub(bytes);
    }
}
