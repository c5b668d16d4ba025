//! One record's BinXML into one row.
//!
//! Records made from a template run its plan over their values; records without one are walked token by
//! token, [`super::live`]. Both end in [`super::put`].

use std::ops::Range;

use super::cache::{ChunkPlans, DEFINITION_HEADER_BYTES, Definition, PlanCache};
use super::damage::{Damage, Decoded, Reason};
use super::limits::{Budget, DEPTH_MAX, RECORD_TEXT_BYTES_MAX};
use super::live::Live;
use super::plan::{Op, Plan, PlanPiece, PlanPlace, Put, PutSlot, Source};
use super::put::{put_nothing, put_parsed, put_text, put_value, unsuitable};
use super::rows::EventRows;
use super::slots::{Slot, SlotStack, read_slots};
use super::system::{Fit, store};
use super::target::{BELOW_EVENT, Context, Label, Place};
use super::token::{Token, TokenReader};
use super::value::{self, is_absent, render};
use super::walk::walk_element;
use crate::bytes::{offset_at, u32_at};
use crate::flags;

/// Bytes of a template instance behind its token: version, identifier, offset of the definition.
const INSTANCE_HEADER_BYTES: usize = 9;

/// What decoding the records of one chunk needs.
pub(super) struct Decoder<'c, 'd> {
    pub(super) chunk: &'c [u8],
    pub(super) rows: &'d mut EventRows,
    pub(super) plans: &'d mut ChunkPlans,
    pub(super) cache: &'d mut PlanCache,
    pub(super) budget: &'d mut Budget,
    pub(super) slots: &'d mut SlotStack,
}

