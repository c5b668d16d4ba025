//! A template definition, compiled: which value goes where, in the order of the document.

use super::damage::Decoded;
use super::limits::Budget;
use super::piece::{push_static, static_text};
use super::system::Parsed;
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
    /// How much of the budget one run of the plan costs.
    pub(super) cost: u32,
    /// The names that the steps use, one behind the other.
    names: String,
    /// Where steps stand that may meet nested BinXML.
    contexts: Vec<PlanContext>,
    /// The template's GUID as text.
    pub(super) guid: [u8; 36],
    /// What is to be said of each row made by this plan.
    pub(super) flags: Flags,
}

/// One step of a plan.
#[derive(Debug)]
pub(super) enum Op {
    /// Put one substitution value in its place: what most steps do.
    PutSlot(PutSlot),
    /// Put several, one after the other, into the lists.
    PutRun(Box<Run>),
    /// Put another value in its place.
    Put(Box<Put>),
    /// A payload element of this name begins.
    EnterPayload(Box<str>),
    /// Leave out the next `count` steps when one of `slots` has no value.
    SkipIfAbsent { slots: Box<[u16]>, count: usize },
}

/// A substitution value and its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct PutSlot {
    pub(super) place: PlanPlace,
    pub(super) slot: u16,
    pub(super) optional: bool,
}

/// Values that always come together, so that their names can be copied as one.
#[derive(Debug)]
pub(super) struct Run {
    /// The values one by one, for the cases that the run does not cover: BinXML among them, or a
    /// payload that is not the event's own.
    pub(super) puts: Vec<PutSlot>,
    /// All names, one behind the other.
    pub(super) names: Vec<u8>,
    /// Where each name ends.
    pub(super) name_ends: Vec<u32>,
    /// Which values have no name.
    pub(super) unnamed: Vec<u32>,
}

/// A value that is more, or less, than one substitution.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) place: PlanPlace,
    /// Pieces of a name that the record gives; then the name in `place` is not used.
    pub(super) made_name: Option<Box<[PlanPiece]>>,
    pub(super) source: Source,
}

/// [`Place`], with positions in the plan instead of texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlanPlace {
    pub(super) column: Option<Column>,
    name_start: u32,
    name_end: u32,
    /// [`Label::Path::own_from`]; [`NONE`] for none.
    own_from: u32,
    /// [`NONE`] for none.
    context: u32,
}

/// No position.
const NONE: u32 = u32::MAX;

/// [`Context::Within`], owned.
#[derive(Debug, PartialEq, Eq)]
struct PlanContext {
    path: Box<str>,
    role: Role,
}

impl Plan {
    /// The name of a place.
    #[inline]
    pub(super) fn label(&self, place: PlanPlace) -> Label<'_> {
        let name = place.name_start as usize..place.name_end as usize;
        Label::Path {
            full: self.names.get(name).unwrap_or_default(),
            own_from: (place.own_from != NONE).then_some(place.own_from as usize),
        }
    }

    /// Where BinXML in a place would stand.
    #[inline]
    pub(super) fn nested(&self, place: PlanPlace) -> Option<Context<'_>> {
        let context = self.contexts.get(place.context as usize)?;
        Some(Context::Within {
            path: &context.path,
            role: context.role,
        })
    }

    /// How much memory the plan takes, about, in bytes.
    pub(super) fn byte_size(&self) -> usize {
        // Texts of the template are no longer than its definition, which the caller knows.
        self.cost as usize * 160 + 2 * self.names.len() + self.contexts.len() * 64
    }
}

/// Where a value comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// Text of the template itself.
    Text {
        text: Box<str>,
        type_code: u8,
        /// What it is to its column.
        parsed: Parsed,
    },
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
    let mut plan = Plan {
        cost: compiler.ops.len() as u32,
        ops: compiler.ops,
        names: compiler.names,
        contexts: compiler.contexts,
        guid: guid_text(guid),
        flags: compiler.flags,
    };
    plan.join_runs();
    Ok(plan)
}

impl Plan {
    /// Make runs of steps that follow one another and are never left out.
    fn join_runs(&mut self) {
        let mut joined = Vec::with_capacity(self.ops.len());
        let mut puts = Vec::new();
        // Steps that may be left out are counted by the step before them: they stay as they are.
        let mut skippable = 0_usize;
        for op in std::mem::take(&mut self.ops) {
            match op {
                Op::PutSlot(put)
                    if skippable == 0 && !put.optional && put.place.column.is_none() =>
                {
                    puts.push(put);
                    continue;
                }
                Op::SkipIfAbsent { count, .. } => {
                    skippable = skippable.saturating_sub(1).max(count);
                }
                _ => skippable = skippable.saturating_sub(1),
            }
            self.join_run(&mut puts, &mut joined);
            joined.push(op);
        }
        self.join_run(&mut puts, &mut joined);
        self.ops = joined;
    }

