//! The one error: a step that could not be taken.

use std::io;

/// An essential step failed, so the process must not go on.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct ConfineError {
    /// Which step, by its name in the record.
    pub step: &'static str,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl ConfineError {
    pub(crate) fn new(step: &'static str, source: impl Into<io::Error>) -> Self {
        Self {
            step,
            source: source.into(),
        }
    }

    pub(crate) fn refused(step: &'static str, why: &str) -> Self {
        Self::new(step, io::Error::other(why.to_owned()))
    }

    /// Number of the operating system's error, when there is one.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}
