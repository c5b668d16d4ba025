//! How an unknown text is laid out, by elimination over its beginning: form, delimiter, quote and header.
//!
//! A delimiter remains when every record of the sample has as many cells as the first and none is faulty. A header is a first
//! record that contradicts the type of a column; where nothing can tell, both remain.

use super::delimited::DelimitedInference;
use super::report::Json;
use crate::delimited::{Encoding, Escape, Kind, Layout, Records};
use crate::error::CoreError;
use crate::source::{ReadAt, SliceSource};
use crate::text::is_json;

const SAMPLE_BYTES: u64 = 1 << 20;
const DELIMITERS: [&str; 8] = [",", "\t", ";", "|", "^", "\u{1}", ":", " "];

struct Tried {
    layout: Layout,
    cells: usize,
    quoted: bool,
    /// Why it cannot be: where, and what.
    out: Option<(u64, String)>,
}

/// Find the layouts that a text can have, as a JSON document; a given encoding or delimiter is taken as it is.
///
/// # Errors
/// The first error of a read.
pub fn dialect<S: ReadAt>(
    source: &S,
    encoding: Option<Encoding>,
    delimiter: Option<&str>,
    header: Option<bool>,
) -> Result<String, CoreError> {
    let length = source.len().min(SAMPLE_BYTES);
    let mut sample = vec![0; usize::try_from(length).unwrap_or(0)];
    source.read_exact_at(&mut sample, 0)?;
    if source.len() > length
        && let Some(end) = memchr::memrchr(b'\n', &sample)
    {
        sample.truncate(end + 1);
    }
    let encoding = encoding.unwrap_or_else(|| match sample[..] {
        [0xff, 0xfe, ..] => Encoding::Utf16Le,
        [0xfe, 0xff, ..] => Encoding::Utf16Be,
        _ => Encoding::Utf8,
    });
    let mut json = Json::default();
    if delimiter.is_none() && is_json_lines(&sample) {
        json.object(|json| json.key("form").string("jsonl"));
        return Ok(json.finish());
    }
    let tried = try_all(&sample, encoding, delimiter)?;
    let left: Vec<&Tried> = tried.iter().filter(|one| one.out.is_none()).collect();
    // Where nothing parts a line anywhere, all are the same: one cell a line.
    let single = tried.iter().all(|one| one.cells < 2);
    let mut kept: Vec<&Tried> = left
        .into_iter()
        .filter(|one| single || one.cells > 1)
        .collect();
    if single {
        kept.truncate(1);
    }
    // A quote that stands nowhere changes nothing.
    let quotes: Vec<&str> = kept
        .iter()
        .filter(|one| one.layout.quote.is_some())
        .map(|one| one.layout.delimiter.as_str())
        .collect();
    kept.retain(|one| {
        one.layout.quote.is_some() || !quotes.contains(&one.layout.delimiter.as_str())
    });
    let mut answers = Vec::new();
    for one in kept {
        let headers = match header {
            Some(given) => vec![given],
            None => header_of(&sample, &one.layout)?,
        };
        answers.push((one, headers));
    }
    json.object(|json| {
        json.key("form").string("delimited");
        json.key("encoding").string(encoding.name());
        json.key("layouts").array(|json| {
            for (one, headers) in &answers {
                json.object(|json| {
                    describe(json, one);
                    json.key("cells").number(one.cells);
                    json.key("header").array(|json| {
                        for header in headers {
                            json.boolean(*header);
                        }
                    });
                });
            }
        });
        json.key("ruled_out").array(|json| {
            for one in &tried {
                if let Some((offset, why)) = &one.out {
                    json.object(|json| {
                        describe(json, one);
                        json.key("offset").number(*offset);
                        json.key("why").string(why);
                    });
                }
            }
        });
    });
    Ok(json.finish())
}

fn describe(json: &mut Json, one: &Tried) {
    json.key("delimiter").string(&one.layout.delimiter);
    let quote = one.layout.quote.map(|quote| char::from(quote).to_string());
    json.key("quote").optional(quote.as_deref());
    let escape = match one.layout.escape {
        Escape::None => None,
        Escape::Doubled => Some("double"),
        Escape::Byte(_) => Some("backslash"),
    };
    json.key("escape").optional(escape);
}

fn is_json_lines(sample: &[u8]) -> bool {
    let text = sample.strip_prefix(b"\xef\xbb\xbf").unwrap_or(sample);
    let mut lines = text
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty());
    lines
        .next()
        .is_some_and(|line| line[0] == b'{' && is_json(line))
}

fn try_all(
    sample: &[u8],
    encoding: Encoding,
    delimiter: Option<&str>,
) -> Result<Vec<Tried>, CoreError> {
    let given = [delimiter.unwrap_or_default()];
    let delimiters: &[&str] = if delimiter.is_some() {
        &given
    } else {
        &DELIMITERS
    };
    let quoting = [
        (Some(b'"'), Escape::Doubled),
        (Some(b'"'), Escape::Byte(b'\\')),
        (Some(b'\''), Escape::Doubled),
        (None, Escape::None),
    ];
    let mut tried: Vec<Tried> = Vec::new();
    for delimiter in delimiters {
        for (quote, escape) in quoting {
            let layout = Layout {
                delimiter: (*delimiter).to_owned(),
                quote,
                escape,
                encoding,
                ..Layout::default()
            };
            if layout.check().is_err() {
                continue;
            }
            let one = attempt(sample, layout)?;
            // Another quote or escape is a candidate only where it makes a difference.
            let usual = quote == Some(b'"') && escape == Escape::Doubled;
            let first = tried
                .iter()
                .find(|other| other.layout.delimiter == **delimiter);
            let matters = one.quoted || quote.is_none();
            if usual || (matters && first.is_some_and(|first| first.out.is_some())) {
                tried.push(one);
            }
        }
    }
    Ok(tried)
}

fn attempt(sample: &[u8], layout: Layout) -> Result<Tried, CoreError> {
    let mut cells = 0;
    let mut quoted = false;
    let mut out = None;
    let mut records = Records::new(SliceSource(sample), &layout)?;
    while let Some(record) = records.next()? {
        match record.kind {
            Kind::Row => {
                quoted = quoted || (0..record.len()).any(|cell| record.is_quoted(cell));
                if cells == 0 {
                    cells = record.len();
                } else if record.len() != cells {
                    let why = format!("a record has {} cells, the first one {cells}", record.len());
                    out = Some((record.offset, why));
                    break;
                }
            }
            Kind::Faulty(_) => {
                out = Some((
                    record.offset,
                    "quotes do not stand around a cell".to_owned(),
                ));
                break;
            }
            _ => {}
        }
    }
    Ok(Tried {
        layout,
        cells,
        quoted,
        out,
    })
}

/// Whether the first record is a header: yes, no, or nothing can tell.
fn header_of(sample: &[u8], layout: &Layout) -> Result<Vec<bool>, CoreError> {
    let mut inference = DelimitedInference::default();
    inference.add(&SliceSource(sample), layout, 1)?;
    Ok(match inference.header_fits() {
        Some(true) => vec![false],
        Some(false) => vec![true],
        None => vec![true, false],
    })
}
