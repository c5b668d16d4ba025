//! Transaction logs to build, in both formats.

use super::{BASE_BYTES, seal};

/// A base block as a log has it: half a kilobyte, with a type and equal sequence numbers.
fn base(hive: &[u8], file_type: u32, sequence: u32) -> Vec<u8> {
    let mut base = hive[..512].to_vec();
    base[4..8].copy_from_slice(&sequence.to_le_bytes());
    base[8..12].copy_from_slice(&sequence.to_le_bytes());
    base[28..32].copy_from_slice(&file_type.to_le_bytes());
    seal(&mut base);
    base
}

/// Say in a hive's base block that a write did not end.
pub fn make_dirty(hive: &mut [u8], primary: u32, secondary: u32) {
    hive[4..8].copy_from_slice(&primary.to_le_bytes());
    hive[8..12].copy_from_slice(&secondary.to_le_bytes());
    seal(hive);
}

/// Pages of 4096 bytes in which `after` differs from `before`, as places from the first bin.
pub fn dirty_pages(before: &[u8], after: &[u8]) -> Vec<usize> {
    let pages = (BASE_BYTES..after.len()).step_by(4096);
    pages
        .filter(|at| before.get(*at..at + 4096) != Some(&after[*at..at + 4096]))
        .map(|at| at - BASE_BYTES)
        .collect()
}

/// A log of the old format that turns a hive into `after`.
pub fn old_log(before: &[u8], after: &[u8], sequence: u32) -> Vec<u8> {
    let mut log = base(after, 1, sequence);
    let sectors = (after.len() - BASE_BYTES) / 512;
    let mut bitmap = vec![0_u8; sectors / 8];
    let pages = dirty_pages(before, after);
    for page in &pages {
        for sector in page / 512..page / 512 + 8 {
            bitmap[sector / 8] |= 1 << (sector % 8);
        }
    }
    log.extend(b"DIRT");
    log.extend(bitmap);
    log.resize(log.len().next_multiple_of(512), 0);
    for page in pages {
        log.extend(&after[BASE_BYTES + page..BASE_BYTES + page + 4096]);
    }
    log
}

/// A log of the new format with no entry yet, whose first will have this number.
pub fn new_log(hive: &[u8], sequence: u32) -> Vec<u8> {
    base(hive, 6, sequence)
}

/// Append an entry that turns `before` into `after`. Returns where it begins.
pub fn push_entry(log: &mut Vec<u8>, before: &[u8], after: &[u8], sequence: u32) -> usize {
    let start = log.len();
    let pages = dirty_pages(before, after);
    let mut body = vec![];
    for page in &pages {
        body.extend((*page as u32).to_le_bytes());
        body.extend(4096_u32.to_le_bytes());
    }
    for page in &pages {
        body.extend(&after[BASE_BYTES + page..BASE_BYTES + page + 4096]);
    }
    let size = (body.len() + 40).next_multiple_of(512);
    body.resize(size - 40, 0);
    let bins = (after.len() - BASE_BYTES) as u32;
    let mut entry = b"HvLE".to_vec();
    for number in [size as u32, 0, sequence, bins, pages.len() as u32] {
        entry.extend(number.to_le_bytes());
    }
    entry.extend(marvin(&body).to_le_bytes());
    entry.extend(marvin(&entry).to_le_bytes());
    entry.extend(body);
    log.extend(entry);
    start
}

/// Marvin32 with the registry's seed, by the description of the hash.
fn marvin(bytes: &[u8]) -> u64 {
    let seed = 0x82EF_4D88_7A4E_55C5_u64;
    let (mut low, mut high) = (seed as u32, (seed >> 32) as u32);
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(4), 0);
    padded.extend([0; 4]);
    for word in padded.chunks_exact(4) {
        low = low.wrapping_add(u32::from_le_bytes(word.try_into().unwrap()));
        high ^= low;
        low = low.rotate_left(20).wrapping_add(high);
        high = high.rotate_left(9) ^ low;
        low = low.rotate_left(27).wrapping_add(high);
        high = high.rotate_left(19);
    }
    u64::from(low) | u64::from(high) << 32
}
