"""The environments that a worker has in use, by their hash. For one thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from casparian.contracts.requirements import Requirement, from_lines, read_lock
from casparian.errors import ContractError
from casparian.paths import Home
from casparian.protocol import identity
from casparian.protocol.worker import ParserTask
from casparian.worker import environment
from casparian.worker.cancel import Cancellation
from casparian.worker.environment import Environment, Say
from casparian.worker.faults import JobFault

_IN_USE_MAX: Final = (
    4  # those used before may be removed; a zygote that lives has loaded what it needs
)


class Environments:
    """Prepares what a job needs, and keeps it from being removed."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._open: dict[str, Environment] = {}  # the last used one is the last

    def of(
        self, files: Mapping[str, bytes], parser: ParserTask, cancellation: Cancellation
    ) -> Environment:
        """The environment of a parser: its lock is read from the verified files, and must be the one that was planned.

        Raises:
            JobFault: `trust.artifact_changed`, or a code of the family `env`.
        """
        try:
            requirements = read_lock(files.get(parser.environment, b""), file=parser.environment)
        except ContractError as error:
            raise JobFault("trust.artifact_changed", error.message) from error
        if tuple(one.line for one in requirements) != parser.requirements:
            raise JobFault(
                "trust.artifact_changed",
                f"the lock of `{parser.name}` is not the one that was planned",
            )
        return self._have(requirements, cancellation, lambda _text: None)

    def prepare(
        self, env_hash: str, lines: Sequence[str], cancellation: Cancellation, say: Say
    ) -> Environment:
        """The environment that the sentinel asks for.

        Raises:
            JobFault: a code of the family `env`.
        """
        try:
            requirements = from_lines(tuple(lines))
        except ContractError as error:
            raise JobFault("env.install", error.message) from error
        if identity.environment_hash(lines) != env_hash:
            raise JobFault("env.install", "the requirements are not those of this environment")
        return self._have(requirements, cancellation, say)

    def _have(
        self, requirements: Sequence[Requirement], cancellation: Cancellation, say: Say
    ) -> Environment:
        env_hash = identity.environment_hash(one.line for one in requirements)
        found = self._open.pop(env_hash, None)
        if found is None:
            found = environment.prepare(self._home, requirements, cancellation, say)
        self._open[env_hash] = found
        while len(self._open) > _IN_USE_MAX:
            self._open.pop(next(iter(self._open))).close()
        return found

    def close(self) -> None:
        """None is in use any more."""
        for one in self._open.values():
            one.close()
        self._open.clear()
