//! Every type of value, alone and as an array, and every kind of event: to rows, to XML, to JSON.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod evtx_world;

use casparian_core::evtx::{RecordPlace, RenderedRecord, render_record};
use casparian_core::flags::{INLINE, LOSSY_TEXT, NONE, RECOVERED, STRANGE_SYSTEM};
use casparian_core::source::SliceSource;
use evtx_world::*;

const SID: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
const SID_TEXT: &str = "S-1-5-18";
/// 2021-03-06T04:07:33.194Z, a Saturday.
const SYSTEMTIME: [u8; 16] = [0xe5, 7, 3, 0, 6, 0, 6, 0, 4, 0, 7, 0, 33, 0, 194, 0];

/// Type, bytes of one value, its text. [MS-EVEN6] 2.2.12.
fn scalars() -> Vec<(u8, Vec<u8>, &'static str)> {
    vec![
        (0x01, utf16("text"), "text"),
        (0x02, b"ansi\x80".to_vec(), "ansi€"),
        (0x03, vec![0x80], "-128"),
        (0x04, vec![0x80], "128"),
        (0x05, vec![0xfe, 0xff], "-2"),
        (0x06, vec![0xfe, 0xff], "65534"),
        (0x07, vec![0xfe, 0xff, 0xff, 0xff], "-2"),
        (0x08, vec![0xfe, 0xff, 0xff, 0xff], "4294967294"),
        (0x09, i64::MIN.to_le_bytes().into(), "-9223372036854775808"),
        (0x0a, u64::MAX.to_le_bytes().into(), "18446744073709551615"),
        (0x0b, 1.5_f32.to_le_bytes().into(), "1.5"),
        (0x0c, (-0.25_f64).to_le_bytes().into(), "-0.25"),
        (0x0d, 1_u32.to_le_bytes().into(), "true"),
        (0x0f, vec![0x11; 16], "11111111-1111-1111-1111-111111111111"),
        (0x10, 0xfff_u64.to_le_bytes().into(), "0xfff"),
        (
            0x11,
            FILETIME.to_le_bytes().into(),
            "2016-08-26T00:00:12.3456789Z",
        ),
        (0x12, SYSTEMTIME.into(), "2021-03-06T04:07:33.194Z"),
        (0x13, SID.into(), SID_TEXT),
        (0x14, 0xc000_006d_u32.to_le_bytes().into(), "0xc000006d"),
        (
            0x15,
            (1_u64 << 63).to_le_bytes().into(),
            "0x8000000000000000",
        ),
        (0x20, 7_u64.to_le_bytes().into(), "0x7"),
        (0x23, utf16("<x/>"), "<x/>"),
    ]
}

/// An event whose EventData holds one `Data` named `V` with the value of slot 0.
fn holder() -> Node {
    let data = with("Data", vec![("Name", text("V"))], vec![Node::Slot(0)]);
    element("Event", vec![element("EventData", vec![data])])
}

fn both(definition: &Node, values: &[(u8, Value)]) -> (Outcome, RenderedRecord) {
    let mut chunk = ChunkBuilder::new();
    chunk.record(1, GUID_OUTER, definition, values);
    let (at, size) = chunk.records[0];
    let file = log(&[chunk.finish()]);
    let place = RecordPlace {
        offset: (FILE_HEADER_BYTES + at) as u64,
        length: size as u64,
        carved: false,
    };
    let rendered = render_record(&SliceSource(file.as_slice()), place).unwrap();
    (decode(&file), rendered)
}

#[test]
fn each_type_is_one_item_with_its_type_and_the_text_of_its_element() {
    let mut table = scalars();
    table.push((0x0e, vec![0, 0xab], "00AB"));
    for (type_code, value, expected) in table {
        let (outcome, rendered) = both(&holder(), &[(type_code, bytes(&value))]);
        let item = (Some("V".into()), Some(expected.to_owned()), type_code);
        assert_eq!(outcome.items(), [[item]], "{type_code:#04x}");
        assert_eq!(outcome.flags(), [NONE]);
        let shown = match type_code {
            0x0f => format!(">{{{expected}}}<"),
            _ => format!(">{}<", expected.replace('<', "&lt;").replace('>', "&gt;")),
        };
        assert!(
            rendered.xml.contains(&shown),
            "{type_code:#04x}: {}",
            rendered.xml
        );
    }
}

