"""`python -m tests.crash.snapshot_steps take|restore DIRECTORY`: kill the operation before each thing it does to a file.

Each step has a home of its own and runs in a forked process, which kills itself with SIGKILL before its n-th touch of a file of
the home (open, rename, remove, mkdir). Then the home is opened as a sentinel would, and checked. Ends with the number of steps.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from casparian.db import snapshot
from casparian.db.connection import ControlDatabase
from casparian.paths import Home
from tests.factories.control import committed

_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir"}
STEPS_MAX = 200


def in_child(act: Callable[[], None]) -> int:
    """Exit status of `act` in a process of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException:  # noqa: BLE001 - a process's border
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def killed_at(step: int, root: Path, act: Callable[[], object]) -> bool:
    """Run `act`, dying before its `step`-th touch of the home; whether it died."""

    def run() -> None:
        left = step

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if event in _EVENTS and str(arguments[0]).startswith(str(root)):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        act()

    status = in_child(run)
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def template(directory: Path) -> None:
    """A home with a copy, and after it a change that is only in the log of its database."""
    made = Home.at(directory / "made")
    committed(made)
    copy = snapshot.take(made, reason="asked")
    assert copy.tape_seq == 3
    connection = duckdb.connect(str(made.control_database))
    connection.execute("SET checkpoint_threshold = '1GB'")
    connection.execute("INSERT INTO cf_meta VALUES ('since', 'yes')")
    shutil.copytree(made.root, directory / "template")  # as a kill at this moment leaves it
    connection.close()
    assert Home.at(directory / "template").control_log.stat().st_size


def meaning(path: Path) -> tuple[bool, int]:
    """Whether the late change is in a database, and how long its tape is."""
    with duckdb.connect(str(path)) as connection:
        since = connection.execute("SELECT count(*) FROM cf_meta WHERE name = 'since'").fetchall()
        tape = connection.execute("SELECT count(*) FROM cf_tape").fetchall()
    return bool(since[0][0]), tape[0][0]


FORMER, RESTORED = (True, 3), (False, 4)


def check_restore(home: Home, *, died: bool) -> None:
    """The former database or the restored one, never a mixture; the former one is never lost."""
    with ControlDatabase(home):
        pass
    found = meaning(home.control_database)
    asides = [d for d in home.backups.glob("aside-*") if any(d.glob("casparian_flow.*"))]
    if found == FORMER:
        assert died, "it said it was done"
        assert asides == [], asides
    else:
        assert found == RESTORED, found
        (aside,) = asides
        assert meaning(aside / "casparian_flow.duckdb") == FORMER
    assert not (home.root / "restore.json").exists()
    (copy,) = snapshot.snapshots(home)
    snapshot.restore(home, home.backups / copy.file)
    assert meaning(home.control_database) == RESTORED
    assert not list(home.root.glob("*.new-*"))


def check_take(home: Home, *, died: bool) -> None:
    """The database is as it was, each copy that is listed is whole, and the next one works."""
    listed = snapshot.snapshots(home)
    assert len(listed) in ((1, 2) if died else (2,))
    for copy in listed:
        assert snapshot._hash(home.backups / copy.file) == copy.blake3
    last = snapshot.take(home, reason="asked")
    assert meaning(home.backups / last.file) == FORMER
    assert not list(home.backups.glob(".new-*"))
    assert meaning(home.control_database) == FORMER


def main() -> None:
    """Step after step, until the operation is done before it would be killed."""
    what, directory = sys.argv[1], Path(sys.argv[2])
    assert in_child(lambda: template(directory)) == 0, "no template"
    for step in range(STEPS_MAX):
        root = directory / f"{what}-{step}"
        shutil.copytree(directory / "template", root)
        home = Home.at(root)
        (copy,) = snapshot.snapshots(home)

        def act(home: Home = home, file: str = copy.file) -> object:
            if what == "take":
                return snapshot.take(home, reason="asked")
            return snapshot.restore(home, home.backups / file)

        died = killed_at(step, root, act)
        check = check_take if what == "take" else check_restore
        status = in_child(lambda c=check, h=home, d=died: c(h, died=d))
        assert status == 0, f"step {step}"
        shutil.rmtree(root)
        if not died:
            print(step)
            return
    raise AssertionError("it never ended")


if __name__ == "__main__":
    main()
