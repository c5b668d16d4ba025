//! A record's BinXML as a tree, with every substitution in its place.
//!
//! Rules ([MS-EVEN6] 3.1.4.7 and what Windows shows):
//!   * An element whose content has an optional substitution without a value is not there; nor is an
//!     attribute made of one. `Event` itself stays.
//!   * An element whose whole content is an array is repeated for each item.
//!   * A value that does not suit its type is shown as hexadecimal bytes.
//!   * BinXML as a value stands for the elements in it.

use std::ops::Range;

use super::cache::Definition;
use super::damage::{Damage, Decoded, Reason};
use super::limits::{Budget, DEPTH_MAX, ELEMENTS_MAX};
use super::piece::push_static;
use super::slots::{Slot, SlotStack, read_slots};
use super::text::{push_hex_bytes, push_utf16};
use super::token::{Token, TokenReader, Utf16};
use super::value::{self, is_absent, render, render_item, split_item};
use super::walk::Piece;
use crate::bytes::{offset_at, u32_at};

/// Bytes of a template instance behind its token: version, identifier, offset of the definition.
const INSTANCE_HEADER_BYTES: usize = 9;
/// Bytes of names and values of one record.
const TEXT_BYTES_MAX: usize = 8 << 20;

/// A value as text, with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    /// [`value::STRING`] for text of a template, and for a value of several parts.
    pub(super) type_code: u8,
}

/// What an element holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Element(Element),
    Text(Text),
}

/// An element with everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, Text)>,
    pub(super) content: Vec<Node>,
}

/// Makes the tree of one record.
pub(super) struct Builder<'c, 'b> {
    chunk: &'c [u8],
    budget: &'b mut Budget,
    slots: SlotStack,
    text_bytes: usize,
    elements: usize,
}

/// Where an element stands.
#[derive(Debug, Clone, Copy)]
struct Scope {
    /// Where the values of the template at hand begin; `None` outside of templates.
    slots: Option<usize>,
    /// Elements around it in its fragment, and fragments around that.
    depth: usize,
    nesting: usize,
}

/// What a piece stands for.
enum Part {
    Text(Text),
    Array(Slot),
    BinXml(Slot),
    /// An optional substitution without a value.
    Absent,
}

impl<'c, 'b> Builder<'c, 'b> {
    pub(super) fn new(chunk: &'c [u8], budget: &'b mut Budget) -> Self {
        Self {
            chunk,
            budget,
            slots: SlotStack::new(),
            text_bytes: 0,
            elements: 0,
        }
    }

    /// The elements of a record's BinXML: one, unless it is strange.
    pub(super) fn document(mut self, binxml: Range<usize>) -> Decoded<Vec<Element>> {
        self.fragment(binxml, 0)
    }

    fn fragment(&mut self, range: Range<usize>, nesting: usize) -> Decoded<Vec<Element>> {
        if nesting >= DEPTH_MAX {
            let detail = "BinXML values are nested too deeply";
            return Err(Damage::new(Reason::DepthLimit, range.start, detail));
        }
        let mut reader = TokenReader::new(self.chunk, range.start, range.end, false);
        let mut found = Vec::new();
        loop {
            let at = reader.at;
            match reader.next(self.budget)? {
                Token::End => return Ok(found),
                Token::FragmentHeader | Token::ProcessingInstruction => {}
                Token::TemplateInstance => {
                    reader.at = self.instance(reader.at, range.end, nesting, &mut found)?;
                }
                Token::OpenElement(name) => {
                    let scope = Scope {
                        slots: None,
                        depth: 0,
                        nesting,
                    };
                    found.extend(self.element(&mut reader, name, scope)?);
                }
                _ => return Err(misplaced(at)),
            }
        }
    }

    /// Append what the template instance at `at` stands for; returns where its values end.
    fn instance(
        &mut self,
        at: usize,
        end: usize,
        nesting: usize,
        found: &mut Vec<Element>,
    ) -> Decoded<usize> {
        let truncated = || Damage::truncated(at);
        let header = self.chunk.get(at..end).ok_or_else(truncated)?;
        let identifier = u32_at(header, 1).ok_or_else(truncated)?;
        let offset = offset_at(header, 5).ok_or_else(truncated)?;
        let definition = Definition::read(self.chunk, offset, identifier, at)?;
        let mut values_at = at + INSTANCE_HEADER_BYTES;
        if offset == values_at {
            values_at = definition.end;
        }
        let base = self.slots.len();
        let read = read_slots(&mut self.slots, self.chunk, values_at, end, self.budget)?;
        let mut reader = TokenReader::new(self.chunk, definition.start, definition.end, true);
        loop {
            let at = reader.at;
            match reader.next(self.budget)? {
                Token::End => break,
                Token::FragmentHeader | Token::ProcessingInstruction => {}
                Token::OpenElement(name) => {
                    let scope = Scope {
                        slots: Some(base),
                        depth: 0,
                        nesting,
                    };
                    found.extend(self.element(&mut reader, name, scope)?);
                }
                _ => return Err(misplaced(at)),
            }
        }
        self.slots.truncate(base);
        Ok(read.stop)
    }

