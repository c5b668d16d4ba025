//! Inference over delimited text: never a reading that a value contradicts, and the same answer however the work is cut.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

use casparian_core::delimited::Layout;
use casparian_core::infer::DelimitedInference;
use casparian_core::source::SliceSource;
use casparian_core::text::{Format, Spec};
use proptest::prelude::*;
use serde_json::Value;

fn infer(files: &[&str]) -> Value {
    infer_in_parts(files, 1, None)
}

fn infer_in_parts(files: &[&str], threads: usize, part_bytes: Option<u64>) -> Value {
    let mut inference = DelimitedInference::default();
    if let Some(bytes) = part_bytes {
        inference = inference.in_parts_of(bytes);
    }
    for file in files {
        let source = SliceSource(file.as_bytes());
        inference.add(&source, &Layout::default(), threads).unwrap();
    }
    serde_json::from_str(&inference.report()).unwrap()
}

/// The options of a file's only column.
fn options(values: &[&str]) -> Vec<String> {
    let text = values.iter().fold("x,y\n".to_owned(), |text, value| {
        format!("{text}\"{value}\",\n")
    });
    let report = infer(&[&text]);
    let readings = report["columns"][0]["readings"].as_array().unwrap();
    readings
        .iter()
        .map(|reading| {
            let mut text = reading["option"].as_str().unwrap().to_owned();
            text = format!("{text}: {}", reading["type"].as_str().unwrap());
            if reading["needs_zone"] == true {
                text.push_str(" ?");
            }
            text
        })
        .collect()
}

