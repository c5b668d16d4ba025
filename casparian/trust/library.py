"""The parsers that can be named: those that came with the product, those deployed here, and those of this home.

Rules:
  * One folder, one parser; in the two libraries the folder is named like the parser, in the store like its hash.
  * No parser takes the place of one that came with the product, nor may two share a name.
  * Versions of a deployed parser stand side by side. Its name means the one with the highest serial that is not
    retired; `name@version` means that one. A folder of the home with that name is being developed: it waits, and
    runs by its path.
  * A folder that cannot be used is listed with its error: it is never left out in silence.

Reading a parser says nothing about trust: that is `trust.verdict`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from casparian.contracts import elf
from casparian.contracts.load import (
    CONTRACT_FILE,
    MANIFEST_FILE,
    check_mains,
    load_contract,
    load_manifest,
)
from casparian.contracts.requirements import read_lock
from casparian.display import show
from casparian.domain.deployments import Deployment, current
from casparian.domain.parsers import ParserArtifact, ParserKind, ParserManifest
from casparian.errors import CasparianError, ContractError, Refused, UsageError
from casparian.paths import Home, first_party_parsers
from casparian.trust import store
from casparian.trust.artifact import hash_artifact, is_part, read_artifact
from casparian.trust.origin import Origin

__all__ = [
    "LibraryEntry",
    "Origin",
    "ParserLibrary",
    "Standing",
    "load_parser",
    "parser_from_files",
]

_NEAR_MAX: Final = 3


class Standing(StrEnum):
    """Which of several parsers of one name runs."""

    CURRENT = "current"  # the one that the name means
    BESIDE = "beside"  # another version: runs by `name@version`
    RETIRED = "retired"  # kept for proofs only
    WAITING = (
        "waiting"  # a folder of the home while a deployed parser has its name: runs by its path
    )


class LibraryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One parser folder: an artifact, or the error that keeps it from being one."""

    name: str  # of the parser; of a folder that holds none, the folder's
    directory: str
    origin: Origin
    standing: Standing = Standing.CURRENT
    artifact: ParserArtifact | None = None
    error: CasparianError | None = None
    deployment: Deployment | None = None


class ParserLibrary:
    """Parsers by name, from two folders and the store; each call reads them anew, so that an edit is seen."""

    def __init__(
        self,
        first_party: str | os.PathLike[str],
        home_parsers: str | os.PathLike[str],
        artifacts: str | os.PathLike[str] | None = None,
    ) -> None:
        self._first_party = Path(first_party)
        self._home_parsers = Path(home_parsers)
        self._artifacts = None if artifacts is None else Path(artifacts)
        self._listed: tuple[LibraryEntry, ...] | None = None

    @classmethod
    def of(cls, home: Home) -> ParserLibrary:
        """All parsers that can be named in a home."""
        return cls(first_party_parsers(), home.parsers, home.artifacts)

    def snapshot(self) -> ParserLibrary:
        """The same library as it is now: read once, however often it is asked."""
        copy = ParserLibrary(self._first_party, self._home_parsers, self._artifacts)
        copy._listed = self.list()
        return copy

    def list(self) -> tuple[LibraryEntry, ...]:
        """Every parser: first-party ones, deployed ones, those of the home; each group sorted by name."""
        if self._listed is not None:
            return self._listed
        entries: list[LibraryEntry] = []
        taken: dict[str, LibraryEntry] = {}
        for entry in (
            *_of_folder(self._first_party, Origin.FIRST_PARTY),
            *_deployed(self._artifacts),
            *_of_folder(self._home_parsers, Origin.HOME),
        ):
            if entry.standing is Standing.CURRENT:
                holder = taken.setdefault(entry.name.casefold(), entry)
                if holder is not entry:
                    entry = _second(entry, holder)
            entries.append(entry)
        return tuple(entries)

    def find(self, name_or_path: str) -> ParserArtifact:
        """The parser of this name or `name@version`, or in this folder when the text holds a `/`.

        Raises:
            UsageError: `parser.unknown`, with the nearest names.
            Refused: `parser.retired`.
            CasparianError: the folder is there and holds no usable parser.
        """
        if "/" in name_or_path or name_or_path in (".", ".."):
            return load_parser(name_or_path)
        entries = self.list()
        name, _, version = name_or_path.partition("@")
        named = [entry for entry in entries if entry.name == name]
        for entry in named:
            if not version and entry.standing is Standing.CURRENT:
                return _usable(entry)
            if version and entry.standing is not Standing.WAITING and _version(entry) == version:
                if entry.standing is Standing.RETIRED:
                    raise _retired(name, version)
                return _usable(entry)
        if named and not version and all(e.standing is Standing.RETIRED for e in named):
            raise _retired(name, _version(named[-1]))
        known = [e.name for e in entries]
        known += [f"{e.name}@{_version(e)}" for e in named if e.standing is not Standing.RETIRED]
        raise _unknown(name_or_path, known)


