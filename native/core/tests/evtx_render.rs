//! A record as XML and as JSON, from its bytes.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod evtx_world;

use casparian_core::evtx::{RecordPlace, RenderedRecord, render_record};
use casparian_core::source::SliceSource;
use evtx_world::*;

fn render(file: &[u8], (at, size): (usize, usize), carved: bool) -> RenderedRecord {
    let place = RecordPlace {
        offset: at as u64,
        length: size as u64,
        carved,
    };
    render_record(&SliceSource(file), place).unwrap()
}

/// The only record of a log, rendered.
fn rendered(definition: &Node, values: &[(u8, Value)]) -> RenderedRecord {
    let mut chunk = ChunkBuilder::new();
    chunk.record(1, GUID_OUTER, definition, values);
    let (at, size) = chunk.records[0];
    let file = log(&[chunk.finish()]);
    render(&file, (FILE_HEADER_BYTES + at, size), false)
}

fn json(rendered: &RenderedRecord) -> serde_json::Value {
    serde_json::from_str(&rendered.json).unwrap()
}

const USUAL: &str = r#"<Event>
  <System>
    <Provider Name="Provider-One" Guid="{CDCDCDCD-CDCD-CDCD-CDCD-CDCDCDCDCDCD}"/>
    <EventID>4625</EventID>
    <Version>1</Version>
    <Level>4</Level>
    <Task>12544</Task>
    <Opcode>2</Opcode>
    <Keywords>0x8010000000000000</Keywords>
    <TimeCreated SystemTime="2016-08-26T00:00:12.3456789Z"/>
    <EventRecordID>1007</EventRecordID>
    <Correlation ActivityID="{ABABABAB-ABAB-ABAB-ABAB-ABABABABABAB}"/>
    <Execution ProcessID="752" ThreadID="4" SessionID="3"/>
    <Channel>Security</Channel>
    <Computer>host.example</Computer>
    <Security UserID="S-1-5-18"/>
  </System>
  <EventData>
    <Data Name="TargetUserName">user-7</Data>
    <Data Name="Status">0xc000006d</Data>
    <Data>7</Data>
  </EventData>
</Event>
"#;

#[test]
fn a_usual_event_is_written_as_windows_writes_it() {
    let chunk = usual_chunk(1, 9);
    let (at, size) = chunk.records[6];
    let file = log(&[chunk.finish()]);
    let rendered = render(&file, (FILE_HEADER_BYTES + at, size), false);
    assert_eq!(rendered.xml, USUAL);
    assert_eq!(rendered.unfit_for_xml, 0);
    let event = &json(&rendered)["Event"];
    assert_eq!(event["System"]["EventID"], 4_625);
    assert_eq!(event["System"]["Execution"]["#attributes"]["ThreadID"], 4);
    assert_eq!(event["System"]["Keywords"], "0x8010000000000000");
    assert_eq!(event["EventData"]["TargetUserName"], "user-7");
    assert_eq!(event["EventData"]["Data"], 7);
}

#[test]
fn a_carved_record_is_rendered_wherever_its_chunk_began() {
    let chunk = usual_chunk(1, 9);
    let ((first, _), (at, size)) = (chunk.records[0], chunk.records[6]);
    let chunk = chunk.finish();
    let with_header = [vec![7; 1_001], chunk.clone()].concat();
    assert_eq!(render(&with_header, (1_001 + at, size), true).xml, USUAL);
    let without = &chunk[first..];
    assert_eq!(render(without, (at - first, size), true).xml, USUAL);
}

#[test]
fn an_array_repeats_its_element_and_an_empty_one_leaves_it_empty() {
    let definition = element(
        "Event",
        vec![element(
            "EventData",
            vec![
                with("Data", vec![("Name", text("Items"))], vec![Node::Slot(0)]),
                with("Data", vec![("Name", text("None"))], vec![Node::Slot(1)]),
                element("Mixed", vec![text("is "), Node::Slot(2)]),
            ],
        )],
    );
    let values = [
        (0x81, bytes(&utf16("a\0\0b\0"))),
        (0x81, bytes(b"")),
        (0x86, bytes(&[1, 0, 2, 0])),
    ];
    let rendered = rendered(&definition, &values);
    assert!(rendered.xml.contains(
        "<Data Name=\"Items\">a</Data>\n    <Data Name=\"Items\"></Data>\n    <Data Name=\"Items\">b</Data>"
    ));
    assert!(rendered.xml.contains("<Data Name=\"None\"/>"));
    assert!(rendered.xml.contains("<Mixed>is [1,2]</Mixed>"));
    let data = &json(&rendered)["Event"]["EventData"];
    assert_eq!(data["Items"], serde_json::json!(["a", "", "b"]));
    assert_eq!(data["None"], serde_json::Value::Null);
}

#[test]
fn optional_values_take_their_element_or_attribute_away() {
    let definition = element(
        "Event",
        vec![
            element("Gone", vec![element("Inner", vec![]), Node::Optional(0)]),
            with(
                "Kept",
                vec![("A", Node::Optional(0)), ("B", Node::Slot(0))],
                vec![],
            ),
            element("Null", vec![Node::Slot(0)]),
            Node::Optional(0),
        ],
    );
    let rendered = rendered(&definition, &[NULL]);
    let xml = "<Event>\n  <Kept B=\"\"/>\n  <Null></Null>\n</Event>\n";
    assert_eq!(rendered.xml, xml);
    assert_eq!(
        json(&rendered),
        serde_json::json!({"Event": {"Kept": {"#attributes": {"B": null}}, "Null": null}})
    );
}

