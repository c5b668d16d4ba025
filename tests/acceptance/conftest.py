"""The installed `casparian` command, a home of its own for each test, and evidence built by ourselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from casparian.demo.world import EvidenceSummary, build_evidence

PROGRAM = Path(sys.executable).parent / "casparian"


@dataclass(frozen=True)
class Answer:
    """How one command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        """The one document on stdout."""
        document = json.loads(self.out)
        assert document["schema_version"] == 1
        return document


class Casparian:
    """One home and the commands given to it."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *arguments: object, code: int | None = 0) -> Answer:
        """Run a command; `code` is the exit code that is expected, `None` takes any."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("CASPARIAN_")}
        done = subprocess.run(
            [PROGRAM, "--home", self.home, *map(str, arguments)],
            capture_output=True, text=True, check=False, env=environ, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        answer = Answer(done.returncode, done.stdout, done.stderr)
        assert code is None or answer.code == code, (
            answer.code,
            answer.out[-2000:],
            answer.err[-4000:],
        )
        return answer

    def json(self, *arguments: object, code: int | None = 0) -> dict:
        """The document a command gives with `--json`."""
        return self(*arguments, "--json", code=code).json

    def rows(self, sql: str, *arguments: object) -> list[list]:
        """Rows of a query."""
        return self.json("query", sql, *arguments)["rows"]


@pytest.fixture
def home_at():
    """Make homes; their sentinels are stopped when the test ends."""
    made: list[Casparian] = []

    def make(path: Path) -> Casparian:
        made.append(Casparian(path))
        return made[-1]

    yield make
    for home in made:
        if home.home.exists():
            home("sentinel", "stop")


@pytest.fixture
def casparian(tmp_path, home_at) -> Casparian:
    """A new home."""
    return home_at(tmp_path / "home")


@dataclass(frozen=True)
class Case:
    """Evidence on disk and what a complete reading of it must find."""

    directory: Path
    summary: EvidenceSummary


@pytest.fixture
def case(tmp_path) -> Case:
    """The demonstration's evidence, a fresh copy."""
    directory = tmp_path / "evidence"
    directory.mkdir()
    return Case(directory, build_evidence(directory))
