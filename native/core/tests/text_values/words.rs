//! Texts that are one of a few words, or that mean something: booleans, nulls, addresses, hashes, JSON.

use casparian_core::text::{Format, JsonKind, Nulls, Spec, Value, is_json};
use proptest::prelude::*;

use super::{fits, format, meaning};

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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn our_json_is_serdes(text in "[\\[\\]{},:\"0-9a\\\\u .eE+-]{0,20}") {
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        // Serde refuses numbers that a double cannot hold; JSON itself does not.
        let out_of_range = theirs.as_ref().is_err_and(|error| error.to_string().contains("out of range"));
        prop_assert!(out_of_range || theirs.is_ok() == is_json(text.as_bytes()), "{}", text);
    }
}
