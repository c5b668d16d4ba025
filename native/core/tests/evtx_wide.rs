//! Wide tables: events of known kinds as typed rows, however the events are batched.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod evtx_world;

use arrow_array::cast::AsArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use arrow_array::{Array, RecordBatch};
use casparian_core::error::CoreError;
use casparian_core::evtx::EvtxOptions;
use casparian_core::evtx::wide::{WideBatch, WideSelection, WideSplitter, wide_tables};
use casparian_core::source::SliceSource;
use evtx_world::*;

const SECURITY: &str = "Microsoft-Windows-Security-Auditing";

/// A logon, written as text.
fn logon(user: &str, logon_type: &str) -> Node {
    let data = |name, value| with("Data", vec![("Name", text(name))], vec![text(value)]);
    element(
        "Event",
        vec![
            element(
                "System",
                vec![
                    with("Provider", vec![("Name", text(SECURITY))], vec![]),
                    element("EventID", vec![text("4624")]),
                    element("Computer", vec![text("host.example")]),
                ],
            ),
            element(
                "EventData",
                vec![
                    data("TargetUserName", user),
                    data("TargetLogonId", "0x3e7"),
                    data("LogonType", logon_type),
                    data("Else", "kept"),
                ],
            ),
        ],
    )
}

fn events(batch_rows: usize) -> Vec<RecordBatch> {
    let mut chunk = ChunkBuilder::new();
    for number in 1..=20 {
        let kind = if number % 5 == 0 { "interactive" } else { "3" };
        chunk.inline_record(number, &logon(&format!("user-{number}"), kind));
    }
    let options = EvtxOptions {
        batch_rows,
        ..EvtxOptions::default()
    };
    decode_with(SliceSource(&log(&[chunk.finish()])), options).events
}

fn split(setting: &str, events: &[RecordBatch]) -> Vec<WideBatch> {
    let selection = WideSelection::read(setting).unwrap();
    let mut splitter = WideSplitter::new(&selection);
    let mut found = Vec::new();
    for batch in events {
        found.extend(splitter.push(batch).unwrap());
    }
    found.extend(splitter.finish().unwrap());
    assert!(splitter.finish().unwrap().is_empty());
    found
}

#[test]
fn a_row_has_the_values_of_its_event() {
    let events = events(65_536);
    let found = split("curated", &events);
    assert_eq!(found.len(), 1);
    let rows = &found[0].rows;
    assert_eq!(wide_tables()[found[0].table].name, "evtx_security_4624");
    assert_eq!(rows.num_rows(), 20);
    for name in ["@offset", "@length", "@flags", "computer", "chunk"] {
        assert_eq!(
            rows.column_by_name(name),
            events[0].column_by_name(name),
            "{name}"
        );
    }
    let users = rows.column_by_name("target_user_name").unwrap();
    assert_eq!(users.as_string::<i32>().value(6), "user-7");
    let logons = rows.column_by_name("target_logon_id").unwrap();
    assert_eq!(logons.as_primitive::<UInt64Type>().value(0), 999);
    let kinds = rows.column_by_name("logon_type").unwrap();
    let misfits = rows.column_by_name("misfits").unwrap();
    let others = rows.column_by_name("other_names").unwrap().as_list::<i32>();
    for row in 0..20 {
        let is_misfit = row % 5 == 4;
        assert_eq!(kinds.is_null(row), is_misfit);
        assert_eq!(
            misfits.as_primitive::<UInt32Type>().value(row),
            u32::from(is_misfit)
        );
        assert_eq!(others.value_length(row), 1 + i32::from(is_misfit));
    }
}

#[test]
fn rows_are_the_same_however_events_are_batched() {
    let whole = split("evtx_security_4624", &events(65_536));
    for batch_rows in [1, 3] {
        let found = split("evtx_security_4624", &events(batch_rows));
        assert_eq!(found.len(), 1, "rows wait for others");
        assert_eq!(found[0].rows, whole[0].rows);
    }
}

#[test]
fn what_was_not_asked_for_is_not_made() {
    assert!(split("none", &events(65_536)).is_empty());
    assert!(split("evtx_security_4625,evtx_sysmon_1", &events(65_536)).is_empty());
}

#[test]
fn a_batch_of_something_else_is_refused() {
    let chunks = decode_with(
        SliceSource(&log(&[usual_chunk(1, 1).finish()])),
        EvtxOptions::default(),
    );
    let mut splitter = WideSplitter::new(&WideSelection::read("curated").unwrap());
    let refused = splitter.push(&chunks.chunks[0]);
    assert!(matches!(refused, Err(CoreError::Invalid { .. })));
}
