//! The ledger notices a decoder that loses rows: shown with one that does so on purpose.
//!
//! Needs the feature `sabotage`, without which there is no such decoder.

#![cfg(feature = "sabotage")]
#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

use arrow_array::cast::AsArray as _;
use arrow_array::types::{UInt32Type, UInt64Type};
use casparian_core::account::{Account, account_evtx};
use casparian_core::evtx::{EvtxDecoder, EvtxOptions, EvtxOutput, Fault};
use casparian_core::flags;
use casparian_core::source::SliceSource;
use casparian_core::tally::{Tally, WindowDifference};

const FILE_HEADER_BYTES: usize = 4096;
const CHUNK_BYTES: usize = 65_536;
const CHUNK_HEADER_BYTES: usize = 512;
const RECORDS_PER_CHUNK: u64 = 400;

/// `<Event/>` as inline BinXML, its name written in place; `position` is that of the record in the chunk.
fn event(position: usize) -> Vec<u8> {
    // Record header, fragment header, element token, element size, name offset.
    let name_position = (position + 24 + 4 + 1 + 4 + 4) as u32;
    let checksum = "Event".bytes().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(65_599).wrapping_add(u32::from(byte))
    });
    let mut name = vec![0; 4]; // offset of the next name with this checksum
    name.extend((checksum as u16).to_le_bytes());
    name.extend(5_u16.to_le_bytes());
    name.extend("Event\0".encode_utf16().flat_map(u16::to_le_bytes));
    let mut bytes = vec![0x0F, 1, 1, 0, 0x01];
    bytes.extend((4 + name.len() as u32 + 1).to_le_bytes());
    bytes.extend(name_position.to_le_bytes());
    bytes.extend(name);
    bytes.extend([0x03, 0x00]);
    bytes
}

fn chunk(first_id: u64) -> Vec<u8> {
    let mut bytes = vec![0; CHUNK_HEADER_BYTES];
    let last_id = first_id + RECORDS_PER_CHUNK - 1;
    for id in first_id..=last_id {
        let event = event(bytes.len());
        let size = (24 + event.len() + 4) as u32;
        bytes.extend(b"**\0\0");
        bytes.extend(size.to_le_bytes());
        bytes.extend(id.to_le_bytes());
        bytes.extend(133_000_000_000_000_000_u64.to_le_bytes());
        bytes.extend(event);
        bytes.extend(size.to_le_bytes());
    }
    let end = bytes.len();
    bytes.resize(CHUNK_BYTES, 0);
    bytes[..8].copy_from_slice(b"ElfChnk\0");
    bytes[8..16].copy_from_slice(&first_id.to_le_bytes());
    bytes[16..24].copy_from_slice(&last_id.to_le_bytes());
    bytes[40..44].copy_from_slice(&128_u32.to_le_bytes());
    bytes[48..52].copy_from_slice(&(end as u32).to_le_bytes());
    let data = crc32fast::hash(&bytes[CHUNK_HEADER_BYTES..end]);
    bytes[52..56].copy_from_slice(&data.to_le_bytes());
    let header = crc32fast::hash(&[&bytes[..120], &bytes[128..512]].concat());
    bytes[124..128].copy_from_slice(&header.to_le_bytes());
    bytes
}

/// Three chunks of whole, decodable records.
fn log() -> Vec<u8> {
    let mut bytes = vec![0; FILE_HEADER_BYTES];
    bytes[..8].copy_from_slice(b"ElfFile\0");
    bytes[42..44].copy_from_slice(&3_u16.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..120]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    for index in 0..3 {
        bytes.extend(chunk(1 + index * RECORDS_PER_CHUNK));
    }
    bytes
}

/// Decode `bytes` and set what came out beside the account, as the host does.
fn differences(bytes: &[u8], fault: Fault) -> (Account, Vec<WindowDifference>) {
    let (account, _, found) = decode(bytes, fault);
    (account, found)
}

/// The account, the number of events, and the differences.
fn decode(bytes: &[u8], fault: Fault) -> (Account, u64, Vec<WindowDifference>) {
    let mut events = 0;
    let account = account_evtx(&SliceSource(bytes)).unwrap();
    let windows = &account.windows;
    let mut tally = Tally::new(windows.origin(), windows.window_bytes()).unwrap();
    let options = EvtxOptions {
        fault,
        ..EvtxOptions::default()
    };
    let mut decoder = EvtxDecoder::new(SliceSource(bytes), options).unwrap();
    while let Some((output, batch)) = decoder.next_batch().unwrap() {
        if output == EvtxOutput::Chunks {
            continue;
        }
        if output == EvtxOutput::Events {
            events += batch.num_rows() as u64;
        }
        let offsets = batch.column(0).as_primitive::<UInt64Type>().values();
        let lengths = batch.column(1).as_primitive::<UInt64Type>().values();
        let row_flags = batch.column(2).as_primitive::<UInt32Type>().values();
        for ((offset, length), row_flags) in offsets.iter().zip(lengths).zip(row_flags) {
            if row_flags & flags::SLACK == 0 {
                tally.add(*offset, *length).unwrap();
            }
        }
    }
    let found = tally.compare(&account).unwrap();
    (account, events, found)
}

#[test]
fn a_faithful_decoder_balances_on_whole_and_on_damaged_logs() {
    let whole = log();
    let (account, events, found) = decode(&whole, Fault::None);
    assert_eq!((account.present, account.damaged, events), (1200, 0, 1200));
    assert_eq!(found, []);

    let mut zeroed = whole.clone();
    zeroed[FILE_HEADER_BYTES + 4096..FILE_HEADER_BYTES + 4608].fill(0);
    let (account, found) = differences(&zeroed, Fault::None);
    assert!(account.damaged == 1 && account.present < 1200);
    assert_eq!(found, []);

    let cut = &whole[..whole.len() - 60_000];
    assert_eq!(differences(cut, Fault::None).1, []);
}

#[test]
fn a_decoder_that_drops_single_records_is_found_out_in_their_windows() {
    let (account, found) = differences(&log(), Fault::DropEvery(1000));
    assert_eq!(account.present, 1200);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].index, found[0].present, found[0].accounted),
        (2, 400, 399)
    );

    let (_, found) = differences(&log(), Fault::DropEvery(7));
    let lost: u64 = found.iter().map(|d| d.present - d.accounted).sum();
    assert_eq!((found.len(), lost), (3, 1200 / 7));
}

#[test]
fn a_decoder_that_drops_a_chunk_is_found_out() {
    let (_, found) = differences(&log(), Fault::DropChunk(1));
    assert_eq!(
        found,
        [WindowDifference {
            index: 1,
            offset: (FILE_HEADER_BYTES + CHUNK_BYTES) as u64,
            present: 400,
            accounted: 0,
            same_units: false,
        }]
    );
}
