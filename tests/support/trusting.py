"""A world whose sentinel lets every parser run: for parsers that a test writes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Final

from casparian.control.client import Client
from casparian.errors import SentinelUnreachable
from casparian.paths import Home
from tests.support.world import World

_SENTINEL: Final = Path(__file__).with_name("trusting_sentinel.py")


class TrustingWorld(World):
    """Its sentinel is started when it is made; `stop` ends it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.home.mkdir()
        self._sentinel = subprocess.Popen(
            [sys.executable, str(_SENTINEL), "--home", str(self.home)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(1200):
            with contextlib.suppress(SentinelUnreachable):
                Client.connect(Home.at(self.home)).close()
                return
            time.sleep(0.05)
        raise AssertionError(f"no sentinel\n{self.logs()}")

    def parser(self, name: str, manifest: str, contract: str, code: str) -> Path:
        """Put a parser into the home's library."""
        folder = self.home / "parsers" / name
        folder.mkdir(parents=True, exist_ok=True)
        head = f'schema_version = 1\nname = "{name}"\nversion = "1.0.0"\n'
        (folder / "parser.toml").write_text(head + textwrap.dedent(manifest))
        (folder / "contract.toml").write_text("schema_version = 1\n" + textwrap.dedent(contract))
        (folder / "parser.py").write_text(textwrap.dedent(code))
        return folder

    def stop(self) -> None:
        """Stop the sentinel and wait for its end."""
        super().stop()
        self._sentinel.wait()
