//! The members of the objects at one place, by their keys.

use std::collections::HashMap;

use super::seen::Seen;

/// What was seen below each key, in the order in which the keys came.
#[derive(Debug, Default)]
pub(super) struct Members {
    list: Vec<(Box<[u8]>, Seen)>,
    numbers: HashMap<Box<[u8]>, usize>,
    /// The member that came behind the one found last.
    next: usize,
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The member of a key. Writers keep to an order: asked in the same one again, the first guess is right.
    #[inline]
    pub(super) fn find(&mut self, key: &[u8]) -> Option<&mut Seen> {
        let number = match self.list.get(self.next) {
            Some((known, _)) if **known == *key => self.next,
            _ => *self.numbers.get(key)?,
        };
        self.next = if number + 1 == self.list.len() {
            0
        } else {
            number + 1
        };
        Some(&mut self.list[number].1)
    }

    /// Add a member whose key is new.
    pub(super) fn add(&mut self, key: &[u8], member: Seen) {
        self.numbers.insert(key.into(), self.list.len());
        self.list.push((key.into(), member));
    }

    /// In no order that says anything.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Seen> {
        self.list.iter_mut().map(|(_, member)| member)
    }

    /// In the order of the keys.
    pub(super) fn sorted(&self) -> Vec<(&[u8], &Seen)> {
        let mut sorted: Vec<_> = self
            .list
            .iter()
            .map(|(key, member)| (&**key, member))
            .collect();
        sorted.sort_by_key(|(key, _)| *key);
        sorted
    }
}

impl IntoIterator for Members {
    type Item = (Box<[u8]>, Seen);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}
