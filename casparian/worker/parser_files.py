"""The parser that a job runs: its files, read once, hashed and verified; nothing else is ever handed to a guest.

The sentinel's word that the parser is trusted is not enough: trust may have changed since the job was planned. So the worker
reads `HOME/trust` and verifies the statement again, for the very bytes that it will hand over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from casparian.domain.trust import TrustRecord
from casparian.errors import CasparianError, Refused
from casparian.paths import Home
from casparian.protocol.worker import ParserTask
from casparian.trust import verdict
from casparian.trust.artifact import hash_artifact, read_signed
from casparian.worker.faults import JobFault

Judge = Callable[[ParserTask, Mapping[str, bytes], bytes | None], TrustRecord]
_CHANGED: Final = "trust.artifact_changed"


def judge_of(home: Home) -> Judge:
    """Verify a parser against the trust of a home."""

    def judge(
        parser: ParserTask, files: Mapping[str, bytes], statement: bytes | None
    ) -> TrustRecord:
        return verdict.verify_files(
            home,
            name=parser.name,
            directory=parser.directory,
            files=files,
            statement=statement,
        )

    return judge


def as_the_caller_says(home: Home) -> Judge:
    """For a worker that one caller started for one job of which nothing is recorded: the caller has verified the same bytes."""
    verified = judge_of(home)

    def judge(
        parser: ParserTask, files: Mapping[str, bytes], statement: bytes | None
    ) -> TrustRecord:
        return parser.trust or verified(parser, files, statement)

    return judge


def load(parser: ParserTask, judge: Judge) -> tuple[dict[str, bytes], TrustRecord]:
    """The files of a job's parser, and the verdict on them.

    Raises:
        JobFault: `trust.artifact_changed`: what runs must be what was planned; `trust.…`: it may not run, or not any more.
    """
    try:
        files, statement = read_signed(parser.directory)
    except (OSError, CasparianError) as error:
        raise JobFault(_CHANGED, f"the parser `{parser.name}` cannot be read: {error}") from error
    if hash_artifact(files) != parser.artifact_hash:
        raise JobFault(_CHANGED, f"the parser `{parser.name}` changed since it was planned")
    try:
        return files, judge(parser, files, statement)
    except Refused as error:
        raise JobFault(error.code, error.message, transient=False) from error
