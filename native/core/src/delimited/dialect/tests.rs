//! Dialects of texts that are known.

use super::*;
use crate::source::SliceSource;

fn report(text: &str) -> Report {
    examine(&SliceSource(text.as_bytes()), 1 << 20, &Asked::default()).unwrap()
}

fn only(text: &str) -> Survivor {
    let report = report(text);
    let [one] = &report.survivors[..] else {
        panic!("{text:?}: {:#?}", report.survivors);
    };
    one.clone()
}

#[test]
fn the_dialect_of_ordinary_texts_is_certain() {
    let cases = [
        (
            "time,src,n\n2024-01-02 10:11:12,a b,1\n2024-01-02 10:11:13,c d,2\n",
            ",",
            3,
        ),
        ("a;b\n1,5;2,7\n3,1;4,2\n", ";", 2),
        ("a\tb c\n1\tx y\n2\tz\n", "\t", 2),
        ("a||b\n1||x\n2||y\n", "||", 2),
        ("a\u{1}b\n1\u{1}x\n", "\u{1}", 2),
        ("name,text\nx,\"a, b\"\ny,\"c \"\"d\"\", e\"\n", ",", 2),
        ("2024-01-02 10:11:12,a,1\n2024-01-02 10:11:13,b,2\n", ",", 3),
        ("alpha beta\n1 2\n3 4\n", " ", 2),
    ];
    for (text, delimiter, cells) in cases {
        let found = only(text);
        assert_eq!(
            (found.layout.delimiter.as_str(), found.cells),
            (delimiter, cells),
            "{text:?}"
        );
    }
}

#[test]
fn quotes_and_escapes_are_told_apart() {
    let doubled = only("a,b\n\"x\",\"say \"\"hi\"\", you\"\n");
    assert_eq!(
        (doubled.layout.quote, doubled.layout.escape),
        (Some(b'"'), Escape::Doubled)
    );
    let backslash = only("a,b\n\"x\",\"say \\\"hi\\\", you\"\n");
    assert_eq!(
        (backslash.layout.quote, backslash.layout.escape),
        (Some(b'"'), Escape::Byte(b'\\'))
    );
    let single = only("a,b\n'x','it, is'\n'y','no'\n");
    assert_eq!(single.layout.quote, Some(b'\''));
}

#[test]
fn each_candidate_that_is_ruled_out_says_why_and_where() {
    let report = report("a;b\n1,5;2,7\n3;4,2\n");
    let comma = report
        .eliminated
        .iter()
        .find(|one| {
            one.delimiter == "," && one.quote == Some(b'"') && one.escape == Escape::Doubled
        })
        .unwrap();
    assert_eq!(comma.why, "the record has 3 cells, the first one 1");
    assert_eq!(comma.record, Some((2, 4)));
    assert_eq!(
        report.eliminated.len() + report.survivors.len(),
        DELIMITERS.len() * QUOTINGS.len()
    );
}

#[test]
fn a_text_that_can_be_read_in_two_ways_is_a_question() {
    let delimiters: Vec<_> = report("1,5;2\n3,1;4\n")
        .survivors
        .iter()
        .map(|one| one.layout.delimiter.clone())
        .collect();
    assert_eq!(delimiters, [",", ";"]);
}

#[test]
fn a_header_is_told_by_what_stands_below_it() {
    assert!(matches!(only("a,n\nx,1\ny,2\n").header, Header::Yes(_)));
    assert!(matches!(only("x,1\ny,2\n").header, Header::No(_)));
    assert!(matches!(only("x,a\ny,b\nx,c\n").header, Header::No(_)));
    assert_eq!(only("name,town\nx,a\ny,b\n").header, Header::Open);
}

#[test]
fn encodings_are_told_by_bytes_that_others_do_not_have() {
    let of = |raw: &[u8]| {
        examine(&SliceSource(raw), 1 << 20, &Asked::default())
            .unwrap()
            .encoding
    };
    assert_eq!(of(b"a,b\n\xC3\xA4,1\n"), Encoding::Utf8);
    assert_eq!(of(b"a,b\n\xE4,1\n"), Encoding::Cp1252);
    assert_eq!(of(b"a,b\n\xE4\x81,1\n"), Encoding::Latin1);
    let wide: Vec<u8> = "a,b\n1,2\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(of(&wide), Encoding::Utf16Le);
    let found = examine(&SliceSource(&wide), 1 << 20, &Asked::default()).unwrap();
    assert_eq!(found.survivors.len(), 1);
}

#[test]
fn a_sample_that_parts_a_record_or_a_character_decides_nothing_by_it() {
    let text = "a,b,c\n1,2,3\nä,ö,ü\n".repeat(100);
    for cut in 100..130 {
        let report = examine(&SliceSource(text.as_bytes()), cut, &Asked::default()).unwrap();
        assert_eq!(report.encoding, Encoding::Utf8);
        assert_eq!(report.survivors.len(), 1, "{cut}");
    }
}

#[test]
fn one_column_and_no_text_at_all_are_readings_too() {
    assert_eq!(only("name\nx\ny\n").cells, 1);
    assert!(report("").survivors.len() <= 1);
}

#[test]
fn a_backslash_in_a_value_is_no_escape() {
    let path = only("path,n\n\"C:\\Users\\x\",1\nC:\\y,2\n");
    assert_eq!(path.layout.escape, Escape::Doubled);
    let report = report("path,n\nC:\\Users,1\n");
    let escaped = report
        .eliminated
        .iter()
        .find(|one| one.delimiter == "," && one.escape == Escape::Byte(b'\\'))
        .unwrap();
    assert_eq!(escaped.why, "`\\` stands before `U`, which needs no escape");
    assert_eq!(escaped.record, Some((2, 7)));
}

#[test]
fn records_of_many_widths_are_no_lines_of_one_cell() {
    let report = report("a,b\n1,2,3\n4\n");
    assert!(report.survivors.is_empty());
    let lines = report
        .eliminated
        .iter()
        .find(|one| one.delimiter == ";")
        .unwrap();
    assert_eq!(
        lines.why,
        "the delimiter does not part any record, and `,` does"
    );
}

#[test]
fn what_is_known_rules_out_all_else() {
    let of =
        |text: &str, asked: &Asked| examine(&SliceSource(text.as_bytes()), 1 << 20, asked).unwrap();
    let semicolon = Asked {
        delimiter: Some(";".to_owned()),
        ..Asked::default()
    };
    let [one] = &of("1,5;2\n3,1;4\n", &semicolon).survivors[..] else {
        panic!("not one");
    };
    assert_eq!((one.layout.delimiter.as_str(), one.cells), (";", 2));
    let as_it_is = Asked {
        delimiter: Some(",".to_owned()),
        quote: Some(Some(b'"')),
        ..Asked::default()
    };
    let damaged = "a,b\n1,2,3\n1,2\n";
    assert_eq!(of(damaged, &as_it_is).survivors.len(), 1);
    let strict = Asked {
        strict: true,
        ..as_it_is
    };
    assert_eq!(of(damaged, &strict).survivors, []);
    let behind = Asked {
        skip_lines: 1,
        comment: Some("#".to_owned()),
        ..Asked::default()
    };
    assert_eq!(
        of("Report, of, today\n# x\na,b\n1,2\n", &behind).survivors[0].first,
        ["a", "b"]
    );
}
