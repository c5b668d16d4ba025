//! Accounting for text: the unit is the line.
//!
//! The rules, which a parser of text keeps on its own side:
//! * A line ends at LF and owns its terminator (LF or CR LF). A CR elsewhere is content. The last line
//!   may lack a terminator; a byte-order mark belongs to the first line.
//! * A line whose content (without mark and terminator) is empty or only ASCII spaces and tabs is blank:
//!   it is counted apart. So the spans of the other lines and the blank bytes tile the file exactly.
//! * UTF-16 is read by its units: LF is 0A 00 or 00 0A at an even offset. An odd byte at the end belongs
//!   to the last line, which it begins if a terminator comes right before it; it is content.
//!
//! Memory does not depend on the length of a line.

use memchr::memchr;

use super::{Account, Unit};
use crate::error::CoreError;
use crate::source::ReadAt;
use crate::tally::Windows;

/// Width of a window for lines, in bytes.
pub const WINDOW_BYTES: u64 = 1 << 20;
/// Even, so that a UTF-16 unit never lies across two buffers.
const BUFFER_BYTES: usize = 1 << 20;
/// How much is looked at to recognise UTF-16 without a byte-order mark.
const SAMPLE_BYTES: u64 = 64 << 10;
/// More NULs than this in one half of the bytes, and not in the other, say UTF-16.
const NUL_PERCENT: usize = 30;

/// How the bytes of a text are to be cut into lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextEncoding {
    /// UTF-8 or any encoding in which ASCII bytes stand for ASCII only.
    Bytes,
    /// The same, behind a UTF-8 byte-order mark.
    Utf8WithMark,
    /// UTF-16, low byte first.
    Utf16Le,
    /// UTF-16, high byte first.
    Utf16Be,
}

impl TextEncoding {
    /// The encoding that a byte-order mark or, without one, the place of NUL bytes tells.
    ///
    /// `sample` is the beginning of the text, of which 64 KiB count. Bytes in which NULs are frequent in both
    /// halves (a zero-filled tail, a binary file) are not UTF-16. The second value is the length of the
    /// mark in bytes.
    #[must_use]
    pub fn detect(sample: &[u8]) -> (Self, usize) {
        let sample = &sample[..sample.len().min(SAMPLE_BYTES as usize)];
        match sample {
            [0xEF, 0xBB, 0xBF, ..] => (Self::Utf8WithMark, 3),
            [0xFF, 0xFE, ..] => (Self::Utf16Le, 2),
            [0xFE, 0xFF, ..] => (Self::Utf16Be, 2),
            _ => {
                let many_nuls = |parity: usize| {
                    let half = sample.iter().skip(parity).step_by(2);
                    let total = half.len();
                    half.filter(|byte| **byte == 0).count() * 100 > total * NUL_PERCENT
                };
                match (many_nuls(0), many_nuls(1)) {
                    (false, true) => (Self::Utf16Le, 0),
                    (true, false) => (Self::Utf16Be, 0),
                    _ => (Self::Bytes, 0),
                }
            }
        }
    }
}

/// Walk the lines of `source`.
///
/// `hint` says the encoding of a text without a byte-order mark; a mark that is there wins.
///
/// # Errors
/// The first error of a read.
pub fn account_lines<S: ReadAt + ?Sized>(
    source: &S,
    hint: Option<TextEncoding>,
) -> Result<Account, CoreError> {
    let mut buffer = vec![0; buffer_length(source.len(), 0)];
    source.read_exact_at(&mut buffer, 0)?;
    let (detected, mark) = TextEncoding::detect(&buffer);
    let encoding = hint.filter(|_| mark == 0).unwrap_or(detected);

    let mut walk = LineWalk {
        account: Account::empty(Unit::Line, Windows::new(0, WINDOW_BYTES)?),
        start: 0,
        content: Content::Blank,
    };
    let mut position = mark as u64;
    let mut part = &buffer[mark..];
    loop {
        match encoding {
            TextEncoding::Bytes | TextEncoding::Utf8WithMark => walk.bytes(part, position)?,
            TextEncoding::Utf16Le => walk.utf16(part, position, u16::from_le_bytes, 0)?,
            TextEncoding::Utf16Be => walk.utf16(part, position, u16::from_be_bytes, 1)?,
        }
        position += part.len() as u64;
        if position >= source.len() {
            break;
        }
        buffer.resize(buffer_length(source.len(), position), 0);
        source.read_exact_at(&mut buffer, position)?;
        part = &buffer;
    }
    walk.finish(source.len())
}

fn buffer_length(length: u64, position: u64) -> usize {
    usize::try_from(length - position).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES))
}

