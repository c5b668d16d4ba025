//! Thousands of damaged hives: what was not touched comes out, what is lost is told of.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod regf_world;

use std::collections::HashSet;

use proptest::prelude::*;
use regf_world::logs::{make_dirty, new_log, old_log, push_entry};
use regf_world::read::{decode, decode_with};
use regf_world::*;

/// A generator that needs nothing but a seed (xorshift).
struct Seeded(u64);

impl Seeded {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// Kinds of damage that leave everything else in its place.
const KINDS: usize = 8;

/// Damage a hive; returns which bytes were touched.
fn damage(bytes: &mut Vec<u8>, kind: usize, random: &mut Seeded) -> Vec<std::ops::Range<usize>> {
    let length = bytes.len();
    let mut touched = vec![];
    match kind {
        // One bit.
        0 => {
            let at = random.below(length);
            bytes[at] ^= 1 << random.below(8);
            touched.push(at..at + 1);
        }
        // A sector of zeros, or of noise.
        1 | 2 => {
            let at = random.below(length / 512) * 512;
            for byte in &mut bytes[at..at + 512] {
                *byte = if kind == 1 {
                    0
                } else {
                    random.below(256) as u8
                };
            }
            touched.push(at..at + 512);
        }
        // The end is missing.
        3 => {
            let at = BASE_BYTES + random.below(length - BASE_BYTES);
            bytes.truncate(at);
            touched.push(at..length);
        }
        // The header of a bin.
        4 => {
            let at = BASE_BYTES + random.below((length - BASE_BYTES) / 4096) * 4096;
            let field = at + [0, 4, 8][random.below(3)];
            let value = [0_u32, 4096, 8192, 1 << 30, 0x1001][random.below(5)];
            bytes[field..field + 4].copy_from_slice(&value.to_le_bytes());
            touched.push(field..field + 4);
        }
        // Four bytes anywhere, with a number that means much.
        5 => {
            let at = random.below(length / 4) * 4;
            let small = random.below(4096) as u32;
            let value = [
                0,
                8,
                u32::MAX,
                1 << 31,
                small * 8,
                (small * 8).wrapping_neg(),
            ];
            bytes[at..at + 4].copy_from_slice(&value[random.below(6)].to_le_bytes());
            touched.push(at..at + 4);
        }
        // A page of zeros.
        6 => {
            let at = random.below(length / 4096) * 4096;
            bytes[at..at + 4096].fill(0);
            touched.push(at..at + 4096);
        }
        // Many single bytes.
        _ => {
            for _ in 0..20 {
                let at = random.below(length);
                bytes[at] = random.below(256) as u8;
                touched.push(at..at + 1);
            }
        }
    }
    touched
}

#[test]
fn every_untouched_cell_comes_out_of_thousands_of_damaged_hives() {
    let sound = usual();
    let mut lost_cells = 0;
    for seed in 0..6_000 {
        let mut random = Seeded::new(seed);
        let mut bytes = sound.bytes.clone();
        let kind = seed as usize % KINDS;
        let touched = damage(&mut bytes, kind, &mut random);
        let outcome = decode(&bytes);
        outcome.check_units(&bytes);
        let rows = outcome
            .keys()
            .into_iter()
            .map(|row| (true, row.offset, row.name));
        let values = outcome.values().into_iter();
        let rows: HashSet<_> = rows
            .chain(values.map(|row| (false, row.offset, row.name)))
            .collect();
        let mut lost = 0;
        for one in &sound.written {
            let start = BASE_BYTES + one.at as usize;
            let end = start + one.length;
            let is_touched = touched.iter().any(|hit| hit.start < end && hit.end > start);
            let is_there = rows.contains(&(one.is_key, start as u64, one.name.clone()));
            assert!(is_there || is_touched, "seed {seed} kind {kind}: {one:?}");
            // A name that was changed is still a name.
            let is_gone = |(is_key, at, _): &(bool, u64, Option<String>)| {
                (*is_key, *at) != (one.is_key, start as u64)
            };
            lost += usize::from(rows.iter().all(is_gone));
        }
        assert!(
            lost == 0 || outcome.has_findings(),
            "seed {seed} kind {kind}"
        );
        lost_cells += lost;
    }
    // Otherwise nothing was damaged at all.
    assert!(lost_cells > 1_000);
}

#[test]
fn bins_in_another_order_lose_no_cell() {
    let sound = usual();
    for seed in 0..200 {
        let mut random = Seeded::new(seed);
        let mut bytes = sound.bytes.clone();
        // Bins of one page can change places.
        let pages: Vec<usize> = (BASE_BYTES..bytes.len())
            .step_by(4096)
            .filter(|at| {
                bytes[*at..].starts_with(b"hbin") && bytes[at + 8..at + 12] == [0, 16, 0, 0]
            })
            .collect();
        let (one, two) = (
            pages[random.below(pages.len())],
            pages[random.below(pages.len())],
        );
        for at in 0..4096 {
            bytes.swap(one + at, two + at);
        }
        if one == two {
            continue;
        }
        let outcome = decode(&bytes);
        outcome.check_units(&bytes);
        let rows = outcome.keys().into_iter().chain(outcome.values());
        assert!(rows.count() >= sound.written.len(), "seed {seed}");
        assert!(outcome.has_findings());
    }
}

#[test]
fn damaged_logs_end_and_the_units_are_those_of_the_image() {
    let sound = usual();
    let mut changed = sound.clone();
    let value = changed.find(false, "\\Key 1", Some("dword")).at;
    changed.put_in_cell(value, 8, 4_711_u32.to_le_bytes());
    let mut dirty = sound.bytes.clone();
    make_dirty(&mut dirty, 9, 8);
    let mut new = new_log(&dirty, 9);
    push_entry(&mut new, &sound.bytes, &changed.bytes, 9);
    let old = old_log(&sound.bytes, &changed.bytes, 9);
    for seed in 0..1_000 {
        let mut random = Seeded::new(seed);
        let mut log = if seed % 2 == 0 {
            new.clone()
        } else {
            old.clone()
        };
        let at = random.below(log.len());
        match seed % 3 {
            0 => log[at] ^= 1 << random.below(8),
            1 => log.truncate(at),
            _ => log[at / 512 * 512..].fill(random.below(256) as u8),
        }
        let role = casparian_core::regf::LogRole::Log1;
        let outcome = decode_with(&dirty, vec![(role, &log)]);
        // Pages of the old format have no checksum: what they bring is taken as it is.
        if seed % 2 == 0 {
            let live = outcome.live_paths().len();
            assert_eq!(live, sound.written.iter().filter(|one| one.is_key).count());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn noise_in_the_shape_of_a_hive_neither_panics_nor_loses_a_unit(
        pages in 1_usize..4,
        noise in prop::collection::vec((0_usize..16_384, any::<u32>(), 0_usize..6), 0..200),
        is_sealed in any::<bool>(),
    ) {
        let mut bytes = vec![0_u8; BASE_BYTES + pages * 4096];
        for page in 0..pages {
            let at = BASE_BYTES + page * 4096;
            bytes[at..at + 4].copy_from_slice(b"hbin");
            bytes[at + 8..at + 12].copy_from_slice(&4096_u32.to_le_bytes());
        }
        for (place, number, kind) in noise {
            let at = BASE_BYTES + place / 8 * 8 % (pages * 4096);
            let size = ((number % 500 * 8) as i32).wrapping_neg();
            bytes[at..at + 4].copy_from_slice(&size.to_le_bytes());
            let signature: &[u8] = [&b"nk"[..], b"vk", b"lf", b"db", b"ri", b"sk"][kind];
            bytes[at + 4..at + 6].copy_from_slice(signature);
            let field = at + 6 + (number % 80) as usize;
            if field + 4 <= bytes.len() {
                let reference = number / 80 % (pages as u32 * 512) * 8;
                bytes[field..field + 4].copy_from_slice(&reference.to_le_bytes());
            }
        }
        bytes[0..4].copy_from_slice(b"regf");
        bytes[36..40].copy_from_slice(&32_u32.to_le_bytes());
        bytes[40..44].copy_from_slice(&(pages as u32 * 4096).to_le_bytes());
        if is_sealed {
            seal(&mut bytes);
        }
        let outcome = decode(&bytes);
        outcome.check_units(&bytes);
    }
}
