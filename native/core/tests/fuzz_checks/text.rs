//! Text under a contract: decoder and accountant agree, whatever the bytes and the layout.

use std::sync::Arc;

use arrow_array::RecordBatch;
use casparian_core::CoreError;
use casparian_core::account::{account_delimited, account_lines};
use casparian_core::dataset::{Dataset, Output, TextForm};
use casparian_core::delimited::{DelimitedDecoder, Encoding, Escape, Layout, dialect};
use casparian_core::jsonl::JsonlDecoder;
use casparian_core::source::SliceSource;
use casparian_core::tally::Tally;

use super::allocation::measured;
use super::batches::{add_units, check_columns};

/// What any text may cost, in bytes: windows of the reader and the walk, and one batch.
const MEMORY_BASE: usize = 32 << 20;
/// What each byte may cost beyond that: its marks, its cells, its row.
const MEMORY_FACTOR: usize = 64;

const DELIMITERS: [&str; 8] = [",", ";", "\t", "||", " ", "é", "ab", "\u{1}"];
const QUOTINGS: [(Option<u8>, Escape); 5] = [
    (Some(b'"'), Escape::Doubled),
    (Some(b'\''), Escape::Byte(b'\\')),
    (Some(b'"'), Escape::None),
    (None, Escape::None),
    (None, Escape::Byte(b'\\')),
];

/// `[choices, 2 bytes][text]`: the choices are of delimiter, quoting, encoding, header, comment and limits.
pub(crate) fn delimited(bytes: &[u8]) {
    let Some(([first, second], text)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let (quote, escape) = QUOTINGS[usize::from(first >> 3) % QUOTINGS.len()];
    let is_small = second & 0x40 != 0;
    let default = Layout::default();
    let layout = Layout {
        delimiter: DELIMITERS[usize::from(first & 7)].to_owned(),
        quote,
        escape,
        header: second & 0x10 != 0,
        comment: (second & 0x20 != 0).then(|| "#".to_owned()),
        skip_lines: u64::from(second >> 7),
        encoding: Encoding::NAMES[usize::from(second & 7) % Encoding::NAMES.len()].1,
        quoted_bytes_max: if is_small {
            16
        } else {
            default.quoted_bytes_max
        },
        record_bytes_max: if is_small {
            48
        } else {
            default.record_bytes_max
        },
    };
    let columns = r#"{"name":"a","type":"utf8","null":["","-"]},{"name":"b","type":"int64"},
        {"name":"c","type":"timestamp[us, UTC]","format":"iso8601"}"#;
    let mut dataset = dataset(
        "text.delimited",
        columns,
        r#""headers":[["a"],["a","b"],["c","a","b"]]"#,
    );
    dataset.form = TextForm::Delimited {
        layout: layout.clone(),
        headers: [&["a"][..], &["a", "b"], &["c", "a", "b"]]
            .map(|header| header.iter().map(|cell| (*cell).to_owned()).collect())
            .to_vec(),
    };
    let check = || {
        let account = account_delimited(&SliceSource(text), &layout).unwrap();
        let mut decoder =
            DelimitedDecoder::new(SliceSource(text), Arc::new(dataset), 64, 1 << 16).unwrap();
        let windows = &account.windows;
        let tally = Tally::new(windows.origin(), windows.window_bytes()).unwrap();
        if let Some(tally) = drained(text, tally, || decoder.next_batch()) {
            assert_eq!(tally.compare(&account).unwrap(), []);
        }
    };
    bounded(text, check);
    bounded(text, || {
        dialect::examine(&SliceSource(text), 1 << 16, &dialect::Asked::default()).unwrap();
    });
}

/// A text of any content, read as JSON Lines.
pub(crate) fn json_lines(text: &[u8]) {
    let columns = r#"{"name":"a","source":["a"],"type":"utf8"},{"name":"n","source":["o","n"],"type":"float64"},
        {"name":"j","source":["j"],"type":"utf8","meaning":"json"},{"name":"l","source":["l"],"type":"list<int64>"}"#;
    let dataset = dataset(
        "text.jsonl",
        columns,
        r#""known":[["a"],["o","n"],["j"],["l"],["o","x"]]"#,
    );
    bounded(text, || {
        let account = account_lines(&SliceSource(text), None).unwrap();
        let mut decoder =
            JsonlDecoder::new(SliceSource(text), Arc::new(dataset), 64, 1 << 16).unwrap();
        let windows = &account.windows;
        let tally = Tally::new(windows.origin(), windows.window_bytes()).unwrap();
        if let Some(tally) = drained(text, tally, || decoder.next_batch()) {
            assert_eq!(tally.compare(&account).unwrap(), []);
        }
    });
}

fn dataset(parser: &str, columns: &str, layout: &str) -> Dataset {
    let document = format!(
        r#"{{"schema_version":1,"table":"t","parser":"{parser}","match":["*"],"layout":{{{layout}}},"columns":[{columns}]}}"#
    );
    Dataset::parse(&document).unwrap()
}

/// Every batch of a decoder in the tally; none when the text is not one of the contract.
fn drained(
    text: &[u8],
    mut tally: Tally,
    mut next: impl FnMut() -> Result<Option<(Output, RecordBatch)>, CoreError>,
) -> Option<Tally> {
    loop {
        match next() {
            Ok(Some((_, batch))) => {
                check_columns(&batch);
                add_units(&batch, text.len() as u64, &mut tally);
            }
            Ok(None) => return Some(tally),
            Err(CoreError::Drift { offset, .. }) => {
                assert!(offset <= text.len() as u64);
                return None;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn bounded(text: &[u8], check: impl FnOnce()) {
    let (peak, ()) = measured(check);
    let bound = MEMORY_BASE + MEMORY_FACTOR * text.len();
    assert!(
        peak <= bound,
        "{peak} bytes of memory for {}, the bound is {bound}",
        text.len()
    );
}