def load_parser(directory: str | os.PathLike[str]) -> ParserArtifact:
    """Read one parser folder.

    Raises:
        CasparianError: it cannot be read, is no parser, or its manifest or contract is malformed.
    """
    path = os.path.abspath(directory)
    return parser_from_files(path, read_artifact(path))


def parser_from_files(directory: str, files: Mapping[str, bytes]) -> ParserArtifact:
    """A parser from the bytes of its folder, as `read_artifact` returns them."""
    for required in (MANIFEST_FILE, CONTRACT_FILE):
        if required not in files:
            raise ContractError(
                f"the folder `{show(directory)}` has no `{required}`",
                hint="`casparian parser new NAME` writes a working skeleton",
                code="parser.incomplete",
                path=directory,
            )
    manifest = load_manifest(files[MANIFEST_FILE], file=os.path.join(directory, MANIFEST_FILE))
    contract_file = os.path.join(directory, CONTRACT_FILE)
    contract = load_contract(files[CONTRACT_FILE], file=contract_file)
    check_mains(manifest, contract, file=contract_file)
    source = manifest.entry.partition(":")[0]
    if manifest.kind is ParserKind.PYTHON and source not in files:
        raise ContractError(
            f"`{show(directory)}`: the entry's file `{show(source)}` is not in the parser's folder",
            code="manifest.entry",
            path=directory,
            key="entry",
        )
    if manifest.kind is ParserKind.EXECUTABLE:
        _check_program(manifest.entry, files, directory)
    return ParserArtifact(
        manifest=manifest,
        contract=contract,
        directory=directory,
        artifact_hash=hash_artifact(files),
        files=tuple(files),
        requirements=requirements_of(manifest, files, directory),
    )


def requirements_of(
    manifest: ParserManifest, files: Mapping[str, bytes], directory: str
) -> tuple[str, ...]:
    """Canonical lines of the lock of a parser's environment; none for a parser without one.

    Raises:
        ContractError: `manifest.environment`: the lock is missing or malformed.
    """
    if not manifest.environment:
        return ()
    path = os.path.join(directory, manifest.environment)
    if manifest.environment not in files:
        raise ContractError(
            f"the lock `{show(path)}` is not in the parser's folder",
            code="manifest.environment",
            path=directory,
            key="environment.lock",
        )
    return tuple(one.line for one in read_lock(files[manifest.environment], file=path))


def _check_program(entry: str, files: Mapping[str, bytes], directory: str) -> None:
    problem = "is not in the parser's folder"
    if entry in files:
        problem = elf.problem_of(files[entry])
    if problem:
        raise ContractError(
            f"`{show(directory)}`: the program `{show(entry)}` {problem}",
            code="manifest.entry",
            path=directory,
            key="entry",
        )


def _of_folder(folder: Path, origin: Origin) -> Sequence[LibraryEntry]:
    return [_entry(folder, name, origin) for name in _folder_names(folder)]


