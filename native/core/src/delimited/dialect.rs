//! Which dialect a text has, by elimination.
//!
//! Every delimiter, quote and escape of the list is a candidate; the text is read by each, and a reading that contradicts itself is
//! ruled out by the first record that shows it. What remains is the answer. Readings that give the very same cells are one.
//! When several remain the answer is open: nothing is guessed.
//!
//! What rules a candidate out, besides its own rules ([`super`]): a record with another number of cells than the first; a delimiter that never
//! occurs; a cell that stands in quotes throughout, read with the quotes as content; an escape before a character that needs none;
//! and, for a space or a colon, that it stands only inside of one and the same cell that another delimiter makes.
//! Lines are records of one cell only where no usual delimiter parts any of them.

mod header;
mod reading;

use std::collections::HashSet;

use self::reading::Reading;
use super::{Encoding, Escape, Layout};
use crate::account::TextEncoding;
use crate::error::CoreError;
use crate::source::ReadAt;

/// Delimiters that are tried, the usual ones first.
pub const DELIMITERS: [&str; 12] = [
    ",", ";", "\t", "|", "\u{1}", "^", "||", "\u{1f}", "~", "\u{a6}", ":", " ",
];
/// Delimiters that stand in values more often than between them.
const WEAK: [&str; 2] = [":", " "];
const QUOTINGS: [(Option<u8>, Escape); 7] = [
    (Some(b'"'), Escape::Doubled),
    (Some(b'"'), Escape::Byte(b'\\')),
    (Some(b'"'), Escape::None),
    (None, Escape::None),
    (Some(b'\''), Escape::Doubled),
    (Some(b'\''), Escape::Byte(b'\\')),
    (None, Escape::Byte(b'\\')),
];

/// What is known already: only candidates that agree are tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// How characters are written.
    pub encoding: Option<Encoding>,
    /// What stands between cells.
    pub delimiter: Option<String>,
    /// The quote, or that there is none. Together with `delimiter` it is taken as it is: records that do not fit contradict nothing.
    pub quote: Option<Option<u8>>,
    /// How a quote is written within quotes.
    pub escape: Option<Escape>,
    /// Lines at the beginning that are no records.
    pub skip_lines: u64,
    /// What a line begins with that is no record.
    pub comment: Option<String>,
    /// Whether it is known what stands above the table, be it nothing: else `skip_lines` and `comment` are looked for
    /// ([`crate::infer::form`]).
    pub above_is_known: bool,
    /// Whether `delimiter`, `quote` and `escape` must hold nevertheless: another file of the same table.
    pub strict: bool,
}

/// Why a candidate was ruled out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eliminated {
    /// The candidate.
    pub delimiter: String,
    /// Its quote.
    pub quote: Option<u8>,
    /// Its escape.
    pub escape: Escape,
    /// In words.
    pub why: String,
    /// Number of the record that shows it, from 1, and where it begins; none when it is about the whole text.
    pub record: Option<(u64, u64)>,
}

/// Whether the first record names the cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// It does, and why it must.
    Yes(String),
    /// It does not, and why it cannot.
    No(String),
    /// Nothing in the text tells.
    Open,
}

/// A dialect that nothing in the text contradicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// Delimiter, quote, escape, encoding; `header` is true unless that is ruled out.
    pub layout: Layout,
    /// Whether the first record is a header.
    pub header: Header,
    /// Cells of each record.
    pub cells: usize,
    /// The first record's.
    pub first: Vec<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How characters are written.
    pub encoding: Encoding,
    /// Why it is that one.
    pub encoding_why: String,
    /// Dialects that remain: one is the answer, several are a question, none means that this is no delimited text, or a damaged one.
    pub survivors: Vec<Survivor>,
    /// All others.
    pub eliminated: Vec<Eliminated>,
    /// Records that were read of the longest reading.
    pub records: u64,
    /// Bytes of the source that were looked at.
    pub bytes: u64,
}

