//! Compiled plans, found again.
//!
//! Inside a chunk a definition is known by its offset. Across chunks it is known by its whole content with
//! names in place of their offsets, so that a string table in another order still finds its plan, and
//! two definitions that share a GUID but differ (an edited log) never share a plan. Keys are compared
//! in full: there is no hash that an author of evidence could make collide. Most definitions are recognised sooner, by their
//! [`Shape`].
//!
//! A plan costs the same share of a chunk's budget whether it is found or made, so that no row depends on what was decoded before.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::damage::{Damage, Decoded, Reason};
use super::limits::{Budget, PLAN_CACHE_BYTES_MAX};
use super::plan::{Plan, compile};
use super::shape::Shape;
use super::target::{BELOW_EVENT, Context};
use super::token::{Token, TokenReader};
use crate::bytes::{array_at, offset_at, u32_at};

/// Bytes of a definition before its tokens: next offset, GUID, size.
pub(super) const DEFINITION_HEADER_BYTES: usize = 24;

/// Plans by content. It can go from one file's decoder to the next.
#[derive(Debug, Default)]
pub struct PlanCache {
    plans: HashMap<Box<[u8]>, Compiled>,
    /// Shapes of definitions by GUID, length and context; the same content may have several.
    shapes: HashMap<ShapeKey, Vec<Known>>,
    bytes: usize,
    key: Vec<u8>,
    /// Positions in the chunk at which the definition refers to names.
    references: Vec<usize>,
}

/// A plan, and what it costs to have it: its key's tokens not included.
#[derive(Debug, Clone)]
struct Compiled {
    plan: Arc<Plan>,
    cost: u32,
}

/// A shape, and the plan of what has it, which `plans` has too.
struct Known {
    shape: Shape,
    compiled: Compiled,
}

impl fmt::Debug for Known {
    /// Without the plan: it is shown where it is kept.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shape.fmt(formatter)
    }
}

type ShapeKey = ([u8; 16], u32, bool);

/// Shapes of one definition that are kept; an author of evidence could make any number.
const SHAPES_MAX: usize = 8;

impl PlanCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    fn plan(
        &mut self,
        chunk: &[u8],
        definition: &Definition,
        context: Context<'_>,
        budget: &mut Budget,
    ) -> Decoded<Arc<Plan>> {
        let length = (definition.end - definition.start) as u32;
        let shape_key = match context {
            Context::Document => Some((definition.guid, length, true)),
            _ if context == BELOW_EVENT => Some((definition.guid, length, false)),
            Context::Within { .. } => None,
        };
        if let Some(key) = &shape_key
            && let Some(shapes) = self.shapes.get(key)
            && let Some(Known {
                compiled: known, ..
            }) = shapes
                .iter()
                .find(|known| known.shape.is_at(chunk, definition.start))
            && known.cost <= budget.work_left()
        {
            budget.spend(known.cost, definition.start)?;
            return Ok(Arc::clone(&known.plan));
        }
        let before = budget.work_left();
        self.key.clear();
        self.references.clear();
        write_key(
            &mut self.key,
            &mut self.references,
            chunk,
            definition,
            context,
            budget,
        )?;
        let key_cost = before - budget.work_left();
        let compiled = self.compiled(chunk, definition, context, budget)?;
        if let Some(key) = shape_key {
            self.keep_shape(key, key_cost, chunk, definition, &compiled);
        }
        Ok(compiled.plan)
    }

    /// The plan whose key was written, compiled when need be.
    fn compiled(
        &mut self,
        chunk: &[u8],
        definition: &Definition,
        context: Context<'_>,
        budget: &mut Budget,
    ) -> Decoded<Compiled> {
        if let Some(known) = self.plans.get(self.key.as_slice())
            && known.cost <= budget.work_left()
        {
            budget.spend(known.cost, definition.start)?;
            return Ok(known.clone());
        }
        let before = budget.work_left();
        let plan = Arc::new(compile(
            chunk,
            definition.start,
            definition.end,
            &definition.guid,
            context,
            budget,
        )?);
        let compiled = Compiled {
            plan,
            cost: before - budget.work_left(),
        };
        self.make_room(2 * self.key.len() + compiled.plan.byte_size());
        self.plans
            .insert(self.key.as_slice().into(), compiled.clone());
        Ok(compiled)
    }

    fn keep_shape(
        &mut self,
        key: ShapeKey,
        key_cost: u32,
        chunk: &[u8],
        definition: &Definition,
        compiled: &Compiled,
    ) {
        let Some(shape) = Shape::new(chunk, definition.start, definition.end, &self.references)
        else {
            return;
        };
        self.make_room(shape.byte_size());
        let shapes = self.shapes.entry(key).or_default();
        if shapes.len() < SHAPES_MAX {
            let cost = compiled.cost + key_cost;
            let plan = Arc::clone(&compiled.plan);
            let compiled = Compiled { plan, cost };
            shapes.push(Known { shape, compiled });
        }
    }

    /// Count what is to be kept; when it is too much, forget everything before.
    fn make_room(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes > PLAN_CACHE_BYTES_MAX {
            self.plans.clear();
            self.shapes.clear();
            self.bytes = bytes;
        }
    }
}

