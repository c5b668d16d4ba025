//! The hot loops, one a run, for counting their instructions: `hot_loops LOOP FILE`.
//!
//! Only what happens inside [`measured`] counts; `tests/instructions` runs this below callgrind. The file is in memory before, so
//! that the counts are of our code and not of the kernel's.

use std::hint::black_box;
use std::process::ExitCode;

use casparian_core::account::{TextEncoding, account_evtx, account_lines};
use casparian_core::evtx::{EvtxDecoder, EvtxOptions};
use casparian_core::source::SliceSource;

/// The name that callgrind looks for.
#[inline(never)]
fn measured(run: Run, bytes: &[u8]) -> u64 {
    black_box(run(black_box(bytes)))
}

fn decode_evtx(bytes: &[u8]) -> u64 {
    let mut rows = 0;
    let mut decoder =
        EvtxDecoder::new(SliceSource(bytes), EvtxOptions::default()).expect("a log of usual size");
    while let Some((_, batch)) = decoder.next_batch().expect("bytes in memory can be read") {
        rows += black_box(batch).num_rows() as u64;
    }
    rows
}

fn count_evtx(bytes: &[u8]) -> u64 {
    account_evtx(&SliceSource(bytes))
        .expect("bytes in memory can be read")
        .present
}

fn count_lines(bytes: &[u8]) -> u64 {
    account_lines(&SliceSource(bytes), None::<TextEncoding>)
        .expect("bytes in memory can be read")
        .present
}

fn hash_blake3(bytes: &[u8]) -> u64 {
    u64::from(blake3::hash(bytes).as_bytes()[0]) | 1
}

/// What runs one loop over bytes, and gives the number of units that it met.
type Run = fn(&[u8]) -> u64;

/// Each loop by its name.
const LOOPS: [(&str, Run); 4] = [
    ("decode_evtx", decode_evtx),
    ("account_evtx", count_evtx),
    ("account_lines", count_lines),
    ("blake3", hash_blake3),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let chosen = arguments
        .get(1)
        .and_then(|name| LOOPS.iter().find(|(known, _)| known == name));
    let bytes = arguments.get(2).map(std::fs::read);
    let (Some((_, run)), Some(Ok(bytes))) = (chosen, bytes) else {
        eprintln!("usage: hot_loops LOOP FILE, where LOOP is one of:");
        LOOPS.iter().for_each(|(name, _)| eprintln!("  {name}"));
        return ExitCode::FAILURE;
    };
    let units = measured(*run, &bytes);
    println!("{units}");
    // A loop that found nothing was not measured.
    ExitCode::from(u8::from(units == 0))
}
