//! Event logs: decoder and accountant agree, and memory stays bounded.

use casparian_core::account::account_evtx;
use casparian_core::evtx::{EvtxDecoder, EvtxOptions, EvtxOutput};
use casparian_core::source::SliceSource;
use casparian_core::tally::Tally;

use super::allocation::measured;
use super::batches::{add_units, check_columns};

/// What any log may cost, in bytes: text, rows and plans of a batch and one chunk (`evtx::limits`).
const MEMORY_BASE: usize = 64 << 20;
/// What each byte of a log may cost beyond that.
const MEMORY_FACTOR: usize = 4;

const FILE_HEADER_BYTES: usize = 4_096;
const CHUNK_HEADER_BYTES: usize = 512;
const CHUNK_BYTES: usize = 65_536;

/// A file of any content.
pub(crate) fn event_log(bytes: &[u8]) {
    let (peak, ()) = measured(|| decode_and_account(bytes));
    let bound = MEMORY_BASE + MEMORY_FACTOR * bytes.len();
    assert!(
        peak <= bound,
        "{peak} bytes of memory for a log of {} bytes, the bound is {bound}",
        bytes.len()
    );
}

/// The live area of one chunk whose header and checksums are right: what is wrong is in the records.
pub(crate) fn event_records(records: &[u8]) {
    let records = &records[..records.len().min(CHUNK_BYTES - CHUNK_HEADER_BYTES)];
    let end = CHUNK_HEADER_BYTES + records.len();
    // Not zeros behind the records: walks look at each zero, and a search spends its time on them.
    let mut chunk = vec![1; CHUNK_BYTES];
    chunk[..CHUNK_HEADER_BYTES].fill(0);
    chunk[..8].copy_from_slice(b"ElfChnk\0");
    chunk[40..44].copy_from_slice(&128_u32.to_le_bytes());
    chunk[48..52].copy_from_slice(&(end as u32).to_le_bytes());
    chunk[CHUNK_HEADER_BYTES..end].copy_from_slice(records);
    let data = crc32fast::hash(&chunk[CHUNK_HEADER_BYTES..end]);
    chunk[52..56].copy_from_slice(&data.to_le_bytes());
    let mut header = crc32fast::Hasher::new();
    header.update(&chunk[..120]);
    header.update(&chunk[128..CHUNK_HEADER_BYTES]);
    chunk[124..128].copy_from_slice(&header.finalize().to_le_bytes());
    let mut log = vec![0; FILE_HEADER_BYTES];
    log[..8].copy_from_slice(b"ElfFile\0");
    log.extend(chunk);
    event_log(&log);
}

fn decode_and_account(bytes: &[u8]) {
    let account = account_evtx(&SliceSource(bytes)).unwrap();
    let windows = &account.windows;
    let mut tally = Tally::new(windows.origin(), windows.window_bytes()).unwrap();
    let mut slack_records = 0;
    let mut decoder = EvtxDecoder::new(SliceSource(bytes), EvtxOptions::default()).unwrap();
    while let Some((output, batch)) = decoder.next_batch().unwrap() {
        check_columns(&batch);
        if matches!(output, EvtxOutput::Events | EvtxOutput::Quarantine) {
            slack_records += add_units(&batch, bytes.len() as u64, &mut tally);
        }
    }
    let differences = tally.compare(&account).unwrap();
    assert!(differences.is_empty(), "walk and decoder: {differences:?}");
    assert_eq!(tally.total(), account.present);
    assert_eq!(slack_records, account.slack_records, "slack records");
}
