//! Tables whose shape a contract says and not a parser: what `text.delimited` and `text.jsonl` have in common.
//!
//! The setting `dataset` of these parsers is the contract's document (`docs/reference/datasets.md`). It says how the text is cut, which
//! forms of it are known, and for each column where its values stand, of which type they are and how they are written.

mod column;
mod document;
mod rows;

pub use column::Column;
pub(crate) use document::cell_index;
pub use document::{ColumnSpec, Dataset, Source, TextForm};
pub(crate) use rows::shown;
pub use rows::{Misfit, Output, Rows};
