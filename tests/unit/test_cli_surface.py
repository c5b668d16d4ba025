"""What holds for every command: help, `--json`, documentation, and a start-up that imports nothing heavy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import click
import pytest

from casparian.cli.framework import Command, Group
from casparian.cli.main import COMMANDS, root
from casparian.errors import CasparianError

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEAVY = {"duckdb", "pyarrow", "rich", "numpy", "pandas", "casparian._native", "blake3"}


def walk(command, path=()):
    """Every command below one, with its words."""
    yield path, command
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            yield from walk(command.get_command(ctx, name), (*path, name))


ALL = dict(walk(root))


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "casparian")
def test_every_command_has_help_json_and_documentation(path):
    command = ALL[path]
    assert isinstance(command, Command | Group) or path == ()
    assert command.help
    names = {name for param in command.params for name in param.opts}
    assert {"--home", "--json", "--quiet", "--verbose", "--no-color"} <= names
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, param.name
    with open(os.path.join(PROJECT, "docs", "reference", "cli.md"), encoding="utf-8") as page:
        assert f"# `casparian {' '.join(path)}".rstrip() in page.read()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name):
    first = ALL[(name,)].help.splitlines()[0]
    assert COMMANDS[name].help == first


def imported_after(*arguments):
    script = (
        "import json, sys\nfrom casparian.cli.main import run\n"
        "code = run(json.loads(sys.argv[1]))\nsys.stdout.flush()\n"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(arguments)],
        capture_output=True, text=True, check=True, cwd=PROJECT,
    )  # fmt: skip
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules)


def test_help_imports_no_command_and_nothing_heavy():
    code, modules = imported_after("--help")
    assert code == 0
    assert not modules & HEAVY
    assert not {name for name in modules if name.startswith("casparian.cli.commands.")}
    assert "msgspec" not in modules


@pytest.mark.parametrize(
    "arguments",
    [("jobs",), ("files",), ("sentinel", "status"), ("config", "show"), ("contract", "list")],
)
def test_a_command_that_asks_the_sentinel_imports_nothing_heavy(tmp_path, arguments):
    _, modules = imported_after("--home", str(tmp_path / "home"), *arguments)
    assert not modules & HEAVY


def test_generated_pages_are_not_stale():
    done = subprocess.run(
        [sys.executable, os.path.join(PROJECT, "docs", "generate.py"), "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def error_classes(kind=CasparianError):
    yield kind
    for child in kind.__subclasses__():
        yield from error_classes(child)


def test_every_class_of_error_is_documented():
    with open(os.path.join(PROJECT, "docs", "reference", "errors.md"), encoding="utf-8") as page:
        text = page.read()
    from casparian import errors

    for kind in error_classes():
        if kind.__module__ == errors.__name__:
            assert f"`{kind.code}`" in text, kind


def test_every_family_of_codes_is_documented():
    with open(os.path.join(PROJECT, "docs", "reference", "errors.md"), encoding="utf-8") as page:
        text = page.read()
    families = set()
    for folder, _, names in os.walk(os.path.join(PROJECT, "casparian")):
        for name in names:
            if name.endswith(".py"):
                with open(os.path.join(folder, name), encoding="utf-8") as source:
                    families |= set(
                        re.findall(r"""\bcode ?= ?"([a-z_]+)\.[a-z_]+\"""", source.read())
                    )
    assert len(families) > 20
    assert {family for family in families if f"`{family}." not in text} == set()


def test_links_between_pages_lead_somewhere():
    broken = []
    pages = [os.path.join(PROJECT, "README.md")]
    for folder, _, names in os.walk(os.path.join(PROJECT, "docs")):
        pages += [os.path.join(folder, name) for name in names if name.endswith(".md")]
    for page in pages:
        with open(page, encoding="utf-8") as file:
            for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", file.read()):
                if not target.startswith("http") and not os.path.exists(
                    os.path.join(os.path.dirname(page), target)
                ):
                    broken.append((page, target))
    assert broken == []
