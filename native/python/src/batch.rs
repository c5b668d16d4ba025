//! Record batches on their way to Python, by the Arrow PyCapsule interface.
//!
//! https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html

use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use arrow_array::{Array, RecordBatch, StructArray};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::errors::to_exception;

/// A record batch that any Arrow library can import.
#[pyclass(frozen, module = "casparian._native")]
pub(crate) struct Batch(pub(crate) RecordBatch);

#[pymethods]
impl Batch {
    /// How many rows it has.
    #[getter]
    fn num_rows(&self) -> usize {
        self.0.num_rows()
    }

    /// The schema as a capsule named `arrow_schema`.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = FFI_ArrowSchema::try_from(self.0.schema_ref().as_ref())
            .map_err(|error| to_exception(py, &error.into()))?;
        PyCapsule::new_with_value(py, schema, c"arrow_schema")
    }

    /// Schema and data as two capsules; the batch keeps sharing its buffers, no row is copied.
    ///
    /// A requested schema is a wish, which the interface allows to be ignored.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        let _ = requested_schema;
        let rows = StructArray::from(self.0.clone());
        let array = FFI_ArrowArray::new(&rows.into_data());
        Ok((
            self.__arrow_c_schema__(py)?,
            PyCapsule::new_with_value(py, array, c"arrow_array")?,
        ))
    }

    fn __repr__(&self) -> String {
        format!(
            "Batch(num_rows={}, num_columns={})",
            self.0.num_rows(),
            self.0.num_columns()
        )
    }
}
