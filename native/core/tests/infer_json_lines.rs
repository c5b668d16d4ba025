//! Inference over JSON Lines: never a reading that a value contradicts, and the same answer however the work is cut.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

use casparian_core::infer::JsonlInference;
use casparian_core::source::SliceSource;
use casparian_core::text::{Format, JsonKind, Spec};
use proptest::prelude::*;
use serde_json::{Value, json};

fn infer(files: &[Vec<u8>]) -> Value {
    infer_in_parts(files, 1, u64::MAX)
}

fn infer_in_parts(files: &[Vec<u8>], threads: usize, part_bytes: u64) -> Value {
    let mut inference = JsonlInference::default().in_parts_of(part_bytes);
    for file in files {
        inference.add(&SliceSource(file), threads).unwrap();
    }
    serde_json::from_str(&inference.report()).unwrap()
}

#[test]
fn evidence_names_the_first_value_that_ruled_out() {
    let files = [
        b"{\"n\":1}\n\n[]\n{\"n\":300}\n{\"n\":2.5}\n{\"n\":70000}\n".to_vec(),
        b"{\"n\":true}\n".to_vec(),
    ];
    for part_bytes in [1, 7, 20, 1 << 20] {
        let report = infer_in_parts(&files, 3, part_bytes);
        let column = &report["columns"][0];
        let by = |name: &str| {
            let ruled_out =
                |one: &&Value| one["ruled_out"].as_array().unwrap().contains(&json!(name));
            let mut evidence = column["evidence"].as_array().unwrap().iter();
            let one = evidence.find(ruled_out).unwrap();
            ["value", "file", "row", "offset"].map(|key| one[key].clone())
        };
        assert_eq!(by("int8"), [json!("300"), json!(0), json!(2), json!(12)]);
        assert_eq!(by("int64"), [json!("2.5"), json!(0), json!(3), json!(22)]);
        let boolean = json!({"count": 1, "file": 1, "row": 0, "offset": 0});
        assert_eq!(column["kinds"]["bool"], boolean);
        assert_eq!(report["first_fault"], "the line holds no object");
        assert_eq!(
            (&report["rows"], &report["faults"]),
            (&json!(6), &json!(1)),
            "blank lines are no rows"
        );
    }
}

#[test]
fn items_of_one_list_keep_their_order() {
    let file = b"{\"l\":[\"b\",\"a\",\"c\",\"d\"]}\n{\"l\":[\"0\"]}\n{\"l\":[1,\"x\"]}\n".to_vec();
    for part_bytes in [1, 30, 1 << 20] {
        let report = infer_in_parts(std::slice::from_ref(&file), 2, part_bytes);
        let facts = &report["columns"][0]["facts"];
        assert_eq!(facts["first"], json!(["1"]));
    }
    let texts = [b"{\"l\":[\"b\",\"a\",\"c\",\"d\"]}\n{\"l\":[\"0\"]}\n".to_vec()];
    for part_bytes in [1, 1 << 20] {
        let report = infer_in_parts(&texts, 2, part_bytes);
        let facts = &report["columns"][0]["facts"];
        assert_eq!(facts["first"], json!(["b", "a", "c"]));
    }
}

#[test]
fn a_date_that_only_another_reading_puts_beyond_nanoseconds_is_no_matter() {
    // The first line leaves the day in front: then the second is April 2262, which nanoseconds hold, and not November.
    let texts = ["31/12/1999 00:00:00", "11/04/2262 10:00:00"];
    let line = |text: &str| format!("{{\"t\":\"{text}\"}}\n");
    for texts in [texts, [texts[1], texts[0]]] {
        let file = texts.map(line).concat().into_bytes();
        for part_bytes in [20, 1 << 20] {
            let report = infer_in_parts(std::slice::from_ref(&file), 2, part_bytes);
            let readings = &report["columns"][0]["readings"];
            assert_eq!(readings[0]["type"], "timestamp[ns, UTC]");
        }
    }
}

/// Documents with few keys, whose values are mostly of one kind a key.
fn document() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[0-3][0-9]/[01][0-9]/20[0-9]{2}",
        "20[0-9]{2}-0[1-9]-[12][0-9]T[01][0-9]:00:00(\\.[0-9]{1,9})?(Z)?",
        "[0-9]{1,3}\\.0\\.0\\.[0-9]{1,2}",
        "(yes|no|-|N/A||true)",
        "[0-2]?[0-9]:[0-5][0-9]",
        "(1[0-9]{9}|0x[0-9a-f]{4}|[0-9a-f]{8})",
        "\\PC{0,6}",
    ];
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        (0..300_i64).prop_map(Value::from),
        (1_600_000_000..1_800_000_000_i64).prop_map(Value::from),
        (-1e6..1e6).prop_map(Value::from),
    ];
    let scalar = prop_oneof![
        5 => text.prop_map(Value::from),
        5 => number,
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    let value = scalar.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    proptest::collection::btree_map("[a-d]|ä|\"", value, 0..5)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// Lines of documents, with some that are none.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        12 => document().prop_map(|document| document.to_string()),
        1 => "(|\t|\\{|\\[\\]|1|\\{\"a\":1,\"a\":2\\})",
    ];
    let lines = proptest::collection::vec((line, "\r?\n"), 0..24);
    (lines, any::<bool>(), 0..3_u8).prop_map(|(lines, has_mark, wide)| {
        let mut text = String::from(if has_mark || wide > 0 { "\u{FEFF}" } else { "" });
        text.extend(lines.into_iter().map(|(line, end)| line + &end));
        match wide {
            0 => text.into_bytes(),
            1 => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            _ => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        }
    })
}