    fn join_run(&self, puts: &mut Vec<PutSlot>, joined: &mut Vec<Op>) {
        if puts.len() < 2 {
            joined.extend(puts.drain(..).map(Op::PutSlot));
            return;
        }
        let mut run = Run {
            puts: std::mem::take(puts),
            names: Vec::new(),
            name_ends: Vec::new(),
            unnamed: Vec::new(),
        };
        for (position, put) in run.puts.iter().enumerate() {
            match self.label(put.place).own() {
                Some(name) => run.names.extend_from_slice(name.as_bytes()),
                None => run.unnamed.push(position as u32),
            }
            run.name_ends.push(run.names.len() as u32);
        }
        joined.push(Op::PutRun(Box::new(run)));
    }
}

/// Writes down what a walk finds.
#[derive(Default)]
struct Compiler {
    ops: Vec<Op>,
    names: String,
    contexts: Vec<PlanContext>,
    /// Where the steps of each open element begin.
    starts: Vec<usize>,
    flags: Flags,
}

impl Compiler {
    fn source(
        &mut self,
        column: Option<Column>,
        pieces: &[Piece<'_>],
        at: usize,
    ) -> Decoded<Source> {
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
            let parsed = column.map_or(Parsed::Misfit, |column| Parsed::new(column, &literal.text));
            return Ok(Source::Text {
                text: literal.text.into(),
                type_code: literal.type_code,
                parsed,
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

    /// Keep a place's texts in the plan.
    fn place(&mut self, place: Place<'_>) -> PlanPlace {
        let (name, own_from) = match place.label {
            Label::Path { full, own_from } => (full, own_from),
            Label::Given(name) => (name, Some(0)),
        };
        // A definition has 65,536 bytes at most, so that all positions are small.
        let name_start = self.names.len() as u32;
        self.names.push_str(name);
        let context = match place.nested {
            Some(Context::Within { path, role }) => self.context(path, role),
            Some(Context::Document) | None => NONE,
        };
        PlanPlace {
            column: place.column,
            name_start,
            name_end: self.names.len() as u32,
            own_from: own_from.map_or(NONE, |from| from as u32),
            context,
        }
    }

    fn context(&mut self, path: &str, role: Role) -> u32 {
        let is_known = self
            .contexts
            .last()
            .is_some_and(|known| *known.path == *path && known.role == role);
        if !is_known {
            let path = path.into();
            self.contexts.push(PlanContext { path, role });
        }
        self.contexts.len() as u32 - 1
    }

    fn push(
        &mut self,
        place: Place<'_>,
        made_name: Option<Box<[PlanPiece]>>,
        pieces: &[Piece<'_>],
        at: usize,
    ) -> Decoded<()> {
        let place = self.place(place);
        if let ([Piece::Slot { slot, optional }], None) = (pieces, &made_name) {
            let (slot, optional) = (*slot, *optional);
            self.ops.push(Op::PutSlot(PutSlot {
                place,
                slot,
                optional,
            }));
            return Ok(());
        }
        let source = self.source(place.column, pieces, at)?;
        self.ops.push(Op::Put(Box::new(Put {
            place,
            made_name,
            source,
        })));
        Ok(())
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
        self.push(place, None, pieces, at)
    }

    fn put_named(
        &mut self,
        place: Place<'_>,
        name: &[Piece<'c>],
        pieces: &[Piece<'c>],
        at: usize,
    ) -> Decoded<()> {
        let is_made = name.iter().any(|piece| matches!(piece, Piece::Slot { .. }));
        if is_made {
            let name = self.pieces(name, at)?;
            return self.push(place, Some(name), pieces, at);
        }
        let mut full = DATA_PREFIX.to_owned();
        if let Some(name) = static_text(name, at)? {
            self.flags |= name.flags;
            full.push_str(&name.text);
        }
        let label = Label::Path {
            full: &full,
            own_from: Some(DATA_PREFIX.len()),
        };
        self.push(Place { label, ..place }, None, pieces, at)
    }

    fn lossy_name(&mut self) {
        self.flags |= flags::LOSSY_TEXT;
    }
}

/// What stands before the name of a `Data` when EventData is not the event's payload.
pub(super) const DATA_PREFIX: &str = "EventData/";
