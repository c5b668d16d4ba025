"""Build a small, believable case on disk, and say what a complete reading of it must find.

Two machines, `FIN-WS07` (Windows) and `gw01` (Linux), with logs that are whole, damaged, cut and
dirty, a registry hive, a copy, a link, an empty file and one that nothing can read. What they tell
is in `story`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from casparian.demo import damage
from casparian.demo.dice import Dice
from casparian.demo.evtx_reference import read_log
from casparian.demo.evtx_writer import CHUNK_HEADER_BYTES, EventLog
from casparian.demo.story import Story, tell
from casparian.demo.story.registry import system_hive
from casparian.demo.syslog_writer import LogFile, rfc3164, rfc5424, rsyslog_iso, year_rollover

_LOGS: Final = "FIN-WS07/Windows/System32/winevt/Logs"
_SECURITY: Final = f"{_LOGS}/Security.evtx"
_SYSLOG: Final = "gw01/var/log/syslog"
_FILE_TIME: Final = 1_710_201_600  # 2024-03-12T00:00:00Z: the hour of the collection
_PATHS_OF_LOGS: Final = {
    "Security": _SECURITY,
    "System": f"{_LOGS}/System.evtx",
    "Sysmon": f"{_LOGS}/Microsoft-Windows-Sysmon%4Operational.evtx",
    "Application": f"{_LOGS}/Application.evtx",
    "TaskScheduler": f"{_LOGS}/Microsoft-Windows-TaskScheduler%4Operational.evtx",
    "ForwardedEvents": f"{_LOGS}/ForwardedEvents.evtx",
    "auth": "gw01/var/log/auth.log",
    "syslog": _SYSLOG,
    "messages": "gw01/var/log/messages",
    "relay": "FIN-WS07/ProgramData/LogRelay/relay.log",
}


class EvidenceKind(StrEnum):
    """What a file of the case is."""

    EVTX = "evtx"  # Windows event log
    SYSLOG = "syslog"  # text log, one message a line
    REGISTRY = "registry"  # registry hive
    UNKNOWN = "unknown"  # bytes that no parser takes
    EMPTY = "empty"  # a file of no bytes
    SYMLINK = "symlink"  # never followed


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceFile:
    """One file and what is in it.

    Attributes:
        path: relative to the case's directory, with forward slashes.
        kind: what it is.
        size_bytes: its size; of a link, 0.
        records: units present: records and damaged regions of a log's live areas, lines that are
            not blank, or allocated keys and values of a hive.
        damaged: how many of `records` are damaged regions.
        slack_records: records behind free space, and deleted keys and values: outside `records`.
        unparsable: lines among `records` that no format explains.
        findings: codes that a reader must report at least once; without any, it reports none.
        same_content_as: path of the first file with the same bytes.
        link_target: where a symlink points.
    """

    path: str
    kind: EvidenceKind
    size_bytes: int = 0
    records: int = 0
    damaged: int = 0
    slack_records: int = 0
    unparsable: int = 0
    findings: tuple[str, ...] = ()
    same_content_as: str | None = None
    link_target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryBeat:
    """Something worth finding: when (ISO 8601, UTC), in which file, and what."""

    time: str
    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSummary:
    """The case as built. `files` are in the order of a walk: sorted by the bytes of the path."""

    directory: Path
    seed: int
    scale: int
    files: tuple[EvidenceFile, ...]
    story: tuple[StoryBeat, ...]

    def file(self, path: str) -> EvidenceFile:
        """The file at `path`."""
        return next(file for file in self.files if file.path == path)

    @property
    def records(self) -> int:
        """Units present in all content, each content counted once."""
        return sum(file.records for file in self.files if file.same_content_as is None)


def build_evidence(directory: Path, *, seed: int = 7, scale: int = 1) -> EvidenceSummary:
    """Write the case into `directory`; the same arguments give the same bytes and file times.

    Args:
        directory: made if it is not there.
        seed: of all that is made up.
        scale: multiplies the noise around the story; 1 gives about two thousand records.

    Raises:
        FileExistsError: the directory holds something already; evidence is never mixed.
        ValueError: `scale` is less than 1.
    """
    if scale < 1:
        raise ValueError(f"scale is at least 1, not {scale}")
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty")
    story = tell(seed, scale)
    case = _Case(directory)
    _add_event_logs(case, story)
    _add_text_logs(case, story)
    hive = system_hive().build()
    deleted = sum(cell.state == "deleted" for cell in hive.cells)
    case.add(
        "FIN-WS07/Windows/System32/config/SYSTEM",
        hive.data,
        EvidenceKind.REGISTRY,
        records=len(hive.cells) - deleted,
        slack_records=deleted,
    )
    case.add("FIN-WS07/Users/t.bergman/Downloads/k.bin", _unknown(seed), EvidenceKind.UNKNOWN)
    case.add("gw01/var/log/boot.log", b"", EvidenceKind.EMPTY)
    case.link("gw01/var/log/current", "syslog")
    return EvidenceSummary(
        directory=directory,
        seed=seed,
        scale=scale,
        files=tuple(sorted(case.files, key=lambda file: os.fsencode(file.path))),
        story=tuple(
            StoryBeat(
                time=f"{beat.time:%Y-%m-%dT%H:%M:%SZ}",
                path=_PATHS_OF_LOGS[beat.log],
                text=beat.text,
            )
            for beat in story.beats
        ),
    )


class _Case:
    """Files written so far."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.files: list[EvidenceFile] = []

    def add(
        self,
        path: str,
        data: bytes,
        kind: EvidenceKind,
        *,
        records: int = 0,
        slack_records: int = 0,
        unparsable: int = 0,
        findings: tuple[str, ...] = (),
        same_content_as: str | None = None,
    ) -> None:
        target = self._directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        os.utime(target, (_FILE_TIME, _FILE_TIME))
        reading = read_log(data) if kind is EvidenceKind.EVTX else None
        self.files.append(
            EvidenceFile(
                path=path,
                kind=kind,
                size_bytes=len(data),
                records=reading.present if reading else records,
                damaged=reading.damaged if reading else 0,
                slack_records=reading.slack if reading else slack_records,
                unparsable=unparsable,
                findings=findings,
                same_content_as=same_content_as,
            )
        )

    def link(self, path: str, target: str) -> None:
        (self._directory / path).symlink_to(target)
        self.files.append(EvidenceFile(path=path, kind=EvidenceKind.SYMLINK, link_target=target))


