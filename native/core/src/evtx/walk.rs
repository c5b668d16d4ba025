//! Walk one element with all that is in it, and tell a sink which value goes where.
//!
//! Template definitions and template-less records are walked by the same code: for the first the sink
//! writes down a plan, for the second it writes the row.

use std::ops::Range;

use super::damage::{Damage, Decoded, Reason};
use super::limits::{Budget, DEPTH_MAX, ELEMENTS_MAX};
use super::target::{Column, Context, Label, Place, Role};
use super::text::push_utf16;
use super::token::{Token, TokenReader, Utf16};

/// A part of a value. Most values have one; text around a substitution makes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'c> {
    Text(Utf16<'c>),
    Literal { type_code: u8, bytes: &'c [u8] },
    Character(u16),
    Entity(Utf16<'c>),
    Slot { slot: u16, optional: bool },
}

impl Piece<'_> {
    /// Whether the piece is only there to indent the XML.
    fn is_blank(&self) -> bool {
        let Self::Text(text) = self else { return false };
        let (units, _) = text.as_chunks::<2>();
        units
            .iter()
            .all(|unit| unit[1] == 0 && unit[0].is_ascii_whitespace())
    }
}

/// Takes what a walk finds, in document order.
pub(super) trait Sink<'c> {
    /// A child of Event other than System begins.
    fn enter_payload(&mut self, kind: &str);
    /// An element begins; what follows belongs to it until it is closed.
    fn open_element(&mut self);
    /// The element opened last ends. It is not there at all when one of `guards`, the optional
    /// substitutions in its content, has no value ([MS-EVEN6] 3.1.4.7.2).
    fn close_element(&mut self, guards: &[u16]);
    /// A value, made of `pieces`; no piece means an element without content.
    fn put(&mut self, place: Place<'_>, pieces: &[Piece<'c>], at: usize) -> Decoded<()>;
    /// A `Data` whose name is made of `name`.
    fn put_named(
        &mut self,
        place: Place<'_>,
        name: &[Piece<'c>],
        pieces: &[Piece<'c>],
        at: usize,
    ) -> Decoded<()>;
    /// A name held something that is no text.
    fn lossy_name(&mut self);
}

/// An element that is open.
struct Frame {
    role: Role,
    /// The length of the path without this element.
    parent_path_bytes: usize,
    /// The pieces of a Data's `Name`, as a part of [`Walk::names`].
    name: Option<Range<usize>>,
    guards: Vec<u16>,
    has_children: bool,
    has_attributes: bool,
    /// Whether the start tag is complete.
    in_content: bool,
}

/// The state of a walk.
struct Walk<'c, 'w, S> {
    sink: &'w mut S,
    path: String,
    frames: Vec<Frame>,
    /// The value that is being put together.
    pieces: Vec<Piece<'c>>,
    attribute: Option<Utf16<'c>>,
    /// The name that was decoded last.
    text: String,
    /// The pieces of the names of open Datas.
    names: Vec<Piece<'c>>,
    elements: usize,
    context: Context<'w>,
}

/// Walk the element named `root`, whose opening token `reader` has just given, to its end.
pub(super) fn walk_element<'c, S: Sink<'c>>(
    reader: &mut TokenReader<'c>,
    root: Utf16<'c>,
    context: Context<'_>,
    sink: &mut S,
    budget: &mut Budget,
) -> Decoded<()> {
    let path = match context {
        Context::Document => String::new(),
        Context::Within { path, .. } => path.to_owned(),
    };
    let mut walk = Walk {
        sink,
        path,
        frames: Vec::with_capacity(8),
        pieces: Vec::with_capacity(4),
        attribute: None,
        text: String::with_capacity(SHORT_NAME_UNITS),
        names: Vec::new(),
        elements: 0,
        context,
    };
    walk.open(root, reader.at)?;
    while !walk.frames.is_empty() {
        let at = reader.at;
        let token = reader.next(budget)?;
        walk.take(token, at)?;
    }
    Ok(())
}

/// Units of a name that are decoded without an allocation.
const SHORT_NAME_UNITS: usize = 64;

/// Decode a name for a path; returns whether something was replaced.
pub(super) fn push_name(out: &mut String, name: Utf16<'_>) -> bool {
    let (units, half) = name.as_chunks::<2>();
    let mut short = [0; SHORT_NAME_UNITS];
    if let Some(place) = short.get_mut(..units.len())
        && half.is_empty()
    {
        let mut seen = 0_u16;
        for (character, unit) in place.iter_mut().zip(units) {
            *character = unit[0];
            seen |= u16::from_le_bytes(*unit);
        }
        if seen < 0x80
            && let Ok(text) = str::from_utf8(place)
        {
            out.push_str(text);
            return false;
        }
    }
    let mut bytes = Vec::with_capacity(name.len() / 2);
    let lossy = push_utf16(&mut bytes, name);
    out.push_str(&String::from_utf8_lossy(&bytes));
    lossy
}

impl<'c, S: Sink<'c>> Walk<'c, '_, S> {
    fn take(&mut self, token: Token<'c>, at: usize) -> Decoded<()> {
        let misplaced = || Damage::new(Reason::Structure, at, "this token cannot stand here");
        let in_content = self.frames.last().is_some_and(|frame| frame.in_content);
        match token {
            Token::OpenElement(name) if in_content => {
                self.flush_text(at, false)?;
                if let Some(parent) = self.frames.last_mut() {
                    parent.has_children = true;
                }
                self.open(name, at)
            }
            Token::Attribute(name) if !in_content => {
                self.flush_attribute(at)?;
                self.attribute = Some(name);
                Ok(())
            }
            Token::CloseStart if !in_content => {
                self.flush_attribute(at)?;
                if let Some(frame) = self.frames.last_mut() {
                    frame.in_content = true;
                }
                Ok(())
            }
            Token::CloseEmpty if !in_content => {
                self.flush_attribute(at)?;
                self.close(at)
            }
            Token::EndElement if in_content => self.close(at),
            Token::Value { type_code, bytes } => self.piece(
                match type_code {
                    super::value::STRING => Piece::Text(bytes),
                    _ => Piece::Literal { type_code, bytes },
                },
                at,
            ),
            Token::CData(text) => self.piece(Piece::Text(text), at),
            Token::CharacterReference(unit) => self.piece(Piece::Character(unit), at),
            Token::EntityReference(name) => self.piece(Piece::Entity(name), at),
            Token::Substitution { slot, optional } => {
                self.piece(Piece::Slot { slot, optional }, at)
            }
            Token::ProcessingInstruction if in_content => Ok(()),
            Token::End => Err(Damage::new(
                Reason::Truncated,
                at,
                "the fragment ends inside an element",
            )),
            _ => Err(misplaced()),
        }
    }

    fn piece(&mut self, piece: Piece<'c>, at: usize) -> Decoded<()> {
        let Some(frame) = self.frames.last_mut() else {
            return Ok(());
        };
        if frame.in_content {
            // Windows leaves out an element whose optional substitution is null; Event itself stays.
            if let Piece::Slot {
                slot,
                optional: true,
            } = piece
                && frame.role != Role::Event
            {
                frame.guards.push(slot);
            }
        } else if self.attribute.is_none() {
            return Err(Damage::new(
                Reason::Structure,
                at,
                "a start tag holds text outside an attribute",
            ));
        }
        self.pieces.push(piece);
        Ok(())
    }

    fn open(&mut self, name: Utf16<'c>, at: usize) -> Decoded<()> {
        if self.frames.len() >= DEPTH_MAX {
            return Err(Damage::new(
                Reason::DepthLimit,
                at,
                "elements are nested too deeply",
            ));
        }
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            return Err(Damage::new(
                Reason::ElementLimit,
                at,
                "a fragment has too many elements",
            ));
        }
        self.text.clear();
        if push_name(&mut self.text, name) {
            self.sink.lossy_name();
        }
        let parent = match (self.frames.last(), self.context) {
            (Some(frame), _) => Some(frame.role),
            (None, Context::Within { role, .. }) => Some(role),
            (None, Context::Document) => None,
        };
        let role = Role::below(parent, &self.path, &self.text);
        let parent_path_bytes = self.path.len();
        if role != Role::Event {
            if !self.path.is_empty() {
                self.path.push('/');
            }
            self.path.push_str(&self.text);
        }
        self.sink.open_element();
        if role == Role::Payload {
            self.sink.enter_payload(&self.text);
        }
        self.frames.push(Frame {
            role,
            parent_path_bytes,
            name: None,
            guards: Vec::new(),
            has_children: false,
            has_attributes: false,
            in_content: false,
        });
        Ok(())
    }

    fn close(&mut self, at: usize) -> Decoded<()> {
        self.flush_text(at, true)?;
        if let Some(frame) = self.frames.pop() {
            self.sink.close_element(&frame.guards);
            if let Some(name) = frame.name {
                self.names.truncate(name.start);
            }
            self.path.truncate(frame.parent_path_bytes);
        }
        Ok(())
    }

    /// Give the sink the attribute that ends here, if one does.
    fn flush_attribute(&mut self, at: usize) -> Decoded<()> {
        let (Some(name), Some(frame)) = (self.attribute.take(), self.frames.last_mut()) else {
            return Ok(());
        };
        self.text.clear();
        if push_name(&mut self.text, name) {
            self.sink.lossy_name();
        }
        let attribute = self.text.as_str();
        if attribute == "xmlns" || attribute.starts_with("xmlns:") {
            self.pieces.clear();
            return Ok(());
        }
        if frame.role == Role::Data && attribute == "Name" && frame.name.is_none() {
            let start = self.names.len();
            self.names.append(&mut self.pieces);
            frame.name = Some(start..self.names.len());
            return Ok(());
        }
        frame.has_attributes = true;
        let role = frame.role;
        let column = match role {
            Role::SystemField => Column::of_attribute(last_step(&self.path), attribute),
            _ => None,
        };
        let element_path_bytes = self.path.len();
        if role == Role::Event {
            self.path.push_str("Event");
        }
        self.path.push_str("/@");
        self.path.push_str(attribute);
        let place = Place {
            column,
            label: Label::Path {
                full: &self.path,
                own_from: Some(own_from(role, &self.path)),
            },
            nested: None,
        };
        self.sink.put(place, &self.pieces, at)?;
        self.path.truncate(element_path_bytes);
        self.pieces.clear();
        Ok(())
    }

    /// Give the sink the text that ends here: at a child element or at the element's end.
    fn flush_text(&mut self, at: usize, at_end: bool) -> Decoded<()> {
        let Some(frame) = self.frames.last() else {
            return Ok(());
        };
        let role = frame.role;
        let column = match role {
            Role::SystemField => Column::of_element(last_step(&self.path)),
            _ => None,
        };
        if self.pieces.is_empty() {
            let says_nothing_else = match role {
                Role::Data => true,
                Role::SystemField => {
                    !frame.has_attributes
                        && column.is_none()
                        && !Column::has_attributes_of(last_step(&self.path))
                }
                Role::Inner | Role::SystemDeep | Role::Foreign => !frame.has_attributes,
                Role::Event | Role::System | Role::Payload => false,
            };
            if !(at_end && says_nothing_else) || frame.has_children {
                return Ok(());
            }
        } else {
            // Indentation between elements is no value.
            let holds_elements = !at_end
                || frame.has_children
                || matches!(role, Role::Event | Role::System | Role::Payload);
            if holds_elements && self.pieces.iter().all(Piece::is_blank) {
                self.pieces.clear();
                return Ok(());
            }
        }
        let nested = Some(Context::Within {
            path: &self.path,
            role,
        });
        let place = |label| Place {
            column,
            label,
            nested,
        };
        match (&frame.name, role) {
            (Some(name), _) => {
                let name = self.names.get(name.clone()).unwrap_or_default();
                let label = Label::Path {
                    full: &self.path,
                    own_from: None,
                };
                self.sink.put_named(place(label), name, &self.pieces, at)?;
            }
            (None, Role::Data) => {
                let label = Label::Path {
                    full: &self.path,
                    own_from: None,
                };
                self.sink.put(place(label), &self.pieces, at)?;
            }
            (None, _) => {
                let full = if role == Role::Event {
                    "Event"
                } else {
                    &self.path
                };
                let label = Label::Path {
                    full,
                    own_from: Some(own_from(role, full)),
                };
                self.sink.put(place(label), &self.pieces, at)?;
            }
        }
        self.pieces.clear();
        Ok(())
    }
}

/// The last name of a path.
fn last_step(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Where the part of a path begins that is shown in the event's own payload.
fn own_from(role: Role, path: &str) -> usize {
    if role.is_payload() {
        path.find('/').map_or(0, |slash| slash + 1)
    } else {
        0
    }
}
