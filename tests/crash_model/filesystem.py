"""A file system in memory that keeps after a power cut no more than POSIX promises.

    content           durable after fsync of the file; otherwise kept whole or torn, as the power cut pleases
    directory entry   durable after fsync of its directory; otherwise kept or lost, each change on its own
    rename            one change (`Rename.ATOMIC`, as journalling file systems do it), durable with the directory
                      it leads to; or two independent ones (`Rename.STRICT`, all that POSIX promises): each
                      durable with its own directory
    kill -9           the page cache stays: nothing is lost, and what was not durable is still not durable

Any subset of the changes that are not durable may survive, in their order. An entry of a directory that is itself lost
is lost with it. Every operation that a crash can come after calls `on_step`.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

ROOT = 0
Place = tuple[int, str]  # directory's inode, name in it


class Rename(StrEnum):
    """What a rename is to a power cut."""

    ATOMIC = "atomic"
    STRICT = "strict"


class Node(NamedTuple):
    """A file's content, or a directory."""

    content: bytes | None  # `None`: a directory
    durable: bool = True
    changes: int = 0  # stands for the modification time


class Change(NamedTuple):
    """Edits of directory entries that reach the disk together."""

    edits: tuple[tuple[Place, int | None], ...]
    directory: int  # whose fsync makes it durable


