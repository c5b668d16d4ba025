"""What a reason code means, in one line. A code's own line wins over its family's (`guest.crash` over `guest`)."""

from __future__ import annotations

from typing import Final

_LINES: Final = {
    "bridge": "the parser's process broke the protocol between guest and host",
    "confinement": "the parser did what its confinement forbids",
    "contract": "the rows do not fit the table's contract",
    "db": "the control database could not be written",
    "engine": "the native engine changed while the job waited",
    "guest": "the parser's process ended before its work was done",
    "guest.crash": "the parser's process crashed, twice on the same file",
    "guest.killed": "the parser's process was killed from outside",
    "job": "the job was cancelled",
    "limit": "the parser went over one of its limits",
    "parser": "the parser gave up on every file of the job",
    "parser.circuit_open": "not tried: this parser failed too often in a row",
    "promote": "staged files were gone or altered when they were to be committed",
    "quarantine": "more rows were set aside than the policy allows; the quarantine is kept",
    "sink": "the output location refused the files, or could not be read",
    "sink.exists": "the rows are in the sink already",
    "sink.locked": "another program held the sink for too long",
    "source": "the evidence could not be read as it was found",
    "staging": "the files could not be written next to the outputs",
    "staging.fsync": "the disk did not confirm a write; check it before trying again",
    "staging.no_space": "no space was left next to the outputs",
    "trust": "the parser changed, or may not run here",
    "worker.lost": "its worker process ended, every time it was tried",
    "worker": "the worker process could not do its part",
}


def meaning(code: str | None) -> str:
    """One line about a reason code; empty for a code of an unknown family."""
    if not code:
        return ""
    return _LINES.get(code) or _LINES.get(code.partition(".")[0], "")
