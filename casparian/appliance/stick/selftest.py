"""Have a staged program prove itself before it is switched to: in a home of its own, on evidence that it brought."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any, Final

from casparian import processes
from casparian.appliance.stick.refusals import refused
from casparian.display import show
from casparian.paths import HOME_VARIABLE

SECONDS_MAX: Final = 900  # a slow disk and a busy machine; an endless loop is found all the same
_SAID_MAX: Final = 600


def run(version: str) -> dict[str, Any]:
    """Run `bundle self-test` of the program in a version's folder; what it found.

    Raises:
        Refused: `stick.self_test`.
    """
    environment = processes.host_environment()
    environment.pop(HOME_VARIABLE, None)
    program = os.path.join(version, "bin", "casparian")
    try:
        child = subprocess.Popen(
            [program, "--json", "bundle", "self-test"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise refused(
            "stick.self_test", f"the new program cannot be started: {error.strerror or error}"
        ) from error
    try:
        out, err = child.communicate(timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired as error:
        raise refused(
            "stick.self_test", f"the new program did not end its test within {SECONDS_MAX} s"
        ) from error
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    found = _document(out)
    if child.returncode != 0 or found is None or not found.get("passed"):
        raise refused("stick.self_test", f"the new program did not pass: {_reason(found, err)}")
    return found


def _document(out: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(out)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _reason(found: dict[str, Any] | None, err: bytes) -> str:
    if found is not None:
        error = found.get("error")
        if isinstance(error, dict) and error.get("message"):
            return show(str(error["message"]))
        failed = [
            str(item.get("message"))
            for item in found.get("checks") or ()
            if isinstance(item, dict) and not item.get("passed")
        ]
        if failed:
            return show("; ".join(failed))
    said = err.decode("utf-8", "backslashreplace").strip()[-_SAID_MAX:]
    return show(said.replace("\n", "; ")) or "it gave no reason"
