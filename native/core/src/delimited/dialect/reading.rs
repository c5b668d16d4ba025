//! A text as one candidate reads it.

use super::WEAK;
use crate::delimited::{Escape, Fault, Kind, Layout, Records};
use crate::error::CoreError;
use crate::source::SliceSource;

/// Records that are kept to tell a header by.
const KEPT_MAX: usize = 1_000;
/// Records of which every cell is looked at; beyond, only their number counts.
const LOOKED_AT_MAX: u64 = 20_000;

/// In which cells something occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cells {
    None,
    Only(usize),
    Several,
}

impl Cells {
    fn add(&mut self, cell: usize) {
        *self = match *self {
            Self::None => Self::Only(cell),
            Self::Only(other) if other == cell => Self::Only(cell),
            _ => Self::Several,
        };
    }

    /// The one cell, when it is one.
    pub(super) fn only(self) -> Option<usize> {
        match self {
            Self::Only(cell) => Some(cell),
            Self::None | Self::Several => None,
        }
    }
}

/// What became of reading the text.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) layout: Layout,
    /// What rules it out, with number and offset of the record.
    pub(super) contradiction: Option<(String, (u64, u64))>,
    pub(super) records: u64,
    /// Whether a record has several cells.
    pub(super) is_parted: bool,
    pub(super) cells: usize,
    pub(super) first: Vec<String>,
    /// Records behind the first.
    pub(super) kept: Vec<Vec<String>>,
    /// Differs when cells differ.
    pub(super) fingerprint: blake3::Hash,
    /// Quotes that a cell has at both ends as content, with number and offset of the first such record.
    pub(super) wrapped: Vec<(u8, (u64, u64))>,
    /// Whether a cell holds the delimiter's first character.
    pub(super) has_part: bool,
    /// Where the weak delimiters occur.
    pub(super) weak_cells: [Cells; WEAK.len()],
}

impl Reading {
    /// Read the text; when the candidate is taken as it is, records that contradict it are left out.
    pub(super) fn of(
        sample: &[u8],
        layout: Layout,
        is_whole: bool,
        as_it_is: bool,
    ) -> Result<Self, CoreError> {
        let mut reading = Self {
            contradiction: None,
            records: 0,
            is_parted: false,
            cells: 0,
            first: Vec::new(),
            kept: Vec::new(),
            fingerprint: blake3::hash(b""),
            wrapped: Vec::new(),
            has_part: false,
            weak_cells: [Cells::None; WEAK.len()],
            layout,
        };
        let mut hasher = blake3::Hasher::new();
        let length = sample.len() as u64;
        let layout = reading.layout.clone();
        let mut records = Records::new(SliceSource(sample), &layout)?;
        while let Some(record) = records.next()? {
            if !is_whole && record.offset + record.length == length {
                break; // the sample's end may have cut it
            }
            let place = (reading.records + 1, record.offset);
            let fault = match record.kind {
                Kind::Row => None,
                Kind::Faulty(Fault::Unbalanced) => Some("a quote is opened and not closed"),
                Kind::Faulty(Fault::BehindQuote) => {
                    Some("something stands between a closing quote and the end of its cell")
                }
                Kind::Faulty(Fault::TooLong) => Some("the record is longer than may be"),
                Kind::Blank | Kind::Comment | Kind::Skipped => continue,
            };
            if let Some(fault) = fault {
                if as_it_is {
                    continue;
                }
                reading.contradiction = Some((fault.to_owned(), place));
                return Ok(reading);
            }
            reading.is_parted |= record.len() > 1;
            if reading.records == 0 {
                reading.cells = record.len();
            } else if record.len() != reading.cells {
                if as_it_is {
                    continue;
                }
                let why = format!(
                    "the record has {} cells, the first one {}",
                    record.len(),
                    reading.cells
                );
                reading.contradiction = Some((why, place));
                return Ok(reading);
            }
            reading.records += 1;
            if let Escape::Byte(escape) = layout.escape
                && !as_it_is
                && let Some(why) =
                    (0..record.len()).find_map(|index| needless(record.raw(index), &layout, escape))
            {
                reading.contradiction = Some((why, place));
                return Ok(reading);
            }
            if reading.records > LOOKED_AT_MAX {
                continue;
            }
            let keep = reading.records == 1 || reading.kept.len() < KEPT_MAX;
            let mut texts = Vec::new();
            for index in 0..record.len() {
                let cell = record.cell(index);
                hasher.update(&(cell.len() as u64).to_le_bytes());
                hasher.update(&cell);
                if let [first @ (b'"' | b'\''), .., last] = &*cell
                    && first == last
                    && !record.is_quoted(index)
                    && !reading.wrapped.iter().any(|(quote, _)| quote == first)
                {
                    reading.wrapped.push((*first, place));
                }
                reading.has_part |= memchr::memchr(layout.delimiter.as_bytes()[0], &cell).is_some();
                for (weak, cells) in WEAK.iter().zip(&mut reading.weak_cells) {
                    if memchr::memchr(weak.as_bytes()[0], &cell).is_some() {
                        cells.add(index);
                    }
                }
                if keep {
                    texts.push(String::from_utf8_lossy(&cell).into_owned());
                }
            }
            if reading.records == 1 {
                reading.first = texts;
            } else if keep {
                reading.kept.push(texts);
            }
        }
        reading.fingerprint = hasher.finalize();
        Ok(reading)
    }
}

/// An escape before a character that needs none, in words: whoever writes escapes writes them where they are needed.
fn needless(raw: &[u8], layout: &Layout, escape: u8) -> Option<String> {
    let mut rest = raw;
    while let Some(place) = memchr::memchr(escape, rest) {
        let next = *rest.get(place + 1)?;
        let needs = next == escape
            || layout.quote == Some(next)
            || layout.delimiter.as_bytes()[0] == next
            || matches!(next, b'\r' | b'\n');
        if !needs {
            return Some(format!(
                "`{}` stands before `{}`, which needs no escape",
                char::from(escape),
                next.escape_ascii()
            ));
        }
        rest = &rest[place + 2..];
    }
    None
}