class ModelFileSystem:
    """Inodes and names; `names` is what programs see, `durable` what is on disk for certain."""

    def __init__(self, rename: Rename = Rename.ATOMIC) -> None:
        self.rename_is = rename
        self.nodes: dict[int, Node] = {ROOT: Node(None)}
        self.names: dict[Place, int] = {}
        self.durable: dict[Place, int] = {}
        self.pending: list[Change] = []
        self.next_inode = 1
        self.on_step: Callable[[str], None] = lambda _what: None
        self.drop_sync: Callable[[str], bool] = lambda _path: False  # mutations

    # -- names

    def find(self, path: str) -> int:
        """Inode of a path; `FileNotFoundError` or `NotADirectoryError`."""
        inode = ROOT
        for part in path.split("/"):
            if not part:
                continue
            if self.nodes[inode].content is not None:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            try:
                inode = self.names[inode, part]
            except KeyError:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        return inode

    def lookup(self, path: str) -> int | None:
        """Inode of a path, or `None`."""
        try:
            return self.find(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def place(self, path: str) -> Place:
        """Where a path's entry is, or would be."""
        parent, _, name = path.rstrip("/").rpartition("/")
        return self.find(parent), name

    def children(self, inode: int) -> dict[str, int]:
        """Entries of a directory."""
        return {name: child for (parent, name), child in self.names.items() if parent == inode}

    def walk(self, path: str = "/") -> Iterator[tuple[str, int]]:
        """Every path below (and its inode), depth first, by name."""
        inode = self.lookup(path)
        if inode is None:
            return
        for name, child in sorted(self.children(inode).items()):
            below = f"{path.rstrip('/')}/{name}"
            yield below, child
            yield from self.walk(below)

    def files(self, path: str = "/") -> dict[str, bytes]:
        """Content of every file below a path."""
        found = ((below, self.nodes[inode].content) for below, inode in self.walk(path))
        return {below: content for below, content in found if content is not None}

    def read(self, path: str) -> bytes | None:
        """Content of a file; `None` when there is no file."""
        inode = self.lookup(path)
        return None if inode is None else self.nodes[inode].content

    # -- changes

    def _change(self, directory: int, *edits: tuple[Place, int | None]) -> None:
        for place, inode in edits:
            if inode is None:
                self.names.pop(place, None)
            else:
                self.names[place] = inode
        self.pending.append(Change(edits, directory))

    def _new(self, path: str, node: Node) -> int:
        place = self.place(path)
        if place in self.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        inode, self.next_inode = self.next_inode, self.next_inode + 1
        self.nodes[inode] = node
        self._change(place[0], (place, inode))
        return inode

    def create(self, path: str) -> int:
        """A new, empty file."""
        inode = self._new(path, Node(b"", durable=False))
        self.on_step(f"create {path}")
        return inode

    def mkdir(self, path: str) -> None:
        """A new directory."""
        self._new(path, Node(None))
        self.on_step(f"mkdir {path}")

    def write(self, inode: int, content: bytes, *, durable: bool = False) -> None:
        """Replace a file's content. Writing more to a file that is torn anyway is no new case, so it is no step."""
        before = self.nodes[inode]
        self.nodes[inode] = Node(content, durable, before.changes + 1)
        if durable or not before.content:
            self.on_step("write")

    def sync(self, inode: int, path: str) -> None:
        """fsync of a file or of a directory."""
        if self.drop_sync(path):
            return
        node = self.nodes[inode]
        if node.content is not None:
            self.nodes[inode] = node._replace(durable=True)
        else:
            self._flush(inode)
        self.on_step(f"fsync {path}")

    def _flush(self, directory: int) -> None:
        """Make a directory's changes durable; an older change of the same entry can then come to nothing any more."""
        left, overruled = [], set()
        for change in reversed(self.pending):
            if change.directory == directory:
                overruled |= {place for place, _ in change.edits}
            elif edits := tuple(edit for edit in change.edits if edit[0] not in overruled):
                left.append(Change(edits, change.directory))
        for change in self.pending:
            if change.directory == directory:
                _apply(self.durable, change)
        known = {ROOT, *self.durable.values(), *(i for c in left for _, i in c.edits)}
        self.pending = [change for change in reversed(left) if change.directory in known]

    def unlink(self, path: str) -> None:
        """Remove a file's name."""
        place = self.place(path)
        if self.nodes[self.find(path)].content is None:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._change(place[0], (place, None))
        self.on_step(f"unlink {path}")

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        inode = self.find(path)
        if self.children(inode):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        place = self.place(path)
        self._change(place[0], (place, None))
        self.on_step(f"rmdir {path}")

    def rename(self, source: str, target: str, *, replace: bool) -> None:
        """Give a file another name."""
        inode, old, new = self.find(source), self.place(source), self.place(target)
        if not replace and new in self.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        if self.rename_is is Rename.ATOMIC:
            self._change(new[0], (old, None), (new, inode))
        else:
            self._change(old[0], (old, None))
            self._change(new[0], (new, inode))
        self.on_step(f"rename {source} {target}")

    def link(self, source: str, target: str) -> None:
        """Give a file a second name."""
        inode, new = self.find(source), self.place(target)
        if new in self.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        self._change(new[0], (new, inode))
        self.on_step(f"link {source} {target}")

    def status(self, inode: int) -> os.stat_result:
        """What `stat` says."""
        node = self.nodes[inode]
        kind = stat.S_IFDIR if node.content is None else stat.S_IFREG
        size = len(node.content or b"")
        changed = node.changes
        return os.stat_result((kind | 0o644, inode, 0, 1, 0, 0, size, changed, changed, changed))

    # -- crashes

    def copy(self) -> ModelFileSystem:
        """The same, to go on with; nodes are values and are shared."""
        new = ModelFileSystem(self.rename_is)
        new.nodes, new.names, new.durable = dict(self.nodes), dict(self.names), dict(self.durable)
        new.pending, new.next_inode = list(self.pending), self.next_inode
        return new

    def after_power_cut(self) -> Iterator[ModelFileSystem]:
        """Every state in which the disk may be found, each once."""
        seen = set()
        for kept in itertools.product((True, False), repeat=len(self.pending)):
            names = dict(self.durable)
            for keep, change in zip(kept, self.pending, strict=True):
                if keep:
                    _apply(names, change)
            reached = _reachable(names)
            unsynced = sorted(i for i in reached if not self.nodes[i].durable)
            for whole in itertools.product((True, False), repeat=len(unsynced)):
                torn = {i for i, is_whole in zip(unsynced, whole, strict=True) if not is_whole}
                new = ModelFileSystem(self.rename_is)
                new.nodes = {i: _settled(self.nodes[i], torn=i in torn) for i in sorted(reached)}
                new.names = {p: i for p, i in names.items() if p[0] in reached}
                new.durable = dict(new.names)
                new.next_inode = self.next_inode
                if (key := new.key()) not in seen:
                    seen.add(key)
                    yield new

    def key(self) -> tuple[object, ...]:
        """Equal for states that no program and no power cut can tell apart."""
        numbers: dict[int, int] = {ROOT: ROOT}
        for names in (self.names, self.durable):
            _number(names, numbers)
        pending = [c for c in self.pending if any(i is None or i in numbers for _, i in c.edits)]
        for change in pending:
            for place, edited in change.edits:
                for named in (place[0], edited):
                    if named is not None:
                        numbers.setdefault(named, len(numbers))

        def entries(names: dict[Place, int]) -> frozenset[object]:
            return frozenset((numbers[d], name, numbers[i]) for (d, name), i in names.items())

        return (
            entries(self.names),
            entries(self.durable),
            tuple(
                (
                    numbers.get(c.directory, -1),
                    tuple(
                        (numbers[d], name, None if i is None else numbers[i])
                        for (d, name), i in c.edits
                    ),
                )
                for c in pending
            ),
            frozenset(
                (numbers[i], hash(n.content), n.durable)
                for i, n in self.nodes.items()
                if i in numbers
            ),
        )


def _apply(names: dict[Place, int], change: Change) -> None:
    for place, inode in change.edits:
        if inode is None:
            names.pop(place, None)
        else:
            names[place] = inode


def _number(names: dict[Place, int], numbers: dict[int, int]) -> None:
    """Number inodes in the order of their paths, so that two histories of one tree look the same."""
    below: dict[int, list[tuple[str, int]]] = {}
    for (parent, name), child in names.items():
        below.setdefault(parent, []).append((name, child))
    todo, visited = [ROOT], {ROOT}
    while todo:
        for _, child in sorted(below.pop(todo.pop(), ())):
            numbers.setdefault(child, len(numbers))
            if child not in visited:
                visited.add(child)
                todo.append(child)
    for parent, entries in sorted(below.items()):  # what hangs on a directory that is lost or gone
        for number in (parent, *(child for _, child in sorted(entries))):
            numbers.setdefault(number, len(numbers))


def _reachable(names: dict[Place, int]) -> set[int]:
    below: dict[int, list[int]] = {}
    for (parent, _), child in names.items():
        below.setdefault(parent, []).append(child)
    reached, todo = {ROOT}, [ROOT]
    while todo:
        for child in below.get(todo.pop(), ()):
            if child not in reached:
                reached.add(child)
                todo.append(child)
    return reached


def _settled(node: Node, *, torn: bool) -> Node:
    """A node after the power is back: as long as it was, but zeroes, when it is torn."""
    content = bytes(len(node.content)) if torn and node.content is not None else node.content
    return node._replace(content=content, durable=True)
