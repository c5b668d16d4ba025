"""The parsers that can be named: those that came with the product, and those of this home.

Rules:
  * One folder, one parser; in the library the folder is named like the parser.
  * A parser of the home never takes the place of one that came with the product, nor may two share
    a name.
  * A folder that cannot be used is listed with its error: it is never left out in silence.

Reading a parser says nothing about trust: that is `trust.verdict`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
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
from casparian.domain.parsers import ParserArtifact, ParserKind, ParserManifest
from casparian.errors import CasparianError, ContractError, UsageError
from casparian.trust.artifact import hash_artifact, is_part, read_artifact

_NEAR_MAX: Final = 3


class Origin(StrEnum):
    """Where a parser was found."""

    FIRST_PARTY = "first-party"  # came with the product
    HOME = "home"  # HOME/parsers
    PATH = "path"  # named by its folder


class LibraryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One parser folder: an artifact, or the error that keeps it from being one."""

    name: str  # of the folder
    directory: str
    origin: Origin
    artifact: ParserArtifact | None = None
    error: CasparianError | None = None


class ParserLibrary:
    """Parsers by name, from two folders; each call reads them anew, so that an edit is seen."""

    def __init__(
        self, first_party: str | os.PathLike[str], home_parsers: str | os.PathLike[str]
    ) -> None:
        self._folders = ((Path(first_party), Origin.FIRST_PARTY), (Path(home_parsers), Origin.HOME))
        self._listed: tuple[LibraryEntry, ...] | None = None

    def snapshot(self) -> ParserLibrary:
        """The same library as it is now: read once, however often it is asked."""
        (first_party, _), (home_parsers, _) = self._folders
        copy = ParserLibrary(first_party, home_parsers)
        copy._listed = self.list()
        return copy

    def list(self) -> tuple[LibraryEntry, ...]:
        """Every parser folder, first-party ones first, each group sorted by name."""
        if self._listed is not None:
            return self._listed
        entries: list[LibraryEntry] = []
        taken: dict[str, str] = {}
        for folder, origin in self._folders:
            for name in _folder_names(folder):
                entry = _entry(folder, name, origin)
                if name.casefold() in taken:
                    entry = _failed(
                        entry, _duplicate(name, taken[name.casefold()], entry.directory)
                    )
                taken.setdefault(name.casefold(), entry.directory)
                entries.append(entry)
        return tuple(entries)

    def find(self, name_or_path: str) -> ParserArtifact:
        """The parser of this name, or in this folder when the text holds a `/`.

        Raises:
            UsageError: `parser.unknown`, with the nearest names.
            CasparianError: the folder is there and holds no usable parser.
        """
        if "/" in name_or_path or name_or_path in (".", ".."):
            return load_parser(name_or_path)
        entries = self.list()
        for entry in entries:
            if entry.name == name_or_path:
                if entry.artifact is not None:
                    return entry.artifact
                assert entry.error is not None
                raise entry.error
        raise _unknown(name_or_path, [entry.name for entry in entries])


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
