//! The walk against the decoder's reader, which it shares nothing with but the layout.

use proptest::prelude::*;

use super::*;
use crate::delimited::{Kind, Records};
use crate::source::SliceSource;

/// What the reader sees, counted as an account.
fn by_reader(raw: &[u8], layout: &Layout) -> (Account, Vec<(u64, u64, Kind)>) {
    let mut records = Records::new(SliceSource(raw), layout).unwrap();
    let mut account = Account::empty(Unit::Record, Windows::new(0, WINDOW_BYTES).unwrap());
    let mut header = layout.header;
    let mut units = Vec::new();
    while let Some(record) = records.next().unwrap() {
        units.push((record.offset, record.length, record.kind));
        let is_unit = matches!(record.kind, Kind::Row | Kind::Faulty(_));
        if is_unit && !std::mem::take(&mut header) {
            account.present += 1;
            account.windows.add(record.offset, record.length).unwrap();
        } else {
            account.blank_units += 1;
            account.blank_bytes += record.length;
        }
    }
    (account, units)
}

fn assert_agree(raw: &[u8], layout: &Layout) {
    let (expected, units) = by_reader(raw, layout);
    let walked = account_delimited(&SliceSource(raw), layout).unwrap();
    assert_eq!(walked, expected, "{layout:?}\n{units:?}");
    let mut end = 0;
    for (offset, length, _) in units {
        assert_eq!(offset, end);
        assert!(length > 0);
        end += length;
    }
    assert_eq!(end, raw.len() as u64);
}

fn layouts() -> impl Strategy<Value = Layout> {
    let delimiter = prop_oneof![
        Just(","),
        Just("||"),
        Just("\t"),
        Just(" "),
        Just("a,"),
        Just("ä"),
        Just("€")
    ];
    let quoting = prop_oneof![
        Just((Some(b'"'), Escape::Doubled)),
        Just((Some(b'"'), Escape::None)),
        Just((Some(b'\''), Escape::Byte(b'\\'))),
        Just((None, Escape::None)),
        Just((None, Escape::Byte(b'\\'))),
    ];
    let encoding = prop_oneof![
        3 => Just(Encoding::Utf8),
        1 => Just(Encoding::Utf16Le),
        1 => Just(Encoding::Utf16Be),
        1 => Just(Encoding::Latin1),
        1 => Just(Encoding::Cp1252),
    ];
    let limits = prop_oneof![
        Just((1 << 20, 8 << 20)),
        (1usize..40, 1usize..90).prop_map(|(quoted, record)| (quoted, record)),
    ];
    let comment = prop_oneof![3 => Just(None), 1 => Just(Some("#")), 1 => Just(Some("ab"))];
    (
        delimiter,
        quoting,
        encoding,
        limits,
        comment,
        0u64..3,
        any::<bool>(),
    )
        .prop_map(
            |(
                delimiter,
                (quote, escape),
                encoding,
                (quoted, record),
                comment,
                skip_lines,
                header,
            )| {
                Layout {
                    delimiter: delimiter.to_owned(),
                    quote,
                    escape,
                    header,
                    skip_lines,
                    comment: comment.map(str::to_owned),
                    encoding,
                    quoted_bytes_max: quoted,
                    record_bytes_max: record,
                }
            },
        )
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a,\"'\\\\\n\r| \t#bä€]{0,200}".prop_map(String::into_bytes),
        "(\\PC{0,9}[,\n\"]){0,60}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..300),
        proptest::collection::vec(
            prop_oneof![Just(b'"'), Just(b'\n'), Just(b','), Just(0)],
            0..300
        ),
    ]
}

fn encoded(text: &[u8], encoding: Encoding, mark: bool) -> Vec<u8> {
    let lossy = String::from_utf8_lossy(text);
    let lossy = if mark {
        format!("\u{FEFF}{lossy}")
    } else {
        lossy.into_owned()
    };
    match encoding {
        Encoding::Utf16Le => lossy.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Encoding::Utf16Be => lossy.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        _ if mark => [b"\xEF\xBB\xBF", text].concat(),
        _ => text.to_vec(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn walk_and_reader_see_the_same_units(
        layout in layouts(), text in texts(), mark: bool, as_bytes: bool,
    ) {
        let raw = if as_bytes { text } else { encoded(&text, layout.encoding, mark) };
        if layout.check().is_ok() {
            assert_agree(&raw, &layout);
        }
    }
}

#[test]
fn the_real_limits_are_kept_on_both_sides() {
    let mut text = b"a,b\n\"open".to_vec();
    text.extend(std::iter::repeat_n(&b"xxxxxxx\n"[..], 200_000).flatten());
    text.extend_from_slice(b"\"end,1\n2,3\n");
    assert_agree(&text, &Layout::default());
    let mut long = b"a,b\n".to_vec();
    long.extend(std::iter::repeat_n(b'y', 9 << 20));
    long.extend_from_slice(b"\n1,2\n");
    assert_agree(&long, &Layout::default());
    let (account, _) = by_reader(&long, &Layout::default());
    assert_eq!(account.present, 2);
}

#[test]
fn an_account_that_walks_a_hostile_text_ends_soon() {
    // Each line leaves a quote open, whether one was open before it or not.
    let text = b"a\",\"\n".repeat(400_000);
    assert_agree(&text, &Layout::default());
}
