"""Each attack ends as it must, has no effect that can be seen from outside, and leaves the others alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.attacks.arena import HONEST_ROWS, SECRET, TABLE, Arena, Verdict
from tests.attacks.catalogue import ALL, Attack


@pytest.fixture
def untouched(arena: Arena) -> Iterator[None]:
    """Nothing around the system has changed when the test is over."""
    before = _around(arena)
    yield
    assert arena.connections() == 0, "somebody reached a socket"
    assert _around(arena) == before
    assert arena.stages() == []


def _around(arena: Arena) -> dict[str, object]:
    secret = arena.secret.stat()
    return {
        "secret": arena.secret.read_text(),
        "mode": secret.st_mode,
        "modified": secret.st_mtime_ns,
        "attributes": os.listxattr(arena.secret),
        "folder": sorted(path.name for path in arena.folder.iterdir()),
        "sentinel": arena.sentinel_pid(),
        "descriptors": len(os.listdir(f"/proc/{arena.sentinel_pid()}/fd")),
    }


def check_isolation(verdict: Verdict, arena: Arena) -> None:
    """The receipt says how it was confined, and nobody ran as root."""
    assert verdict.isolation.get("level") == "full", verdict
    assert verdict.isolation["user"] != "uid 0"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("attack", ALL, ids=[attack.id for attack in ALL])
def test_attack(attack: Attack, arena: Arena) -> None:
    verdict = arena.attack(attack.code, **attack.changes)
    assert verdict.code in attack.ends, verdict
    assert verdict.job["state"] == "failed"
    assert arena.rows(arena.last, TABLE) == []
    assert verdict.result.jobs.completed == 1
    honest = arena.rows(arena.last, "syslog_events")
    assert len(honest) == HONEST_ROWS
    check_isolation(verdict, arena)
    assert SECRET not in repr(verdict)
    assert set(arena.processes().values()) <= {
        "sentinel", "casparian.sentinel", "casparian.worker", "casparian.guest",
    }  # fmt: skip


@pytest.mark.usefixtures("untouched")
def test_57_an_honest_parser_commits(arena: Arena) -> None:
    verdict = arena.attack("""
        def attack(ctx):
            raise RuntimeError('unused')
        def parse(ctx):
            offset = 0
            for line in ctx.source.read().splitlines(True):
                yield "loot", Row(offset, len(line), {"text": line.decode().strip()})
                offset += len(line)
    """)
    assert verdict.code is None, verdict
    assert verdict.job["state"] == "completed"
    texts = [row["text"] for row in arena.rows(arena.last, TABLE)]
    assert texts == [f"first line of {arena.last}", "second line", "third line"]
    check_isolation(verdict, arena)


@pytest.mark.usefixtures("untouched")
def test_a_denied_attempt_that_carries_on_may_commit(arena: Arena) -> None:
    """What counts is the effect: the attempt left none."""
    verdict = arena.attack("""
        def attack(ctx):
            raise RuntimeError('unused')
        def parse(ctx):
            try:
                open(OPEN_FOLDER + '/evil', 'w').write('x')
            except OSError:
                pass
            offset = 0
            for line in ctx.source.read().splitlines(True):
                yield "loot", Row(offset, len(line), {"text": line.decode().strip()})
                offset += len(line)
    """)
    assert verdict.code is None, verdict
    assert len(arena.rows(arena.last, TABLE)) == 3
