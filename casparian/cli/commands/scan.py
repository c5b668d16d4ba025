"""`casparian scan`: what lies under a directory, before anything is parsed."""

from __future__ import annotations

from typing import Any, Final

import click

from casparian import ids
from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.cli.output import plural
from casparian.cli.progress import RunProgress
from casparian.control import requests
from casparian.display import show, size_text
from casparian.protocol import control

_PROBLEMS_SHOWN: Final = 20


@click.command("scan", cls=Command)
@click.argument("directory", type=click.Path())
@click.option("--dry-run", is_flag=True, help="List and identify, record nothing")
@pass_app
def command(app: App, directory: str, *, dry_run: bool) -> None:
    """Discover a directory: walk, hash, identify, tag."""
    request = control.Scan(
        request_id=ids.new_request_id(), evidence=requests.evidence_path(directory), dry_run=dry_run
    )
    with app.client(stop_after=True) as client, RunProgress(app.out) as progress:
        result = client.ask(request, control.ScanResult, on_event=progress)
    app.out.emit(_document(result, dry_run=dry_run), lambda: _print(app, result, directory))


def _document(result: control.ScanResult, *, dry_run: bool) -> dict[str, Any]:
    return {
        "root": result.root,
        "dry_run": dry_run,
        "files": result.files,
        "size_bytes": result.size_bytes,
        "unreadable": result.unreadable,
        "links": result.links,
        "special": result.special,
        "directories": result.directories,
        "duplicates": result.duplicates,
        "by_tag": result.by_tag,
        "untagged": result.untagged,
        "problems": [{"path": path, "reason": reason} for path, reason in result.problems],
    }


def _print(app: App, result: control.ScanResult, directory: str) -> None:
    out = app.out
    if not result.files:
        out.line(
            f"No files under `{show(result.root)}`. Hidden and system files are included by default"
        )
        return
    out.line(
        f"{plural(result.files, 'file')} in {plural(result.directories, 'directory', 'directories')},"
        f" {size_text(result.size_bytes)}"
    )
    tags = sorted(result.by_tag.items(), key=lambda item: (-item[1], item[0]))
    out.table(
        ("tag", "files"), [*tags, *([("(no tag)", result.untagged)] if result.untagged else [])]
    )
    extras = (
        (result.duplicates, "path has content seen before", "paths have content seen before"),
        (result.links, "link, not followed", "links, not followed"),
        (result.special, "special file, not opened", "special files, not opened"),
        (result.unreadable, "path could not be read", "paths could not be read"),
    )
    for number, one, many in extras:
        if number:
            out.line(plural(number, one, many))
    for path, reason in result.problems[:_PROBLEMS_SHOWN]:
        out.line(f"  {show(path)}: {show(reason)}")
    if len(result.problems) > _PROBLEMS_SHOWN:
        out.line(
            f"  … {len(result.problems) - _PROBLEMS_SHOWN} more; `casparian files --status unreadable`"
        )
    out.hint(f"casparian run {show(directory)}", "take them to tables")
