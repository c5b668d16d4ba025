//! What the logs change: the tree of the hive's file compared with the tree once the logs are applied.
//!
//! Keys are paired by path, values by name; of several with one path or name, the first with the first, and so on.

use std::collections::BTreeMap;

use super::base::BASE_BYTES;
use super::bits::Places;
use super::data::{self, Lookup};
use super::emit::{Emitter, KeyFound};
use super::hive::Hive;
use super::lists::push_subkeys;
use super::node::{DataPlace, Key, NOWHERE, Value};
use super::problem::Problems;
use super::render;
use super::rows::State;
use super::tables::Change;
use super::walk::push_name;
use super::work::{DEPTH_MAX, Work};
use crate::bytes::u32_at;
use crate::error::CoreError;

/// Cells by path or name, and by which one of that path or name it is.
type Named = BTreeMap<(String, u32), u32>;

/// The hive before and after.
struct Sides<'h> {
    before: &'h Hive,
    after: &'h Hive,
    work: Work,
}

/// A key on one side, or its value.
#[derive(Debug, Clone, Copy)]
struct Found<'h> {
    at: u32,
    length: usize,
    key: Key<'h>,
}

/// Make rows of what the logs change, and of the keys and values that they remove.
pub(super) fn compare(before: &Hive, after: &Hive, emitter: &mut Emitter) -> Result<(), CoreError> {
    let bytes = before.image.bins().len() + after.image.bins().len();
    let mut sides = Sides {
        before,
        after,
        work: Work::for_bytes(bytes),
    };
    let old = tree(before, &mut sides.work);
    let new = tree(after, &mut sides.work);
    // Places mean other cells in the other image.
    emitter.forget_security();
    for (name, at) in &old {
        let there = new.get(name).copied();
        sides.key(&name.0, Some(*at), there, emitter)?;
    }
    for (name, at) in &new {
        if !old.contains_key(name) {
            sides.key(&name.0, None, Some(*at), emitter)?;
        }
    }
    emitter.forget_security();
    Ok(())
}

/// Every key that can be reached from the root.
fn tree(hive: &Hive, work: &mut Work) -> Named {
    let mut keys = Named::new();
    let mut seen = Places::new(hive.image.bins().len());
    let mut waiting: Vec<(u32, usize, u32)> =
        hive.root.map(|root| (root, 0, 0)).into_iter().collect();
    let mut path = Vec::new();
    let mut subkeys = Vec::new();
    while let Some((at, parent_path, depth)) = waiting.pop() {
        let Some((_, key)) = hive.key(at) else {
            continue;
        };
        if seen.contains(at as usize) {
            continue;
        }
        seen.insert(at as usize);
        path.truncate(parent_path);
        if depth > 0 {
            push_name(&mut path, &key);
        }
        if !work.spend_path(path.len()) {
            break;
        }
        let text = match depth {
            0 => "\\".to_owned(),
            _ => String::from_utf8_lossy(&path).into_owned(),
        };
        insert(&mut keys, text, at);
        if key.subkey_count == 0 || depth == DEPTH_MAX {
            continue;
        }
        subkeys.clear();
        push_subkeys(&hive.image, key.subkeys, work, &mut subkeys);
        let children = subkeys.iter().rev();
        waiting.extend(children.map(|child| (*child, path.len(), depth + 1)));
    }
    keys
}

fn insert(named: &mut Named, name: String, at: u32) {
    let mut number = 0;
    // As many as there are of one name: few in a sound hive, and each was paid for as an item.
    let last = named
        .range((name.clone(), 0)..=(name.clone(), u32::MAX))
        .next_back();
    if let Some(((_, last), _)) = last {
        number = last + 1;
    }
    named.insert((name, number), at);
}

