"""What the benchmark reads: logs made of the chunks of real ones, hives; without a corpus, of our own factory's.

A chunk of an event log holds its own strings and templates, so chunks can be put behind each other in any order. Record
numbers and checksums are written anew: each copy is other content, and no two records of a file have the same number. Chunks
are taken from the pool without a repetition until it is used up.
"""

from __future__ import annotations

import csv
import json
import lzma
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from casparian.demo import world
from casparian.demo.evtx_writer import (
    CHUNK_BYTES,
    CHUNK_HEADER_BYTES,
    FILE_HEADER_BYTES,
    seal,
    seal_file_header,
)
from tests.bench.texts import write_csv

SEED = 7
VERSION = 2
"""Part of the name of a set of inputs: raise it when the same arguments make other files."""

HIVE_BYTES_MIN = 1_000_000
LARGE_LOGS = 8
RECORD_HEADER_BYTES = 24


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A directory of files of one kind.

    Attributes:
        directory: with nothing else in it.
        origin: `corpus` or `factory`.
        files: how many there are.
        size_bytes: of all of them.
        records: whole records in live areas, as they were written; None when that is for the readers to say.
        distinct_chunks: how many different chunks the logs were made of.
    """

    directory: str
    origin: str
    files: int
    size_bytes: int
    records: int | None = None
    distinct_chunks: int | None = None

    @property
    def paths(self) -> list[str]:
        """The files, in order."""
        return sorted(str(path) for path in Path(self.directory).rglob("*") if path.is_file())

    @property
    def megabytes(self) -> float:
        """Size in MB of a million bytes."""
        return self.size_bytes / 1e6


@dataclass(frozen=True, kw_only=True)
class PooledChunk:
    """A chunk whose checksums hold and whose live area is whole records from end to end."""

    data: bytes
    records: tuple[int, ...]
    free_space: int


class InputMaker:
    """Makes inputs once and finds them again. `corpus` is None when there is none."""

    def __init__(self, root: Path, corpus: Path | None) -> None:
        self._root = root
        self._corpus = corpus
        self._pool: list[PooledChunk] = []

    @property
    def origin(self) -> str:
        """Where chunks come from."""
        return "corpus" if self._corpus else "factory"

    def logs(self, name: str, *, files: int, size_mb: int) -> Inputs:
        """`files` logs of about `size_mb` million bytes together; at least one chunk each."""
        chunks = max(files, size_mb * 1_000_000 // CHUNK_BYTES)

        def write(directory: Path) -> int:
            deck = self._deck()
            used = records = 0
            for number in range(files):
                count = chunks * (number + 1) // files - used
                used += count
                path = directory / f"{number:05}.evtx"
                # Numbers go on from log to log: copies of one chunk are other content, and none is read for another.
                records += write_log(path, deck, count, first_id=records + 1)
            return records

        return self._made(f"{name}-{files}x{size_mb}", write)

    def csv(self, *, size_mb: int) -> Inputs:
        """One CSV file of an invented web server's log: numbers, moments, addresses, words, quotes; the same for a size."""

        def write(directory: Path) -> int:
            rows = 0
            with open(directory / "access.csv", "wb") as file:
                file.write(b"id,time,client,user,method,path,status,bytes,seconds,agent\n")
                while file.tell() < size_mb * 1_000_000:
                    file.write("".join(_csv_row(row) for row in range(rows, rows + 4096)).encode())
                    rows += 4096
            return rows

        return self._made(f"csv-{size_mb}", write)

    def jsonl(self, *, size_mb: int) -> Inputs:
        """One file of JSON Lines of an invented service: moments, numbers, texts, lists, nested objects; the same for a size."""

        def write(directory: Path) -> int:
            rows = 0
            with open(directory / "service.jsonl", "wb") as file:
                while file.tell() < size_mb * 1_000_000:
                    file.write("".join(_json_row(row) for row in range(rows, rows + 4096)).encode())
                    rows += 4096
            return rows

        return self._made(f"jsonl-{size_mb}", write)

    def real_logs(self) -> Inputs | None:
        """The logs of the corpus as they are, but for those on which its independent readers disagree."""
        if self._corpus is None:
            return None
        chosen = [row["path"] for row in self._manifest("evtx") if "disagree" not in row["traits"]
                  and "truncated" not in row["traits"]]  # fmt: skip

        def write(directory: Path) -> None:
            for path in chosen:
                target = directory / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(f"{self._corpus}/{path}", target)

        return self._made("real-logs", write)

    def hives(self) -> Inputs | None:
        """Clean hives of some size, unpacked."""
        if self._corpus is None:
            return None
        chosen = [
            row
            for row in self._manifest("registry")
            if int(row["content_bytes"]) >= HIVE_BYTES_MIN
            and row["expected"].startswith("keys=")
            and not {"dirty", "corrupt", "truncated"} & set(row["traits"].split())
        ]

        def write(directory: Path) -> None:
            for number, row in enumerate(chosen):
                data = Path(f"{self._corpus}/{row['path']}").read_bytes()
                if row["stored_as"].startswith("xz"):
                    data = lzma.decompress(data)
                directory.joinpath(f"{number}-{Path(row['path']).stem}").write_bytes(data)

        return self._made("hives", write)

    def delimited(self, size_mb: int) -> Inputs:
        """A log of delimited text."""

        def write(directory: Path) -> int:
            return write_csv(directory / "firewall.csv", size_mb * 1_000_000)

        return self._made(f"delimited-{size_mb}", write)

    def _made(self, name: str, write: Callable[[Path], int | None]) -> Inputs:
        directory = self._root / f"{name}-{self.origin}-v{VERSION}"
        note = directory.with_suffix(".json")
        if note.is_file():
            return Inputs(**json.loads(note.read_text()))
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        records = write(directory)
        files = [path for path in directory.rglob("*") if path.is_file()]
        made = Inputs(
            directory=str(directory),
            origin=self.origin,
            files=len(files),
            size_bytes=sum(path.stat().st_size for path in files),
            records=records,
            distinct_chunks=len(self._pool) if records is not None else None,
        )
        note.write_text(json.dumps(asdict(made)))
        return made

    def _manifest(self, kind: str) -> list[dict[str, str]]:
        with open(f"{self._corpus}/MANIFEST.csv", newline="", encoding="utf-8") as lines:
            return [row for row in csv.DictReader(lines) if row["kind"] == kind]

    def _deck(self) -> Iterator[PooledChunk]:
        """Chunks for ever, each of the pool before any comes again."""
        if not self._pool:
            self._pool = list(clean_chunks(self._sources()))
        dice = random.Random(SEED)
        while True:
            yield from dice.sample(self._pool, len(self._pool))

    def _sources(self) -> list[Path]:
        if self._corpus:
            return sorted(self._corpus.glob("evtx/**/*.evtx"))
        case = self._root / f"case-v{VERSION}"
        if not case.is_dir():
            partial = case.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            world.build_evidence(partial, seed=SEED, scale=8)
            partial.rename(case)
        return sorted(case.rglob("*.evtx"))


