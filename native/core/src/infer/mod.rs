//! Type inference by constraint elimination.
//!
//! Each column starts with every way of reading it that is known, and each value removes what it contradicts. What remains is
//! the answer, with the evidence: which value, in which row of which file, was the first to rule out what. Where several
//! readings remain, the answer is a question.
//!
//! The state of a column is small and does not grow with the file. States of parts and files are joined in any order and
//! give the same, so the answer does not depend on how the work was cut.

mod above;
mod candidates;
mod column;
mod delimited;
mod distinct;
mod form;
mod jsonl;
mod kinds;
mod members;
mod number;
mod parts;
mod readings;
mod report;
mod seen;
mod witness;

pub use delimited::DelimitedInference;
pub use form::form;
pub use jsonl::JsonlInference;
pub use witness::Place;
