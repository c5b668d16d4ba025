//! How many digits a number is written with.

/// Digits in front of the point and behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) whole: u32,
    pub(super) scale: u32,
}

/// Digits that a decimal type can have.
const DIGITS_MAX: usize = 38;

/// Measure a number as the formats `point` and `comma` read it; none when it is none.
///
/// A writer who groups digits does so wherever there are more than three: with a group mark, four digits in a row are no such number.
#[inline]
pub(super) fn measure(value: &[u8], point: u8, group: Option<u8>) -> Option<Measure> {
    let (minus, text) = match value {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, value),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == point) {
        None => (text, &text[text.len()..]),
        Some(place) if place + 1 < text.len() => (&text[..place], &text[place + 1..]),
        Some(_) => return None,
    };
    if (whole.is_empty() && fraction.is_empty()) || (whole.len() > 1 && whole[0] == b'0') {
        return None;
    }
    let mut any = false; // a digit other than 0
    let mut count = 0;
    match group {
        None => {
            for byte in whole {
                if !byte.is_ascii_digit() {
                    return None;
                }
                any |= *byte != b'0';
            }
            count = whole.len();
        }
        Some(mark) if !whole.is_empty() => {
            for (place, part) in whole.split(|byte| *byte == mark).enumerate() {
                let length = part.len();
                let fits = if place == 0 {
                    (1..=3).contains(&length)
                } else {
                    length == 3
                };
                if !fits || !part.iter().all(u8::is_ascii_digit) {
                    return None;
                }
                any |= part.iter().any(|byte| *byte != b'0');
                count += length;
            }
        }
        Some(_) => {}
    }
    for byte in fraction {
        if !byte.is_ascii_digit() {
            return None;
        }
        any |= *byte != b'0';
    }
    // "-0" would lose its sign, and a lone 0 in front of the point is no digit of precision.
    let whole = if count == 1 && whole[0] == b'0' {
        0
    } else {
        count
    };
    ((any || !minus) && whole + fraction.len() <= DIGITS_MAX).then_some(Measure {
        whole: whole as u32,
        scale: fraction.len() as u32,
    })
}
