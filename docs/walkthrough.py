"""Run the commands of a documentation page, and check that they say what the page says.

python docs/walkthrough.py docs/tutorial/signed-parser.md

The page's blocks are one script, run by `sh -e` in a new directory:
    sh      commands. A line that begins with `! ` must fail.
    text    what the block before must have printed, line by line and in this order; `…` stands for anything
A page that is about several machines names them: `sh connected`, `sh disconnected`. Each has a state of its own, and
the caller says how its commands are run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

_BLOCK = re.compile(r"^```(sh|text)(?: ([a-z]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Step(NamedTuple):
    """One block of commands, and what it must print."""

    commands: str
    expected: tuple[str, ...]
    machine: str = ""  # on which it runs; empty where there is one alone


class Ended(NamedTuple):
    """How a script ended."""

    code: int
    output: str  # both streams, in order


Shell = Callable[[str], Ended]  # runs a script by a machine's `sh`


class WalkthroughError(Exception):
    """A page does not say what happens."""


def steps_of(page: Path) -> list[Step]:
    """The steps of a page, in order."""
    steps: list[Step] = []
    for kind, machine, body in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "sh":
            steps.append(Step(body, (), machine))
        elif steps:
            lines = tuple(line.strip() for line in body.splitlines() if line.strip())
            steps[-1] = steps[-1]._replace(expected=(*steps[-1].expected, *lines))
    if not steps:
        raise WalkthroughError(f"`{page}` has no commands")
    return steps


def walk(
    page: Path,
    directory: Path,
    *,
    loud: bool = False,
    machines: Mapping[str, tuple[Shell, str]] | None = None,
) -> str:
    """Run a page in a directory; everything that was printed.

    Args:
        page: the page.
        directory: where commands run that name no machine.
        loud: show commands and what they print as they go.
        machines: how scripts run on each machine that the page names, and a file there that keeps what they export.

    Raises:
        WalkthroughError: a command failed, or did not print what the page says.
    """
    shells = dict(machines or {})
    shells.setdefault("", (_here(directory), str(directory / ".environment")))
    known = set()
    printed = []
    for step in steps_of(page):
        if step.machine not in shells:
            raise WalkthroughError(f"`{page}`: no machine is called `{step.machine}` here")
        run, state = shells[step.machine]
        # What one block exports holds in the next.
        commands = re.sub(
            r"^! (.*)$",
            r"if \1; then echo 'did not fail'; exit 99; fi",
            step.commands,
            flags=re.MULTILINE,
        )
        before = f". {state}\n" if step.machine in known else ""
        known.add(step.machine)
        if loud:
            at = f"{step.machine}$" if step.machine else "$"
            sys.stdout.write("".join(f"{at} {line}\n" for line in step.commands.splitlines()))
            sys.stdout.flush()
        ended = run(f"{before}set -e\n{commands}\nexport -p > {state}\n")
        if loud:
            sys.stdout.write(f"{ended.output}\n")
        printed.append(ended.output)
        if ended.code != 0:
            raise WalkthroughError(f"exit {ended.code} of\n{step.commands}\n{ended.output[-3000:]}")
        _check(step, ended.output)
    return "".join(printed)


def _here(directory: Path) -> Shell:
    """This machine, with the program that runs this."""
    programs = os.path.dirname(sys.executable)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CASPARIAN_")
    }
    environment |= {
        "PATH": f"{programs}{os.pathsep}{environment['PATH']}",
        "HOME": str(directory),
        "NO_COLOR": "1",
    }

    def run(script: str) -> Ended:
        done = subprocess.run(
            ["sh"],
            input=script,
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Ended(done.returncode, done.stdout)

    return run


def _check(step: Step, output: str) -> None:
    lines = iter(output.splitlines())
    for expected in step.expected:
        pattern = ".*".join(re.escape(part) for part in re.split(r"\s*…\s*", expected))
        if not any(re.search(pattern, line) for line in lines):
            raise WalkthroughError(
                f"`{expected}` was not printed by\n{step.commands}\n{output[-3000:]}"
            )


def main() -> int:
    """Run the pages that the command line names, loudly."""
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory(prefix="casparian-walkthrough-") as directory:
            walk(Path(name), Path(directory), loud=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
