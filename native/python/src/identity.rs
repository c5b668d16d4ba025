//! Identities: see `casparian_core::identity`.

use casparian_core::identity;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

/// H(domain, fields...): BLAKE3 over length-prefixed fields, as lower-case hexadecimal digits.
#[pyfunction(name = "identity")]
pub(crate) fn identity_of(domain: &str, fields: Vec<PyBackedBytes>) -> String {
    fields
        .iter()
        .fold(identity::Identity::new(domain), |identity, field| {
            identity.field(field)
        })
        .finish()
}

/// The identity of a tree of files, given as (relative path, content) in any order.
#[pyfunction]
pub(crate) fn tree_hash(
    py: Python<'_>,
    domain: &str,
    files: Vec<(String, PyBackedBytes)>,
) -> String {
    py.detach(|| identity::tree_hash(domain, &files))
}
