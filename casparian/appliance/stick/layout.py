"""What lies on a stick, and what an installation is made of: names and documents that the builder writes and the installer reads.

A stick (regular files and folders only; names of ASCII, unique after case folding, so that FAT holds them):

    README.txt  CARD.txt  CARD.svg  install.sh
    SHA256SUMS                  every other file of the stick, as `sha256sum -c` reads it
    SHA256SUMS.sig              SSHSIG by the release key, as `ssh-keygen -Y verify` reads it
    stick.json                  `Stick`: what this is
    payload/NAME.tar            the program, uncompressed, ustar, regular files and folders only
    payload/NAME.files.json     `PayloadFiles`: each file of the tar
    wheels/PLATFORM/…           the wheelhouse: wheels and `lock.txt`
    parsers/NAME-VERSION.casparian
    trust/release.pub           the release key, in OpenSSH's format
    trust/roots/N.root.json  trust/policy.json
    sbom/  provenance/  licences/  docs/

An installation:

    DEST/bin/casparian          link to ../current/bin/casparian
    DEST/current, DEST/previous links to versions/VERSION
    DEST/versions/<version>-<release>/
        bin/casparian           starts the program
        app/                    our frozen package; absent with `--no-freeze`
        runtime/                CPython with plain wheels: the interpreter of guests
        wheels/                 the wheelhouse of this platform
        share/{docs,licences,sbom,provenance,service,sample}/
        stick/                  what it came by: SHA256SUMS, SHA256SUMS.sig, stick.json, files.json, release.pub
    DEST/installation.json      `Installation`: floor and history
    DEST/.lock                  held by who changes the installation
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

NAMESPACE: Final = "casparian-stick@v1"  # of the signature: what it is for
IDENTITY: Final = "release@casparian"  # the principal in `allowed_signers`

SUMS: Final = "SHA256SUMS"
SIGNATURE: Final = "SHA256SUMS.sig"
MANIFEST: Final = "stick.json"
RELEASE_KEY: Final = "trust/release.pub"
ROOTS: Final = "trust/roots"
POLICY: Final = "trust/policy.json"
PARSERS: Final = "parsers"
WHEELS: Final = "wheels"
PAYLOAD: Final = "payload"
INSTALLER: Final = "install.sh"

INSTALLATION: Final = "installation.json"
VERSIONS: Final = "versions"
CURRENT: Final = "current"
PREVIOUS: Final = "previous"
PROVENANCE_OF_VERSION: Final = "stick"  # folder of a version: the signed documents that it came by


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON document: unknown fields are refused, for they might change what is meant."""


class Needs(Document, frozen=True, kw_only=True):
    """What the machine must have. Versions are dotted numbers."""

    glibc: str
    kernel: str
    disk_bytes: int  # of the unpacked version, wheels included


class Payload(Document, frozen=True, kw_only=True):
    """One platform's program on the stick. Paths are relative to the stick."""

    platform: str  # as `platform_name` says: linux-x86_64
    archive: str
    files: str
    frozen: bool
    python: str  # of the runtime: 3.11.7
    needs: Needs


class Stick(Document, frozen=True, kw_only=True):
    """`stick.json`."""

    schema_version: Literal[1] = 1
    kind: Literal["appliance", "trust"]  # trust: parsers, roots and policy alone
    version: str  # of the program, for people
    release: int  # grows with each build that is handed out: the floor counts it
    built: str  # 2026-11-23T12:00:00Z, of the source's date
    commit: str
    development: bool  # signed with the key that is no secret
    database_schema: int  # of the control database, after its migrations
    payloads: tuple[Payload, ...] = ()


class PayloadFile(Document, frozen=True, kw_only=True):
    """One regular file of the archive, in the archive's order."""

    path: str
    size: int
    sha256: str
    executable: bool = False


class PayloadFiles(Document, frozen=True, kw_only=True):
    """`NAME.files.json`: all that the archive holds; folders follow from the paths."""

    schema_version: Literal[1] = 1
    files: tuple[PayloadFile, ...]


Action = Literal["install", "apply", "rollback", "remove"]


class Change(Document, frozen=True, kw_only=True):
    """One entry of the history."""

    at: str
    action: Action
    version: str  # name of its folder
    before: str | None
    key: str  # fingerprint of the release key, SHA256:…
    by: str


class Installation(Document, frozen=True, kw_only=True):
    """`installation.json`."""

    schema_version: Literal[1] = 1
    floor: int  # no stick of a lower release is applied
    history: tuple[Change, ...] = ()


def version_folder(stick: Stick) -> str:
    """Name of a version's folder below `versions`: unique to a build."""
    return f"{stick.version}-{stick.release}"
