//! What was seen at one place of JSON documents, as a tree of keys.
//!
//! Objects are gone into, lists of scalars are lists, and all that is deeper or of mixed kinds is kept as JSON text. Trees of any
//! parts of a text are joined in any order and give the same.

use super::column::Column;
use super::members::Members;
use super::witness::{Place, Sightings};
use crate::jsonl::{Document, Kind, unescaped};

/// Keys that lead to a column, at most; what is deeper is kept as JSON.
const DEPTH_MAX: usize = 16;
/// Objects with more different keys are maps, and kept as JSON.
const MEMBERS_MAX: usize = 512;
/// Kinds of values, in the order in which [`Seen::kinds`] has them.
pub(super) const KINDS: [(Kind, &str); 6] = [
    (Kind::Null, "null"),
    (Kind::Bool, "bool"),
    (Kind::Number, "number"),
    (Kind::Text, "text"),
    (Kind::Array, "list"),
    (Kind::Object, "object"),
];

/// What was seen at one place of the documents.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By [`KINDS`].
    pub(super) kinds: [Sightings; KINDS.len()],
    pub(super) numbers: Option<Box<Column>>,
    pub(super) texts: Option<Box<Column>>,
    /// What lists hold.
    pub(super) items: Option<Box<Seen>>,
    pub(super) members: Members,
    is_map: bool,
}

/// A line that holds a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) document: &'a Document,
    pub(super) text: &'a [u8],
    pub(super) place: Place,
}

/// How many more keys there may be.
#[derive(Debug)]
pub(super) struct Room {
    left: usize,
    is_short: bool,
}

impl Room {
    pub(super) fn of(places: usize) -> Self {
        Self {
            left: places,
            is_short: false,
        }
    }

    /// Whether a key was left out for want of room.
    pub(super) fn is_short(&self) -> bool {
        self.is_short
    }

    fn take(&mut self) -> bool {
        self.is_short |= self.left == 0;
        self.left = self.left.saturating_sub(1);
        !self.is_short
    }
}

impl Seen {
    /// Take the value of one node into account, which lies below `depth` keys.
    pub(super) fn feed(&mut self, row: &Row<'_>, node: usize, depth: usize, room: &mut Room) {
        let one = &row.document.nodes()[node];
        self.kinds[one.kind as usize].note(row.place);
        let span = &row.text[one.span.clone()];
        match one.kind {
            Kind::Number => self.numbers.get_or_insert_default().feed(span, row.place),
            Kind::Text => {
                let text = unescaped(&span[1..span.len() - 1]);
                self.texts.get_or_insert_default().feed(&text, row.place);
            }
            Kind::Array => {
                let items = self.items.get_or_insert_default();
                for child in row.document.children(node) {
                    let nested = row.document.nodes()[child].kind;
                    if matches!(nested, Kind::Array | Kind::Object) {
                        items.kinds[nested as usize].note(row.place);
                    } else {
                        items.feed(row, child, DEPTH_MAX, room);
                    }
                }
            }
            Kind::Object if depth < DEPTH_MAX => self.feed_members(row, node, depth, room),
            Kind::Null | Kind::Bool | Kind::Object => {}
        }
    }

    fn feed_members(&mut self, row: &Row<'_>, node: usize, depth: usize, room: &mut Room) {
        for child in row.document.children(node) {
            if self.is_map {
                return;
            }
            let Some(key) = row.document.nodes()[child].key.clone() else {
                continue;
            };
            let key = unescaped(&row.text[key]);
            if let Some(member) = self.members.find(&key) {
                member.feed(row, child, depth + 1, room);
            } else if self.members.len() == MEMBERS_MAX {
                room.left += self.places();
                self.become_map();
            } else if room.take() {
                let mut member = Self::default();
                member.feed(row, child, depth + 1, room);
                self.members.add(&key, member);
            }
        }
    }

    fn become_map(&mut self) {
        self.members = Members::default();
        self.is_map = true;
    }

    /// How many keys lie below.
    pub(super) fn places(&self) -> usize {
        let members = self.members.sorted();
        members.iter().map(|(_, member)| 1 + member.places()).sum()
    }

    /// Count rows on from `rows`: this was seen in a later part of the same file.
    pub(super) fn shift(&mut self, rows: u64) {
        for seen in &mut self.kinds {
            seen.first.row += rows;
        }
        for column in [&mut self.numbers, &mut self.texts].into_iter().flatten() {
            column.shift(rows);
        }
        if let Some(items) = &mut self.items {
            items.shift(rows);
        }
        for member in self.members.values_mut() {
            member.shift(rows);
        }
    }

    /// Make this what was seen by both.
    pub(super) fn join(&mut self, other: Self) {
        for (mine, theirs) in self.kinds.iter_mut().zip(other.kinds) {
            mine.join(theirs);
        }
        join_columns(&mut self.numbers, other.numbers);
        join_columns(&mut self.texts, other.texts);
        match (&mut self.items, other.items) {
            (Some(mine), Some(theirs)) => mine.join(*theirs),
            (mine, theirs) => *mine = mine.take().or(theirs),
        }
        if self.is_map || other.is_map {
            return self.become_map();
        }
        for (key, theirs) in other.members {
            if let Some(mine) = self.members.find(&key) {
                mine.join(theirs);
            } else if self.members.len() == MEMBERS_MAX {
                return self.become_map();
            } else {
                self.members.add(&key, theirs);
            }
        }
    }
}

fn join_columns(mine: &mut Option<Box<Column>>, theirs: Option<Box<Column>>) {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => mine.join(*theirs),
        (mine @ None, theirs) => *mine = theirs,
        (Some(_), None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_listed_at_their_own_number() {
        for (number, (kind, _)) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
    }
}
