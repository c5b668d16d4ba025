//! Thousands of damaged logs: every record whose own bytes are whole comes out, and every loss has a finding.
//!
//! Damage is drawn from a seeded generator, so that each run sees the same logs. A record counts as whole
//! when its bytes occur in the damaged file at all; where they are says what must come of it.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod evtx_world;

use std::collections::HashMap;

use casparian_core::account::{account_evtx, account_evtx_carved};
use casparian_core::source::SliceSource;
use evtx_world::*;
use memchr::memmem;

const CHUNKS: u64 = 4;
const RECORDS: u64 = 25;

/// A small generator of numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }

    fn noise(&mut self, size: usize) -> Vec<u8> {
        (0..size).map(|_| self.below(256) as u8).collect()
    }
}

/// One record of the undamaged log.
struct Original {
    bytes: Vec<u8>,
    /// Where it is in its chunk, and the first record of that chunk, which holds all definitions.
    at: usize,
    first: Vec<u8>,
    first_at: usize,
    items: Vec<Item>,
}

struct World {
    chunks: Vec<Vec<u8>>,
    originals: HashMap<u64, Original>,
}

fn world() -> World {
    let mut originals = HashMap::new();
    let mut chunks = Vec::new();
    for number in 0..CHUNKS {
        let first_id = 100 * number + 1;
        let builder = usual_chunk(first_id, RECORDS);
        let records = builder.records.clone();
        let chunk = builder.finish();
        let items = decode(&log(std::slice::from_ref(&chunk))).items();
        let (first_at, first_size) = records[0];
        for ((at, size), (id, items)) in records.iter().zip((first_id..).zip(items)) {
            let original = Original {
                bytes: chunk[*at..at + size].to_vec(),
                at: *at,
                first: chunk[first_at..first_at + first_size].to_vec(),
                first_at,
                items,
            };
            originals.insert(id, original);
        }
        chunks.push(chunk);
    }
    World { chunks, originals }
}

/// Damage the log; says what was done.
fn damage(file: &mut Vec<u8>, dice: &mut Dice) -> &'static str {
    let size = file.len();
    let slots = (size - FILE_HEADER_BYTES) / CHUNK_BYTES;
    let slot_at = |slot: usize| FILE_HEADER_BYTES + slot * CHUNK_BYTES;
    // Most of a chunk is free space: hit what is used.
    let place = |dice: &mut Dice| {
        slot_at(dice.below(slots.max(1))) + dice.below(CHUNK_BYTES / 4).min(size.saturating_sub(1))
    };
    if slots < 2 {
        return "nothing";
    }
    match dice.below(12) {
        0 => {
            let at = place(dice).min(size - 1);
            file[at] ^= 1 << dice.below(8);
            "bit flip"
        }
        1 => {
            file.truncate(slot_at(0) + dice.below(size - slot_at(0)));
            "cut"
        }
        2 => {
            let (one, other) = (slot_at(dice.below(slots)), slot_at(dice.below(slots)));
            for distance in 0..CHUNK_BYTES {
                file.swap(one + distance, other + distance);
            }
            "swapped chunks"
        }
        3 => {
            let from = slot_at(dice.below(slots));
            let to = slot_at(dice.below(slots + 1));
            let chunk = file[from..from + CHUNK_BYTES].to_vec();
            file.splice(to..to, chunk);
            "doubled chunk"
        }
        4 => {
            // The front of one chunk, the back of another.
            let (from, to) = (slot_at(dice.below(slots)), slot_at(dice.below(slots)));
            let seam = dice.below(CHUNK_BYTES / 4);
            let back = file[from + seam..from + CHUNK_BYTES].to_vec();
            file[to + seam..to + CHUNK_BYTES].copy_from_slice(&back);
            "spliced chunks"
        }
        5 => {
            let by = CHUNK_BYTES * dice.below(slots);
            file[slot_at(0)..slot_at(slots)].rotate_left(by);
            "rotated chunks"
        }
        6 => {
            // A field of a chunk header, sealed or not.
            let chunk = slot_at(dice.below(slots));
            let field = [8, 16, 24, 32, 40, 44, 48, 52, 120][dice.below(9)];
            let lie = (dice.below(70_000) as u32).to_le_bytes();
            file[chunk + field..chunk + field + 4].copy_from_slice(&lie);
            let slot = &mut file[chunk..chunk + CHUNK_BYTES];
            let end = u32::from_le_bytes(slot[48..52].try_into().unwrap()) as usize;
            if dice.below(2) == 0 && (CHUNK_HEADER_BYTES..=CHUNK_BYTES).contains(&end) {
                seal(slot);
            }
            "lying chunk header"
        }
        7 => {
            let field = [8, 16, 24, 32, 40, 42, 120, 124][dice.below(8)];
            let lie = (dice.below(70_000) as u32).to_le_bytes();
            file[field..field + 4].copy_from_slice(&lie);
            "lying file header"
        }
        8 => {
            let at = place(dice);
            let hole = [16, 512, 4_096, 20_000][dice.below(4)];
            let end = (at + hole).min(size);
            file[at.min(end)..end].fill(0);
            "hole of zeros"
        }
        9 => {
            let count = 1 + dice.below(100_000);
            let noise = dice.noise(count);
            file.extend(noise);
            "garbage behind"
        }
        10 => {
            // A record's size, at its beginning or its end.
            let at = place(dice);
            let found =
                memmem::find(&file[at.min(size)..], b"**\0\0").map(|distance| at + distance);
            if let Some(record) = found.filter(|record| record + 8 <= size) {
                let lie = (dice.below(3_000) as u32).to_le_bytes();
                file[record + 4..record + 8].copy_from_slice(&lie);
            }
            "lying record size"
        }
        _ => {
            let at = place(dice).min(size - 600);
            let noise = dice.noise(512);
            file[at..at + 512].copy_from_slice(&noise);
            "overwritten sector"
        }
    }
}

