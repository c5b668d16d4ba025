//! Escapes in the strings of JSON.

use std::borrow::Cow;

/// The text of a string or key that stands between these quotes.
///
/// `raw` is a string that was checked; escapes are resolved.
#[must_use]
pub fn unescaped(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', raw) else {
        return Cow::Borrowed(raw);
    };
    let mut text = raw[..first].to_vec();
    let mut rest = &raw[first..];
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'\\' {
            text.push(*byte);
            continue;
        }
        let [sign, tail @ ..] = rest else { break };
        rest = tail;
        match sign {
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'u' => {
                let mut code = hex4(rest).unwrap_or(0);
                rest = rest.get(4..).unwrap_or_default();
                if (0xD800..0xDC00).contains(&code) {
                    let low = hex4(rest.get(2..).unwrap_or_default()).unwrap_or(0xDC00);
                    rest = rest.get(6..).unwrap_or_default();
                    code = 0x1_0000 + ((code - 0xD800) << 10) + (low.wrapping_sub(0xDC00) & 0x3FF);
                }
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => text.push(*other),
        }
    }
    Cow::Owned(text)
}

/// The number that four hexadecimal digits say, with which the text begins.
pub(super) fn hex4(text: &[u8]) -> Option<u32> {
    text.get(..4)?.iter().try_fold(0, |sum, byte| {
        Some(sum * 16 + char::from(*byte).to_digit(16)?)
    })
}
