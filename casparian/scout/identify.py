"""Say what a file is: by its content first, by its name second.

Rules:
  * The first bytes decide. A name never adds a type that the content contradicts: it can only help
    where the content is damaged, and then the reason says so.
  * A name that promises a type which the content does not have gives the tag `name-mismatch` beside
    what the content says.
  * Every tag comes with its reason, as `explain` shows it.

`head` is the beginning of the file, as much as hashing kept. Text is told apart in `scout.texts`.
"""

from __future__ import annotations

from typing import Final

from casparian.scout.texts import identify_text

Tag = tuple[str, str]

NAME_MISMATCH: Final = "name-mismatch"

# (offset, magic, tag, what it is)
_MAGICS: Final[tuple[tuple[int, bytes, str, str], ...]] = (
    (0, b"ElfFile\0", "evtx", "Windows event log, file header"),
    (0, b"SQLite format 3\0", "sqlite", "SQLite database"),
    (0, b"\x37\x7f\x06\x82", "sqlite-wal", "SQLite write-ahead log"),
    (0, b"\x37\x7f\x06\x83", "sqlite-wal", "SQLite write-ahead log"),
    (0, b"PK\x03\x04", "zip", "ZIP archive"),
    (0, b"PK\x05\x06", "zip", "empty ZIP archive"),
    (0, b"\x1f\x8b\x08", "gzip", "gzip stream"),
    (0, b"\xfd7zXZ\0", "xz", "xz stream"),
    (4, b"1AY&SY", "bzip2", "bzip2 stream"),
    (0, b"\x28\xb5\x2f\xfd", "zstd", "Zstandard stream"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z", "7-Zip archive"),
    (257, b"ustar", "tar", "tar archive"),
    (0, b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F", "lnk", "Windows shortcut"),
    (0, b"MAM\x04", "prefetch", "compressed Windows prefetch file"),
    (4, b"SCCA", "prefetch", "Windows prefetch file"),
    (4, b"LfLe", "evt", "Windows NT event log"),
    (0, b"FILE0\0", "mft", "NTFS file record"),
    (0, b"FILE*\0", "mft", "NTFS file record"),
    (4, b"\xef\xcd\xab\x89", "ese", "Extensible Storage Engine database"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole", "OLE compound file"),
    (0, b"\x7fELF", "elf", "ELF program"),
    (0, b"%PDF-", "pdf", "PDF document"),
    (0, b"bplist00", "plist", "binary property list"),
    (0, b"LPKSHHRH", "journal", "systemd journal"),
    (0, b"ASL DB\0", "asl", "Apple System Log"),
    (0, b"\xd4\xc3\xb2\xa1", "pcap", "packet capture"),
    (0, b"\xa1\xb2\xc3\xd4", "pcap", "packet capture"),
    (8, b"\x4d\x3c\x2b\x1a", "pcap", "packet capture, next generation"),
    (0, b"\x89PNG\r\n\x1a\n", "png", "PNG picture"),
    (0, b"\xff\xd8\xff", "jpeg", "JPEG picture"),
)

# Names that promise one type, and the tags that keep the promise.
_EXTENSIONS: Final[dict[bytes, frozenset[str]]] = {
    b".evtx": frozenset({"evtx"}),
    b".evt": frozenset({"evt"}),
    b".lnk": frozenset({"lnk"}),
    b".pf": frozenset({"prefetch"}),
    b".zip": frozenset({"zip"}),
    b".gz": frozenset({"gzip"}),
    b".xz": frozenset({"xz"}),
    b".7z": frozenset({"7z"}),
    b".sqlite": frozenset({"sqlite"}),
    b".exe": frozenset({"pe"}),
    b".dll": frozenset({"pe"}),
    b".sys": frozenset({"pe"}),
    b".pdf": frozenset({"pdf"}),
    b".edb": frozenset({"ese"}),
}

_REGISTRY_BIN: Final = b"hbin"
_REGISTRY_BASE_BYTES: Final = 4096
_REGISTRY_LOG_PARTS: Final = (b"DIRT", b"HvLE")
_SECTOR_BYTES: Final = 512
_EVTX_CHUNK: Final = b"ElfChnk\0"
_EVTX_RECORD: Final = b"\x2a\x2a\0\0"
_EVTX_HEADER_BYTES: Final = 4096
_EVTX_FIRST_RECORD: Final = _EVTX_HEADER_BYTES + 512


def identify(head: bytes, name: bytes, size: int) -> tuple[Tag, ...]:
    """Tags of one file with the reason for each, content before name.

    Args:
        head: the first bytes of the file, at least 4,096 unless the file is shorter; more is used
            when there is more.
        name: the file's name or path, byte-exact.
        size: of the whole file, in bytes.
    """
    if size == 0:
        return (("empty", "content: the file has no bytes"),)
    extension = _extension(name)
    tags = (
        _by_magic(head)
        or _evtx_without_magic(head, extension, size)
        or _registry_without_magic(head)
        or identify_text(head, size)
    )
    promised = _EXTENSIONS.get(extension)
    if promised is not None and promised.isdisjoint(tag for tag, _ in tags):
        found = ", ".join(tag for tag, _ in tags) or "something else"
        why = f"name: it ends in `{extension.decode()}`, the content is {found}"
        tags += ((NAME_MISMATCH, why),)
    return tags


def _by_magic(head: bytes) -> tuple[Tag, ...]:
    if head.startswith(b"regf"):
        return (_registry(head),)
    if head.startswith(b"MZ"):
        return _program(head)
    for offset, magic, tag, what in _MAGICS:
        if head.startswith(magic, offset):
            return ((tag, f"content: {what}"),)
    return ()


def _registry(head: bytes) -> Tag:
    """A hive or its transaction log: the file type is the 32-bit value at 28 (0 is a hive).

    What a log holds begins behind the first sector.
    """
    kind = int.from_bytes(head[28:32], "little")
    if kind in (1, 2, 6) or head.startswith(_REGISTRY_LOG_PARTS, _SECTOR_BYTES):
        return ("registry-log", "content: transaction log of a registry hive")
    return ("registry", "content: registry hive")


def _program(head: bytes) -> tuple[Tag, ...]:
    """A Windows program: `MZ`, two letters, and a second header where the first one says."""
    at = int.from_bytes(head[60:64], "little")
    if head.startswith(b"PE\0\0", at):
        return (("pe", "content: Windows program"),)
    if len(head) >= 64 and at + 4 > len(head) and b"\0" in head[:64]:
        return (("pe", "content: Windows program, second header not looked at"),)
    return ()


def _evtx_without_magic(head: bytes, extension: bytes, size: int) -> tuple[Tag, ...]:
    """An event log whose file header is damaged: its chunks are as good as ever.

    The chunk's magic stands at 4096, the first record of the chunk 512 bytes further. Where the
    kept head ends at 4096, what is left of the file header must do: its fields (MS-EVEN6 has no
    file format; libyal's has: header size 128 at 32, version 3.1 or 3.2 at 36, block size 4096 at
    40), or for a file named `.evtx` that it is zeroed.
    """
    if head.startswith(_EVTX_CHUNK, _EVTX_HEADER_BYTES):
        return (("evtx", "content: event log chunk at 4096; the file header is damaged"),)
    if head.startswith(_EVTX_CHUNK):
        return (("evtx", "content: event log chunk at 0; the file header is missing"),)
    fields = (head[32:36], head[36:38], head[38:40], head[40:42])
    if fields in (
        (b"\x80\0\0\0", b"\x01\0", b"\x03\0", b"\0\x10"),
        (b"\x80\0\0\0", b"\x02\0", b"\x03\0", b"\0\x10"),
    ):
        return (("evtx", "content: fields of an event log's file header; its magic is damaged"),)
    if extension == b".evtx" and size > _EVTX_HEADER_BYTES:
        if head.startswith(_EVTX_RECORD, _EVTX_FIRST_RECORD):
            return (("evtx", "content: event record at 4608; both headers are damaged"),)
        if not head[:_EVTX_HEADER_BYTES].strip(b"\0") and len(head) <= _EVTX_HEADER_BYTES:
            return (("evtx", "name: `.evtx`; the file header is zeroed"),)
    return ()


def _registry_without_magic(head: bytes) -> tuple[Tag, ...]:
    """A hive whose base block is damaged: bins begin at 4096, each with a magic of its own.

    Where the kept head ends at 4096, what is left of the base block must do (M. Suhanov, "Windows
    registry file format specification", "Base block"): version 1.3 to 1.6 at 20, type 0 at 28,
    format 1 at 32, the root key in the first cell at 36, and whole pages of bins at 40.
    """
    if head.startswith(_REGISTRY_BIN, _REGISTRY_BASE_BYTES):
        return (("registry", "content: registry bin at 4096; the base block is damaged"),)
    major, minor, kind, form, root, bins = (
        int.from_bytes(head[at : at + 4], "little") for at in (20, 24, 28, 32, 36, 40)
    )
    whole_pages = bins > 0 and bins % _REGISTRY_BASE_BYTES == 0
    if (major, kind, form, root) == (1, 0, 1, 32) and 3 <= minor <= 6 and whole_pages:
        return (("registry", "content: fields of a hive's base block; its magic is damaged"),)
    return ()


def _extension(name: bytes) -> bytes:
    base = name.rpartition(b"/")[2].lower()
    dot = base.rfind(b".")
    return base[dot:] if dot > 0 else b""
