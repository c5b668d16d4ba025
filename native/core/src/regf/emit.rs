//! Making rows of keys and values, wherever they were found.

use super::base::BASE_BYTES;
use super::bits::Places;
use super::data::{self, Lookup};
use super::deleted::is_plausible_value;
use super::hive::{Container, Hive};
use super::node::{Key, NOWHERE, Value};
use super::output::Output;
use super::problem::{Problems, Reason};
use super::rows::{KeyContext, Place, State};
use super::security::{Security, SecurityCache};
use super::value_rows::ValueContext;
use super::work::Work;
use crate::bytes::u32_at;
use crate::error::CoreError;
use crate::flags;

/// Key flag: the count of values is the handle of a predefined key.
const KEY_PREDEF_HANDLE: u16 = 0x40;

/// What is needed to make rows: one for the whole hive.
#[derive(Debug)]
pub(super) struct Emitter {
    pub(super) output: Output,
    /// Cells that are rows or in quarantine.
    pub(super) seen: Places,
    pub(super) work: Work,
    security: SecurityCache,
    scratch: Vec<u8>,
    no_security: Security,
}

/// A key that is to be a row, with what its surroundings say of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyFound<'a> {
    pub(super) at: u32,
    /// Of the cell, its size field included.
    pub(super) length: usize,
    pub(super) key: &'a Key<'a>,
    pub(super) path: &'a [u8],
    pub(super) depth: u32,
    pub(super) state: State,
    pub(super) problems: Problems,
}

impl Emitter {
    pub(super) fn new(output: Output, hive: &Hive) -> Self {
        let bytes = hive.image.bins().len();
        Self {
            output,
            seen: Places::new(bytes),
            work: Work::for_bytes(bytes),
            security: SecurityCache::default(),
            scratch: Vec::new(),
            no_security: Security {
                is_readable: true,
                ..Security::default()
            },
        }
    }

    /// From here on, keys are of another image.
    pub(super) fn forget_security(&mut self) {
        self.security = SecurityCache::default();
    }

    /// Where the row of the cell at `at` comes from. What is no unit is recovered from slack.
    #[inline]
    fn place(hive: &Hive, at: u32, length: usize, state: State) -> Place {
        let is_unit = matches!(state, State::Live | State::Orphaned)
            && hive.cells.units.contains(at as usize);
        Place {
            cell: at,
            offset: (BASE_BYTES + at as usize) as u64,
            length: length as u64,
            flags: if is_unit {
                flags::NONE
            } else {
                flags::RECOVERED | flags::SLACK
            },
            state,
            from_log: hive.image.origin(at as usize),
        }
    }

    /// Make a row of a key.
    pub(super) fn key(&mut self, hive: &Hive, found: &KeyFound<'_>) -> Result<(), CoreError> {
        let key = found.key;
        let mut problems = found.problems;
        let is_remnant = found.state == State::Deleted;
        let class = if key.class == NOWHERE || key.class_bytes == 0 {
            None
        } else {
            let bytes = usize::from(key.class_bytes);
            let cell = if is_remnant {
                hive.remnant(key.class)
            } else {
                hive.image.cell(key.class).map(|cell| cell.data)
            };
            let class = cell.and_then(|cell| cell.get(..bytes));
            if class.is_none() {
                problems.add(Problems::CLASS_UNREADABLE);
            }
            class.filter(|_| self.work.spend_data(bytes))
        };
        let security = if key.security == NOWHERE {
            &self.no_security
        } else {
            self.security.at(&hive.image, key.security)
        };
        // The descriptor of a deleted key may be gone with it.
        if !security.is_readable && !is_remnant {
            problems.add(Problems::SECURITY_UNREADABLE);
        }
        let mut path = found.path;
        if !self.work.spend_path(path.len()) {
            problems.add(Problems::PATH_LIMIT);
            path = b"?";
        }
        let place = Self::place(hive, found.at, found.length, found.state);
        let context = KeyContext {
            path,
            class,
            security,
            parent: (key.parent != NOWHERE).then_some(key.parent),
            depth: found.depth,
            problems,
        };
        self.output.keys.push(&place, key, &context);
        self.output.key_counts[found.state as usize] += 1;
        self.output.flush_full_keys()
    }

