//! What stands above a table: comments, a title, lines about who wrote it; found by elimination as well.
//!
//! * Lines that begin like the first one, with a mark of comments, are comments when records are a table without them and none with
//!   them. When they are a table either way it is a question: `#time,src` may be a header.
//! * Else the fewest lines are left out without which the rest is a table of several cells, if none of those lines could be a record of
//!   it: a damaged record in the middle of a file never makes what is above it a title.

use crate::delimited::dialect::{Asked, Report, Survivor, examine};
use crate::delimited::{Kind, Layout, Records, names_of_directive};
use crate::error::CoreError;
use crate::source::{ReadAt, SliceSource};

const MARKS: [&str; 3] = ["#", "//", "%"];
/// More lines above a table are not looked for.
const LINES_MAX: u64 = 20;
/// Fewer records below are no table that would show anything.
const RECORDS_MIN: u64 = 2;

/// Readings that are left, with what each of them leaves out.
pub(super) fn readings<S: ReadAt>(
    source: &S,
    sample: &[u8],
    bytes_max: u64,
    asked: &Asked,
) -> Result<Vec<Report>, CoreError> {
    let plain = examine(source, bytes_max, asked)?;
    let is_given = asked.delimiter.is_some() && asked.quote.is_some();
    if asked.above_is_known || asked.strict || is_given {
        return Ok(vec![plain]);
    }
    if let Some(mark) = mark_of(sample) {
        let asked = Asked {
            comment: Some(mark.to_owned()),
            ..asked.clone()
        };
        let mut without = examine(source, bytes_max, &asked)?;
        keep_named(&mut without, sample)?;
        let is_better = is_table(&without) && !is_table(&plain);
        if without.records > 0 && (is_better || plain.survivors.is_empty()) {
            if !without.survivors.is_empty() {
                return Ok(vec![without]);
            }
        } else if without.records > 0 && is_table(&without) == is_table(&plain) {
            return Ok(vec![plain, without]);
        }
    }
    if plain.survivors.is_empty()
        && let Some(below) = below_a_title(source, sample, bytes_max, asked)?
    {
        return Ok(vec![below]);
    }
    Ok(vec![plain])
}

fn is_table(report: &Report) -> bool {
    report.survivors.iter().any(|one| one.cells > 1)
}

/// The mark of comments that the first line begins with.
fn mark_of(sample: &[u8]) -> Option<&'static str> {
    let text = sample.strip_prefix(b"\xef\xbb\xbf").unwrap_or(sample);
    MARKS
        .into_iter()
        .find(|mark| text.starts_with(mark.as_bytes()))
}

/// Where a comment names the cells, only readings with as many cells are left.
fn keep_named(report: &mut Report, sample: &[u8]) -> Result<(), CoreError> {
    let mut kept = Vec::new();
    for one in &report.survivors {
        if named(sample, &one.layout)?.is_some_and(|names| names.len() == one.cells) {
            kept.push(one.clone());
        }
    }
    // Who writes such a comment parts records by spaces or tabs, as the format says.
    let is_usual = |one: &Survivor| matches!(&*one.layout.delimiter, " " | "\t");
    if kept.iter().any(is_usual) {
        kept.retain(is_usual);
    }
    if !kept.is_empty() {
        report.survivors = kept;
    }
    Ok(())
}

/// The names that a comment above the first record gives to its cells.
pub(super) fn named(sample: &[u8], layout: &Layout) -> Result<Option<Vec<String>>, CoreError> {
    let layout = Layout {
        header: false,
        ..layout.clone()
    };
    let mut records = Records::new(SliceSource(sample), &layout)?;
    let mut names = None;
    while let Some(record) = records.next()? {
        match record.kind {
            Kind::Row | Kind::Faulty(_) => break,
            _ => names = names_of_directive(&record, &layout).or(names),
        }
    }
    Ok(names)
}

fn below_a_title<S: ReadAt>(
    source: &S,
    sample: &[u8],
    bytes_max: u64,
    asked: &Asked,
) -> Result<Option<Report>, CoreError> {
    for lines in 1..=LINES_MAX {
        let asked = Asked {
            skip_lines: lines,
            ..asked.clone()
        };
        let mut report = examine(source, bytes_max, &asked)?;
        if report.records < RECORDS_MIN || !is_table(&report) {
            continue;
        }
        let mut kept = Vec::new();
        for one in &report.survivors {
            if one.cells > 1 && !is_part_of(sample, one, lines)? {
                kept.push(one.clone());
            }
        }
        if !kept.is_empty() {
            report.survivors = kept;
            return Ok(Some(report));
        }
    }
    Ok(None)
}

/// Whether one of the first lines could be a record of the table below them.
fn is_part_of(sample: &[u8], table: &Survivor, lines: u64) -> Result<bool, CoreError> {
    let mut below = Records::new(SliceSource(sample), &table.layout)?;
    let mut begin = 0;
    for _ in 0..lines {
        if let Some(line) = below.next()? {
            begin = line.offset + line.length;
        }
    }
    let whole = Layout {
        skip_lines: 0,
        ..table.layout.clone()
    };
    let mut records = Records::new(SliceSource(sample), &whole)?;
    while let Some(record) = records.next()? {
        if record.offset >= begin {
            break;
        }
        if record.len() == table.cells {
            return Ok(true);
        }
    }
    Ok(false)
}
