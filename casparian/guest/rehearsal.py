"""Jobs that a zygote runs on itself before it forks, over lines and with a parser of our own.

What is set up on first use (decoders of messages, schemas, code that the interpreter adapts to what it meets) is then there
in every guest and shared with it; otherwise each guest would set it up anew, in memory that the kernel has to copy for it. A
rehearsal sees neither evidence nor anybody's parser, and leaves nothing behind that a guest could import.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Final, Literal

import msgspec

from casparian.domain.contracts import Column, OutputContract
from casparian.domain.parsers import Limits, ParserKind
from casparian.guest.bridge import Bridge
from casparian.guest.importer import PACKAGE
from casparian.guest.job import run_job
from casparian.protocol import frame
from casparian.protocol.frame import Opcode
from casparian.protocol.guest import GuestJob, GuestSource

_TIMES: Final = 4
_LINES: Final = b"".join(b"a line of text, number %d\n" % number for number in range(64))
_PARSER: Final = b"""
from __future__ import annotations

import re
from typing import NamedTuple

from casparian.sdk import Context, RowBuilder

_WORDS = re.compile(r"(\\w+) (?P<rest>[a-z ]*(?:,|;){0,2}).*[0-9]{1,3}$", re.ASCII)


class Line(NamedTuple):
    number: int
    text: str


def parse(ctx: Context):
    rows, offset = RowBuilder("lines"), 0
    for number, line in enumerate(ctx.source.pread(ctx.source.size, 0).splitlines(True)):
        found = Line(number, line.decode().strip())
        if _WORDS.match(found.text) is None or number == 7:
            ctx.quarantine(offset, len(line), "test.bad", "as a rehearsal")
        else:
            yield from rows.append(offset, len(line), 0, number=found.number, text=found.text)
        offset += len(line)
    yield from rows.flush()
"""
_OUTPUT: Final = OutputContract(
    table="lines",
    main=True,
    columns=(Column(name="number", type="int64"), Column(name="text", type="utf8")),
)


def account() -> None:
    """Rehearse what guests do that run no parser."""
    for _ in range(_TIMES):
        _rehearse("account")
        _rehearse("compile")


def parse() -> None:
    """Rehearse parsing with a parser in Python."""
    for _ in range(_TIMES):
        _rehearse("parse")


def _rehearse(task: Literal["account", "compile", "parse"]) -> None:
    """One job from beginning to end; what the host would say waits in the socket, and nobody reads the answers."""
    job = GuestJob(
        task=task,
        parser_name="rehearsal",
        kind=ParserKind.PYTHON,
        entry="parser.py:parse",
        account="lines",
        config={},
        outputs=(_OUTPUT,) if task == "parse" else (),
        files={} if task == "account" else {"parser.py": _PARSER},
        limits=Limits(),
    )
    finders = list(sys.meta_path)
    host, guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with host, guest:
        host.sendall(frame.encode(Opcode.BRIDGE_JOB, msgspec.msgpack.encode(job)))
        if task != "compile":
            _send_source(host)
        host.sendall(frame.encode(Opcode.BRIDGE_FINISH))
        try:
            run_job(Bridge(guest), {})
        finally:
            sys.meta_path[:] = finders
            for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
                del sys.modules[name]


def _send_source(host: socket.socket) -> None:
    descriptor = os.memfd_create("rehearsal", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, _LINES)
        source = GuestSource(index=0, size_bytes=len(_LINES), display_path="rehearsal")
        message = frame.encode(Opcode.BRIDGE_SOURCE, msgspec.msgpack.encode(source))
        socket.send_fds(host, [message], [descriptor])
    finally:
        os.close(descriptor)