/// What the content of the line was so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Nothing, or spaces and tabs.
    Blank,
    /// The same and then one CR: blank if LF comes next.
    BlankThenCr,
    /// Something else.
    Text,
}

struct LineWalk {
    account: Account,
    /// Where the line began.
    start: u64,
    content: Content,
}

impl LineWalk {
    fn bytes(&mut self, part: &[u8], position: u64) -> Result<(), CoreError> {
        let mut index = 0;
        while index < part.len() {
            if self.content == Content::Text {
                // Only the end of the line matters now.
                match memchr(b'\n', &part[index..]) {
                    Some(distance) => index += distance,
                    None => return Ok(()),
                }
            }
            self.unit(u16::from(part[index]), position + index as u64 + 1)?;
            index += 1;
        }
        Ok(())
    }

    /// `low` is the place of the low byte in a unit: 0 or 1.
    fn utf16(
        &mut self,
        part: &[u8],
        position: u64,
        value: fn([u8; 2]) -> u16,
        low: usize,
    ) -> Result<(), CoreError> {
        let (units, odd) = part.as_chunks::<2>();
        let mut index = 0;
        while index < units.len() {
            if self.content == Content::Text {
                match find_utf16_line_feed(part, index, low) {
                    Some(found) => index = found,
                    None => break,
                }
            }
            self.unit(value(units[index]), position + index as u64 * 2 + 2)?;
            index += 1;
        }
        if !odd.is_empty() {
            self.content = Content::Text;
        }
        Ok(())
    }

    /// Take in one character unit, which ends at `end`.
    fn unit(&mut self, value: u16, end: u64) -> Result<(), CoreError> {
        const TAB: u16 = 0x09;
        const LINE_FEED: u16 = 0x0A;
        const CARRIAGE_RETURN: u16 = 0x0D;
        const SPACE: u16 = 0x20;
        self.content = match (value, self.content) {
            (LINE_FEED, _) => return self.end_line(end),
            (SPACE | TAB, Content::Blank) => Content::Blank,
            (CARRIAGE_RETURN, Content::Blank) => Content::BlankThenCr,
            _ => Content::Text,
        };
        Ok(())
    }

    fn end_line(&mut self, end: u64) -> Result<(), CoreError> {
        let length = end - self.start;
        if self.content == Content::Text {
            self.account.present += 1;
            self.account.windows.add(self.start, length)?;
        } else {
            self.account.blank_units += 1;
            self.account.blank_bytes += length;
        }
        self.start = end;
        self.content = Content::Blank;
        Ok(())
    }

    fn finish(mut self, length: u64) -> Result<Account, CoreError> {
        if self.start < length {
            if self.content == Content::BlankThenCr {
                // No LF came: the CR is content.
                self.content = Content::Text;
            }
            self.end_line(length)?;
        }
        Ok(self.account)
    }
}