#[test]
fn what_remains_is_the_answer() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["1", "-200", "300"], &["integer: int64"]),
        (&["18446744073709551615", "1"], &["integer: uint64"]),
        (
            &["18446744073709551616", "-1"],
            &["integer: decimal128(38, 0)"],
        ),
        (&["1", "007"], &["text: utf8"]),
        (&["1", "2", "x"], &["text: utf8"]),
        (&["1.25", "10.50"], &["point: decimal128(18, 2)"]),
        (&["1.5", "10.55"], &["point: float64"]),
        (&["1", "1.5"], &["point: float64"]),
        (&["1e5", "2"], &["float: float64"]),
        (&["1.5", "NaN", "-inf"], &["float: float64"]),
        (&["1,5", "2,25"], &["comma: float64"]),
        (
            &["1,234.50", "2,345,678.90"],
            &["point, group ,: decimal128(18, 2)"],
        ),
        (&["1,234,567", "12"], &["group ,: int64"]),
        (
            &["1,234", "2,345"],
            &["group ,: int64", "comma: decimal128(18, 3)"],
        ),
        (&["0,234", "2,345"], &["comma: decimal128(18, 3)"]),
        (&["true", "false"], &["true/false: bool"]),
        (&["true", "true"], &["true/false: bool"]),
        (&["Y", "N", "Y"], &["Y/N: bool"]),
        (&["Y", "Y"], &["text: utf8"]),
        (&["1", "0", "1"], &["1/0: bool", "integer: int64"]),
        (&["0", "0"], &["integer: int64"]),
        (&["2024-01-31"], &["%Y-%m-%d: date32"]),
        (&["31/01/2024", "01/02/2024"], &["%d/%m/%Y: date32"]),
        (
            &["11/01/2024", "01/02/2024"],
            &["%m/%d/%Y: date32", "%d/%m/%Y: date32"],
        ),
        (&["1/13/2024", "01/02/2024"], &["%-m/%-d/%Y: date32"]),
        (&["2024-01-31T10:00:00Z"], &["iso8601: timestamp[ns, UTC]"]),
        (
            &["2024-01-31 10:00:00"],
            &["iso8601 without zone: timestamp[ns, UTC] ?"],
        ),
        (
            &["2024-01-31 10:00:00", "2024-01-31 10:00:00+01:00"],
            &["iso8601 some with zone: timestamp[ns, UTC] ?"],
        ),
        (&["9999-12-31T00:00:00Z"], &["iso8601: timestamp[us, UTC]"]),
        (
            &["10/Oct/2000:13:55:36 -0700"],
            &["%d/%b/%Y:%H:%M:%S %z: timestamp[ns, UTC]"],
        ),
        (
            &["1700000000", "1700000100"],
            &["epoch_s: timestamp[ns, UTC]", "integer: int64"],
        ),
        (
            &["1700000000000"],
            &["epoch_ms: timestamp[ns, UTC]", "integer: int64"],
        ),
        (
            &["133500000000000000"],
            &["filetime: timestamp[ns, UTC]", "integer: int64"],
        ),
        (&["20240131"], &["%Y%m%d: date32", "integer: int64"]),
        (&["20241331", "12345671"], &["integer: int64", "hex: utf8"]),
        (&["10.0.0.1", "10.0.0.2"], &["ipv4: utf8"]),
        (&["10.0.0.1", "::1"], &["ip: utf8"]),
        (&["d41d8cd98f00b204e9800998ecf8427e"], &["md5: utf8"]),
        (&["0x1f", "0x20"], &["hex integer: uint64"]),
        (&["deadbeef", "cafebabe"], &["hex: utf8"]),
        (&["beef", "cafe"], &["text: utf8"]),
        (
            &["12:30", "23:59:59.5"],
            &["iso8601 time of day: time64[us]"],
        ),
        (&["14:03:22"], &["iso8601 time of day: time64[us]"]),
        (
            &["14:03:22.123456", "14:03:22,5"],
            &["iso8601 time of day: time64[us]"],
        ),
        (
            &["14:03", "00:45"],
            &["iso8601 time of day: time64[us]", "text: utf8"],
        ),
        (&["9:05", "14:03"], &["%-H:%M: time64[us]", "text: utf8"]),
        (
            &["9:05:22", "14:03:22"],
            &["%-H:%M:%S: time64[us]", "text: utf8"],
        ),
        (
            &["9:05:22.5", "14:03:22.25"],
            &["%-H:%M:%S.%f: time64[us]", "text: utf8"],
        ),
        (&["2:03:22 PM"], &["%-I:%M:%S %p: time64[us]"]),
        (
            &["02:03:22 PM", "11:00:00 am"],
            &["%I:%M:%S %p: time64[us]"],
        ),
        (
            &["02:03:22 PM", "1:00:00 am"],
            &["%-I:%M:%S %p: time64[us]"],
        ),
        (&["02:03PM"], &["%I:%M%p: time64[us]"]),
        (&["-", "14:03:22"], &["iso8601 time of day: time64[us]"]),
        (&["14:03:22.1234567", "12:30"], &["time: utf8"]),
        (&["14:03:22", "24:00:00"], &["text: utf8"]),
        (&["23:59:60"], &["text: utf8"]),
        (&["7:65"], &["text: utf8"]),
        (&["07:65", "07:05"], &["text: utf8"]),
        (&["13:03:22 PM"], &["text: utf8"]),
        (&["14:03:22Z"], &["text: utf8"]),
        (&["14:03:22", "2024-01-31"], &["text: utf8"]),
        (&["14:03:22", "5"], &["text: utf8"]),
        (&["140322", "090322"], &["text: utf8"]),
        (&["{}", "[1, 2]"], &["json: utf8"]),
        (&["S-1-5-18"], &["sid: utf8"]),
        (&["", ""], &["text: utf8"]),
        (&["", "-", "5"], &["integer: int64"]),
        (&["-", "a"], &["text: utf8"]),
    ];
    for (values, expected) in cases {
        // Quotes within JSON are doubled by no one here, so the cases have none.
        assert_eq!(options(values), *expected, "{values:?}");
    }
}

#[test]
fn evidence_names_the_first_value_that_ruled_out() {
    let report = infer(&["n,y\n1,\n2,\n300,\nx,\n70000,\n", "n,y\n5,\n"]);
    let column = &report["columns"][0];
    let by = |name: &str| {
        let evidence = column["evidence"].as_array().unwrap();
        let one = evidence
            .iter()
            .find(|one| {
                one["ruled_out"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|out| out == name)
            })
            .unwrap();
        (
            one["value"].as_str().unwrap().to_owned(),
            one["file"].as_u64(),
            one["row"].as_u64(),
            one["offset"].as_u64(),
        )
    };
    assert_eq!(by("int8"), ("300".into(), Some(0), Some(2), Some(10)));
    assert_eq!(by("int64"), ("x".into(), Some(0), Some(3), Some(15)));
    assert_eq!(by("ipv4"), ("1".into(), Some(0), Some(0), Some(4)));
    assert_eq!(column["readings"][0]["option"], "text");
}

