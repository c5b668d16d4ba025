"""Cut a file into lines, whatever their length, in bounded memory.

Rules (an independent count keeps the same ones, so that nothing can get lost between two lines):
  * A line ends at LF and owns its terminator, LF or CR LF. A CR anywhere else is content. The last
    line may lack a terminator.
  * A byte-order mark belongs to the span of the first line, and is no content.
  * Without a mark, UTF-16 is recognised by NULs in more than 30 % of the bytes at one parity, and
    not at the other, in the first 64 KiB. Everything else is read by bytes, as UTF-8.
  * In UTF-16 a terminator is a whole unit; an odd byte at the end is content of the last line.
  * A line whose content is empty or only ASCII spaces and tabs is blank.
  * A line longer than `LINE_BYTES_MAX` is reported by its span and never held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

LINE_BYTES_MAX: Final = 1 << 20
BLOCK_BYTES: Final = 1 << 20
SAMPLE_BYTES: Final = 64 << 10
_NUL_PERCENT: Final = 30

Pread = Callable[[int, int], bytes]  # (length, offset) -> bytes, fewer only at the end


class Encoding(NamedTuple):
    """How the bytes are read: Python's codec, bytes of a unit, bytes of the mark."""

    codec: str
    unit: int
    mark: int


class Lines(NamedTuple):
    """Consecutive lines: `texts` without mark and terminator, `lengths` of whole spans in bytes."""

    offset: int
    texts: list[str]
    lengths: list[int]
    lossy: frozenset[int]  # lines with undecodable bytes, replaced by U+FFFD


class LongLine(NamedTuple):
    """One line that is too long to be held."""

    offset: int
    length: int
    blank: bool


def detect(sample: bytes) -> Encoding:
    """Encoding of a text from its first bytes, of which 64 KiB count."""
    sample = sample[:SAMPLE_BYTES]
    if sample.startswith(b"\xef\xbb\xbf"):
        return Encoding("utf-8", 1, 3)
    if sample.startswith(b"\xff\xfe"):
        return Encoding("utf-16-le", 2, 2)
    if sample.startswith(b"\xfe\xff"):
        return Encoding("utf-16-be", 2, 2)
    many = [half.count(0) * 100 > len(half) * _NUL_PERCENT for half in (sample[0::2], sample[1::2])]
    if many == [False, True]:
        return Encoding("utf-16-le", 2, 0)
    if many == [True, False]:
        return Encoding("utf-16-be", 2, 0)
    return Encoding("utf-8", 1, 0)


def read_lines(pread: Pread, size: int, encoding: Encoding) -> Iterator[Lines | LongLine]:
    """All lines of a source, in order; their spans tile it exactly.

    Args:
        pread: reads bytes at an offset.
        size: of the source, in bytes.
        encoding: as `detect` found it.
    """
    position = 0  # of the next read
    start = 0  # of what is carried over
    carry = b""
    while position < size:
        data = pread(BLOCK_BYTES, position)
        position += len(data)
        buffer = carry + data
        cut = len(buffer) if position >= size else _last_line_end(buffer, encoding)
        if cut:
            yield _split(start, buffer[:cut], encoding)
            start += cut
        carry = buffer[cut:]
        if len(carry) > LINE_BYTES_MAX:
            length, blank, position = _skip_long_line(pread, size, start, carry, position, encoding)
            yield LongLine(start, length, blank)
            start += length
            carry = b""
            position = start


def is_blank(text: str) -> bool:
    """Whether a line's content is nothing but spaces and tabs."""
    return not text.strip(" \t")


