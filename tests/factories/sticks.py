"""Small sticks, signed for real: a program that is a shell script, a wheel of a few bytes, and whatever an attack wants.

stick = make_stick(tmp_path / "stick", release=3)
stick.tamper("README.txt", b"…")      # and stick.seal() to sign it all again
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from casparian.appliance.stick import documents, layout, sshsig
from casparian.appliance.stick.archive import header
from casparian.appliance.stick.preflight import platform_name
from casparian.trust.keys import PrivateKey

DEVELOPMENT = (
    b"casparian-development-only-key-1"  # the key that is no secret: programs of a tree accept it
)
BUILT = "2026-01-02T03:04:05Z"
MTIME = 1_767_323_045
PLATFORM = platform_name()

PROGRAM = """\
#!/bin/sh
# What an update asks of a program, answered by a script.
case "$*" in
  *"bundle self-test"*) {test} ;;
  *"bundle deploy"*) echo '{{"parsers": []}}' ;;
  *"sentinel start"*) echo '{{"started": true}}' ;;
  *) echo "casparian {version}" ;;
esac
"""
PASSES = """echo '{"passed": true, "message": "fine"}'"""
FAILS = """echo '{"passed": false, "checks": [{"passed": false, "message": "no rows"}]}'; exit 1"""

Archive = Callable[[list[layout.PayloadFile], dict[str, bytes]], bytes]


def release_key(seed: bytes = DEVELOPMENT) -> PrivateKey:
    return PrivateKey.from_seed(seed, "release")


OTHER_KEY = hashlib.sha256(b"somebody else").digest()


def version_files(version: str, test: str = PASSES, extra: int = 3) -> dict[str, bytes]:
    files = {
        "bin/casparian": PROGRAM.format(version=version, test=test).encode(),
        "runtime/bin/python3": b"\x7fELF not really",
        "share/sample/expected.json": b"{}",
    }
    for number in range(extra):
        files[f"app/part{number}.bin"] = bytes([number]) * (700 * number)
    return files


def entries(files: dict[str, bytes]) -> list[layout.PayloadFile]:
    return [
        layout.PayloadFile(
            path=path,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            executable="/bin/" in f"/{path}",
        )
        for path, content in sorted(files.items())
    ]


def pack(listed: Iterable[layout.PayloadFile], files: dict[str, bytes]) -> bytes:
    """The archive as a builder writes it."""
    out = io.BytesIO()
    for file in listed:
        content = files[file.path]
        out.write(header(file, MTIME) + content + bytes(-len(content) % 512))
    out.write(bytes(1024))
    out.write(bytes(-out.tell() % 10240))
    return out.getvalue()


class MadeStick:
    """A stick on the disk, and the key that signs it."""

    def __init__(self, path: Path, key: PrivateKey, stick: layout.Stick) -> None:
        self.path = path
        self.key = key
        self.stick = stick

    @property
    def fingerprint(self) -> str:
        return sshsig.fingerprint(self.key.public)

    @property
    def name(self) -> str:
        return layout.version_folder(self.stick)

    def files(self) -> list[str]:
        """Every file, relative."""
        return sorted(
            str(found.relative_to(self.path))
            for found in self.path.rglob("*")
            if found.is_file() and not found.is_symlink()
        )

    def write(self, path: str, content: bytes) -> None:
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def seal(self, key: PrivateKey | None = None) -> None:
        """Sign what is there now."""
        lines = [f"# version {self.stick.version}", f"# release {self.stick.release}"]
        for path in self.files():
            if path not in (layout.SUMS, layout.SIGNATURE):
                digest = hashlib.sha256((self.path / path).read_bytes()).hexdigest()
                lines.append(f"{digest}  {path}")
        self.sign(("\n".join(lines) + "\n").encode(), key)

    def sign(self, sums: bytes, key: PrivateKey | None = None) -> None:
        """Sign a list of files, whatever it says."""
        self.write(layout.SUMS, sums)
        self.write(layout.SIGNATURE, sshsig.sign(sums, key or self.key, layout.NAMESPACE))

    def describe(self, **changes: object) -> None:
        """Change `stick.json` and sign again."""
        self.stick = msgspec.structs.replace(self.stick, **changes)
        self.write(layout.MANIFEST, documents.encode(self.stick))
        self.seal()

    def copy(self, to: Path) -> MadeStick:
        shutil.copytree(self.path, to)
        return MadeStick(to, self.key, self.stick)


def make_stick(
    path: Path,
    *,
    version: str = "1.0.0",
    release: int = 1,
    key: PrivateKey | None = None,
    files: dict[str, bytes] | None = None,
    listed: list[layout.PayloadFile] | None = None,
    archive: Archive = pack,
    kind: str = "appliance",
    platform: str = PLATFORM,
    glibc: str = "2.17",
    kernel: str = "3.2",
    disk_bytes: int = 1,
    built: str = BUILT,
    database_schema: int = 7,
    wheels: dict[str, bytes] | None = None,
    parsers: dict[str, bytes] | None = None,
    roots: Iterable[bytes] = (),
    policy: bytes | None = None,
) -> MadeStick:
    """A whole stick, sealed."""
    key = key or release_key()
    name = f"casparian-{version}-{platform}"
    payload = layout.Payload(
        platform=platform,
        archive=f"{layout.PAYLOAD}/{name}.tar",
        files=f"{layout.PAYLOAD}/{name}.files.json",
        frozen=False,
        python="3.11.7",
        needs=layout.Needs(glibc=glibc, kernel=kernel, disk_bytes=disk_bytes),
    )
    described = layout.Stick(
        kind=kind,  # type: ignore[arg-type]
        version=version,
        release=release,
        built=built,
        commit="0" * 40,
        development=key.public == release_key().public,
        database_schema=database_schema,
        payloads=(payload,) if kind == "appliance" else (),
    )
    made = MadeStick(path, key, described)
    made.write("README.txt", b"Read the card first.\n")
    made.write("CARD.txt", f"{made.fingerprint}\n".encode())
    made.write(layout.RELEASE_KEY, sshsig.public_line(key.public, layout.IDENTITY).encode())
    made.write("docs/index.md", b"# Casparian\n")
    made.write(layout.MANIFEST, documents.encode(described))
    if kind == "appliance":
        made.write(layout.INSTALLER, b"#!/bin/sh\n")
        files = version_files(version) if files is None else files
        listed = entries(files) if listed is None else listed
        made.write(payload.archive, archive(listed, files))
        made.write(payload.files, documents.encode(layout.PayloadFiles(files=tuple(listed))))
        for wheel, content in (
            wheels or {"click-8.5.0-py3-none-any.whl": b"PK", "lock.txt": b"click"}
        ).items():
            made.write(f"{layout.WHEELS}/{platform}/{wheel}", content)
    for package, content in (parsers or {}).items():
        made.write(f"{layout.PARSERS}/{package}", content)
    for number, root in enumerate(roots, 1):
        made.write(f"{layout.ROOTS}/{number}.root.json", root)
    if policy is not None:
        made.write(layout.POLICY, policy)
    made.seal()
    return made


def ustar(path: str, content: bytes = b"", **fields: object) -> bytes:
    """One member as `tarfile` writes it, with whatever an attack sets."""
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode, entry.mtime = len(content), 0o644, MTIME
    form = fields.pop("format", tarfile.USTAR_FORMAT)
    for name, value in fields.items():
        setattr(entry, name, value)
    raw = entry.tobuf(format=form, encoding="utf-8", errors="surrogateescape")
    return raw + content + bytes(-len(content) % 512)


def unpack_as_tar(stick: MadeStick, into: Path) -> Path:
    """What stock `tar` makes of the archive, for `bundle install`."""
    into.mkdir(mode=0o700, parents=True)
    payload = stick.stick.payloads[0]
    with tarfile.open(stick.path / payload.archive) as archive:
        for member in archive.getmembers():
            target = into / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = archive.extractfile(member)
            assert source is not None
            target.write_bytes(source.read())
            os.chmod(target, member.mode)
    return into
