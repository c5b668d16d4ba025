//! One JSON document, checked as strictly as can be, and where its parts stand.

use std::borrow::Cow;
use std::ops::Range;

/// Objects and arrays within each other.
const DEPTH_MAX: usize = 64;
/// Keys of one object that are compared one by one; of more, they are sorted.
const KEYS_COMPARED_MAX: usize = 12;

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
        let mut parser = Parser {
            text: text.as_bytes(),
            at: 0,
            nodes: &mut self.nodes,
            keys: &mut self.keys,
        };
        let result = parser.document();
        if result.is_err() {
            self.nodes.clear();
        }
        result
    }
}

/// The text of a string or key that stands between these quotes.
///
/// `raw` is a string that was checked; escapes are resolved.
#[must_use]
pub fn unescaped(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', raw) else {
        return Cow::Borrowed(raw);
    };
    let mut text = raw[..first].to_vec();
    let mut rest = &raw[first..];
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'\\' {
            text.push(*byte);
            continue;
        }
        let [sign, tail @ ..] = rest else { break };
        rest = tail;
        match sign {
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'u' => {
                let mut code = hex4(rest).unwrap_or(0);
                rest = rest.get(4..).unwrap_or_default();
                if (0xD800..0xDC00).contains(&code) {
                    let low = hex4(rest.get(2..).unwrap_or_default()).unwrap_or(0xDC00);
                    rest = rest.get(6..).unwrap_or_default();
                    code = 0x1_0000 + ((code - 0xD800) << 10) + (low.wrapping_sub(0xDC00) & 0x3FF);
                }
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => text.push(*other),
        }
    }
    Cow::Owned(text)
}

fn hex4(text: &[u8]) -> Option<u32> {
    text.get(..4)?.iter().try_fold(0, |sum, byte| {
        Some(sum * 16 + char::from(*byte).to_digit(16)?)
    })
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    nodes: &'a mut Vec<Node>,
    keys: &'a mut Vec<Range<usize>>,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<(), Fault> {
        self.spaces();
        self.value(None, 0)?;
        self.spaces();
        if self.at == self.text.len() {
            return Ok(());
        }
        if matches!(self.text[self.at], b'{' | b'[') {
            return self.fault(
                "a second document follows on the line: concatenated JSON is not JSON Lines",
            );
        }
        self.fault("something follows the document")
    }

    fn fault<T>(&self, message: &'static str) -> Result<T, Fault> {
        self.fault_at(self.at, message)
    }

    fn fault_at<T>(&self, at: usize, message: &'static str) -> Result<T, Fault> {
        let is_cut = at >= self.text.len() && !self.nodes.is_empty();
        Err(Fault {
            reason: "json.syntax",
            at,
            message: if is_cut {
                format!("{message}: the line ends within the document, as lines of pretty-printed JSON do").into()
            } else {
                message.into()
            },
        })
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, key: Option<Range<usize>>, depth: usize) -> Result<(), Fault> {
        let start = self.at;
        let number = self.nodes.len();
        let kind = match self.peek() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::Text,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => return self.fault("a value is expected"),
        };
        self.nodes.push(Node {
            kind,
            span: start..start,
            key,
            next: number + 1,
        });
        match kind {
            Kind::Object | Kind::Array if depth >= DEPTH_MAX => {
                return Err(Fault {
                    reason: "json.depth",
                    at: start,
                    message: "more than 64 objects and lists lie within each other".into(),
                });
            }
            Kind::Object => self.object(depth)?,
            Kind::Array => self.array(depth)?,
            Kind::Text => {
                self.string()?;
            }
            Kind::Number => self.number()?,
            Kind::Bool if self.peek() == Some(b't') => self.word(b"true")?,
            Kind::Bool => self.word(b"false")?,
            Kind::Null => self.word(b"null")?,
        }
        let next = self.nodes.len();
        let node = &mut self.nodes[number];
        node.span.end = self.at;
        node.next = next;
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        if !self.text[self.at..].starts_with(word) {
            return self.fault("a value is expected");
        }
        self.at += word.len();
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), Fault> {
        self.at += 1;
        self.spaces();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(None, depth + 1)?;
            self.spaces();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fault("`,` or `]` is expected"),
            }
            self.spaces();
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Fault> {
        let first_key = self.keys.len();
        self.at += 1;
        self.spaces();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.fault("a key is expected");
            }
            let key = self.string()?;
            self.keys.push(key.clone());
            self.spaces();
            if self.peek() != Some(b':') {
                return self.fault("`:` is expected");
            }
            self.at += 1;
            self.spaces();
            self.value(Some(key), depth + 1)?;
            self.spaces();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    break;
                }
                _ => return self.fault("`,` or `}` is expected"),
            }
            self.spaces();
        }
        self.check_keys(first_key)?;
        self.keys.truncate(first_key);
        Ok(())
    }

    fn check_keys(&self, first: usize) -> Result<(), Fault> {
        let keys = &self.keys[first..];
        let name = |key: &Range<usize>| unescaped(&self.text[key.clone()]);
        let twice = if keys.len() <= KEYS_COMPARED_MAX {
            (1..keys.len()).find(|one| {
                let own = name(&keys[*one]);
                keys[..*one].iter().any(|other| name(other) == own)
            })
        } else {
            let mut names: Vec<_> = keys.iter().map(name).enumerate().collect();
            names.sort_by(|one, other| one.1.cmp(&other.1).then(one.0.cmp(&other.0)));
            let pairs = names.windows(2).filter(|pair| pair[0].1 == pair[1].1);
            pairs.map(|pair| pair[1].0).min()
        };
        match twice {
            None => Ok(()),
            Some(index) => Err(Fault {
                reason: "json.duplicate_key",
                at: keys[index].start,
                message: format!(
                    "an object has the key `{}` twice",
                    crate::dataset::shown(&name(&keys[index]))
                )
                .into(),
            }),
        }
    }

    /// Pass a string, which begins here; what stands between its quotes.
    fn string(&mut self) -> Result<Range<usize>, Fault> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(start..self.at - 1);
                }
                Some(b'\\') => self.escape()?,
                Some(0..=0x1F) => return self.fault("a control character stands in a string"),
                Some(_) => self.at += 1,
                None => return self.fault("a string is not closed"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let code = hex4(&self.text[self.at + 2..]);
                let after = self.text.get(self.at + 6..).unwrap_or_default();
                match code {
                    None => return self.fault("`\\u` is not followed by four hexadecimal digits"),
                    Some(0xD800..0xDC00) => {
                        let low = after.strip_prefix(b"\\u").and_then(hex4);
                        if !low.is_some_and(|low| (0xDC00..0xE000).contains(&low)) {
                            return self.fault("a lone surrogate stands in a string");
                        }
                        self.at += 12;
                    }
                    Some(0xDC00..0xE000) => {
                        return self.fault("a lone surrogate stands in a string");
                    }
                    Some(_) => self.at += 6,
                }
            }
            _ => return self.fault("an escape is not one of JSON"),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.fault("a number has no digits"),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return self.fault("a number has no digits behind its point");
            }
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return self.fault("a number has no digits in its exponent");
            }
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
