"""Kill a change of trust at each of its durable steps, then start again and say what is there.

    python trust_steps.py DIRECTORY (deploy|import)

One line of JSON a step: its number, whether the change was cut, what the home holds after the next start. The last line is of a
change that nothing cut. Children are forked from a process without threads, and killed: nothing of theirs is cleaned up.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from casparian import processes  # noqa: F401 - all that children need is loaded before they are forked
from casparian.db import reads
from casparian.db.connection import ControlDatabase
from casparian.db.writer import DatabaseWriter
from casparian.paths import Home
from casparian.protocol import control
from casparian.sentinel.effects import ChangeTrust
from casparian.sentinel.io.mailbox import Mailbox
from casparian.sentinel.io.trusting import Trusting
from casparian.sentinel.io.writer import Writer
from casparian.trust import package, store, verdict, verify  # noqa: F401
from casparian.trust import state as states
from casparian.trust.artifact import hash_artifact, read_artifact
from tests.factories.laboratory import Laboratory

STEPS_MAX = 500


class _Steps:
    """Counts durable calls; dies before or after the one that it is told."""

    def __init__(self, fatal: int) -> None:
        self.done = 0
        self.fatal = fatal

    def watch(self, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        @functools.wraps(real)
        def call(*arguments: Any, **named: Any) -> Any:
            self._step()
            result = real(*arguments, **named)
            self._step()
            return result

        setattr(owner, name, call)

    def _step(self) -> None:
        self.done += 1
        if self.done == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def with_home(directory: Path, act: Callable[[Trusting, Any], Any]) -> Any:
    """Open a home as the sentinel does, act, close it."""
    home = Home.at(directory)
    home.root.mkdir(exist_ok=True)
    with ControlDatabase(home) as database:
        mailbox = Mailbox()
        writer = Writer(DatabaseWriter(database.writer), mailbox)
        reader = database.reader()
        trusting = Trusting(home, reader, writer)
        trusting.settle()
        try:
            return act(trusting, reader)
        finally:
            writer.close()
            mailbox.close()


def carry_out(trusting: Trusting, request: Any) -> None:
    """One change, which must not be refused."""
    effect = ChangeTrust(client_id=1, number=1, actor="a test", request=request)
    changed = trusting.carry_out(effect)
    assert isinstance(changed.reply, control.Done), changed.reply


def found(directory: Path) -> dict[str, Any]:
    """What a home holds once it has been started."""
    home = Home.at(directory)

    def look(_trusting: Trusting, reader: Any) -> dict[str, Any]:
        state = states.load(home.trust)
        store_folder = home.artifacts
        folders = sorted(p.name for p in store_folder.glob("*")) if store_folder.exists() else []
        return {
            "rows": [d.artifact_hash for d in reads.deployments(reader)],
            "index": [d.artifact_hash for d in store.read_index(store_folder)],
            "folders": [name for name in folders if name != store.INDEX_FILE],
            "whole": all(
                hash_artifact(read_artifact(str(store_folder / d.artifact_hash))) == d.artifact_hash
                and (store_folder / d.artifact_hash / "statement.dsse.json").is_file()
                for d in reads.deployments(reader)
            ),
            "serials": {name: floor.serial for name, floor in state.floors.serials.items()},
            "policies": [v for kind, v, _ in reads.trust_documents(reader) if kind == "policy"],
            "policy": state.policy_version,
            "replies": len(reads.recent_replies(reader, 10)),
        }

    return with_home(directory, look)


def in_child(act: Callable[[], Any]) -> tuple[bool, str]:
    """Whether a child came to its end, and what it said."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            os.write(writing, json.dumps(act()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, f"a child ended with {status}"
    return not killed, said


def main() -> None:
    """Go through all steps of one change."""
    directory, kind = Path(sys.argv[1]), sys.argv[2]
    laboratory = Laboratory(directory)
    start = directory / "start"
    trust = control.ImportTrust(
        request_id="0",
        documents=(laboratory.root, laboratory.policy()),
        fingerprint=laboratory.fingerprint,
    )
    in_child(lambda: with_home(start, lambda trusting, _: carry_out(trusting, trust)))
    built = laboratory.signed(laboratory.parser())
    files, _ = package.read_package(str(built))
    request: Any = control.Deploy(
        request_id="1", path=str(built).encode(), artifact_hash=hash_artifact(files)
    )
    if kind == "import":
        request = control.ImportTrust(request_id="1", documents=(laboratory.policy(2),))

    def change(home: Path, fatal: int) -> None:
        def act(trusting: Trusting, _reader: Any) -> None:
            steps = _Steps(fatal)
            for name in ("fsync", "rename", "replace", "mkdir"):
                steps.watch(os, name)
            steps.watch(DatabaseWriter, "apply")
            carry_out(trusting, request)

        with_home(home, act)

    for fatal in range(1, STEPS_MAX):
        home = directory / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(start, home)
        complete, _ = in_child(functools.partial(change, home, fatal))
        _, said = in_child(functools.partial(found, home))
        print(json.dumps({"step": fatal, "complete": complete, **json.loads(said)}), flush=True)
        if complete:
            return
    raise AssertionError("it does not end")


if __name__ == "__main__":
    main()
