r"""The lock of a parser's environment: which packages it imports, each of one version and known by its hashes.

    # a comment
    acme-codec==1.4.2 \
        --hash=sha256:0123…  --hash=sha256:4567…

Rules: every line is `NAME==VERSION` with at least one SHA-256, as `pip-compile --generate-hashes` and `uv export` write
it. Nothing else has a place here: no ranges, addresses, paths, options, extras or markers, because what a lock means must
not depend on where it is read. Names are compared as PyPI compares them; one is named once. No file access here.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from casparian.display import show
from casparian.errors import ContractError

REQUIREMENTS_MAX: Final = 200
_BYTES_MAX: Final = 1024 * 1024
_HASHES_MAX: Final = 200  # of one package: a wheel for each system and interpreter
_PIN: Final = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9][A-Za-z0-9.+!_-]{0,98})\Z",
    re.ASCII,
)
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})\Z", re.ASCII)
_COMMENT: Final = re.compile(r"(?:^|\s)#.*")


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """One package: its name as PyPI compares names, its version, and the SHA-256 of each wheel that may be it."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def line(self) -> str:
        """The canonical line: equal locks have equal lines, however they were written."""
        return " ".join(
            (f"{self.name}=={self.version}", *(f"--hash=sha256:{one}" for one in self.hashes))
        )


def canonical_name(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(raw: bytes, *, file: str) -> tuple[Requirement, ...]:
    """Read a lock; sorted by name.

    Args:
        raw: the file's bytes.
        file: its name, for errors.

    Raises:
        ContractError: `manifest.environment`, with the line that is wrong.
    """
    try:
        text = raw.decode("utf-8") if len(raw) <= _BYTES_MAX else None
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise _error(file, "is not text, or longer than a mebibyte")
    found: dict[str, Requirement] = {}
    for line in _logical_lines(text):
        requirement = _requirement(line, file)
        if requirement.name in found:
            raise _error(file, f"names `{requirement.name}` twice")
        found[requirement.name] = requirement
    if not found or len(found) > REQUIREMENTS_MAX:
        raise _error(file, f"has {len(found)} packages, expected 1 to {REQUIREMENTS_MAX}")
    return tuple(found[name] for name in sorted(found))


def from_lines(lines: tuple[str, ...]) -> tuple[Requirement, ...]:
    """The inverse of `Requirement.line`, for lines that came in a message.

    Raises:
        ContractError: one of them is no canonical line.
    """
    found = tuple(_requirement(line, "requirements") for line in lines)
    if tuple(one.line for one in found) != lines:
        raise _error("requirements", "has a line that is not canonical")
    return found


def _logical_lines(text: str) -> list[str]:
    joined = text.replace("\r\n", "\n").replace("\\\n", " ")
    lines = (_COMMENT.sub("", line).strip() for line in joined.split("\n"))
    return [line for line in lines if line]


def _requirement(line: str, file: str) -> Requirement:
    pin, *options = line.split()
    matched = _PIN.match(pin)
    if matched is None:
        raise _error(file, f"`{show(line, width=80)}` is not `NAME==VERSION --hash=sha256:…`")
    hashes = set()
    for option in options:
        one = _HASH.match(option)
        if one is None:
            raise _error(
                file, f"`{show(option, width=80)}` of `{show(pin)}` has no place in a lock"
            )
        hashes.add(one[1])
    if not 1 <= len(hashes) <= _HASHES_MAX:
        raise _error(file, f"`{show(pin)}` has {len(hashes)} hashes, expected 1 to {_HASHES_MAX}")
    return Requirement(
        name=canonical_name(matched["name"]),
        version=matched["version"].lower(),
        hashes=tuple(sorted(hashes)),
    )


def _error(file: str, problem: str) -> ContractError:
    return ContractError(
        f"the lock `{show(file)}` {problem}",
        code="manifest.environment",
        hint="write it with `pip-compile --generate-hashes`, or `uv export --no-emit-project`",
        file=file,
    )
