"""Walking, hashing and promoting files through the native module."""

import errno
import hashlib
import os
import pathlib
import threading

import blake3
import pytest

from casparian import _native


def test_walk_gives_exact_names_in_byte_order_and_follows_no_link(tmp_path: pathlib.Path) -> None:
    root = os.fsencode(tmp_path)
    os.mkdir(root + b"/a")
    for name in (b"a/b", b"a.txt", b"\xff\n"):
        with open(root + b"/" + name, "wb") as opened:
            opened.write(b"12345")
    os.symlink(b"..", root + b"/a/loop")
    os.mkfifo(root + b"/fifo")

    entries = _native.walk(root)
    assert [(entry.path, entry.kind) for entry in entries] == [
        (b"a", "directory"),
        (b"a.txt", "file"),
        (b"a/b", "file"),
        (b"a/loop", "symlink"),
        (b"fifo", "fifo"),
        (b"\xff\n", "file"),
    ]
    file, link = entries[2], entries[3]
    status = os.stat(root + b"/a/b")
    assert (file.size, file.mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert (file.device, file.inode, file.links) == (status.st_dev, status.st_ino, 1)
    assert (link.link_target, link.error, file.link_target) == (b"..", None, None)


def test_walk_of_a_missing_root_is_an_entry_with_a_reason(tmp_path: pathlib.Path) -> None:
    (entry,) = _native.walk(os.fsencode(tmp_path / "none"))
    assert (entry.path, entry.kind, entry.errno) == (b"none", "unreadable", errno.ENOENT)
    assert entry.error is not None
    assert "open" in entry.error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every directory")
def test_a_directory_that_may_not_be_read_is_an_entry_with_a_reason(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    (entry,) = _native.walk(os.fsencode(tmp_path))
    assert (entry.kind, entry.errno) == ("unreadable", errno.EACCES)


SIZES = [0, 1, 8192, 4097, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000]


@pytest.mark.parametrize("threads", [1, 3])
def test_digests_equal_those_of_independent_libraries(tmp_path: pathlib.Path, threads: int) -> None:
    paths = []
    for size in SIZES:
        path = tmp_path / str(size)
        path.write_bytes(bytes(i * 7 % 256 for i in range(256)) * (size // 256 + 1))
        os.truncate(path, size)
        paths.append(os.fsencode(path))
    digests = _native.digest_files(paths, threads=threads)
    for name, digest in zip(paths, digests, strict=True):
        content = pathlib.Path(os.fsdecode(name)).read_bytes()
        assert digest.blake3 == blake3.blake3(content).hexdigest()
        assert digest.sha256 == hashlib.sha256(content).hexdigest()
        assert (digest.size, digest.head) == (len(content), content[:8192])
        assert (digest.changed, digest.error, digest.message) == (False, None, None)


def test_what_is_no_regular_file_is_refused_as_a_value(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    os.symlink("file", tmp_path / "link")
    os.mkfifo(tmp_path / "fifo")
    names = ["link", "fifo", ".", "none", "nul\0", "file"]
    digests = _native.digest_files([os.fsencode(tmp_path) + b"/" + n.encode() for n in names])
    not_a_file, missing = "source.not_a_file", "source.missing"
    expected = [not_a_file, not_a_file, not_a_file, missing, "source.unreadable", None]
    assert [digest.error for digest in digests] == expected
    assert [digest.blake3 is None for digest in digests] == [True] * 5 + [False]


def test_digest_fd_neither_uses_nor_moves_the_position(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        os.lseek(file.fileno(), 4, os.SEEK_SET)
        digest = _native.digest_fd(file.fileno())
        assert digest.blake3 == blake3.blake3(b"0123456789").hexdigest()
        assert digest.sha256 is None
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 4


def test_a_descriptor_that_is_not_open_is_an_os_error() -> None:
    with pytest.raises(OSError, match="descriptor") as raised:
        _native.digest_fd(1_000_000)
    assert raised.value.errno == errno.EBADF
    with pytest.raises(ValueError, match="negative"):
        _native.digest_fd(-1)


def test_other_threads_run_while_files_are_hashed(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "big"
    path.touch()
    os.truncate(path, 300 << 20)
    done = threading.Event()
    turns = 0

    def hash_it() -> None:
        _native.digest_files([os.fsencode(path)])
        done.set()

    thread = threading.Thread(target=hash_it)
    thread.start()
    while not done.wait(0.001):
        turns += 1
    thread.join()
    assert turns > 3


def test_promotion_never_replaces_a_file(tmp_path: pathlib.Path) -> None:
    source, target = os.fsencode(tmp_path / "staged"), os.fsencode(tmp_path / "final")
    (tmp_path / "staged").write_bytes(b"new")
    assert _native.promote_noreplace(source, target) in {"rename", "link"}
    assert (tmp_path / "final").read_bytes() == b"new"
    assert not (tmp_path / "staged").exists()

    (tmp_path / "staged").write_bytes(b"newer")
    with pytest.raises(FileExistsError):
        _native.promote_noreplace(source, target)
    assert (tmp_path / "final").read_bytes() == b"new"
    assert (tmp_path / "staged").read_bytes() == b"newer"
    with pytest.raises(FileNotFoundError):
        _native.promote_noreplace(target + b"-none", target + b"-else")
