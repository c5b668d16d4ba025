"""A world to run Casparian in: an evidence directory, a home, and the installed command."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CASPARIAN = [sys.executable, "-m", "casparian"]


class World:
    """One home and one evidence directory under a temporary directory. `program` is what is run."""

    def __init__(self, directory: Path, *, evidence: Path | None = None) -> None:
        self.program = CASPARIAN
        self.directory = directory
        self.home = directory / "home"
        self.evidence = evidence or directory / "evidence"
        if evidence is None:
            self.evidence.mkdir(exist_ok=True)

    # -- evidence

    def file(self, name: str, content: bytes) -> Path:
        """Put a file into the evidence."""
        path = self.evidence / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    # -- commands

    def call(
        self,
        *arguments: str,
        home: Path | None = None,
        prefix: tuple[str, ...] = (),
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; nothing is checked. `prefix` is a command that runs it."""
        return subprocess.run(
            [*prefix, *self.program, "--home", str(home or self.home), *arguments],
            capture_output=True,
            text=True,
            check=False,
            **options,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and go on."""
        return subprocess.Popen(
            [*self.program, "--home", str(self.home), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def json(self, *arguments: str, code: int | None = 0, home: Path | None = None) -> Any:
        """Run a command with `--json`, check the exit code, return the document."""
        done = self.call(*arguments, "--json", home=home)
        assert code is None or done.returncode == code, (
            f"exit {done.returncode}, expected {code}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{self.logs()}"
        )
        return json.loads(done.stdout)

    def run(self, *arguments: str, code: int | None = 0, home: Path | None = None) -> Any:
        """`casparian run` over the evidence."""
        return self.json("run", str(self.evidence), *arguments, code=code, home=home)

    def query(self, sql: str, *arguments: str) -> list[list[Any]]:
        """Rows of a query."""
        rows: list[list[Any]] = self.json("query", sql, *arguments)["rows"]
        return rows

    def column(self, sql: str, *arguments: str) -> list[Any]:
        """First column of a query."""
        return [row[0] for row in self.query(sql, *arguments)]

    def stop(self) -> None:
        """Stop the home's sentinel, if one runs."""
        self.call("sentinel", "stop")

    def logs(self) -> str:
        """The end of every log of the home, for a failing test's report."""
        parts = []
        for path in sorted((self.home / "logs").glob("*")) if self.home.exists() else []:
            parts.append(f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}")
        return "\n".join(parts)

    # -- processes

    def processes(self, role: str | None = None) -> list[int]:
        """Process ids of this home: `sentinel`, `worker`, `zygote` (it forks guests), `guest`."""
        return [pid for pid, kind in self.alive() if role is None or kind == role]

    def alive(self) -> list[tuple[int, str]]:
        """All processes of this home, with their roles."""
        return list(_processes(self.home))

    def kill(self, role: str) -> bool:
        """SIGKILL one process of a role; whether there was one."""
        for pid in self.processes(role):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
        return False


def _processes(home: Path) -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            parent_command = Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--home" not in command or str(home).encode() not in command:
            continue
        for role in ("sentinel", "worker", "guest"):
            module = f"casparian.{role}".encode()
            if module in command:
                is_zygote = role == "guest" and module not in parent_command
                yield int(entry.name), "zygote" if is_zygote else role


def wait_until(condition: Any, *, steps: int = 1200) -> None:
    """Wait for something that must come; gives up after many steps, not after a measured time."""
    for _ in range(steps):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came")


def spans(rows: list[list[Any]]) -> list[tuple[int, int]]:
    """Sorted (offset, length) pairs."""
    return sorted((int(offset), int(length)) for offset, length in rows)


def read_csv_text(text: str) -> list[list[str]]:
    """Parse CSV output."""
    return list(csv.reader(io.StringIO(text)))
