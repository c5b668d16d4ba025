//! Faults on purpose lose exactly what they say, in silence.
//!
//! That the ledger notices them is shown in `ledger_sabotage.rs`.

#![cfg(feature = "sabotage")]
#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod evtx_world;

use casparian_core::evtx::{EvtxOptions, Fault};
use casparian_core::source::SliceSource;
use evtx_world::*;

fn decode_wrong(fault: Fault) -> Outcome {
    let file = log(&[usual_chunk(1, 5).finish(), usual_chunk(6, 5).finish()]);
    let options = EvtxOptions {
        fault,
        ..EvtxOptions::default()
    };
    decode_with(SliceSource(file), options)
}

#[test]
fn every_nth_row_is_lost() {
    let outcome = decode_wrong(Fault::DropEvery(4));
    assert_eq!(outcome.ids(), [1, 2, 3, 5, 6, 7, 9, 10]);
    assert!(outcome.quarantine.is_empty());
    assert_eq!(decode_wrong(Fault::DropEvery(0)).ids().len(), 10);
}

#[test]
fn one_chunk_is_lost() {
    let outcome = decode_wrong(Fault::DropChunk(0));
    assert_eq!(outcome.ids(), [6, 7, 8, 9, 10]);
    assert_eq!(outcome.chunk_u32s("chunk"), [Some(1)]);
}
