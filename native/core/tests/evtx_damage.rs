//! What becomes of damage: regions, slack, cut and untrusted chunks, limits.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod evtx_world;

use casparian_core::evtx::{EvtxDecoder, EvtxOptions};
use casparian_core::flags::{CRC_BAD, CUT, INLINE, NONE, RECOVERED, SLACK};
use casparian_core::source::SliceSource;
use evtx_world::*;

#[test]
fn a_zeroed_sector_costs_the_records_in_it_and_no_other() {
    let builder = usual_chunk(1, 40);
    let records = builder.records.clone();
    let mut chunk = builder.finish();
    let sector = 512 * 20;
    chunk[sector..sector + 512].fill(0);
    let outcome = decode(&log(&[chunk]));
    let is_hit = |(at, size): &(usize, usize)| *at < sector + 512 && at + size > sector;
    let lost = records.iter().filter(|record| is_hit(record)).count();
    let whole: Vec<u64> = (1..)
        .zip(&records)
        .filter(|(_, record)| !is_hit(record))
        .map(|(id, _)| id)
        .collect();
    // A record whose frame outlived the damage may still be a row; none beyond the damage is lost.
    assert!(whole.iter().all(|id| outcome.ids().contains(id)));
    assert!(outcome.reasons().len() <= lost && !outcome.reasons().is_empty());
    let expected = |id: &u64| {
        if *id < whole[whole.len() / 2] {
            CRC_BAD
        } else {
            CRC_BAD | RECOVERED
        }
    };
    let (first, last) = (outcome.ids()[0], *outcome.ids().last().unwrap());
    assert_eq!(outcome.flags()[0], expected(&first));
    assert_eq!(*outcome.flags().last().unwrap(), expected(&last));
    assert_eq!(outcome.chunk_u32s("damaged_regions"), [Some(1)]);
}

#[test]
fn a_record_that_fails_half_way_leaves_no_trace_in_the_rows() {
    let mut chunk = usual_chunk(1, 1);
    // The last value has a size that its type cannot have: everything before it was written by then.
    let broken = [
        string("u"),
        (0x14, bytes(&[1, 2, 3, 4])),
        (0x08, bytes(&[1, 2, 3])),
    ];
    let broken = Value::Instance(GUID_PAYLOAD, payload_template(), broken.into());
    let values = system_values(9, (0x21, broken));
    chunk.record(2, GUID_OUTER, &outer_template(), &values);
    let values = system_values(1_003, payload("user-3"));
    chunk.record(3, GUID_OUTER, &outer_template(), &values);
    let (at, size) = chunk.records[1];
    let file = log(&[chunk.finish()]);
    let outcome = decode(&file);
    assert_eq!(outcome.ids(), [1, 3]);
    assert_eq!(outcome.reasons(), ["binxml.value_size"]);
    let start = FILE_HEADER_BYTES + at;
    assert_eq!(
        outcome.raw(),
        [(start as u64, file[start..start + size].to_vec())]
    );
    let users: Vec<_> = outcome
        .items()
        .iter()
        .map(|items| items[1].1.clone().unwrap())
        .collect();
    assert_eq!(users, ["user-1", "user-3"]);
    assert_eq!(outcome.chunk_u32s("records"), [Some(2)]);
    assert_eq!(outcome.chunk_u32s("quarantined"), [Some(1)]);
}

#[test]
fn zeros_inside_the_live_area_of_a_trusted_chunk_are_damage() {
    let builder = usual_chunk(1, 2);
    let end = builder.bytes.len();
    let mut builder = builder;
    builder.bytes.resize(end + 100, 0);
    let outcome = decode(&log(&[builder.finish()]));
    assert_eq!(outcome.ids(), [1, 2]);
    assert_eq!(outcome.reasons(), ["record.damaged"]);
    assert_eq!(
        outcome.raw()[0],
        ((FILE_HEADER_BYTES + end) as u64, vec![0; 100])
    );
}

#[test]
fn records_behind_the_live_area_are_rows_that_say_so() {
    let builder = usual_chunk(1, 4);
    let (end, _) = builder.records[2];
    let mut chunk = builder.finish_at(end);
    chunk[CHUNK_BYTES - 5..].fill(0xee);
    let outcome = decode(&log(&[chunk]));
    assert_eq!(outcome.ids(), [1, 2, 3, 4]);
    let slack = RECOVERED | SLACK;
    assert_eq!(outcome.flags(), [NONE, NONE, slack, slack]);
    assert_eq!(outcome.chunk_u32s("records"), [Some(2)]);
    assert_eq!(outcome.chunk_u32s("slack_records"), [Some(2)]);
    assert_eq!(outcome.chunk_u32s("slack_bytes"), [Some(5)]);
}