/// A report without what depends on which file is the first one: places, examples and who ruled out.
fn without_places(mut report: Value) -> Value {
    let columns = report["columns"].as_array_mut().unwrap();
    for column in columns {
        let mut ruled_out: Vec<String> = Vec::new();
        for one in column["evidence"].as_array().unwrap() {
            let names = one["ruled_out"].as_array().unwrap().iter();
            ruled_out.extend(names.map(|name| name.as_str().unwrap().to_owned()));
        }
        ruled_out.sort();
        column["evidence"] = ruled_out.into();
        column["facts"].as_object_mut().unwrap().remove("first");
        for word in column["words"].as_array_mut().unwrap() {
            *word = json!([word["word"], word["count"]]);
        }
        for kind in column["kinds"].as_object_mut().unwrap().values_mut() {
            *kind = kind["count"].take();
        }
        for reading in column["readings"].as_array_mut().unwrap() {
            reading.as_object_mut().unwrap().remove("examples");
        }
    }
    report.as_object_mut().unwrap().remove("first_fault");
    report
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_and_threads_change_nothing(
        files in proptest::collection::vec(file(), 1..4), part_bytes in 1..400_u64, threads in 1..5_usize,
    ) {
        prop_assert_eq!(infer_in_parts(&files, threads, part_bytes), infer(&files));
    }

    #[test]
    fn the_order_of_files_changes_only_who_came_first(
        files in proptest::collection::vec(file(), 2..5), part_bytes in 1..400_u64, turn in 1..4_usize,
    ) {
        let mut turned = files.clone();
        turned.rotate_left(turn % files.len());
        turned.swap(0, 1);
        prop_assert_eq!(without_places(infer_in_parts(&turned, 2, part_bytes)), without_places(infer(&files)));
    }

    #[test]
    fn no_value_contradicts_a_reading(documents in proptest::collection::vec(document(), 1..20)) {
        let text: String = documents.iter().map(|document| format!("{document}\n")).collect();
        for column in infer_in_parts(&[text.into_bytes()], 2, 64)["columns"].as_array().unwrap() {
            let words: Vec<_> = column["words"].as_array().unwrap().iter().map(|one| &one["word"]).collect();
            let path: Vec<_> = column["source"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
            let values: Vec<_> = documents.iter().filter_map(|document| path.iter().try_fold(document, |at, key| at.get(key))).collect();
            for reading in column["readings"].as_array().unwrap() {
                if reading["type"] == "fields" {
                    prop_assert!(values.iter().any(|value| value.is_object()));
                    continue;
                }
                let group = reading["group"].as_str().map(|group| format!(" group {}", if group == " " { "space" } else { group }));
                let plain = if reading["type"] == "int64" { "decimal" } else { "point" };
                let format = match (reading["format"].as_str(), group) {
                    (format, None) => format.map(str::to_owned),
                    (format, Some(group)) => Some(format!("{}{group}", format.unwrap_or(plain))),
                };
                let format = Format::new(&Spec {
                    type_name: reading["type"].as_str().unwrap(),
                    format: format.as_deref(),
                    zone: (reading["needs_zone"] == true).then_some("UTC"),
                    meaning: reading["meaning"].as_str(),
                }).unwrap();
                let items = |value: &Value| if format.lists() > 0 { value.as_array().cloned() } else { Some(vec![value.clone()]) };
                for value in values.iter().filter(|value| !value.is_null()) {
                    let Some(items) = items(value) else {
                        return Err(TestCaseError::fail(format!("{reading} has no {value}")));
                    };
                    for item in items {
                        let (kind, text) = match &item {
                            Value::Null => continue,
                            Value::Bool(_) => (JsonKind::Bool, item.to_string()),
                            Value::Number(_) => (JsonKind::Number, item.to_string()),
                            Value::String(text) => (JsonKind::Text, text.clone()),
                            Value::Array(_) => (JsonKind::Array, item.to_string()),
                            Value::Object(_) => (JsonKind::Object, item.to_string()),
                        };
                        if words.contains(&&json!(text)) || format.keeps_json() {
                            continue;
                        }
                        prop_assert!(format.takes(kind) && format.read(text.as_bytes()).is_some(), "{reading} takes no {item}");
                    }
                }
            }
        }
    }
}
