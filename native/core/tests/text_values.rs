//! The grammar of values: what is written and read back is the same, and nothing that loses a digit fits.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

use casparian_core::text::{Format, JsonKind, Nulls, Spec, Value, is_json};
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
fn integers_end_at_their_width() {
    let never = [
        "", "-", "+", "+1", "01", "-0", "-01", "1.0", "1e3", " 1", "1 ", "0x1", "1_000", "１",
    ];
    for (bits, low, high) in [
        (8, "-128", "127"),
        (16, "-32768", "32767"),
        (32, "-2147483648", "2147483647"),
        (64, "-9223372036854775808", "9223372036854775807"),
    ] {
        let signed = format(&format!("int{bits}"), "");
        fits(&signed, &[low, high, "0", "-1", "7"], &never);
    }
    fits(
        &format("int8", ""),
        &[],
        &["128", "-129", "99999999999999999999999"],
    );
    fits(
        &format("int64", ""),
        &[],
        &[
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
        ],
    );
    fits(&format("uint8", ""), &["255", "0"], &["256", "-1", "-0"]);
    fits(
        &format("uint64", ""),
        &["18446744073709551615"],
        &["18446744073709551616", "28446744073709551615"],
    );
    assert_eq!(
        format("int64", "").read(b"-9223372036854775808"),
        Some(Value::Int(i64::MIN))
    );
}

#[test]
fn other_ways_to_write_integers_are_declared() {
    fits(
        &format("int64", "decimal zeros"),
        &["007", "0", "-01"],
        &["-000", ""],
    );
    fits(
        &format("int64", "decimal plus"),
        &["+5", "5"],
        &["+", "+-5", "-+5"],
    );
    fits(
        &grouped("int64", "decimal", ","),
        &["1,234", "12,345,678", "1234", "999"],
        &["1,23", "1234,567", ",123", "1,,234", "0,123"],
    );
    fits(
        &grouped("int64", "decimal", "space"),
        &["1 234"],
        &["1,234"],
    );
    let hex = format("uint32", "hex");
    fits(
        &hex,
        &["0x1F", "ff", "0x0001", "DEADBEEF"],
        &["0x", "", "-1", "1FFFFFFFF", "0g"],
    );
    assert_eq!(hex.read(b"0x1F"), Some(Value::UInt(31)));
    for bad in [
        "octal",
        "hex zeros",
        "decimal group",
        "decimal group x",
        "decimal zeros zeros",
        "",
    ] {
        assert!(
            Format::new(&Spec {
                type_name: "int64",
                format: Some(bad),
                ..Spec::default()
            })
            .is_err(),
            "{bad}"
        );
    }
}

#[test]
fn decimals_keep_every_digit_or_do_not_fit() {
    let two = format("decimal128(5, 2)", "");
    assert_eq!(two.read(b"12.5"), Some(Value::Decimal(1250)));
    assert_eq!(two.read(b"-999.99"), Some(Value::Decimal(-99_999)));
    fits(
        &two,
        &["0", "0.00", "12", ".5", "-.50"],
        &[
            "1000", "1.234", "1.", ".", "-0.00", "1e2", "007.1", "1,5", "",
        ],
    );
    fits(
        &format("decimal128(38, 0)", ""),
        &["99999999999999999999999999999999999999"],
        &["100000000000000000000000000000000000000"],
    );
    let comma = grouped("decimal128(9, 2)", "comma", ".");
    assert_eq!(
        comma.read(b"1.234.567,89"),
        Some(Value::Decimal(123_456_789))
    );
    fits(&comma, &["1234,5"], &["1,234.5", "1.23,4"]);
}

