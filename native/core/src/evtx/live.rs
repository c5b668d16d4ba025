//! Elements without a template, put into the row while they are walked.

use super::damage::{Damage, Decoded, Reason};
use super::piece::static_text;
use super::plan::DATA_PREFIX;
use super::put::{put_nothing, put_text, put_value};
use super::rows::EventRows;
use super::target::{Label, Place};
use super::value;
use super::walk::{Piece, Sink, push_name};
use crate::flags;

/// Writes the row while a template-less element is walked.
pub(super) struct Live<'d> {
    rows: &'d mut EventRows,
    /// Room for the name of a Data.
    name: String,
}

impl<'d> Live<'d> {
    pub(super) fn new(rows: &'d mut EventRows) -> Self {
        Self {
            rows,
            name: String::new(),
        }
    }

    fn put_pieces(&mut self, place: Place<'_>, pieces: &[Piece<'_>], at: usize) -> Decoded<()> {
        match pieces {
            [] => return put_nothing(self.rows, place, at),
            [Piece::Text(text)] => return put_value(self.rows, place, value::STRING, text, at),
            [Piece::Literal { type_code, bytes }] => {
                return put_value(self.rows, place, *type_code, bytes, at);
            }
            _ => {}
        }
        let Some(literal) = static_text(pieces, at)? else {
            return Err(no_template(at));
        };
        self.rows.add_flags(literal.flags);
        put_text(self.rows, place, &literal.text, literal.type_code, at)
    }
}

#[cold]
fn no_template(at: usize) -> Damage {
    Damage::new(
        Reason::Substitution,
        at,
        "a substitution stands outside a template",
    )
}

impl<'c> Sink<'c> for Live<'_> {
    fn enter_payload(&mut self, kind: &str) {
        self.rows.enter_payload(kind);
    }

    fn open_element(&mut self) {}

    fn close_element(&mut self, _guards: &[u16]) {}

    fn put(&mut self, place: Place<'_>, pieces: &[Piece<'c>], at: usize) -> Decoded<()> {
        self.put_pieces(place, pieces, at)
    }

    fn put_named(
        &mut self,
        place: Place<'_>,
        name: &[Piece<'c>],
        pieces: &[Piece<'c>],
        at: usize,
    ) -> Decoded<()> {
        let mut full = std::mem::take(&mut self.name);
        full.clear();
        full.push_str(DATA_PREFIX);
        match name {
            [] => {}
            [Piece::Text(text)] => {
                if push_name(&mut full, text) {
                    self.rows.add_flags(flags::LOSSY_TEXT);
                }
            }
            _ => {
                let name = static_text(name, at)?.ok_or_else(|| no_template(at))?;
                self.rows.add_flags(name.flags);
                full.push_str(&name.text);
            }
        }
        let label = Label::Path {
            full: &full,
            own_from: Some(DATA_PREFIX.len()),
        };
        let put = self.put_pieces(Place { label, ..place }, pieces, at);
        self.name = full;
        put
    }

    fn lossy_name(&mut self) {
        self.rows.add_flags(flags::LOSSY_TEXT);
    }
}