#[test]
fn a_slack_record_whose_template_was_overwritten_is_not_guessed_at() {
    let builder = usual_chunk(1, 4);
    let (end, _) = builder.records[2];
    let mut chunk = builder.finish_at(end);
    // Another definition lies where the first record had its own.
    let definition = chunk
        .windows(4)
        .position(|bytes| bytes == [0x0c, 1, 0x11, 0x11])
        .unwrap()
        + 10;
    chunk[definition + 4..definition + 20].fill(0x99);
    seal(&mut chunk);
    let outcome = decode(&log(&[chunk]));
    assert!(outcome.ids().is_empty());
    assert_eq!(outcome.reasons(), ["binxml.template"; 4]);
    let slack = RECOVERED | SLACK;
    assert_eq!(outcome.quarantine_flags(), [NONE, NONE, slack, slack]);
}

#[test]
fn an_overwritten_name_is_noticed() {
    let mut chunk = usual_chunk(1, 1).finish();
    let name = utf16("Correlation");
    let at = chunk
        .windows(name.len())
        .position(|bytes| bytes == name)
        .unwrap();
    chunk[at] = b'X';
    seal(&mut chunk);
    let outcome = decode(&log(&[chunk]));
    assert_eq!(outcome.reasons(), ["binxml.name"]);
}

#[test]
fn a_chunk_without_a_trusted_header_is_searched_to_its_end() {
    let builder = usual_chunk(1, 3);
    let mut chunk = builder.finish();
    chunk[..CHUNK_HEADER_BYTES].fill(0);
    let outcome = decode(&log(&[chunk]));
    assert_eq!(outcome.ids(), [1, 2, 3]);
    assert_eq!(outcome.chunk_bools("magic_ok"), [false]);
    assert_eq!(outcome.chunk_bools("trusted"), [false]);
    assert!(outcome.flags().iter().all(|row| row & RECOVERED != 0));
    assert!(outcome.reasons().is_empty());
}

#[test]
fn a_cut_chunk_gives_its_whole_records() {
    let builder = usual_chunk(1, 20);
    let (cut, _) = builder.records[10];
    let mut file = log(&[usual_chunk(100, 1).finish(), builder.finish()]);
    file.truncate(FILE_HEADER_BYTES + CHUNK_BYTES + cut + 50);
    let outcome = decode(&file);
    let ids: Vec<u64> = std::iter::once(100).chain(1..=10).collect();
    assert_eq!(outcome.ids(), ids);
    assert_eq!(outcome.flags()[1..], [RECOVERED | CUT; 10]);
    assert_eq!(outcome.reasons(), ["record.damaged"]);
    assert_eq!(outcome.quarantine_flags(), [CUT]);
}

#[test]
fn slots_of_any_size_and_content_are_told_apart() {
    let chunk = usual_chunk(1, 1).finish();
    let mut file = log(&[vec![0; CHUNK_BYTES], chunk]);
    file.extend([7; 300]);
    let outcome = decode(&file);
    assert_eq!(outcome.ids(), [1]);
    assert_eq!(outcome.chunk_u32s("chunk"), [Some(1), Some(2)]);
    assert_eq!(
        outcome.chunk_u32s("available_bytes"),
        [Some(65_536), Some(300)]
    );
    assert_eq!(outcome.chunk_u32s("free_space_offset")[1], None);
    for size in [0, 1, FILE_HEADER_BYTES - 1, FILE_HEADER_BYTES] {
        let outcome = decode(&file[..size]);
        assert!(outcome.events.is_empty() && outcome.chunks.is_empty());
    }
}

#[test]
fn an_empty_record_is_quarantined() {
    let mut chunk = ChunkBuilder::new();
    chunk.begin_record(1);
    chunk.end_record();
    let outcome = decode(&log(&[chunk.finish()]));
    assert_eq!(outcome.reasons(), ["binxml.structure"]);
}

/// An event whose template is `definition`, and the reason why it is no row.
fn refused(definition: &Node, values: &[(u8, Value)]) -> String {
    let mut chunk = ChunkBuilder::new();
    chunk.record(1, GUID_OUTER, definition, values);
    let outcome = decode(&log(&[chunk.finish()]));
    assert!(outcome.events.is_empty());
    outcome.reasons().pop().unwrap()
}

