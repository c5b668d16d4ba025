"""The statement about a parser: its name, version, serial and every file of it (in-toto, predicate `parser/v1`).

It lies in the parser's folder as `statement.dsse.json` and is no part of the artifact: signing again, by one more person
or after a key change, leaves the artifact's identity as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import blake3
import msgspec

from casparian.domain.parsers import ParserManifest
from casparian.protocol import identity
from casparian.trust import documents, envelope
from casparian.trust.artifact import BYTES_MAX, FILES_MAX, STATEMENT_FILE, hash_artifact
from casparian.trust.envelope import STATEMENT_TYPE, add_signature
from casparian.trust.keys import SigningKey
from casparian.trust.policy import runtime_of
from casparian.trust.refusals import refused

PREDICATE_TYPE: Final = "https://casparian.dev/parser/v1"
NOTE_CHARACTERS_MAX: Final = 2_000

__all__ = ["STATEMENT_FILE", "ParserStatement", "add_signature", "make_statement", "sign"]


class Digest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Both hashes of a file, lower-case hex."""

    blake3: str
    sha256: str


class Subject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file."""

    name: str
    digest: Digest


class ParserStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is signed about a parser; absent things are null, never left out."""

    name: str
    version: str
    serial: int  # rises with each release, whatever the version says
    artifact_hash: str
    entry: str  # as in parser.toml
    environment: str | None  # env_hash of its locked requirements
    min_runtime: str  # least version of this program
    issued: str
    expires: str | None
    note: str  # for people


class _Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    predicate: ParserStatement
    predicate_type: Literal["https://casparian.dev/parser/v1"] = msgspec.field(name="predicateType")
    subject: tuple[Subject, ...]


def make_statement(
    manifest: ParserManifest,
    files: Mapping[str, bytes],
    serial: int,
    issued_ns: int,
    *,
    min_runtime: str = "0.1.0",
    expires_ns: int | None = None,
    note: str = "",
) -> bytes:
    """The payload to sign.

    Args:
        manifest: the parser's own words about itself.
        files: every file by relative path, as `read_artifact` returns them.
        serial: above that of every earlier release of this parser.
        issued_ns: now.
        min_runtime: least version of this program.
        expires_ns: from when on it is deployed no more.
        note: for people.

    Raises:
        Refused: `trust.name`, `trust.path`, `trust.too_large`, `trust.malformed`.
        ContractError: the lock of its environment is missing or malformed.
    """
    predicate = ParserStatement(
        name=manifest.name,
        version=manifest.version,
        serial=serial,
        artifact_hash=hash_artifact(files),
        entry=manifest.entry,
        environment=environment_of(manifest, files),
        min_runtime=min_runtime,
        issued=documents.time_text(issued_ns),
        expires=None if expires_ns is None else documents.time_text(expires_ns),
        note=note,
    )
    payload = documents.encode(
        {
            "_type": STATEMENT_TYPE,
            "predicate": msgspec.to_builtins(predicate),
            "predicateType": PREDICATE_TYPE,
            "subject": [
                {"digest": msgspec.to_builtins(digest_of(files[name])), "name": name}
                for name in sorted(files)
            ],
        }
    )
    read_payload(payload)
    return payload


def environment_of(manifest: ParserManifest, files: Mapping[str, bytes]) -> str | None:
    """`env_hash` of a parser's locked requirements; `None` for a parser without any."""
    from casparian.trust.library import requirements_of

    if not manifest.environment:
        return None
    return identity.environment_hash(requirements_of(manifest, files, manifest.name))


def sign(payload: bytes, keys: Iterable[SigningKey]) -> bytes:
    """The envelope over a payload: the bytes of `statement.dsse.json`."""
    return envelope.seal(payload, keys)


def read_payload(payload: bytes) -> tuple[ParserStatement, dict[str, Digest]]:
    """The statement in a payload **whose signature was verified**, and the digests of its files by path.

    Raises:
        Refused: `trust.malformed`, `trust.name`, `trust.path`, `trust.too_large`.
    """
    what = "the statement"
    parsed = documents.shape(documents.decode(payload, what, canonical=False), _Statement, what)
    said = parsed.predicate
    documents.check_name(said.name)
    if not documents.VERSION.match(said.version):
        raise documents.malformed(what, "its version is not allowed")
    if said.serial < 1 or len(said.note) > NOTE_CHARACTERS_MAX:
        raise documents.malformed(what, "its serial is not positive, or its note too long")
    runtime_of(said.min_runtime, what)
    for text in filter(None, (said.issued, said.expires)):
        documents.time_ns(text, what)
    if len(parsed.subject) > FILES_MAX:
        raise refused("trust.too_large", f"{what} lists more than {FILES_MAX} files")
    names = [subject.name for subject in parsed.subject]
    documents.check_paths(names)
    if names != sorted(set(names)) or STATEMENT_FILE in names:
        raise documents.malformed(what, "its files are not in order, each once, without itself")
    digests = {subject.name: subject.digest for subject in parsed.subject}
    hashes = [said.artifact_hash, *(filter(None, [said.environment]))]
    hashes += [text for digest in digests.values() for text in (digest.blake3, digest.sha256)]
    if not all(map(documents.HEX64.match, hashes)):
        raise documents.malformed(what, "a hash is not 64 hexadecimal digits")
    return said, digests


def digest_of(content: bytes) -> Digest:
    """Both hashes of a file."""
    return Digest(
        blake3=blake3.blake3(content).hexdigest(), sha256=hashlib.sha256(content).hexdigest()
    )


def check_files(files: Mapping[str, bytes], digests: Mapping[str, Digest]) -> None:
    """Return when there are exactly the listed files, each with the listed content.

    Raises:
        Refused: `trust.extra_file`, `trust.missing_file`, `trust.tampered`, `trust.too_large`.
    """
    if sum(map(len, files.values())) > BYTES_MAX:
        raise refused("trust.too_large", f"the parser has more than {BYTES_MAX} bytes")
    extra, missing = sorted(files.keys() - digests.keys()), sorted(digests.keys() - files.keys())
    if extra:
        raise refused(
            "trust.extra_file", f"the statement does not list {extra[0][:100]!a}", path=extra[0]
        )
    if missing:
        raise refused("trust.missing_file", f"{missing[0][:100]!a} is missing", path=missing[0])
    for name in sorted(files):
        if digest_of(files[name]) != digests[name]:
            raise refused("trust.tampered", f"{name!a} is not the file that was signed", path=name)
