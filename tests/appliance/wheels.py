"""A wheelhouse of what is installed here: the wheels of this environment, put together again, so that no network is needed.

What the short form of the test installs are the bytes that the other tests ran. The real wheelhouse is `offline-wheels`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_OURS: Final = "casparian"
_MADE_BY_PIP: Final = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")


def wheelhouse(folder: Path) -> Path:
    """Write wheels and `lock.txt`: all that runs, pip, and the program itself as it lies in the tree."""
    folder.mkdir(parents=True)
    lines = []
    for name in sorted({*_runtime(), "pip", _OURS}):
        found = metadata.distribution(name)
        files = _ours(found) if name == _OURS else _theirs(found)
        path = _wheel(folder, found, dict(files))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{name}=={found.version} --hash=sha256:{digest}\n")
    (folder / "lock.txt").write_text("".join(lines), encoding="ascii")
    return folder


def _runtime() -> Iterator[str]:
    text = (_REPOSITORY / "requirements" / "runtime.txt").read_text(encoding="utf-8")
    for found in re.finditer(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE):
        yield found[1].lower()


def _theirs(found: metadata.Distribution) -> Iterator[tuple[str, Path]]:
    for file in found.files or ():
        name = str(file)
        if name.startswith("..") or name.endswith(".pyc") or _is_of_pip(name):
            continue
        yield name, Path(str(found.locate_file(file)))


def _ours(found: metadata.Distribution) -> Iterator[tuple[str, Path]]:
    for folder in ("casparian", "parsers"):
        for path in sorted((_REPOSITORY / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(_REPOSITORY)), path
    for name, path in _theirs(
        found
    ):  # an editable installation has its metadata, and a pointer here
        if not name.endswith(".pth"):
            yield name, path


def _is_of_pip(name: str) -> bool:
    folder, _, last = name.rpartition("/")
    return folder.endswith(".dist-info") and last in _MADE_BY_PIP


def _wheel(folder: Path, found: metadata.Distribution, files: dict[str, Path]) -> Path:
    name = re.sub(r"[-_.]+", "_", found.metadata["Name"]).lower()
    described = found.read_text("WHEEL") or ""
    tags = [line.removeprefix("Tag: ") for line in described.splitlines() if line[:4] == "Tag:"]
    parts = [sorted({tag.split("-")[index] for tag in tags}) for index in range(3)]
    path = folder / f"{name}-{found.version}-{'-'.join('.'.join(part) for part in parts)}.whl"
    record = io.StringIO()
    (information,) = {file.split("/")[0] for file in files if ".dist-info/" in file}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file, source in sorted(files.items()):
            content = source.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            record.write(f"{file},sha256={digest.decode()},{len(content)}\n")
            entry = zipfile.ZipInfo(file)
            entry.external_attr = (0o100755 if source.stat().st_mode & 0o100 else 0o100644) << 16
            archive.writestr(entry, content)
        record.write(f"{information}/RECORD,,\n")
        archive.writestr(zipfile.ZipInfo(f"{information}/RECORD"), record.getvalue())
    return path
