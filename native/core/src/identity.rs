//! Identities: `H(domain, fields...)` and the hash of a tree of files.
//!
//! `H` is BLAKE3 over length-prefixed byte strings: for the domain and then each field, its length as
//! u64 little-endian followed by its bytes. The prefix makes every list of fields have its own input;
//! the domain keeps the identities of different things apart. Golden vectors never change.
//!
//! The build script of the Python layer compiles this file too, so it uses nothing but `blake3`.

/// An identity being computed, field by field.
#[derive(Debug, Clone)]
pub struct Identity(blake3::Hasher);

impl Identity {
    /// Begin an identity of the kind `domain`, such as `casparian.artifact.v1`.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        Self(blake3::Hasher::new()).field(domain.as_bytes())
    }

    /// Add one field.
    #[must_use]
    pub fn field(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// The identity as 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// The identity of files by name: each file counts with its path and the BLAKE3 of its content.
///
/// Paths are relative, with forward slashes; they are sorted by their bytes, so the order given does
/// not matter. Fields of `H`: path, then the content's hash as 64 hexadecimal digits, for each file.
#[must_use]
pub fn tree_hash<P: AsRef<[u8]>, C: AsRef<[u8]>>(domain: &str, files: &[(P, C)]) -> String {
    let mut sorted: Vec<(&[u8], &[u8])> = files
        .iter()
        .map(|(path, content)| (path.as_ref(), content.as_ref()))
        .collect();
    sorted.sort_unstable();
    sorted
        .into_iter()
        .fold(Identity::new(domain), |identity, (path, content)| {
            identity
                .field(path)
                .field(blake3::hash(content).to_hex().as_bytes())
        })
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_vector_never_changes() {
        let identity = Identity::new("casparian.test.v1")
            .field(b"a")
            .field(b"")
            .finish();
        let mut input = Vec::new();
        for field in [b"casparian.test.v1".as_slice(), b"a", b""] {
            input.extend((field.len() as u64).to_le_bytes());
            input.extend(field);
        }
        assert_eq!(identity, blake3::hash(&input).to_hex().to_string());
        assert_eq!(
            identity,
            "656d13a409bb7576501dc16fe65247fa9dcaa520add3e7283f3c3363c0fc36e6"
        );
    }

    #[test]
    fn moving_a_byte_between_fields_changes_the_identity() {
        let one = Identity::new("d").field(b"ab").field(b"c").finish();
        let other = Identity::new("d").field(b"a").field(b"bc").finish();
        assert_ne!(one, other);
    }

    #[test]
    fn a_tree_does_not_depend_on_the_order_in_which_it_was_read() {
        let files = [("b/x.py", "1"), ("a.py", "2")];
        let reversed = [("a.py", "2"), ("b/x.py", "1")];
        assert_eq!(tree_hash("d", &files), tree_hash("d", &reversed));
        assert_ne!(tree_hash("d", &files), tree_hash("d", &[("a.py", "2")]));
        assert_eq!(
            tree_hash::<&str, &str>("d", &[]),
            Identity::new("d").finish()
        );
    }
}
