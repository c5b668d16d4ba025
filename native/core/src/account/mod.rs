//! Accounting: how many units a source holds, found by a walk of its own.
//!
//! A decoder says what it could read. Nothing in that tells what it passed over, so each format has an
//! accountant here that shares no record loop and no validity check with the decoder: it knows where
//! units begin and end, and nothing of what is in them. The ledger sets the two side by side
//! ([`crate::tally`]); a unit that is only on one side is a finding on the screen.

pub mod codec;
pub mod delimited;
pub mod evtx;
pub mod evtx_carve;
pub mod findings;
pub mod hive;
pub mod lines;

pub use delimited::account_delimited;
pub use evtx::account_evtx;
pub use evtx_carve::account_evtx_carved;
pub use findings::{Finding, Findings};
pub use hive::{HiveLog, LogRole, account_hive};
pub use lines::{TextEncoding, account_lines};

use crate::tally::Windows;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// A record of an event log, or a damaged region where records should be.
    Record,
    /// A line of text.
    Line,
    /// A cell of a registry hive that holds a key or a value, or a damaged region where cells should be.
    Cell,
}

impl Unit {
    /// The name that ledgers use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Line => "line",
            Self::Cell => "cell",
        }
    }
}

/// What an independent walk found in one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// What is counted.
    pub unit: Unit,
    /// How many units the source's own headers claim; `None` when they claim nothing.
    pub declared: Option<u64>,
    /// How many units are in the bytes: damaged regions included, slack and blank lines not.
    pub present: u64,
    /// How many of `present` are damaged regions.
    pub damaged: u64,
    /// Whole records behind the live area, or found by carving: outside of `present`.
    pub slack_records: u64,
    /// The units of `present` by place.
    pub windows: Windows,
    /// Lines that hold nothing but spaces and tabs, outside of `present`.
    pub blank_units: u64,
    /// Bytes of these lines with their terminators.
    pub blank_bytes: u64,
    /// What the walk noticed, in order of the source.
    pub findings: Findings,
}

impl Account {
    /// An account of nothing yet.
    #[must_use]
    pub fn empty(unit: Unit, windows: Windows) -> Self {
        Self {
            unit,
            declared: None,
            present: 0,
            damaged: 0,
            slack_records: 0,
            windows,
            blank_units: 0,
            blank_bytes: 0,
            findings: Findings::default(),
        }
    }
}
