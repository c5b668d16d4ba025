"""Every reason a source or a job can end with, and what may be done about it.

The kind is a type and the table is the only place that gives it: nobody looks at a message to decide.
`docs/reference/faults.md` is written from the table. Codes that a parser makes up (`parser.*`,
`source.*` of a decoder) and are not listed are permanent: the same bytes give them again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class FaultKind(StrEnum):
    """What happens after a fault."""

    TRANSIENT = "transient"  # the same work, unchanged, may succeed: tried again with back-off
    PERMANENT = "permanent"  # the same work gives the same fault: not tried again
    POISON = "poison"  # may stem from what the guest did before: once more, alone, then permanent


class Fault(msgspec.Struct, frozen=True):
    """One line of the table.

    Args:
        kind: what happens.
        meaning: one sentence without a full stop.
        remembered: a source that failed so is skipped under the same key until `--retry-failed`. False for
            faults of the place or the moment, which another run need not meet.
    """

    kind: FaultKind
    meaning: str
    remembered: bool


def _transient(meaning: str) -> Fault:
    return Fault(FaultKind.TRANSIENT, meaning, remembered=False)


def _permanent(meaning: str) -> Fault:
    return Fault(FaultKind.PERMANENT, meaning, remembered=True)


def _of_this_place(meaning: str) -> Fault:
    return Fault(FaultKind.PERMANENT, meaning, remembered=False)


def _poison(meaning: str) -> Fault:
    return Fault(FaultKind.POISON, meaning, remembered=True)


# fmt: off
FAULTS: Final[dict[str, Fault]] = {
    "bridge.invalid_account": _poison("the accounting guest sent an account that cannot be read"),
    "bridge.invalid_batch": _poison("the guest sent a batch that is malformed, forbidden or outside of the source"),
    "bridge.protocol": _poison("the guest broke the bridge's protocol"),
    "bridge.truncated": _poison("the guest closed the bridge, or ended, in the middle of a source"),
    "confinement.violation": _permanent("the guest made a system call that is forbidden to it, and was killed for it"),
    "contract.document": _permanent("the dataset's contract cannot be followed"),
    "contract.drift": _permanent("the file is laid out as no revision of its contract knows"),
    "contract.unique_limit": _permanent("the unique columns of the source have more values than are held in memory"),
    "contract.violation": _permanent("a row broke a rule of the contract whose action is to fail"),
    "db.write": _transient("the control database could not be written"),
    "engine.changed": _of_this_place("the program was replaced while the job waited"),
    "env.conflict": _permanent("a package of the parser's environment would take the place of one of the program's own"),
    "env.hash": _of_this_place("the wheelhouse has another file under the name of a locked package"),
    "env.incompatible": _of_this_place("the locked wheels are not made for this interpreter or machine"),
    "env.install": _of_this_place("a locked package could not be installed"),
    "env.io": _transient("the environment could not be written"),
    "env.missing": _of_this_place("the wheelhouse does not have a locked package"),
    "env.no_space": _transient("no space is left for the environment"),
    "env.record": _permanent("an installed package is not what its own list of files says"),
    "env.sdist": _of_this_place("the wheelhouse has a locked package only as source code, which is never built here"),
    "env.too_large": _of_this_place("the environment is larger than `environment_mb_max`"),
    "env.wheelhouse": _of_this_place("no wheelhouse is set, or it cannot be read"),
    "guest.confinement": _of_this_place("this machine lacks a step without which there is no guest"),
    "guest.crash": _poison("the guest died by a signal of its own making"),
    "guest.exit": _poison("the guest ended with an exit code"),
    "guest.fault": _poison("the guest died, hung or broke the protocol"),
    "guest.fork": _transient("the zygote could not fork a guest"),
    "guest.killed": _transient("somebody outside killed the guest, or its zygote died"),
    "guest.zygote": _transient("the zygote did not start"),
    "isolation.too_low": _of_this_place("guests are less confined on this machine than `min_isolation` asks for"),
    "isolation.unmeasured": _transient("the self-attacks could not be prepared"),
    "job.aborted": _of_this_place("the job was cancelled"),
    "job.fault": _of_this_place("the job as a whole could not go on"),
    "limit.cpu": _poison("the guest used up its processor time"),
    "limit.idle": _poison("nothing came from the guest for too long"),
    "limit.log": _poison("the parser printed more than its limit"),
    "limit.memory": _poison("the guest needed more memory than its limit, or than the machine had"),
    "limit.output": _permanent("the parser gave more bytes for one source than its limit"),
    "limit.rows": _permanent("the parser gave more rows for one source than its limit, or than its size allows"),
    "limit.wall": _permanent("the host waited for the guest longer than its limit for one source"),
    "parser.circuit_open": _of_this_place("the parser failed too often in a row and is not run for a while"),
    "parser.exception": _permanent("the parser raised an exception"),
    "parser.failed": _permanent("the parser gave up, and its reason is no code of ours"),
    "parser.load": _permanent("the parser could not be loaded"),
    "parser.output": _permanent("the parser gave what its contract does not have"),
    "parser.executable": _of_this_place("the parser's program is not made for this machine, or could not be started"),
    "parser.preload": _permanent("a module that the parser asks for could not be imported"),
    "promote.lost": _of_this_place("a staged file was gone before it was promoted"),
    "quarantine.limit": _permanent("more rows were set aside than the policy allows"),
    "sink.duckdb": _of_this_place("the output database refused"),
    "sink.exists": _of_this_place("the sink mode forbids adding to what is there"),
    "sink.file_system": _of_this_place("the sink's file system cannot promote without clobbering"),
    "sink.foreign": _of_this_place("the output database was not made by us"),
    "sink.io": _transient("the sink could not be written"),
    "sink.locked": _transient("another program holds the output database"),
    "sink.no_space": _transient("no space is left in the sink"),
    "sink.publish": _transient("the published copy of the output database could not be made"),
    "sink.refused": _of_this_place("the sink's directory refuses"),
    "sink.unreadable": _transient("a file in the sink could not be read"),
    "sink.schema": _of_this_place("the output database has a table of other columns"),
    "source.changed": _of_this_place("the evidence is not what discovery recorded"),
    "source.failed": _of_this_place("no source of the job could be worked on"),
    "source.unreadable": _of_this_place("the evidence could not be read"),
    "staging.denied": _of_this_place("the stage may not be written"),
    "staging.encode": _of_this_place("rows could not be written in the sink's format"),
    "staging.fsync": _of_this_place("staged files could not be made durable; an fsync is never tried again"),
    "staging.io": _transient("the stage could not be written"),
    "staging.no_space": _transient("no space is left for the stage"),
    "trust.artifact_changed": _permanent("the parser's files are not those that were planned"),
    "trust.expired": _of_this_place("a signature of the parser, or the policy, has expired"),
    "trust.no_policy": _of_this_place("no policy is in force that could vouch for the parser"),
    "trust.out_of_scope": _of_this_place("who signed the parser may not sign parsers of this name"),
    "trust.revoked_artifact": _of_this_place("the parser was revoked"),
    "trust.revoked_key": _of_this_place("the key that signed the parser was revoked"),
    "trust.tampered": _of_this_place("the parser's files are not those that were signed"),
    "trust.threshold": _of_this_place("too few of those who may sign the parser have signed it"),
    "trust.unknown_signer": _of_this_place("nobody whom the policy names has signed the parser"),
    "trust.unsigned": _of_this_place("nobody has signed the parser"),
    "worker.bug": _transient("a fault of the worker itself"),
    "worker.lost": _transient("the worker ended, or was silent past its lease"),
    "worker.receipt": _of_this_place("the worker's receipt contradicts the job"),
    "worker.unstartable": _of_this_place("no worker could be started"),
}
# fmt: on

_PARSER_FAMILIES: Final = frozenset({"parser", "guest", "limit", "bridge", "confinement"})
_PASSING_FAMILIES: Final = frozenset({"source", "worker", "staging", "sink", "job", "trust"})


def kind_of(code: str) -> FaultKind:
    """What happens after a fault of this code, when its author does not say more."""
    fault = FAULTS.get(code)
    return FaultKind.PERMANENT if fault is None else fault.kind


def is_remembered(code: str) -> bool:
    """Whether a source that failed so for good is skipped under the same key until `--retry-failed`."""
    fault = FAULTS.get(code)
    if fault is not None:
        return fault.remembered or fault.kind is FaultKind.POISON
    return code.split(".", 1)[0] not in _PASSING_FAMILIES


def speaks_against_parser(code: str) -> bool:
    """Whether a job that failed so failed by its parser's own doing, and would with any evidence like it."""
    if code.split(".", 1)[0] not in _PARSER_FAMILIES or not is_remembered(code):
        return False
    return kind_of(code) is not FaultKind.TRANSIENT


def meaning_of(code: str | None) -> str:
    """One sentence, or nothing for a code that is a parser's own."""
    fault = FAULTS.get(code or "")
    return "" if fault is None else fault.meaning
