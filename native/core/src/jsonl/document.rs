//! One JSON document, checked as strictly as can be, and where its parts stand.

use std::borrow::Cow;
use std::ops::Range;

use super::parser::Parser;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    Text,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::Text => "text",
            Self::Array => "a list",
            Self::Object => "an object",
        }
    }
}

/// A value in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Its place in the text; of a string with its quotes.
    pub span: Range<usize>,
    /// Its key's place without quotes, when it is a member of an object.
    pub key: Option<Range<usize>>,
    /// Number of the node behind it and all that is in it.
    pub next: usize,
}

/// Why a text is no JSON document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A stable slug.
    pub reason: &'static str,
    /// Where in the text, in bytes.
    pub at: usize,
    /// In words.
    pub message: Cow<'static, str>,
}

/// The values of a document in the order of the text, outer ones before what is in them. Use one for many documents.
#[derive(Debug, Default)]
pub struct Document {
    nodes: Vec<Node>,
    keys: Vec<Range<usize>>,
}

impl Document {
    /// The values; the first one is the whole document.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The members of an object, or the items of an array.
    pub fn children(&self, parent: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.nodes[parent].next;
        let mut at = parent + 1;
        std::iter::from_fn(move || {
            let here = at;
            (here < end).then(|| {
                at = self.nodes[here].next;
                here
            })
        })
    }

    /// Read a document. After an error there are no values.
    ///
    /// # Errors
    /// The first thing that is not JSON, with its place.
    pub fn parse(&mut self, text: &[u8]) -> Result<(), Fault> {
        self.nodes.clear();
        self.keys.clear();
        let text = std::str::from_utf8(text).map_err(|error| Fault {
            reason: "text.encoding",
            at: error.valid_up_to(),
            message: "the line holds bytes that are no characters of its encoding".into(),
        })?;
        let result = Parser::new(text, &mut self.nodes, &mut self.keys).document();
        if result.is_err() {
            self.nodes.clear();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::unescaped;
    use super::*;

    fn reason(text: &str) -> &'static str {
        Document::default()
            .parse(text.as_bytes())
            .unwrap_err()
            .reason
    }

    #[test]
    fn what_is_not_strict_json_is_refused_with_its_reason() {
        let syntax = [
            "",
            "{",
            "{\"a\":1,}",
            "[1 2]",
            "{\"a\":NaN}",
            "01",
            "1.",
            "-",
            "1e",
            "+1",
            "tru",
            "\"\t\"",
            "{\"a\":1}x",
            "{} {}",
            "'a'",
            "{a:1}",
            "\"\\x\"",
            "\"\\u12g4\"",
            r#""\uD800""#,
            r#""\uDC00""#,
            r#""\uD800\u0041""#,
            "Infinity",
            "[1,]",
            "\"abc",
        ];
        for text in syntax {
            assert_eq!(reason(text), "json.syntax", "{text}");
        }
        assert_eq!(reason(r#"{"a":1,"\u0061":2}"#), "json.duplicate_key");
        let many: Vec<_> = (0..20).map(|n| format!("\"k{}\":{n}", n % 19)).collect();
        assert_eq!(
            reason(&format!("{{{}}}", many.join(","))),
            "json.duplicate_key"
        );
        assert_eq!(reason(&"[".repeat(100)), "json.depth");
        assert_eq!(
            Document::default().parse(b"\"\xFF\"").unwrap_err().reason,
            "text.encoding"
        );
        let cut = Document::default().parse(b"{").unwrap_err().message;
        assert!(cut.contains("pretty-printed"), "{cut}");
        let two = Document::default().parse(b"{}{}").unwrap_err().message;
        assert!(two.contains("concatenated"), "{two}");
    }

    fn assert_same(document: &Document, node: usize, text: &str, json: &serde_json::Value) {
        use serde_json::Value as Json;
        let it = &document.nodes()[node];
        let raw = &text[it.span.clone()];
        match json {
            Json::Null => assert_eq!((it.kind, raw), (Kind::Null, "null")),
            Json::Bool(value) => {
                assert_eq!((it.kind, raw), (Kind::Bool, value.to_string().as_str()))
            }
            Json::Number(_) => assert_eq!(it.kind, Kind::Number),
            Json::String(value) => {
                assert_eq!(it.kind, Kind::Text);
                let inner = &raw.as_bytes()[1..raw.len() - 1];
                assert_eq!(unescaped(inner), value.as_bytes());
            }
            Json::Array(items) => {
                let children: Vec<_> = document.children(node).collect();
                assert_eq!(children.len(), items.len());
                for (child, item) in children.into_iter().zip(items) {
                    assert_same(document, child, text, item);
                }
            }
            Json::Object(members) => {
                let children: Vec<_> = document.children(node).collect();
                assert_eq!(children.len(), members.len());
                for child in children {
                    let key = document.nodes()[child].key.clone().unwrap();
                    let key =
                        String::from_utf8(unescaped(&text.as_bytes()[key]).into_owned()).unwrap();
                    assert_same(document, child, text, &members[&key]);
                }
            }
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value as Json;
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            (-1e9..1e9).prop_map(Json::from),
            "\\PC{0,8}|[\"\\\\\n\t\u{1}😀]{0,4}".prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
                proptest::collection::btree_map("[a-c\"\\\\ä]{0,3}", inner, 0..16)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn another_reader_sees_the_same_document(json in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) };
            let text = text.unwrap();
            let mut document = Document::default();
            document.parse(text.as_bytes()).unwrap();
            assert_same(&document, 0, &text, &json);
        }

        #[test]
        fn nothing_is_taken_that_another_reader_refuses(
            json in json(), at in 0usize..200, byte in prop_oneof![Just(b'"'), Just(b','), Just(b'}'), Just(b'0'), any::<u8>()],
        ) {
            let mut text = serde_json::to_vec(&json).unwrap();
            let at = at % text.len();
            text[at] = byte;
            if Document::default().parse(&text).is_ok() {
                // JSON has numbers of any size; whether one fits is for its column's type to say.
                if let Err(error) = serde_json::from_slice::<serde_json::Value>(&text) {
                    prop_assert!(error.to_string().contains("out of range"), "{}", error);
                }
            }
        }
    }
}
