//! BinXML, written token by token.

use std::collections::HashMap;

use super::CHUNK_HEADER_BYTES;

pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// One node of an event to write as BinXML.
#[derive(Clone)]
pub enum Node {
    /// Name, attributes, content.
    Element(String, Vec<(String, Vec<Node>)>, Vec<Node>),
    Text(String),
    CData(String),
    Character(u16),
    Entity(String),
    Slot(u16),
    Optional(u16),
}

pub fn element(name: &str, content: Vec<Node>) -> Node {
    Node::Element(name.into(), Vec::new(), content)
}

pub fn with(name: &str, attributes: Vec<(&str, Node)>, content: Vec<Node>) -> Node {
    let attributes = attributes
        .into_iter()
        .map(|(name, value)| (name.to_owned(), vec![value]))
        .collect();
    Node::Element(name.into(), attributes, content)
}

pub fn text(value: &str) -> Node {
    Node::Text(value.into())
}

/// A chunk that is being written. Positions in it are final, as names and definitions need.
pub struct ChunkBuilder {
    pub bytes: Vec<u8>,
    pub names: HashMap<String, u32>,
    pub definitions: HashMap<[u8; 16], u32>,
    pub record_start: usize,
    pub records: Vec<(usize, usize)>,
    pub first_id: Option<u64>,
    pub last_id: u64,
}

impl ChunkBuilder {
    pub fn new() -> Self {
        Self {
            bytes: vec![0; CHUNK_HEADER_BYTES],
            names: HashMap::new(),
            definitions: HashMap::new(),
            record_start: 0,
            records: Vec::new(),
            first_id: None,
            last_id: 0,
        }
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn patch(&mut self, at: usize, value: usize) {
        self.bytes[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }

    pub fn name(&mut self, name: &str) {
        if let Some(offset) = self.names.get(name) {
            let offset = offset.to_le_bytes();
            self.put(&offset);
            return;
        }
        let offset = self.bytes.len() as u32 + 4;
        self.names.insert(name.into(), offset);
        self.put(&offset.to_le_bytes());
        self.put(&[0; 4]);
        let checksum = name.encode_utf16().fold(0_u32, |sum, unit| {
            sum.wrapping_mul(65_599).wrapping_add(u32::from(unit))
        });
        self.put(&(checksum as u16).to_le_bytes());
        self.put(&(name.encode_utf16().count() as u16).to_le_bytes());
        self.put(&utf16(name));
        self.put(&[0, 0]);
    }

    pub fn counted(&mut self, value: &str) {
        self.put(&(value.encode_utf16().count() as u16).to_le_bytes());
        self.put(&utf16(value));
    }

    pub fn node(&mut self, node: &Node, in_template: bool) {
        match node {
            Node::Element(name, attributes, content) => {
                let has_attributes = !attributes.is_empty();
                self.put(&[if has_attributes { 0x41 } else { 0x01 }]);
                if in_template {
                    self.put(&[0xff, 0xff]);
                }
                self.put(&[0; 4]);
                self.name(name);
                if has_attributes {
                    self.put(&[0; 4]);
                }
                for (name, value) in attributes {
                    self.put(&[0x06]);
                    self.name(name);
                    for piece in value {
                        self.node(piece, in_template);
                    }
                }
                if content.is_empty() {
                    self.put(&[0x03]);
                    return;
                }
                self.put(&[0x02]);
                for child in content {
                    self.node(child, in_template);
                }
                self.put(&[0x04]);
            }
            Node::Text(value) => {
                self.put(&[0x05, 0x01]);
                self.counted(value);
            }
            Node::CData(value) => {
                self.put(&[0x07]);
                self.counted(value);
            }
            Node::Character(unit) => {
                self.put(&[0x08]);
                self.put(&unit.to_le_bytes());
            }
            Node::Entity(name) => {
                self.put(&[0x09]);
                self.name(name);
            }
            Node::Slot(slot) | Node::Optional(slot) => {
                let is_optional = matches!(node, Node::Optional(_));
                self.put(&[if is_optional { 0x0e } else { 0x0d }]);
                self.put(&slot.to_le_bytes());
                self.put(&[0x01]);
            }
        }
    }

    pub fn fragment(&mut self, event: &Node) {
        self.put(&[0x0f, 1, 1, 0]);
        self.node(event, false);
        self.put(&[0x00]);
    }

    /// A template instance, with its definition when the chunk has none of this GUID.
    pub fn instance(&mut self, guid: [u8; 16], definition: &Node, values: &[(u8, Value)]) {
        self.put(&[0x0f, 1, 1, 0, 0x0c, 1]);
        self.put(&guid[..4]);
        match self.definitions.get(&guid) {
            Some(offset) => {
                let offset = offset.to_le_bytes();
                self.put(&offset);
            }
            None => {
                let offset = self.bytes.len() + 4;
                self.definitions.insert(guid, offset as u32);
                self.put(&(offset as u32).to_le_bytes());
                self.put(&[0; 4]);
                self.put(&guid);
                self.put(&[0; 4]);
                let start = self.bytes.len();
                self.put(&[0x0f, 1, 1, 0]);
                self.node(definition, true);
                self.put(&[0x00]);
                self.patch(start - 4, self.bytes.len() - start);
            }
        }
        self.put(&(values.len() as u32).to_le_bytes());
        let descriptions = self.bytes.len();
        for (type_code, _) in values {
            self.put(&[0, 0, *type_code, 0]);
        }
        for (place, (_, value)) in values.iter().enumerate() {
            let start = self.bytes.len();
            match value {
                Value::Bytes(bytes) => self.put(bytes),
                Value::Instance(guid, definition, values) => {
                    self.instance(*guid, definition, values);
                }
                Value::Inline(event) => self.fragment(event),
            }
            let size = (self.bytes.len() - start) as u16;
            let at = descriptions + 4 * place;
            self.bytes[at..at + 2].copy_from_slice(&size.to_le_bytes());
        }
    }
}

/// What a substitution holds.
pub enum Value {
    Bytes(Vec<u8>),
    Instance([u8; 16], Node, Vec<(u8, Value)>),
    Inline(Node),
}

pub fn bytes(value: &[u8]) -> Value {
    Value::Bytes(value.to_vec())
}

pub fn string(value: &str) -> (u8, Value) {
    (0x01, Value::Bytes(utf16(value)))
}

pub const NULL: (u8, Value) = (0x00, Value::Bytes(Vec::new()));
