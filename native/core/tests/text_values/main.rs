//! The grammar of values: what is written and read back is the same, and nothing that loses a digit fits.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod numbers;
mod times;
mod words;

use casparian_core::text::{Format, Spec, Value};
use proptest::prelude::*;

fn format(type_name: &str, format: &str) -> Format {
    Format::new(&Spec {
        type_name,
        format: (!format.is_empty()).then_some(format),
        ..Spec::default()
    })
    .unwrap()
}

fn zoned(type_name: &str, format: &str, zone: &str) -> Format {
    Format::new(&Spec {
        type_name,
        format: Some(format),
        zone: Some(zone),
        ..Spec::default()
    })
    .unwrap()
}

fn grouped(type_name: &str, format: &str, group: &str) -> Format {
    Format::new(&Spec {
        type_name,
        format: Some(&format!("{format} group {group}")),
        ..Spec::default()
    })
    .unwrap()
}

fn meaning(name: &str) -> Format {
    Format::new(&Spec {
        type_name: "utf8",
        meaning: Some(name),
        ..Spec::default()
    })
    .unwrap()
}

/// What the text says, as a value that outlives it.
fn said(format: &Format, text: &str) -> Option<Value<'static>> {
    Some(match format.read(text.as_bytes())? {
        Value::Bool(value) => Value::Bool(value),
        Value::Int(value) => Value::Int(value),
        Value::UInt(value) => Value::UInt(value),
        Value::Float(value) => Value::Float(value),
        Value::Decimal(value) => Value::Decimal(value),
        Value::Date(value) => Value::Date(value),
        Value::Time(value) => Value::Time(value),
        Value::Timestamp(value) => Value::Timestamp(value),
        Value::Text(value) => Value::Text(String::from(value).leak()),
    })
}

fn fits(format: &Format, good: &[&str], bad: &[&str]) {
    for text in good {
        assert!(
            format.read(text.as_bytes()).is_some(),
            "{format:?} refuses {text:?}"
        );
    }
    for text in bad {
        assert_eq!(
            format.read(text.as_bytes()),
            None,
            "{format:?} takes {text:?}"
        );
    }
}

#[test]
fn formats_that_make_no_value_are_refused() {
    /// Type, format, zone and meaning.
    type Words = (
        &'static str,
        Option<&'static str>,
        Option<&'static str>,
        Option<&'static str>,
    );
    let bad: &[Words] = &[
        ("time", None, None, None),
        ("decimal128(39, 2)", None, None, None),
        ("decimal128(3, 4)", None, None, None),
        ("list<list<", None, None, None),
        ("utf8", Some("decimal"), None, None),
        ("int64", None, Some("UTC"), None),
        ("int64", None, None, Some("ipv4")),
        ("utf8", None, None, Some("colour")),
        ("date32", Some("%H:%M"), None, None),
        ("time64[ns]", None, None, None),
        ("time32[s]", None, None, None),
        ("time64[us]", Some("%Y-%m-%d %H:%M"), None, None),
        ("time64[us]", Some("%a %H:%M"), None, None),
        ("time64[us]", Some("%H:%M %z"), None, None),
        ("time64[us]", Some("%M:%S"), None, None),
        ("time64[us]", Some("%I:%M"), None, None),
        ("time64[us]", Some("%H:%M %p"), None, None),
        ("time64[us]", Some("noon"), None, None),
        ("time64[us]", Some("epoch_s"), None, None),
        ("time64[us]", None, Some("UTC"), None),
        ("time64[us]", None, None, Some("time")),
        ("date32", Some("%Y-%m"), None, None),
        ("date32", Some("%Y-%m-%d %d"), None, None),
        ("date32", Some("%Y-%m-%d %Q"), None, None),
        ("date32", Some("%Y-%m-%d%"), None, None),
        ("timestamp[us]", Some("%Y-%m-%d"), None, None),
        ("timestamp[us]", Some("%Y-%m-%d %I:%M"), None, None),
        ("timestamp[us]", Some("%Y-%m-%d %M:%S"), None, None),
        ("timestamp[us]", Some("epoch_s"), None, None),
        ("timestamp[us, UTC]", Some("%Y-%m-%d %H:%M"), None, None),
        (
            "timestamp[us, UTC]",
            Some("%Y-%m-%d %H:%M %z"),
            Some("UTC"),
            None,
        ),
        (
            "timestamp[us, UTC]",
            Some("%Y-%m-%d %H:%M"),
            Some("Mars/Olympus"),
            None,
        ),
        (
            "timestamp[us, UTC]",
            Some("%Y-%m-%d %H:%M"),
            Some("+25:00"),
            None,
        ),
    ];
    for (type_name, format, zone, meaning) in bad {
        let spec = Spec {
            type_name,
            format: *format,
            zone: *zone,
            meaning: *meaning,
        };
        assert!(Format::new(&spec).is_err(), "{spec:?}");
    }
    let list = format("list<list<int8>>", "");
    assert_eq!((list.lists(), list.kind().name()), (2, "int8".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(text: Vec<u8>, pattern in "[ -~]{0,12}") {
        for (type_name, words) in [("int64", "decimal zeros plus"), ("float64", "comma"), ("decimal128(38, 38)", "point"), ("timestamp[ns, UTC]", "iso8601"), ("timestamp[ns, UTC]", "rfc2822"), ("timestamp[ns, UTC]", "epoch_s"), ("timestamp[ns, UTC]", "filetime"), ("date32", "%e%B%Y"), ("time64[us]", "iso8601"), ("time64[us]", "%-I:%M:%S.%f%p")] {
            format(type_name, words).read(&text);
        }
        for name in ["ip", "cidr", "uuid", "mac", "sid", "hex", "time", "json"] {
            meaning(name).read(&text);
        }
        for type_name in ["date32", "time64[us]", "timestamp[s]", "int8", "bool"] {
            let _ = Format::new(&Spec { type_name, format: Some(&pattern), ..Spec::default() });
        }
    }
}
