"""Put a stick together from its inputs; `bundle.build` is the command."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bundle import card, facts, licences, provenance, sample, sbom, ustar, wheelfile
from bundle.folder import StickWriter
from bundle.source import ROOT, Source, tracked
from casparian import __version__
from casparian.appliance.stick import layout, sshsig, staging, verify
from casparian.appliance.stick.folder import StickFolder
from casparian.trust.keys import PrivateKey

_ROOT_FILE: Final = re.compile(r"[1-9][0-9]{0,8}\.root\.json\Z")
_RESERVED: Final = (layout.WHEELS, layout.PROVENANCE_OF_VERSION)

Say = Callable[..., None]


class NotBuilt(ValueError):
    """The inputs do not make a stick."""


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a stick is made from."""

    tree: Path | None
    wheels: Path | None
    parsers: tuple[Path, ...]
    trust: Path | None
    key: PrivateKey
    development: bool
    source: Source
    release: int | None
    glibc: str | None = None
    say: Say = lambda *_: None

    @property
    def number(self) -> int:
        """The release."""
        return self.source.count if self.release is None else self.release


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was made."""

    out: str
    stick: layout.Stick
    fingerprint: str
    files: int
    size_bytes: int
    glibc: str | None = None

    def document(self, *, dry_run: bool) -> dict[str, Any]:
        """For `--json`."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return {"schema_version": 1, "dry_run": dry_run, **document}

    def lines(self, *, dry_run: bool) -> list[str]:
        """For people."""
        verb = "would be" if dry_run else "is"
        kind = self.stick.kind if self.stick.kind == "appliance" else "trust alone"
        first = (
            f"{self.out} {verb} a stick: {kind}, {self.stick.version}, release {self.stick.release}"
        )
        lines = [first, f"{self.files} files, {self.size_bytes / 1e6:.1f} MB, signed by"]
        lines.append(self.fingerprint)
        if self.glibc:
            lines.append(f"runs on glibc {self.glibc} and newer")
        return [*lines, f"print {self.out}/CARD.txt and carry it apart from the stick"]


def build_appliance(inputs: Inputs, writer: StickWriter) -> Report:
    """A stick with the program.

    Raises:
        NotBuilt: an input is missing, or the tree was built with another key.
        NotForAStick: a name or a size that FAT cannot hold.
        NotPackable, TreeUnusable: the tree is not one.
    """
    if inputs.tree is None or inputs.wheels is None:
        raise NotBuilt("a stick with the program needs --tree and --wheels")
    known = facts.ask(inputs.tree)
    _check_key(inputs, known)
    writer.begin()
    platform = facts.host_platform()
    wheels = _wheels(inputs.wheels)
    name = f"{layout.PAYLOAD}/casparian-{known.version}-{platform}"
    with tempfile.TemporaryDirectory(prefix="casparian-share-") as folder:
        made = Path(folder)
        sources = {path: inputs.tree / path for path in ustar.list_tree(inputs.tree)}
        _check_tree(sources)
        held = [wheelfile.read(wheel) for wheel in wheels if wheel.suffix == ".whl"]
        _write_share(made)
        _write_licences(held, made / "licences")
        inputs.say("hashing what is described")
        tree = sbom.tree_document(inputs.tree)
        _describe(inputs, made, sources, tree, known, held, wheels)
        documents = ustar.list_tree(made)
        sources.update({f"share/{path}": made / path for path in documents})
        inputs.say("packing the program")
        with writer.open(f"{name}.tar") as stream:
            files, _ = ustar.pack(sources, stream, inputs.source.date, _progress(inputs, "packing"))
        glibc = inputs.glibc or tree.get("glibc") or facts.glibc_floor(sources)
        kernel = tree.get("kernel") or facts.KERNEL
        for path in sorted(documents):
            top = path.partition("/")[0]
            if top in ("docs", "licences", "sbom"):
                writer.copy(path, made / path)
    writer.write(f"{name}.files.json", _encode(layout.PayloadFiles(files=files)))
    for wheel in wheels:
        writer.copy(f"{layout.WHEELS}/{platform}/{wheel.name}", wheel)
    disk = sum(file.size for file in files) + sum(wheel.stat().st_size for wheel in wheels)
    payload = layout.Payload(
        platform=platform,
        archive=f"{name}.tar",
        files=f"{name}.files.json",
        frozen=(inputs.tree / "app").is_dir(),
        python=known.python,
        needs=layout.Needs(glibc=glibc, kernel=kernel, disk_bytes=disk),
    )
    stick = _stick(inputs, "appliance", known.version, known.database_schema, (payload,))
    writer.copy(layout.INSTALLER, ROOT / "bundle" / "install.sh")
    remark = {f"payload {platform}": f"{payload.archive} {disk // 1024 + 1}"}
    return _finish(inputs, writer, stick, remark, glibc, tree)


