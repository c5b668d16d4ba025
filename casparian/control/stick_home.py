"""A home while the program under it is replaced: asked through its sentinel, or through processes that hold its lock.

What the *new* program must do (start the sentinel, deploy what only it may know) is done by starting the new program: this
process is the old one, whatever the links say by now.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

from casparian import ids, processes
from casparian.appliance.service import manager
from casparian.appliance.stick.home_side import HomeCopy, ParserOutcome, outcome_of
from casparian.control import autostart, backups, draining
from casparian.control.client import Client
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.protocol import control

Say = Callable[[str], None]


class StickHome:
    """The home that goes with an installation.

    Args:
        home: it need not exist.
        say: told in a sentence what is waited for.
        wait_seconds: how long jobs may take to finish; `None`: as long as it takes.
    """

    def __init__(
        self, home: Home, say: Say = lambda _text: None, wait_seconds: float | None = None
    ) -> None:
        self.home = home
        self._say = say
        self._wait_seconds = wait_seconds

    def import_trust(self, documents: tuple[bytes, ...]) -> str:
        """Put newer roots and a policy into force; what happened."""
        request = control.ImportTrust(request_id=ids.new_request_id(), documents=documents)
        with autostart.connect(self.home, notice=self._say) as client:
            done = client.ask(request, control.Done)
        return str(done.message)

    def rest(self) -> bool:
        """Let jobs finish and the sentinel end; whether it was one that runs until it is stopped.

        Raises:
            Conflict: `sentinel.still_running`: the time is up; jobs go on as if nothing had been asked.
        """
        try:
            ended = draining.drain(self.home, self._say, timeout_seconds=self._wait_seconds)
        except BaseException:
            with contextlib.suppress(CasparianError):
                draining.resume(self.home)
            raise
        return ended is not None and not ended.on_demand

    def copy(self) -> HomeCopy | None:
        """Copy the control database into `HOME/backups`."""
        if not self.home.control_database.exists():
            return None
        return _copy_of(backups.backup(self.home, None))

    def state(self) -> HomeCopy | None:
        """What the control database holds now."""
        if not self.home.control_database.exists():
            return None
        with tempfile.TemporaryDirectory(prefix="casparian-state-", dir=self.home.root) as folder:
            return _copy_of(backups.backup(self.home, os.path.join(folder, "now.duckdb")))

    def copies(self) -> list[HomeCopy]:
        """The copies in `HOME/backups`, newest first."""
        return [_copy_of(found) for found in backups.backups(self.home)]

    def restore(self, file: str) -> str:
        """Put a copy in the database's place; where the newer one is now."""
        return str(backups.restore(self.home, file)["aside"])

    def wake(self, program: str) -> None:
        """Start the home's service, or a sentinel by a program, until it is stopped."""
        if manager.restart_after(self.home):
            return
        _ask(program, self.home, "sentinel", "start")

    def deploy(self, program: str, folder: str) -> list[ParserOutcome]:
        """Deploy every package in a folder; by ourselves when no program is named."""
        if not program:
            return deploy_folder(self.home, folder, self._say)
        document = _ask(program, self.home, "bundle", "deploy", folder)
        return [outcome_of(found) for found in document["parsers"]]


def deploy_folder(home: Home, folder: str, say: Say) -> list[ParserOutcome]:
    """Deploy every package in a folder into a home; each refusal is an outcome of its own."""
    from casparian.trust import state as states

    packages = sorted(name for name in os.listdir(folder) if name.endswith(".casparian"))
    if not packages:
        return []
    if states.load(home.trust).root is None:
        hint = "`casparian trust init --root STICK/trust/roots --fingerprint SHA256:…` from the card, then again"
        message = "not deployed: this home has no root of trust"
        return [
            ParserOutcome(
                package=name, outcome="refused", message=message, code="trust.no_root", hint=hint
            )
            for name in packages
        ]
    with autostart.connect(home, notice=say) as client:
        known = _deployed(client)
        return [_deploy(client, os.path.join(folder, name), known) for name in packages]


def _deploy(client: Client, path: str, known: set[str]) -> ParserOutcome:
    from casparian.trust.artifact import hash_artifact
    from casparian.trust.package import read_package

    name = os.path.basename(path)
    try:
        files, _ = read_package(path)
        artifact = hash_artifact(files)
        if artifact in known:  # also one that was retired here: that decision stands
            return ParserOutcome(
                package=name, outcome="present", message="is deployed here already"
            )
        request = control.Deploy(
            request_id=ids.new_request_id(), path=os.fsencode(path), artifact_hash=artifact
        )
        done = client.ask(request, control.Done)
    except CasparianError as error:
        return ParserOutcome(
            package=name, outcome="refused", message=error.message, code=error.code, hint=error.hint
        )
    return ParserOutcome(package=name, outcome="deployed", message=str(done.message))


def _deployed(client: Client) -> set[str]:
    reply = client.ask(control.Read(view="deployments", filters={}, limit=None), control.Rows)
    position = list(reply.columns).index("artifact_hash")
    return {str(row[position]) for row in reply.rows}


def _copy_of(found: dict[str, Any]) -> HomeCopy:
    # A copy that an older program has made knows no other end.
    end = "tape" if found.get("work_seq") is None else "work"
    return HomeCopy(
        file=found["file"],
        schema=found["schema"],
        tape_seq=found[f"{end}_seq"],
        tape_hash=found[f"{end}_hash"],
    )


def _ask(program: str, home: Home, *arguments: str) -> dict[str, Any]:
    """One command of a program, by its JSON."""
    try:
        done = subprocess.run(
            [program, "--home", str(home.root), "--json", *arguments],
            env=processes.host_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd="/",
        )
        document = json.loads(done.stdout)
    except (OSError, ValueError) as error:
        raise CasparianError(
            f"`casparian {' '.join(arguments[:2])}` of the new program gave no answer: {error}",
            code="stick.failed",
            hint="`casparian doctor`",
        ) from error
    if isinstance(document, dict) and isinstance(found := document.get("error"), dict):
        raise CasparianError(
            str(found.get("message")), code=str(found.get("code")), hint=found.get("hint")
        )
    assert isinstance(document, dict)
    return document