def _add_event_logs(case: _Case, story: Story) -> None:
    logs = {name: EventLog(tuple(events)).to_bytes() for name, events in story.logs.items()}

    case.add(_SECURITY, logs["Security"], EvidenceKind.EVTX)
    case.add(
        "FIN-WS07/collected/Security - copy.evtx",
        logs["Security"],
        EvidenceKind.EVTX,
        same_content_as=_SECURITY,
    )
    case.add(_PATHS_OF_LOGS["ForwardedEvents"], logs["ForwardedEvents"], EvidenceKind.EVTX)

    # Copied while in use: the header knows of one chunk, and space is allocated ahead of need.
    live = damage.insert_blank_chunk(damage.stale_header(logs["System"], chunks=1))
    case.add(_PATHS_OF_LOGS["System"], live, EvidenceKind.EVTX, findings=("file.chunk_count",))

    last = damage.chunk_count(logs["Sysmon"]) - 1
    records = len(damage.record_offsets(logs["Sysmon"], last))
    slack = damage.leave_slack(logs["Sysmon"], last, keep_records=records - 5)
    case.add(_PATHS_OF_LOGS["Sysmon"], slack, EvidenceKind.EVTX)

    case.add(
        _PATHS_OF_LOGS["Application"],
        _lose_sector(damage.flip_chunk_header_checksum(logs["Application"], 0), 1),
        EvidenceKind.EVTX,
        findings=("chunk.header_crc", "chunk.data_crc", "chunk.damaged"),
    )

    tasks = logs["TaskScheduler"]
    offsets = damage.record_offsets(tasks, damage.chunk_count(tasks) - 1)
    middle = len(offsets) // 2
    keep = (offsets[middle] + offsets[middle + 1]) // 2 - offsets[0] + CHUNK_HEADER_BYTES
    case.add(
        _PATHS_OF_LOGS["TaskScheduler"],
        damage.cut(tasks, keep_bytes_of_last_chunk=keep),
        EvidenceKind.EVTX,
        findings=("chunk.cut", "source.truncated"),
    )


def _lose_sector(log: bytes, chunk: int) -> bytes:
    """Zero the sector in which the chunk's record in the middle starts: two records go with it."""
    offsets = damage.record_offsets(log, chunk)
    base = offsets[0] - CHUNK_HEADER_BYTES
    sector = (offsets[len(offsets) // 2] - base) // damage.SECTOR_BYTES
    return damage.zero_sectors(log, chunk, sector)


def _add_text_logs(case: _Case, story: Story) -> None:
    _add_text(case, "auth", LogFile(lines=[rfc3164(entry) for entry in story.texts["auth"]]))
    _add_text(
        case, "messages", LogFile(lines=[rfc5424(entry) for entry in story.texts["messages"]])
    )

    daemons: list[str | bytes] = [rfc3164(entry) for entry in story.texts["syslog"]]
    middle = len(daemons) // 2
    daemons[middle:middle] = [*_TRACEBACK, "", _LATIN_1]
    _add_text(case, "syslog", LogFile(lines=daemons, final_newline=False), unparsable=3)

    relay = LogFile(
        lines=[rsyslog_iso(entry) for entry in story.texts["relay"]],
        encoding="utf-16-le",
        bom=True,
        newline="\r\n",
    )
    _add_text(case, "relay", relay)

    old = LogFile(lines=[rfc3164(entry) for entry in year_rollover(2023)])
    case.add(
        "gw01/var/log/cron.log.1",
        old.to_bytes(),
        EvidenceKind.SYSLOG,
        records=old.record_count,
    )


_TRACEBACK: Final = (
    "Traceback (most recent call last):",
    '  File "/usr/local/bin/renew", line 41, in <module>',
    "TimeoutError: time.example.org did not answer",
)
_LATIN_1: Final = "Mar 11 21:07:44 gw01 renew[811]: Gerät für Müller fehlt".encode("latin-1")


def _add_text(case: _Case, log: str, file: LogFile, *, unparsable: int = 0) -> None:
    case.add(
        _PATHS_OF_LOGS[log],
        file.to_bytes(),
        EvidenceKind.SYSLOG,
        records=file.record_count,
        unparsable=unparsable,
    )


def _unknown(seed: int) -> bytes:
    """Bytes with no magic of anything."""
    return b"KSTL\x01" + Dice(seed ^ 0x6B).data(9_211)
