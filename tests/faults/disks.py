"""Small disks, faulty launches, and a world that has to live with them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.storm import verdict
from tests.support.launching import launched
from tests.support.world import World

_BUSY_SECONDS_MAX = 500  # a command that never ends is a failure; a slow machine is not
_FILES = 4
_LINES = 8000


class Disk:
    """A small file system of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=512m,mode=0755", "casparian-test", str(path))

    def resize(self, kib: int) -> None:
        """Give it another size; what is on it stays."""
        self._mount("-o", f"remount,rw,size={kib}k", str(self.path))

    def read_only(self) -> None:
        """From now on nothing can be written."""
        self._mount("-o", "remount,ro", str(self.path))

    def writable(self) -> None:
        """Writable again."""
        self._mount("-o", "remount,rw", str(self.path))

    @property
    def used_kib(self) -> int:
        """What lies on it."""
        found = os.statvfs(self.path)
        return (found.f_blocks - found.f_bfree) * found.f_frsize // 1024

    def close(self) -> None:
        """Unmount, even if something is still open on it."""
        subprocess.run(["umount", "-l", str(self.path)], check=True)

    def _mount(self, *arguments: str) -> None:
        try:
            subprocess.run(["mount", *arguments], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"not run: needs the right to mount a tmpfs (root): {error}")


class FaultWorld(World):
    """A world whose commands may be started with faults, and that can be compared with an undisturbed one."""

    def fill(self) -> None:
        """Evidence of which every file is a job of its own, with text that does not compress well."""
        dice = random.Random(5)
        for number in range(_FILES):
            lines = [
                f"2024-03-05T08:{line // 60 % 60:02}:{line % 60:02}.{line:06}+00:00 h{number} app[{line}]: "
                f"{dice.randbytes(40).hex()}"
                for line in range(_LINES)
            ]
            lines += ["no header here", "nor here"]
            self.file(f"h{number}/syslog", ("\n".join(lines) + "\n").encode())

    def plan(self, **plan: Any) -> None:
        """Start everything with these faults from now on; without any, as it is."""
        if not plan:
            self.program = World(self.directory, evidence=self.evidence).program
            return
        planned = {"log": str(self.fsync_log)} | plan
        self.program = launched(self.directory / "plan.json", **planned)

    @property
    def fsync_log(self) -> Path:
        """Every fsync that a planned world has asked for."""
        return self.directory / "fsync.log"

    @property
    def fsyncs(self) -> list[dict[str, Any]]:
        """What is in the log."""
        return [json.loads(line) for line in self.fsync_log.read_text().splitlines()]

    def attempt(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """`casparian run`, which may fail, but must end and must say something that can be read."""
        done = self.call("run", str(self.evidence), *arguments, "--json", timeout=_BUSY_SECONDS_MAX)
        assert done.stdout, f"exit {done.returncode} without a word\n{done.stderr}\n{self.logs()}"
        return done.returncode, json.loads(done.stdout)

    def rows(self, *arguments: str) -> verdict.Fingerprint:
        """What readers see; nothing when there is no catalog yet."""
        if not (self.home / "catalog.duckdb").exists():
            return {}
        return verdict.fingerprint(self, *arguments)


def complaints(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(code, message) of everything a failed run says."""
    if "error" in document:
        error = document["error"]
        return [(error["code"], f"{error['message']} {error['hint'] or ''}")]
    return [(problem["code"], problem["message"]) for problem in document["problems"]]


def assert_clear(document: Mapping[str, Any], *wanted: str) -> None:
    """A complaint names the place or the reason: one of the wanted words is in it, and no bug is reported."""
    said = complaints(document)
    assert said, f"it failed without a reason: {document}"
    assert not any(code in ("bug", "sentinel.fault", "worker.bug") for code, _ in said), said
    assert any(
        word.lower() in f"{code} {text}".lower() for code, text in said for word in wanted
    ), said


def assert_only_whole_sources(found: verdict.Fingerprint, expected: verdict.Fingerprint) -> None:
    """Each source is there as it should be, or not at all."""
    wrong = {key: rows for key, rows in found.items() if expected.get(key) != rows}
    assert not wrong, wrong


def assert_recovers(
    world: FaultWorld, expected: verdict.Fingerprint, sink: Path, *arguments: str
) -> None:
    """The next run completes, and all is as if nothing had happened."""
    for _ in range(2):  # what a stopped sentinel left queued may be ahead of it
        code, document = world.attempt(*arguments)
        if code == 0:
            break
    assert code == 0, f"{complaints(document)}\n{world.logs()}"
    known = verdict.wait_until_quiet(world)
    world.stop()
    assert world.rows(*arguments) == expected
    uri = next((a for a in arguments if a.startswith("duckdb:")), None)
    problems = verdict.judge(world, known, sink, is_database=uri is not None)
    assert not problems, "\n".join(problems)


@contextlib.contextmanager
def held(*command: str) -> Any:
    """A process that runs meanwhile; it says `ready` when it is."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()
