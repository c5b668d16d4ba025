"""Discover an evidence root: walk, hash, identify, tag.

Every name under the root becomes a value: files with their hashes and tags, links with their target, special files, and what
could not be read with the reason. Nothing is followed, nothing is skipped, and no time stamp decides anything.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from casparian import _native
from casparian.display import path_text
from casparian.domain.files import CataloguedFile, FileStatus, Rule
from casparian.errors import SourceFault, UsageError
from casparian.protocol.identity import source_id
from casparian.scout import companions, identify, rules
from casparian.scout.companions import CompanionRule

# One native call hashes at most so much, so that progress is shown and a stop is noticed between calls.
_SLICE_FILES: Final = 256
_SLICE_BYTES: Final = 256 * 1024 * 1024

Report = Callable[[int, int, int, int], None]
"""`report(files_done, files_total, bytes_done, bytes_total)`."""


def check_root(evidence: bytes) -> bytes:
    """Absolute, link-free path of an evidence root.

    Raises:
        UsageError: it is not an absolute path, does not exist, or is neither a directory nor a regular file.
        SourceFault: it cannot be read at all.
    """
    shown = path_text(evidence)
    if (
        not os.path.isabs(evidence) or b"\0" in evidence
    ):  # the sentinel's own directory means nothing
        raise UsageError(
            f"`{shown}` is not an absolute path", code="evidence.not_absolute", path=shown
        )
    try:
        root = os.path.realpath(evidence)
        mode = os.stat(root).st_mode
    except OSError as error:
        raise UsageError(
            f"cannot find the evidence `{shown}`: {error.strerror}",
            code="evidence.missing",
            hint="give the path of a directory (or of one file)",
            path=shown,
        ) from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise UsageError(
            f"`{shown}` is neither a directory nor a regular file", code="evidence.kind", path=shown
        )
    if stat.S_ISDIR(mode):
        try:
            os.close(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise SourceFault(
                f"cannot list the evidence directory `{shown}`: {error.strerror}",
                code="evidence.unreadable",
                hint="check its permissions, or run as a user who may read it",
                path=shown,
            ) from error
    return root


def discover(
    root: bytes,
    *,
    tag_rules: Sequence[Rule],
    tags_by_hand: Mapping[bytes, tuple[str, ...]],
    threads: int,
    report: Report,
    excluded: Iterable[bytes] = (),
    companion_rules: Sequence[CompanionRule] = (),
) -> tuple[list[CataloguedFile], int]:
    """Catalogue everything under a root, in walk order.

    Args:
        root: from `check_root`.
        tag_rules: applied to the display path of each file.
        tags_by_hand: tags that a person put on relative paths.
        threads: of the hashing.
        report: called after each slice of files.
        excluded: absolute directories that are ours (the home, sinks) and not evidence.
        companion_rules: which files belong to which; those of a root that is one file lie beside it.

    Returns:
        The files, and how many directories were walked.
    """
    single = stat.S_ISREG(os.stat(root).st_mode)
    entries = _native.walk(root)
    base = os.path.dirname(root) if single else root
    ours = [path.rstrip(b"/") + b"/" for path in excluded]
    entries = [e for e in entries if not _is_under(os.path.join(base, e.path) + b"/", ours)]
    directories = sum(entry.kind == "directory" for entry in entries)
    files = [entry for entry in entries if entry.kind == "file"]
    digests = dict(
        zip(
            (entry.path for entry in files),
            _digest(base, files, threads=threads, report=report),
            strict=True,
        )
    )
    shown_root = path_text(root)
    found = []
    for entry in entries:
        if entry.kind != "directory":
            found.append(
                _catalogue(shown_root, entry, digests.get(entry.path), tag_rules, tags_by_hand)
            )
    if single and companion_rules and len(found) == 1:
        return [_with_neighbours(base, found[0], companion_rules, threads)], directories
    return companions.pair(found, companion_rules), directories


def _with_neighbours(
    base: bytes, file: CataloguedFile, companion_rules: Sequence[CompanionRule], threads: int
) -> CataloguedFile:
    """A root that is one file, with the companions beside it; they are read, and are no files of this root."""
    suffixes = companions.suffixes_of(file, companion_rules)
    if file.source_id is None or not suffixes:
        return file
    try:
        names = os.listdir(base)
    except OSError:
        return file  # a directory that cannot be listed shows no companions
    found = []
    for role, name in companions.names_beside(file.path, suffixes, names).items():
        path = os.path.join(base, name)
        (entry,) = _native.walk(path)
        if entry.kind == "file":
            (digest,) = _native.digest_files([path], threads=threads, sha256=True)
            beside = _catalogue(file.root, entry, digest, (), {})
            if beside.status is FileStatus.CATALOGUED:
                found.append(companions.companion(role, beside))
    return companions.with_companions(file, tuple(sorted(found, key=lambda c: c.role)))


def _is_under(path: bytes, directories: Sequence[bytes]) -> bool:
    return any(path.startswith(directory) for directory in directories)


def _digest(
    base: bytes, files: Sequence[_native.Entry], *, threads: int, report: Report
) -> Iterator[_native.FileDigest]:
    total_bytes = sum(entry.size for entry in files)
    done_files = done_bytes = 0
    report(0, len(files), 0, total_bytes)
    start = 0
    while start < len(files):
        end, size = start, 0
        while (
            end < len(files)
            and end - start < _SLICE_FILES
            and (end == start or size < _SLICE_BYTES)
        ):
            size += files[end].size
            end += 1
        yield from _native.digest_files(
            [os.path.join(base, entry.path) for entry in files[start:end]],
            threads=threads,
            sha256=True,
        )
        done_files, done_bytes, start = end, done_bytes + size, end
        report(done_files, len(files), done_bytes, total_bytes)


_SPECIAL: Final = {
    "fifo": "named pipe: not opened",
    "socket": "socket: not opened",
    "char_device": "character device: not opened",
    "block_device": "block device: not opened",
}


def _catalogue(
    root: str,
    entry: _native.Entry,
    digest: _native.FileDigest | None,
    tag_rules: Sequence[Rule],
    tags_by_hand: Mapping[bytes, tuple[str, ...]],
) -> CataloguedFile:
    display_path = path_text(entry.path)
    status, message, source_hash, sha256, identity = (
        FileStatus.UNREADABLE,
        entry.error,
        None,
        None,
        None,
    )
    tags: dict[str, str] = {}
    if entry.kind == "symlink":
        status, message = (
            FileStatus.LINK,
            f"link to {path_text(entry.link_target or b'')}: not followed",
        )
    elif entry.kind in _SPECIAL:
        status, message = FileStatus.SPECIAL, _SPECIAL[entry.kind]
    elif digest is not None and digest.error is not None:
        changed = digest.error == "source.changed"
        status = FileStatus.CHANGED if changed else FileStatus.UNREADABLE
        message = digest.message or digest.error
    elif digest is not None:
        if digest.changed:
            status, message = FileStatus.CHANGED, "changed while it was hashed"
        else:
            assert digest.blake3 is not None
            status, source_hash, sha256 = FileStatus.CATALOGUED, digest.blake3, digest.sha256
            identity = source_id(source_hash)
        name = os.path.basename(entry.path)
        for tag, why in identify.identify(digest.head, name, digest.size):
            tags.setdefault(tag, f"content: {why}")
        for tag, why in rules.apply(tag_rules, display_path):
            tags.setdefault(tag, why)
        for tag in tags_by_hand.get(entry.path, ()):
            tags.setdefault(tag, "by hand")
    return CataloguedFile(
        root=root,
        path=entry.path,
        display_path=display_path,
        status=status,
        size_bytes=digest.size if digest is not None and digest.error is None else entry.size,
        mtime_ns=entry.mtime_ns,
        device=entry.device,
        inode=entry.inode,
        link_target=entry.link_target,
        source_hash=source_hash,
        sha256=sha256,
        source_id=identity,
        tags=tuple(tags),
        tag_reasons=tuple(tags.values()),
        message=message,
    )