#[test]
fn floats_that_lose_digits_do_not_fit() {
    let double = format("float64", "");
    fits(
        &double,
        &[
            "0.1",
            "1e10",
            "-2.5E-3",
            "inf",
            "-Infinity",
            "NaN",
            "0",
            "-0.0",
            "9007199254740993e-1",
            "123456789012345.6",
            "1.7976931348623157e308",
            "5e-324",
            "1.10",
            "1000000000000000000000000",
        ],
        &[
            "0.1234567890123456789",
            "9007199254740993",
            "1e309",
            "1e-400",
            "1.",
            ".",
            "e5",
            "1e",
            "1e+",
            "007.5",
            "-nan",
            "infinite",
            "0x1p3",
            "1,5",
            "",
        ],
    );
    fits(
        &format("float32", ""),
        &["0.1", "16777216", "3.4028235e38"],
        &["0.123456789", "16777217", "1e39"],
    );
    assert_eq!(
        format("float64", "comma").read(b"1,5"),
        Some(Value::Float(1.5))
    );
}

#[test]
fn booleans_are_two_words() {
    let yes = format("bool", "yes/no");
    assert_eq!(yes.read(b"yes"), Some(Value::Bool(true)));
    assert_eq!(yes.read(b"no"), Some(Value::Bool(false)));
    fits(&yes, &[], &["Yes", "y", "", "yes "]);
    fits(&format("bool", ""), &["true", "false"], &["True", "1"]);
    for bad in ["yes", "a/a", "a/b/c", "/no"] {
        assert!(
            Format::new(&Spec {
                type_name: "bool",
                format: Some(bad),
                ..Spec::default()
            })
            .is_err(),
            "{bad}"
        );
    }
}

#[test]
fn times_are_read_field_by_field() {
    const SECOND: i64 = 1_000_000_000;
    let at = 1_605_535_506; // 2020-11-16T14:05:06Z
    let cases: &[(&str, &str, i64)] = &[
        ("%Y-%m-%dT%H:%M:%SZ", "2020-11-16T14:05:06Z", at * SECOND),
        (
            "%d/%b/%Y:%H:%M:%S %z",
            "16/Nov/2020:16:05:06 +0200",
            at * SECOND,
        ),
        (
            "%a, %d %b %Y %H:%M:%S GMT",
            "Mon, 16 Nov 2020 14:05:06 GMT",
            at * SECOND,
        ),
        (
            "%-m/%-d/%Y %-I:%M:%S %p",
            "11/16/2020 2:05:06 PM",
            at * SECOND,
        ),
        (
            "%A %B %e %y %H:%M:%S.%f",
            "monday November 16 20 14:05:06.25",
            at * SECOND + SECOND / 4,
        ),
        ("%Y %j %H:%M:%S", "2020 321 14:05:06", at * SECOND),
        ("epoch_s", "1605535506", at * SECOND),
        ("epoch_s", "1605535506.125", at * SECOND + SECOND / 8),
        ("epoch_ms", "1605535506001", at * SECOND + 1_000_000),
        ("epoch_us", "1605535506000001", at * SECOND + 1_000),
        ("epoch_ns", "-1", -1),
        ("filetime", "132500091060000001", at * SECOND + 100),
        ("iso8601", "2020-11-16T14:05:06.000000001Z", at * SECOND + 1),
        (
            "iso8601",
            "2020-11-16 16:05:06,5+02",
            at * SECOND + SECOND / 2,
        ),
        ("rfc2822", "Mon, 16 Nov 2020 14:05:06 +0000", at * SECOND),
        ("rfc2822", "16 Nov 2020 09:05:06 -0500", at * SECOND),
        (
            "%Y-%m-%d %H:%M:%S %Z",
            "2020-11-16 14:05:06 UTC",
            at * SECOND,
        ),
    ];
    for (pattern, text, expected) in cases {
        let has_zone = pattern.contains("%z")
            || pattern.contains("%Z")
            || pattern.starts_with("epoch")
            || ["filetime", "iso8601", "rfc2822"].contains(pattern);
        let format = if has_zone {
            format("timestamp[ns, UTC]", pattern)
        } else {
            zoned("timestamp[ns, UTC]", pattern, "UTC")
        };
        assert_eq!(
            format.read(text.as_bytes()),
            Some(Value::Timestamp(*expected)),
            "{pattern} {text}"
        );
    }
    let iso = format("timestamp[us, UTC]", "");
    fits(
        &iso,
        &["2020-02-29T00:00:00.123456Z"],
        &[
            "2021-02-29T00:00:00Z",
            "2020-02-29T24:00:00Z",
            "2020-02-29T00:00:60Z",
            "2020-02-29T00:00:00.1234567Z",
            "2020-02-29T00:00:00",
            "2020-02-29T00:00:00.Z",
            "2020-02-29T00:00:00+2",
            "2020-02-29",
            "0000-01-01T00:00:00Z",
        ],
    );
    fits(
        &format("timestamp[us, UTC]", "%a %d %b %Y %H:%M %z"),
        &["Mon 16 Nov 2020 14:05 Z"],
        &[
            "Tue 16 Nov 2020 14:05 Z",
            "Mon 16 Nov 2020 14:05",
            "Mon 16 Nov 2020 14:05 CET",
        ],
    );
    fits(
        &format("date32", "%d.%m.%Y"),
        &["31.12.1999"],
        &["31.11.1999", "1.1.1999", "31.12.99", "31.12.1999 "],
    );
    assert_eq!(
        format("date32", "%y%m%d").read(b"690101"),
        Some(Value::Date(-365))
    );
    assert_eq!(
        format("timestamp[s]", "%Y-%m-%d %H:%M:%S").read(b"1970-01-01 00:00:01"),
        Some(Value::Timestamp(1))
    );
    // Nanoseconds end in 1677 and 2262, to the last one.
    let nano = format("timestamp[ns, UTC]", "");
    assert_eq!(
        nano.read(b"1677-09-21T00:12:43.145224192Z"),
        Some(Value::Timestamp(i64::MIN))
    );
    fits(
        &nano,
        &["2262-04-11T23:47:16.854775807Z"],
        &[
            "2262-04-11T23:47:16.854775808Z",
            "1677-09-21T00:12:43.145224191Z",
            "9999-12-31T00:00:00Z",
        ],
    );
}

