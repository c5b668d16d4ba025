//! Typed values as text.
//!
//! Types: [MS-EVEN6] 2.2.12 and libyal, "Windows XML Event Log (EVTX) format", section 5.3. The text keeps
//! what the bytes say: all seven digits of a time, a boolean that is neither 0 nor 1 as its number.

use super::damage::Reason;
use super::text::{
    guid_text, push_cp1252, push_decimal, push_hex_bytes, push_hexadecimal, push_json_string,
    push_signed, push_utf16, strip_nuls, strip_utf16_nuls,
};
use super::time::{filetime_text, systemtime_text};
use crate::bytes::{array_at, u32_at};
use crate::flags::{self, Flags};

pub(super) const NULL: u8 = 0x00;
pub(super) const STRING: u8 = 0x01;
pub(super) const ANSI_STRING: u8 = 0x02;
pub(super) const INT8: u8 = 0x03;
pub(super) const UINT8: u8 = 0x04;
pub(super) const INT16: u8 = 0x05;
pub(super) const UINT16: u8 = 0x06;
pub(super) const INT32: u8 = 0x07;
pub(super) const UINT32: u8 = 0x08;
pub(super) const INT64: u8 = 0x09;
pub(super) const UINT64: u8 = 0x0a;
pub(super) const REAL32: u8 = 0x0b;
pub(super) const REAL64: u8 = 0x0c;
pub(super) const BOOL: u8 = 0x0d;
pub(super) const BINARY: u8 = 0x0e;
pub(super) const GUID: u8 = 0x0f;
pub(super) const SIZE: u8 = 0x10;
pub(super) const FILETIME: u8 = 0x11;
pub(super) const SYSTEMTIME: u8 = 0x12;
pub(super) const SID: u8 = 0x13;
pub(super) const HEX32: u8 = 0x14;
pub(super) const HEX64: u8 = 0x15;
pub(super) const EVT_HANDLE: u8 = 0x20;
pub(super) const BINXML: u8 = 0x21;
pub(super) const EVT_XML: u8 = 0x23;
/// Set on the type of an array.
const ARRAY: u8 = 0x80;

/// What rendering a value led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rendered {
    /// There is no value; nothing was written.
    pub(super) is_null: bool,
    /// [`flags::LOSSY_TEXT`] when something was replaced, [`flags::STRANGE_SYSTEM`] when a time is no
    /// time and its bytes were written instead.
    pub(super) flags: Flags,
}

pub(super) const NOTHING: Rendered = Rendered {
    is_null: true,
    flags: flags::NONE,
};
const EXACT: Rendered = Rendered {
    is_null: false,
    flags: flags::NONE,
};

fn text(lossy: bool) -> Rendered {
    Rendered {
        is_null: false,
        flags: if lossy {
            flags::LOSSY_TEXT
        } else {
            flags::NONE
        },
    }
}

fn strange() -> Rendered {
    Rendered {
        is_null: false,
        flags: flags::STRANGE_SYSTEM,
    }
}

/// Whether a type is an array's.
pub(super) fn is_array(type_code: u8) -> bool {
    type_code & ARRAY != 0
}

/// The first item of what is left of an array, and what is behind it and its terminator. `whole_bytes` is the
/// length of the whole array, which tells how wide pointers are in it.
///
/// # Errors
/// [`Reason::ValueType`] or [`Reason::ValueSize`].
pub(super) fn split_item(
    type_code: u8,
    whole_bytes: usize,
    rest: &[u8],
) -> Result<(&[u8], &[u8]), Reason> {
    let (size, skip) = item_size(type_code & !ARRAY, whole_bytes, rest)?;
    let (item, behind) = rest.split_at_checked(size).ok_or(Reason::ValueSize)?;
    Ok((item, behind.get(skip..).unwrap_or_default()))
}

/// Append the text of one item of an array.
///
/// # Errors
/// As [`render`].
pub(super) fn render_item(
    type_code: u8,
    item: &[u8],
    out: &mut Vec<u8>,
) -> Result<Rendered, Reason> {
    render_scalar(type_code & !ARRAY, item, out)
}

/// Whether a value says nothing at all: of no type, or without the bytes that its type needs.
pub(super) fn is_absent(type_code: u8, bytes: &[u8]) -> bool {
    type_code == NULL
        || (bytes.is_empty()
            && type_code & ARRAY == 0
            && !matches!(type_code, STRING | ANSI_STRING | BINARY | EVT_XML))
}

