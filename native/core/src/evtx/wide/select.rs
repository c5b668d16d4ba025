//! Which wide tables are wanted.

use super::registry::{WideTable, wide_tables};
use crate::error::CoreError;

/// The wide tables that a run makes, as positions in [`wide_tables`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WideSelection(Vec<usize>);

impl WideSelection {
    /// Read a setting: `none`, `curated` (all), or names of tables and `provider/id` pairs, separated by commas.
    ///
    /// # Errors
    /// [`CoreError::Invalid`] for a table or pair that does not exist.
    pub fn read(setting: &str) -> Result<Self, CoreError> {
        match setting.trim() {
            "none" | "" => return Ok(Self::default()),
            "curated" => return Ok(Self((0..wide_tables().len()).collect())),
            _ => {}
        }
        let mut found = Vec::new();
        for wanted in setting.split(',').map(str::trim) {
            let position = wide_tables()
                .iter()
                .position(|table| is_named(table, wanted));
            found.push(position.ok_or(CoreError::Invalid {
                what: "the setting `wide`",
                reason: "it names a table that is not in the list",
            })?);
        }
        found.sort_unstable();
        found.dedup();
        Ok(Self(found))
    }

    /// Positions in [`wide_tables`], ascending.
    pub fn positions(&self) -> &[usize] {
        &self.0
    }

    /// Whether no table is wanted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_named(table: &WideTable, wanted: &str) -> bool {
    table.name == wanted
        || wanted.rsplit_once('/').is_some_and(|(provider, id)| {
            provider == table.provider && id.parse() == Ok(table.event_id)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_names_tables_or_events() {
        let selection = |setting| WideSelection::read(setting).map(|found| found.0);
        assert_eq!(selection("none").ok(), Some(vec![]));
        let all = selection("curated").unwrap_or_default();
        assert_eq!(all.len(), wide_tables().len());
        let by_name = selection("evtx_sysmon_1, evtx_security_4624").unwrap_or_default();
        assert_eq!(by_name.len(), 2);
        assert!(by_name.is_sorted());
        let pairs = "Microsoft-Windows-Security-Auditing/4624,Microsoft-Windows-Sysmon/1";
        assert_eq!(selection(pairs).ok(), Some(by_name));
        assert!(selection("evtx_security_1").is_err());
        assert!(selection("curated,none").is_err());
    }
}