#[test]
fn local_times_follow_their_zone() {
    let berlin = zoned("timestamp[s, UTC]", "%Y-%m-%d %H:%M:%S", "Europe/Berlin");
    let read = |text: &str| said(&berlin, text);
    assert_eq!(
        read("2024-07-01 12:00:00"),
        Some(Value::Timestamp(1_719_828_000))
    );
    assert_eq!(
        read("2024-01-01 12:00:00"),
        Some(Value::Timestamp(1_704_106_800))
    );
    assert_eq!(read("2024-03-31 02:30:00"), None, "clocks skipped it");
    assert_eq!(
        read("2024-10-27 02:30:00"),
        Some(Value::Timestamp(1_729_989_000)),
        "the first of two"
    );
    assert_eq!(
        read("2050-07-01 12:00:00"),
        Some(Value::Timestamp(2_540_282_400)),
        "by the rule that holds on"
    );
    let fixed = zoned("timestamp[s, UTC]", "iso8601", "-05:30");
    assert_eq!(
        fixed.read(b"1970-01-01T00:00:00"),
        Some(Value::Timestamp(19_800))
    );
    assert_eq!(
        fixed.read(b"1970-01-01T00:00:00Z"),
        Some(Value::Timestamp(0)),
        "its own zone wins"
    );
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

#[test]
fn meanings_are_exact() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "ipv4",
            &["0.0.0.0", "255.255.255.255"],
            &[
                "256.0.0.1",
                "1.2.3",
                "01.2.3.4",
                "1.2.3.4.5",
                "1.2.3.4 ",
                "1..2.3",
            ],
        ),
        (
            "ipv6",
            &["::", "::1", "fe80::1", "2001:db8::ffff:1.2.3.4"],
            &["1.2.3.4", ":::", "fe80::1%eth0", "g::1"],
        ),
        (
            "cidr",
            &["10.0.0.0/8", "fe80::/10"],
            &["10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/08"],
        ),
        (
            "uuid",
            &[
                "123e4567-e89b-12d3-a456-426614174000",
                "{123E4567-E89B-12D3-A456-426614174000}",
            ],
            &[
                "123e4567e89b12d3a456426614174000",
                "{123e4567-e89b-12d3-a456-426614174000",
            ],
        ),
        (
            "mac",
            &["00:1a:2B:3c:4d:5e", "00-1a-2b-3c-4d-5e", "001a.2b3c.4d5e"],
            &["00:1a-2b:3c:4d:5e", "00:1a:2b:3c:4d", "001a2b3c4d5e"],
        ),
        (
            "sid",
            &["S-1-5-18", "S-1-5-21-4294967295-1-500"],
            &[
                "S-1-",
                "S-2-5",
                "S-1-5-4294967296",
                "S-1-05",
                "S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15-16",
            ],
        ),
        (
            "md5",
            &["d41d8cd98f00b204e9800998ecf8427e"],
            &[
                "d41d8cd98f00b204e9800998ecf8427",
                "g41d8cd98f00b204e9800998ecf8427e",
            ],
        ),
        ("sha1", &["da39a3ee5e6b4b0d3255bfef95601890afd80709"], &[""]),
        (
            "sha256",
            &["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
            &["e3"],
        ),
        ("hex", &["00", "0xDEADbeef"], &["0", "0x", "", "0g"]),
        (
            "time",
            &["12:34", "23:59:59.999"],
            &["24:00", "1:00", "12:34Z", "12:34:56.", ""],
        ),
        ("json", &["{}", "[1]", "1", "\"a\""], &["{", "{'a':1}", ""]),
    ];
    for (name, good, bad) in cases {
        fits(&meaning(name), good, bad);
    }
    assert_eq!(format("utf8", "").read(b"\xff"), None);
    assert_eq!(format("utf8", "").read(b""), Some(Value::Text("")));
}