/// Append the text of a value.
///
/// # Errors
/// [`Reason::ValueType`] or [`Reason::ValueSize`]; `out` may then hold a part.
#[inline]
pub(super) fn render(type_code: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<Rendered, Reason> {
    if type_code == STRING {
        return Ok(text(push_utf16(out, strip_utf16_nuls(bytes))));
    }
    if is_absent(type_code, bytes) {
        return Ok(NOTHING);
    }
    if type_code & ARRAY != 0 {
        return render_array(type_code & !ARRAY, bytes, out);
    }
    render_scalar(type_code, bytes, out)
}

/// Cut the NULs at the end of UTF-8 text.
pub(super) fn strip_trailing_nuls(text: &mut Vec<u8>) {
    let used = strip_nuls(text).len();
    text.truncate(used);
}

/// Exactly `N` bytes.
fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Reason> {
    bytes.try_into().map_err(|_| Reason::ValueSize)
}

/// Four or eight bytes, as pointers and sizes have.
fn pointer(bytes: &[u8]) -> Result<u64, Reason> {
    match bytes.len() {
        4 => Ok(u64::from(u32::from_le_bytes(exact(bytes)?))),
        8 => Ok(u64::from_le_bytes(exact(bytes)?)),
        _ => Err(Reason::ValueSize),
    }
}

fn render_scalar(type_code: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<Rendered, Reason> {
    match type_code {
        STRING | EVT_XML => return Ok(text(push_utf16(out, strip_utf16_nuls(bytes)))),
        ANSI_STRING => return Ok(text(push_cp1252(out, strip_nuls(bytes)))),
        INT8 => push_signed(out, i64::from(i8::from_le_bytes(exact(bytes)?))),
        UINT8 => push_decimal(out, u64::from(u8::from_le_bytes(exact(bytes)?))),
        INT16 => push_signed(out, i64::from(i16::from_le_bytes(exact(bytes)?))),
        UINT16 => push_decimal(out, u64::from(u16::from_le_bytes(exact(bytes)?))),
        INT32 => push_signed(out, i64::from(i32::from_le_bytes(exact(bytes)?))),
        UINT32 => push_decimal(out, u64::from(u32::from_le_bytes(exact(bytes)?))),
        INT64 => push_signed(out, i64::from_le_bytes(exact(bytes)?)),
        UINT64 => push_decimal(out, u64::from_le_bytes(exact(bytes)?)),
        REAL32 => push_real32(out, f32::from_le_bytes(exact(bytes)?)),
        REAL64 => push_real64(out, f64::from_le_bytes(exact(bytes)?)),
        BOOL => push_bool(out, u32::from_le_bytes(exact(bytes)?)),
        BINARY => push_hex_bytes(out, bytes),
        GUID => out.extend_from_slice(&guid_text(&exact(bytes)?)),
        SIZE | EVT_HANDLE => push_hexadecimal(out, pointer(bytes)?),
        FILETIME => {
            let ticks = u64::from_le_bytes(exact(bytes)?);
            match filetime_text(ticks) {
                Some(time) => out.extend_from_slice(&time),
                None => {
                    push_hexadecimal(out, ticks);
                    return Ok(strange());
                }
            }
        }
        SYSTEMTIME => match systemtime_text(&exact(bytes)?) {
            Some(time) => out.extend_from_slice(&time),
            None => {
                push_hex_bytes(out, bytes);
                return Ok(strange());
            }
        },
        SID => {
            if sid_size(bytes) != Some(bytes.len()) {
                return Err(Reason::ValueSize);
            }
            push_sid(out, bytes);
        }
        HEX32 => push_hexadecimal(out, u64::from(u32::from_le_bytes(exact(bytes)?))),
        HEX64 => push_hexadecimal(out, u64::from_le_bytes(exact(bytes)?)),
        _ => return Err(Reason::ValueType),
    }
    Ok(EXACT)
}

fn push_bool(out: &mut Vec<u8>, value: u32) {
    match value {
        0 => out.extend_from_slice(b"false"),
        1 => out.extend_from_slice(b"true"),
        _ => push_decimal(out, u64::from(value)),
    }
}

/// The shortest text that reads back as the same number, with an exponent when it would be long.
fn push_real64(out: &mut Vec<u8>, value: f64) {
    let plain = value == 0.0 || !value.is_finite() || (1e-5..1e17).contains(&value.abs());
    let text = if plain {
        format!("{value}")
    } else {
        format!("{value:e}")
    };
    out.extend_from_slice(text.as_bytes());
}

fn push_real32(out: &mut Vec<u8>, value: f32) {
    let plain = value == 0.0 || !value.is_finite() || (1e-5..1e17).contains(&value.abs());
    let text = if plain {
        format!("{value}")
    } else {
        format!("{value:e}")
    };
    out.extend_from_slice(text.as_bytes());
}

/// The size of the SID at the start of `bytes`: revision, count, authority, then `count` numbers.
fn sid_size(bytes: &[u8]) -> Option<usize> {
    let count = usize::from(*bytes.get(1)?);
    let size = 8 + 4 * count;
    (size <= bytes.len()).then_some(size)
}

/// Append `S-R-A-S-S...` of a SID whose size was checked. [MS-DTYP] 2.4.2.1: an authority that needs more
/// than 32 bits is written as twelve hexadecimal digits.
fn push_sid(out: &mut Vec<u8>, bytes: &[u8]) {
    let Some([revision, count, authority @ ..]) = array_at::<8>(bytes, 0) else {
        return;
    };
    out.extend_from_slice(b"S-");
    push_decimal(out, u64::from(revision));
    out.push(b'-');
    let authority = authority
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    if authority > u64::from(u32::MAX) {
        out.extend_from_slice(format!("0x{authority:012x}").as_bytes());
    } else {
        push_decimal(out, authority);
    }
    for place in 0..usize::from(count) {
        out.push(b'-');
        push_decimal(
            out,
            u64::from(u32_at(bytes, 8 + 4 * place).unwrap_or_default()),
        );
    }
}

/// Append an array that stands in the middle of text, as JSON: numbers and booleans bare, the rest as strings.
fn render_array(item_type: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<Rendered, Reason> {
    let mut flags = flags::NONE;
    let mut item = Vec::new();
    out.push(b'[');
    let mut rest = bytes;
    let mut first = true;
    while !rest.is_empty() {
        let (one, behind) = split_item(item_type, bytes.len(), rest)?;
        rest = behind;
        if !first {
            out.push(b',');
        }
        first = false;
        item.clear();
        let rendered = render_scalar(item_type, one, &mut item)?;
        flags |= rendered.flags;
        if is_bare_in_json(item_type, one) {
            out.extend_from_slice(&item);
        } else {
            push_json_string(out, &item);
        }
    }
    out.push(b']');
    Ok(Rendered {
        is_null: false,
        flags,
    })
}

/// How long the first item of an array is, and how many bytes separate it from the next.
fn item_size(item_type: u8, whole_bytes: usize, rest: &[u8]) -> Result<(usize, usize), Reason> {
    let fixed = match item_type {
        INT8 | UINT8 => 1,
        INT16 | UINT16 => 2,
        INT32 | UINT32 | REAL32 | BOOL | HEX32 => 4,
        INT64 | UINT64 | REAL64 | FILETIME | HEX64 => 8,
        GUID | SYSTEMTIME => 16,
        // The width is not stored: eight bytes unless the array cannot be made of them.
        SIZE | EVT_HANDLE if whole_bytes.is_multiple_of(8) => 8,
        SIZE | EVT_HANDLE => 4,
        BINARY => rest.len(),
        SID => sid_size(rest).ok_or(Reason::ValueSize)?,
        STRING | EVT_XML => {
            let (units, _) = rest.as_chunks::<2>();
            return Ok(match units.iter().position(|unit| *unit == [0, 0]) {
                Some(place) => (place * 2, 2),
                None => (rest.len(), 0),
            });
        }
        ANSI_STRING => {
            return Ok(match memchr::memchr(0, rest) {
                Some(place) => (place, 1),
                None => (rest.len(), 0),
            });
        }
        _ => return Err(Reason::ValueType),
    };
    Ok((fixed, 0))
}

fn is_bare_in_json(item_type: u8, item: &[u8]) -> bool {
    match item_type {
        INT8..=UINT64 | BOOL => true,
        REAL32 => array_at(item, 0).is_some_and(|bytes| f32::from_le_bytes(bytes).is_finite()),
        REAL64 => array_at(item, 0).is_some_and(|bytes| f64::from_le_bytes(bytes).is_finite()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn shown(type_code: u8, bytes: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        let rendered = render(type_code, bytes, &mut out).unwrap();
        assert!(!rendered.is_null || out.is_empty());
        (!rendered.is_null).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_type_has_its_text() {
        let sid = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0];
        let guid = *b"\x25\x96\x84\x54\x78\x54\x94\x49\xa5\xba\x3e\x3b\x03\x28\xc3\x0d";
        let table: &[(u8, &[u8], &str)] = &[
            (STRING, &utf16("a b \0"), "a b "),
            (STRING, b"", ""),
            (ANSI_STRING, b"a\x80\0", "a€"),
            (INT8, b"\xff", "-1"),
            (UINT8, b"\xff", "255"),
            (INT16, b"\0\x80", "-32768"),
            (UINT16, b"\0\x80", "32768"),
            (INT32, b"\xfe\xff\xff\xff", "-2"),
            (UINT32, b"\xfe\xff\xff\xff", "4294967294"),
            (INT64, &i64::MIN.to_le_bytes(), "-9223372036854775808"),
            (UINT64, &u64::MAX.to_le_bytes(), "18446744073709551615"),
            (REAL32, &0.1_f32.to_le_bytes(), "0.1"),
            (REAL64, &1e300_f64.to_le_bytes(), "1e300"),
            (REAL64, &(-2.5_f64).to_le_bytes(), "-2.5"),
            (BOOL, &0_u32.to_le_bytes(), "false"),
            (BOOL, &1_u32.to_le_bytes(), "true"),
            (BOOL, &16_u32.to_le_bytes(), "16"),
            (BINARY, b"\x00\xab", "00AB"),
            (BINARY, b"", ""),
            (GUID, &guid, "54849625-5478-4994-A5BA-3E3B0328C30D"),
            (SIZE, &255_u32.to_le_bytes(), "0xff"),
            (SIZE, &255_u64.to_le_bytes(), "0xff"),
            (FILETIME, &[0; 8], "1601-01-01T00:00:00.0000000Z"),
            (FILETIME, &[255; 8], "0xffffffffffffffff"),
            (SYSTEMTIME, &[0; 16], "00000000000000000000000000000000"),
            (SID, &sid, "S-1-5-32-544"),
            (HEX32, &0x80070005_u32.to_le_bytes(), "0x80070005"),
            (HEX64, &(1_u64 << 63).to_le_bytes(), "0x8000000000000000"),
            (EVT_HANDLE, &7_u32.to_le_bytes(), "0x7"),
            (EVT_XML, &utf16("<a/>"), "<a/>"),
        ];
        for (type_code, bytes, expected) in table {
            let text = shown(*type_code, bytes);
            assert_eq!(text.as_deref(), Some(*expected), "{type_code:#04x}");
        }
    }

    #[test]
    fn arrays_are_json() {
        let sid = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0].repeat(2);
        let table: &[(u8, &[u8], &str)] = &[
            (STRING, &utf16("a\"\0\0b\0"), r#"["a\"","","b"]"#),
            (STRING, &utf16("a\0b"), r#"["a","b"]"#),
            (STRING, b"", "[]"),
            (ANSI_STRING, b"a\0b\x01\0", r#"["a","b\u0001"]"#),
            (UINT16, &[1, 0, 2, 0], "[1,2]"),
            (BOOL, &[1, 0, 0, 0, 0, 0, 0, 0], "[true,false]"),
            (REAL64, &f64::NAN.to_le_bytes(), r#"["NaN"]"#),
            (HEX32, &[1, 0, 0, 0, 2, 0, 0, 0], r#"["0x1","0x2"]"#),
            (SID, &sid, r#"["S-1-5-18","S-1-5-18"]"#),
            (BINARY, &[1, 2], r#"["0102"]"#),
        ];
        for (type_code, bytes, expected) in table {
            let text = shown(*type_code | ARRAY, bytes);
            assert_eq!(text.as_deref(), Some(*expected), "{type_code:#04x}");
        }
    }

    #[test]
    fn nothing_is_null_and_not_an_empty_text() {
        assert_eq!(shown(NULL, b""), None);
        assert_eq!(shown(NULL, b"\0\0"), None);
        assert_eq!(shown(UINT32, b""), None);
    }

    #[test]
    fn a_size_or_type_that_cannot_be_is_refused() {
        let mut out = Vec::new();
        assert_eq!(render(UINT32, b"ab", &mut out), Err(Reason::ValueSize));
        assert_eq!(render(SID, b"abc", &mut out), Err(Reason::ValueSize));
        assert_eq!(render(0x16, b"abc", &mut out), Err(Reason::ValueType));
        assert_eq!(
            render(UINT32 | ARRAY, b"abc", &mut out),
            Err(Reason::ValueSize)
        );
        assert_eq!(
            render(BINXML | ARRAY, b"abc", &mut out),
            Err(Reason::ValueType)
        );
    }
}
