//! Values that come a second time: see `casparian_core::repeats`.

use casparian_core::repeats;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

/// All values of some columns that were seen so far; at most `values_max` different ones.
#[pyclass]
pub(crate) struct Repeats(repeats::Repeats);

#[pymethods]
impl Repeats {
    #[new]
    fn new(values_max: usize) -> Self {
        Self(repeats::Repeats::new(values_max))
    }

    /// See values of a column, and give the positions of those that it had before.
    ///
    /// The values lie in `data`, each from one of the `offsets` (32 bits, little-endian) to the next. `OverflowError`: there
    /// are too many different ones.
    fn repeated(
        &mut self,
        py: Python<'_>,
        column: u32,
        offsets: PyBackedBytes,
        data: PyBackedBytes,
    ) -> PyResult<Vec<u64>> {
        let seen = &mut self.0;
        py.detach(move || {
            let (words, rest) = offsets.as_chunks::<4>();
            let mut found = Vec::new();
            let ends: Vec<usize> = words
                .iter()
                .map(|word| u32::from_le_bytes(*word) as usize)
                .collect();
            for (position, pair) in ends.windows(2).enumerate() {
                let value = data
                    .get(pair[0]..pair[1])
                    .filter(|_| rest.is_empty())
                    .ok_or_else(|| PyValueError::new_err("offsets lie outside of the data"))?;
                let repeated = seen
                    .is_repeated(column, value)
                    .map_err(|error| PyOverflowError::new_err(error.to_string()))?;
                if repeated {
                    found.push(position as u64);
                }
            }
            Ok(found)
        })
    }
}
