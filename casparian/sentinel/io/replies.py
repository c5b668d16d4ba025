"""Frames that answer a client: whatever the answer is, one frame comes of it."""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from casparian.errors import ExitCode, ProtocolError
from casparian.protocol import control
from casparian.protocol.frame import Opcode, encode
from casparian.sentinel.planner import failure_of

_UNENCODABLE: Final = (
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    msgspec.MsgspecError,
)
_LOG = logging.getLogger(__name__)


def reply_frame(number: int, reply: control.Reply) -> bytes:
    """The frame of a reply; of a `Failure` that says so when the reply fits no frame or cannot be encoded."""
    while True:
        try:
            return encode(Opcode.CONTROL_REPLY, control.encode(reply), number=number)
        except ProtocolError as error:
            if isinstance(reply, control.Rows) and len(reply.rows) > 1:
                # Give what fits, and say so.
                half = reply.rows[: len(reply.rows) // 2]
                reply = control.Rows(columns=reply.columns, rows=half, truncated=True)
            else:
                reply = failure_of(error)
        except _UNENCODABLE as error:
            _LOG.exception("a reply could not be encoded")
            reply = control.Failure(
                code="sentinel.reply",
                message=f"the reply could not be encoded: {type(error).__name__}",
                exit_code=int(ExitCode.BUG),
            )
