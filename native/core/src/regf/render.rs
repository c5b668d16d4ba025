//! A value's data as text, number, list or bytes, by its type.
//!
//! The bytes are kept as well whenever the other columns do not give all of them back.

use super::columns::{TextColumn, push_short};
use super::problem::Problems;
use crate::bytes::{array_at, u32_at, u64_at};
use crate::evtx::{push_decimal, push_utf16};

/// Names of types by number (regf specification, "Data types").
const KINDS: [&str; 12] = [
    "REG_NONE",
    "REG_SZ",
    "REG_EXPAND_SZ",
    "REG_BINARY",
    "REG_DWORD",
    "REG_DWORD_BIG_ENDIAN",
    "REG_LINK",
    "REG_MULTI_SZ",
    "REG_RESOURCE_LIST",
    "REG_FULL_RESOURCE_DESCRIPTOR",
    "REG_RESOURCE_REQUIREMENTS_LIST",
    "REG_QWORD",
];

/// Bytes that a name has room for.
const KIND_BYTES: usize = 32;

/// Names with their lengths, of one size: a copy of that size needs no loop.
const PADDED_KINDS: [([u8; KIND_BYTES], usize); KINDS.len()] = {
    let mut padded = [([0; KIND_BYTES], 0); KINDS.len()];
    let mut kind = 0;
    while kind < KINDS.len() {
        let name = KINDS[kind].as_bytes();
        let mut place = 0;
        while place < name.len() {
            padded[kind].0[place] = name[place];
            place += 1;
        }
        padded[kind].1 = place;
        kind += 1;
    }
    padded
};

/// Append the name of a type; one without a name is its number, `0x0000001f`.
#[inline]
pub(super) fn push_kind(out: &mut Vec<u8>, kind: u32) {
    match PADDED_KINDS.get(kind as usize) {
        Some((name, length)) => {
            let end = out.len() + length;
            out.extend_from_slice(name);
            out.truncate(end);
        }
        None => out.extend_from_slice(format!("{kind:#010x}").as_bytes()),
    }
}

/// What a value's data may become a part of.
pub(super) struct Parts<'c> {
    pub(super) text: &'c mut Vec<u8>,
    /// Items of lists.
    pub(super) list: &'c mut TextColumn,
    pub(super) raw: &'c mut Vec<u8>,
}

/// What came of data, and what was found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rendered {
    pub(super) problems: Problems,
    pub(super) is_lossy: bool,
    /// Zero unless it is one.
    pub(super) number: u64,
    /// What the value has, in bits.
    pub(super) has: u8,
    /// Whether the bytes must be kept as well.
    needs_raw: bool,
}

impl Parts<'_> {
    pub(super) const TEXT: u8 = 1;
    pub(super) const NUMBER: u8 = 2;
    pub(super) const LIST: u8 = 4;
    pub(super) const RAW: u8 = 8;

    /// Append data of type `kind` to what it becomes a part of; `is_cut` when it is not all of the value's data.
    #[inline]
    pub(super) fn push(&mut self, kind: u32, data: Option<&[u8]>, is_cut: bool) -> Rendered {
        let mut rendered = Rendered::default();
        let Some(data) = data else {
            return rendered;
        };
        match kind {
            1 | 2 | 6 => {
                rendered = push_text(self.text, data);
                rendered.has = Self::TEXT;
            }
            7 => {
                rendered = push_texts(self.list, data);
                rendered.has = Self::LIST;
            }
            4 | 5 | 11 => {
                let size = if kind == 11 { 8 } else { 4 };
                if data.len() != size {
                    rendered.problems.add(Problems::DATA_SIZE);
                    rendered.needs_raw = true;
                }
                if let Some(number) = read_number(kind, data) {
                    push_decimal(self.text, number);
                    rendered.number = number;
                    rendered.has = Self::TEXT | Self::NUMBER;
                }
            }
            _ => rendered.needs_raw = true,
        }
        if rendered.needs_raw || is_cut {
            push_short(self.raw, data);
            rendered.has |= Self::RAW;
        }
        rendered
    }
}

