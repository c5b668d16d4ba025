//! Giving a file its final name without ever replacing another file.
//!
//! This is the one step of a commit that touches the output directory. It is a single system call where
//! the file system has `RENAME_NOREPLACE`, and `link` elsewhere; both refuse when the destination exists.
//! Making the new name durable (fsync of the directory) is the caller's step, and so is removing the old
//! name after a `link`: removed before the new name is durable, a power cut could take both.

use std::io;

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

/// How a file got its final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// `renameat2(RENAME_NOREPLACE)`: one atomic step.
    Rename,
    /// `link`: both names are on the same file.
    Link,
}

impl Promotion {
    /// The name that receipts use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rename => "rename",
            Self::Link => "link",
        }
    }
}

/// Rename `source` to `destination`, which must not exist. Both lie on one file system.
///
/// # Errors
/// `AlreadyExists` when the destination exists; otherwise the operating system's own error.
pub fn promote_noreplace(source: &[u8], destination: &[u8]) -> io::Result<Promotion> {
    match rustix::fs::renameat_with(CWD, source, CWD, destination, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Promotion::Rename),
        // What kernels and file systems answer that do not know the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            promote_by_link(source, destination)?;
            Ok(Promotion::Link)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn promote_by_link(source: &[u8], destination: &[u8]) -> io::Result<()> {
    rustix::fs::linkat(CWD, source, CWD, destination, AtFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use super::*;

    fn bytes(path: &Path) -> &[u8] {
        path.as_os_str().as_bytes()
    }

    #[test]
    fn neither_way_replaces_a_file_that_exists() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("staged"), folder.path().join("final"));
        for by_link in [false, true] {
            std::fs::write(&from, b"new").unwrap();
            std::fs::write(&to, b"old").unwrap();
            let result = if by_link {
                promote_by_link(bytes(&from), bytes(&to))
            } else {
                promote_noreplace(bytes(&from), bytes(&to)).map(|_| ())
            };
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&to).unwrap(), b"old");
            assert!(from.exists());
        }
    }

    #[test]
    fn both_ways_give_the_final_name_and_a_link_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("staged"), folder.path().join("final"));
        for by_link in [false, true] {
            std::fs::write(&from, b"new").unwrap();
            if by_link {
                promote_by_link(bytes(&from), bytes(&to)).unwrap();
            } else {
                promote_noreplace(bytes(&from), bytes(&to)).unwrap();
            }
            assert_eq!(from.exists(), by_link);
            assert_eq!(std::fs::read(&to).unwrap(), b"new");
            std::fs::remove_file(&to).unwrap();
        }
    }
}
