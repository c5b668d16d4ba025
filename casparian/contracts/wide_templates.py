"""Write the list of wide tables from the templates of real event logs.

    python -m casparian.contracts.wide_templates DIRECTORY… > parsers/windows.evtx/wide.tsv

Rules:
  * The tables are those of `CURATED`; `--event NAME=PROVIDER/ID` adds one.
  * Columns are the values' names in snake case, in the order of the newest version of the template; names that only older
    versions have stand behind the name that precedes them there. A name that several values have, or that is the same in
    snake case, gets `_2`, `_3`; one that every wide table has already gets `_data`.
  * A column's type is that of the substitution values. Where versions differ it is the wider one, text at last. Records that
    carry no template, and recovered ones, are asked only when there are no others.
  * An event that no log has comes from the vendor's documentation (`wide_published.tsv`); so does the type of a value that
    was empty in all records. The table's origin says `template` or `published`.

The native module has the list compiled in, so that a change needs a build, and is another parser artifact.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from casparian import _native, installation

_SECURITY: Final = "Microsoft-Windows-Security-Auditing"
_SESSIONS: Final = "Microsoft-Windows-TerminalServices-LocalSessionManager"
_CONNECTIONS: Final = "Microsoft-Windows-TerminalServices-RemoteConnectionManager"

CURATED: Final[tuple[tuple[str, str, tuple[int, ...]], ...]] = (
    ("security", _SECURITY, (
        4624, 4625, 4634, 4647, 4648, 4657, 4663, 4672, 4688, 4689, 4697, 4698, 4699, 4700, 4701, 4702, 4719, 4720,
        4722, 4723, 4724, 4725, 4726, 4728, 4732, 4738, 4740, 4756, 4768, 4769, 4771, 4776, 4778, 4779, 4798, 4799,
        5140, 5145, 5156,
    )),
    ("security", "Microsoft-Windows-Eventlog", (1102,)),
    ("system", "Microsoft-Windows-Eventlog", (104,)),
    ("system", "Service Control Manager", (7034, 7036, 7040, 7045)),
    ("sysmon", "Microsoft-Windows-Sysmon", (*range(1, 30), 255)),
    ("powershell", "Microsoft-Windows-PowerShell", (4103, 4104)),
    ("task_scheduler", "Microsoft-Windows-TaskScheduler", (106, 129, 140, 141, 200, 201)),
    ("local_session_manager", _SESSIONS, (21, 22, 23, 24, 25, 39, 40)),
    ("remote_connection_manager", _CONNECTIONS, (1149,)),
    ("defender", "Microsoft-Windows-Windows Defender", (1006, 1116, 1117, 5001, 5007)),
    ("wmi_activity", "Microsoft-Windows-WMI-Activity", (5857, 5860, 5861)),
    ("bits", "Microsoft-Windows-Bits-Client", (59, 60)),
)  # fmt: skip

# BinXML types (MS-EVEN6 2.2.12). Hexadecimal integers and pointers are as wide as any of them may be.
_TYPES: Final = {
    0x01: "utf8", 0x02: "utf8", 0x03: "int8", 0x04: "uint8", 0x05: "int16", 0x06: "uint16", 0x07: "int32",
    0x08: "uint32", 0x09: "int64", 0x0A: "uint64", 0x0B: "float64", 0x0C: "float64", 0x0D: "bool", 0x0E: "binary",
    0x0F: "utf8", 0x10: "uint64", 0x11: "timestamp[ns, UTC]", 0x12: "timestamp[ns, UTC]", 0x13: "utf8",
    0x14: "uint64", 0x15: "uint64", 0x20: "uint64", 0x23: "utf8",
}  # fmt: skip
_BESIDE: Final = ("System/", "Record/", "RenderingInfo/")
_EVENTS: Final = "evtx_events"
_NEEDED: Final = ["@flags", "provider_name", "event_id", "version", "data_names", "data_types"]

_DOUBTFUL: Final = sum(
    bit
    for bit, name in _native.FLAG_NAMES.items()
    if name in ("recovered", "slack", "carved", "inline", "cut")
)

Event = tuple[str, int]  # provider, event id
Key = tuple[str | None, int]  # a value's name, and which value of that name it is
Layout = tuple[Key, ...]


class Seen(NamedTuple):
    """What the logs show of one event."""

    layouts: Counter[tuple[int, Layout]]  # version and values
    types: dict[Key, set[int]]


class WideTable(NamedTuple):
    """A table of the list."""

    name: str
    event: Event
    origin: str
    columns: tuple[tuple[str, str, Key], ...]  # name, type, value


def snake_case(name: str) -> str:
    """A column's name from a value's: its last step, in lower case with underscores."""
    last = name.rsplit("/", 1)[-1].lstrip("@")
    parted = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", last))
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_") or "data"


def merged_type(types: Iterable[str]) -> str:
    """The narrowest type that holds the values of all these types."""
    found = set(types)
    if len(found) <= 1:
        return next(iter(found), "utf8")
    widths = {name: int(re.sub(r"\D", "", name)) for name in found if re.match(r"u?int\d+$", name)}
    if widths.keys() != found:
        return "utf8"
    unsigned = max((width for name, width in widths.items() if name[0] == "u"), default=0)
    signed = max((width for name, width in widths.items() if name[0] == "i"), default=0)
    if not signed:
        return f"uint{unsigned}"
    if not unsigned:
        return f"int{signed}"
    return f"int{max(signed, 2 * unsigned)}" if unsigned < 64 else "utf8"


def merged_order(layouts: Iterable[Layout]) -> list[Key]:
    """All values, in the order of the first layout; others behind the value that precedes them in theirs."""
    order: list[Key] = []
    for layout in layouts:
        at = 0
        for key in layout:
            if key in order:
                at = order.index(key) + 1
            else:
                order.insert(at, key)
                at += 1
    return order


def keys(names: Iterable[str | None]) -> Layout:
    """Each name with its count so far."""
    counts: Counter[str | None] = Counter()
    found = []
    for name in names:
        counts[name] += 1
        found.append((name, counts[name]))
    return tuple(found)


def columns_of(order: Iterable[Key], types: Mapping[Key, str]) -> tuple[tuple[str, str, Key], ...]:
    """Name and type of each column; no two names are the same."""
    head, tail = _native.evtx_wide_common()
    taken = {name for name, _, _ in (*head, *tail)}
    own: list[tuple[str, str, Key]] = []
    for key in order:
        name = snake_case(key[0] or "")
        if name in taken and name not in {column for column, _, _ in own}:
            name += "_data"
        base, number = name, 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        own.append((name, types[key], key))
    return tuple(own)


def read_logs(paths: Iterable[str], wanted: set[Event]) -> dict[Event, Seen]:
    """What the logs show of the wanted events."""
    import pyarrow as pa

    whole: dict[Event, Seen] = {}
    doubtful: dict[Event, Seen] = {}
    for path in paths:
        with open(path, "rb") as file:
            reader = _native.EvtxReader(file.fileno(), os.fstat(file.fileno()).st_size)
            for name, exported in reader:
                if name == _EVENTS:
                    for row in pa.record_batch(exported).select(_NEEDED).to_pylist():
                        event = (row["provider_name"], row["event_id"])
                        if event in wanted:
                            seen = doubtful if row["@flags"] & _DOUBTFUL else whole
                            _note(seen.setdefault(event, Seen(Counter(), {})), row)
    return doubtful | whole


def _note(seen: Seen, row: Mapping[str, object]) -> None:
    names, types = row["data_names"], row["data_types"]
    assert isinstance(names, list)
    assert isinstance(types, list)
    # The items of an array stand one by one under the array's name: they are one value.
    # What stands beside the payload is in `evtx_events`, and in a wide row's lists.
    single = [
        (name, code)
        for name, code in zip(names, types, strict=True)
        if not code & 0x80 and not (name or "").startswith(_BESIDE)
    ]
    layout = keys(name for name, _ in single)
    version = row["version"]
    seen.layouts[version if isinstance(version, int) else 0, layout] += 1
    for key, (_, code) in zip(layout, single, strict=True):
        seen.types.setdefault(key, set()).add(code)


def read_published() -> dict[Event, tuple[str, list[tuple[str, str]]]]:
    """The published events: table, and (type, name) of each value."""
    found: dict[Event, tuple[str, list[tuple[str, str]]]] = {}
    event: Event | None = None
    text = (installation.package() / "contracts" / "wide_published.tsv").read_text("utf-8")
    for line in text.splitlines():
        fields = line.split("\t")
        if not line or line.startswith("#"):
            continue
        if fields[0]:
            event = (fields[2], int(fields[1]))
            found[event] = (fields[0], [])
        elif event is not None:
            found[event][1].append((fields[1], fields[2]))
    return found


def tables(
    events: Sequence[tuple[str, Event]],
    seen: Mapping[Event, Seen],
    published: Mapping[Event, tuple[str, list[tuple[str, str]]]],
) -> Iterator[WideTable]:
    """The tables, in the order of the events.

    Raises:
        KeyError: an event is in no log and not published either.
    """
    for name, event in events:
        known = dict(zip(keys(n for _, n in published[event][1]),
                         (kind for kind, _ in published[event][1]), strict=True)) \
            if event in published else {}  # fmt: skip
        if event not in seen:
            if not known:
                raise KeyError(f"{event[0]}/{event[1]}")
            yield WideTable(name, event, "published", columns_of(known, known))
            continue
        found = seen[event]
        newest_first = sorted(
            found.layouts,
            key=lambda item: (item[0], len(item[1]), found.layouts[item], str(item[1])),
            reverse=True,
        )
        order = merged_order([*(layout for _, layout in newest_first), tuple(known)])
        types = {
            key: merged_type(_TYPES[code] for code in found.types.get(key, ()) if code in _TYPES)
            if found.types.get(key, set()) - {0}
            else known.get(key, "utf8")
            for key in order
        }
        yield WideTable(name, event, "template", columns_of(order, types))


def render(found: Iterable[WideTable]) -> str:
    """The list as the native module reads it."""
    lines = [
        "# The wide tables of event logs, written by `python -m casparian.contracts.wide_templates`.",
        "# A table: name, event id, provider, origin. Its columns: name, type, the value's name, which value of that name.",
    ]
    for table in found:
        provider, event_id = table.event
        lines.append(f"{table.name}\t{event_id}\t{provider}\t{table.origin}")
        for name, kind, (source, occurrence) in table.columns:
            count = f"\t{occurrence}" if occurrence > 1 else ""
            lines.append(f"\t{name}\t{kind}\t{source or ''}{count}")
    return "\n".join(lines) + "\n"


def _events(extra: Iterable[str]) -> list[tuple[str, Event]]:
    found = [
        (f"evtx_{family}_{event_id}", (provider, event_id))
        for family, provider, event_ids in CURATED
        for event_id in event_ids
    ]
    for text in extra:
        name, _, event = text.partition("=")
        provider, _, event_id = event.rpartition("/")
        found.append((name, (provider, int(event_id))))
    return found


def logs_below(roots: Iterable[str]) -> Iterator[str]:
    """Event logs by name, in a stable order."""
    for root in roots:
        for directory, folders, names in os.walk(root):
            folders.sort()
            yield from (
                os.path.join(directory, name)
                for name in sorted(names)
                if name.lower().endswith(".evtx")
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Read logs below the given directories and print the list."""
    parser = argparse.ArgumentParser(prog="python -m casparian.contracts.wide_templates")
    parser.add_argument("directory", nargs="*", help="where event logs are")
    parser.add_argument("--event", action="append", default=[], metavar="NAME=PROVIDER/ID")
    options = parser.parse_args(arguments)
    events = _events(options.event)
    seen = read_logs(logs_below(options.directory), {event for _, event in events})
    try:
        sys.stdout.write(render(tables(events, seen, read_published())))
    except KeyError as error:
        parser.error(f"no log has the event {error.args[0]}, and its fields are not published here")
    return 0


if __name__ == "__main__":
    sys.exit(main())