/// The number of the next unit, from unit `from` on, that is a line feed.
fn find_utf16_line_feed(part: &[u8], from: usize, low: usize) -> Option<usize> {
    let mut at = from * 2;
    loop {
        at += memchr(b'\n', &part[at..])?;
        let first = at & !1;
        if at - first == low && part.get(first + 1 - low) == Some(&0) {
            return Some(first / 2);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::SliceSource;

    /// Line spans by the rules, written the slow and plain way: (offset, length, blank).
    fn spans(text: &[u8], hint: Option<TextEncoding>) -> Vec<(u64, u64, bool)> {
        let (detected, mark) = TextEncoding::detect(text);
        let encoding = if mark == 0 {
            hint.unwrap_or(detected)
        } else {
            detected
        };
        let width = match encoding {
            TextEncoding::Bytes | TextEncoding::Utf8WithMark => 1,
            TextEncoding::Utf16Le | TextEncoding::Utf16Be => 2,
        };
        let unit = |bytes: &[u8]| match (encoding, bytes) {
            (TextEncoding::Utf16Le, [a, b]) => u16::from_le_bytes([*a, *b]),
            (TextEncoding::Utf16Be, [a, b]) => u16::from_be_bytes([*a, *b]),
            (TextEncoding::Utf16Le | TextEncoding::Utf16Be, _) => 0xFFFF,
            (_, bytes) => u16::from(bytes[0]),
        };
        let (mut start, mut content, mut at) = (0, Vec::new(), mark);
        let mut result = Vec::new();
        let blank = |content: &[u16]| content.iter().all(|c| matches!(c, 0x20 | 0x09));
        while at < text.len() {
            let end = (at + width).min(text.len());
            let value = unit(&text[at..end]);
            at = end;
            if value == 10 {
                if content.last() == Some(&13) {
                    content.pop();
                }
                result.push((start as u64, (end - start) as u64, blank(&content)));
                (start, content) = (end, Vec::new());
            } else {
                content.push(value);
            }
        }
        if start < text.len() {
            result.push((start as u64, (text.len() - start) as u64, blank(&content)));
        }
        result
    }

    fn check(text: &[u8], hint: Option<TextEncoding>) -> Account {
        let account = account_lines(&SliceSource(text), hint).unwrap();
        let mut windows = Windows::new(0, WINDOW_BYTES).unwrap();
        let (mut present, mut blank_units, mut blank_bytes) = (0, 0, 0);
        let mut end = 0;
        for (offset, length, blank) in spans(text, hint) {
            assert_eq!(offset, end);
            end = offset + length;
            if blank {
                blank_units += 1;
                blank_bytes += length;
            } else {
                present += 1;
                windows.add(offset, length).unwrap();
            }
        }
        assert_eq!(end, text.len() as u64);
        assert_eq!(account.windows, windows);
        assert_eq!(
            (account.present, account.blank_units, account.blank_bytes),
            (present, blank_units, blank_bytes)
        );
        account
    }

    fn utf16(text: &str, little: bool) -> Vec<u8> {
        text.encode_utf16()
            .flat_map(|u| {
                if little {
                    u.to_le_bytes()
                } else {
                    u.to_be_bytes()
                }
            })
            .collect()
    }

    #[test]
    fn each_corner_of_the_rules_counts_as_written() {
        let cases: [(&[u8], u64, u64, u64); 14] = [
            (b"", 0, 0, 0),
            (b"a", 1, 0, 0),
            (b"a\nb\n", 2, 0, 0),
            (b"a\r\n\r\nb", 2, 1, 2),
            (b"a\rb", 1, 0, 0),
            (b" \t\n\x0b\n", 1, 1, 3),
            (b"\r", 1, 0, 0),
            (b"\r\r\n", 1, 0, 0),
            (b"  ", 0, 1, 2),
            (b"\n\n\n", 0, 3, 3),
            (b"\xef\xbb\xbf", 0, 1, 3),
            (b"\xef\xbb\xbf \na", 1, 1, 5),
            (b"\xff\xfea\0\n\0\r\0\n\0", 1, 1, 4),
            (b"\xfe\xff\0 \0\n\0", 1, 1, 6),
        ];
        for (text, present, blank_units, blank_bytes) in cases {
            let account = check(text, None);
            assert_eq!(
                (account.present, account.blank_units, account.blank_bytes),
                (present, blank_units, blank_bytes),
                "{}",
                text.escape_ascii()
            );
        }
    }

    #[test]
    fn utf16_is_recognised_by_mark_by_nuls_and_by_hint() {
        let text = "Jan  1 host sshd: ok\n\u{0a0a}\u{0a00}\u{000a}end";
        for little in [true, false] {
            let bytes = utf16(text, little);
            assert_eq!(check(&bytes, None).present, 3);
            let encoding = if little {
                TextEncoding::Utf16Le
            } else {
                TextEncoding::Utf16Be
            };
            let wide = utf16("\u{4e2d}\u{0a0a}\n\u{6587}", little);
            assert_eq!(check(&wide, Some(encoding)).present, 2);
            let marked = utf16(&format!("\u{feff}{text}"), little);
            assert_eq!(check(&marked, Some(TextEncoding::Bytes)).present, 3);
        }
    }

    #[test]
    fn zeros_in_both_halves_are_not_utf16() {
        let text = [b"Jan  1 host a: b\n".as_slice(), &[0; 4000]].concat();
        assert_eq!(TextEncoding::detect(&text), (TextEncoding::Bytes, 0));
        assert_eq!(check(&text, None).present, 2);
    }

    #[test]
    fn lines_across_buffers_and_windows_are_counted_once() {
        for shift in 0..4 {
            let mut text = vec![b'x'; BUFFER_BYTES - 2 + shift];
            text.extend(b"\r\n \r\n");
            text.extend(vec![b' '; BUFFER_BYTES]);
            text.extend(b"\r\nlast\n");
            let account = check(&text, None);
            assert_eq!((account.present, account.blank_units), (2, 2));
            let wide = utf16(std::str::from_utf8(&text).unwrap(), true);
            check(&wide, None);
        }
    }

    proptest! {
        #[test]
        fn lines_tile_any_bytes(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            check(&text, None);
            check(&text, Some(TextEncoding::Utf16Le));
            check(&text, Some(TextEncoding::Utf16Be));
        }

        #[test]
        fn lines_tile_texts_of_few_letters(
            text in proptest::collection::vec(
                proptest::sample::select(b"\n\n\r \ta\0\0".to_vec()), 0..60),
            mark in proptest::sample::select(vec![
                b"".as_slice(), b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"]),
        ) {
            check(&[mark, &text].concat(), None);
        }
    }
}
