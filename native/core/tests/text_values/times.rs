//! Dates, moments and times of day, read field by field.

use casparian_core::text::{JsonKind, Value};
use proptest::prelude::*;

use super::{fits, format, said, zoned};

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
fn times_of_day_are_read_to_the_microsecond() {
    let at = (14 * 3600 + 3 * 60 + 22) * 1_000_000;
    let cases: &[(&str, &str, i64)] = &[
        ("", "14:03:22", at),
        ("", "14:03", at - 22_000_000),
        ("iso8601", "14:03:22.5", at + 500_000),
        ("iso8601", "14:03:22,123456", at + 123_456),
        ("iso8601", "00:00", 0),
        ("iso8601", "23:59:59.999999", 86_399_999_999),
        ("%-H:%M", "9:05", 32_700_000_000),
        ("%-H:%M:%S", "14:03:22", at),
        ("%-I:%M:%S %p", "2:03:22 PM", at),
        ("%I:%M:%S%p", "02:03:22pm", at),
        ("%I:%M %p", "12:00 AM", 0),
        ("%I:%M %p", "12:00 PM", 43_200_000_000),
        ("%H%M%S", "140322", at),
        ("T%H:%M:%S.%f", "T14:03:22.000001", at + 1),
    ];
    for (pattern, text, expected) in cases {
        let format = format("time64[us]", pattern);
        assert_eq!(
            format.read(text.as_bytes()),
            Some(Value::Time(*expected)),
            "{pattern} {text}"
        );
    }
    fits(
        &format("time64[us]", ""),
        &["00:00:00", "23:59"],
        &[
            "24:00",
            "24:00:00",
            "7:65",
            "07:60",
            "23:59:60",
            "9:05",
            "14:03:22.1234567",
            "14:03:22.",
            "14:03:22Z",
            "14:03:22+02:00",
            "14:03:",
            "14",
            "1403",
            " 14:03",
            "14:03 ",
            "-1:00",
            "",
        ],
    );
    fits(
        &format("time64[us]", "%-I:%M %p"),
        &["1:00 AM", "01:00 am", "12:59 pM"],
        &[
            "0:30 AM", "13:00 PM", "1:60 AM", "1:00", "1:00AM", "1:00 XM",
        ],
    );
    assert!(!format("time64[us]", "").takes(JsonKind::Number));
    assert!(format("time64[us]", "").takes(JsonKind::Text));
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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

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
    fn times_of_day_survive(count in 0..86_400_000_000_i64) {
        let (seconds, fraction) = (count / 1_000_000, count % 1_000_000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let text = format!("{hour:02}:{minute:02}:{second:02}.{fraction:06}");
        let expected = Some(Value::Time(count));
        prop_assert_eq!(&said(&format("time64[us]", ""), &text), &expected);
        prop_assert_eq!(&said(&format("time64[us]", "%H:%M:%S.%f"), &text), &expected);
        let half = if hour < 12 { "AM" } else { "PM" };
        let text = format!("{}:{minute:02}:{second:02}.{fraction:06} {half}", (hour + 11) % 12 + 1);
        prop_assert_eq!(&said(&format("time64[us]", "%-I:%M:%S.%f %p"), &text), &expected);
    }

    #[test]
    fn times_of_day_are_those_of_another_library(text in "[0-2]?[0-9]:[0-6][0-9](:[0-6][0-9]([.,][0-9]{1,7})?)?") {
        let fine = text.split_once(['.', ',']).is_some_and(|(_, digits)| digits.len() > 6);
        let leap = text.get(6..8) == Some("60"); // theirs is 59 then
        let theirs = text.parse::<jiff::civil::Time>().ok().filter(|_| !fine && !leap).map(|time| {
            let seconds = i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second());
            Value::Time(seconds * 1_000_000 + i64::from(time.subsec_nanosecond()) / 1_000)
        });
        prop_assert_eq!(said(&format("time64[us]", ""), &text), theirs, "{}", text);
    }
}
