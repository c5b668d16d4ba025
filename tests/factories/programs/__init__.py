"""Programs that speak the bridge, compiled once a session: the example that `parser new` writes, and one that attacks."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
EXAMPLE = _ROOT / "casparian" / "control" / "program" / "main.rs"
HOSTILE = Path(__file__).parent / "hostile.rs"


@functools.cache
def program(source: Path, *, static: bool = True) -> bytes:
    """A program's bytes; skips the test where it cannot be built."""
    compiler = shutil.which("rustc")
    if compiler is None:
        pytest.skip("there is no Rust compiler here")
    linking = "+crt-static" if static else "-crt-static"
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "program"
        command = [compiler, "--edition", "2024", "-O", "-C", f"target-feature={linking}"]
        done = subprocess.run(
            [*command, "-o", built, source], capture_output=True, text=True, check=False
        )
        if done.returncode and "cannot find -l" in done.stderr:
            pytest.skip("the C library is not here as a static one")
        assert done.returncode == 0, done.stderr
        return built.read_bytes()
