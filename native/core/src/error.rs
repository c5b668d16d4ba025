//! One error type for the whole engine.
//!
//! An error here means that the *program* could not go on (a read failed, a limit of the engine was
//! reached). Bad evidence is not an error: decoders report it as quarantine rows and findings.

use std::io;

/// Why the engine could not go on. Offsets are bytes from the start of the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// The operating system refused or failed a read, an open or another call.
    #[error("{operation} failed at offset {offset}: {source}")]
    Io {
        /// The call, as a verb: `read`, `open`, `stat`.
        operation: &'static str,
        /// Where in the source, in bytes; 0 when the call has no position.
        offset: u64,
        /// The cause.
        source: io::Error,
    },

    /// The source ended before bytes that were there when it was opened.
    #[error(
        "the source ended {expected} bytes early at offset {offset}: it shrank while being read"
    )]
    SourceShrank {
        /// Where the missing bytes begin.
        offset: u64,
        /// How many bytes more were expected.
        expected: u64,
    },

    /// The source is not a regular file.
    #[error("not a regular file but a {kind}")]
    NotARegularFile {
        /// What it is: `directory`, `symlink`, `fifo`, ...
        kind: &'static str,
    },

    /// A limit of the engine was reached; input alone cannot raise it.
    #[error("{what} is over its limit of {limit} at offset {offset}")]
    Limit {
        /// What is limited, with its unit.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// Where it was reached.
        offset: u64,
    },

    /// A value from outside does not have the form it must have.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The contract of a dataset cannot be followed.
    #[error("the dataset's contract cannot be used: {reason}")]
    Contract {
        /// What is wrong with it.
        reason: String,
    },

    /// The source has another shape than its contract knows; nothing of it may be kept.
    #[error("{difference}")]
    Drift {
        /// What is other, line by line.
        difference: String,
        /// Where it shows, in bytes.
        offset: u64,
    },

    /// A record batch could not be built.
    #[error("cannot build a record batch: {0}")]
    Arrow(#[from] arrow_schema::ArrowError),
}

impl CoreError {
    /// An I/O error of `operation` at `offset`.
    pub fn io(operation: &'static str, offset: u64, source: io::Error) -> Self {
        Self::Io {
            operation,
            offset,
            source,
        }
    }

    /// The stable slug that screens, receipts and tests use.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => "source.missing",
            Self::Io { .. } => "source.unreadable",
            Self::SourceShrank { .. } => "source.changed",
            Self::NotARegularFile { .. } => "source.not_a_file",
            Self::Limit { .. } => "engine.limit",
            Self::Invalid { .. } => "engine.invalid",
            Self::Contract { .. } => "contract.document",
            Self::Drift { .. } => "contract.drift",
            Self::Arrow(_) => "engine.arrow",
        }
    }

    /// Where in the source the error arose, when it has a position.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Io { offset, .. }
            | Self::SourceShrank { offset, .. }
            | Self::Limit { offset, .. }
            | Self::Drift { offset, .. } => Some(*offset),
            Self::NotARegularFile { .. }
            | Self::Invalid { .. }
            | Self::Contract { .. }
            | Self::Arrow(_) => None,
        }
    }
}