/// Find the dialect of a source by its first `bytes_max` bytes; its last record in there is left out unless the source ends with it.
///
/// # Errors
/// The first error of a read.
pub fn examine<S: ReadAt + ?Sized>(
    source: &S,
    bytes_max: u64,
    asked: &Asked,
) -> Result<Report, CoreError> {
    let bytes = source.len().min(bytes_max);
    let mut sample = vec![0; bytes as usize];
    source.read_exact_at(&mut sample, 0)?;
    let is_whole = bytes == source.len();
    let (mut encoding, mut encoding_why) = encoding_of(&sample, is_whole);
    if let Some(given) = asked.encoding {
        (encoding, encoding_why) = (given, "it was given".to_owned());
    }
    let mut report = Report {
        encoding,
        encoding_why,
        survivors: Vec::new(),
        eliminated: Vec::new(),
        records: 0,
        bytes,
    };
    let mut readings = Vec::new();
    let mut parting = None;
    let candidates = candidates(asked, encoding);
    for layout in &candidates {
        let reading = Reading::of(&sample, layout.clone(), is_whole, false)?;
        report.records = report.records.max(reading.records);
        if reading.is_parted && parting.is_none() && !WEAK.contains(&&*layout.delimiter) {
            parting = Some(layout.delimiter.clone());
        }
        match &reading.contradiction {
            Some((why, record)) => report.rule_out(&reading, why.clone(), Some(*record)),
            None => readings.push(reading),
        }
    }
    let is_given = asked.delimiter.is_some() && asked.quote.is_some() && !asked.strict;
    if readings.is_empty()
        && is_given
        && let Some(first) = candidates.into_iter().next()
    {
        report.eliminated.remove(0);
        readings.push(Reading::of(&sample, first, is_whole, true)?);
    }
    report.judge(readings, parting.as_deref());
    Ok(report)
}

/// Every layout that agrees with what is known, the usual ones first.
fn candidates(asked: &Asked, encoding: Encoding) -> Vec<Layout> {
    let delimiters: Vec<&str> = match &asked.delimiter {
        Some(given) => vec![given],
        None => DELIMITERS.to_vec(),
    };
    let mut quotings: Vec<_> = QUOTINGS.to_vec();
    if let Some(given) = asked.quote
        && !quotings.iter().any(|(quote, _)| *quote == given)
    {
        quotings = vec![
            (given, Escape::Doubled),
            (given, Escape::Byte(b'\\')),
            (given, Escape::None),
        ];
    }
    if let (Some(quote), Some(escape)) = (asked.quote, asked.escape) {
        quotings = vec![(quote, escape)];
    }
    let mut found = Vec::new();
    for delimiter in delimiters {
        for &(quote, escape) in &quotings {
            let agrees = asked.quote.is_none_or(|given| given == quote)
                && asked.escape.is_none_or(|given| given == escape);
            let layout = Layout {
                delimiter: delimiter.to_owned(),
                quote,
                escape,
                skip_lines: asked.skip_lines,
                comment: asked.comment.clone(),
                encoding,
                ..Layout::default()
            };
            if agrees && layout.check().is_ok() {
                found.push(layout);
            }
        }
    }
    found
}

impl Report {
    fn rule_out(&mut self, reading: &Reading, why: String, record: Option<(u64, u64)>) {
        self.eliminated.push(Eliminated {
            delimiter: reading.layout.delimiter.clone(),
            quote: reading.layout.quote,
            escape: reading.layout.escape,
            why,
            record,
        });
    }

    fn judge(&mut self, readings: Vec<Reading>, parting: Option<&str>) {
        let readings = self.drop_single_cells(readings, parting);
        let readings = self.drop_equal(readings);
        let readings = self.drop_quotes_as_content(readings);
        let readings = self.drop_parts(readings);
        let readings = self.drop_weak(readings);
        self.survivors = readings
            .into_iter()
            .map(|reading| {
                let header = header::judge(&reading);
                Survivor {
                    layout: Layout {
                        header: !matches!(header, Header::No(_)),
                        ..reading.layout
                    },
                    header,
                    cells: reading.cells,
                    first: reading.first,
                }
            })
            .collect();
    }

    /// A delimiter that never occurs explains nothing, unless none does.
    fn drop_single_cells(&mut self, readings: Vec<Reading>, parting: Option<&str>) -> Vec<Reading> {
        let (one, several): (Vec<_>, Vec<_>) =
            readings.into_iter().partition(|reading| reading.cells < 2);
        if several.is_empty() && parting.is_none() {
            return one;
        }
        let why = match parting {
            Some(other) if several.is_empty() => format!(
                "the delimiter does not part any record, and `{}` does",
                other.escape_default()
            ),
            _ => "the delimiter does not part any record".to_owned(),
        };
        for reading in &one {
            self.rule_out(reading, why.clone(), None);
        }
        several
    }

    /// Of readings that give the same cells the first stands for all.
    fn drop_equal(&mut self, readings: Vec<Reading>) -> Vec<Reading> {
        let mut seen = HashSet::new();
        let mut kept: Vec<Reading> = Vec::new();
        for reading in readings {
            if seen.insert(reading.fingerprint) {
                kept.push(reading);
            } else {
                self.rule_out(
                    &reading,
                    "it reads the same cells as another candidate".to_owned(),
                    None,
                );
            }
        }
        kept
    }

