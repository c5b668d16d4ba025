//! Records and chunks found in any bytes: whatever lies around them, wherever they begin.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod evtx_world;

use casparian_core::account::account_evtx_carved;
use casparian_core::evtx::EvtxOptions;
use casparian_core::flags::{CARVED, CRC_BAD, CUT, INLINE, RECOVERED, SLACK};
use casparian_core::source::SliceSource;
use evtx_world::*;

/// Bytes that look like nothing, the same for each seed.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

fn codes(bytes: &[u8]) -> Vec<String> {
    let account = account_evtx_carved(&SliceSource(bytes)).unwrap();
    let findings = account.findings.list().iter();
    findings.map(|finding| finding.code.clone()).collect()
}

fn offsets(outcome: &Outcome) -> Vec<u64> {
    outcome.u64s("@offset").into_iter().flatten().collect()
}

#[test]
fn a_chunk_is_found_at_any_place_with_the_rows_that_it_has_in_a_log() {
    let builder = usual_chunk(1, 30);
    let records = builder.records.clone();
    let chunk = builder.finish();
    let whole = decode(&log(std::slice::from_ref(&chunk)));
    for garbage in [
        0, 1, 511, 512, 4_096, 65_535, 1_048_576, 1_114_000, 2_097_149,
    ] {
        let image = [noise(7, garbage), chunk.clone(), noise(8, 300)].concat();
        let outcome = carve(&image);
        assert_eq!(outcome.ids(), whole.ids(), "{garbage}");
        assert_eq!(outcome.items(), whole.items(), "{garbage}");
        assert!(outcome.flags().iter().all(|row| *row == CARVED));
        let places: Vec<u64> = records
            .iter()
            .map(|(at, _)| (garbage + at) as u64)
            .collect();
        assert_eq!(offsets(&outcome), places);
        assert_eq!(outcome.chunk_u32s("records"), [Some(30)]);
        assert_eq!(outcome.chunk_bools("data_crc_ok"), [true]);
        assert_eq!(outcome.u32s("chunk"), vec![Some(0); 30]);
        assert!(outcome.reasons().is_empty());
        assert_eq!(codes(&image), ["source.carved"]);
    }
}

#[test]
fn records_of_a_chunk_without_its_header_find_their_way() {
    let builder = usual_chunk(1, 30);
    let first = builder.records[0].0;
    let chunk = builder.finish();
    let whole = decode(&log(std::slice::from_ref(&chunk)));
    // The header is gone; the file begins in the middle of it; the chunk is at a strange place.
    for image in [
        [vec![0; 512], chunk[512..].to_vec()].concat(),
        chunk[first..].to_vec(),
        [noise(3, 77), chunk[first..].to_vec()].concat(),
    ] {
        let outcome = carve(&image);
        assert_eq!(outcome.items(), whole.items());
        assert!(outcome.flags().iter().all(|row| *row == CARVED | RECOVERED));
        assert_eq!(outcome.u32s("chunk"), vec![None; 30]);
        assert!(outcome.chunks.is_empty() && outcome.reasons().is_empty());
    }
}

#[test]
fn a_record_whose_chunk_is_gone_is_kept_with_its_bytes() {
    let builder = usual_chunk(1, 3);
    let (at, size) = builder.records[1];
    let chunk = builder.finish();
    let record = chunk[at..at + size].to_vec();
    let image = [noise(1, 1_000), record.clone(), noise(2, 1_000)].concat();
    let outcome = carve(&image);
    assert!(outcome.events.is_empty());
    assert_eq!(outcome.reasons(), ["binxml.template"]);
    assert_eq!(outcome.quarantine_flags(), [CARVED | RECOVERED]);
    assert_eq!(outcome.raw(), [(1_000, record)]);
}

#[test]
fn the_chunk_of_a_record_is_known_by_the_definition_it_means() {
    // Two chunks without headers, one behind the other, cut at no particular place.
    let (one, two) = (usual_chunk(1, 40), usual_chunk(100, 40));
    let (first, second) = (one.records[0].0, two.records[0].0);
    let end = one.records[20].0;
    let image = [
        one.finish()[first..end].to_vec(),
        noise(5, 333),
        two.finish()[second..].to_vec(),
    ]
    .concat();
    let ids: Vec<u64> = (1..=20).chain(100..140).collect();
    let outcome = carve(&image);
    assert_eq!(outcome.ids(), ids);
    let users = outcome.items();
    assert!(
        users
            .iter()
            .zip(&ids)
            .all(|(items, id)| { items[1].1.as_deref() == Some(&format!("user-{id}")) })
    );
}

#[test]
fn template_less_records_find_their_names() {
    let event = |user: &str| {
        element(
            "Event",
            vec![element(
                "EventData",
                vec![with("Data", vec![("Name", text("User"))], vec![text(user)])],
            )],
        )
    };
    let mut chunk = ChunkBuilder::new();
    chunk.inline_record(1, &event("a"));
    chunk.inline_record(2, &event("b"));
    let first = chunk.records[0].0;
    let image = [noise(4, 99), chunk.finish()[first..].to_vec()].concat();
    let outcome = carve(&image);
    assert_eq!(outcome.ids(), [1, 2]);
    assert!(
        outcome
            .flags()
            .iter()
            .all(|row| *row == CARVED | RECOVERED | INLINE)
    );
}