/// A definition whose bounds were checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Definition {
    guid: [u8; 16],
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Definition {
    /// The definition at `offset`, which must be the one that `identifier` names: the first four bytes
    /// of its GUID. A slack record may point to a place that was overwritten since.
    pub(super) fn read(
        chunk: &[u8],
        offset: usize,
        identifier: u32,
        reference: usize,
    ) -> Decoded<Self> {
        let wrong = |detail| Damage::new(Reason::Template, reference, detail);
        let outside = || wrong("a template definition lies outside the chunk");
        let header = chunk.get(offset..).ok_or_else(outside)?;
        let guid = array_at::<16>(header, 4).ok_or_else(outside)?;
        let size = offset_at(header, 20).ok_or_else(outside)?;
        let start = offset + DEFINITION_HEADER_BYTES;
        let end = start
            .checked_add(size)
            .filter(|end| *end <= chunk.len())
            .ok_or_else(outside)?;
        if u32_at(&guid, 0) != Some(identifier) {
            return Err(wrong(
                "the template definition is not the one that the record means",
            ));
        }
        Ok(Self { guid, start, end })
    }
}

/// Plans of the chunk at hand by offset, for the two contexts that nearly all instances stand in.
#[derive(Debug)]
pub(super) struct ChunkPlans {
    /// By the part of the chunk that the offset lies in: position of the last plan in `plans`, plus one.
    parts: [u16; PARTS],
    plans: Vec<ChunkPlan>,
}

/// What the definition at an offset is in a context.
#[derive(Debug)]
struct ChunkPlan {
    offset: usize,
    is_document: bool,
    /// The plan before it in the same part, as in `parts`.
    before: u16,
    /// What does not compile is remembered too: it must not cost its work again for each record.
    plan: Decoded<Arc<Plan>>,
}

/// Bytes of a part: this bounds how many plans are searched.
const PART_BYTES: usize = 256;
const PARTS: usize = super::layout::SLOT_BYTES / PART_BYTES;

impl ChunkPlans {
    pub(super) fn new() -> Self {
        Self {
            parts: [0; PARTS],
            plans: Vec::new(),
        }
    }

    /// Forget everything: another chunk follows.
    pub(super) fn clear(&mut self) {
        self.parts.fill(0);
        self.plans.clear();
    }

    /// The plan of the definition at `offset`, compiled when need be.
    pub(super) fn plan(
        &mut self,
        cache: &mut PlanCache,
        chunk: &[u8],
        offset: usize,
        definition: &Definition,
        context: Context<'_>,
        budget: &mut Budget,
    ) -> Decoded<Arc<Plan>> {
        let is_document = match context {
            Context::Document => true,
            _ if context == BELOW_EVENT => false,
            Context::Within { .. } => return cache.plan(chunk, definition, context, budget),
        };
        // A definition lies in the chunk, and a chunk has no more bytes than a slot.
        let part = offset / PART_BYTES % PARTS;
        let mut next = self.parts[part];
        while let Some(known) = usize::from(next)
            .checked_sub(1)
            .and_then(|place| self.plans.get(place))
        {
            if known.offset == offset && known.is_document == is_document {
                return known.plan.clone();
            }
            next = known.before;
        }
        let plan = cache.plan(chunk, definition, context, budget);
        if let Ok(number) = u16::try_from(self.plans.len() + 1) {
            self.plans.push(ChunkPlan {
                offset,
                is_document,
                before: self.parts[part],
                plan: plan.clone(),
            });
            self.parts[part] = number;
        }
        plan
    }
}

/// Write the content of a definition, free of offsets, and where in the chunk it refers to names.
fn write_key(
    key: &mut Vec<u8>,
    references: &mut Vec<usize>,
    chunk: &[u8],
    definition: &Definition,
    context: Context<'_>,
    budget: &mut Budget,
) -> Decoded<()> {
    match context {
        Context::Document => key.push(0),
        Context::Within { path, role } => {
            key.push(1 + role as u8);
            write_counted(key, path.as_bytes());
        }
    }
    key.extend_from_slice(&definition.guid);
    let mut reader = TokenReader::new(chunk, definition.start, definition.end, true);
    loop {
        let at = reader.at;
        let token = reader.next(budget)?;
        match (&token, chunk.get(at)) {
            // Behind the code, the dependency identifier and the length of the element's data.
            (Token::OpenElement(_), _) => references.push(at + 7),
            (Token::Attribute(_) | Token::EntityReference(_), _)
            | (Token::ProcessingInstruction, Some(0x0a | 0x4a)) => references.push(at + 1),
            _ => {}
        }
        // Each token begins with its own code, and what varies in length with its length.
        match token {
            Token::End => return Ok(()),
            Token::FragmentHeader => key.push(0x0f),
            Token::OpenElement(name) => {
                key.push(0x01);
                write_counted(key, name);
            }
            Token::CloseStart => key.push(0x02),
            Token::CloseEmpty => key.push(0x03),
            Token::EndElement => key.push(0x04),
            Token::Value { type_code, bytes } => {
                key.extend_from_slice(&[0x05, type_code]);
                write_counted(key, bytes);
            }
            Token::Attribute(name) => {
                key.push(0x06);
                write_counted(key, name);
            }
            Token::CData(text) => {
                key.push(0x07);
                write_counted(key, text);
            }
            Token::CharacterReference(unit) => {
                key.push(0x08);
                key.extend_from_slice(&unit.to_le_bytes());
            }
            Token::EntityReference(name) => {
                key.push(0x09);
                write_counted(key, name);
            }
            Token::ProcessingInstruction => key.push(0x0a),
            Token::Substitution { slot, optional } => {
                key.push(if optional { 0x0e } else { 0x0d });
                key.extend_from_slice(&slot.to_le_bytes());
            }
            Token::TemplateInstance => {
                return Err(Damage::new(
                    Reason::Structure,
                    reader.at,
                    "a template definition holds a template instance",
                ));
            }
        }
    }
}

fn write_counted(key: &mut Vec<u8>, bytes: &[u8]) {
    // A chunk has 65,536 bytes, so no part of one is longer than 32 bits can say.
    key.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    key.extend_from_slice(bytes);
}
