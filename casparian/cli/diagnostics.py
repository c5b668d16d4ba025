"""How a command that did not succeed ends: what happened, why, a hint, a code; and the exit code.

With `--json` the same goes to stdout as one document. An unexpected exception is a bug: exit code
70 and a report in `HOME/logs` that holds where it happened and never what the evidence said.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final

import click

import casparian
from casparian import clock
from casparian.cli.framework import peek
from casparian.cli.output import SCHEMA_VERSION, to_json
from casparian.display import show
from casparian.errors import CasparianError, ExitCode
from casparian.paths import Home, default_home

_DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


def end(error: BaseException, arguments: Sequence[str]) -> int:
    """Report an error in the way the command line asked for and return the exit code."""
    given = peek(arguments)
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        _drop_stdout()
        return int(ExitCode.DONE)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(ExitCode.FAILED)
    document: dict[str, Any]
    if isinstance(error, KeyboardInterrupt | click.Abort):
        code = ExitCode.INTERRUPTED
        document = {"code": "interrupted", "message": "interrupted", "hint": None}
    elif isinstance(error, click.ClickException):
        code = ExitCode.USAGE
        document = {"code": "usage", "message": error.format_message(), "hint": _help_hint(error)}
    elif isinstance(error, CasparianError):
        code = error.exit_code
        document = {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            **error.fields,
        }
    elif isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        code = ExitCode.FAILED
        document = {
            "code": "io",
            "message": error.strerror or "input or output failed",
            "hint": None,
        }
    else:
        code = ExitCode.BUG
        document = _bug(error, given.home, arguments)
    document["exit_code"] = int(code)
    if given.verbose > 1:
        traceback.print_exception(error, file=sys.stderr)
    with contextlib.suppress(BrokenPipeError):
        if given.json:
            sys.stdout.write(to_json({"schema_version": SCHEMA_VERSION, "error": document}) + "\n")
            sys.stdout.flush()
        else:
            sys.stderr.write(text_of(document))
    return int(code)


def text_of(document: dict[str, Any]) -> str:
    """An error as text: what happened, its coordinates, the hint, the code."""
    head, *more = str(document["message"]).splitlines() or [""]
    lines = [f"error: {show(head)}", *(f"  {show(line)}" for line in more)]
    known = {"code", "message", "hint", "exit_code"}
    coordinates = {
        key: value for key, value in document.items() if key not in known and value is not None
    }
    width = max(map(len, coordinates), default=0)
    lines += [
        f"  {key.ljust(width)}  {show(str(value))}"
        for key, value in coordinates.items()
        if str(value) not in head
    ]
    if document["hint"]:
        lines.append(f"hint: {show(document['hint'])}")
    lines.append(f"code: {document['code']}")
    return "\n".join(lines) + "\n"


def _help_hint(error: click.ClickException) -> str:
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "casparian"
    return f"`{path} --help` shows what it takes"


def _bug(error: BaseException, home: str | None, arguments: Sequence[str]) -> dict[str, Any]:
    report = _write_report(error, Home.at(home if home is not None else default_home()), arguments)
    return {
        "code": "bug",
        "message": f"unexpected {type(error).__name__}: {error}",
        "hint": "this is a fault of the program; the report says where it happened",
        "report": report,
    }


def _write_report(error: BaseException, home: Home, arguments: Sequence[str]) -> str | None:
    """Write where the error arose, without its message or any value: those could be evidence."""
    now_ns = clock.now_ns()
    frames = traceback.extract_tb(error.__traceback__)
    lines = [
        f"casparian {casparian.__version__}",
        f"time      {clock.iso(now_ns)}",
        f"python    {platform.python_version()} on {platform.platform()}",
        f"options   {' '.join(word.split('=')[0] for word in arguments if word.startswith('-'))}",
        f"error     {type(error).__module__}.{type(error).__qualname__}",
        *(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames),
    ]
    path = os.path.join(home.logs, f"crash-{now_ns}-{os.getpid()}.txt")
    try:
        os.makedirs(home.logs, exist_ok=True)
        with open(path, "x", encoding="utf-8") as handle:
            handle.write("\n".join(lines) + "\n")
    except OSError:
        return None
    return path


def _drop_stdout() -> None:
    """The reader went away: let the interpreter's last flush go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
