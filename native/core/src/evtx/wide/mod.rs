//! Wide tables: events of known kinds as typed rows of a table of their own.
//!
//! What it promises:
//!   * Each row of a wide table is one row of `evtx_events` again: same place, same flags. The ledger does not
//!     count it.
//!   * Nothing of the event's payload is lost: a value that has no column, or that does not fit its column's
//!     type, is in three lists of the row, and `misfits` counts the latter.
//!   * A text becomes a number or a time only when it is exactly that.
//!
//! Wide rows are made from finished batches of events: the decoder knows nothing of them, and they are the same however many
//! threads decode. Which kinds there are is the parser's contract: `parsers/windows.evtx/wide.tsv`.

mod layout;
mod parse;
mod registry;
mod rows;
mod select;
mod split;
mod values;

pub use registry::{COMMON, REST, WideColumn, WideTable, wide_tables};
pub use select::WideSelection;
pub use split::{WideBatch, WideSplitter};