fn read_number(kind: u32, data: &[u8]) -> Option<u64> {
    match kind {
        4 => u32_at(data, 0).map(u64::from),
        5 => array_at(data, 0).map(|bytes| u64::from(u32::from_be_bytes(bytes))),
        _ => u64_at(data, 0),
    }
}

/// Append a text up to its first NUL.
#[inline]
pub(super) fn push_text(out: &mut Vec<u8>, data: &[u8]) -> Rendered {
    let mut rendered = Rendered::default();
    let start = out.len();
    let even = data.len() & !1;
    let (units, half) = data.split_at(even);
    if half.iter().any(|byte| *byte != 0) {
        rendered.problems.add(Problems::DATA_SIZE);
        rendered.needs_raw = true;
    }
    // Nearly every text ends with its only NUL.
    let text = units.strip_suffix(&[0, 0]).unwrap_or(units);
    let lossy = push_utf16(out, text);
    let written = out.get(start..).unwrap_or_default();
    let Some(nul) = memchr::memchr(0, written) else {
        rendered.is_lossy = lossy;
        rendered.needs_raw |= lossy;
        return rendered;
    };
    if written.iter().skip(nul).any(|byte| *byte != 0) {
        rendered.problems.add(Problems::DATA_REMAINDER);
        rendered.needs_raw = true;
    }
    out.truncate(start);
    let (units, _) = text.as_chunks::<2>();
    let used = units.iter().take_while(|unit| **unit != [0, 0]).count();
    rendered.is_lossy = push_utf16(out, text.get(..used * 2).unwrap_or_default());
    rendered.needs_raw |= rendered.is_lossy;
    rendered
}

/// Append the texts of a list, empty ones between others included: they mean something in
/// `PendingFileRenameOperations`.
fn push_texts(items: &mut TextColumn, data: &[u8]) -> Rendered {
    let mut rendered = Rendered::default();
    let (units, half) = data.as_chunks::<2>();
    if half.iter().any(|byte| *byte != 0) {
        rendered.problems.add(Problems::DATA_SIZE);
        rendered.needs_raw = true;
    }
    let used = units.iter().rposition(|unit| *unit != [0, 0]);
    let end = used.map_or(0, |last| last + 1);
    let Some(units) = units.get(..end).filter(|units| !units.is_empty()) else {
        return rendered;
    };
    for text in units.split(|unit| *unit == [0, 0]) {
        rendered.is_lossy |= push_utf16(&mut items.bytes, text.as_flattened());
        items.push();
    }
    rendered.needs_raw |= rendered.is_lossy;
    rendered
}

/// Bytes that a change shows of a value that is no text.
const SHOWN_BYTES_MAX: usize = 1_024;

/// Data as one text, for a comparison by eye: texts as they are, lists with a line for each item, everything else in
/// hexadecimal digits.
pub(super) fn one_text(kind: u32, data: &[u8]) -> String {
    let mut out = Vec::new();
    match kind {
        1 | 2 | 6 => {
            push_text(&mut out, data);
        }
        7 => {
            let (units, _) = data.as_chunks::<2>();
            let used = units.iter().rposition(|unit| *unit != [0, 0]);
            let units = units.get(..used.map_or(0, |last| last + 1));
            let texts = units.unwrap_or_default().split(|unit| *unit == [0, 0]);
            for (number, text) in texts.enumerate() {
                if number > 0 {
                    out.push(b'\n');
                }
                push_utf16(&mut out, text.as_flattened());
            }
        }
        _ => match read_number(kind, data).filter(|_| matches!(kind, 4 | 5 | 11)) {
            Some(number) => push_decimal(&mut out, number),
            None => {
                for byte in data.iter().take(SHOWN_BYTES_MAX) {
                    out.extend_from_slice(format!("{byte:02x}").as_bytes());
                }
                if data.len() > SHOWN_BYTES_MAX {
                    out.extend_from_slice("…".as_bytes());
                }
            }
        },
    }
    String::from_utf8_lossy(&out).into_owned()
}