def build_trust(inputs: Inputs, writer: StickWriter) -> Report:
    """A stick with parsers, roots and policy alone.

    Raises:
        NotBuilt: there is nothing to carry.
    """
    from casparian.db import migrate

    if not inputs.parsers and inputs.trust is None:
        raise NotBuilt("a stick of the kind `trust` needs --parsers or --trust")
    writer.begin()
    stick = _stick(inputs, "trust", __version__, migrate.newest(), ())
    return _finish(inputs, writer, stick, {}, None)


def _finish(
    inputs: Inputs,
    writer: StickWriter,
    stick: layout.Stick,
    remarks: Mapping[str, str],
    glibc: str | None,
    tree: Mapping[str, Any] | None = None,
) -> Report:
    key = inputs.key.public
    _add_parsers(inputs, writer)
    _add_trust(inputs, writer)
    writer.write(layout.RELEASE_KEY, sshsig.public_line(key, "casparian release key").encode())
    writer.write(layout.MANIFEST, _encode(stick))
    fingerprint = sshsig.fingerprint(key)
    writer.write("README.txt", card.readme_text(stick, fingerprint).encode())
    text = card.card_text(key, stick.version, stick.release, development=stick.development)
    writer.write("CARD.txt", text.encode())
    writer.write("CARD.svg", card.card_picture(key).encode())
    given = _hashes(
        [*inputs.parsers, *(sorted(inputs.trust.rglob("*.json")) if inputs.trust else ())]
    )
    built = _built(inputs, stick.kind, stick.version, tree or {}, given, writer.sums)
    writer.write("provenance/build.dsse.json", provenance.make_provenance(built, inputs.key))
    inputs.say("checking the finished stick")
    remarks = {"version": stick.version, "release": str(stick.release), **remarks}
    writer.finish(inputs.key, remarks, _check_finished)
    size = sum(path.stat().st_size for path in writer.out.rglob("*") if path.is_file())
    return Report(
        out=str(writer.out),
        stick=stick,
        fingerprint=fingerprint,
        files=len(writer.sums) + 2,
        size_bytes=size,
        glibc=glibc,
    )


def _stick(
    inputs: Inputs, kind: Any, version: str, schema: int, payloads: tuple[layout.Payload, ...]
) -> layout.Stick:
    if inputs.number < 1:
        raise NotBuilt("a release is 1 or more")
    return layout.Stick(
        kind=kind,
        version=version,
        release=inputs.number,
        built=inputs.source.built,
        commit=inputs.source.commit + ("-dirty" if inputs.source.dirty else ""),
        development=inputs.development,
        database_schema=schema,
        payloads=payloads,
    )


def _check_key(inputs: Inputs, known: facts.Facts) -> None:
    """The key that signs the stick is the one that the program was built with: it accepts no other."""
    if known.release_key != inputs.key.public.public:
        raise NotBuilt(
            f"the program of the tree was built with the release key {known.release_key[:16]}…, "
            f"the stick would be signed with {inputs.key.public.public[:16]}…: build both with the same"
        )
    if known.development != inputs.development:
        raise NotBuilt("the tree says of its key that it is another kind than it is")


def _check_tree(sources: Mapping[str, Path]) -> None:
    for path in sources:
        top = path.partition("/")[0]
        if top in _RESERVED or path.startswith("share/"):
            raise NotBuilt(f"the tree holds {path!a}, which is not its to bring")
    for needed in ("bin/casparian", "runtime/bin/python3"):
        if needed not in sources:
            raise NotBuilt(f"the tree holds no {needed}")


def _wheels(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.is_file())
    if folder / "lock.txt" not in found:
        raise NotBuilt(f"{folder} holds no lock.txt")
    for path in found:
        if path.suffix not in (".whl", ".txt") and path.name != "SHA256SUMS":
            raise NotBuilt(f"{path} is neither a wheel nor a list of them")
    return found