    /// Make rows of a key's values. Returns what is wrong with the list of them.
    pub(super) fn values_of(
        &mut self,
        hive: &Hive,
        at: u32,
        key: &Key<'_>,
        path: &[u8],
        state: State,
    ) -> Result<Problems, CoreError> {
        let count = key.value_count as usize;
        if count == 0 || key.flags & KEY_PREDEF_HANDLE != 0 {
            return Ok(Problems::NONE);
        }
        let lookup = lookup(state);
        let list = match lookup {
            Lookup::Live => hive.image.cell(key.values).map(|cell| cell.data),
            Lookup::Remnant => hive.remnant(key.values),
        };
        let Some(list) = list else {
            return Ok(Problems::VALUES_UNREADABLE);
        };
        let mut problems = Problems::NONE;
        if count > list.len() / 4 {
            problems.add(Problems::VALUES_UNREADABLE);
        }
        let count = count.min(list.len() / 4);
        if !self.work.spend_items(count) {
            return Ok(Problems::WORK_LIMIT);
        }
        for item in list.chunks_exact(4).take(count) {
            let to = u32_at(item, 0).unwrap_or(NOWHERE);
            problems.add(self.listed_value(hive, to, at, path, state)?);
        }
        Ok(problems)
    }

    /// Make a row of the value at `to`, which is in the list of the key at `at`.
    #[inline]
    fn listed_value(
        &mut self,
        hive: &Hive,
        to: u32,
        at: u32,
        path: &[u8],
        state: State,
    ) -> Result<Problems, CoreError> {
        let data = match lookup(state) {
            Lookup::Live => hive.image.cell(to).map(|cell| cell.data),
            Lookup::Remnant => hive.remnant(to),
        };
        let value = data
            .filter(|data| data.starts_with(b"vk"))
            .and_then(|data| Some((data.len() + 4, Value::read(data).ok()?)));
        let Some((length, value)) = value else {
            return Ok(Problems::VALUES_DANGLING);
        };
        if self.seen.contains(to as usize) {
            return Ok(Problems::VALUES_REPEATED);
        }
        if state == State::Deleted && !is_plausible_value(&value, hive.image.bins().len()) {
            return Ok(Problems::VALUES_DANGLING);
        }
        self.seen.insert(to as usize);
        self.value(hive, to, length, &value, Some(at), path, state)?;
        Ok(Problems::NONE)
    }

    /// Make a row of a value.
    #[allow(clippy::too_many_arguments, reason = "each says one thing of the row")]
    pub(super) fn value(
        &mut self,
        hive: &Hive,
        at: u32,
        length: usize,
        value: &Value<'_>,
        key_cell: Option<u32>,
        path: &[u8],
        state: State,
    ) -> Result<(), CoreError> {
        let (data, mut problems) = data::fetch(
            hive,
            value,
            lookup(state),
            &mut self.work,
            &mut self.scratch,
        );
        let place = Self::place(hive, at, length, state);
        if state == State::Live && place.flags != flags::NONE {
            problems.add(what_is_wrong_with(hive, at));
        }
        let mut path = path;
        if !self.work.spend_path(path.len()) {
            problems.add(Problems::PATH_LIMIT);
            path = b"?";
        }
        let context = ValueContext {
            path,
            key_cell,
            data,
            problems,
        };
        self.output.values.push(&place, value, &context);
        self.output.value_counts[state as usize] += 1;
        self.output.flush_full_values()
    }

    /// Put bytes of the live part into quarantine.
    pub(super) fn quarantine(
        &mut self,
        hive: &Hive,
        start: usize,
        end: usize,
        reason: Reason,
    ) -> Result<(), CoreError> {
        let raw = hive.image.area().get(start..end).unwrap_or_default();
        let offset = (BASE_BYTES + start) as u64;
        let from_log = hive.image.origin(start);
        let said = reason.message();
        let message = from_log.map(|role| format!("{said} (bytes from {role})"));
        let message = message.as_deref().unwrap_or(said);
        let rows = &mut self.output.quarantine;
        rows.push(offset, flags::NONE, reason.code(), message, raw);
        self.output.flush_full()
    }
}

/// How the references of a key or value in this state are followed.
pub(super) fn lookup(state: State) -> Lookup {
    match state {
        State::Live | State::Orphaned | State::Superseded => Lookup::Live,
        State::Deleted => Lookup::Remnant,
    }
}

/// Why a cell that something refers to is no unit.
#[cold]
pub(super) fn what_is_wrong_with(hive: &Hive, at: u32) -> Problems {
    match hive.container(at as usize) {
        Container::Free { .. } => Problems::CELL_FREE,
        Container::Allocated { .. } => Problems::CELL_INSIDE,
        Container::Outside { .. } => Problems::CELL_DAMAGED,
    }
}