    /// Quotes around a whole cell are quotes, when reading them so contradicts nothing.
    fn drop_quotes_as_content(&mut self, readings: Vec<Reading>) -> Vec<Reading> {
        let explains = |quote: u8, delimiter: &str| {
            readings.iter().any(|other| {
                other.layout.quote == Some(quote) && other.layout.delimiter == delimiter
            })
        };
        let naive: Vec<bool> = readings
            .iter()
            .map(|reading| {
                reading.wrapped.iter().any(|(quote, _)| {
                    reading.layout.quote != Some(*quote)
                        && explains(*quote, &reading.layout.delimiter)
                })
            })
            .collect();
        let mut kept = Vec::new();
        for (reading, is_naive) in readings.into_iter().zip(naive) {
            match reading.wrapped.first() {
                Some((quote, record)) if is_naive => {
                    let why = format!(
                        "a cell begins and ends with `{}`, which it takes for content",
                        char::from(*quote)
                    );
                    self.rule_out(&reading, why, Some(*record));
                }
                _ => kept.push(reading),
            }
        }
        kept
    }

    /// A delimiter that only ever occurs as a part of a longer one.
    fn drop_parts(&mut self, readings: Vec<Reading>) -> Vec<Reading> {
        let longer: Vec<String> = readings
            .iter()
            .filter(|reading| reading.layout.delimiter.chars().count() > 1 && !reading.has_part)
            .map(|reading| reading.layout.delimiter.clone())
            .collect();
        let mut kept = Vec::new();
        for reading in readings {
            let delimiter = &reading.layout.delimiter;
            let is_part = |whole: &&String| *whole != delimiter && whole.starts_with(delimiter);
            match longer.iter().find(is_part) {
                Some(whole) => {
                    let why = format!("it stands only as a part of `{}`", whole.escape_default());
                    self.rule_out(&reading, why, None);
                }
                None => kept.push(reading),
            }
        }
        kept
    }

    /// A space or a colon that stands within one cell of another reading only parts a value.
    fn drop_weak(&mut self, readings: Vec<Reading>) -> Vec<Reading> {
        let strong: Vec<&Reading> = readings
            .iter()
            .filter(|reading| !WEAK.contains(&&*reading.layout.delimiter))
            .collect();
        let verdicts: Vec<Option<String>> = readings
            .iter()
            .map(|reading| {
                let weak = WEAK
                    .iter()
                    .position(|weak| *weak == reading.layout.delimiter)?;
                let inside = strong.iter().find_map(|other| {
                    let cell = other.weak_cells[weak].only()?;
                    Some((&other.layout.delimiter, cell))
                });
                inside.map(|(delimiter, cell)| {
                    format!(
                        "it stands only inside of cell {} of those that `{}` makes",
                        cell + 1,
                        delimiter.escape_default()
                    )
                })
            })
            .collect();
        let mut kept = Vec::new();
        for (reading, verdict) in readings.into_iter().zip(verdicts) {
            match verdict {
                Some(why) => self.rule_out(&reading, why, None),
                None => kept.push(reading),
            }
        }
        kept
    }
}

/// The encoding, and what shows it.
fn encoding_of(sample: &[u8], is_whole: bool) -> (Encoding, String) {
    match TextEncoding::detect(sample) {
        (TextEncoding::Utf16Le, mark) => return (Encoding::Utf16Le, utf16_why(mark)),
        (TextEncoding::Utf16Be, mark) => return (Encoding::Utf16Be, utf16_why(mark)),
        (TextEncoding::Utf8WithMark, _) => {
            return (Encoding::Utf8, "a byte-order mark".to_owned());
        }
        (TextEncoding::Bytes, _) => {}
    }
    match std::str::from_utf8(sample) {
        Ok(_) if sample.is_ascii() => (Encoding::Utf8, "every byte is ASCII".to_owned()),
        Ok(_) => (
            Encoding::Utf8,
            "every byte is part of a character".to_owned(),
        ),
        // The sample's end may part a character.
        Err(error) if error.error_len().is_none() && !is_whole => (
            Encoding::Utf8,
            "every byte is part of a character".to_owned(),
        ),
        Err(error) => {
            let at = error.valid_up_to();
            let no_utf8 = format!("byte {:02X} at {at} is no UTF-8", sample[at]);
            let undefined = |byte: &u8| matches!(byte, 0x81 | 0x8D | 0x8F | 0x90 | 0x9D);
            match sample.iter().position(undefined) {
                None => (Encoding::Cp1252, no_utf8),
                Some(place) => {
                    let byte = sample[place];
                    let why =
                        format!("{no_utf8}; byte {byte:02X} at {place} is not in code page 1252");
                    (Encoding::Latin1, why)
                }
            }
        }
    }
}

fn utf16_why(mark: usize) -> String {
    if mark > 0 {
        "a byte-order mark".to_owned()
    } else {
        "NUL in every other byte".to_owned()
    }
}

#[cfg(test)]
mod tests;
