"""Write a wheel again so that one commit gives one sequence of bytes: order, dates, modes, and its bill of materials.

That document, which maturin adds, names the folder of the source, the moment and a random number; what it says of crates stays.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any, Final

_LEVEL: Final = 6  # of compression; said so that a change of the default changes nothing
_SERIALS: Final = uuid.UUID(
    "6f3b6f0e-6c1d-5b7c-9a53-8d0f3a5a2c11"
)  # of serial numbers made from content


def rewrite(path: Path, seconds: int, root: Path) -> None:
    """Write the wheel again in its place.

    Args:
        path: the wheel.
        seconds: since 1970: the date of every member.
        root: the source tree, whose name must not be in the wheel.
    """
    with zipfile.ZipFile(path) as archive:
        modes = {entry.filename: _mode(entry) for entry in archive.infolist() if not entry.is_dir()}
        content = {name: archive.read(name) for name in modes}
    record = next(name for name in content if name.endswith(".dist-info/RECORD"))
    info = record.rpartition("/")[0]
    for name in content:
        if name.startswith(f"{info}/sboms/") and name.endswith(".json"):
            content[name] = _settled(content[name], seconds, root)
    order = sorted(content, key=lambda name: (name.startswith(f"{info}/"), name == record, name))
    content[record] = _record(content, order, record)
    fresh = path.with_name(f".{path.name}.fresh")
    date = time.gmtime(seconds)[:6]
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name in order:
            entry = zipfile.ZipInfo(name, date)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = (0o100000 | modes[name]) << 16
            archive.writestr(entry, content[name])
    os.replace(fresh, path)


def _mode(entry: zipfile.ZipInfo) -> int:
    return 0o755 if (entry.external_attr >> 16) & 0o100 else 0o644


def _settled(document: bytes, seconds: int, root: Path) -> bytes:
    """The bill of materials without the machine in it."""
    text = document.decode("utf-8").replace(root.as_uri().removeprefix("file://"), "/casparian")
    bill: dict[str, Any] = json.loads(text)
    bill.pop("serialNumber", None)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    bill.setdefault("metadata", {})["timestamp"] = moment
    plain = json.dumps(bill, indent=2, sort_keys=True)
    bill["serialNumber"] = f"urn:uuid:{uuid.uuid5(_SERIALS, plain)}"
    return (json.dumps(bill, indent=2, sort_keys=True) + "\n").encode()


def _record(content: dict[str, bytes], order: list[str], record: str) -> bytes:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    for name in order:
        if name == record:
            lines.writerow([name, "", ""])
            continue
        digest = base64.urlsafe_b64encode(hashlib.sha256(content[name]).digest()).rstrip(b"=")
        lines.writerow([name, f"sha256={digest.decode()}", len(content[name])])
    return text.getvalue().encode()