impl<'h> Sides<'h> {
    fn key(
        &mut self,
        path: &str,
        old: Option<u32>,
        new: Option<u32>,
        emitter: &mut Emitter,
    ) -> Result<(), CoreError> {
        let (before, after) = (self.before, self.after);
        let find = |hive: &'h Hive, at: Option<u32>| {
            let at = at?;
            let (cell, key) = hive.key(at)?;
            Some(Found {
                at,
                length: cell.data.len() + 4,
                key,
            })
        };
        let old = find(before, old);
        let new = find(after, new);
        let times = [old, new].map(|found| found.map(|found| time_text(found.key.last_write)));
        if times[0] != times[1] {
            let shown = new.or(old);
            let (at, length) = shown.map_or((0, 0), |found| (found.at, found.length));
            let [before_time, after_time] = &times;
            emitter.output.changes.push(&Change {
                offset: (BASE_BYTES + at as usize) as u64,
                length: length as u64,
                change: change_name(old.is_some(), new.is_some()),
                subject: "key",
                key_path: path,
                value_name: None,
                before: before_time.as_deref().map(|text| (text, "last_write")),
                after: after_time.as_deref().map(|text| (text, "last_write")),
                from_log: after.image.origin(at as usize),
            });
        }
        if let (Some(found), None) = (old, new) {
            superseded_key(before, after, &found, path, emitter)?;
        }
        let old_values = old.map_or_else(Named::new, |found| self.values(before, &found.key));
        let new_values = new.map_or_else(Named::new, |found| self.values(after, &found.key));
        let owner = old.map(|found| found.at);
        for (name, at) in &old_values {
            let there = new_values.get(name).copied();
            self.value(path, owner, &name.0, (Some(*at), there), emitter)?;
        }
        for (name, at) in &new_values {
            if !old_values.contains_key(name) {
                self.value(path, owner, &name.0, (None, Some(*at)), emitter)?;
            }
        }
        emitter.output.flush_full()
    }

    /// The values of a key; the default value has an empty name.
    fn values(&mut self, hive: &Hive, key: &Key<'_>) -> Named {
        let mut values = Named::new();
        let count = key.value_count as usize;
        let list = hive.image.cell(key.values).map(|cell| cell.data);
        let Some(list) = list.filter(|_| count > 0) else {
            return values;
        };
        let count = count.min(list.len() / 4);
        if !self.work.spend_items(count) {
            return values;
        }
        for item in list.chunks_exact(4).take(count) {
            let at = u32_at(item, 0).unwrap_or(NOWHERE);
            if let Some((value, _)) = value_at(hive, at) {
                let mut name = Vec::new();
                if let Some(stored) = value.name {
                    stored.push_to(&mut name);
                }
                insert(&mut values, String::from_utf8_lossy(&name).into_owned(), at);
            }
        }
        values
    }

    fn value(
        &mut self,
        path: &str,
        owner: Option<u32>,
        name: &str,
        (old, new): (Option<u32>, Option<u32>),
        emitter: &mut Emitter,
    ) -> Result<(), CoreError> {
        let (before, after) = (self.before, self.after);
        let old = old.and_then(|at| Some((at, value_at(before, at)?)));
        let new = new.and_then(|at| Some((at, value_at(after, at)?)));
        let mut buffers = (Vec::new(), Vec::new());
        let old_value = old.map(|(_, (value, _))| value);
        let new_value = new.map(|(_, (value, _))| value);
        let old_data = old_value.as_ref().map(|value| {
            data::fetch(before, value, Lookup::Live, &mut self.work, &mut buffers.0).0
        });
        let new_data = new_value
            .as_ref()
            .map(|value| data::fetch(after, value, Lookup::Live, &mut self.work, &mut buffers.1).0);
        let kinds = [old_value, new_value].map(|value| value.map(|value| value.kind));
        if kinds[0] != kinds[1] || old_data != new_data {
            let text = |kind: Option<u32>, data: Option<Option<&[u8]>>| {
                let kind = kind?;
                let mut kind_name = Vec::new();
                render::push_kind(&mut kind_name, kind);
                let kind_name = String::from_utf8_lossy(&kind_name).into_owned();
                let shown = data.flatten().map(|data| render::one_text(kind, data));
                Some((shown.unwrap_or_default(), kind_name))
            };
            let old_text = text(kinds[0], old_data);
            let new_text = text(kinds[1], new_data);
            let shown = new.or(old);
            let (at, length) = shown.map_or((0, 0), |(at, (_, length))| (at, length));
            let data_log = match new_value.map(|value| value.data) {
                Some(DataPlace::Cell(place)) => after.image.origin(place as usize),
                Some(DataPlace::Inline(_)) | None => None,
            };
            emitter.output.changes.push(&Change {
                offset: (BASE_BYTES + at as usize) as u64,
                length: length as u64,
                change: change_name(old.is_some(), new.is_some()),
                subject: "value",
                key_path: path,
                value_name: Some(name).filter(|name| !name.is_empty()),
                before: old_text
                    .as_ref()
                    .map(|(text, kind)| (text.as_str(), kind.as_str())),
                after: new_text
                    .as_ref()
                    .map(|(text, kind)| (text.as_str(), kind.as_str())),
                from_log: after.image.origin(at as usize).or(data_log),
            });
        }
        if let (Some((at, (value, length))), None) = (old, new) {
            mark_remnant(before, after, at, length, emitter);
            let state = State::Superseded;
            emitter.value(before, at, length, &value, owner, path.as_bytes(), state)?;
        }
        emitter.output.flush_full()
    }
}

fn superseded_key(
    before: &Hive,
    after: &Hive,
    found: &Found<'_>,
    path: &str,
    emitter: &mut Emitter,
) -> Result<(), CoreError> {
    mark_remnant(before, after, found.at, found.length, emitter);
    let depth = path.bytes().filter(|byte| *byte == b'\\').count();
    emitter.key(
        before,
        &KeyFound {
            at: found.at,
            length: found.length,
            key: &found.key,
            path: path.as_bytes(),
            depth: depth as u32,
            state: State::Superseded,
            problems: Problems::NONE,
        },
    )
}

/// A removed cell whose bytes are still there afterwards is no second find.
fn mark_remnant(before: &Hive, after: &Hive, at: u32, length: usize, emitter: &mut Emitter) {
    let start = at as usize;
    // Freeing turns the sign of the size.
    let place = start + 4..start + length;
    let old = before.image.bins().get(place.clone());
    if old == after.image.bins().get(place) && !after.cells.units.contains(start) {
        emitter.seen.insert(start);
    }
}

fn value_at(hive: &Hive, at: u32) -> Option<(Value<'_>, usize)> {
    let data = hive.image.cell(at)?.data;
    let value = Value::read(data.starts_with(b"vk").then_some(data)?).ok()?;
    Some((value, data.len() + 4))
}

fn time_text(ticks: u64) -> String {
    match crate::evtx::filetime_text(ticks) {
        Some(text) => String::from_utf8_lossy(&text).into_owned(),
        None => ticks.to_string(),
    }
}

fn change_name(was: bool, is: bool) -> &'static str {
    match (was, is) {
        (false, _) => "added",
        (true, false) => "removed",
        (true, true) => "modified",
    }
}
