"""Verify a stick: signature, list of files, every byte. Nothing of it is executed, nothing is written.

The order is the stock tools': the signature over `SHA256SUMS` first, then what that list says; a document is parsed only after
its hash was found in the list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import msgspec

from casparian.appliance.stick import documents, layout, sshsig
from casparian.appliance.stick.folder import StickFolder
from casparian.appliance.stick.refusals import refused
from casparian.display import show
from casparian.trust.keys import PublicKey

Progress = Callable[[int, int], None]
_TRUST_BYTES_MAX = 1 << 20


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A stick whose signature holds; whether its key counts is `acceptance`'s to say."""

    key: PublicKey
    fingerprint: str
    sums: dict[str, str]  # SHA-256 by path
    stick: layout.Stick
    files: dict[str, layout.PayloadFiles]  # by platform
    roots: tuple[bytes, ...]
    policy: bytes | None
    raw: dict[str, bytes]  # what a version keeps of it: list, signature, `stick.json`, key


def read_signed(folder: StickFolder) -> Signed:
    """Verify the signature and read what is small.

    Raises:
        Refused: `stick.not_a_stick`, `stick.signature`, `stick.key_file`, `stick.malformed`, `stick.sum`, …
    """
    names = set(folder.files())
    for name in (layout.SUMS, layout.SIGNATURE):
        if name not in names:
            raise refused("stick.not_a_stick", f"`{show(folder.path)}` has no `{name}`")
    raw_sums = folder.read(layout.SUMS, documents.SUMS_BYTES_MAX)
    signature = folder.read(layout.SIGNATURE, documents.SIGNATURE_BYTES_MAX)
    key = sshsig.verify(raw_sums, signature, layout.NAMESPACE)
    sums = documents.read_sums(raw_sums)
    check_names(names, sums)

    def signed(path: str, bytes_max: int) -> bytes:
        if path not in sums:
            raise refused("stick.malformed", f"the signed list has no `{path}`")
        content = folder.read(path, bytes_max)
        if hashlib.sha256(content).hexdigest() != sums[path]:
            raise _altered(path)
        return content

    public = signed(layout.RELEASE_KEY, documents.KEY_BYTES_MAX)
    if sshsig.parse_public_line(public) != key:
        raise refused(
            "stick.key_file", f"the stick was signed with the key {sshsig.fingerprint(key)}"
        )
    manifest = signed(layout.MANIFEST, documents.MANIFEST_BYTES_MAX)
    stick = documents.read_stick(manifest)
    files = {
        payload.platform: documents.read_files(signed(payload.files, documents.FILES_BYTES_MAX))
        for payload in stick.payloads
    }
    for payload in stick.payloads:
        if payload.archive not in sums:
            raise refused("stick.malformed", f"the signed list has no `{payload.archive}`")
    return Signed(
        key=key,
        fingerprint=sshsig.fingerprint(key),
        sums=sums,
        stick=stick,
        files=files,
        roots=tuple(signed(path, _TRUST_BYTES_MAX) for path in below(sums, layout.ROOTS)),
        policy=signed(layout.POLICY, _TRUST_BYTES_MAX) if layout.POLICY in sums else None,
        raw={
            layout.SUMS: raw_sums,
            layout.SIGNATURE: signature,
            layout.MANIFEST: manifest,
            "release.pub": public,
        },
    )


def check_names(found: Iterable[str], sums: Iterable[str]) -> None:
    """Refuse a stick that has other files than its list (`stick.missing`, `stick.extra`)."""
    there = set(found) - {layout.SUMS, layout.SIGNATURE}
    listed = set(sums)
    if missing := sorted(listed - there):
        raise refused("stick.missing", f"`{show(missing[0])}` is missing", path=missing[0])
    if extra := sorted(there - listed):
        raise refused("stick.extra", f"`{show(extra[0])}` was not signed", path=extra[0])


def check_files(
    folder: StickFolder,
    signed: Signed,
    *,
    leave_out: Iterable[str] = (),
    progress: Progress = lambda _done, _total: None,
) -> int:
    """Hash every file of the stick against the list; bytes read.

    Args:
        folder: the stick.
        signed: what `read_signed` gave.
        leave_out: what is hashed elsewhere, as it is copied.
        progress: told bytes done and in all.

    Raises:
        Refused: `stick.sum`, `stick.missing`, `stick.unreadable`, `stick.not_regular`.
    """
    paths = sorted(set(signed.sums) - set(leave_out))
    total = sum(folder.size_bytes(path) for path in paths)
    done = 0

    def count(block: bytes) -> None:
        nonlocal done
        done += len(block)
        progress(done, total)

    for path in paths:
        digest, _ = folder.pour(path, count)
        check_sum(path, digest, signed)
    return done


def check_sum(path: str, digest: str, signed: Signed) -> None:
    """Refuse a file whose hash is not the listed one (`stick.sum`)."""
    if signed.sums.get(path) != digest:
        raise _altered(path)


def payload_for(signed: Signed, platform: str) -> layout.Payload:
    """The program for a platform.

    Raises:
        Refused: `stick.platform`.
    """
    for payload in signed.stick.payloads:
        if payload.platform == platform:
            return payload
    held = ", ".join(payload.platform for payload in signed.stick.payloads) or "no program"
    raise refused("stick.platform", f"this machine is {platform}, the stick holds {show(held)}")


def below(sums: Iterable[str], folder: str) -> list[str]:
    """Listed files directly in a folder, sorted."""
    return sorted(path for path in sums if path.rpartition("/")[0] == folder)


def _altered(path: str) -> Exception:
    return refused("stick.sum", f"`{show(path)}` is not the file that was signed", path=path)