#[test]
fn headers_that_differ_make_one_table() {
    let report = infer(&["a,b\n1,2\n", "b,a,c\n3,4,x\n"]);
    let sources: Vec<_> = report["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["source"].clone())
        .collect();
    assert_eq!(sources, ["a", "b", "c"]);
    assert_eq!(report["headers"].as_array().unwrap().len(), 2);
    assert_eq!(report["rows"], 2);
    assert_eq!(report["columns"][0]["cells"], 2);
    assert_eq!(report["columns"][2]["cells"], 1);
}

#[test]
fn rows_that_do_not_fit_the_header_are_counted_and_not_read() {
    let report = infer(&["a,b\n1,2\n1\n3,4,5\n\"x\"y,2\n"]);
    assert_eq!(
        (report["rows"].as_u64(), report["faults"].as_u64()),
        (Some(4), Some(3))
    );
    assert_eq!(report["columns"][0]["readings"][0]["option"], "integer");
}

/// Values of one kind, and some that are of no kind.
fn values() -> impl Strategy<Value = Vec<String>> {
    let kinds = prop_oneof![
        Just("-?(0|[1-9][0-9]{0,20})"),
        Just("[0-9]{1,5}(\\.[0-9]{1,3})?"),
        Just("[0-9]{1,3}([,.][0-9]{3}){0,2}([.,][0-9]{1,2})?"),
        Just("-?[0-9]\\.[0-9]{1,18}(e-?[0-9]{1,3})?"),
        Just("[0-3][0-9]/[01][0-9]/20[0-9]{2}"),
        Just("[0-2][0-9]:[0-6][0-9](:[0-6][0-9]([.,][0-9]{1,7})?)?"),
        Just("[01]?[0-9]:[0-5][0-9](:[0-5][0-9])?( ?[AaPp][Mm])?"),
        Just(
            "20[0-9]{2}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|\\+0[0-9]:00)?)?"
        ),
        Just("(1[0-9]{9}|1[0-9]{12}|20[0-9]{6})"),
        Just("(true|false|True|yes|no|0|1|)"),
        Just("(0x)?[0-9a-f]{8}"),
        Just("[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}"),
        Just("(-|NULL|N/A||[0-9]{1,4})"),
        Just("[ -~]{0,6}"),
    ];
    (kinds, 0..4_usize).prop_flat_map(|(kind, strange)| {
        (
            proptest::collection::vec(kind, 1..40),
            proptest::collection::vec("[ -!#-~]{0,8}", strange.saturating_sub(2)),
        )
            .prop_map(|(mut values, more)| {
                values.extend(more);
                values
            })
    })
}

fn file(values: &[String]) -> String {
    values.iter().fold("v,w\n".to_owned(), |text, value| {
        format!("{text}\"{}\",1\n", value.replace('"', "\"\""))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_value_contradicts_a_reading(values in values()) {
        let report = infer(&[&file(&values)]);
        let column = &report["columns"][0];
        let words: Vec<_> = column["words"].as_array().unwrap().iter().map(|one| one["word"].as_str().unwrap()).collect();
        for reading in column["readings"].as_array().unwrap() {
            let words_of_format = match (reading["group"].as_str(), reading["format"].as_str()) {
                (None, format) => format.map(str::to_owned),
                (Some(group), format) => {
                    let plain = if reading["type"] == "int64" { "decimal" } else { "point" };
                    Some(format!("{} group {}", format.unwrap_or(plain), if group == " " { "space" } else { group }))
                }
            };
            let format = Format::new(&Spec {
                type_name: reading["type"].as_str().unwrap(),
                format: words_of_format.as_deref(),
                zone: (reading["needs_zone"] == true).then_some("UTC"),
                meaning: reading["meaning"].as_str(),
            }).unwrap();
            for value in &values {
                let null = words.contains(&value.as_str());
                prop_assert!(null || format.read(value.as_bytes()).is_some(), "{reading} takes no {value:?}");
            }
        }
    }

    #[test]
    fn cuts_change_nothing(values in values(), more in values(), part_bytes in 1..200_u64) {
        let (one, other) = (file(&values), file(&more));
        let whole = infer(&[&one, &other]);
        let cut = infer_in_parts(&[&one, &other], 2, Some(part_bytes));
        prop_assert_eq!(whole, cut);
    }
}
