//! The grammar of JSON (RFC 8259), strictly: what is not of it is a fault with its place.

use std::ops::Range;

use super::document::{Fault, Kind, Node};
use super::escapes::{hex4, unescaped};

/// Objects and arrays within each other.
const DEPTH_MAX: usize = 64;
/// Keys of one object that are compared one by one; of more, they are sorted.
const KEYS_COMPARED_MAX: usize = 12;

/// Goes over a text once, and notes each value where it begins.
pub(super) struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    nodes: &'a mut Vec<Node>,
    keys: &'a mut Vec<Range<usize>>,
}

impl<'a> Parser<'a> {
    /// Over `text`; `keys` is room for those of the objects that are open.
    pub(super) fn new(
        text: &'a str,
        nodes: &'a mut Vec<Node>,
        keys: &'a mut Vec<Range<usize>>,
    ) -> Self {
        Self {
            text: text.as_bytes(),
            at: 0,
            nodes,
            keys,
        }
    }

    /// The one value that the text is, with spaces around it.
    pub(super) fn document(&mut self) -> Result<(), Fault> {
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
