//! What becomes of an event: columns, lists, names and types.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod evtx_world;

use casparian_core::flags;
use evtx_world::*;

/// Nanoseconds since 1970 of [`FILETIME`].
const TIME: i64 = (131_166_432_123_456_789 - 116_444_736_000_000_000) * 100;

fn one(node: &Node) -> Outcome {
    let mut chunk = ChunkBuilder::new();
    chunk.inline_record(1, node);
    decode(&log(&[chunk.finish()]))
}

fn one_from_template(definition: &Node, values: &[(u8, Value)]) -> Outcome {
    let mut chunk = ChunkBuilder::new();
    chunk.record(1, GUID_OUTER, definition, values);
    decode(&log(&[chunk.finish()]))
}

fn event(system: Vec<Node>, payload: Vec<Node>) -> Node {
    let mut children = vec![element("System", system)];
    children.extend(payload);
    element("Event", children)
}

fn data(name: &str, content: Vec<Node>) -> Node {
    with("Data", vec![("Name", text(name))], content)
}

#[test]
fn an_event_from_templates_fills_every_column() {
    let outcome = decode(&log(&[usual_chunk(1, 2).finish()]));
    assert_eq!(outcome.ids(), [1, 2]);
    assert_eq!(outcome.flags(), [flags::NONE; 2]);
    assert_eq!(outcome.u64s("record_id"), [Some(1_001), Some(1_002)]);
    assert_eq!(outcome.times("time_created")[0], Some(TIME));
    assert_eq!(outcome.times("time_written")[0], Some(TIME));
    let first = |column: &str| outcome.texts(column)[0].clone();
    let guid = "CDCDCDCD-CDCD-CDCD-CDCD-CDCDCDCDCDCD";
    assert_eq!(first("provider_name").as_deref(), Some("Provider-One"));
    assert_eq!(first("provider_guid").as_deref(), Some(guid));
    assert_eq!(first("event_source_name"), None);
    assert_eq!(outcome.u32s("event_id")[0], Some(4_625));
    assert_eq!(outcome.u32s("qualifiers")[0], None);
    assert_eq!(outcome.u8s("version")[0], Some(1));
    assert_eq!(outcome.u8s("level")[0], Some(4));
    assert_eq!(outcome.u8s("opcode")[0], Some(2));
    assert_eq!(outcome.u64s("keywords")[0], Some(0x8010_0000_0000_0000));
    assert_eq!(outcome.u32s("process_id")[0], Some(752));
    assert_eq!(outcome.u32s("thread_id")[0], Some(4));
    assert_eq!(first("channel").as_deref(), Some("Security"));
    assert_eq!(first("computer").as_deref(), Some("host.example"));
    assert_eq!(first("user_sid").as_deref(), Some("S-1-5-18"));
    let activity = "ABABABAB-ABAB-ABAB-ABAB-ABABABABABAB";
    assert_eq!(first("activity_id").as_deref(), Some(activity));
    assert_eq!(first("related_activity_id"), None);
    assert_eq!(first("payload_kind").as_deref(), Some("EventData"));
    let template = "22222222-2222-2222-2222-222222222222";
    assert_eq!(first("template_id").as_deref(), Some(template));
    assert_eq!(outcome.u32s("chunk")[0], Some(0));
    let named = |name: &str, value: &str, code| (Some(name.into()), Some(value.into()), code);
    let expected = vec![
        named("System/Execution/@SessionID", "3", 0x08),
        named("TargetUserName", "user-1", 0x01),
        named("Status", "0xc000006d", 0x14),
        (None, Some("7".into()), 0x08),
    ];
    assert_eq!(outcome.items()[0], expected);
    assert!(outcome.quarantine.is_empty());
}