#[test]
fn each_array_is_one_item_and_one_element_for_each_value() {
    for (type_code, value, expected) in scalars() {
        let separator: &[u8] = match type_code {
            0x01 | 0x23 => &[0, 0],
            0x02 => &[0],
            _ => &[],
        };
        let array = [value.as_slice(), separator].concat().repeat(3);
        let array_type = type_code | 0x80;
        let (outcome, rendered) = both(&holder(), &[(array_type, bytes(&array))]);
        let item = (Some("V".into()), Some(expected.to_owned()), array_type);
        assert_eq!(outcome.items(), [vec![item; 3]], "{array_type:#04x}");
        assert_eq!(rendered.xml.matches("<Data Name=\"V\">").count(), 3);
        let json: serde_json::Value = serde_json::from_str(&rendered.json).unwrap();
        let items = json["Event"]["EventData"]["V"].as_array().unwrap();
        assert_eq!(items.len(), 3, "{array_type:#04x}");
        assert!(items.iter().all(|item| *item == items[0]));
    }
}

#[test]
fn sizes_have_four_bytes_too_and_an_array_of_them_as_well() {
    let (outcome, _) = both(&holder(), &[(0x10, bytes(&[1, 0, 0, 0]))]);
    assert_eq!(outcome.shown(), ["V=0x1"]);
    let (outcome, _) = both(
        &holder(),
        &[(0x90, bytes(&[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]))],
    );
    assert_eq!(outcome.shown(), ["V=0x1", "V=0x2", "V=0x3"]);
}

#[test]
fn a_value_of_the_wrong_size_is_quarantined_whole_and_still_shown_as_bytes() {
    let table: &[(u8, &[u8])] = &[
        (0x03, &[1, 2]),
        (0x08, &[1, 2, 3]),
        (0x0d, &[1]),
        (0x0f, &[1; 15]),
        (0x10, &[1; 5]),
        (0x11, &[1; 7]),
        (0x12, &[1; 15]),
        (0x13, &[1, 9, 0, 0, 0, 0, 0, 5]),
        (0x15, &[1; 4]),
        (0x86, &[1, 2, 3]),
        (0x93, &[1, 9, 0]),
    ];
    for (type_code, value) in table {
        let mut chunk = ChunkBuilder::new();
        chunk.record(1, GUID_OUTER, &holder(), &[(*type_code, bytes(value))]);
        let outcome = decode(&log(&[chunk.finish()]));
        assert_eq!(outcome.reasons(), ["binxml.value_size"], "{type_code:#04x}");
    }
    let (_, rendered) = both(&holder(), &[(0x08, bytes(&[1, 2, 3]))]);
    assert!(rendered.xml.contains(">010203<"));
}

#[test]
fn an_unpaired_surrogate_is_flagged_and_its_bytes_are_where_the_row_says() {
    let lone = [b'a', 0, 0x00, 0xd8, b'b', 0];
    let mut chunk = ChunkBuilder::new();
    chunk.record(1, GUID_OUTER, &holder(), &[(0x01, bytes(&lone))]);
    let file = log(&[chunk.finish()]);
    let outcome = decode(&file);
    assert_eq!(outcome.shown(), ["V=a\u{fffd}b"]);
    assert_eq!(outcome.flags(), [LOSSY_TEXT]);
    let offset = outcome.u64s("@offset")[0].unwrap() as usize;
    let length = outcome.u64s("@length")[0].unwrap() as usize;
    let record = &file[offset..offset + length];
    assert!(record.windows(6).any(|bytes| bytes == lone));
}

#[test]
fn events_of_every_payload_and_about_themselves() {
    let system = || element("System", vec![element("EventID", vec![Node::Slot(0)])]);
    let id = || (0x06, bytes(&7_u16.to_le_bytes()));
    let user_data = element(
        "UserData",
        vec![with(
            "Operation",
            vec![("xmlns", text("urn:x"))],
            vec![element("Code", vec![Node::Slot(1)])],
        )],
    );
    let error = element(
        "ProcessingErrorData",
        vec![
            element("ErrorCode", vec![Node::Slot(1)]),
            element("DataItemName", vec![text("Name")]),
            element("EventPayload", vec![Node::Slot(2)]),
        ],
    );
    let rendering = with(
        "RenderingInfo",
        vec![("Culture", text("en-US"))],
        vec![
            element("Message", vec![Node::Slot(3)]),
            element("Keywords", vec![element("Keyword", vec![text("Audit")])]),
        ],
    );
    let definition = element("Event", vec![system(), user_data, error, rendering]);
    let values = [
        id(),
        (0x08, bytes(&15_003_u32.to_le_bytes())),
        (0x0e, bytes(&[1, 2])),
        string("said so"),
    ];
    let (outcome, rendered) = both(&definition, &values);
    assert_eq!(outcome.texts("payload_kind"), [Some("UserData".to_owned())]);
    assert_eq!(outcome.u32s("event_id"), [Some(7)]);
    assert_eq!(
        outcome.shown(),
        [
            "Operation/Code=15003",
            "ProcessingErrorData/ErrorCode=15003",
            "ProcessingErrorData/DataItemName=Name",
            "ProcessingErrorData/EventPayload=0102",
            "RenderingInfo/@Culture=en-US",
            "RenderingInfo/Message=said so",
            "RenderingInfo/Keywords/Keyword=Audit",
        ]
    );
    assert!(rendered.xml.contains("<Operation xmlns=\"urn:x\">"));
    assert!(rendered.xml.contains("<RenderingInfo Culture=\"en-US\">"));
}

