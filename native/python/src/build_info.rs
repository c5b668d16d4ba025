//! What this module was built from.

use std::collections::BTreeMap;

use pyo3::prelude::*;

include!(concat!(env!("OUT_DIR"), "/identities.rs"));

/// Version, profile, cargo features, compiler and source identity of this module.
#[pyfunction]
pub(crate) fn build_info() -> BTreeMap<&'static str, String> {
    let features = if cfg!(feature = "sabotage") {
        "sabotage"
    } else {
        ""
    };
    BTreeMap::from([
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("profile", PROFILE.to_owned()),
        ("features", features.to_owned()),
        ("rustc", RUSTC.to_owned()),
        ("engine_sources_hash", ENGINE_SOURCES_HASH.to_owned()),
        ("source_date", SOURCE_DATE.to_owned()),
    ])
}

/// Identity of the engine's sources, computed when this module was built.
#[pyfunction]
pub(crate) fn engine_sources_hash() -> &'static str {
    ENGINE_SOURCES_HASH
}

/// Name and artifact hash of each parser that was in the tree when this module was built.
#[pyfunction]
pub(crate) fn first_party_parsers() -> BTreeMap<&'static str, &'static str> {
    FIRST_PARTY_PARSERS.iter().copied().collect()
}

/// Name and signed statement (a DSSE envelope, as JSON text) of each of these parsers.
#[pyfunction]
pub(crate) fn first_party_statements() -> BTreeMap<&'static str, &'static str> {
    FIRST_PARTY_STATEMENTS.iter().copied().collect()
}

/// The Ed25519 key that signed them, as hexadecimal digits, and whether it is the development key.
#[pyfunction]
pub(crate) fn release_key() -> (&'static str, bool) {
    RELEASE_KEY
}
