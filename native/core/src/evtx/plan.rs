//! A template definition, compiled: which value goes where, in the order of the document.

use super::damage::Decoded;
use super::limits::Budget;
use super::piece::{push_static, static_text};
use super::target::{Column, Context, Label, Place, Role};
use super::text::guid_text;
use super::token::{Token, TokenReader};
use super::walk::{Piece, Sink, walk_element};
use super::{damage::Damage, damage::Reason, value};
use crate::flags::{self, Flags};

/// A compiled definition. It refers to nothing in the chunk that it came from.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) ops: Vec<Op>,
    /// The template's GUID as text.
    pub(super) guid: [u8; 36],
    /// What is to be said of each row made by this plan.
    pub(super) flags: Flags,
}

/// One step of a plan.
#[derive(Debug)]
pub(super) enum Op {
    /// A payload element of this name begins.
    EnterPayload(Box<str>),
    /// Leave out the next `count` steps when one of `slots` has no value.
    SkipIfAbsent { slots: Box<[u16]>, count: usize },
    /// Put a value in its place.
    Put(Box<Put>),
}

/// A value and its place.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) column: Option<Column>,
    pub(super) label: PlanLabel,
    pub(super) nested: Option<PlanContext>,
    pub(super) source: Source,
}

/// [`Label`], owned.
#[derive(Debug)]
pub(super) enum PlanLabel {
    Path {
        full: Box<str>,
        own_from: Option<usize>,
    },
    /// A name made of substitutions.
    Made(Box<[PlanPiece]>),
}

/// [`Context::Within`], owned.
#[derive(Debug)]
pub(super) struct PlanContext {
    path: Box<str>,
    role: Role,
}

impl PlanContext {
    pub(super) fn borrow(&self) -> Context<'_> {
        Context::Within {
            path: &self.path,
            role: self.role,
        }
    }
}

/// Where a value comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// One substitution.
    Slot { slot: u16, optional: bool },
    /// Text of the template itself.
    Text { text: Box<str>, type_code: u8 },
    /// Text with substitutions in it.
    Mixed(Box<[PlanPiece]>),
    /// An element without content.
    Nothing,
}

/// A piece of a mixed value.
#[derive(Debug)]
pub(super) enum PlanPiece {
    Text(Box<str>),
    Slot { slot: u16 },
}

/// Compile the definition between `start` and `end` for use in `context`.
pub(super) fn compile(
    chunk: &[u8],
    start: usize,
    end: usize,
    guid: &[u8; 16],
    context: Context<'_>,
    budget: &mut Budget,
) -> Decoded<Plan> {
    let mut reader = TokenReader::new(chunk, start, end, true);
    let mut compiler = Compiler::default();
    let mut roots = 0;
    loop {
        let at = reader.at;
        match reader.next(budget)? {
            Token::End => break,
            Token::FragmentHeader | Token::ProcessingInstruction => {}
            Token::OpenElement(name) => {
                roots += 1;
                walk_element(&mut reader, name, context, &mut compiler, budget)?;
            }
            _ => {
                return Err(Damage::new(
                    Reason::Structure,
                    at,
                    "a template definition holds something else than elements",
                ));
            }
        }
    }
    if roots == 0 {
        return Err(Damage::new(
            Reason::Structure,
            start,
            "a template definition is empty",
        ));
    }
    Ok(Plan {
        ops: compiler.ops,
        guid: guid_text(guid),
        flags: compiler.flags,
    })
}

/// Writes down what a walk finds.
#[derive(Default)]
struct Compiler {
    ops: Vec<Op>,
    /// Where the operations of each open element begin.
    starts: Vec<usize>,
    flags: Flags,
}

impl Compiler {
    fn source(&mut self, pieces: &[Piece<'_>], at: usize) -> Decoded<Source> {
        if let [Piece::Slot { slot, optional }] = *pieces {
            return Ok(Source::Slot { slot, optional });
        }
        if let [
            Piece::Literal {
                type_code: value::NULL,
                ..
            },
        ] = pieces
        {
            return Ok(Source::Nothing);
        }
        if let Some(literal) = static_text(pieces, at)? {
            self.flags |= literal.flags;
            return Ok(Source::Text {
                text: literal.text.into(),
                type_code: literal.type_code,
            });
        }
        if pieces.is_empty() {
            return Ok(Source::Nothing);
        }
        Ok(Source::Mixed(self.pieces(pieces, at)?))
    }

    fn pieces(&mut self, pieces: &[Piece<'_>], at: usize) -> Decoded<Box<[PlanPiece]>> {
        let owned = pieces.iter().map(|piece| {
            if let Piece::Slot { slot, .. } = *piece {
                return Ok(PlanPiece::Slot { slot });
            }
            let mut bytes = Vec::new();
            self.flags |= push_static(&mut bytes, piece, at)?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(PlanPiece::Text(text.into()))
        });
        owned.collect()
    }

    fn push(&mut self, place: Place<'_>, label: PlanLabel, source: Source) {
        self.ops.push(Op::Put(Box::new(Put {
            column: place.column,
            label,
            nested: place.nested.and_then(|context| match context {
                Context::Document => None,
                Context::Within { path, role } => Some(PlanContext {
                    path: path.into(),
                    role,
                }),
            }),
            source,
        })));
    }
}

impl<'c> Sink<'c> for Compiler {
    fn enter_payload(&mut self, kind: &str) {
        self.ops.push(Op::EnterPayload(kind.into()));
    }

    fn open_element(&mut self) {
        self.starts.push(self.ops.len());
    }

    fn close_element(&mut self, guards: &[u16]) {
        let start = self.starts.pop().unwrap_or(self.ops.len());
        let count = self.ops.len() - start;
        if !guards.is_empty() && count > 0 {
            // Counts are relative, so that steps put in before do not change them.
            let slots = guards.into();
            self.ops.insert(start, Op::SkipIfAbsent { slots, count });
        }
    }

    fn put(&mut self, place: Place<'_>, pieces: &[Piece<'c>], at: usize) -> Decoded<()> {
        let label = match place.label {
            Label::Path { full, own_from } => PlanLabel::Path {
                full: full.into(),
                own_from,
            },
            Label::Given(name) => PlanLabel::Path {
                full: name.into(),
                own_from: Some(0),
            },
        };
        let source = self.source(pieces, at)?;
        self.push(place, label, source);
        Ok(())
    }

    fn put_named(
        &mut self,
        place: Place<'_>,
        name: &[Piece<'c>],
        pieces: &[Piece<'c>],
        at: usize,
    ) -> Decoded<()> {
        let is_made = name
            .iter()
            .any(|piece| matches!(piece, Piece::Slot { .. }));
        let label = if is_made {
            PlanLabel::Made(self.pieces(name, at)?)
        } else {
            let name = static_text(name, at)?;
            let name = name.map(|name| {
                self.flags |= name.flags;
                name.text
            });
            PlanLabel::data(&name.unwrap_or_default())
        };
        let source = self.source(pieces, at)?;
        self.push(place, label, source);
        Ok(())
    }

    fn lossy_name(&mut self) {
        self.flags |= flags::LOSSY_TEXT;
    }
}

impl PlanLabel {
    /// The label of a `Data` of EventData that is called `name`.
    fn data(name: &str) -> Self {
        Self::Path {
            full: format!("{DATA_PREFIX}{name}").into(),
            own_from: Some(DATA_PREFIX.len()),
        }
    }
}

/// What stands before the name of a `Data` when EventData is not the event's payload.
pub(super) const DATA_PREFIX: &str = "EventData/";
