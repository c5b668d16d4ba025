//! Which layouts are left of a text, and what JSON Lines hold.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

use casparian_core::delimited::dialect::Asked;
use casparian_core::infer::{JsonlInference, form};
use casparian_core::source::SliceSource;
use serde_json::Value;

fn found(text: &str) -> Value {
    let source = SliceSource(text.as_bytes());
    serde_json::from_str(&form(&source, &Asked::default(), None).unwrap()).unwrap()
}

/// Delimiters that are left, with the headers that are.
fn left(text: &str) -> Vec<(String, Option<String>, Vec<bool>)> {
    let found = found(text);
    assert_eq!(found["form"], "delimited", "{text}");
    found["layouts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let header = one["header"].as_array().unwrap();
            (
                one["delimiter"].as_str().unwrap().to_owned(),
                one["quote"].as_str().map(str::to_owned),
                header
                    .iter()
                    .map(|value| value.as_bool().unwrap())
                    .collect(),
            )
        })
        .collect()
}

fn one(
    delimiter: &str,
    quote: Option<&str>,
    header: &[bool],
) -> Vec<(String, Option<String>, Vec<bool>)> {
    vec![(
        delimiter.to_owned(),
        quote.map(str::to_owned),
        header.to_vec(),
    )]
}

#[test]
fn what_no_record_contradicts_is_the_dialect() {
    let double = Some("\"");
    assert_eq!(left("a,b\n1,2\n3,4\n"), one(",", double, &[true]));
    assert_eq!(left("a\tb\n1,5\t2\n3\t4,4,4\n"), one("\t", double, &[true]));
    assert_eq!(left("1;x\n2;y\n"), one(";", double, &[false]));
    assert_eq!(left("a;b\nc;d\n"), one(";", double, &[true, false]));
    assert_eq!(left("a,b\n\"1,5\",2\n"), one(",", double, &[true]));
    assert_eq!(left("a|b\nit\"s|1\n\"x|2\n"), one("|", None, &[true]));
    assert_eq!(left("word\nother\n"), one(",", double, &[true, false]));
    assert!(left("a,b\n1,2,3\n4\n").is_empty());
    assert_eq!(left("a;1,x\nb;2,y\n").len(), 2);
}

#[test]
fn what_is_ruled_out_says_where() {
    let found = found("a,b\n1,2\n3,4,5\n");
    let ruled_out = found["ruled_out"].as_array().unwrap();
    let comma = ruled_out
        .iter()
        .find(|one| one["delimiter"] == ",")
        .unwrap();
    assert_eq!((&comma["record"], &comma["offset"]), (&3.into(), &8.into()));
    assert_eq!(comma["why"], "the record has 3 cells, the first one 2");
}

#[test]
fn lines_of_json_are_no_table_of_cells() {
    assert_eq!(found("\u{feff}\n{\"a\": 1}\n{}\n")["form"], "jsonl");
    assert_eq!(found("{a,b}\n{1,2}\n")["form"], "delimited");
}

fn lines(text: &str) -> Value {
    let mut inference = JsonlInference::default();
    inference.add(&SliceSource(text.as_bytes()), 1).unwrap();
    serde_json::from_str(&inference.report()).unwrap()
}

/// Path and readings of each column.
fn columns(text: &str) -> Vec<(String, Vec<String>)> {
    lines(text)["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| {
            let path: Vec<_> = column["source"]
                .as_array()
                .unwrap()
                .iter()
                .map(|key| key.as_str().unwrap())
                .collect();
            let readings = column["readings"].as_array().unwrap();
            let readings = readings.iter().map(|one| match one["meaning"].as_str() {
                Some(meaning) => format!("{} {meaning}", one["type"].as_str().unwrap()),
                None => one["type"].as_str().unwrap().to_owned(),
            });
            (path.join("."), readings.collect())
        })
        .collect()
}

#[test]
fn each_kind_of_json_value_is_read_as_what_it_is() {
    let cases: &[(&str, &[&str])] = &[
        ("{\"a\": 1}\n{\"a\": -3}", &["int64"]),
        ("{\"a\": 1}\n{\"a\": 2.5}", &["float64"]),
        ("{\"a\": \"1\"}", &["utf8"]),
        ("{\"a\": true}\n{\"a\": null}", &["bool"]),
        ("{\"a\": \"2024-01-02T03:04:05Z\"}", &["timestamp[ns, UTC]"]),
        ("{\"a\": 1700000000}", &["timestamp[ns, UTC]", "int64"]),
        ("{\"a\": \"1700000000\"}", &["timestamp[ns, UTC]", "utf8"]),
        ("{\"a\": \"14:03:22\"}", &["time64[us]"]),
        ("{\"a\": \"14:03\"}", &["time64[us]", "utf8"]),
        ("{\"a\": 20240101}", &["int64"]),
        ("{\"a\": \"10.0.0.1\"}", &["utf8 ipv4"]),
        ("{\"a\": [1, 2]}\n{\"a\": []}", &["list<int64>"]),
        ("{\"a\": [\"x\", null]}", &["list<utf8>"]),
        ("{\"a\": [[1]]}", &["utf8 json"]),
        ("{\"a\": [{\"b\": 1}]}", &["utf8 json"]),
        ("{\"a\": []}", &["utf8 json"]),
        ("{\"a\": 1}\n{\"a\": \"x\"}", &["utf8 json"]),
        ("{\"a\": {}}", &["utf8 json"]),
        ("{\"a\": null}", &["utf8"]),
        ("{\"a\": 1e400}", &["utf8 json"]),
    ];
    for (text, expected) in cases {
        assert_eq!(
            columns(text),
            [(
                "a".to_owned(),
                expected.iter().map(ToString::to_string).collect()
            )],
            "{text}"
        );
    }
}

#[test]
fn objects_are_gone_into_and_mixed_places_are_a_question() {
    let nested = columns("{\"a\": {\"b\": 1, \"c\": {\"d\": \"x\"}}}\n{\"a\": null}");
    let paths: Vec<_> = nested.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["a.b", "a.c.d"]);
    let mixed = columns("{\"a\": {\"b\": 1}}\n{\"a\": 5}");
    assert_eq!(
        mixed[0],
        (
            "a".to_owned(),
            vec!["utf8 json".to_owned(), "fields".to_owned()]
        )
    );
    assert_eq!(mixed[1].0, "a.b");
    let many: String = (0..600)
        .map(|number| format!("{{\"a\": {{\"k{number}\": 1}}}}\n"))
        .collect();
    assert_eq!(
        columns(&many),
        [("a".to_owned(), vec!["utf8 json".to_owned()])]
    );
}

#[test]
fn lines_that_are_no_documents_are_counted() {
    let report = lines("{\"a\": 1}\n{\"a\": 1,}\n\n[1]\n{\"a\": 2, \"a\": 3}\n{\"b\": 1}");
    assert_eq!(
        (report["rows"].as_u64(), report["faults"].as_u64()),
        (Some(5), Some(3))
    );
    assert_eq!(report["columns"][0]["missing"], 1);
}