#[test]
fn json_kinds_are_not_mixed() {
    assert!(format("int64", "").takes(JsonKind::Number));
    assert!(!format("int64", "").takes(JsonKind::Text));
    assert!(!format("utf8", "").takes(JsonKind::Number));
    assert!(meaning("json").takes(JsonKind::Object) && meaning("json").keeps_json());
    assert!(format("timestamp[us, UTC]", "epoch_s").takes(JsonKind::Number));
    assert!(!format("timestamp[us, UTC]", "iso8601").takes(JsonKind::Number));
}

#[test]
fn nulls_are_exact_words() {
    let nulls = Nulls::new(["", "-", "NULL"]);
    assert!(nulls.holds(b"") && nulls.holds(b"-") && nulls.holds(b"NULL"));
    assert!(!nulls.holds(b"null") && !nulls.holds(b"--") && !Nulls::default().holds(b""));
}

#[test]
fn json_is_strict() {
    for good in [
        "null",
        " [1, -0.5e+3 , \"\\u00e9\\ud83d\\ude00\"] ",
        "{\"a\": {\"b\": []}, \"c\": true}",
    ] {
        assert!(is_json(good.as_bytes()), "{good}");
    }
    for bad in [
        "",
        "[1,]",
        "{\"a\"}",
        "{,}",
        "[1 2]",
        "01",
        "1.",
        "NaN",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\t\"",
        "[}",
        "{\"a\":1,}",
        "nul",
        "1 1",
        "+1",
        "-",
    ] {
        assert!(!is_json(bad.as_bytes()), "{bad}");
    }
    let deep = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    assert!(is_json(&deep(128)) && !is_json(&deep(129)) && !is_json(&deep(1_000_000)[..1_000_000]));
}

