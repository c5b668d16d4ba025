//! Values of an event as they stand in the lists, read back as what they are.
//!
//! `evtx_events` writes each value so that nothing of it is lost (`super::super::value`), so that reading it back gives the
//! same value. Text of a record without a template is read in the same way: `0x3e7` and `999` are the same number.

use super::super::time::text_nanoseconds;

/// Decimal digits, or hexadecimal ones behind `0x`, up to `max`.
#[inline]
pub(super) fn unsigned(text: &str, max: u64) -> Option<u64> {
    let value = match text.as_bytes() {
        [b'0', b'x' | b'X', digits @ ..] => hexadecimal(digits)?,
        digits => decimal(digits)?,
    };
    (value <= max).then_some(value)
}

/// As [`unsigned`], with a sign in front of decimal digits, within so many bits.
pub(super) fn signed(text: &str, bits: u8) -> Option<i64> {
    let max = (1_u64 << (bits - 1)) - 1;
    match text.as_bytes() {
        [b'-', digits @ ..] => {
            let value = decimal(digits)?;
            (1..=max + 1)
                .contains(&value)
                .then(|| 0_i64.wrapping_sub_unsigned(value))
        }
        _ => unsigned(text, max).map(u64::cast_signed),
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    match digits {
        [] => return None,
        [b'0', _, ..] => return None, // a number is not written so: it is text
        _ => {}
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}

/// A number as it is written with a point or an exponent.
pub(super) fn real(text: &str) -> Option<f64> {
    let first = text.bytes().find(|byte| *byte != b'-')?;
    let is_number = first.is_ascii_digit() || matches!(text, "NaN" | "inf" | "-inf");
    if is_number { text.parse().ok() } else { None }
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Nanoseconds since 1970 of a time as events write it, when 64 bits hold it.
pub(super) fn time(text: &str) -> Option<i64> {
    text_nanoseconds(text)
}

/// Append the bytes that upper-case hexadecimal text stands for; nothing is appended when it is none.
pub(super) fn binary(text: &str, out: &mut Vec<u8>) -> bool {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let start = out.len();
    for pair in pairs {
        let [high, low] = pair.map(|byte| match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'F' => byte - b'A' + 10,
            _ => u8::MAX,
        });
        if high == u8::MAX || low == u8::MAX {
            out.truncate(start);
            return false;
        }
        out.push(high << 4 | low);
    }
    if !rest.is_empty() {
        out.truncate(start);
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly_or_not_at_all() {
        assert_eq!(unsigned("999", u64::MAX), Some(999));
        assert_eq!(unsigned("0x3E7", u64::MAX), Some(999));
        assert_eq!(unsigned("0xffffffffffffffff", u64::MAX), Some(u64::MAX));
        assert_eq!(unsigned("18446744073709551615", u64::MAX), Some(u64::MAX));
        assert_eq!(unsigned("256", 255), None);
        for text in [
            "",
            "-",
            "+1",
            " 1",
            "1 ",
            "01",
            "0x",
            "1e3",
            "18446744073709551616",
            "0x10000000000000000",
        ] {
            assert_eq!(unsigned(text, u64::MAX), None, "{text}");
        }
        assert_eq!(signed("-128", 8), Some(-128));
        assert_eq!(signed("-129", 8), None);
        assert_eq!(signed("128", 8), None);
        assert_eq!(signed("-0", 8), None);
        assert_eq!(signed("-9223372036854775808", 64), Some(i64::MIN));
        assert_eq!(signed("9223372036854775808", 64), None);
    }

    #[test]
    fn reals_booleans_times_and_bytes_are_read_back() {
        assert_eq!(real("-1.5"), Some(-1.5));
        assert_eq!(real("infinity"), None);
        assert_eq!(boolean("true"), Some(true));
        assert_eq!(boolean("2"), None);
        assert_eq!(time("1970-01-01T00:00:00.0000001Z"), Some(100));
        assert_eq!(time("1601-01-01T00:00:00.0000000Z"), None);
        let mut out = vec![7];
        assert!(binary("0AFF", &mut out));
        assert_eq!(out, [7, 10, 255]);
        for text in ["0", "0g", "ff", "0AF"] {
            assert!(!binary(text, &mut out), "{text}");
        }
        assert_eq!(out, [7, 10, 255]);
    }
}
