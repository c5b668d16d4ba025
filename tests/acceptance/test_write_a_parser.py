"""The page `docs/how-to/write-a-parser.md`, command by command, as its reader would type them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from casparian.control.parser_new import write_skeleton
from casparian.domain.parsers import ParserKind
from tests.factories.programs import program
from tests.factories.wheels import wheel
from tests.support.world import CASPARIAN, World

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-parser.md"
LOG = b"colour green\nsize 12\n\nno-separator\nlast line"


def commands_of(page: str) -> list[str]:
    """What stands behind `$` in the console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


class Desk:
    """A directory in which commands are typed, with a home of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.directory = world.directory
        tools = self.directory / "tools"
        tools.mkdir()
        for name, words in (("casparian", CASPARIAN), ("python", [sys.executable])):
            script = tools / name
            script.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
            script.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "CASPARIAN_HOME": str(world.home),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        (self.directory / "passphrase").write_text("correct horse battery staple\n")

    def type(self, command: str, code: int = 0) -> str:
        """Run one command line; what it printed."""
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        said = f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n"
        assert done.returncode == code, said + self.world.logs()
        return done.stdout

    def trust(self) -> None:
        """One person decides here."""
        self.type(
            "casparian trust init --solo Ada --keys keys --passphrase-file passphrase --out trust"
        )

    def sign_and_deploy(self, name: str) -> None:
        """As the page does it."""
        self.type(f"casparian parser sign ./{name} --key keys/ada.key --passphrase-file passphrase")
        self.type(f"casparian parser deploy ./{name}")


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world)


def test_the_commands_of_the_page_lead_from_nothing_to_proven_rows(desk: Desk) -> None:
    commands = commands_of(PAGE.read_text(encoding="utf-8"))
    assert len(commands) == 11
    desk.world.file("web.access", LOG)
    printed = {command: desk.type(command) for command in commands}
    asked = next(text for command, text in printed.items() if " query " in command)
    rows = [line.split("\t") for line in asked.splitlines()]
    assert rows[1:] == [
        ["colour", "green", "acme.access_log@0.1.0", "0"],
        ["size", "12", "acme.access_log@0.1.0", "13"],
        ["last", "line", "acme.access_log@0.1.0", "35"],
    ]
    assert "no_separator" in printed["casparian quarantine"]
    proof = desk.world.json("why", desk.world.column("SELECT _cf_row_id FROM acme_access_log")[0])
    assert proof["proven"] is True


def test_a_parser_with_packages_runs_from_the_wheelhouse(desk: Desk) -> None:
    line = wheel(
        desk.directory / "wheels",
        "acme_words",
        "1.0",
        {"acme_words/__init__.py": b"def loud(text): return text.upper()\n"},
    )
    write_skeleton("acme.loud", str(desk.directory))
    folder = desk.directory / "acme.loud"
    (folder / "requirements.lock").write_text(line + "\n")
    manifest = (folder / "parser.toml").read_text()
    manifest = manifest.replace('unit = "line"', 'preload = ["acme_words"]\nunit = "line"')
    (folder / "parser.toml").write_text(manifest + '\n[environment]\nlock = "requirements.lock"\n')
    code = (folder / "parser.py").read_text()
    code = code.replace("key=key,", "key=loud(key),").replace(
        "from casparian.sdk import", "from acme_words import loud\nfrom casparian.sdk import"
    )
    (folder / "parser.py").write_text(code)
    desk.world.file("web.loud", LOG)
    desk.trust()
    desk.sign_and_deploy("acme.loud")
    desk.type("casparian rule add '*.loud' acme-loud")
    # Nobody has said where wheels are: the job says so, and nothing is in any table.
    failed = desk.world.run(code=1)
    assert [problem["code"] for problem in failed["problems"]] == ["env.wheelhouse"]
    desk.type(f"casparian config set wheelhouse {desk.directory / 'wheels'}")
    desk.type("casparian sentinel stop")
    done = desk.world.run()
    assert done["outputs"][0]["rows"] == 3
    assert desk.world.column("SELECT key FROM acme_loud ORDER BY _cf_offset") == [
        "COLOUR",
        "SIZE",
        "LAST",
    ]
    (listed,) = desk.world.json("env", "list")["environments"]
    assert listed["packages"] == ["acme-words==1.0"]
    prepared = desk.world.json("env", "prepare", "acme.loud")
    assert prepared["env_hash"] == listed["env_hash"]
    desk.type("casparian parser test ./acme.loud")
    desk.type("casparian sentinel stop")
    assert len(desk.world.json("env", "prune", "--keep-mb", "0", "--dry-run")["removed"]) == 1
    assert len(desk.world.json("env", "prune", "--keep-mb", "0")["removed"]) == 1
    assert desk.world.json("env", "list")["environments"] == []


def test_a_program_runs_only_when_it_is_signed(desk: Desk) -> None:
    write_skeleton("acme.prog", str(desk.directory), ParserKind.EXECUTABLE)
    folder = desk.directory / "acme.prog"
    (folder / "bin").mkdir()
    (folder / "bin" / "x86_64-linux").write_bytes(program(folder / "src" / "main.rs"))
    desk.world.file("web.prog", LOG)
    desk.trust()
    refused = desk.type("casparian --json parser test ./acme.prog", code=4)
    assert '"trust.unsigned"' in refused
    desk.type("casparian parser sign ./acme.prog --key keys/ada.key --passphrase-file passphrase")
    desk.type("casparian parser test ./acme.prog")
    desk.type("casparian parser deploy ./acme.prog")
    desk.type("casparian rule add '*.prog' acme-prog")
    done = desk.world.run()
    assert done["outputs"][0]["rows"] == 3
    proof = desk.world.json("why", desk.world.column("SELECT _cf_row_id FROM acme_prog")[0])
    assert proof["proven"] is True