def _split(start: int, block: bytes, encoding: Encoding) -> Lines:
    """Lines of a block that ends with a terminator, or with the source."""
    if encoding.unit == 1 and block.isascii():
        texts = block.decode("ascii").split("\n")
        lengths = [len(text) + 1 for text in texts]
        _close(texts, lengths, carriage_returns=b"\r" in block, terminated=block.endswith(b"\n"))
        return Lines(start, texts, lengths, frozenset())
    mark = encoding.mark if start == 0 else 0
    spans = _unit_spans(block, encoding) if encoding.unit == 2 else block.split(b"\n")
    texts, lossy = [], []
    for index, raw in enumerate(spans):
        content = raw[mark:] if index == 0 else raw
        try:
            texts.append(content.decode(encoding.codec))
        except UnicodeDecodeError:
            texts.append(content.decode(encoding.codec, "replace"))
            lossy.append(index)
    lengths = [len(raw) + encoding.unit for raw in spans]
    ends = _last_line_end(block, encoding) == len(block)
    _close(texts, lengths, carriage_returns=True, terminated=ends, unit=encoding.unit)
    return Lines(start, texts, lengths, frozenset(lossy))


def _close(
    texts: list[str], lengths: list[int], *, carriage_returns: bool, terminated: bool, unit: int = 1
) -> None:
    """Settle the last line, and take the CR of CR LF off the others."""
    last = None
    if terminated:
        texts.pop()  # what split leaves behind the last terminator
        lengths.pop()
    else:
        lengths[-1] -= unit
        last = texts.pop()
    if carriage_returns:
        texts[:] = [text.removesuffix("\r") for text in texts]
    if last is not None:
        texts.append(last)


def _unit_spans(block: bytes, encoding: Encoding) -> list[bytes]:
    """The block cut at line feeds that are whole UTF-16 units, which are left out."""
    feed = "\n".encode(encoding.codec)
    spans = []
    begin = at = 0
    while (at := block.find(feed, at)) >= 0:
        if at % 2:
            at += 1
            continue
        spans.append(block[begin:at])
        at += 2
        begin = at
    spans.append(block[begin:])
    return spans


def _last_line_end(buffer: bytes, encoding: Encoding) -> int:
    """Where the last complete line ends; 0 when there is none."""
    feed = "\n".encode(encoding.codec)
    end = len(buffer)
    while (at := buffer.rfind(feed, 0, end)) >= 0:
        if at % encoding.unit == 0:
            return at + encoding.unit
        end = at + encoding.unit - 1
    return 0


def _first_line_end(buffer: bytes, encoding: Encoding) -> int:
    """Where the first line ends; 0 when it does not."""
    feed = "\n".encode(encoding.codec)
    at = buffer.find(feed)
    while at >= 0:
        if at % encoding.unit == 0:
            return at + encoding.unit
        at = buffer.find(feed, at + 1)
    return 0


def _skip_long_line(
    pread: Pread, size: int, start: int, carry: bytes, position: int, encoding: Encoding
) -> tuple[int, bool, int]:
    """Length of the line that begins with `carry`, whether it is blank, where reading stopped."""
    blank = _Blankness()
    blank.feed(_narrow(carry[encoding.mark if start == 0 else 0 :], encoding))
    while position < size:
        data = pread(BLOCK_BYTES, position)
        end = _first_line_end(data, encoding)
        if end:
            blank.feed(_narrow(data[: end - encoding.unit], encoding))
            return position + end - start, blank.result(terminated=True), position + end
        blank.feed(_narrow(data, encoding))
        position += len(data)
    return size - start, blank.result(terminated=False), size


def _narrow(units: bytes, encoding: Encoding) -> bytes:
    """Low bytes of UTF-16 text, or one visible character when some unit is not ASCII."""
    if encoding.unit == 1:
        return units
    low, high = (
        (units[0::2], units[1::2]) if encoding.codec == "utf-16-le" else (units[1::2], units[0::2])
    )
    return low if len(low) == len(high) and not high.strip(b"\0") else b"x"


class _Blankness:
    """Whether a line that comes in pieces has content; holds two bytes."""

    def __init__(self) -> None:
        self._visible = b""
        self._last = b""

    def feed(self, piece: bytes) -> None:
        if len(self._visible) < 2:
            self._visible = (self._visible + piece.translate(None, b" \t"))[:2]
        self._last = piece[-1:] or self._last

    def result(self, *, terminated: bool) -> bool:
        if not self._visible:
            return True
        # The one CR there is belongs to the terminator only if it comes right before it.
        return terminated and self._visible == b"\r" and self._last == b"\r"
