//! No input panics, hangs, or loses a unit.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod evtx_world;

use casparian_core::evtx::{RecordPlace, render_record};
use casparian_core::source::SliceSource;
use evtx_world::*;
use proptest::prelude::*;

/// A log with every lane in it: templates, nested BinXML, inline records, slack.
fn sample() -> Vec<u8> {
    let mut chunk = usual_chunk(1, 8);
    let event = element(
        "Event",
        vec![
            element("System", vec![element("EventID", vec![text("7")])]),
            element(
                "UserData",
                vec![element("X", vec![Node::Entity("lt".into()), text("v")])],
            ),
        ],
    );
    chunk.inline_record(9, &event);
    let end = chunk.bytes.len();
    let values = system_values(1_010, payload("slack"));
    chunk.record(10, GUID_OUTER, &outer_template(), &values);
    log(&[chunk.finish_at(end), usual_chunk(11, 3).finish()])
}

#[derive(Debug, Clone)]
enum Mutation {
    Byte(usize, u8),
    Word(usize, u32),
    Zeros(usize, usize),
    Copy(usize, usize, usize),
    Cut(usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    // Most in the first records, where the definitions are.
    let place = prop_oneof![4 => 4_096_usize..12_000, 1 => 4_096_usize..135_168];
    prop_oneof![
        6 => (place.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
        3 => (place.clone(), any::<u32>()).prop_map(|(at, word)| Mutation::Word(at, word)),
        3 => (place.clone(), 0_u32..70_000).prop_map(|(at, word)| Mutation::Word(at, word)),
        1 => (place.clone(), 1_usize..600).prop_map(|(at, size)| Mutation::Zeros(at, size)),
        1 => (place.clone(), place.clone(), 1_usize..600)
            .prop_map(|(from, to, size)| Mutation::Copy(from, to, size)),
        1 => place.prop_map(Mutation::Cut),
    ]
}

fn mutate(file: &mut Vec<u8>, mutation: &Mutation) {
    let length = file.len();
    match *mutation {
        Mutation::Byte(at, byte) => {
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        Mutation::Word(at, word) => {
            if let Some(place) = file.get_mut(at..at + 4) {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
        Mutation::Zeros(at, size) => {
            if let Some(place) = file.get_mut(at..(at + size).min(length)) {
                place.fill(0);
            }
        }
        Mutation::Copy(from, to, size) => {
            if from + size <= length && to + size <= length {
                file.copy_within(from..from + size, to);
            }
        }
        Mutation::Cut(at) => file.truncate(at),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn every_unit_of_a_damaged_log_is_in_exactly_one_row(
        mutations in prop::collection::vec(mutation(), 1..12)
    ) {
        let mut file = sample();
        for mutation in &mutations {
            mutate(&mut file, mutation);
        }
        let outcome = decode(&file);
        outcome.items();
        outcome.raw();
        // What comes out can be shown, and what shows comes from where its row says.
        let places = outcome.u64s("@offset").into_iter().zip(outcome.u64s("@length"));
        for (offset, length) in places {
            let place = RecordPlace { offset: offset.unwrap(), length: length.unwrap(), carved: false };
            let rendered = render_record(&SliceSource(file.as_slice()), place).unwrap();
            serde_json::from_str::<serde_json::Value>(&rendered.json).unwrap();
        }
        let carved = carve(&file);
        carved.items();
        carved.raw();
    }

    #[test]
    fn damage_that_the_checksums_do_not_show_is_no_danger(
        mutations in prop::collection::vec(mutation(), 1..12)
    ) {
        let mut file = sample();
        for mutation in &mutations {
            if !matches!(mutation, Mutation::Cut(_)) {
                mutate(&mut file, mutation);
            }
        }
        for slot in file[FILE_HEADER_BYTES..].chunks_exact_mut(CHUNK_BYTES) {
            let end = u32::from_le_bytes(slot[48..52].try_into().unwrap()) as usize;
            if (CHUNK_HEADER_BYTES..=CHUNK_BYTES).contains(&end) {
                seal(slot);
            }
        }
        decode(&file).items();
    }

    #[test]
    fn noise_is_no_danger(noise in prop::collection::vec(any::<u8>(), 0..3_000)) {
        // As a chunk, and as the BinXML of a record.
        let mut file = log(std::slice::from_ref(&noise));
        decode(&file);
        carve(&file);
        let mut chunk = ChunkBuilder::new();
        chunk.begin_record(1);
        chunk.bytes.extend_from_slice(&noise);
        chunk.end_record();
        file = log(&[chunk.finish()]);
        let outcome = decode(&file);
        prop_assert_eq!(outcome.ids().len() + outcome.reasons().len(), 1);
        let carved = carve(&file);
        prop_assert_eq!(carved.ids().len() + carved.reasons().len(), 1);
    }

    #[test]
    fn any_sequence_of_tokens_is_no_danger(
        tokens in prop::collection::vec(prop_oneof![0_u8..0x10, Just(0x41), Just(0x46)], 0..400)
    ) {
        let mut chunk = usual_chunk(1, 1);
        chunk.begin_record(2);
        chunk.bytes.push(0x0c);
        chunk.bytes.extend_from_slice(&tokens);
        chunk.end_record();
        chunk.begin_record(3);
        chunk.bytes.extend_from_slice(&tokens);
        chunk.end_record();
        decode(&log(&[chunk.finish()]));
    }
}
