"""Run the commands of a documentation page, and check that they say what the page says.

python docs/walkthrough.py docs/tutorial/signed-parser.md

The page's blocks are one script, run by `sh -e` in a new directory:
    sh      commands. A line that begins with `! ` must fail.
    text    what the block before must have printed, line by line and in this order; `…` stands for anything
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

_BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Step(NamedTuple):
    """One block of commands, and what it must print."""

    commands: str
    expected: tuple[str, ...]


class WalkthroughError(Exception):
    """A page does not say what happens."""


def steps_of(page: Path) -> list[Step]:
    """The steps of a page, in order."""
    steps: list[Step] = []
    for kind, body in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "sh":
            steps.append(Step(body, ()))
        elif steps:
            lines = tuple(line.strip() for line in body.splitlines() if line.strip())
            steps[-1] = steps[-1]._replace(expected=(*steps[-1].expected, *lines))
    if not steps:
        raise WalkthroughError(f"`{page}` has no commands")
    return steps


def walk(page: Path, directory: Path, *, loud: bool = False) -> str:
    """Run a page in a directory; everything that was printed.

    Raises:
        WalkthroughError: a command failed, or did not print what the page says.
    """
    programs = os.path.dirname(sys.executable)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CASPARIAN_")
    }
    environment |= {
        "PATH": f"{programs}{os.pathsep}{environment['PATH']}",
        "HOME": str(directory),
        "NO_COLOR": "1",
    }
    printed = []
    state = directory / ".environment"
    state.write_text("")
    for step in steps_of(page):
        # What one block exports holds in the next.
        commands = re.sub(
            r"^! (.*)$",
            r"if \1; then echo 'did not fail'; exit 99; fi",
            step.commands,
            flags=re.MULTILINE,
        )
        script = f". {state}\nset -e\n{commands}\nexport -p > {state}\n"
        if loud:
            sys.stdout.write("".join(f"$ {line}\n" for line in step.commands.splitlines()))
            sys.stdout.flush()
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
        if loud:
            sys.stdout.write(f"{done.stdout}\n")
        printed.append(done.stdout)
        if done.returncode != 0:
            raise WalkthroughError(
                f"exit {done.returncode} of\n{step.commands}\n{done.stdout[-3000:]}"
            )
        _check(step, done.stdout)
    return "".join(printed)


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
