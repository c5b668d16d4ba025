//! Hives and their transaction logs: decoder and accountant agree, and memory stays bounded.

use casparian_core::account::{HiveLog, LogRole as AccountedRole, account_hive};
use casparian_core::regf::{HiveDecoder, HiveOptions, HiveOutput, LogRole};
use casparian_core::source::{ReadAt, SliceSource};
use casparian_core::tally::Tally;

use super::allocation::measured;
use super::batches::{add_units, check_columns};

/// What any hive may cost, in bytes: text and paths of a batch, and the fixed part of the bound on work (`regf::work`).
const MEMORY_BASE: usize = 192 << 20;
/// What each byte of a hive and its logs may cost beyond that: the image twice, references, paths.
const MEMORY_FACTOR: usize = 64;

const BASE_BLOCK_BYTES: usize = 512;
const SECTOR_BYTES: usize = 512;
const ENTRY_HEADER_BYTES: usize = 40;

/// A hive of any content, without logs; also with the checksum of its base block made right.
pub(crate) fn hive(bytes: &[u8]) {
    check(bytes, &[]);
    let mut sealed = bytes.to_vec();
    if seal_base(&mut sealed) {
        check(&sealed, &[]);
    }
}

/// A hive and what lies beside it as its first log: `[size of the hive, u32][hive][log]`. Checksums and hashes of base
/// blocks and of the log's entries are made right, since no search finds them by chance.
pub(crate) fn transaction_log(bytes: &[u8]) {
    let Some((size, rest)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let (primary, log) = rest.split_at((u32::from_le_bytes(*size) as usize).min(rest.len()));
    check(primary, &[log]);
    let (mut primary, mut log) = (primary.to_vec(), log.to_vec());
    seal_base(&mut primary);
    seal_base(&mut log);
    seal_entries(&mut log);
    check(&primary, &[&log]);
    check(&primary, &[&log, &log]);
}

fn check(primary: &[u8], logs: &[&[u8]]) {
    let (peak, ()) = measured(|| decode_and_account(primary, logs));
    let read = primary.len() + logs.iter().map(|log| log.len()).sum::<usize>();
    let bound = MEMORY_BASE + MEMORY_FACTOR * read;
    assert!(
        peak <= bound,
        "{peak} bytes of memory for {read}, the bound is {bound}"
    );
}

fn decode_and_account(primary: &[u8], logs: &[&[u8]]) {
    let sources: Vec<_> = logs.iter().map(|log| SliceSource(*log)).collect();
    let roles = [AccountedRole::Log1, AccountedRole::Log2];
    let beside: Vec<_> = roles
        .into_iter()
        .zip(&sources)
        .map(|(role, source)| HiveLog {
            role,
            source: source as &dyn ReadAt,
        })
        .collect();
    let account = account_hive(&SliceSource(primary), &beside).unwrap();
    let windows = &account.windows;
    let mut tally = Tally::new(windows.origin(), windows.window_bytes()).unwrap();
    let beside = [LogRole::Log1, LogRole::Log2]
        .into_iter()
        .zip(sources)
        .collect();
    let mut decoder =
        HiveDecoder::new(SliceSource(primary), beside, HiveOptions::default()).unwrap();
    while let Some((output, batch)) = decoder.next_batch().unwrap() {
        check_columns(&batch);
        if matches!(
            output,
            HiveOutput::Keys | HiveOutput::Values | HiveOutput::Quarantine
        ) {
            // Offsets are those of the effective image, which a log may make longer than the file.
            add_units(&batch, u64::from(u32::MAX), &mut tally);
        }
    }
    let differences = tally.compare(&account).unwrap();
    assert!(differences.is_empty(), "walk and decoder: {differences:?}");
    assert_eq!(tally.total(), account.present);
}

/// Make a base block's checksum right: the exclusive or of its first 127 words, but for 0 and all ones (regf
/// specification, "Base block"). False when it is right already, or there is none.
fn seal_base(bytes: &mut [u8]) -> bool {
    let Some(block) = bytes.get_mut(..BASE_BLOCK_BYTES) else {
        return false;
    };
    let (words, _) = block.as_chunks::<4>();
    let sum = words[..127]
        .iter()
        .fold(0, |sum, word| sum ^ u32::from_le_bytes(*word));
    let sum = match sum {
        0 => 1,
        u32::MAX => u32::MAX - 1,
        sum => sum,
    }
    .to_le_bytes();
    let is_new = block[508..512] != sum;
    block[508..512].copy_from_slice(&sum);
    is_new
}

/// Make the two hashes of each `HvLE` entry right (regf specification, "Log entries"), wherever one begins.
fn seal_entries(log: &mut [u8]) {
    for start in (SECTOR_BYTES..log.len()).step_by(SECTOR_BYTES) {
        let entry = &mut log[start..];
        if entry.len() < ENTRY_HEADER_BYTES || !entry.starts_with(b"HvLE") {
            continue;
        }
        let size = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]) as usize;
        if !(ENTRY_HEADER_BYTES..=entry.len()).contains(&size) {
            continue;
        }
        let data = marvin32(&entry[ENTRY_HEADER_BYTES..size]).to_le_bytes();
        entry[24..32].copy_from_slice(&data);
        let header = marvin32(&entry[..32]).to_le_bytes();
        entry[32..40].copy_from_slice(&header);
    }
}

/// Marvin32 with the seed of the registry: written once more, so that a fault of the engine's own is no blind spot.
fn marvin32(bytes: &[u8]) -> u64 {
    let (mut low, mut high) = (0x7A4E_55C5_u32, 0x82EF_4D88_u32);
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize(bytes.len() / 4 * 4 + 4, 0);
    padded.extend([0; 4]);
    for word in padded.as_chunks::<4>().0 {
        low = low.wrapping_add(u32::from_le_bytes(*word));
        high ^= low;
        low = low.rotate_left(20).wrapping_add(high);
        high = high.rotate_left(9) ^ low;
        low = low.rotate_left(27).wrapping_add(high);
        high = high.rotate_left(19);
    }
    u64::from(high) << 32 | u64::from(low)
}