#[test]
fn every_limit_ends_in_quarantine() {
    let deep = (0..20).fold(text("x"), |inner, _| element("E", vec![inner]));
    assert_eq!(refused(&deep, &[]), "limit.depth");
    let wide = element("Event", (0..1_100).map(|_| element("E", vec![])).collect());
    assert_eq!(refused(&wide, &[]), "limit.elements");
    let simple = element("Event", vec![Node::Slot(0)]);
    let many: Vec<_> = (0..8_193).map(|_| NULL).collect();
    assert_eq!(refused(&simple, &many), "limit.substitutions");
    let missing = element("Event", vec![Node::Slot(7)]);
    assert_eq!(refused(&missing, &[NULL]), "binxml.substitution");
    assert_eq!(
        refused(&simple, &[(0x16, bytes(&[1]))]),
        "binxml.value_type"
    );
    // One value of 30,000 bytes, named 500 times.
    let data = (0..500)
        .map(|_| element("Data", vec![Node::Slot(0)]))
        .collect();
    let bomb = element("Event", vec![element("EventData", data)]);
    assert_eq!(refused(&bomb, &[(0x0e, bytes(&[1; 30_000]))]), "limit.text");
    let pieces = (0..500).map(|_| Node::Slot(0)).collect();
    let bomb = element(
        "Event",
        vec![element("EventData", vec![element("Data", pieces)])],
    );
    assert_eq!(refused(&bomb, &[(0x0e, bytes(&[1; 30_000]))]), "limit.text");
    let nested = (0..20).fold(element("E", vec![]), |_, _| {
        element("E", vec![Node::Slot(0)])
    });
    let value = (0..20).fold((0x01, bytes(b"")), |inner, _| {
        (
            0x21,
            Value::Instance(GUID_PAYLOAD, nested.clone(), vec![inner]),
        )
    });
    assert_eq!(refused(&simple, &[value]), "limit.depth");
}

#[test]
fn a_chunk_cannot_cost_more_work_than_its_size_allows() {
    let data = (0..1_000)
        .map(|_| element("Data", vec![Node::Slot(0)]))
        .collect();
    let definition = element("Event", vec![element("EventData", data)]);
    let mut chunk = ChunkBuilder::new();
    let mut id = 0;
    while chunk.bytes.len() < CHUNK_BYTES - 100 {
        id += 1;
        chunk.record(id, GUID_OUTER, &definition, &[NULL]);
    }
    let outcome = decode(&log(&[chunk.finish()]));
    assert!(!outcome.ids().is_empty());
    assert!(
        outcome
            .reasons()
            .iter()
            .all(|reason| reason == "limit.work")
    );
    assert_eq!(outcome.ids().len() + outcome.reasons().len(), id as usize);
}

#[test]
fn rows_do_not_depend_on_the_size_of_batches() {
    let mut broken = usual_chunk(50, 30).finish();
    broken[10_000..10_512].fill(0);
    let mut slots = vec![usual_chunk(1, 40).finish(), broken];
    slots.extend((0..18).map(|number| usual_chunk(100 * number, 3).finish()));
    let file = log(&slots);
    let whole = decode(&file);
    for (batch_rows, batch_bytes) in [(1, 8 << 20), (7, 8 << 20), (65_536, 1_000)] {
        let options = EvtxOptions {
            batch_rows,
            batch_bytes,
            ..EvtxOptions::default()
        };
        let outcome = decode_with(SliceSource(file.as_slice()), options);
        assert!(
            outcome
                .events
                .iter()
                .all(|batch| batch.num_rows() <= batch_rows)
        );
        assert_eq!(outcome.u64s("@offset"), whole.u64s("@offset"));
        assert_eq!(outcome.items(), whole.items());
        assert_eq!(outcome.raw(), whole.raw());
    }
}

#[test]
fn plans_of_one_file_serve_the_next() {
    let first = log(&[usual_chunk(1, 2).finish()]);
    // The same templates, with every name at another place.
    let mut chunk = ChunkBuilder::new();
    chunk.inline_record(
        1,
        &element("Event", vec![element("TargetUserName", vec![text("x")])]),
    );
    chunk.record(
        2,
        GUID_OUTER,
        &outer_template(),
        &system_values(7, payload("u")),
    );
    let second = log(&[chunk.finish()]);
    let mut decoder = EvtxDecoder::new(SliceSource(first), EvtxOptions::default()).unwrap();
    while decoder.next_batch().unwrap().is_some() {}
    let cache = decoder.into_cache();
    let known = format!("{cache:?}").matches("Plan {").count();
    let mut decoder =
        EvtxDecoder::with_cache(SliceSource(second), EvtxOptions::default(), cache).unwrap();
    let (_, batch) = decoder.next_batch().unwrap().unwrap();
    assert_eq!(batch.num_rows(), 2);
    while decoder.next_batch().unwrap().is_some() {}
    let cache = decoder.into_cache();
    assert_eq!(format!("{cache:?}").matches("Plan {").count(), known);
}

#[test]
fn a_template_less_record_can_be_recovered_too() {
    let mut chunk = ChunkBuilder::new();
    chunk.inline_record(1, &element("Event", vec![]));
    let end = chunk.bytes.len();
    chunk.inline_record(2, &element("Event", vec![]));
    let outcome = decode(&log(&[chunk.finish_at(end)]));
    assert_eq!(outcome.flags(), [INLINE, INLINE | RECOVERED | SLACK]);
}