def _describe(
    inputs: Inputs,
    made: Path,
    sources: Mapping[str, Path],
    tree: Mapping[str, Any],
    known: facts.Facts,
    held: Sequence[wheelfile.Wheel],
    wheels: Sequence[Path],
) -> None:
    """Write the bill of materials, and the statement about the files of the version: neither can hold its own hash."""
    own = {f"share/{path}": made / path for path in ustar.list_tree(made)}
    wheelhouse = {f"{layout.WHEELS}/{path.name}": path for path in wheels}
    files = _digests({**sources, **own, **wheelhouse})
    about = sbom.Described(
        version=known.version,
        release=inputs.number,
        platform=facts.host_platform(),
        python=known.python,
        source=inputs.source,
        tree=tree,
        files=files,
    )
    bill = sbom.make_sbom(about, held)
    _write(made / "sbom" / "casparian.cdx.json", bill)
    files["share/sbom/casparian.cdx.json"] = hashlib.sha256(bill).hexdigest()
    given = {path.name: files[name] for name, path in wheelhouse.items()}
    built = _built(inputs, "version", known.version, tree, given, files)
    _write(made / "provenance" / "version.dsse.json", provenance.make_provenance(built, inputs.key))


def _built(
    inputs: Inputs,
    kind: str,
    version: str,
    tree: Mapping[str, Any],
    given: Mapping[str, str],
    subjects: Mapping[str, str],
) -> provenance.Built:
    return provenance.Built(
        version=version,
        release=inputs.number,
        kind=kind,
        source=inputs.source,
        tree=tree,
        inputs=given,
        subjects=subjects,
    )


def _write_licences(held: Sequence[wheelfile.Wheel], into: Path) -> None:
    """The texts of each wheel's licences, under names that FAT holds."""
    for wheel in held:
        taken: set[str] = set()
        for path, content in sorted(licences.of_wheel(wheel).files.items()):
            plain = re.sub(r"[^A-Za-z0-9._/-]", "_", path).strip("./") or "LICENCE"
            name = re.sub(r"(?:^|(?<=/))[.-]+|[.]+(?=/|$)", "_", plain.replace("/", "__"))
            while name.casefold() in taken:
                name += "_"
            taken.add(name.casefold())
            _write(into / f"{wheel.named.name}-{wheel.version}" / name, content)


def _write_share(into: Path) -> None:
    """Documents, our own licence, the service's files and the sample below a folder."""
    for path in tracked(ROOT, "docs"):
        if path.endswith((".md", ".svg")):
            _copy(ROOT / path, into / path)
    _copy(ROOT / "LICENSE", into / "licences" / "casparian" / "LICENSE")
    for path in tracked(ROOT, "share/service"):
        _copy(ROOT / path, into / path.removeprefix("share/"))
    for path, content in sample.sample_files().items():
        _write(into / "sample" / path, content)


def _add_parsers(inputs: Inputs, writer: StickWriter) -> None:
    for path in sorted(inputs.parsers):
        if path.suffix != ".casparian":
            raise NotBuilt(f"{path} is no package: `casparian parser pack` writes them")
        writer.copy(f"{layout.PARSERS}/{path.name}", path)


def _add_trust(inputs: Inputs, writer: StickWriter) -> None:
    if inputs.trust is None:
        return
    taken = 0
    for path in sorted(inputs.trust.rglob("*.json")):
        if _ROOT_FILE.match(path.name):
            writer.copy(f"{layout.ROOTS}/{path.name}", path)
        elif path.name == "policy.json":
            writer.copy(layout.POLICY, path)
        else:
            raise NotBuilt(f"{path} is neither N.root.json nor policy.json")
        taken += 1
    if not taken:
        raise NotBuilt(f"{inputs.trust} holds no root and no policy")


def _check_finished(folder: Path) -> None:
    """Read all of it back as an installed program would: signature, list, documents, every file, the archive's members.

    Raises:
        CasparianError: `stick.…`: what the medium holds is not what was written, or an installation would refuse it.
    """
    with StickFolder(folder) as opened:
        signed = verify.read_signed(opened)
        for payload in signed.stick.payloads:
            staging.read_archive(opened, signed, payload)
        archives = [payload.archive for payload in signed.stick.payloads]
        verify.check_files(opened, signed, leave_out=archives)


def _encode(document: layout.Document) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=1) + b"\n"


def _hashes(paths: Sequence[Path]) -> dict[str, str]:
    return _digests({path.name: path for path in paths})


def _digests(paths: Mapping[str, Path]) -> dict[str, str]:
    found = {}
    for name, path in paths.items():
        with open(path, "rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _progress(inputs: Inputs, text: str) -> ustar.Progress:
    return lambda done, total: inputs.say(text, done, total)