#[test]
fn an_event_without_a_template_fills_the_same_columns() {
    let guid = "{54849625-5478-4994-a5ba-3e3b0328c30d}";
    let node = event(
        vec![
            with(
                "Provider",
                vec![("Name", text("P")), ("Guid", text(guid))],
                vec![],
            ),
            with(
                "EventID",
                vec![("Qualifiers", text("16384"))],
                vec![text("7036")],
            ),
            element("Version", vec![]),
            element("Keywords", vec![text("0x8080000000000000")]),
            with(
                "TimeCreated",
                vec![("SystemTime", text("2016-08-26T00:00:12.3456789Z"))],
                vec![],
            ),
            element("EventRecordID", vec![text("18446744073709551615")]),
            element("Correlation", vec![]),
            with("Security", vec![("UserID", text("S-1-5-20"))], vec![]),
        ],
        vec![
            element(
                "EventData",
                vec![
                    data("a", vec![text("1")]),
                    data("b", vec![]),
                    element("Data", vec![]),
                ],
            ),
            with(
                "RenderingInfo",
                vec![("Culture", text("en-US"))],
                vec![element("Message", vec![text("hello")])],
            ),
        ],
    );
    let outcome = one(&node);
    assert_eq!(outcome.flags(), [flags::INLINE]);
    assert_eq!(outcome.u32s("event_id"), [Some(7_036)]);
    assert_eq!(outcome.u32s("qualifiers"), [Some(16_384)]);
    assert_eq!(outcome.u8s("version"), [None]);
    assert_eq!(outcome.u64s("keywords"), [Some(0x8080_0000_0000_0000)]);
    assert_eq!(outcome.u64s("record_id"), [Some(u64::MAX)]);
    assert_eq!(outcome.times("time_created"), [Some(TIME)]);
    let upper = "54849625-5478-4994-A5BA-3E3B0328C30D".to_owned();
    assert_eq!(outcome.texts("provider_guid"), [Some(upper)]);
    assert_eq!(outcome.texts("user_sid"), [Some("S-1-5-20".into())]);
    assert_eq!(outcome.texts("template_id"), [None]);
    assert_eq!(outcome.texts("payload_kind"), [Some("EventData".into())]);
    let expected = [
        "a=1",
        "b=<null>",
        "<null>=<null>",
        "RenderingInfo/@Culture=en-US",
        "RenderingInfo/Message=hello",
    ];
    assert_eq!(outcome.shown(), expected);
}

#[test]
fn names_follow_the_kind_of_payload() {
    let user_data = element(
        "UserData",
        vec![with(
            "EventXML",
            vec![
                ("xmlns", text("urn:x")),
                ("xmlns:n", text("urn:y")),
                ("Id", text("9")),
            ],
            vec![
                element("Param1", vec![text("one")]),
                element("Deep", vec![element("Er", vec![text("two")])]),
                with("Data", vec![("Name", text("n"))], vec![text("three")]),
            ],
        )],
    );
    let event_data = element(
        "EventData",
        vec![data("x", vec![text("4")]), element("Data", vec![])],
    );
    let outcome = one(&event(vec![], vec![user_data, event_data]));
    assert_eq!(outcome.texts("payload_kind"), [Some("UserData".into())]);
    let expected = [
        "EventXML/@Id=9",
        "EventXML/Param1=one",
        "EventXML/Deep/Er=two",
        "EventXML/Data/@Name=n",
        "EventXML/Data=three",
        "EventData/x=4",
        "EventData/Data=<null>",
    ];
    assert_eq!(outcome.shown(), expected);
}

#[test]
fn attributes_and_other_children_of_event_data_have_names() {
    let payload = with(
        "EventData",
        vec![("Name", text("Sample"))],
        vec![
            with(
                "Data",
                vec![("Name", text("a")), ("Type", text("t"))],
                vec![text("1")],
            ),
            element("Binary", vec![text("00FF")]),
            element("Nested", vec![element("Data", vec![text("2")])]),
        ],
    );
    let outcome = one(&event(vec![], vec![payload]));
    let expected = [
        "@Name=Sample",
        "Data/@Type=t",
        "a=1",
        "Binary=00FF",
        "Nested/Data=2",
    ];
    assert_eq!(outcome.shown(), expected);
}

#[test]
fn every_payload_kind_is_named() {
    for kind in ["DebugData", "BinaryEventData", "ProcessingErrorData"] {
        let payload = element(kind, vec![element("Code", vec![text("15005")])]);
        let outcome = one(&event(vec![], vec![payload]));
        assert_eq!(outcome.texts("payload_kind"), [Some(kind.into())]);
        assert_eq!(outcome.shown(), ["Code=15005"]);
    }
    let outcome = one(&event(vec![element("Level", vec![text("1")])], vec![]));
    assert_eq!(outcome.texts("payload_kind"), [None]);
}

