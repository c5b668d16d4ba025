//! Allocated keys and values that nothing leads to, and units that cannot be read.

use super::emit::{Emitter, KeyFound};
use super::hive::Hive;
use super::node::{Key, Value};
use super::problem::{Problems, Reason};
use super::rows::State;
use super::walk::push_name;
use super::work::DEPTH_MAX;
use crate::error::CoreError;

/// Which units are looked at: keys first, since their lists tell what values belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Keys,
    Values,
    Done,
}

/// A search for orphans, unit by unit.
#[derive(Debug)]
pub(super) struct Orphans {
    pass: Pass,
    from: usize,
}

impl Orphans {
    pub(super) fn new() -> Self {
        Self {
            pass: Pass::Keys,
            from: 0,
        }
    }

    /// Deal with one unit. Returns whether there may be more.
    pub(super) fn step(&mut self, hive: &Hive, emitter: &mut Emitter) -> Result<bool, CoreError> {
        if self.pass == Pass::Done {
            return Ok(false);
        }
        let Some(at) = hive.cells.units.next_without(&emitter.seen, self.from) else {
            self.from = 0;
            self.pass = match self.pass {
                Pass::Keys => Pass::Values,
                Pass::Values | Pass::Done => Pass::Done,
            };
            return Ok(true);
        };
        self.from = at + 8;
        let Some(cell) = hive.image.cell(at as u32) else {
            return Ok(true);
        };
        let length = cell.data.len() + 4;
        let is_key = cell.data.starts_with(b"nk");
        if is_key != (self.pass == Pass::Keys) {
            return Ok(true);
        }
        if is_key {
            match Key::read(cell.data) {
                Ok(key) => orphaned_key(hive, emitter, at as u32, length, &key, State::Orphaned)?,
                Err(reason) => quarantine(hive, emitter, at, length, reason)?,
            }
        } else {
            match Value::read(cell.data) {
                Ok(value) => {
                    let state = State::Orphaned;
                    emitter.seen.insert(at);
                    emitter.value(hive, at as u32, length, &value, None, b"?", state)?;
                }
                Err(reason) => quarantine(hive, emitter, at, length, reason)?,
            }
        }
        Ok(true)
    }
}

fn quarantine(
    hive: &Hive,
    emitter: &mut Emitter,
    at: usize,
    length: usize,
    reason: Reason,
) -> Result<(), CoreError> {
    emitter.seen.insert(at);
    emitter.output.quarantined_cells += 1;
    emitter.quarantine(hive, at, at + length, reason)
}

/// Make rows of a key that nothing leads to, and of its values.
pub(super) fn orphaned_key(
    hive: &Hive,
    emitter: &mut Emitter,
    at: u32,
    length: usize,
    key: &Key<'_>,
    state: State,
) -> Result<(), CoreError> {
    emitter.seen.insert(at as usize);
    let (path, depth, mut problems) = path_by_parents(hive, at, key, state);
    problems.add(emitter.values_of(hive, at, key, &path, state)?);
    let found = KeyFound {
        at,
        length,
        key,
        path: &path,
        depth,
        state,
        problems,
    };
    emitter.key(hive, &found)
}

/// The path of a key as far as its parents can be followed, behind a `?`.
fn path_by_parents(hive: &Hive, at: u32, key: &Key<'_>, state: State) -> (Vec<u8>, u32, Problems) {
    let mut line = vec![*key];
    let mut problems = Problems::NONE;
    let mut parent = key.parent;
    // A loop of parents comes back to a cell that was marked, since marks are set ever farther apart.
    let mut mark = at;
    while line.len() <= DEPTH_MAX as usize && Some(parent) != hive.root {
        if parent == mark {
            problems.add(Problems::PARENT_OTHER);
            line.truncate(1);
            break;
        }
        if line.len().is_power_of_two() {
            mark = parent;
        }
        let above = match state {
            State::Deleted => remnant_key(hive, parent),
            State::Live | State::Orphaned | State::Superseded => {
                hive.key(parent).map(|(_, key)| key)
            }
        };
        let Some(above) = above else { break };
        line.push(above);
        parent = above.parent;
    }
    let mut path = vec![b'?'];
    for key in line.iter().rev() {
        problems.add(push_name(&mut path, key));
    }
    (path, line.len() as u32, problems)
}

/// A key as a deleted key's reference finds it: still there, or what is left of it.
fn remnant_key(hive: &Hive, at: u32) -> Option<Key<'_>> {
    if let Some((_, key)) = hive.key(at) {
        return Some(key);
    }
    let data = hive.remnant(at)?;
    data.starts_with(b"nk").then(|| Key::read(data).ok())?
}
