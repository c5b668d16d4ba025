//! What is wrong with a row, and why a unit is no row: codes that users see and filter by.

/// A set of problems of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Problems(u32);

macro_rules! problems {
    ($($name:ident = $bit:literal $code:literal),* $(,)?) => {
        impl Problems {
            $(#[doc = concat!("`", $code, "`")] pub(super) const $name: Self = Self(1 << $bit);)*
        }
        /// Every problem's bit and code, in order of the bit.
        const CODES: &[(u32, &str)] = &[$((1 << $bit, $code)),*];
    };
}

problems! {
    SUBKEYS_DANGLING = 0 "subkeys.dangling",
    SUBKEYS_REPEATED = 1 "subkeys.repeated",
    SUBKEYS_UNREADABLE = 2 "subkeys.unreadable",
    SUBKEYS_COUNT = 3 "subkeys.count",
    VALUES_DANGLING = 4 "values.dangling",
    VALUES_REPEATED = 5 "values.repeated",
    VALUES_UNREADABLE = 6 "values.unreadable",
    CLASS_UNREADABLE = 7 "class.unreadable",
    SECURITY_UNREADABLE = 8 "security.unreadable",
    PARENT_OTHER = 9 "key.parent_other",
    NAME_EMPTY = 10 "key.name_empty",
    TIME_STRANGE = 11 "key.time_strange",
    CELL_FREE = 12 "cell.free",
    CELL_DAMAGED = 13 "cell.damaged",
    DEPTH_LIMIT = 14 "limit.depth",
    PATH_LIMIT = 15 "limit.path",
    WORK_LIMIT = 16 "limit.work",
    DATA_UNREADABLE = 17 "data.unreadable",
    DATA_TRUNCATED = 18 "data.truncated",
    DATA_SIZE = 19 "data.size",
    DATA_FREE = 20 "data.free",
    DATA_REUSED = 21 "data.reused",
    DATA_OVER_LIMIT = 22 "data.over_limit",
    DATA_REMAINDER = 23 "data.remainder",
    HIVE_SIGNATURE = 24 "hive.signature",
    HIVE_CHECKSUM = 25 "hive.checksum",
    HIVE_ROOT = 26 "hive.root",
    HIVE_TRUNCATED = 27 "hive.truncated",
    HIVE_NOT_RECOVERED = 28 "hive.not_recovered",
    CELL_INSIDE = 29 "cell.inside_other",
}

impl Problems {
    /// No problem.
    pub(super) const NONE: Self = Self(0);

    #[inline]
    pub(super) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    #[inline]
    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The codes, in a fixed order.
    pub(super) fn codes(self) -> impl Iterator<Item = &'static str> {
        CODES
            .iter()
            .filter(move |(bit, _)| self.0 & bit != 0)
            .map(|(_, code)| *code)
    }
}

/// Why a unit is a row of `@quarantine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// No valid bin begins here.
    BinDamaged,
    /// No valid cell begins here.
    CellDamaged,
    /// A key's cell is too short for a key.
    KeyTruncated,
    /// A key's name does not fit in its cell.
    KeyName,
    /// A value's cell is too short for a value.
    ValueTruncated,
    /// A value's name does not fit in its cell.
    ValueName,
}

impl Reason {
    /// The stable code.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::BinDamaged => "bin.damaged",
            Self::CellDamaged => "cell.damaged",
            Self::KeyTruncated => "key.truncated",
            Self::KeyName => "key.name",
            Self::ValueTruncated => "value.truncated",
            Self::ValueName => "value.name",
        }
    }

    /// What is wrong, as a sentence.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::BinDamaged => "no valid bin begins here",
            Self::CellDamaged => "no valid cell begins here",
            Self::KeyTruncated => "the cell of a key is shorter than a key",
            Self::KeyName => "the name of a key does not fit in its cell",
            Self::ValueTruncated => "the cell of a value is shorter than a value",
            Self::ValueName => "the name of a value does not fit in its cell",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_has_a_bit_and_a_code_of_its_own() {
        for (place, (bit, code)) in CODES.iter().enumerate() {
            assert_eq!(*bit, 1 << place);
            assert_eq!(Problems(*bit).codes().collect::<Vec<_>>(), [*code]);
        }
    }
}
