"""A home, and the commands given to it in this process."""

from __future__ import annotations

import json
import os

import pytest

from casparian.cli.main import run
from casparian.paths import Home


class Answer:
    """Exit code and streams of one command."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        """The one document on stdout."""
        document = json.loads(self.out)
        assert document["schema_version"] == 1
        return document


@pytest.fixture
def home(tmp_path):
    return Home.at(tmp_path / "home")


@pytest.fixture
def casparian(home, capfd, monkeypatch):
    for name in [name for name in os.environ if name.startswith("CASPARIAN_")]:
        monkeypatch.delenv(name)

    def call(*arguments):
        code = run(["--home", str(home.root), *map(str, arguments)])
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return call