def clean_chunks(logs: Iterable[Path]) -> Iterator[PooledChunk]:
    """The chunks that no reader has trouble with; slack behind the records is kept as it is."""
    seen = set()
    for log in logs:
        data = log.read_bytes()
        for start in range(FILE_HEADER_BYTES, len(data) - CHUNK_BYTES + 1, CHUNK_BYTES):
            chunk = _clean_chunk(data[start : start + CHUNK_BYTES])
            if chunk is not None and chunk.data not in seen:
                seen.add(chunk.data)
                yield chunk


def _clean_chunk(data: bytes) -> PooledChunk | None:
    if not data.startswith(b"ElfChnk\0"):
        return None
    free, checksum = struct.unpack_from("<II", data, 48)
    if not CHUNK_HEADER_BYTES < free <= CHUNK_BYTES or zlib.crc32(data[512:free]) != checksum:
        return None
    records = []
    at = CHUNK_HEADER_BYTES
    while at + RECORD_HEADER_BYTES < free and data[at : at + 4] == b"**\0\0":
        size = struct.unpack_from("<I", data, at + 4)[0]
        if size < RECORD_HEADER_BYTES + 4 or at + size > free:
            return None
        records.append(at)
        at += size
    if at != free or not records:
        return None
    return PooledChunk(data=data, records=tuple(records), free_space=free)


