"""Every error a user can meet: one root, a stable code, an exit code, a hint, its coordinates as fields.

    CasparianError
     +-- UsageError            2   the command or the configuration is wrong
     +-- SentinelUnreachable   3   no sentinel answers, or it speaks another version
     +-- Refused               4   trust or policy says no
     +-- ContractError         5   a contract, a parser manifest or a schema is broken
     +-- QuarantineLimit       6   more rows were set aside than the policy allows
     +-- IntegrityError        7   a hash, a ledger or a row does not verify
     +-- Conflict              8   the sink mode forbids what was asked
     +-- SourceFault           1   the evidence could not be read as it was found
     +-- RunFailed             1   the work was done, and part of it failed

Bad evidence is not an error of the program: it becomes a quarantined row or a file's disposition.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process's exit code says; documented in `docs/reference/exit-codes.md`."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    SENTINEL = 3
    REFUSED = 4
    CONTRACT = 5
    QUARANTINE = 6
    INTEGRITY = 7
    CONFLICT = 8
    BUG = 70
    INTERRUPTED = 130


class CasparianError(Exception):
    """Root of all errors with a meaning for the user.

    Args:
        message: what happened and where, one sentence, without a full stop.
        hint: what to do next, ideally a command.
        code: a more precise slug than the class's own.
        fields: the coordinates (path, key, job, table, …) as plain values for `--json`.
    """

    code = "casparian.error"
    exit_code = ExitCode.FAILED

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        **fields: str | int | None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code
        self.fields = fields


class UsageError(CasparianError):
    """The command line or a configuration file asks for something that cannot be."""

    code = "usage"
    exit_code = ExitCode.USAGE


class SentinelUnreachable(CasparianError):
    """No sentinel answers on this home, or it speaks another protocol version."""

    code = "sentinel.unreachable"
    exit_code = ExitCode.SENTINEL


class Refused(CasparianError):
    """Trust or policy forbids it."""

    code = "refused"
    exit_code = ExitCode.REFUSED


class ContractError(CasparianError):
    """A contract, a parser manifest or a schema is malformed or broken."""

    code = "contract.invalid"
    exit_code = ExitCode.CONTRACT


class QuarantineLimit(CasparianError):
    """More rows were quarantined than the policy allows."""

    code = "quarantine.limit"
    exit_code = ExitCode.QUARANTINE


class IntegrityError(CasparianError):
    """A hash, a ledger or a proven row does not verify."""

    code = "integrity"
    exit_code = ExitCode.INTEGRITY


class Conflict(CasparianError):
    """An output already exists under a sink mode that forbids adding to it."""

    code = "sink.exists"
    exit_code = ExitCode.CONFLICT


class SourceFault(CasparianError):
    """Evidence could not be read, or changed while it was read."""

    code = "source.unreadable"
    exit_code = ExitCode.FAILED


class RunFailed(CasparianError):
    """The work ran and some of it failed."""

    code = "run.failed"
    exit_code = ExitCode.FAILED


class SinkFault(CasparianError):
    """An output location cannot be written as asked."""

    code = "sink.fault"
    exit_code = ExitCode.FAILED


class ProtocolError(CasparianError):
    """A peer sent something that is not in the protocol."""

    code = "protocol"
    exit_code = ExitCode.SENTINEL