impl<'c> Decoder<'c, '_> {
    /// Decode the BinXML in `binxml` into the row that was begun.
    pub(super) fn record(&mut self, binxml: Range<usize>) -> Decoded<()> {
        self.slots.clear();
        self.fragment(binxml, Context::Document, 0)
    }

    /// Decode a fragment: an element or a template instance, and what may stand around it.
    fn fragment(
        &mut self,
        range: Range<usize>,
        context: Context<'_>,
        nesting: usize,
    ) -> Decoded<()> {
        if nesting >= DEPTH_MAX {
            return Err(Damage::new(
                Reason::DepthLimit,
                range.start,
                "BinXML values are nested too deeply",
            ));
        }
        let mut reader = TokenReader::new(self.chunk, range.start, range.end, false);
        let mut is_empty = true;
        loop {
            let at = reader.at;
            match reader.next(self.budget)? {
                Token::End => break,
                Token::FragmentHeader | Token::ProcessingInstruction => continue,
                Token::TemplateInstance => {
                    reader.at = self.instance(reader.at, range.end, context, nesting)?;
                }
                Token::OpenElement(name) => {
                    self.rows.add_flags(flags::INLINE);
                    let mut live = Live::new(self.rows);
                    walk_element(&mut reader, name, context, &mut live, self.budget)?;
                }
                _ => {
                    return Err(Damage::new(
                        Reason::Structure,
                        at,
                        "a fragment begins with neither an element nor a template",
                    ));
                }
            }
            is_empty = false;
        }
        if is_empty && context == Context::Document {
            return Err(Damage::new(
                Reason::Structure,
                range.start,
                "the record holds no event",
            ));
        }
        Ok(())
    }

    /// Run the template instance at `at`, behind its token; returns where its values end.
    fn instance(
        &mut self,
        at: usize,
        end: usize,
        context: Context<'_>,
        nesting: usize,
    ) -> Decoded<usize> {
        let truncated = || Damage::truncated(at);
        let header = self.chunk.get(at..end).ok_or_else(truncated)?;
        let identifier = u32_at(header, 1).ok_or_else(truncated)?;
        let offset = offset_at(header, 5).ok_or_else(truncated)?;
        let mut values_at = at + INSTANCE_HEADER_BYTES;
        let definition = Definition::read(self.chunk, offset, identifier, at)?;
        if offset == values_at {
            // Used for the first time: the definition stands right here.
            values_at = definition.end;
        }
        debug_assert!(definition.end >= offset + DEFINITION_HEADER_BYTES);
        let plan = self.plans.plan(
            self.cache,
            self.chunk,
            offset,
            &definition,
            context,
            self.budget,
        )?;
        self.rows.add_flags(plan.flags);
        match context {
            Context::Document => self.rows.set_outer_template(&plan.guid),
            _ if context == BELOW_EVENT => self.rows.set_payload_template(&plan.guid),
            Context::Within { .. } => {}
        }
        let base = self.slots.len();
        let read = read_slots(self.slots, self.chunk, values_at, end, self.budget)?;
        self.budget.spend(plan.cost, at)?;
        self.run(&plan, base, read.has_compound, at, nesting)?;
        self.slots.truncate(base);
        Ok(read.stop)
    }

    /// Run a plan over the values from `base` on.
    #[inline(never)]
    fn run(
        &mut self,
        plan: &Plan,
        base: usize,
        has_compound: bool,
        at: usize,
        nesting: usize,
    ) -> Decoded<()> {
        let mut next = 0;
        while let Some(op) = plan.ops.get(next) {
            next += 1;
            match op {
                Op::PutSlot(put) => self.put_slot_of(plan, put, base, at, nesting)?,
                Op::PutRun(run) => {
                    if has_compound || self.rows.is_in_other_payload() {
                        for put in &run.puts {
                            self.put_slot_of(plan, put, base, at, nesting)?;
                        }
                    } else {
                        let slots = self.slots.get(base..).unwrap_or_default();
                        self.rows.push_run(run, slots, self.chunk, at)?;
                    }
                }
                Op::EnterPayload(kind) => self.rows.enter_payload(kind),
                Op::SkipIfAbsent { slots, count } => {
                    for slot in slots {
                        let slot = self.slot(base, *slot, at)?;
                        if is_absent(slot.type_code, slot.bytes(self.chunk)) {
                            next += count;
                            break;
                        }
                    }
                }
                Op::Put(put) => self.put(plan, put, base, at, nesting)?,
            }
        }
        Ok(())
    }

    #[inline]
    fn slot(&self, base: usize, slot: u16, at: usize) -> Decoded<Slot> {
        self.slots
            .get(base + usize::from(slot))
            .copied()
            .ok_or_else(|| Damage::no_such_slot(at))
    }

    /// Put one substitution value in its place.
    #[inline]
    fn put_slot_of(
        &mut self,
        plan: &Plan,
        put: &PutSlot,
        base: usize,
        at: usize,
        nesting: usize,
    ) -> Decoded<()> {
        let slot = self.slot(base, put.slot, at)?;
        let bytes = slot.bytes(self.chunk);
        if put.optional && is_absent(slot.type_code, bytes) {
            return Ok(());
        }
        if let Some(column) = put.place.column
            && slot.type_code != value::BINXML
        {
            let fit = store(self.rows, column, slot.type_code, bytes)
                .map_err(|reason| unsuitable(reason, slot.range().start))?;
            if fit != Fit::Misfit {
                return Ok(());
            }
            self.rows.add_flags(flags::STRANGE_SYSTEM);
        }
        self.put_slot_in_lists(plan, put.place, slot, nesting)
    }

    /// Put a substitution value into the lists, or descend into it.
    #[inline(never)]
    fn put_slot_in_lists(
        &mut self,
        plan: &Plan,
        place: PlanPlace,
        slot: Slot,
        nesting: usize,
    ) -> Decoded<()> {
        let place = Place {
            column: None,
            label: plan.label(place),
            nested: plan.nested(place),
        };
        self.put_slot(place, slot, nesting)
    }

    /// Put a value that is more, or less, than one substitution.
    #[inline(never)]
    fn put(
        &mut self,
        plan: &Plan,
        put: &Put,
        base: usize,
        at: usize,
        nesting: usize,
    ) -> Decoded<()> {
        let made;
        let label = match &put.made_name {
            None => plan.label(put.place),
            Some(pieces) => {
                made = self.mixed_text(pieces, base, at)?;
                Label::Given(&made)
            }
        };
        let place = Place {
            column: put.place.column,
            label,
            nested: plan.nested(put.place),
        };
        match &put.source {
            Source::Text {
                text,
                type_code,
                parsed,
            } => put_parsed(self.rows, place, text, parsed, *type_code, at),
            Source::Nothing => put_nothing(self.rows, place, at),
            Source::Mixed(pieces) => match **pieces {
                [PlanPiece::Slot { slot }] => {
                    let slot = self.slot(base, slot, at)?;
                    self.put_slot(place, slot, nesting)
                }
                _ => self.put_mixed(place, pieces, base, at, nesting),
            },
        }
    }

    /// Put a substitution value, or descend into it when it is BinXML.
    #[inline]
    fn put_slot(&mut self, place: Place<'_>, slot: Slot, nesting: usize) -> Decoded<()> {
        if slot.type_code == value::BINXML
            && let Some(context) = place.nested
        {
            return self.fragment(slot.range(), context, nesting + 1);
        }
        let bytes = slot.bytes(self.chunk);
        put_value(self.rows, place, slot.type_code, bytes, slot.range().start)
    }

    /// Put text with substitutions in it. BinXML among them stands for itself, between the texts.
    #[inline(never)]
    fn put_mixed(
        &mut self,
        place: Place<'_>,
        pieces: &[PlanPiece],
        base: usize,
        at: usize,
        nesting: usize,
    ) -> Decoded<()> {
        let mut rest = pieces;
        while !rest.is_empty() {
            let is_binxml = |piece: &PlanPiece| match piece {
                PlanPiece::Text(_) => None,
                PlanPiece::Slot { slot } => self
                    .slots
                    .get(base + usize::from(*slot))
                    .copied()
                    .filter(|slot| slot.type_code == value::BINXML && place.nested.is_some()),
            };
            let texts = rest.iter().take_while(|piece| is_binxml(piece).is_none());
            let count = texts.count();
            let nested = rest.get(count).and_then(is_binxml);
            let (texts, behind) = rest.split_at(count);
            let text = self.mixed_text(texts, base, at)?;
            if nested.is_none() && count == pieces.len() || !text.trim_ascii().is_empty() {
                put_text(self.rows, place, &text, value::STRING, at)?;
            }
            if let Some(slot) = nested {
                self.put_slot(place, slot, nesting)?;
            }
            rest = behind.get(1..).unwrap_or_default();
        }
        Ok(())
    }

    /// The text of pieces, none of which is BinXML.
    #[inline(never)]
    fn mixed_text(&mut self, pieces: &[PlanPiece], base: usize, at: usize) -> Decoded<String> {
        let mut bytes = Vec::new();
        for piece in pieces {
            match piece {
                PlanPiece::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                PlanPiece::Slot { slot } => {
                    let slot = self.slot(base, *slot, at)?;
                    let rendered = render(slot.type_code, slot.bytes(self.chunk), &mut bytes)
                        .map_err(|reason| unsuitable(reason, slot.range().start))?;
                    self.rows.add_flags(rendered.flags);
                }
            }
            if bytes.len() > RECORD_TEXT_BYTES_MAX {
                return Err(Damage::new(
                    Reason::TextLimit,
                    at,
                    "a value is many times larger than the record",
                ));
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
