//! Delimited text: CSV, TSV and their relatives, from bytes to rows of cells.
//!
//! The rules, which [`crate::account::account_delimited`] keeps on its own side with a walk of its own. Offsets and lengths are bytes of
//! the file; the limits are bytes of the text as UTF-8.
//! * A record ends at the first LF, CR LF or CR that is not within quotes, and owns it; the last one may lack it. A byte-order
//!   mark belongs to the first unit.
//! * A quote opens only at the very beginning of a cell; anywhere else it is a character like others. What follows a closing quote
//!   and is neither delimiter nor end of record makes the record faulty.
//! * A quote that is not closed within [`QUOTED_BYTES_MAX`] bytes, or at all, is unbalanced: the record ends with the line in which the
//!   quote stands. So one stray quote costs a line and not the rest of the file, and the work stays linear: no quote that
//!   could open a cell lies behind an unbalanced one within that reach.
//! * A record that has not ended after [`RECORD_BYTES_MAX`] bytes ends with the line that it is in there.
//! * A record of one cell without quotes that holds nothing but spaces and tabs is blank. A line that begins with the comment
//!   prefix, where a record could begin, is a comment. The first `skip_lines` lines are skipped, whatever is in them.
//! * Where records have no header, a comment that goes on with `Fields:` names the cells of those below it, as in W3C logs.

mod decoder;
pub mod dialect;
mod directive;
mod drift;
mod encoding;
mod layout;
mod look;
mod record;
mod records;
mod scan;
mod split;
mod window;

pub use decoder::DelimitedDecoder;
pub(crate) use directive::names as names_of_directive;
pub(crate) use drift::{RENAMED_PERCENT, similarity};
pub use encoding::Encoding;
pub use layout::{Escape, Layout, LayoutError};
pub use record::{Fault, Kind, Record};
pub use records::Records;
pub use split::Borders;
pub(crate) use window::Window;

/// How far from an opening quote its closing one may be.
pub const QUOTED_BYTES_MAX: usize = 1 << 20;
/// How long a record may be.
pub const RECORD_BYTES_MAX: usize = 8 << 20;
