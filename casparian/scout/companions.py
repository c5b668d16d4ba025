"""Find the files that belong to others: transaction logs of a hive, the journal of a database.

Rules:
  * A parser says which suffixes to a source's name it reads as well; they hold for every file with one of its tags.
  * A companion lies in the same directory and is a readable regular file. Names are compared without regard to case,
    as the systems do that write such files; a name that is equal letter by letter comes first.
  * A companion belongs to one file. It stays a file of the catalogue, with its own tags and hashes.

What is found becomes part of the source's identity: another log is another source.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from casparian.display import path_text
from casparian.domain.files import CataloguedFile, Companion, FileStatus
from casparian.domain.parsers import ParserManifest, companion_role
from casparian.protocol.identity import companion_id, source_id


class CompanionRule(msgspec.Struct, frozen=True, kw_only=True):
    """Files with one of these tags may have companions with these suffixes."""

    tags: frozenset[str]
    suffixes: tuple[bytes, ...]


def rules_of(manifests: Iterable[ParserManifest]) -> tuple[CompanionRule, ...]:
    """What these parsers ask for."""
    return tuple(
        CompanionRule(
            tags=frozenset(manifest.tags),
            suffixes=tuple(suffix.encode() for suffix in manifest.companions),
        )
        for manifest in manifests
        if manifest.companions
    )


def pair(files: Sequence[CataloguedFile], rules: Sequence[CompanionRule]) -> list[CataloguedFile]:
    """The same files in the same order, with companions, their owners, and the identities that follow from them."""
    owners = _owners(files, rules)
    if not owners:
        return list(files)
    directories = {os.path.dirname(files[owner].path) for owner in owners}
    names: dict[tuple[bytes, bytes], list[int]] = {}
    for position, file in enumerate(files):
        directory, name = os.path.split(file.path)
        if file.status is FileStatus.CATALOGUED and directory in directories:
            names.setdefault((directory, name.lower()), []).append(position)

    def find(owner: int, suffix: bytes) -> Iterator[tuple[bytes, int]]:
        directory, name = os.path.split(files[owner].path)
        found = [
            (os.path.basename(files[position].path), position)
            for position in names.get((directory, (name + suffix).lower()), ())
        ]
        yield from sorted(found, key=lambda item: _distance(item[0], name, suffix))

    paired = list(files)
    for owner, found in _assign(files, owners, find).items():
        companions = tuple(
            companion(role, files[position]) for role, position in sorted(found.items())
        )
        paired[owner] = with_companions(paired[owner], companions)
        for position in found.values():
            paired[position] = msgspec.structs.replace(
                paired[position], companion_of=files[owner].display_path
            )
    return paired


def suffixes_of(file: CataloguedFile, rules: Sequence[CompanionRule]) -> tuple[bytes, ...]:
    """Suffixes to look for beside a file."""
    found = [s for rule in rules if not rule.tags.isdisjoint(file.tags) for s in rule.suffixes]
    return tuple(dict.fromkeys(found))


def names_beside(
    name: bytes, suffixes: Iterable[bytes], names: Iterable[bytes]
) -> dict[str, bytes]:
    """Role and name of the companions of one file among the names of its directory."""
    by_folded: dict[bytes, list[bytes]] = {}
    for other in sorted(names):
        by_folded.setdefault(other.lower(), []).append(other)
    found: dict[str, bytes] = {}
    for suffix in suffixes:
        candidates = by_folded.get((name + suffix).lower())
        if candidates:
            best = min(candidates, key=lambda other: _distance(other, name, suffix))
            found[companion_role(suffix.decode())] = best
    return found


def with_companions(file: CataloguedFile, companions: tuple[Companion, ...]) -> CataloguedFile:
    """The file and its identity, with these companions."""
    assert file.source_hash is not None
    identity = source_id(
        file.source_hash, (companion_id(c.role, c.source_hash) for c in companions)
    )
    return msgspec.structs.replace(file, companions=companions, source_id=identity)


def _owners(
    files: Sequence[CataloguedFile], rules: Sequence[CompanionRule]
) -> dict[int, tuple[bytes, ...]]:
    """Files that may have companions, by position, and the suffixes to look for."""
    owners: dict[int, tuple[bytes, ...]] = {}
    tags = frozenset[str]().union(*(rule.tags for rule in rules))
    for position, file in enumerate(files):
        if file.source_id is None or tags.isdisjoint(file.tags):
            continue
        owners[position] = suffixes_of(file, rules)
    return owners


def _assign(
    files: Sequence[CataloguedFile],
    owners: dict[int, tuple[bytes, ...]],
    find: Callable[[int, bytes], Iterator[tuple[bytes, int]]],
) -> dict[int, dict[str, int]]:
    """Owner -> role -> position: first the names that are equal letter by letter, then the others; each file once."""
    assigned: dict[int, dict[str, int]] = {}
    taken: set[int] = set()
    for exact in (True, False):
        for owner, suffixes in owners.items():
            name = os.path.basename(files[owner].path)
            for suffix in suffixes:
                role = companion_role(suffix.decode())
                if role in assigned.get(owner, {}):
                    continue
                for found, position in find(owner, suffix):
                    if position not in taken and (found.startswith(name) or not exact):
                        assigned.setdefault(owner, {})[role] = position
                        taken.add(position)
                        break
    return assigned


def _distance(other: bytes, name: bytes, suffix: bytes) -> tuple[bool, bool, bytes]:
    """Sorts names that differ in case only: nearest to what was asked for first."""
    return (not other.startswith(name), other != name + suffix, other)


def companion(role: str, file: CataloguedFile) -> Companion:
    """A catalogued file as the companion of another."""
    assert file.source_hash is not None
    assert file.sha256 is not None
    return Companion(
        role=role,
        name=os.path.basename(file.path),
        display_path=path_text(file.path),
        size_bytes=file.size_bytes,
        source_hash=file.source_hash,
        sha256=file.sha256,
    )
