//! Comments above and within a table, and those that name its cells.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

use std::sync::Arc;

use arrow_array::cast::AsArray;
use casparian_core::dataset::{Dataset, Output};
use casparian_core::delimited::DelimitedDecoder;
use casparian_core::delimited::dialect::Asked;
use casparian_core::error::CoreError;
use casparian_core::infer::form;
use casparian_core::source::SliceSource;
use serde_json::{Value, json};

const LOG: &str = "#Software: Microsoft Internet Information Services 10.0\n#Version: 1.0\n#Date: 2026-03-01 00:00:00\n\
    #Fields: date time c-ip\n2026-03-01 10:00:00 10.0.0.1\n2026-03-01 10:00:01 10.0.0.2\n";

fn found(text: &str, asked: &Asked) -> Value {
    serde_json::from_str(&form(&SliceSource(text.as_bytes()), asked, None).unwrap()).unwrap()
}

/// Delimiter, comment, skipped lines and header of each reading that is left.
fn left(text: &str) -> Vec<(String, Option<String>, u64, Value)> {
    let found = found(text, &Asked::default());
    let layouts = found["layouts"].as_array().unwrap().clone();
    layouts
        .iter()
        .map(|one| {
            (
                one["delimiter"].as_str().unwrap().to_owned(),
                one["comment"].as_str().map(str::to_owned),
                one["skip_lines"].as_u64().unwrap(),
                one["header"].clone(),
            )
        })
        .collect()
}

fn reading(
    delimiter: &str,
    comment: Option<&str>,
    skip: u64,
    header: &[bool],
) -> Vec<(String, Option<String>, u64, Value)> {
    vec![(
        delimiter.to_owned(),
        comment.map(str::to_owned),
        skip,
        json!(header),
    )]
}

#[test]
fn lines_above_a_table_are_found_where_they_are_evident() {
    let with_comments = "# made by x\n# on a day, late\nname,n\nx,1\ny,2\n";
    assert_eq!(left(with_comments), reading(",", Some("#"), 0, &[true]));
    assert_eq!(
        left("// made\nname;n\nx;1\ny;2\n"),
        reading(";", Some("//"), 0, &[true])
    );
    assert_eq!(
        left("Report of a day\n\nname,n\nx,1\ny,2\n"),
        reading(",", None, 1, &[true])
    );
    assert_eq!(left("name,n\nx,1\n"), reading(",", None, 0, &[true]));
    assert_eq!(left(LOG), reading(" ", Some("#"), 0, &[false]));
}

#[test]
fn a_header_that_may_be_a_comment_is_a_question() {
    let left = left("#name,n\nx,1\ny,2\n");
    let comments: Vec<_> = left.iter().map(|one| one.1.as_deref()).collect();
    assert_eq!(comments, [None, Some("#")]);
    assert_eq!((&left[0].3, &left[1].3), (&json!([true]), &json!([false])));
}

#[test]
fn what_is_above_a_damaged_record_is_no_title() {
    assert!(left("a,b\n1,2\n3,4,5\n6,7\n8,9\n").is_empty());
    let asked = Asked {
        above_is_known: true,
        ..Asked::default()
    };
    let layouts = found("# x\na,b\n1,2\n", &asked)["layouts"].clone();
    assert_eq!(
        layouts,
        json!([]),
        "somebody said that there is nothing above"
    );
}

fn contract(headers: &Value) -> Arc<Dataset> {
    let column =
        |name: &str| json!({"name": name, "source": name, "type": "utf8", "nullable": true});
    let document = json!({
        "schema_version": 1, "table": "web", "parser": "text.delimited", "match": ["*.log"],
        "layout": {"delimiter": " ", "quote": null, "escape": "none", "header": false, "comment": "#", "headers": headers},
        "columns": [column("date"), column("time"), column("ip")],
    });
    Arc::new(Dataset::parse(&document.to_string()).unwrap())
}

/// Rows as `date time ip`, and how many records were set aside.
fn read(text: &str, headers: &Value) -> Result<(Vec<String>, usize), CoreError> {
    let mut decoder = DelimitedDecoder::new(
        SliceSource(text.as_bytes()),
        contract(headers),
        100,
        1 << 20,
    )?;
    let (mut rows, mut aside) = (Vec::new(), 0);
    while let Some((output, batch)) = decoder.next_batch()? {
        if output != Output::Rows {
            aside += batch.num_rows();
            continue;
        }
        for row in 0..batch.num_rows() {
            let cell = |name: &str| {
                batch
                    .column_by_name(name)
                    .unwrap()
                    .as_string::<i32>()
                    .value(row)
                    .to_owned()
            };
            rows.push(format!("{} {} {}", cell("date"), cell("time"), cell("ip")));
        }
    }
    Ok((rows, aside))
}

#[test]
fn a_directive_names_the_cells_of_the_records_below_it() {
    let headers = json!([["date", "time", "ip"], ["ip", "date", "time"]]);
    let text = "#Version: 1.0\n#Fields: ip date time\na b c\n#Fields: date time ip\nb c a\nb c\n";
    let (rows, aside) = read(text, &headers).unwrap();
    assert_eq!(
        (rows, aside),
        (vec!["b c a".to_owned(), "b c a".to_owned()], 1)
    );
}

#[test]
fn names_that_the_contract_does_not_know_are_drift_wherever_they_stand() {
    let headers = json!([["date", "time", "ip"]]);
    for text in [
        "#Fields: date ip time\na b c\n",
        "#Fields: date time ip\na b c\n#Fields: date ip time\na c b\n",
    ] {
        let error = read(text, &headers).unwrap_err();
        assert!(
            matches!(&error, CoreError::Drift { difference, .. } if difference.contains("moved")),
            "{error}"
        );
    }
    assert_eq!(read("a b c\n", &headers).unwrap().0, ["a b c"]);
    let both = json!([["date", "time", "ip"], ["ip", "date", "time"]]);
    assert!(
        matches!(read("a b c\n", &both), Err(CoreError::Drift { .. })),
        "nothing says which"
    );
}

#[test]
fn a_directive_is_read_wherever_blocks_of_a_file_end() {
    let headers = json!([["date", "time", "ip"], ["ip", "date", "time"]]);
    let row = "#Fields: date time ip\nb c a\n";
    for shift in 0..24 {
        let padding = (256 << 10) - row.len() - shift;
        let text = format!(
            "{row}{}\n#Fields: ip date time\na b c\n",
            "#".repeat(padding)
        );
        let (rows, aside) = read(&text, &headers).unwrap();
        assert_eq!(
            (rows, aside),
            (vec!["b c a".to_owned(), "b c a".to_owned()], 0),
            "{shift}"
        );
    }
}
