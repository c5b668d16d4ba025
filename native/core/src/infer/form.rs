//! How an unknown text is laid out, told as one JSON document: JSON Lines, or the dialects that are left of delimited text.
//!
//! [`crate::delimited::dialect`] finds the dialects. Where cells alone do not tell whether the first record is a header, the types
//! of the columns do: a header is a first record that contradicts the type of a column.

use super::above;
use super::delimited::DelimitedInference;
use super::report::Json;
use crate::delimited::Escape;
use crate::delimited::dialect::{Asked, Header, Survivor};
use crate::error::CoreError;
use crate::source::{ReadAt, SliceSource};
use crate::text::is_json;

const SAMPLE_BYTES: u64 = 1 << 20;

/// Find the forms that a text can have, as a JSON document; what is asked for is taken as it is.
///
/// # Errors
/// The first error of a read.
pub fn form<S: ReadAt>(
    source: &S,
    asked: &Asked,
    header: Option<bool>,
) -> Result<String, CoreError> {
    let mut sample = vec![0; usize::try_from(source.len().min(SAMPLE_BYTES)).unwrap_or(0)];
    source.read_exact_at(&mut sample, 0)?;
    let mut json = Json::default();
    if asked.delimiter.is_none() && is_json_lines(&sample) {
        json.object(|json| json.key("form").string("jsonl"));
        return Ok(json.finish());
    }
    let reports = above::readings(source, &sample, SAMPLE_BYTES, asked)?;
    if source.len() > SAMPLE_BYTES
        && let Some(end) = memchr::memrchr(b'\n', &sample)
    {
        sample.truncate(end + 1);
    }
    let mut headers = Vec::new();
    for one in reports.iter().flat_map(|report| &report.survivors) {
        let named = above::named(&sample, &one.layout)?;
        headers.push(match header {
            Some(true) => Header::Yes("it was given".to_owned()),
            Some(false) => Header::No("it was given".to_owned()),
            None if named.is_some_and(|names| names.len() == one.cells) => {
                Header::No("a comment names the cells".to_owned())
            }
            None if one.header == Header::Open => header_by_types(&sample, one)?,
            None => one.header.clone(),
        });
    }
    let report = &reports[0];
    json.object(|json| {
        json.key("form").string("delimited");
        json.key("encoding").string(report.encoding.name());
        json.key("encoding_why").string(&report.encoding_why);
        json.key("bytes").number(report.bytes);
        json.key("records").number(report.records);
        json.key("layouts").array(|json| {
            let survivors = reports.iter().flat_map(|report| &report.survivors);
            for (one, header) in survivors.zip(&headers) {
                let (left, why): (&[bool], _) = match header {
                    Header::Yes(why) => (&[true], Some(why.as_str())),
                    Header::No(why) => (&[false], Some(why.as_str())),
                    Header::Open => (&[true, false], None),
                };
                json.object(|json| {
                    describe(
                        json,
                        &one.layout.delimiter,
                        one.layout.quote,
                        one.layout.escape,
                    );
                    json.key("comment").optional(one.layout.comment.as_deref());
                    json.key("skip_lines").number(one.layout.skip_lines);
                    json.key("cells").number(one.cells);
                    json.key("first").array(|json| {
                        for cell in &one.first {
                            json.string(cell);
                        }
                    });
                    json.key("header").array(|json| {
                        for header in left {
                            json.boolean(*header);
                        }
                    });
                    json.key("header_why").optional(why);
                });
            }
        });
        json.key("ruled_out").array(|json| {
            for one in &report.eliminated {
                json.object(|json| {
                    describe(json, &one.delimiter, one.quote, one.escape);
                    json.key("why").string(&one.why);
                    if let Some((record, offset)) = one.record {
                        json.key("record").number(record);
                        json.key("offset").number(offset);
                    }
                });
            }
        });
    });
    Ok(json.finish())
}

fn describe(json: &mut Json, delimiter: &str, quote: Option<u8>, escape: Escape) {
    json.key("delimiter").string(delimiter);
    let quote = quote.map(|quote| char::from(quote).to_string());
    json.key("quote").optional(quote.as_deref());
    json.key("escape").string(match escape {
        Escape::None => "none",
        Escape::Doubled => "double",
        Escape::Byte(_) => "backslash",
    });
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

fn header_by_types(sample: &[u8], one: &Survivor) -> Result<Header, CoreError> {
    let mut inference = DelimitedInference::default();
    inference.add(&SliceSource(sample), &one.layout, 1)?;
    Ok(match inference.header_fits() {
        Some(true) => Header::No("the first record has values of the columns' types".to_owned()),
        Some(false) => Header::Yes(
            "a cell of the first record contradicts the type that all below it have".to_owned(),
        ),
        None => Header::Open,
    })
}