/// A bound on `text_len` and a sign: an independent way to write a decimal.
fn decimal_text(value: i128, scale: usize) -> String {
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    if scale == 0 {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn integers_survive(value: i64, other: u64) {
        prop_assert_eq!(said(&format("int64", ""), &value.to_string()), Some(Value::Int(value)));
        prop_assert_eq!(said(&format("uint64", ""), &other.to_string()), Some(Value::UInt(other)));
        let hex = format!("{other:#x}");
        prop_assert_eq!(said(&format("uint64", "hex"), &hex), Some(Value::UInt(other)));
        let narrow = said(&format("int16", ""), &value.to_string());
        prop_assert_eq!(narrow.is_some(), i16::try_from(value).is_ok());
    }

    #[test]
    fn decimals_survive(value in -(10_i128.pow(38) - 1)..10_i128.pow(38), scale in 0_usize..=38) {
        let text = decimal_text(value, scale);
        let read = said(&format(&format!("decimal128(38, {scale})"), ""), &text);
        prop_assert_eq!(read, Some(Value::Decimal(value)));
    }

    #[test]
    fn floats_survive(bits: u64, single: u32) {
        let (double, single) = (f64::from_bits(bits), f32::from_bits(single));
        prop_assume!(double.is_finite() && single.is_finite());
        for text in [format!("{double}"), format!("{double:e}")] {
            if text.len() <= 400 {
                prop_assert_eq!(said(&format("float64", ""), &text), Some(Value::Float(double)), "{}", text);
            }
        }
        let text = format!("{single:e}");
        prop_assert_eq!(said(&format("float32", ""), &text), Some(Value::Float(single.into())), "{}", text);
    }

    #[test]
    fn floats_are_never_another_number(text in "-?[1-9][0-9]{0,24}(\\.[0-9]{1,24})?(e-?[0-9]{1,3})?") {
        if let Some(Value::Float(number)) = said(&format("float64", ""), &text) {
            prop_assert_eq!(Ok(number), text.parse::<f64>());
        }
    }

    #[test]
    fn timestamps_survive(count: i64) {
                let moment = jiff::Timestamp::from_nanosecond(count.into()).unwrap().to_zoned_datetime(jiff::tz::TimeZone::UTC).datetime();
        let text = format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
            moment.year(), moment.month(), moment.day(), moment.hour(), moment.minute(), moment.second(), moment.subsec_nanosecond()
        );
        prop_assert_eq!(said(&format("timestamp[ns, UTC]", ""), &text), Some(Value::Timestamp(count)));
        prop_assert_eq!(said(&format("timestamp[ns, UTC]", "%Y-%m-%dT%H:%M:%S.%f%z"), &text), Some(Value::Timestamp(count)));
        prop_assert_eq!(said(&format("timestamp[ns, UTC]", "epoch_ns"), &count.to_string()), Some(Value::Timestamp(count)));
    }

    #[test]
    fn nothing_panics(text: Vec<u8>, pattern in "[ -~]{0,12}") {
        for (type_name, words) in [("int64", "decimal zeros plus"), ("float64", "comma"), ("decimal128(38, 38)", "point"), ("timestamp[ns, UTC]", "iso8601"), ("timestamp[ns, UTC]", "rfc2822"), ("timestamp[ns, UTC]", "epoch_s"), ("timestamp[ns, UTC]", "filetime"), ("date32", "%e%B%Y")] {
            format(type_name, words).read(&text);
        }
        for name in ["ip", "cidr", "uuid", "mac", "sid", "hex", "time", "json"] {
            meaning(name).read(&text);
        }
        for type_name in ["date32", "timestamp[s]", "int8", "bool"] {
            let _ = Format::new(&Spec { type_name, format: Some(&pattern), ..Spec::default() });
        }
    }

    #[test]
    fn our_json_is_serdes(text in "[\\[\\]{},:\"0-9a\\\\u .eE+-]{0,20}") {
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        // Serde refuses numbers that a double cannot hold; JSON itself does not.
        let out_of_range = theirs.as_ref().is_err_and(|error| error.to_string().contains("out of range"));
        prop_assert!(out_of_range || theirs.is_ok() == is_json(text.as_bytes()), "{}", text);
    }
}
