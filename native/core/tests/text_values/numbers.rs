//! Integers, decimals and floats: a number that would lose a digit does not fit.

use casparian_core::text::{Format, Spec, Value};
use proptest::prelude::*;

use super::{fits, format, grouped, said};

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
}
