//! What an accountant noticed: a bounded list of places with a code and a sentence.

/// Findings kept of one source; one more says that there were others.
pub const FINDINGS_MAX: usize = 10_000;
/// The code of that one.
pub const CAPPED: &str = "findings.capped";

/// Something about a source that its reader must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A stable slug, such as `chunk.header_crc`.
    pub code: String,
    /// Where, in bytes from the start of the source.
    pub offset: u64,
    /// How many bytes it is about; 0 when it is about the source as a whole.
    pub length: u64,
    /// A sentence that can be understood without the others. Holds numbers only, no evidence text.
    pub message: String,
}

/// The findings of one source, at most [`FINDINGS_MAX`] and the mark that some were left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    /// Add a finding, unless the list is full.
    pub fn add(&mut self, code: &str, offset: u64, length: u64, message: impl FnOnce() -> String) {
        let message = match self.list.len() {
            0..FINDINGS_MAX => message(),
            FINDINGS_MAX => {
                return self.list.push(Finding {
                    code: CAPPED.to_owned(),
                    offset,
                    length: 0,
                    message: format!(
                        "more than {FINDINGS_MAX} findings; those from here on are not listed"
                    ),
                });
            }
            _ => return,
        };
        self.list.push(Finding {
            code: code.to_owned(),
            offset,
            length,
            message,
        });
    }

    /// The findings, in the order in which they were noticed.
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// A list that was checked to be within the bounds.
    pub(super) fn from_list(list: Vec<Finding>) -> Self {
        Self { list }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_bounded_and_says_so_once() {
        let mut findings = Findings::default();
        for offset in 0..FINDINGS_MAX as u64 + 500 {
            findings.add("chunk.damaged", offset, 1, || "x".to_owned());
        }
        assert_eq!(findings.list().len(), FINDINGS_MAX + 1);
        let last = findings.list().last().unwrap();
        assert_eq!(
            (last.code.as_str(), last.offset),
            (CAPPED, FINDINGS_MAX as u64)
        );
    }
}
