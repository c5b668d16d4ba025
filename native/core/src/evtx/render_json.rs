//! A tree as JSON.
//!
//! Rules:
//!   * An element is a member named after it. Text alone is its value; attributes are in `#attributes`, text beside
//!     attributes or elements is `#text`.
//!   * Members of one name become one list, in order.
//!   * A `Data` with a `Name` is a member of that name, if it stands in `EventData`.
//!   * Integers, finite reals and booleans keep their type, no value is `null`, everything else is text.

use std::fmt::Write as _;

use super::render::is_plain;
use super::render_tree::{Element, Node, Text};
use super::value;

/// The document.
pub(super) fn to_json(roots: &[Element]) -> String {
    let mut out = String::new();
    write_value(
        &mut out,
        &object(roots.iter().map(|root| member(root, false))),
        0,
    );
    out.push('\n');
    out
}

/// A JSON value whose members are in order.
enum Value {
    /// Written as it stands.
    Bare(String),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
}

fn object(members: impl Iterator<Item = (String, Value)>) -> Value {
    let mut names = std::collections::HashMap::new();
    let mut grouped: Vec<(String, Vec<Value>)> = Vec::new();
    for (name, value) in members {
        let place = *names.entry(name.clone()).or_insert(grouped.len());
        match grouped.get_mut(place) {
            Some((_, values)) => values.push(value),
            None => grouped.push((name, vec![value])),
        }
    }
    let members = grouped.into_iter().map(|(name, mut values)| {
        let value = match values.pop() {
            Some(value) if values.is_empty() => value,
            last => {
                values.extend(last);
                Value::List(values)
            }
        };
        (name, value)
    });
    Value::Object(members.collect())
}

/// The member that an element is of what it stands in.
fn member(element: &Element, in_event_data: bool) -> (String, Value) {
    let mut name = element.name.clone();
    let mut attributes: Vec<(String, Value)> = Vec::new();
    let mut given = None;
    for (attribute, text) in &element.attributes {
        if in_event_data && name == "Data" && attribute == "Name" && given.is_none() {
            given = Some(text.text.clone());
        } else {
            attributes.push((attribute.clone(), value_of(text)));
        }
    }
    name = given.unwrap_or(name);
    let mut members: Vec<(String, Value)> = Vec::new();
    if !attributes.is_empty() {
        members.push(("#attributes".to_owned(), object(attributes.into_iter())));
    }
    let mut texts: Vec<&Text> = Vec::new();
    let is_event_data = element.name == "EventData";
    for node in &element.content {
        match node {
            Node::Element(child) => members.push(member(child, is_event_data)),
            Node::Text(text) => texts.push(text),
        }
    }
    let holds_elements = members.len() > usize::from(!element.attributes.is_empty());
    if holds_elements {
        texts.retain(|text| !text.text.trim_ascii().is_empty());
    }
    let text = match texts.as_slice() {
        [] => None,
        [one] => Some(value_of(one)),
        many => Some(Value::Text(
            many.iter().map(|part| part.text.as_str()).collect(),
        )),
    };
    let value = match (members.is_empty(), text) {
        (true, None) => Value::Bare("null".to_owned()),
        (true, Some(text)) => text,
        (false, None) => object(members.into_iter()),
        (false, Some(text)) => {
            members.push(("#text".to_owned(), text));
            object(members.into_iter())
        }
    };
    (name, value)
}

fn value_of(text: &Text) -> Value {
    let is_number = text
        .text
        .starts_with(|first: char| first == '-' || first.is_ascii_digit());
    match text.type_code {
        value::NULL => Value::Bare("null".to_owned()),
        value::INT8..=value::UINT64 | value::REAL32 | value::REAL64 if is_number => {
            Value::Bare(text.text.clone())
        }
        // A boolean that is neither is its number.
        value::BOOL => Value::Bare(text.text.clone()),
        _ => Value::Text(text.text.clone()),
    }
}

fn write_value(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Bare(text) => out.push_str(text),
        Value::Text(text) => write_text(out, text),
        Value::List(items) => {
            write_items(out, indent, ['[', ']'], items, |out, item| {
                write_value(out, item, indent + 1);
            });
        }
        Value::Object(members) => {
            write_items(out, indent, ['{', '}'], members, |out, (name, value)| {
                write_text(out, name);
                out.push_str(": ");
                write_value(out, value, indent + 1);
            });
        }
    }
}

fn write_items<T>(
    out: &mut String,
    indent: usize,
    [open, close]: [char; 2],
    items: &[T],
    write: impl Fn(&mut String, &T),
) {
    out.push(open);
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        out.push('\n');
        (0..=indent).for_each(|_| out.push_str("  "));
        write(out, item);
    }
    if !items.is_empty() {
        out.push('\n');
        (0..indent).for_each(|_| out.push_str("  "));
    }
    out.push(close);
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if is_plain(character) => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing to a String does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}