def write_log(path: Path, deck: Iterator[PooledChunk], chunks: int, first_id: int = 1) -> int:
    """Write a closed log of `chunks` chunks; gives the number of its records, which are numbered from `first_id` on."""
    next_id = first_id
    with path.open("wb") as log:
        log.write(bytes(FILE_HEADER_BYTES))
        for _ in range(chunks):
            chunk = next(deck)
            data = bytearray(chunk.data)
            for number, at in enumerate(chunk.records, start=next_id):
                struct.pack_into("<Q", data, at + 8, number)
            last = next_id + len(chunk.records) - 1
            struct.pack_into("<QQQQ", data, 8, next_id, last, next_id, last)
            seal(data)
            log.write(data)
            next_id = last + 1
        header = bytearray(FILE_HEADER_BYTES)
        struct.pack_into("<8sQQQIHHHH", header, 0, b"ElfFile\0", 0, chunks - 1, next_id, 128, 1, 3,
                         FILE_HEADER_BYTES, chunks & 0xFFFF)  # fmt: skip
        seal_file_header(header)
        log.seek(0)
        log.write(header)
    return next_id - first_id


def _csv_row(number: int) -> str:
    """One row; what looks random is multiplied out of its number."""
    dice = number * 2_654_435_761 % (1 << 32)
    second = number // 7
    clock = f"{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}"
    user = "" if dice % 3 else f"user{dice % 500}"
    agent = f'"Browser/{dice % 9}.{dice % 7} (X11, Linux; ""{dice % 60}"")"'
    return (
        f"{number},2024-{1 + dice % 12:02}-{1 + dice % 28:02} {clock}.{dice % 1000:03}Z,"
        f"10.{dice % 256}.{dice // 256 % 256}.{dice // 65536 % 256},{user},{('GET', 'POST', 'HEAD')[dice % 3]},"
        f"/a/{dice % 10_000}/{dice % 77},{(200, 200, 304, 404, 500)[dice % 5]},{dice % 3_000_000},"
        f"{dice % 90}.{dice % 1000:03},{agent}\n"
    )


def _json_row(number: int) -> str:
    """One line; what looks random is multiplied out of its number."""
    dice = number * 2_654_435_761 % (1 << 32)
    second = number // 7
    clock = f"{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}"
    error = ', "error": null' if dice % 11 else f', "error": {{"code": {dice % 90}, "retry": true}}'
    tags = ", ".join(f'"{tag}"' for tag in ("net", "auth", "dns")[: dice % 4])
    return (
        f'{{"id": {number}, "time": "2024-{1 + dice % 12:02}-{1 + dice % 28:02}T{clock}.{dice % 1000:03}Z", '
        f'"host": "ws-{dice % 500:04}", "level": "{("info", "warning", "error")[dice % 3]}", '
        f'"user": {{"name": "user{dice % 500}", "sid": "S-1-5-21-{dice}-{dice % 9999}"}}, '
        f'"client": "10.{dice % 256}.{dice // 256 % 256}.{dice // 65536 % 256}", "bytes": {dice % 3_000_000}, '
        f'"seconds": {dice % 90}.{1 + dice % 999}, "ok": {"true" if dice % 5 else "false"}, "tags": [{tags}], '
        f'"message": "closed \\"/a/{dice % 10_000}\\" in C:\\\\Temp\\\\{dice % 77}"{error}}}\n'
    )