#[test]
fn system_values_that_are_absent_doubled_or_strange_are_never_lost() {
    let system = element(
        "System",
        vec![
            with(
                "Provider",
                vec![("EventSourceName", Node::Slot(0)), ("Odd", text("1"))],
                vec![],
            ),
            element("EventID", vec![text("0x1F")]),
            element("EventID", vec![text("8")]),
            element("Level", vec![text("999")]),
            with(
                "TimeCreated",
                vec![("SystemTime", text("yesterday"))],
                vec![],
            ),
            element("Brand", vec![element("New", vec![text("x")])]),
        ],
    );
    let definition = element("Event", vec![system]);
    let (outcome, _) = both(&definition, &[string("Old Source")]);
    assert_eq!(
        outcome.texts("event_source_name"),
        [Some("Old Source".to_owned())]
    );
    assert_eq!(outcome.u32s("event_id"), [Some(31)]);
    assert_eq!(outcome.u8s("level"), [None]);
    assert_eq!(outcome.times("time_created"), [None]);
    assert_eq!(outcome.texts("provider_name"), [None]);
    assert_eq!(outcome.flags(), [STRANGE_SYSTEM]);
    assert_eq!(
        outcome.shown(),
        [
            "System/Provider/@Odd=1",
            "System/EventID=8",
            "System/Level=999",
            "System/TimeCreated/@SystemTime=yesterday",
            "System/Brand/New=x",
        ]
    );
}

#[test]
fn binxml_in_binxml_with_and_without_templates() {
    let inner = element(
        "EventData",
        vec![with(
            "Data",
            vec![("Name", text("In"))],
            vec![Node::Slot(0)],
        )],
    );
    let middle = element("Wrap", vec![Node::Slot(0)]);
    let outer = element(
        "Event",
        vec![element("UserData", vec![Node::Slot(0)]), Node::Slot(1)],
    );
    let deep = Value::Instance(
        [0x33; 16],
        middle,
        vec![(0x21, Value::Inline(element("Leaf", vec![text("deep")])))],
    );
    let data = Value::Instance(GUID_PAYLOAD, inner, vec![string("value")]);
    let (outcome, rendered) = both(&outer, &[(0x21, deep), (0x21, data)]);
    assert_eq!(outcome.shown(), ["Wrap/Leaf=deep", "EventData/In=value"]);
    assert_eq!(outcome.flags(), [INLINE]);
    let xml: String = rendered.xml.split_whitespace().collect();
    assert_eq!(
        xml,
        "<Event><UserData><Wrap><Leaf>deep</Leaf></Wrap></UserData>\
         <EventData><DataName=\"In\">value</Data></EventData></Event>"
    );
}

#[test]
fn processing_instructions_are_passed_over() {
    let mut chunk = ChunkBuilder::new();
    chunk.begin_record(1);
    chunk.put(&[0x0f, 1, 1, 0]);
    chunk.put(&[0x0a]);
    chunk.name("target");
    chunk.put(&[0x0b]);
    chunk.counted("data");
    chunk.node(
        &element(
            "Event",
            vec![element("EventData", vec![element("Data", vec![text("x")])])],
        ),
        false,
    );
    chunk.put(&[0x0a]);
    chunk.name("target");
    chunk.put(&[0x0b]);
    chunk.counted("more");
    chunk.put(&[0]);
    chunk.end_record();
    let (at, size) = chunk.records[0];
    let file = log(&[chunk.finish()]);
    assert_eq!(decode(&file).shown(), ["<null>=x"]);
    let place = RecordPlace {
        offset: (FILE_HEADER_BYTES + at) as u64,
        length: size as u64,
        carved: false,
    };
    let rendered = render_record(&SliceSource(file), place).unwrap();
    assert!(rendered.xml.contains("<Data>x</Data>"));
}

#[test]
fn a_record_that_ends_behind_the_free_space_offset_is_live_all_the_same() {
    let builder = usual_chunk(1, 6);
    let (at, size) = builder.records[3];
    // The offset lies, and the chunk is sealed again over the lie.
    let file = log(&[builder.finish_at(at + size / 2)]);
    let outcome = decode(&file);
    assert_eq!(outcome.ids(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(outcome.flags()[..4], [NONE; 4]);
    assert!(outcome.flags()[4..].iter().all(|row| row & RECOVERED != 0));
    assert!(outcome.reasons().is_empty());
}