    /// The element that was just opened: none when it is left out, several when it is repeated.
    fn element(
        &mut self,
        reader: &mut TokenReader<'c>,
        name: Utf16<'c>,
        scope: Scope,
    ) -> Decoded<Vec<Element>> {
        let at = reader.at;
        if scope.depth >= DEPTH_MAX {
            let detail = "elements are nested too deeply";
            return Err(Damage::new(Reason::DepthLimit, at, detail));
        }
        self.elements += 1;
        if self.elements > ELEMENTS_MAX * DEPTH_MAX {
            let detail = "a record has too many elements";
            return Err(Damage::new(Reason::ElementLimit, at, detail));
        }
        let name = self.name(name, at)?;
        let stays = name == "Event" && scope.depth == 0 && scope.nesting == 0;
        let (attributes, has_content) = self.start_tag(reader, scope)?;
        let mut parts = Vec::new();
        if has_content {
            parts = self.content(reader, scope)?;
        }
        let mut element = Element {
            name,
            attributes,
            content: Vec::new(),
        };
        if let [Content::Part(Part::Array(slot))] = parts.as_slice() {
            return self.repeated(element, *slot);
        }
        for part in parts {
            match part {
                Content::Element(child) => element.content.push(Node::Element(child)),
                Content::Part(Part::Text(text)) => element.content.push(Node::Text(text)),
                Content::Part(Part::Array(slot)) => {
                    let text = self.whole(slot)?;
                    element.content.push(Node::Text(text));
                }
                Content::Part(Part::BinXml(slot)) => {
                    let inner = self.fragment(slot.range(), scope.nesting + 1)?;
                    element.content.extend(inner.into_iter().map(Node::Element));
                }
                Content::Part(Part::Absent) if stays => {}
                Content::Part(Part::Absent) => return Ok(Vec::new()),
            }
        }
        Ok(vec![element])
    }

    /// The attributes, and whether content follows.
    fn start_tag(
        &mut self,
        reader: &mut TokenReader<'c>,
        scope: Scope,
    ) -> Decoded<(Vec<(String, Text)>, bool)> {
        let mut attributes = Vec::new();
        // The name of the attribute at hand, and its value as far as it was read; no value: left out.
        let mut open: Option<(String, Option<Vec<Text>>)> = None;
        loop {
            let at = reader.at;
            let token = reader.next(self.budget)?;
            if matches!(
                token,
                Token::Attribute(_) | Token::CloseStart | Token::CloseEmpty
            ) && let Some((name, Some(texts))) = open.take()
            {
                attributes.push((name, joined(texts)));
            }
            match token {
                Token::Attribute(name) => open = Some((self.name(name, at)?, Some(Vec::new()))),
                Token::CloseStart => return Ok((attributes, true)),
                Token::CloseEmpty => return Ok((attributes, false)),
                _ => {
                    let piece = piece_of(token).ok_or_else(|| misplaced(at))?;
                    let part = self.part(&piece, scope, at)?;
                    let Some((_, texts)) = &mut open else {
                        return Err(misplaced(at));
                    };
                    match part {
                        Part::Absent => *texts = None,
                        Part::Text(text) => {
                            texts.iter_mut().for_each(|texts| texts.push(text.clone()))
                        }
                        Part::Array(slot) | Part::BinXml(slot) => {
                            let text = self.whole(slot)?;
                            texts.iter_mut().for_each(|texts| texts.push(text.clone()));
                        }
                    }
                }
            }
        }
    }

    fn content(&mut self, reader: &mut TokenReader<'c>, scope: Scope) -> Decoded<Vec<Content>> {
        let mut parts = Vec::new();
        loop {
            let at = reader.at;
            match reader.next(self.budget)? {
                Token::EndElement => return Ok(parts),
                Token::ProcessingInstruction => {}
                Token::OpenElement(name) => {
                    let below = Scope {
                        depth: scope.depth + 1,
                        ..scope
                    };
                    let children = self.element(reader, name, below)?;
                    parts.extend(children.into_iter().map(Content::Element));
                }
                Token::End => {
                    let detail = "the fragment ends inside an element";
                    return Err(Damage::new(Reason::Truncated, at, detail));
                }
                token => {
                    let piece = piece_of(token).ok_or_else(|| misplaced(at))?;
                    parts.push(Content::Part(self.part(&piece, scope, at)?));
                }
            }
        }
    }