#[test]
fn references_and_sections_become_characters() {
    let content = vec![
        text("a "),
        Node::Entity("lt".into()),
        Node::Entity("amp".into()),
        Node::Entity("unknown".into()),
        Node::Character(0x20ac),
        Node::CData("<raw>".into()),
    ];
    let payload = |content| element("EventData", vec![data("x", content)]);
    let outcome = one(&event(vec![], vec![payload(content.clone())]));
    assert_eq!(outcome.shown(), ["x=a <&&unknown;€<raw>"]);
    let outcome = one_from_template(&event(vec![], vec![payload(content)]), &[]);
    assert_eq!(outcome.shown(), ["x=a <&&unknown;€<raw>"]);
}

#[test]
fn an_optional_substitution_without_a_value_takes_its_element_away() {
    let definition = event(
        vec![],
        vec![element(
            "EventData",
            vec![
                with(
                    "Data",
                    vec![("Name", text("gone")), ("Type", text("t"))],
                    vec![Node::Optional(0)],
                ),
                with(
                    "Data",
                    vec![("Name", text("kept")), ("Type", Node::Optional(0))],
                    vec![Node::Slot(0)],
                ),
                data("empty", vec![Node::Optional(1)]),
                data("number", vec![Node::Optional(2)]),
            ],
        )],
    );
    let values = [NULL, string(""), (0x08, bytes(&[]))];
    let outcome = one_from_template(&definition, &values);
    assert_eq!(outcome.shown(), ["kept=<null>", "empty="]);
}

#[test]
fn values_are_found_in_mixed_content_and_in_names() {
    let definition = event(
        vec![],
        vec![element(
            "EventData",
            vec![
                with(
                    "Data",
                    vec![("Name", Node::Slot(0))],
                    vec![text("v"), Node::Slot(1), text("!")],
                ),
                data("d", vec![text("x"), Node::Slot(2), text("y")]),
            ],
        )],
    );
    let nested = Value::Inline(element("In", vec![text("side")]));
    let values = [
        string("given"),
        (0x08, bytes(&5_u32.to_le_bytes())),
        (0x21, nested),
    ];
    let outcome = one_from_template(&definition, &values);
    assert_eq!(outcome.shown(), ["given=v5!", "d=x", "Data/In=side", "d=y"]);
    assert_eq!(outcome.flags(), [flags::INLINE]);
}

#[test]
fn binxml_below_a_payload_element_continues_its_path() {
    let definition = event(vec![], vec![element("UserData", vec![Node::Slot(0)])]);
    let inner = element(
        "Manifest",
        vec![element("Param", vec![Node::Slot(0)]), Node::Slot(1)],
    );
    let innermost = Value::Inline(element("Leaf", vec![text("end")]));
    let values = vec![string("p"), (0x21, innermost)];
    let values = [(0x21, Value::Instance(GUID_PAYLOAD, inner, values))];
    let outcome = one_from_template(&definition, &values);
    assert_eq!(outcome.shown(), ["Manifest/Param=p", "Manifest/Leaf=end"]);
    let outer = "11111111-1111-1111-1111-111111111111".to_owned();
    assert_eq!(outcome.texts("template_id"), [Some(outer)]);
}

#[test]
fn a_system_value_that_does_not_fit_is_kept_in_the_lists() {
    let node = event(
        vec![
            element("EventID", vec![text("4294967296")]),
            element("Level", vec![text("high")]),
            element("Level", vec![text("3")]),
            element("Level", vec![text("5")]),
            with("Provider", vec![("Guid", text("none"))], vec![]),
            with(
                "TimeCreated",
                vec![("SystemTime", text("yesterday"))],
                vec![],
            ),
            with("Execution", vec![("KernelTime", text("9"))], vec![]),
            with("Security", vec![("UserID", text("root"))], vec![]),
            element("Extra", vec![element("More", vec![text("m")])]),
        ],
        vec![],
    );
    let outcome = one(&node);
    assert_eq!(outcome.flags(), [flags::INLINE | flags::STRANGE_SYSTEM]);
    assert_eq!(outcome.u32s("event_id"), [None]);
    assert_eq!(outcome.u8s("level"), [Some(3)]);
    let expected = [
        "System/EventID=4294967296",
        "System/Level=high",
        "System/Level=5",
        "System/Provider/@Guid=none",
        "System/TimeCreated/@SystemTime=yesterday",
        "System/Execution/@KernelTime=9",
        "System/Security/@UserID=root",
        "System/Extra/More=m",
    ];
    assert_eq!(outcome.shown(), expected);
}