def _deployed(artifacts: Path | None) -> Sequence[LibraryEntry]:
    """Deployed versions by name, newest last; a damaged list is an entry with that error."""
    if artifacts is None:
        return []
    try:
        deployments = store.read_index(artifacts)
    except CasparianError as error:
        return [
            LibraryEntry(
                name=store.INDEX_FILE,
                directory=str(artifacts),
                origin=Origin.DEPLOYED,
                error=error,
            )
        ]
    running = current(deployments)
    entries = []
    for deployment in sorted(deployments, key=lambda d: (d.parser, d.serial, d.deployed_at_ns)):
        if deployment.retired_at_ns is not None:
            standing = Standing.RETIRED
        elif running[deployment.parser] is deployment:
            standing = Standing.CURRENT
        else:
            standing = Standing.BESIDE
        entry = LibraryEntry(
            name=deployment.parser,
            directory=os.path.abspath(artifacts / deployment.artifact_hash),
            origin=Origin.DEPLOYED,
            standing=standing,
            deployment=deployment,
        )
        try:
            artifact = load_parser(entry.directory)
        except CasparianError as error:
            entry = _failed(entry, error)
        else:
            entry = msgspec.structs.replace(entry, artifact=artifact)
            if artifact.artifact_hash != deployment.artifact_hash:
                entry = _failed(entry, _altered(deployment, entry.directory))
        entries.append(entry)
    return entries


def _second(entry: LibraryEntry, holder: LibraryEntry) -> LibraryEntry:
    """A parser whose name another has already."""
    if holder.origin is Origin.DEPLOYED and entry.origin is Origin.HOME:
        return msgspec.structs.replace(entry, standing=Standing.WAITING)
    return _failed(entry, _duplicate(entry.name, holder.directory, entry.directory))


def _usable(entry: LibraryEntry) -> ParserArtifact:
    if entry.artifact is not None:
        return entry.artifact
    assert entry.error is not None
    raise entry.error


def _version(entry: LibraryEntry) -> str:
    if entry.deployment is not None:
        return entry.deployment.version
    return "" if entry.artifact is None else entry.artifact.manifest.version


def _retired(name: str, version: str) -> Refused:
    return Refused(
        f"version {version} of the parser `{name}` is retired",
        hint=f"`casparian parser list --all` shows its versions; deploying `{name}` again takes it back",
        code="parser.retired",
        parser=name,
    )


def _altered(deployment: Deployment, directory: str) -> ContractError:
    return ContractError(
        f"the stored parser `{deployment.label}` is not what was deployed",
        hint=f"move `{show(directory)}` away and deploy it again",
        code="artifact.altered",
        path=directory,
    )


def _folder_names(folder: Path) -> list[str]:
    """Names of the parser folders in a library folder; a missing library is an empty one."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if is_part(entry.name) and entry.is_dir())
    except FileNotFoundError:
        return []


def _entry(folder: Path, name: str, origin: Origin) -> LibraryEntry:
    directory = os.path.abspath(folder / name)
    entry = LibraryEntry(name=name, directory=directory, origin=origin)
    try:
        artifact = load_parser(directory)
    except CasparianError as error:
        return _failed(entry, error)
    if artifact.manifest.name != name:
        return _failed(
            entry,
            ContractError(
                f"the folder `{show(directory)}` holds the parser `{artifact.manifest.name}`",
                hint="name the folder like the parser",
                code="parser.folder_name",
                path=directory,
            ),
        )
    return msgspec.structs.replace(entry, artifact=artifact)


def _failed(entry: LibraryEntry, error: CasparianError) -> LibraryEntry:
    return msgspec.structs.replace(entry, artifact=None, error=error)


def _duplicate(name: str, first: str, second: str) -> ContractError:
    return ContractError(
        f"two parsers are named `{show(name)}`: `{show(first)}` and `{show(second)}`",
        hint=f"rename or remove `{show(second)}`",
        code="parser.duplicate",
        path=second,
    )


def _unknown(name: str, known: list[str]) -> UsageError:
    near = difflib.get_close_matches(name, known, n=_NEAR_MAX, cutoff=0.4)
    # A part of a name is what people remember: `evtx` for `windows.evtx`.
    near += [other for other in known if name and name.casefold() in other and other not in near]
    if near:
        hint = "did you mean " + " or ".join(f"`{show(other)}`" for other in near[:_NEAR_MAX]) + "?"
    else:
        hint = "`casparian parser list` shows the parsers that are there"
    return UsageError(
        f"there is no parser `{show(name, width=80)}`",
        hint=hint,
        code="parser.unknown",
        parser=name,
    )
