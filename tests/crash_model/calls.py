"""The operating system as the product's modules call it, over a `ModelFileSystem`.

Each class has just what the product uses. Something else that it begins to use is an `AttributeError` here, so that no call
can slip past the model to the real disk.
"""

from __future__ import annotations

import errno
import os
import posixpath
import sys
from types import SimpleNamespace
from typing import Any

from tests.crash_model.filesystem import ModelFileSystem, Rename

_PASSED_THROUGH = (
    "O_RDONLY",
    "O_RDWR",
    "O_WRONLY",
    "O_CREAT",
    "O_EXCL",
    "O_CLOEXEC",
    "O_NOFOLLOW",
    "O_NONBLOCK",
    "O_DIRECTORY",
    "fsencode",
    "fsdecode",
    "strerror",
    "cpu_count",
)


class ModelPath:
    """`os.path`."""

    join = staticmethod(posixpath.join)
    dirname = staticmethod(posixpath.dirname)
    basename = staticmethod(posixpath.basename)
    split = staticmethod(posixpath.split)
    splitext = staticmethod(posixpath.splitext)
    isabs = staticmethod(posixpath.isabs)
    normpath = staticmethod(posixpath.normpath)
    abspath = staticmethod(posixpath.normpath)

    def __init__(self, files: ModelFileSystem) -> None:
        self._files = files

    def lexists(self, path: str) -> bool:
        return self._files.lookup(path) is not None

    exists = lexists  # the model has no symbolic links

    def isfile(self, path: str) -> bool:
        return self._files.read(path) is not None

    def isdir(self, path: str) -> bool:
        inode = self._files.lookup(path)
        return inode is not None and self._files.nodes[inode].content is None

    def islink(self, _path: str) -> bool:
        return False


class ModelOs:
    """`os`."""

    def __init__(self, files: ModelFileSystem) -> None:
        self._files = files
        self.path = ModelPath(files)
        self._open: dict[int, tuple[int, str, int]] = {}  # descriptor -> inode, path, position
        for name in _PASSED_THROUGH:
            setattr(self, name, getattr(os, name))

    def open(self, path: str, flags: int, _mode: int = 0o777) -> int:
        inode = self._files.lookup(path)
        if inode is None:
            if not flags & os.O_CREAT:
                self._files.find(path)
            inode = self._files.create(path)
        elif flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        if flags & os.O_DIRECTORY and self._files.nodes[inode].content is not None:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        descriptor = max(self._open, default=99) + 1
        self._open[descriptor] = (inode, path, 0)
        return descriptor

    def close(self, descriptor: int) -> None:
        del self._open[descriptor]

    def read(self, descriptor: int, size: int) -> bytes:
        inode, path, position = self._open[descriptor]
        content = self._files.nodes[inode].content
        assert content is not None
        block = content[position : position + size]
        self._open[descriptor] = (inode, path, position + len(block))
        return block

    def write(self, descriptor: int, data: Any) -> int:
        inode, _, _ = self._open[descriptor]
        content = self._files.nodes[inode].content
        assert content is not None
        self._files.write(inode, content + bytes(data))
        return len(data)

    def fsync(self, descriptor: int) -> None:
        inode, path, _ = self._open[descriptor]
        self._files.sync(inode, path)

    def fstat(self, descriptor: int) -> os.stat_result:
        return self._files.status(self._open[descriptor][0])

    def stat(self, path: str) -> os.stat_result:
        return self._files.status(self._files.find(path))

    lstat = stat

    def listdir(self, path: str) -> list[str]:
        return list(self._files.children(self._files.find(path)))

    def mkdir(self, path: str, _mode: int = 0o777) -> None:
        self._files.mkdir(path)

    def rmdir(self, path: str) -> None:
        self._files.rmdir(path)

    def unlink(self, path: str) -> None:
        self._files.unlink(path)

    def link(self, source: str, target: str, *, follow_symlinks: bool) -> None:
        assert not follow_symlinks
        self._files.link(source, target)

    def rename(self, source: str, target: str) -> None:
        self._files.rename(source, target, replace=True)

    replace = rename

    def statvfs(self, _path: str) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=1 << 30, f_frsize=4096)


class ModelShutil:
    """`shutil`."""

    def __init__(self, files: ModelFileSystem) -> None:
        self._files = files

    def rmtree(self, path: str) -> None:
        inode = self._files.find(path)
        for name, child in sorted(self._files.children(inode).items()):
            if self._files.nodes[child].content is None:
                self.rmtree(f"{path}/{name}")
            else:
                self._files.unlink(f"{path}/{name}")
        self._files.rmdir(path)


class ModelNative:
    """`_native`: `promote_noreplace` as native/core/src/promote.rs does it, on a file system with or without RENAME_NOREPLACE."""

    def __init__(self, files: ModelFileSystem, *, by_link: bool) -> None:
        self._files = files
        self._by_link = by_link

    def promote_noreplace(self, source: bytes, target: bytes) -> str:
        old, new = os.fsdecode(source), os.fsdecode(target)
        if not self._by_link:
            self._files.rename(old, new, replace=False)
            return "rename"
        self._files.link(old, new)
        return "link"


class ModelGlob:
    """`glob`, for a pattern that is a prefix and a star."""

    def __init__(self, files: ModelFileSystem) -> None:
        self._files = files

    @staticmethod
    def escape(path: str) -> str:
        return path

    def glob(self, pattern: str) -> list[str]:
        parent, _, prefix = pattern.rpartition("/")
        assert prefix.endswith("*")
        names = self._files.children(self._files.find(parent))
        return [f"{parent}/{name}" for name in names if name.startswith(prefix[:-1])]


class ModelSecrets:
    """`secrets`: a name that is not in use, the same for the same state of the disk."""

    def __init__(self, files: ModelFileSystem) -> None:
        self._files = files

    def token_hex(self, _size: int) -> str:
        names = " ".join(name for _, name in self._files.names)
        return next(token for token in map("{:08x}".format, range(1 << 16)) if token not in names)


class ModelFcntl:
    """`fcntl`: locks are always free, blocks are never shared."""

    LOCK_EX = LOCK_NB = 0

    @staticmethod
    def flock(_descriptor: int, _how: int) -> None:
        return

    @staticmethod
    def ioctl(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


class ModelSubprocess:
    """`subprocess`: runs the script of `python -c` here, on the model's files."""

    DEVNULL = None

    def __init__(self, operating_system: ModelOs) -> None:
        self._modules = {
            "os": operating_system,
            "fcntl": ModelFcntl,
            "sys": SimpleNamespace(argv=[]),
        }

    def run(self, command: list[str], **_: object) -> SimpleNamespace:
        start = command.index("-c")
        modules = {**self._modules, "sys": SimpleNamespace(argv=["-c", *command[start + 2 :]])}

        def bring(name: str, *_: object) -> object:
            return modules[name]

        builtins = {**vars(sys.modules["builtins"]), "__import__": bring}
        exec(compile(command[start + 1], "<copy>", "exec"), {"__builtins__": builtins})
        return SimpleNamespace(returncode=0, stderr=b"")


__all__ = [
    "ModelFcntl",
    "ModelFileSystem",
    "ModelGlob",
    "ModelNative",
    "ModelOs",
    "ModelSecrets",
    "ModelShutil",
    "ModelSubprocess",
    "Rename",
]
