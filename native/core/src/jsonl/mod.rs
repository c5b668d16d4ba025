//! JSON Lines: one JSON object on each line.
//!
//! The unit is the line, by the rules of [`crate::account::lines`], which counts them on its own side. JSON is read strictly (RFC 8259): an
//! object that names a key twice, a lone surrogate, `NaN`, a comma too many or anything behind the document makes the line a
//! quarantined one.

mod decoder;
mod document;
mod escapes;
mod lines;
mod parser;
mod paths;

pub use decoder::JsonlDecoder;
pub use document::{Document, Fault, Kind, Node};
pub use escapes::unescaped;
pub use lines::{LINE_BYTES_MAX, Line, Lines};