#[test]
fn what_the_chunk_says_of_its_records_is_flagged() {
    let builder = usual_chunk(1, 6);
    let (live_end, _) = builder.records[4];
    let (broken, _) = builder.records[1];
    let mut chunk = builder.finish_at(live_end);
    let image = [noise(1, 600), chunk.clone()].concat();
    let flags = carve(&image).flags();
    assert_eq!(flags[..4], [CARVED; 4]);
    assert_eq!(flags[4..], [CARVED | RECOVERED | SLACK; 2]);
    chunk[broken + 8] ^= 0x40;
    let outcome = carve(&[noise(1, 600), chunk.clone()].concat());
    assert_eq!(outcome.flags()[..4], [CARVED | CRC_BAD; 4]);
    assert_eq!(outcome.flags()[4..], [CARVED | RECOVERED | SLACK; 2]);
    assert_eq!(outcome.chunk_u32s("slack_records"), [Some(2)]);
    let image = [noise(1, 600), chunk].concat();
    assert!(codes(&image).contains(&"chunk.data_crc".to_owned()));
    let cut = &image[..600 + live_end];
    assert_eq!(carve(cut).flags(), [CARVED | CUT; 4]);
    assert!(codes(cut).contains(&"chunk.cut".to_owned()));
}

#[test]
fn a_chunk_that_another_one_overwrites_gives_what_is_left_of_it() {
    let (one, two) = (usual_chunk(1, 40), usual_chunk(100, 10));
    let kept = one.records[12].0;
    let image = [&one.finish()[..kept + 100], &two.finish()[..]].concat();
    let outcome = carve(&image);
    let ids: Vec<u64> = (1..=12).chain(100..110).collect();
    assert_eq!(outcome.ids(), ids);
    assert_eq!(outcome.chunk_u32s("records"), [Some(12), Some(10)]);
    assert_eq!(outcome.flags()[..12], [CARVED | CRC_BAD; 12]);
    assert!(codes(&image).contains(&"chunk.record_count".to_owned()));
}

#[test]
fn doubled_swapped_and_rotated_chunks_all_come_out() {
    let chunks: Vec<Vec<u8>> = (0..5)
        .map(|n| usual_chunk(100 * n + 1, 20).finish())
        .collect();
    let ids_of = |order: &[u64]| -> Vec<u64> {
        let ids = order.iter().map(|n| 100 * n + 1);
        ids.flat_map(|first| first..first + 20).collect()
    };
    for order in [vec![3, 0, 0, 2], vec![4, 3, 2, 1, 0], vec![2, 3, 4, 0, 1]] {
        let mut image = noise(9, 3_000);
        for n in &order {
            image.extend_from_slice(&chunks[*n as usize]);
            image.extend(noise(n + 20, 100 * *n as usize));
        }
        let outcome = carve(&image);
        assert_eq!(outcome.ids(), ids_of(&order));
        assert_eq!(outcome.chunk_u32s("records"), vec![Some(20); order.len()]);
    }
}

#[test]
fn rows_do_not_depend_on_where_reads_end() {
    // Chunks across the ends of windows, records across them too.
    let chunk = usual_chunk(1, 80).finish();
    let first = usual_chunk(1, 1).records[0].0;
    for distance in [900_000, 1_048_570, 1_048_000, 1_100_000, 1_114_100] {
        let image = [
            vec![0; distance],
            chunk.clone(),
            vec![0; 1_000_001],
            chunk[first..].to_vec(),
        ]
        .concat();
        let outcome = carve(&image);
        assert_eq!(outcome.ids().len(), 160, "{distance}");
        let options = EvtxOptions {
            batch_rows: 7,
            ..EvtxOptions::default()
        };
        let small = carve_with(SliceSource(image.as_slice()), options);
        assert!(small.events.iter().all(|batch| batch.num_rows() <= 7));
        assert_eq!(small.items(), outcome.items());
        assert_eq!(offsets(&small), offsets(&outcome));
    }
}

#[test]
fn signatures_that_mean_nothing_cost_little_and_give_nothing() {
    let magics = b"ElfChnk\0".repeat(200_000);
    let records = b"**\0\0\x1c\0\0\0".repeat(200_000);
    for image in [magics, records, noise(1, 3_000_000), Vec::new(), vec![0x2a]] {
        let outcome = carve(&image);
        assert!(outcome.events.is_empty() && outcome.chunks.is_empty());
    }
    // A frame can be closed by the next one's beginning; what is in it is no event.
    let mut frame = b"**\0\0\x1c\0\0\0".to_vec();
    frame.extend([0; 16]);
    frame.extend(28_u32.to_le_bytes());
    let outcome = carve(&frame.repeat(50_000));
    assert!(outcome.events.is_empty());
    assert_eq!(outcome.reasons().len(), 50_000);
}

#[test]
fn a_whole_log_carves_to_the_rows_that_it_has() {
    let mut slots: Vec<Vec<u8>> = (0..40)
        .map(|n| usual_chunk(50 * n + 1, 50).finish())
        .collect();
    slots[7].fill(0);
    let file = log(&slots);
    let (carved, decoded) = (carve(&file), decode(&file));
    assert_eq!(carved.items(), decoded.items());
    assert_eq!(offsets(&carved), offsets(&decoded));
    assert_eq!(carved.chunk_u32s("records"), decoded.chunk_u32s("records"));
}
