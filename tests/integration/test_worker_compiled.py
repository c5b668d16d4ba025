"""Parsers that are compiled once in a worker, guests of the small zygote, and what a zygote rehearses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_world import World, home_at, rows

from casparian import processes
from casparian.guest.importer import compiled_modules, load_entry
from casparian.worker.executor import Services
from casparian.worker.session import CompileSession

TELLS = """
    import sys
    from . import helper

    def parse(ctx):
        from casparian.sdk import RowBuilder
        rows = RowBuilder("lines")
        yield from rows.append(0, ctx.source.size, 0, number=helper.ANSWER, text=helper.where())
        yield from rows.flush()
        if ctx.source.size > 4:
            helper.fail()
"""
HELPER = """
    import sys

    ANSWER = 42

    def where():
        return sys._getframe().f_code.co_filename

    def fail():
        raise ValueError("no")
"""


@pytest.fixture
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    services = Services(home_at(tmp_path_factory.mktemp("worker")))
    yield services
    services.close()


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Names of the modules of each compilation."""
    seen: list[list[str]] = []
    result = CompileSession.result

    def noted(session: CompileSession) -> dict[str, bytes]:
        made = result(session)
        seen.append(sorted(made))
        return made

    monkeypatch.setattr(CompileSession, "result", noted)
    return seen


def outcome(world: World, epoch: int) -> tuple[str | None, str, list[tuple[int, str]]]:
    """Code, message and rows of one job; what it staged is removed."""
    receipt = world.run(epoch=epoch)
    found = [(row["number"], row["text"]) for row in rows(receipt, "lines")]
    for path in world.staged():
        path.unlink()
    return receipt.sources[-1].code, receipt.sources[-1].message, found


def test_from_the_second_job_on_code_is_loaded_and_nothing_else_changes(
    tmp_path: Path, services: Services, compilations: list[list[str]]
) -> None:
    world = World(tmp_path, services)
    world.parser(TELLS, helper=HELPER)
    world.source(b"good")
    world.source(b"fails")
    first, second, third = (outcome(world, epoch) for epoch in (3, 4, 5))
    assert first == second == third
    assert first[0] == "parser.exception"
    assert "(helper.py line" in first[1], "the traceback names the parser's file"
    assert [text for _, text in first[2]] == ["parser:helper.py"]
    assert compilations == [["helper.py", "parser.py"]], "once, for the second job"


def test_another_artifact_is_never_given_that_code(
    tmp_path: Path, services: Services, compilations: list[list[str]]
) -> None:
    world = World(tmp_path, services)
    world.source(b"good")
    for epoch, answer in enumerate((42, 42, 43, 43), start=3):
        world.parser(TELLS, helper=HELPER.replace("42", str(answer)))
        assert [number for number, _ in outcome(world, epoch)[2]] == [answer]
    assert len(compilations) == 2


def test_a_parser_that_cannot_be_compiled_fails_as_before(
    tmp_path: Path, services: Services, compilations: list[list[str]]
) -> None:
    world = World(tmp_path, services)
    world.parser("def parse(ctx:\n", helper=HELPER)
    world.source(b"good")
    first, second = (world.run(epoch=epoch) for epoch in (3, 4))
    assert (first.code, first.message) == (second.code, second.message)
    assert first.code == "parser.load"
    assert "SyntaxError" in first.message
    assert compilations == [["helper.py"]]


def test_without_a_guest_that_compiles_jobs_go_on(
    tmp_path: Path, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(session: CompileSession) -> dict[str, bytes]:
        session._process.kill()
        return session._guarded(lambda: session._bridge.receive(60)) and {}

    monkeypatch.setattr(CompileSession, "result", refused)
    world = World(tmp_path, services)
    world.parser(TELLS, helper=HELPER)
    world.source(b"good")
    for epoch in (3, 4, 5):
        assert outcome(world, epoch)[0] is None


def test_compiling_runs_nothing() -> None:
    files = {"parser.py": b"raise SystemExit(3)\n", "bad.py": b"def (", "notes.txt": b"x"}
    assert sorted(compiled_modules(files)) == ["parser.py"]


def test_compiled_code_is_what_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    other = compiled_modules({"parser.py": b"def parse(): return 'compiled'\n"})
    try:
        entry = load_entry(
            {"parser.py": b"def parse(): return 'source'\n"}, "parser.py:parse", other
        )
        assert entry() == "compiled"
    finally:
        for name in [name for name in sys.modules if name.startswith("casparian_parser")]:
            del sys.modules[name]


def zygote_says(code: str, tmp_path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=processes.guest_environment(),
        cwd=tmp_path,
    )
    assert done.stderr == "", "a rehearsal that fails prints a traceback"
    return done.stdout


@pytest.mark.parametrize("load", ["preload", "preload_lean"])
def test_a_rehearsal_leaves_nothing_to_import_and_no_thread(load: str, tmp_path: Path) -> None:
    code = (
        f"import sys, os; from casparian.guest import preload; before = list(sys.meta_path); preload.{load}();"
        "print([m for m in sys.modules if m.startswith('casparian_parser')], before == sys.meta_path,"
        "len(os.listdir('/proc/self/task')), len(os.listdir('/proc/self/fd')))"
    )
    assert zygote_says(code, tmp_path) == "[] True 1 4\n"


def test_the_small_zygote_has_no_arrow_and_no_parser_sdk_that_needs_it(tmp_path: Path) -> None:
    code = (
        "import sys; from casparian.guest.preload import preload_lean; preload_lean();"
        "print([m for m in sys.modules if m.partition('.')[0] in ('pyarrow', 'numpy', 'sqlite3', 'ctypes')])"
    )
    assert zygote_says(code, tmp_path) == "[]\n"
