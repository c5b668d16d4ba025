"""What a parser is given for one source: the bytes, the path as text, its settings, and a place for bad rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from casparian.domain.parsers import ConfigValue
from casparian.protocol.guest import RAW_INLINE_BYTES_MAX
from casparian.sdk.rows import BYTES_PER_BLOCK, ROWS_PER_BLOCK, OutputError
from casparian.sdk.source import Source

_TEXT_CHARACTERS_MAX: Final = 4_096


class Rejected(NamedTuple):
    """One quarantined row on its way to the host."""

    offset: int
    length: int
    flags: int
    reason: str
    field: str | None
    message: str
    raw: bytes | None


class Context:
    """Input and side channel of `parse(ctx)`.

    Attributes:
        source: the evidence; `read`, `seek`, `pread(length, offset)`, `size`; `companions` by role.
        display_path: path relative to the evidence root, as text; for rules that read a year or host from it.
        config: the parser's settings, defaults included.
    """

    def __init__(
        self,
        source: Source,
        *,
        display_path: str,
        config: Mapping[str, ConfigValue],
        send_quarantine: Callable[[list[Rejected]], None],
    ) -> None:
        self.source = source
        self.display_path = display_path
        self.config = config
        self._send = send_quarantine
        self._rejected: list[Rejected] = []
        self._raw_bytes = 0

    def quarantine(
        self,
        offset: int,
        length: int,
        reason: str,
        message: str,
        field: str | None = None,
        raw: bytes | None = None,
        flags: int = 0,
    ) -> None:
        """Set a unit of the evidence aside: it counts, it is kept, and the reason is shown.

        Args:
            offset: where its bytes begin, from the start of the source.
            length: how many bytes.
            reason: stable slug, such as `syslog.bad_time`.
            message: what is wrong, one sentence.
            field: the column concerned, if one is.
            raw: the bytes; when left out (or longer than 64 KiB) the host reads them from the span.
            flags: bits as in `casparian.sdk`.
        """
        if type(offset) is not int or type(length) is not int or type(flags) is not int:
            raise OutputError(
                f"a quarantined span must be integers, not ({offset!r}, {length!r}, {flags!r})"
            )
        kept = raw if raw is not None and len(raw) <= RAW_INLINE_BYTES_MAX else None
        message = message[:_TEXT_CHARACTERS_MAX]
        self._rejected.append(Rejected(offset, length, flags, reason, field, message, kept))
        self._raw_bytes += len(kept) if kept is not None else 0
        if len(self._rejected) >= ROWS_PER_BLOCK or self._raw_bytes >= BYTES_PER_BLOCK:
            self.send_rejected()

    def send_rejected(self) -> None:
        """Hand on what is waiting; the runner does it when the parser ends."""
        if self._rejected:
            self._send(self._rejected)
            self._rejected = []
            self._raw_bytes = 0
