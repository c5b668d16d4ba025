//! A parser that is a program: lines of `key value` text. `build.sh` links it without a dynamic loader.

mod bridge;

use std::io::{BufRead, BufReader};

use bridge::{Batch, Kind, Rows, Source};

fn main() -> std::io::Result<()> {
    bridge::serve(|job, source, rows| {
        let separator = job.config.get("separator").text();
        parse(&separator, source, rows).map_err(|error| error.to_string())
    })
}

/// Rows, lines that are set aside, and blank lines together cover the file: so the ledger balances.
fn parse(separator: &str, source: &mut Source, rows: &mut Rows) -> std::io::Result<()> {
    let mut settings = Batch::new(&[Kind::Bytes8, Kind::Utf8, Kind::Utf8]); // line_number, key, value
    let mut reader = BufReader::with_capacity(1 << 20, &mut source.file);
    let (mut offset, mut number, mut line) = (0, 0_u64, Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        number += 1;
        if !line.trim_ascii().is_empty() {
            match std::str::from_utf8(&line).ok().and_then(|text| text.trim_end().split_once(separator)) {
                Some((key, value)) => {
                    settings.begin(offset, line.len() as u64, 0);
                    settings.put(0, Some(&number.to_le_bytes()));
                    settings.put(1, Some(key.as_bytes()));
                    settings.put(2, Some(value.as_bytes()));
                    rows.send_if_full(1, &mut settings)?;
                }
                None => rows.quarantine(offset, &line, "line.no_separator", "the line is not `key value`")?,
            }
        }
        offset += line.len() as u64;
        line.clear();
    }
    rows.send(1, &mut settings)
}
