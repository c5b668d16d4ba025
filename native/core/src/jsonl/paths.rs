//! Which keys a contract knows, as a tree.

use std::collections::HashMap;

use crate::dataset::{Dataset, Source, TextForm};

/// What is known below one key.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Column whose value this is.
    pub(super) column: Option<usize>,
    /// Whether the contract lists the path itself.
    listed: bool,
    members: HashMap<Vec<u8>, Known>,
}

impl Known {
    /// The tree of a contract.
    pub(super) fn of(dataset: &Dataset) -> Self {
        let mut root = Self::default();
        if let TextForm::Jsonl { known } = &dataset.form {
            for path in known {
                root.at(path).listed = true;
            }
        }
        for (number, column) in dataset.columns.iter().enumerate() {
            if let Source::Path(path) = &column.source {
                let place = root.at(path);
                place.column = Some(number);
            }
        }
        root
    }

    fn at(&mut self, path: &[String]) -> &mut Self {
        path.iter().fold(self, |place, key| {
            place.members.entry(key.as_bytes().to_vec()).or_default()
        })
    }

    /// Whether everything below is known: the value is a column's as it is, or is known and no path leads on.
    pub(super) fn is_whole(&self) -> bool {
        self.column.is_some() || (self.listed && self.members.is_empty())
    }

    /// Whether paths lead on.
    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// What is known of a member.
    pub(super) fn member(&self, key: &[u8]) -> Option<&Self> {
        self.members.get(key)
    }
}
