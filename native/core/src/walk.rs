//! Walking an evidence directory: every name, exactly, in an order that never varies.
//!
//! * Names are bytes; the order is the byte order of the relative path.
//! * Links are reported, never followed, so a walk ends whatever the links say. Directories are opened
//!   beneath the root with links forbidden in every component, so a swapped directory cannot lead out.
//! * What cannot be read is an entry of kind `unreadable`, never an omission and never a stop.
//!
//! One thread: a warm entry costs about 3 microseconds, and hashing what was found costs far more.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory whose names were read.
    Directory,
    /// A symbolic link; its target is kept, not followed.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// Something that could not be examined or, for a directory, not read to its end.
    Unreadable,
}

impl Kind {
    /// The name that screens and tables use.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::CharDevice => "char_device",
            Self::BlockDevice => "block_device",
            Self::Unreadable => "unreadable",
        }
    }

    pub(crate) fn of(file_type: FileType) -> Self {
        match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Unknown => Self::Unreadable,
        }
    }
}

/// One name in the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root, separated by `/`. For a root that is not a directory: its own last name.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// In bytes.
    pub size_bytes: u64,
    /// Modification time in nanoseconds since 1970 UTC.
    pub mtime_nanoseconds: i64,
    /// Number of the device it lies on.
    pub device: u64,
    /// Inode number on that device.
    pub inode: u64,
    /// How many names the inode has.
    pub links: u64,
    /// Where a symbolic link points, as written.
    pub link_target: Option<Vec<u8>>,
    /// Why it is unreadable.
    pub error: Option<EntryError>,
}

/// Why an entry is unreadable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryError {
    /// The error number of the operating system.
    pub errno: i32,
    /// The call and its failure, as text.
    pub message: String,
}

impl EntryError {
    fn new(call: &str, errno: Errno) -> Self {
        Self {
            errno: errno.raw_os_error(),
            message: format!("{call}: {}", io::Error::from(errno)),
        }
    }
}

impl Entry {
    fn from_stat(path: Vec<u8>, stat: &Stat) -> Self {
        Self {
            path,
            kind: Kind::of(FileType::from_raw_mode(stat.st_mode)),
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_nanoseconds: mtime_nanoseconds(stat),
            device: stat.st_dev,
            inode: stat.st_ino,
            #[allow(clippy::unnecessary_cast, reason = "u32 on some architectures")]
            links: stat.st_nlink as u64,
            link_target: None,
            error: None,
        }
    }

    fn unexamined(path: Vec<u8>, error: EntryError) -> Self {
        Self {
            path,
            kind: Kind::Unreadable,
            size_bytes: 0,
            mtime_nanoseconds: 0,
            device: 0,
            inode: 0,
            links: 0,
            link_target: None,
            error: Some(error),
        }
    }

    fn mark_unreadable(&mut self, error: EntryError) {
        self.kind = Kind::Unreadable;
        self.error = Some(error);
    }
}

/// Modification time in nanoseconds since 1970 UTC; times outside of i64 stop at its ends.
pub fn mtime_nanoseconds(stat: &Stat) -> i64 {
    let total = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    i64::try_from(total).unwrap_or(if total < 0 { i64::MIN } else { i64::MAX })
}

/// Every name below `root`, in byte order of the relative paths; the root itself is not an entry.
///
/// The caller names the root, so a root that is a link to a directory is entered. A root that is
/// anything but a directory gives the one entry of itself.
pub fn walk(root: &[u8]) -> Vec<Entry> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root_descriptor = match rustix::fs::open(root, flags, Mode::empty()) {
        Ok(descriptor) => descriptor,
        Err(Errno::NOTDIR) => return vec![examine(CWD, root, last_name(root).to_vec())],
        Err(errno) => {
            let error = EntryError::new("open", errno);
            return vec![Entry::unexamined(last_name(root).to_vec(), error)];
        }
    };
    let mut walker = Walker {
        root: root_descriptor,
        entries: Vec::new(),
        pending: Vec::new(),
    };
    walker.run();
    walker.entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    walker.entries
}

struct Walker {
    root: OwnedFd,
    entries: Vec<Entry>,
    /// Positions in `entries` of directories that are still to be read.
    pending: Vec<usize>,
}

impl Walker {
    fn run(&mut self) {
        if let Err(error) = self.read_directory(b"") {
            self.entries.push(Entry::unexamined(Vec::new(), error));
        }
        while let Some(position) = self.pending.pop() {
            let path = self.entries[position].path.clone();
            if let Err(error) = self.read_directory(&path) {
                self.entries[position].mark_unreadable(error);
            }
        }
    }

