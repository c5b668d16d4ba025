//! Why a record could not be decoded.

/// A reason for quarantine; its code is what users see and filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// A region of a chunk holds no valid record.
    DamagedRegion,
    /// A token, length or value reaches behind the end of its container.
    Truncated,
    /// A byte that is no token, or a token where the grammar has none.
    Token,
    /// A name whose place or checksum is wrong.
    Name,
    /// A template definition that is out of bounds or is not the one meant.
    Template,
    /// A substitution without a value.
    Substitution,
    /// An unknown value type.
    ValueType,
    /// A value whose size does not suit its type.
    ValueSize,
    /// Elements that are not well nested, or none at all.
    Structure,
    /// More nesting than [`super::limits::DEPTH_MAX`].
    DepthLimit,
    /// More elements than [`super::limits::ELEMENTS_MAX`].
    ElementLimit,
    /// More values than [`super::limits::SUBSTITUTIONS_MAX`].
    SubstitutionLimit,
    /// More work than [`super::limits::CHUNK_WORK_MAX`].
    WorkLimit,
    /// More text than [`super::limits::RECORD_TEXT_BYTES_MAX`].
    TextLimit,
}

impl Reason {
    /// The stable code.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::DamagedRegion => "record.damaged",
            Self::Truncated => "binxml.truncated",
            Self::Token => "binxml.token",
            Self::Name => "binxml.name",
            Self::Template => "binxml.template",
            Self::Substitution => "binxml.substitution",
            Self::ValueType => "binxml.value_type",
            Self::ValueSize => "binxml.value_size",
            Self::Structure => "binxml.structure",
            Self::DepthLimit => "limit.depth",
            Self::ElementLimit => "limit.elements",
            Self::SubstitutionLimit => "limit.substitutions",
            Self::WorkLimit => "limit.work",
            Self::TextLimit => "limit.text",
        }
    }
}

/// One reason at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damage {
    /// Why.
    pub(super) reason: Reason,
    /// Where: bytes from the start of the chunk.
    pub(super) at: usize,
    /// What is wrong, as a phrase.
    pub(super) detail: &'static str,
}

/// The outcome of a decoding step.
pub(super) type Decoded<T> = Result<T, Damage>;

impl Damage {
    /// A reason found at `at`.
    #[cold]
    pub(super) fn new(reason: Reason, at: usize, detail: &'static str) -> Self {
        Self { reason, at, detail }
    }

    /// A template asks for a value that is not there.
    #[cold]
    pub(super) fn no_such_slot(at: usize) -> Self {
        Self::new(
            Reason::Substitution,
            at,
            "the template uses a value that the record does not have",
        )
    }

    /// Something reaches behind its end.
    #[cold]
    pub(super) fn truncated(at: usize) -> Self {
        Self::new(
            Reason::Truncated,
            at,
            "the data ends before the structure does",
        )
    }
}
