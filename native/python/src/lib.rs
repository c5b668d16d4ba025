//! `casparian._native`: the engine as a Python module.
//!
//! This layer holds no logic: it takes arguments, releases the GIL around every walk, hash and decode,
//! hands batches over as Arrow capsules and turns errors into exceptions. The surface is described in
//! `casparian/_native.pyi`, which a test compares with what is registered here.

mod account;
mod batch;
mod build_info;
mod confine;
mod descriptor;
mod errors;
mod evtx;
mod evtx_carve;
mod evtx_wide;
mod hash;
mod identity;
mod infer;
mod memory;
mod promote;
mod regf;
mod repeats;
mod text;
mod values;
mod walk;

use pyo3::prelude::*;

/// The native engine of Casparian.
#[pymodule]
mod _native {
    use pyo3::exceptions::PyRuntimeWarning;
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    #[pymodule_export]
    use crate::account::{
        Account, Tally, WindowDifference, account_evtx, account_hive, account_lines,
    };
    #[pymodule_export]
    use crate::batch::Batch;
    #[pymodule_export]
    use crate::build_info::{
        build_info, engine_sources_hash, first_party_parsers, first_party_statements, release_key,
    };
    #[pymodule_export]
    use crate::confine::{
        allow_program, confinement_support, isolate_zygote, lock_down, prepare_confinement,
        prepare_programs, run_program, wall_imports,
    };
    #[pymodule_export]
    use crate::errors::SourceError;
    #[pymodule_export]
    use crate::evtx::{EvtxGroupReader, EvtxPlans, EvtxReader};
    #[pymodule_export]
    use crate::evtx_carve::{EvtxCarveReader, account_evtx_carved, render_evtx};
    #[pymodule_export]
    use crate::evtx_wide::{evtx_wide_common, evtx_wide_selection, evtx_wide_tables};
    #[pymodule_export]
    use crate::hash::{FileDigest, digest_fd, digest_fds, digest_files};
    #[pymodule_export]
    use crate::identity::{identity_of, tree_hash};
    #[pymodule_export]
    use crate::infer::{DelimitedInference, JsonlInference, text_dialect};
    #[pymodule_export]
    use crate::promote::promote_noreplace;
    #[pymodule_export]
    use crate::regf::HiveReader;
    #[pymodule_export]
    use crate::repeats::Repeats;
    #[pymodule_export]
    use crate::text::{TextReader, account_delimited};
    #[pymodule_export]
    use crate::values::{check_format, read_value};
    #[pymodule_export]
    use crate::walk::{Entry, walk};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::memory::keep_freed_memory();
        let names = PyDict::new(module.py());
        for (bit, name) in casparian_core::flags::NAMES {
            names.set_item(bit, name)?;
        }
        module.add("FLAG_NAMES", names)?;
        if cfg!(debug_assertions) {
            let category = module.py().get_type::<PyRuntimeWarning>();
            let message =
                c"casparian._native is a debug build: many times slower, not for use on evidence";
            PyErr::warn(module.py(), &category, message, 1)?;
        }
        Ok(())
    }
}