    /// Add the names of one directory. Names read before an error stay.
    fn read_directory(&mut self, path: &[u8]) -> Result<(), EntryError> {
        let directory = self
            .open_directory(path)
            .map_err(|errno| EntryError::new("open", errno))?;
        let names = Dir::read_from(&directory).map_err(|errno| EntryError::new("read", errno))?;
        for name in names {
            let name = name.map_err(|errno| EntryError::new("read", errno))?;
            let name = name.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let entry = examine(&directory, name.to_bytes(), join(path, name));
            if entry.kind == Kind::Directory {
                self.pending.push(self.entries.len());
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
            // Kernels before 5.6, and seccomp filters that do not know the call.
            Err(Errno::NOSYS | Errno::PERM) => {
                rustix::fs::openat(&self.root, path, flags, Mode::empty())
            }
            // EAGAIN: a rename somewhere raced the look-up; asked again a few times, then told.
            Err(Errno::AGAIN) => (0..8)
                .find_map(|_| {
                    rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).ok()
                })
                .ok_or(Errno::AGAIN),
            other => other,
        }
    }
}

/// Look at one name without opening or following it.
fn examine(directory: impl AsFd, name: &[u8], path: Vec<u8>) -> Entry {
    let directory = directory.as_fd();
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(errno) => return Entry::unexamined(path, EntryError::new("stat", errno)),
    };
    let mut entry = Entry::from_stat(path, &stat);
    if entry.kind == Kind::Symlink {
        match rustix::fs::readlinkat(directory, name, Vec::new()) {
            Ok(target) => entry.link_target = Some(target.into_bytes()),
            Err(errno) => entry.mark_unreadable(EntryError::new("readlink", errno)),
        }
    }
    entry
}

fn join(directory: &[u8], name: &CStr) -> Vec<u8> {
    let name = name.to_bytes();
    if directory.is_empty() {
        return name.to_vec();
    }
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

fn last_name(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&b| b != b'/').map_or(0, |p| p + 1);
    let start = path[..end]
        .iter()
        .rposition(|&b| b == b'/')
        .map_or(0, |p| p + 1);
    &path[start..end]
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn walk_path(path: &Path) -> Vec<Entry> {
        walk(path.as_os_str().as_bytes())
    }

    fn found(entries: &[Entry]) -> Vec<(String, &'static str)> {
        entries
            .iter()
            .map(|e| (e.path.escape_ascii().to_string(), e.kind.name()))
            .collect()
    }

    #[test]
    fn every_kind_of_name_is_found_in_byte_order_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("a")).unwrap();
        std::fs::write(root.join("a/b"), b"12345").unwrap();
        std::fs::write(root.join("a.txt"), b"").unwrap();
        std::fs::write(root.join(OsStr::from_bytes(b"\xff\n")), b"").unwrap();
        symlink("..", root.join("a/loop")).unwrap();
        symlink("/nowhere", root.join("dangling")).unwrap();
        rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();

        let entries = walk_path(root);
        let expected = [
            ("a", "directory"),
            ("a.txt", "file"),
            ("a/b", "file"),
            ("a/loop", "symlink"),
            ("dangling", "symlink"),
            ("fifo", "fifo"),
            ("socket", "socket"),
            (r"\xff\n", "file"),
        ];
        assert_eq!(found(&entries), expected.map(|(p, k)| (p.to_owned(), k)));
        assert_eq!(entries[2].size_bytes, 5);
        assert!(entries[2].mtime_nanoseconds > 0 && entries[2].inode > 0);
        assert_eq!(entries[3].link_target.as_deref(), Some(b"..".as_slice()));
    }

    #[test]
    fn a_root_that_is_one_file_gives_that_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Security.evtx");
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(
            found(&walk_path(&path)),
            [("Security.evtx".to_owned(), "file")]
        );
        symlink("Security.evtx", folder.path().join("link")).unwrap();
        let link = walk_path(&folder.path().join("link"));
        assert_eq!(found(&link), [("link".to_owned(), "symlink")]);
    }

    #[test]
    fn a_root_that_is_not_there_is_an_entry_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let entries = walk_path(&folder.path().join("none"));
        assert_eq!(entries[0].kind, Kind::Unreadable);
        assert_eq!(entries[0].error.as_ref().unwrap().errno, 2);
    }

    #[test]
    fn a_very_deep_tree_ends_in_a_reason_and_not_in_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let name = "d".repeat(200);
        let mut directory: OwnedFd = std::fs::File::open(folder.path()).unwrap().into();
        for _ in 0..30 {
            rustix::fs::mkdirat(&directory, &name, Mode::RWXU).unwrap();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            directory = rustix::fs::openat(&directory, &name, flags, Mode::empty()).unwrap();
        }
        let entries = walk_path(folder.path());
        let last = entries.last().unwrap();
        assert_eq!(last.kind, Kind::Unreadable);
        assert_eq!(
            last.error.as_ref().unwrap().errno,
            Errno::NAMETOOLONG.raw_os_error()
        );
        assert!(entries.len() >= 20);
    }
}