#[test]
fn typed_values_keep_their_type_in_json() {
    let names = [
        "i8", "u64", "r64", "nan", "yes", "odd", "hex", "bin", "guid", "sid", "size",
    ];
    let data = names.iter().enumerate().map(|(slot, name)| {
        with(
            "Data",
            vec![("Name", text(name))],
            vec![Node::Slot(slot as u16)],
        )
    });
    let definition = element("Event", vec![element("EventData", data.collect())]);
    let values = [
        (0x03, bytes(&[0xff])),
        (0x0a, bytes(&u64::MAX.to_le_bytes())),
        (0x0c, bytes(&2.5_f64.to_le_bytes())),
        (0x0c, bytes(&f64::NAN.to_le_bytes())),
        (0x0d, bytes(&1_u32.to_le_bytes())),
        (0x0d, bytes(&16_u32.to_le_bytes())),
        (0x14, bytes(&255_u32.to_le_bytes())),
        (0x0e, bytes(&[0, 0xab])),
        (0x0f, bytes(&[0x22; 16])),
        (0x13, bytes(&[1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0])),
        (0x10, bytes(&[7, 0, 0, 0])),
    ];
    let rendered = rendered(&definition, &values);
    assert_eq!(
        json(&rendered)["Event"]["EventData"],
        serde_json::json!({
            "i8": -1, "u64": u64::MAX, "r64": 2.5, "nan": "NaN", "yes": true, "odd": 16, "hex": "0xff",
            "bin": "00AB", "guid": "22222222-2222-2222-2222-222222222222", "sid": "S-1-5-18", "size": "0x7"
        })
    );
    assert!(
        rendered
            .xml
            .contains(">{22222222-2222-2222-2222-222222222222}<")
    );
}

#[test]
fn nothing_that_acts_on_a_terminal_is_written() {
    let hostile = "\u{1b}[2J\u{202e}x\u{7}\u{9b}<&>\"\r\n\u{200b}\u{e000}";
    let definition = element(
        "Event",
        vec![with("E", vec![("a", Node::Slot(0))], vec![Node::Slot(0)])],
    );
    let rendered = rendered(&definition, &[string(hostile)]);
    for text in [&rendered.xml, &rendered.json] {
        let acts =
            |c: char| (c.is_control() && c != '\n') || ('\u{200b}'..='\u{202e}').contains(&c);
        assert!(!text.contains(acts), "{text:?}");
    }
    assert_eq!(rendered.unfit_for_xml, 4);
    let value = &json(&rendered)["Event"]["E"];
    assert_eq!(value["#text"], hostile);
    assert_eq!(value["#attributes"]["a"], hostile);
    assert!(
        rendered
            .xml
            .contains("&#x202E;x\u{fffd}&#x9B;&lt;&amp;&gt;")
    );
    assert!(rendered.xml.contains("&quot;&#xD;&#xA;"));
}

#[test]
fn text_around_elements_sections_and_references_is_kept() {
    let definition = element(
        "Event",
        vec![element(
            "UserData",
            vec![
                text("before "),
                element("b", vec![Node::CData("<raw>".into())]),
                Node::Entity("amp".into()),
                Node::Entity("odd".into()),
                Node::Character(0x41),
            ],
        )],
    );
    let rendered = rendered(&definition, &[]);
    assert!(
        rendered
            .xml
            .contains("<UserData>before <b>&lt;raw&gt;</b>&amp;&amp;odd;A</UserData>"),
        "{}",
        rendered.xml
    );
    assert_eq!(json(&rendered)["Event"]["UserData"]["b"], "<raw>");
}

#[test]
fn names_that_are_no_names_do_not_break_the_document() {
    let definition = element(
        "Event",
        vec![with("1 <x>", vec![("a b", text("v"))], vec![])],
    );
    let rendered = rendered(&definition, &[]);
    assert!(
        rendered.xml.contains("<___x_ a_b=\"v\"/>"),
        "{}",
        rendered.xml
    );
    assert_eq!(json(&rendered)["Event"]["1 <x>"]["#attributes"]["a b"], "v");
}

#[test]
fn a_place_without_a_record_is_an_error_and_a_bomb_is_one_too() {
    let chunk = usual_chunk(1, 2);
    let (at, size) = chunk.records[1];
    let file = log(&[chunk.finish()]);
    let at = (FILE_HEADER_BYTES + at) as u64;
    let size = size as u64;
    for (offset, length) in [
        (at + 1, size),
        (at, size - 1),
        (0, 100),
        (at, 5),
        (at, 1 << 40),
    ] {
        for carved in [false, true] {
            let place = RecordPlace {
                offset,
                length,
                carved,
            };
            let error = render_record(&SliceSource(file.as_slice()), place).unwrap_err();
            assert_eq!(error.code(), "engine.invalid");
        }
    }
    let data = (0..500).map(|_| element("Data", vec![Node::Slot(0)]));
    let bomb = element("Event", vec![element("EventData", data.collect())]);
    let mut chunk = ChunkBuilder::new();
    chunk.record(1, GUID_OUTER, &bomb, &[(0x0e, bytes(&[1; 30_000]))]);
    let (at, size) = chunk.records[0];
    let file = log(&[chunk.finish()]);
    let place = RecordPlace {
        offset: (FILE_HEADER_BYTES + at) as u64,
        length: size as u64,
        carved: false,
    };
    let error = render_record(&SliceSource(file), place).unwrap_err();
    assert!(error.to_string().contains("many times larger"));
}
