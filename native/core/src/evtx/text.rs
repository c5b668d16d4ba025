//! Turning stored text and bytes into UTF-8.

/// What replaces a code unit that is no character.
const REPLACEMENT: &str = "\u{fffd}";
const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";
const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// UTF-16 units that are converted at a time while they are ASCII.
const LANES: usize = 16;

/// Append UTF-16 text, little-endian. Returns whether something was replaced: an unpaired surrogate
/// or half a unit at the end.
pub(super) fn push_utf16(out: &mut Vec<u8>, text: &[u8]) -> bool {
    let rest = push_ascii(out, text);
    let (units, half) = rest.as_chunks::<2>();
    let mut lossy = false;
    let ascii = units
        .iter()
        .take(4)
        .take_while(|unit| unit[1] == 0 && unit[0] < 0x80);
    let mut skipped = 0;
    for unit in ascii {
        out.push(unit[0]);
        skipped += 1;
    }
    let units = units.get(skipped..).unwrap_or_default();
    if !units.is_empty() {
        let units = units.iter().map(|unit| u16::from_le_bytes(*unit));
        for character in char::decode_utf16(units) {
            let character = character.unwrap_or_else(|_| {
                lossy = true;
                char::REPLACEMENT_CHARACTER
            });
            let mut buffer = [0; 4];
            out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
        }
    }
    if !half.is_empty() {
        out.extend_from_slice(REPLACEMENT.as_bytes());
        lossy = true;
    }
    lossy
}

/// Convert text as long as it is ASCII (the compiler makes vector code of this); returns what is left.
#[inline]
fn push_ascii<'t>(out: &mut Vec<u8>, text: &'t [u8]) -> &'t [u8] {
    let (blocks, rest) = text.as_chunks::<{ LANES * 2 }>();
    for (number, block) in blocks.iter().enumerate() {
        match pack(block) {
            Some::<[u8; LANES]>(packed) => out.extend_from_slice(&packed),
            None => return text.get(number * LANES * 2..).unwrap_or_default(),
        }
    }
    if rest.is_empty() || !rest.len().is_multiple_of(2) {
        return rest;
    }
    if !blocks.is_empty()
        && let Some(last) = text.last_chunk::<{ LANES * 2 }>()
    {
        let Some::<[u8; LANES]>(packed) = pack(last) else {
            return rest;
        };
        // What is left is the end of the last sixteen units: write them over those that are there.
        out.truncate(out.len() + rest.len() / 2 - LANES);
        out.extend_from_slice(&packed);
        return &[];
    }
    let (blocks, last) = rest.as_chunks::<8>();
    for (number, block) in blocks.iter().enumerate() {
        match pack(block) {
            Some::<[u8; 4]>(packed) => out.extend_from_slice(&packed),
            None => return rest.get(number * 8..).unwrap_or_default(),
        }
    }
    last
}

/// `UNITS` UTF-16 units as bytes, when all are ASCII. `BYTES` is twice as many.
#[inline]
fn pack<const BYTES: usize, const UNITS: usize>(block: &[u8; BYTES]) -> Option<[u8; UNITS]> {
    const { assert!(BYTES == 2 * UNITS) };
    let mut packed = [0; UNITS];
    let mut seen = 0_u16;
    for lane in 0..UNITS {
        let unit = u16::from_le_bytes([block[lane * 2], block[lane * 2 + 1]]);
        seen |= unit;
        packed[lane] = unit as u8;
    }
    (seen < 0x80).then_some(packed)
}

/// UTF-16 text without the NULs at its end.
pub(super) fn strip_utf16_nuls(mut text: &[u8]) -> &[u8] {
    while text.len().is_multiple_of(2) {
        match text.strip_suffix(&[0, 0]) {
            Some(shorter) => text = shorter,
            None => break,
        }
    }
    text
}

/// Windows-1252 above ASCII up to 0x9f; zero where it has no character.
const CP1252_HIGH: [char; 32] = [
    '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', '\0', '‘',
    '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
];

/// Append text in code page 1252. Returns whether a byte without a character was replaced.
pub(super) fn push_cp1252(out: &mut Vec<u8>, text: &[u8]) -> bool {
    if text.is_ascii() {
        out.extend_from_slice(text);
        return false;
    }
    let mut lossy = false;
    for &byte in text {
        let character = match byte {
            0x80..=0x9f => match CP1252_HIGH[usize::from(byte - 0x80)] {
                '\0' => {
                    lossy = true;
                    char::REPLACEMENT_CHARACTER
                }
                character => character,
            },
            _ => char::from(byte),
        };
        let mut buffer = [0; 4];
        out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
    }
    lossy
}

/// Code page 1252 text without the NULs at its end.
pub(super) fn strip_nuls(text: &[u8]) -> &[u8] {
    let used = text.iter().rposition(|byte| *byte != 0);
    text.get(..used.map_or(0, |last| last + 1))
        .unwrap_or_default()
}

/// Append an unsigned integer in decimal.
pub(super) fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// Append a signed integer in decimal.
pub(super) fn push_signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    push_decimal(out, value.unsigned_abs());
}

