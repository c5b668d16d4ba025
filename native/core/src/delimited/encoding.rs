//! Text in other encodings, as UTF-8 from which each character's place in the file can be told.
//!
//! What cannot be decoded becomes bytes that are no UTF-8: a lone surrogate as three bytes in the manner of UTF-8, anything else as FF.
//! So a record that holds such a thing is known, and every character still stands for a fixed number of bytes of the file.

/// How characters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// UTF-8, of which ASCII is a part.
    Utf8,
    /// UTF-16, low byte first.
    Utf16Le,
    /// UTF-16, high byte first.
    Utf16Be,
    /// ISO 8859-1: every byte is a character.
    Latin1,
    /// Windows code page 1252.
    Cp1252,
}

/// Code page 1252 from 80 to 9F; 0 where there is no character.
/// Source: unicode.org, Public/MAPPINGS/VENDORS/MICSFT/WINDOWS/CP1252.TXT.
const CP1252: [u16; 32] = [
    0x20AC, 0, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039,
    0x0152, 0, 0x017D, 0, 0, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC,
    0x2122, 0x0161, 0x203A, 0x0153, 0, 0x017E, 0x0178,
];

const UNDECODABLE: u8 = 0xFF;

impl Encoding {
    /// Every encoding with the name that contracts use.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("utf-8", Self::Utf8),
        ("utf-16le", Self::Utf16Le),
        ("utf-16be", Self::Utf16Be),
        ("latin-1", Self::Latin1),
        ("cp1252", Self::Cp1252),
    ];

    /// The encoding of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, encoding)| *encoding)
    }

    /// Its name in contracts.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, known)| *known == self);
        found.map_or("", |(name, _)| name)
    }

    /// Bytes of one unit, which no cut may part.
    #[must_use]
    pub fn unit_bytes(self) -> u64 {
        match self {
            Self::Utf16Le | Self::Utf16Be => 2,
            Self::Utf8 | Self::Latin1 | Self::Cp1252 => 1,
        }
    }

    /// How many bytes of the file became this text.
    pub(super) fn raw_length(self, text: &[u8]) -> u64 {
        let is_first = |byte: &u8| (byte & 0xC0) != 0x80;
        match self {
            Self::Utf8 => text.len() as u64,
            Self::Latin1 | Self::Cp1252 => text.iter().filter(|byte| is_first(byte)).count() as u64,
            Self::Utf16Le | Self::Utf16Be => text
                .iter()
                .map(|byte| match byte {
                    0x80..=0xBF => 0,
                    0xF0..=0xF7 => 4,
                    &UNDECODABLE => 1,
                    _ => 2,
                })
                .sum(),
        }
    }

    /// Append `raw` as text; how many bytes were left because what they begin is not all there.
    ///
    /// With `last` nothing is left.
    pub(super) fn decode(self, raw: &[u8], last: bool, text: &mut Vec<u8>) -> usize {
        match self {
            Self::Utf8 => text.extend_from_slice(raw),
            Self::Latin1 => {
                for byte in raw {
                    push(text, u32::from(*byte));
                }
            }
            Self::Cp1252 => {
                for byte in raw {
                    match byte {
                        0x80..=0x9F => match CP1252[usize::from(byte - 0x80)] {
                            0 => text.push(UNDECODABLE),
                            unit => push(text, u32::from(unit)),
                        },
                        _ => push(text, u32::from(*byte)),
                    }
                }
            }
            Self::Utf16Le => return utf16(raw, u16::from_le_bytes, last, text),
            Self::Utf16Be => return utf16(raw, u16::from_be_bytes, last, text),
        }
        0
    }
}

fn utf16(raw: &[u8], value: fn([u8; 2]) -> u16, last: bool, text: &mut Vec<u8>) -> usize {
    let (units, odd) = raw.as_chunks::<2>();
    let mut at = 0;
    while at < units.len() {
        let unit = u32::from(value(units[at]));
        at += 1;
        match unit {
            0..=0x7F => text.push(unit as u8),
            0xD800..=0xDBFF => match units.get(at).map(|next| u32::from(value(*next))) {
                Some(low @ 0xDC00..=0xDFFF) => {
                    at += 1;
                    push(text, 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00));
                }
                None if !last => return 2 + odd.len(),
                _ => push(text, unit),
            },
            _ => push(text, unit),
        }
    }
    if last && !odd.is_empty() {
        text.push(UNDECODABLE);
        return 0;
    }
    odd.len()
}

/// Append a code point; a surrogate in the manner of UTF-8, which makes the text invalid.
fn push(text: &mut Vec<u8>, code: u32) {
    let tail = |shift: u32| 0x80 | (code >> shift & 0x3F) as u8;
    match code {
        0..=0x7F => text.push(code as u8),
        0x80..=0x7FF => text.extend_from_slice(&[0xC0 | (code >> 6) as u8, tail(0)]),
        0x800..=0xFFFF => text.extend_from_slice(&[0xE0 | (code >> 12) as u8, tail(6), tail(0)]),
        _ => text.extend_from_slice(&[0xF0 | (code >> 18) as u8, tail(12), tail(6), tail(0)]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(encoding: Encoding, raw: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        assert_eq!(encoding.decode(raw, true, &mut text), 0);
        text
    }

    #[test]
    fn code_page_1252_is_latin_1_but_for_its_punctuation() {
        assert_eq!(decoded(Encoding::Cp1252, b"\x80\xE4\x99"), "€ä™".as_bytes());
        assert_eq!(decoded(Encoding::Latin1, b"\xE4"), "ä".as_bytes());
        assert_eq!(decoded(Encoding::Cp1252, b"a\x81"), b"a\xFF");
    }

    #[test]
    fn what_is_no_utf_16_is_no_utf_8_either() {
        for raw in [&b"\x00\xD8a\x00"[..], b"\x00\xDC", b"a\x00b"] {
            let text = decoded(Encoding::Utf16Le, raw);
            assert!(std::str::from_utf8(&text).is_err());
        }
        let pair = decoded(Encoding::Utf16Le, b"\x3D\xD8\x00\xDE");
        assert_eq!(pair, "😀".as_bytes());
    }

    proptest! {
        #[test]
        fn every_byte_of_the_file_is_told_by_the_text(raw: Vec<u8>, cut in 0usize..64) {
            for (_, encoding) in Encoding::NAMES {
                let whole = decoded(encoding, &raw);
                prop_assert_eq!(encoding.raw_length(&whole), raw.len() as u64);
                let cut = cut.min(raw.len());
                let mut parts = Vec::new();
                let left = encoding.decode(&raw[..cut], false, &mut parts);
                encoding.decode(&raw[cut - left..], true, &mut parts);
                prop_assert_eq!(&parts, &whole);
            }
        }
    }
}
