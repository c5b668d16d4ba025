"""`casparian bundle verify`: every file of an installed version against the signed documents it came by.

Whoever can write to an installation can also change the program that checks it: a check that is to prove something to others is
made with the fingerprint from the card, by a program from another stick (`--into` names the installation to look at).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import msgspec

from casparian.appliance.stick import documents, layout, sshsig, staging, tree
from casparian.appliance.stick.folder import StickFolder
from casparian.appliance.stick.installation_store import InstallationStore
from casparian.appliance.stick.refusals import refused
from casparian.appliance.stick.verify import Signed
from casparian.display import show

Progress = Callable[[int, int], None]


class VersionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of verifying one version."""

    version: str
    release: int
    key: str  # fingerprint
    files: int
    size_bytes: int
    differences: tuple[tree.Difference, ...]

    @property
    def good(self) -> bool:
        """Whether it is exactly what was signed."""
        return not self.differences


def signed_of(store: InstallationStore, name: str) -> tuple[Signed, layout.Payload]:
    """The signed documents of an installed version, verified.

    Raises:
        CasparianError: `stick.altered`, `stick.signature`, `stick.malformed`, …
    """
    inside = layout.PROVENANCE_OF_VERSION
    with StickFolder(store.version_path(name)) as folder:

        def read(file: str, bytes_max: int) -> bytes:
            return folder.read(f"{inside}/{file}", bytes_max)

        sums_raw = read(layout.SUMS, documents.SUMS_BYTES_MAX)
        signature = read(layout.SIGNATURE, documents.SIGNATURE_BYTES_MAX)
        key = sshsig.verify(sums_raw, signature, layout.NAMESPACE)
        sums = documents.read_sums(sums_raw)
        manifest = read(layout.MANIFEST, documents.MANIFEST_BYTES_MAX)
        public = read("release.pub", documents.KEY_BYTES_MAX)
        files_raw = read(staging.FILES, documents.FILES_BYTES_MAX)
    digest = hashlib.sha256(files_raw).hexdigest()
    for path, content in ((layout.MANIFEST, manifest), (layout.RELEASE_KEY, public)):
        if sums.get(path) != hashlib.sha256(content).hexdigest():
            raise refused("stick.altered", f"`{inside}/{path}` of `{show(name)}` was altered")
    stick = documents.read_stick(manifest)
    if layout.version_folder(stick) != name:
        raise refused("stick.altered", f"`{show(name)}` holds the documents of another version")
    payload = next((p for p in stick.payloads if sums.get(p.files) == digest), None)
    if payload is None:
        raise refused("stick.altered", f"the list of files of `{show(name)}` was altered")
    files = documents.read_files(files_raw)
    raw = {
        layout.SUMS: sums_raw,
        layout.SIGNATURE: signature,
        layout.MANIFEST: manifest,
        "release.pub": public,
    }
    signed = Signed(
        key=key, fingerprint=sshsig.fingerprint(key), sums=sums, stick=stick,
        files={payload.platform: files}, roots=(), policy=None, raw=raw,
    )  # fmt: skip
    return signed, payload


def verify_version(
    store: InstallationStore,
    name: str,
    *,
    fingerprint: str | None = None,
    progress: Progress = lambda _done, _total: None,
    threads: int | None = None,
) -> VersionReport:
    """Hash every file of a version again.

    Args:
        store: the installation.
        name: of the version's folder.
        fingerprint: of the release key, from the card; without it the key is the one the history names.
        progress: told bytes done and in all.
        threads: how many hash at once; one a core by default.

    Raises:
        CasparianError: the documents themselves do not hold: `stick.altered`, `stick.signature`, `stick.fingerprint`, …
    """
    signed, payload = signed_of(store, name)
    if fingerprint is not None and fingerprint.strip() != signed.fingerprint:
        raise refused(
            "stick.fingerprint", f"`{show(name)}` was signed with the key {signed.fingerprint}"
        )
    known = {change.key for change in store.recorded().history if change.version == name}
    if fingerprint is None and known and signed.fingerprint not in known:
        raise refused(
            "stick.altered",
            f"`{show(name)}` was installed by a key that the history does not name: {signed.fingerprint}",
        )
    expected = staging.expected_of_version(signed, payload)
    try:
        compared = tree.compare(
            store.version_path(name), expected, progress=progress, threads=threads
        )
    except OSError as error:
        raise refused(
            "stick.altered", f"`{show(name)}` cannot be read: {error.strerror or error}"
        ) from error
    return VersionReport(
        version=name,
        release=signed.stick.release,
        key=signed.fingerprint,
        files=compared.files,
        size_bytes=compared.size_bytes,
        differences=compared.differences,
    )


def link_problems(store: InstallationStore) -> list[str]:
    """What is wrong with the links that say what runs."""
    found = []
    if store.current is None:
        found.append(f"`{layout.CURRENT}` leads to no version")
    path = os.path.join(store.path, layout.PREVIOUS)
    if os.path.lexists(path) and store.previous is None:
        found.append(f"`{layout.PREVIOUS}` leads to no version")
    program = os.path.join(store.path, "bin", "casparian")
    if not os.path.islink(program) or os.readlink(program) != f"../{layout.CURRENT}/bin/casparian":
        found.append("`bin/casparian` does not lead to the current version")
    return found
