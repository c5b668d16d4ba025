"""Parsers that import packages of their locked environment: in confined guests, from a zygote that is walled off first."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from worker_world import World, home_at, rows

from casparian.contracts.requirements import read_lock
from casparian.domain.trust import TrustOrigin, TrustRecord, TrustVerdict
from casparian.protocol.worker import Receipt
from casparian.worker.executor import Services
from tests.factories.wheels import compiled_module, platform_tag, wheel

PARSER = """
    from {module} import {name}

    def parse(ctx):
        from casparian.sdk import RowBuilder
        rows = RowBuilder("lines")
        content = ctx.source.pread(ctx.source.size, 0)
        yield from rows.append(0, len(content), 0, number={name}(int(content)), text="x")
        yield from rows.flush()
"""


SIGNED = TrustRecord(verdict=TrustVerdict.VALID, origin=TrustOrigin.DEPLOYED)


@pytest.fixture
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    home = home_at(tmp_path_factory.mktemp("worker"))
    home.config_file.write_text(f'wheelhouse = "{home.root / "wheels"}"\n')
    services = Services(home, lambda *_: SIGNED)
    yield services
    services.close()


@pytest.fixture
def world(tmp_path: Path, services: Services) -> World:
    return World(tmp_path, services)


def wheels(world: World) -> Path:
    return world.services.home.root / "wheels"


def run(world: World, lines: str, *preload: str, **changes: Any) -> Receipt:
    """Run the world's parser with this lock."""
    (world.directory / "parser" / "requirements.lock").write_text(lines)
    world.rehash()
    fields: dict[str, Any] = {
        "environment": "requirements.lock",
        "requirements": tuple(one.line for one in read_lock(lines.encode(), file="x")),
        "preload": preload,
    }
    task = msgspec.structs.replace(world.dispatch().parser, **{**fields, **changes})
    return world.run(parser=task)


def test_a_parser_uses_a_package_of_its_environment(world: World) -> None:
    line = wheel(
        wheels(world),
        "acme",
        "1.0",
        {
            "acme/__init__.py": b"from .inner import thrice\n",
            "acme/inner.py": b"def thrice(value): return 3 * value\n",
        },
    )
    world.parser(PARSER.format(module="acme", name="thrice"))
    world.source(b"14\n")
    receipt = run(world, line, "acme")
    assert receipt.code is None, receipt.message
    assert [row["number"] for row in rows(receipt, "lines")] == [42]
    assert receipt.isolation["level"] == "full"


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")
def test_a_compiled_module_works_inside_the_sealed_guest(world: World, tmp_path: Path) -> None:
    files = compiled_module(tmp_path / "build", "acme_native")
    if files is None:
        pytest.skip("the headers of Python are not here")
    line = wheel(wheels(world), "acme_native", "1.0", files, tag=platform_tag())
    world.parser(PARSER.format(module="acme_native", name="twice"))
    world.source(b"21\n")
    receipt = run(world, line, "acme_native")
    assert receipt.code is None, receipt.message
    assert [row["number"] for row in rows(receipt, "lines")] == [42]


def test_what_is_not_preloaded_cannot_be_imported_and_the_error_says_how(world: World) -> None:
    line = wheel(wheels(world), "acme", "1.0", {"acme.py": b"def thrice(value): return 3\n"})
    world.parser(PARSER.format(module="acme", name="thrice"))
    world.source(b"14\n")
    receipt = run(world, line)
    assert receipt.code == "parser.load"
    assert "name it under `preload`" in receipt.message


def test_a_module_of_neither_cannot_be_preloaded(world: World) -> None:
    line = wheel(wheels(world), "acme", "1.0", {"acme.py": b""})
    receipt = run(world, line, "no_such_module")
    assert receipt.code == "parser.preload"
    sneaky = wheel(wheels(world), "sneaky", "1.0", {"sneaky.py": b"import click\n"})
    receipt = run(world, sneaky, "sneaky")
    assert receipt.code == "parser.preload"
    assert "add it to the lock" in receipt.message


@pytest.mark.parametrize(
    "attack",
    [
        "import socket; socket.socket()",
        "import os; os.execv('/bin/true', ['true'])",
        "open(TARGET, 'w')",
        "import os; os.unlink(TARGET)",
        "import os; os.chmod(TARGET, 0o777)",
        "open(SECRET).read()",
        "import subprocess; subprocess.run(['/bin/true'], check=True)",
        "import os, time; os.fork() or time.sleep(600)",
    ],
)
def test_a_package_can_do_nothing_while_it_is_imported(
    world: World, tmp_path: Path, attack: str
) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o777)
    tmp_path.chmod(0o777)
    target, secret = folder / "target", folder / "secret"
    target.write_text("as it was")
    secret.write_text("hidden")
    target.chmod(0o666)
    code = f"TARGET, SECRET = {str(target)!r}, {str(secret)!r}\n{attack}\n"
    line = wheel(wheels(world), "hostile", "1.0", {"hostile.py": code.encode()})
    receipt = run(world, line, "hostile")
    assert receipt.code in ("parser.preload", "guest.zygote"), receipt.message
    assert target.read_text() == "as it was"
    assert target.stat().st_mode & 0o777 == 0o666


def test_a_package_that_starts_a_thread_is_refused(world: World) -> None:
    code = b"import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    line = wheel(wheels(world), "threads", "1.0", {"threads.py": code})
    receipt = run(world, line, "threads")
    assert receipt.code == "parser.preload"
    assert "starts threads" in receipt.message


def test_a_lock_that_is_not_the_planned_one_is_refused(world: World) -> None:
    line = wheel(wheels(world), "acme", "1.0", {"acme.py": b""})
    other = wheel(wheels(world), "other", "1.0", {"other.py": b""})
    receipt = run(world, line, requirements=(other,))
    assert receipt.code == "trust.artifact_changed"
