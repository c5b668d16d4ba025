//! The items of a row: what its payload says, as lists of names, values and types.

use super::EventRows;
use crate::evtx::damage::{Damage, Decoded, Reason};
use crate::evtx::plan::Run;
use crate::evtx::slots::Slot;
use crate::evtx::target::Label;
use crate::evtx::value::{self, Rendered};

impl EventRows {
    /// Append to the lists what `write` writes.
    #[inline]
    pub(in super::super) fn push_item(
        &mut self,
        label: Label<'_>,
        type_code: u8,
        at: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<Rendered, Reason>,
    ) -> Decoded<()> {
        let name = if self.row.in_other_payload {
            Some(label.full())
        } else {
            label.own()
        };
        self.names.push_value(name.map(str::as_bytes));
        let rendered = write(&mut self.values.bytes)
            .map_err(|reason| Damage::new(reason, at, "a value does not suit its type"))?;
        self.values.push(!rendered.is_null);
        self.item_types.push(type_code);
        self.row.flags |= rendered.flags;
        self.check_text_bytes(at)
    }

    /// Append to the lists each item of an array under the same name, as Windows repeats the element for
    /// each ([MS-EVEN6] 3.1.4.7.5); the type stays the array's. An empty array is one null.
    pub(in super::super) fn push_array(
        &mut self,
        label: Label<'_>,
        type_code: u8,
        bytes: &[u8],
        at: usize,
    ) -> Decoded<()> {
        if bytes.is_empty() {
            return self.push_item(label, type_code, at, |_| Ok(value::NOTHING));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let (item, behind) = value::split_item(type_code, bytes.len(), rest)
                .map_err(|reason| Damage::new(reason, at, "a value does not suit its type"))?;
            rest = behind;
            self.push_item(label, type_code, at, |out| {
                value::render_item(type_code, item, out)
            })?;
        }
        Ok(())
    }

    /// Append to the lists the values of a run, none of which is BinXML or an array.
    pub(in super::super) fn push_run(
        &mut self,
        run: &Run,
        slots: &[Slot],
        chunk: &[u8],
        at: usize,
    ) -> Decoded<()> {
        self.names
            .push_values(&run.names, &run.name_ends, &run.unnamed);
        for put in &run.puts {
            let slot = slots
                .get(usize::from(put.slot))
                .ok_or_else(|| Damage::no_such_slot(at))?;
            let bytes = slot.bytes(chunk);
            let rendered = value::render(slot.type_code, bytes, &mut self.values.bytes);
            let rendered = rendered.map_err(|reason| {
                Damage::new(reason, slot.range().start, "a value does not suit its type")
            })?;
            self.values.push(!rendered.is_null);
            self.item_types.push(slot.type_code);
            self.row.flags |= rendered.flags;
            self.check_text_bytes(at)?;
        }
        Ok(())
    }

    #[inline]
    fn check_text_bytes(&self, at: usize) -> Decoded<()> {
        if self.text_bytes() <= self.row.text_bytes_max {
            return Ok(());
        }
        Err(Damage::new(
            Reason::TextLimit,
            at,
            "the record's values are many times larger than the record",
        ))
    }
}
