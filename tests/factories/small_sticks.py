"""Small sticks: a version tree whose program is a shell script, a wheelhouse of two files, both keys."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

from bundle.folder import StickWriter
from bundle.make import Inputs, build_appliance, build_trust
from bundle.release_key import DEVELOPMENT_SEED
from bundle.source import Source
from casparian.trust.keys import PrivateKey

DEVELOPMENT = PrivateKey.from_seed(DEVELOPMENT_SEED, "release")
OTHER = PrivateKey.from_seed(b"0123456789abcdef0123456789abcdef", "release")
SOURCE = Source(commit="0" * 40, dirty=False, count=7, date=1_790_000_000)

# Stands for the program: notes that it ran and how, then does of `bundle install` what the first installation needs.
PROGRAM = """#!/bin/sh
if [ -n "${CASPARIAN_TEST_RAN:-}" ]; then printf '%s\\n' "$*" >>"$CASPARIAN_TEST_RAN"; fi
while [ $# -gt 0 ]; do
  case $1 in
    --into) dest=$2; shift ;;
    --staged) staged=$2; shift ;;
  esac
  shift
done
mkdir -p "$dest/versions" "$dest/bin" || exit 1
rm -rf "$dest/versions/one"
mv "$staged" "$dest/versions/one" || exit 1
ln -sfn versions/one "$dest/new" && mv -T "$dest/new" "$dest/current"
ln -sfn ../current/bin/casparian "$dest/bin/casparian"
"""


def make_tree(root: Path, key: PrivateKey = DEVELOPMENT, *, version: str = "0.1.0") -> Path:
    """A version tree; its interpreter answers what `bundle.facts` asks, and nothing else."""
    facts = {
        "version": version,
        "python": "3.11.7",
        "release_key": key.public.public,
        "development": key.public == DEVELOPMENT.public,
        "database_schema": 7,
    }
    files = {
        "bin/casparian": (PROGRAM, True),
        "runtime/bin/python3": (f"#!/bin/sh\necho '{json.dumps(facts)}'\n", True),
        "runtime/lib/python3.11/site-packages/casparian/__init__.py": ("", False),
        "runtime/lib/python3.11/site-packages/with space/data (1).txt": ("text\n" * 300, False),
        "runtime/lib/python3.11/" + "long/" * 20 + "name.py": ("pass\n", False),
    }
    for path, (content, executable) in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        os.chmod(target, 0o755 if executable else 0o644)
    return root


def make_wheels(root: Path) -> Path:
    """A wheelhouse of one wheel, which says what is compiled into it."""
    root.mkdir(parents=True, exist_ok=True)
    info = "example-1.0.dist-info"
    carried = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "components": [
            {
                "type": "library",
                "bom-ref": "inner",
                "name": "inner",
                "version": "2.0",
                "purl": "pkg:cargo/inner@2.0",
                "licenses": [{"expression": "MIT OR Apache-2.0"}],
            }
        ],
    }
    files = {
        "example.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.4\nName: example\nVersion: 1.0\nLicense-Expression: MIT\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/licenses/LICENSE": "a licence\n",
        f"{info}/sboms/inner.cdx.json": json.dumps(carried),
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(root / "example-1.0-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path), content)
    (root / "lock.txt").write_text("example==1.0 --hash=sha256:" + "0" * 64 + "\n")
    return root


def inputs(root: Path, key: PrivateKey = DEVELOPMENT, **changes) -> Inputs:
    """What a small stick is made from, below a folder."""
    values = {
        "tree": root / "tree",
        "wheels": root / "wheels",
        "parsers": (),
        "trust": None,
        "key": key,
        "development": key.public == DEVELOPMENT.public,
        "source": SOURCE,
        "release": 7,
    }
    if "tree" not in changes and not values["tree"].exists():
        make_tree(values["tree"], key)
    if "wheels" not in changes and not values["wheels"].exists():
        make_wheels(values["wheels"])
    return Inputs(**{**values, **changes})


def make_stick(
    root: Path, key: PrivateKey = DEVELOPMENT, *, name: str = "stick", **changes
) -> Path:
    """A finished stick with the program."""
    build_appliance(inputs(root, key, **changes), StickWriter(root / name))
    return root / name


def make_trust_stick(root: Path, key: PrivateKey = DEVELOPMENT, **changes) -> Path:
    """A finished stick without a program."""
    given = inputs(root, key, **{"tree": None, "wheels": None, **changes})
    build_trust(given, StickWriter(root / "stick"))
    return root / "stick"
