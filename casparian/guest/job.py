"""One job inside the guest: load the parser, take sources one by one, answer each with batches or an account.

A parser's exception ends its source, not the guest. Its message (type, text, line) goes to the host
as text; the traceback goes to the log pipe. Running out of memory ends the source with
`limit.memory`.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from casparian import _native
from casparian.guest.accountants import walk_of
from casparian.guest.bridge import Bridge, HostGone
from casparian.guest.descriptors import close_all
from casparian.guest.importer import compiled_modules
from casparian.guest.input import Input
from casparian.guest.self_attack import attack
from casparian.protocol.frame import Opcode
from casparian.protocol.guest import (
    JOB_INDEX,
    Attacked,
    Compiled,
    GuestJob,
    GuestSource,
    GuestSources,
    Ready,
    SourceFailed,
)
from casparian.sdk.rows import OutputError

_MESSAGE_CHARACTERS_MAX: Final = 2_000

Work = Callable[[Input], None]
GroupWork = Callable[[list[Input]], None]


class Works(NamedTuple):
    """What to do with a source, and with several small ones at once."""

    one: Work
    several: GroupWork


def run_job(bridge: Bridge, isolation: dict[str, str]) -> None:
    """Serve one job until the host says FINISH or goes away."""
    opcode, payload, descriptors = bridge.receive()
    close_all(descriptors)
    if opcode is not Opcode.BRIDGE_JOB:
        raise RuntimeError(f"expected a job, got {opcode.name}")
    job = msgspec.msgpack.decode(payload, type=GuestJob)
    try:
        works = _prepare(job, bridge)
    except Exception as error:  # noqa: BLE001 - the border to a parser's code: recorded with the job
        traceback.print_exc()
        bridge.send(Opcode.BRIDGE_FAILED, _failure(JOB_INDEX, error, code="parser.load"))
        return
    bridge.send(Opcode.BRIDGE_READY, Ready(isolation=isolation))
    if job.task == "compile":
        bridge.send(Opcode.BRIDGE_COMPILED, Compiled(modules=compiled_modules(job.files)))
    while True:
        opcode, payload, descriptors = bridge.receive()
        if opcode is Opcode.BRIDGE_FINISH:
            return
        given = _given(opcode, payload, descriptors)
        try:
            if opcode is Opcode.BRIDGE_SOURCES:
                works.several(given)
            else:
                works.one(given[0])
        except HostGone:
            raise
        except BaseException as error:  # noqa: BLE001 - as above; a parser may even raise SystemExit
            failure = _failure(given[0].source.index, error)
            traceback.print_exception(error)
            bridge.send(Opcode.BRIDGE_FAILED, failure)
        finally:
            close_all(descriptors)
            sys.stdout.flush()


def _given(opcode: Opcode, payload: bytes, descriptors: list[int]) -> list[Input]:
    """What a frame gives to read.

    Raises:
        RuntimeError: it gives something else, or more or fewer descriptors than it names.
    """
    if opcode is Opcode.BRIDGE_SOURCE:
        return [Input.of(msgspec.msgpack.decode(payload, type=GuestSource), descriptors)]
    if opcode is not Opcode.BRIDGE_SOURCES:
        raise RuntimeError(f"expected a source, got {opcode.name}")
    sources = msgspec.msgpack.decode(payload, type=GuestSources).sources
    if len(descriptors) != len(sources):
        raise RuntimeError(f"expected {len(sources)} descriptors, got {len(descriptors)}")
    return [Input.of(source, [fd]) for source, fd in zip(sources, descriptors, strict=True)]


def _prepare(job: GuestJob, bridge: Bridge) -> Works:
    """What to do with sources."""
    if job.task == "account":
        return _accounting(job, bridge)
    if job.task == "self_attack":
        return Works(_attacking(job, bridge), _no_group)
    if job.task == "compile":
        return Works(_no_source, _no_group)
    from casparian.guest.parse import parsing, parsing_together  # a lean guest has no Arrow

    return Works(parsing(job, bridge), parsing_together(job, bridge) or _no_group)


def _no_source(given: Input) -> None:
    raise RuntimeError(f"source {given.source.index} for a guest that only compiles")


def _no_group(given: list[Input]) -> None:
    raise RuntimeError(f"{len(given)} sources at once for a guest that takes one at a time")


def _accounting(job: GuestJob, bridge: Bridge) -> Works:
    walk = walk_of(job)

    def account(given: Input) -> None:
        bridge.send(Opcode.BRIDGE_ACCOUNT, walk(given).to_bytes())

    def account_all(given: list[Input]) -> None:
        for one in given:
            account(one)

    return Works(account, account_all)


def _attacking(job: GuestJob, bridge: Bridge) -> Work:
    def try_it(given: Input) -> None:
        name = given.source.display_path
        outcome = attack(name, job.config, given.descriptor)
        bridge.send(Opcode.BRIDGE_ATTACKED, Attacked(name=name, outcome=outcome))

    return try_it


def _failure(index: int, error: BaseException, *, code: str = "parser.exception") -> SourceFailed:
    """The host's view of an exception: a code, and one line of text."""
    match error:
        case MemoryError():
            code = "limit.memory"
        case OutputError():
            code = "parser.output"
        case _native.SourceError():
            code = str(error.code)
    place = ""
    for step in traceback.extract_tb(error.__traceback__):
        if step.filename.startswith("parser:"):
            place = f" ({step.filename.removeprefix('parser:')} line {step.lineno})"
    text = f"{type(error).__name__}: {error}"[:_MESSAGE_CHARACTERS_MAX] + place
    return SourceFailed(
        index=index, code=code, message=text.encode("utf-8", "backslashreplace").decode()
    )


def leave(status: int) -> None:
    """End the guest without the interpreter's shutdown: Arrow's pools may hang in it, and nothing needs it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # the log pipe is closed: nobody reads
            continue
    os._exit(status)
