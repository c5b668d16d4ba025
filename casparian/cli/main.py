"""The list of commands, imported only when one is asked for, and the way every one of them ends.

Start-up is a feature: `--help` and completion import neither a command nor anything heavy. The
short help in this list is what a command says about itself; a test compares the two.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import click

import casparian
from casparian.cli.framework import GLOBAL_HELP, Command, Group, output_of


class Entry(NamedTuple):
    """Where a command lives and what it is for."""

    section: str
    module: str
    help: str


COMMANDS: Final[dict[str, Entry]] = {
    "demo": Entry(
        "Evidence to tables",
        "demo",
        "Build a small case and take it from evidence to a proven row.",
    ),
    "scan": Entry("Evidence to tables", "scan", "Discover a directory: walk, hash, identify, tag."),
    "run": Entry("Evidence to tables", "run", "Take a directory of evidence to committed tables."),
    "query": Entry("Tables", "query", "Ask committed tables a question in SQL."),
    "show": Entry("Tables", "show", "Show a row column by column, or its event as Windows has it."),
    "outputs": Entry("Tables", "outputs", "List committed output files."),
    "quarantine": Entry(
        "Tables", "quarantine", "See what was set aside and why, and decide what becomes of it."
    ),
    "ledger": Entry("Proof", "ledger", "Show for each source what was there and where it went."),
    "why": Entry("Proof", "why", "Prove a row: read its bytes again and derive it again."),
    "verify": Entry(
        "Proof",
        "verify",
        "Compare committed rows with the evidence, or with what independent readers find.",
    ),
    "lineage": Entry(
        "Proof", "lineage", "Show the chain from a row, file or table to its evidence."
    ),
    "explain": Entry("Proof", "explain", "Say why a file was or was not processed."),
    "files": Entry("Catalogue", "files", "List catalogued files with tags and hashes."),
    "tag": Entry("Catalogue", "tag", "Tag files by hand."),
    "rule": Entry("Catalogue", "rule", "Tag files by pattern."),
    "pipeline": Entry("Catalogue", "pipeline", "See which files a selection takes."),
    "jobs": Entry("Work", "jobs", "List, show, cancel and retry jobs."),
    "approve": Entry("Work", "approve", "Decide what is trusted here."),
    "contract": Entry("Work", "contract", "See what tables promise, and ask for a change."),
    "parser": Entry("Work", "parser", "List, show, test, make, sign, deploy and retire parsers."),
    "env": Entry("Work", "env", "Prepare the packages that parsers import, and make room."),
    "trust": Entry("Trust", "trust", "Decide who may sign what: keys, root, policy, revocation."),
    "sentinel": Entry("Runtime", "sentinel", "Start, stop and look at the sentinel."),
    "service": Entry("Runtime", "service", "Run the sentinel as a service of systemd."),
    "doctor": Entry("Runtime", "doctor", "Check this machine, this home and its outputs."),
    "bundle": Entry(
        "Runtime",
        "bundle",
        "Check a stick, install from it, update, roll back, verify what is installed.",
    ),
    "uninstall": Entry(
        "Runtime",
        "uninstall",
        "Remove the program and its services from this machine; homes, tables and evidence stay.",
    ),
    "config": Entry("Runtime", "config", "Show and change settings."),
    "completion": Entry("Runtime", "completion", "Print the completion script for a shell."),
}


class RootGroup(Group):
    """The program: commands by section, imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All commands, in the order of the list."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import one command's module."""
        entry = COMMANDS.get(name)
        if entry is None:
            return None
        module = importlib.import_module(f"casparian.cli.commands.{entry.module}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the commands by section, without importing one."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in COMMANDS.items():
            sections.setdefault(entry.section, []).append((name, entry.help.rstrip(".")))
        width = max(map(len, COMMANDS))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])


@click.command(
    cls=RootGroup,
    name="casparian",
    epilog="Start with `casparian demo`, or with `casparian run DIR` on a copy of your evidence.",
)
@click.version_option(casparian.__version__, message="casparian %(version)s")
def root() -> None:
    """Evidence in, typed tables out, and a proof of how each row came to be."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line to its end and return the exit code.

    Nothing escapes: errors become text on stderr, or one document on stdout with `--json`.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without UTF-8 gets escapes, not a crash
            stream.reconfigure(errors="backslashreplace")
    try:
        result: Any = root.main(args=list(arguments), prog_name="casparian", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  (the process boundary: it is reported)
        from casparian.cli import diagnostics

        return diagnostics.end(error, arguments)
    return result if isinstance(result, int) else 0


__all__ = ["COMMANDS", "GLOBAL_HELP", "Command", "output_of", "root", "run"]
