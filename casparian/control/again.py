"""Ask again for some sources of earlier runs: the same sinks, mode and settings, the parser and contract of today."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs

from casparian import ids
from casparian.control import requests
from casparian.domain.outputs import SinkMode
from casparian.protocol import control


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """One request, and what of the quarantine it is about."""

    request: control.Run
    root: str
    parser: str
    sources: int
    rows: int


def requests_again(
    lines: Iterable[Mapping[str, Any]],
    asked: Mapping[str, str],
    *,
    parser_settings: Sequence[str] = (),
    mode: str | None = None,
    max_quarantine: str | None = None,
    force: bool = False,
) -> list[Again]:
    """One request for each evidence root, parser and way the sources were asked for.

    Args:
        lines: `root`, `parser`, `source_id`, `run_id`, `rows`, one for each (job, source).
        asked: run id -> its request as JSON; a run that is not there is asked for with default settings.
        parser_settings: `PARSER.KEY=VALUE` over the settings of then.
        mode: sink mode, when not the one of then.
        max_quarantine: limit on rows set aside, when not the one of then.
        force: read sources again for which nothing changed.

    Raises:
        UsageError: a setting or limit that cannot be read.
    """
    groups: dict[bytes, tuple[control.Run, str, str, dict[str, int]]] = {}
    for line in lines:
        request = _asked(line, asked.get(line["run_id"]))
        if parser_settings:
            merged = requests.merged_settings(request.parser_config, parser_settings)
            request = structs.replace(request, parser_config=merged)
        if mode is not None:
            request = structs.replace(request, mode=SinkMode(mode))
        if max_quarantine is not None:
            rows_max, percent_max = requests.quarantine_limit(max_quarantine)
            request = structs.replace(
                request, quarantine_rows_max=rows_max, quarantine_percent_max=percent_max
            )
        request = structs.replace(
            request,
            force=force,
            retry_failed=max_quarantine is not None,  # a job that the limit of then had failed
        )
        key = msgspec.msgpack.encode((request, line["root"], line["parser"]))
        _, _, _, sources = groups.setdefault(key, (request, line["root"], line["parser"], {}))
        sources[line["source_id"]] = sources.get(line["source_id"], 0) + line["rows"]
    return [
        Again(
            request=structs.replace(
                request,
                request_id=ids.new_request_id(),
                selection=structs.replace(request.selection, sources=tuple(sources)),
            ),
            root=root,
            parser=parser,
            sources=len(sources),
            rows=sum(sources.values()),
        )
        for request, root, parser, sources in groups.values()
    ]


def _asked(line: Mapping[str, Any], text: str | None) -> control.Run:
    """The request of then, for one parser, without an id and without the files it chose."""
    evidence = os.fsencode(line["root"])
    request = control.Run(request_id="-", evidence=evidence)
    if text is not None:
        request = msgspec.json.decode(text, type=control.Run)
    # A parser that was named by its folder is not in the library.
    folders = tuple(
        folder
        for folder in request.selection.parsers
        if os.sep in folder and folder == line["artifact_dir"]
    )
    return structs.replace(
        request,
        request_id="-",
        evidence=evidence,
        selection=control.Selection(parsers=folders or (line["parser"],)),
        accept_engine=False,
        dry_run=False,
    )