/// Append `0x` and lower-case hexadecimal digits, without leading zeros.
pub(super) fn push_hexadecimal(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0_u8; 18];
    let mut rest = value;
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = HEX_LOWER[(rest & 15) as usize];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    digits[first - 2] = b'0';
    digits[first - 1] = b'x';
    out.extend_from_slice(&digits[first - 2..]);
}

/// Append bytes as upper-case hexadecimal digits.
pub(super) fn push_hex_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes.iter().flat_map(|byte| hex_pair(*byte)));
}

fn hex_pair(byte: u8) -> [u8; 2] {
    [
        HEX_UPPER[usize::from(byte >> 4)],
        HEX_UPPER[usize::from(byte & 15)],
    ]
}

/// A GUID as upper-case text without braces. Its first three fields are stored little-endian.
pub(super) fn guid_text(guid: &[u8; 16]) -> [u8; 36] {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = [b'-'; 36];
    let mut place = 0;
    for (position, &source) in ORDER.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            place += 1;
        }
        let pair = hex_pair(guid[source]);
        text[place] = pair[0];
        text[place + 1] = pair[1];
        place += 2;
    }
    text
}

/// The form of [`guid_text`] of a GUID written as text, in braces or not, in any case.
pub(super) fn normalise_guid(text: &str) -> Option<[u8; 36]> {
    let text = text.trim_ascii();
    let bare = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or(text);
    let mut guid: [u8; 36] = bare.as_bytes().try_into().ok()?;
    for (position, character) in guid.iter_mut().enumerate() {
        let well_formed = match position {
            8 | 13 | 18 | 23 => *character == b'-',
            _ => character.is_ascii_hexdigit(),
        };
        if !well_formed {
            return None;
        }
        character.make_ascii_uppercase();
    }
    Some(guid)
}

/// Append UTF-8 text as a JSON string. The bytes are UTF-8 and stay it: only ASCII is escaped.
pub(super) fn push_json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut rest = text;
    while !rest.is_empty() {
        let is_special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
        let plain = rest.iter().position(is_special).unwrap_or(rest.len());
        let (copied, special) = rest.split_at(plain);
        out.extend_from_slice(copied);
        let Some((&byte, behind)) = special.split_first() else {
            break;
        };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX_LOWER[usize::from(byte >> 4)]);
                out.push(HEX_LOWER[usize::from(byte & 15)]);
            }
        }
        rest = behind;
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn text_of_any_length_and_script_survives() {
        let long = "abcdefghijklmnopqrstuvwxyz 0123456789".repeat(3);
        for text in ["", "a", "ä€😀", &long, &format!("{long}ß{long}")] {
            let mut out = Vec::new();
            assert!(!push_utf16(&mut out, &utf16(text)));
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn an_unpaired_surrogate_and_half_a_unit_are_replaced_and_told() {
        let mut out = Vec::new();
        assert!(push_utf16(&mut out, &[0x3d, 0xd8, b'a', 0]));
        assert_eq!(out, "\u{fffd}a".as_bytes());
        out.clear();
        assert!(push_utf16(&mut out, &[b'a', 0, 0]));
        assert_eq!(out, "a\u{fffd}".as_bytes());
    }

    #[test]
    fn only_nuls_at_the_end_are_stripped() {
        assert_eq!(strip_utf16_nuls(&utf16("a \0b\0\0")), utf16("a \0b"));
        assert_eq!(strip_utf16_nuls(&[0, 0]), b"");
        assert_eq!(strip_nuls(b" a\0b \0\0"), b" a\0b ");
    }

    #[test]
    fn code_page_1252_has_five_bytes_without_a_character() {
        let mut out = Vec::new();
        assert!(!push_cp1252(&mut out, b"\x80a\xe4"));
        assert_eq!(out, "€aä".as_bytes());
        for byte in [0x81, 0x8d, 0x8f, 0x90, 0x9d] {
            assert!(push_cp1252(&mut Vec::new(), &[byte]));
        }
    }

    #[test]
    fn integers_are_written_in_full() {
        let mut out = Vec::new();
        push_decimal(&mut out, u64::MAX);
        out.push(b' ');
        push_signed(&mut out, i64::MIN);
        out.push(b' ');
        push_hexadecimal(&mut out, u64::MAX);
        out.push(b' ');
        push_hexadecimal(&mut out, 0);
        let expected = "18446744073709551615 -9223372036854775808 0xffffffffffffffff 0x0";
        assert_eq!(out, expected.as_bytes());
    }

    #[test]
    fn a_guid_has_one_form_however_it_was_written() {
        let guid = [
            0x25, 0x96, 0x84, 0x54, 0x78, 0x54, 0x94, 0x49, 0xa5, 0xba, 0x3e, 0x3b, 0x03, 0x28,
            0xc3, 0x0d,
        ];
        let expected = *b"54849625-5478-4994-A5BA-3E3B0328C30D";
        assert_eq!(guid_text(&guid), expected);
        for text in [
            "{54849625-5478-4994-a5ba-3e3b0328c30d}",
            "54849625-5478-4994-A5BA-3E3B0328C30D",
        ] {
            assert_eq!(normalise_guid(text), Some(expected));
        }
        assert_eq!(normalise_guid("54849625-5478-4994-A5BA-3E3B0328C30"), None);
        assert_eq!(normalise_guid("5484962545478-4994-A5BA-3E3B0328C30D"), None);
    }
}
