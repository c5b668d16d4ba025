"""A parser's modules are compiled once in a worker, not in each of its guests: compiling takes longer than most small jobs.

A guest of its own does it: confined as every guest is, it is given the verified bytes and no evidence, and runs nothing of them.
What it sends back is bytes to the host, which never loads them; they go, beside the sources, to guests that run the same artifact
and could run anything its author wrote anyway. So nothing passes from one source of evidence to another, nor from one parser to
another. Failing to compile fails no job: its guest compiles for itself, and says what is wrong where it always did.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import structs

from casparian.protocol.guest import GuestJob
from casparian.worker.cancel import Cancellation
from casparian.worker.faults import GuestFault, JobFault
from casparian.worker.session import CompileSession

_log = logging.getLogger(__name__)
_USES_MIN: Final = 2  # one job alone is sooner done without
_ARTIFACTS_MAX: Final = 64
_BYTES_MAX: Final = 16 * 1024 * 1024  # of all artifacts together

Start = Callable[[GuestJob], CompileSession]


class CompiledParsers:
    """Code of the artifacts that this worker ran, by artifact hash. For one thread."""

    def __init__(self) -> None:
        self._uses: dict[str, int] = {}  # the last used one is the last
        self._made: dict[str, dict[str, bytes]] = {}

    def of(
        self, artifact_hash: str, job: GuestJob, start: Start, cancellation: Cancellation
    ) -> Mapping[str, bytes]:
        """Code for the guests of a job, by path; empty when they compile for themselves.

        Args:
            artifact_hash: of `job.files`, which were verified against it.
            job: what the parsing guest will be told.
            start: begins the conversation with a guest that compiles.
            cancellation: of the job that waits.

        Raises:
            Cancelled: the job was cancelled meanwhile.
        """
        uses = self._uses.pop(artifact_hash, 0) + 1
        self._uses[artifact_hash] = uses
        if uses == _USES_MIN:
            self._made[artifact_hash] = self._compile(job, start, cancellation)
            self._make_room()
        return self._made.get(artifact_hash, {})

    def _compile(self, job: GuestJob, start: Start, cancellation: Cancellation) -> dict[str, bytes]:
        session: CompileSession | None = None
        try:
            session = start(structs.replace(job, task="compile"))
            made = session.result()
            session.finish()
        except (GuestFault, JobFault) as fault:
            cancellation.check()
            _log.warning("a parser is not compiled ahead: %s", fault.message)
            return {}
        finally:
            if session is not None:
                session.close()
        return made

    def _make_room(self) -> None:
        """Forget what was used longest ago."""
        for artifact_hash in list(self._uses):
            size = sum(len(code) for made in self._made.values() for code in made.values())
            if len(self._uses) <= _ARTIFACTS_MAX and size <= _BYTES_MAX:
                return
            del self._uses[artifact_hash]
            self._made.pop(artifact_hash, None)
