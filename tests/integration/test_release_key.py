"""A build that was given a release key: its own parsers carry that key's signatures, and nothing says `development`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from casparian.trust.keys import from_crypto

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
DATE = 1_767_225_600  # 2026-01-01

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]  # it builds the native module


def build(key: Path) -> subprocess.CompletedProcess[str]:
    """Build the native module as a release is built, beside the one that is in use."""
    environment = {
        **os.environ,
        "CASPARIAN_RELEASE_KEY_FILE": str(key),
        "SOURCE_DATE_EPOCH": str(DATE),
        "PYO3_PYTHON": sys.executable,
        "CARGO_TARGET_DIR": str(TARGET),
    }
    return subprocess.run(
        ["cargo", "build", "--release", "--locked", "-p", "casparian-python",
         "--features", "pyo3/extension-module"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_build_with_a_key_signs_its_own_parsers_with_it(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    pem = tmp_path / "release.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    built = build(pem)
    assert built.returncode == 0, built.stderr[-3000:]

    program = tmp_path / "program"
    shutil.copytree(
        ROOT / "casparian",
        program / "casparian",
        ignore=shutil.ignore_patterns("_native*.so", "__pycache__"),
    )
    shutil.copytree(
        ROOT / "parsers", program / "parsers", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copyfile(TARGET / "release" / "lib_native.so", program / "casparian" / "_native.abi3.so")

    def ask(*arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "casparian", "--home", str(tmp_path / "home"), *arguments],
            cwd=program, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout if "--json" in arguments else done.stdout + done.stderr

    keyid = from_crypto(key.public_key()).keyid
    names = sorted(path.name for path in (program / "parsers").iterdir())
    assert names
    for name in names:
        folder = str(program / "parsers" / name)
        said = json.loads(ask("parser", "verify", folder, "--json"))
        assert (said["verdict"], said["origin"]) == ("valid", "first-party")
        assert (said["keyids"], said["development"]) == ([keyid], False)
        assert "trust.development" not in said["warnings"]
    explained = ask("parser", "verify", folder, "--explain")
    assert keyid[:12] in explained
    assert "development" not in explained
    assert "2026-01-01" in explained, "the date is the one that the build was given"

    # The very same parsers under the program of this tree, which was given no key.
    code = "from casparian import _native; print(*_native.release_key())"
    own = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)  # fmt: skip
    assert own.stdout.split()[0] != from_crypto(key.public_key()).public


@pytest.mark.parametrize("content", ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])  # fmt: skip
def test_a_build_with_a_file_that_is_no_key_fails(content: str, tmp_path: Path) -> None:
    pem = tmp_path / "release.pem"
    pem.write_text(content)
    failed = build(pem)
    assert failed.returncode != 0
    assert "holds no unencrypted PKCS#8 PEM of an Ed25519 key" in failed.stderr
