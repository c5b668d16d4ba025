//! From the root down: live keys, each with its path built from its parent's.

use super::emit::{Emitter, KeyFound, what_is_wrong_with};
use super::hive::Hive;
use super::lists::push_subkeys;
use super::node::Key;
use super::problem::Problems;
use super::rows::State;
use super::work::{DEPTH_MAX, PATH_BYTES_MAX};
use crate::error::CoreError;

/// A key that waits for its turn.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    at: u32,
    /// Bytes of the path that are its parent's.
    parent_path: usize,
    depth: u32,
    problems: Problems,
}

/// A walk, key by key.
#[derive(Debug, Default)]
pub(super) struct Walk {
    waiting: Vec<Waiting>,
    /// Of the key at hand; begins with those of its ancestors.
    path: Vec<u8>,
    subkeys: Vec<u32>,
}

impl Walk {
    /// A walk from the root.
    pub(super) fn new(hive: &Hive, emitter: &mut Emitter) -> Self {
        let mut walk = Self::default();
        if let Some(root) = hive.root {
            emitter.seen.insert(root as usize);
            walk.waiting.push(Waiting {
                at: root,
                parent_path: 0,
                depth: 0,
                problems: Problems::NONE,
            });
        }
        walk
    }

    /// Make rows of one key and its values. Returns whether there was one.
    pub(super) fn step(&mut self, hive: &Hive, emitter: &mut Emitter) -> Result<bool, CoreError> {
        let Some(waiting) = self.waiting.pop() else {
            return Ok(false);
        };
        // It was read when it was put here.
        let Some((cell, key)) = hive.key(waiting.at) else {
            return Ok(true);
        };
        let mut problems = waiting.problems;
        self.path.truncate(waiting.parent_path);
        if waiting.depth > 0 {
            problems.add(push_name(&mut self.path, &key));
        }
        if !hive.cells.units.contains(waiting.at as usize) {
            problems.add(what_is_wrong_with(hive, waiting.at));
        }
        let path: &[u8] = if waiting.depth == 0 {
            b"\\"
        } else {
            &self.path
        };
        problems.add(emitter.values_of(hive, waiting.at, &key, path, State::Live)?);
        if key.subkey_count > 0 {
            self.subkeys.clear();
            let list = push_subkeys(
                &hive.image,
                key.subkeys,
                &mut emitter.work,
                &mut self.subkeys,
            );
            problems.add(list);
            if list.is_none() && self.subkeys.len() != key.subkey_count as usize {
                problems.add(Problems::SUBKEYS_COUNT);
            }
            problems.add(self.push_waiting(hive, emitter, &waiting));
        }
        let path: &[u8] = if waiting.depth == 0 {
            b"\\"
        } else {
            &self.path
        };
        let found = KeyFound {
            at: waiting.at,
            length: cell.data.len() + 4,
            key: &key,
            path,
            depth: waiting.depth,
            state: State::Live,
            problems,
        };
        emitter.key(hive, &found)?;
        Ok(true)
    }

    /// Put the subkeys of the key at hand on the stack, so that the first comes off first.
    fn push_waiting(&mut self, hive: &Hive, emitter: &mut Emitter, parent: &Waiting) -> Problems {
        let mut problems = Problems::NONE;
        let first = self.waiting.len();
        for &at in &self.subkeys {
            let Some((_, key)) = hive.key(at) else {
                problems.add(Problems::SUBKEYS_DANGLING);
                continue;
            };
            if emitter.seen.contains(at as usize) {
                problems.add(Problems::SUBKEYS_REPEATED);
                continue;
            }
            if parent.depth == DEPTH_MAX {
                problems.add(Problems::DEPTH_LIMIT);
                continue;
            }
            emitter.seen.insert(at as usize);
            let is_child = key.parent == parent.at;
            self.waiting.push(Waiting {
                at,
                parent_path: self.path.len(),
                depth: parent.depth + 1,
                problems: if is_child {
                    Problems::NONE
                } else {
                    Problems::PARENT_OTHER
                },
            });
        }
        if let Some(pushed) = self.waiting.get_mut(first..) {
            pushed.reverse();
        }
        problems
    }
}

/// Append a key's name to the path of its parent.
#[inline]
pub(super) fn push_name(path: &mut Vec<u8>, key: &Key<'_>) -> Problems {
    path.push(b'\\');
    if path.len() + key.name.bytes.len() > PATH_BYTES_MAX {
        // The row's name is whole all the same.
        if path.len() <= PATH_BYTES_MAX {
            path.push(b'?');
        } else {
            path.pop();
        }
        return Problems::PATH_LIMIT;
    }
    key.name.push_to(path);
    if key.name.bytes.is_empty() {
        return Problems::NAME_EMPTY;
    }
    Problems::NONE
}