#[test]
fn times_outside_the_column_are_kept_as_text() {
    let definition = event(
        vec![with(
            "TimeCreated",
            vec![("SystemTime", Node::Slot(0))],
            vec![],
        )],
        vec![],
    );
    let mut chunk = ChunkBuilder::new();
    chunk.record(1, GUID_OUTER, &definition, &[(0x11, bytes(&[0xff; 8]))]);
    let (start, _) = chunk.records[0];
    chunk.bytes[start + 16..start + 24].copy_from_slice(&u64::MAX.to_le_bytes());
    chunk.record(
        2,
        GUID_OUTER,
        &definition,
        &[(0x11, bytes(&FILETIME.to_le_bytes()))],
    );
    let (start, _) = chunk.records[1];
    chunk.bytes[start + 16..start + 24].copy_from_slice(&[0; 8]);
    let outcome = decode(&log(&[chunk.finish()]));
    assert_eq!(outcome.times("time_created"), [None, Some(TIME)]);
    assert_eq!(outcome.times("time_written"), [None, None]);
    assert_eq!(outcome.flags(), [flags::STRANGE_SYSTEM, flags::NONE]);
    let names: Vec<_> = outcome.items()[0]
        .iter()
        .map(|item| item.0.clone().unwrap())
        .collect();
    assert_eq!(
        names,
        ["System/TimeCreated/@SystemTime", "Record/TimeWritten"]
    );
    assert_eq!(
        outcome.items()[0][1].1.as_deref(),
        Some("0xffffffffffffffff")
    );
}

#[test]
fn replaced_characters_are_told() {
    let definition = event(
        vec![],
        vec![element("EventData", vec![data("x", vec![Node::Slot(0)])])],
    );
    let outcome = one_from_template(&definition, &[(0x01, bytes(&[0x00, 0xd8, b'a', 0]))]);
    assert_eq!(outcome.flags(), [flags::LOSSY_TEXT]);
    assert_eq!(outcome.shown(), ["x=\u{fffd}a"]);
}

#[test]
fn two_definitions_of_one_guid_are_two_plans() {
    let named = |name: &str| {
        event(
            vec![],
            vec![element("EventData", vec![data(name, vec![Node::Slot(0)])])],
        )
    };
    let slots: Vec<_> = ["alpha", "omega"]
        .into_iter()
        .map(|name| {
            let mut chunk = ChunkBuilder::new();
            chunk.record(1, GUID_OUTER, &named(name), &[string("v")]);
            chunk.finish()
        })
        .collect();
    let outcome = decode(&log(&slots));
    let names: Vec<_> = outcome
        .items()
        .iter()
        .map(|items| items[0].0.clone().unwrap())
        .collect();
    assert_eq!(names, ["alpha", "omega"]);
}

#[test]
fn indentation_is_no_value() {
    let node = event(
        vec![
            text("\r\n  "),
            element("Level", vec![text("1")]),
            text("\r\n"),
        ],
        vec![element(
            "EventData",
            vec![text("\n "), data("a", vec![text(" ")]), text("\n")],
        )],
    );
    let outcome = one(&node);
    assert_eq!(outcome.shown(), ["a= "]);
    assert_eq!(outcome.u8s("level"), [Some(1)]);
}

#[test]
fn what_is_no_event_keeps_its_whole_path() {
    let outcome = one(&with(
        "Other",
        vec![("a", text("1"))],
        vec![element("B", vec![text("2")])],
    ));
    assert_eq!(outcome.shown(), ["Other/@a=1", "Other/B=2"]);
    assert_eq!(outcome.texts("payload_kind"), [None]);
}