/// Where each whole record of the world is in a file: (offset, id).
fn whole_records(world: &World, file: &[u8]) -> Vec<(usize, u64)> {
    let mut found = Vec::new();
    for at in memmem::find_iter(file, b"**\0\0") {
        let Some(id) = file.get(at + 8..at + 16) else {
            continue;
        };
        let id = u64::from_le_bytes(id.try_into().unwrap());
        if let Some(original) = world.originals.get(&id)
            && file[at..].starts_with(&original.bytes)
        {
            found.push((at, id));
        }
    }
    found
}

/// Whether the definitions that a record at `at` needs stand where it says.
fn has_its_definitions(original: &Original, file: &[u8], at: usize) -> bool {
    let first = (at + original.first_at).checked_sub(original.at);
    first.is_some_and(|first| {
        file.get(first..)
            .is_some_and(|rest| rest.starts_with(&original.first))
    })
}

fn rows_by_offset(outcome: &Outcome) -> HashMap<usize, Vec<Item>> {
    let offsets = outcome.u64s("@offset").into_iter().flatten();
    offsets.map(|at| at as usize).zip(outcome.items()).collect()
}

fn set_aside(outcome: &Outcome) -> Vec<(usize, usize)> {
    let raw = outcome.raw().into_iter();
    raw.map(|(at, bytes)| (at as usize, bytes.len())).collect()
}

/// Check a record at its place: a row with its values, or, if what it needs is damaged, at least set aside.
fn check_record(
    original: &Original,
    file: &[u8],
    at: usize,
    rows: &HashMap<usize, Vec<Item>>,
    aside: &[(usize, usize)],
    case: &str,
) {
    if has_its_definitions(original, file, at) {
        assert_eq!(
            rows.get(&at),
            Some(&original.items),
            "{case}: record at {at}"
        );
    } else {
        let is_aside = aside.contains(&(at, original.bytes.len()));
        assert!(
            rows.contains_key(&at) || is_aside,
            "{case}: record at {at} is nowhere"
        );
    }
}

#[test]
fn each_whole_record_of_a_damaged_log_comes_out_and_each_loss_is_told() {
    let world = world();
    let clean = log(&world.chunks);
    let mut done: HashMap<&'static str, u32> = HashMap::new();
    for seed in 1..=1_500 {
        let mut dice = Dice(seed * 0x9E37_79B9);
        let mut file = clean.clone();
        let mut case = format!("seed {seed}");
        for _ in 0..=dice.below(3) {
            let what = damage(&mut file, &mut dice);
            *done.entry(what).or_default() += 1;
            case = format!("{case}, {what}");
        }
        // `decode` checks that the ledger balances, window by window.
        let outcome = decode(&file);
        let (rows, aside) = (rows_by_offset(&outcome), set_aside(&outcome));
        let whole = whole_records(&world, &file);
        for (at, id) in &whole {
            let original = &world.originals[id];
            let in_slot = (at - FILE_HEADER_BYTES) % CHUNK_BYTES;
            if *at >= FILE_HEADER_BYTES && in_slot == original.at {
                check_record(original, &file, *at, &rows, &aside, &case);
            }
        }
        // Of each record that is nowhere any more, the loss is told.
        let account = account_evtx(&SliceSource(file.as_slice())).unwrap();
        let lost = world
            .originals
            .keys()
            .any(|id| !whole.iter().any(|(_, found)| found == id));
        if lost {
            assert!(
                !account.findings.list().is_empty(),
                "{case}: records are gone without a word"
            );
        }
        check_carved(&world, &file, &whole, &case);
    }
    assert_eq!(
        done.values().filter(|count| **count > 50).count(),
        13,
        "{done:?}"
    );
}

#[test]
fn each_whole_record_comes_out_by_carving_wherever_it_is() {
    let world = world();
    for seed in 1..=1_000 {
        let mut dice = Dice(seed * 0x51ED_270B);
        let mut case = format!("seed {seed}");
        let mut file = log(&world.chunks);
        for _ in 0..dice.below(3) {
            case = format!("{case}, {}", damage(&mut file, &mut dice));
        }
        // Garbage before and between, pieces left out: nothing is on any grid.
        for _ in 0..=dice.below(4) {
            let at = dice.below(file.len());
            let count = dice.below(3_000);
            if dice.below(2) == 0 {
                let noise = dice.noise(count);
                file.splice(at..at, noise);
            } else {
                let end = (at + count).min(file.len());
                file.drain(at..end);
            }
        }
        let whole = whole_records(&world, &file);
        check_carved(&world, &file, &whole, &case);
    }
}

fn check_carved(world: &World, file: &[u8], whole: &[(usize, u64)], case: &str) {
    // `carve` compares with the accountant's count.
    let outcome = carve(file);
    let (rows, aside) = (rows_by_offset(&outcome), set_aside(&outcome));
    for (at, id) in whole {
        check_record(&world.originals[id], file, *at, &rows, &aside, case);
    }
    let account = account_evtx_carved(&SliceSource(file)).unwrap();
    assert!(account.slack_records >= whole.len() as u64);
}