    /// What a piece stands for.
    fn part(&mut self, piece: &Piece<'c>, scope: Scope, at: usize) -> Decoded<Part> {
        let Piece::Slot { slot, optional } = *piece else {
            let mut bytes = Vec::new();
            push_static(&mut bytes, piece, at)?;
            let type_code = match piece {
                Piece::Literal { type_code, .. } => *type_code,
                _ => value::STRING,
            };
            return self.text(bytes, type_code, at).map(Part::Text);
        };
        let value = scope
            .slots
            .and_then(|base| self.slots.get(base + usize::from(slot)))
            .copied()
            .ok_or_else(|| Damage::no_such_slot(at))?;
        let bytes = value.bytes(self.chunk);
        if is_absent(value.type_code, bytes) {
            return if optional {
                Ok(Part::Absent)
            } else {
                self.text(Vec::new(), value::NULL, at).map(Part::Text)
            };
        }
        if value.type_code == value::BINXML {
            return Ok(Part::BinXml(value));
        }
        if value::is_array(value.type_code) {
            return Ok(Part::Array(value));
        }
        self.whole(value).map(Part::Text)
    }

    /// The text of a value; an array's is JSON.
    fn whole(&mut self, slot: Slot) -> Decoded<Text> {
        let (at, bytes) = (slot.range().start, slot.bytes(self.chunk));
        let mut out = Vec::new();
        let type_code = match render(slot.type_code, bytes, &mut out) {
            Ok(_) if value::is_array(slot.type_code) => value::STRING,
            Ok(_) => slot.type_code,
            Err(_) => {
                // What does not suit its type is shown as the bytes that it is.
                out.clear();
                push_hex_bytes(&mut out, bytes);
                value::BINARY
            }
        };
        self.text(out, type_code, at)
    }

    /// The element once for each item of an array; an empty array is one empty element.
    fn repeated(&mut self, element: Element, slot: Slot) -> Decoded<Vec<Element>> {
        let (at, bytes) = (slot.range().start, slot.bytes(self.chunk));
        let mut rest = bytes;
        if rest.is_empty() {
            return Ok(vec![element]);
        }
        let mut found = Vec::new();
        while !rest.is_empty() {
            self.budget.spend(1, at)?;
            let split = split_item(slot.type_code, bytes.len(), rest);
            let (item, behind) = split.map_err(|reason| unsuitable(reason, at))?;
            rest = behind;
            let mut out = Vec::new();
            render_item(slot.type_code, item, &mut out).map_err(|reason| unsuitable(reason, at))?;
            let text = self.text(out, slot.type_code & 0x7f, at)?;
            self.spend_text(element.name.len(), at)?;
            let mut one = element.clone();
            one.content.push(Node::Text(text));
            found.push(one);
        }
        Ok(found)
    }

    fn text(&mut self, bytes: Vec<u8>, type_code: u8, at: usize) -> Decoded<Text> {
        self.spend_text(bytes.len(), at)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Text { text, type_code })
    }

    fn name(&mut self, name: Utf16<'_>, at: usize) -> Decoded<String> {
        let mut bytes = Vec::new();
        push_utf16(&mut bytes, name);
        self.spend_text(bytes.len(), at)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn spend_text(&mut self, bytes: usize, at: usize) -> Decoded<()> {
        self.text_bytes += bytes;
        if self.text_bytes > TEXT_BYTES_MAX {
            let detail = "the record's values are many times larger than the record";
            return Err(Damage::new(Reason::TextLimit, at, detail));
        }
        Ok(())
    }
}

/// What was read of an element's content.
enum Content {
    Element(Element),
    Part(Part),
}

fn piece_of(token: Token<'_>) -> Option<Piece<'_>> {
    Some(match token {
        Token::Value {
            type_code: value::STRING,
            bytes,
        }
        | Token::CData(bytes) => Piece::Text(bytes),
        Token::Value { type_code, bytes } => Piece::Literal { type_code, bytes },
        Token::CharacterReference(unit) => Piece::Character(unit),
        Token::EntityReference(name) => Piece::Entity(name),
        Token::Substitution { slot, optional } => Piece::Slot { slot, optional },
        _ => return None,
    })
}

/// One value of all parts; the only part keeps its type.
fn joined(mut texts: Vec<Text>) -> Text {
    if texts.len() == 1
        && let Some(text) = texts.pop()
    {
        return text;
    }
    Text {
        text: texts.into_iter().map(|part| part.text).collect(),
        type_code: value::STRING,
    }
}

#[cold]
fn misplaced(at: usize) -> Damage {
    Damage::new(Reason::Structure, at, "this token cannot stand here")
}

#[cold]
fn unsuitable(reason: Reason, at: usize) -> Damage {
    Damage::new(reason, at, "a value does not suit its type")
}
