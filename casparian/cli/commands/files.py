"""`casparian files`: the catalogue of paths, as the last scan found them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.cli.render import plain, short
from casparian.domain.files import FileStatus


@click.command("files", cls=Command)
@click.argument("glob", required=False)
@click.option("--root", metavar="DIR", help="Only files of this evidence root")
@click.option("--tag", metavar="TAG", help="Only files with this tag")
@click.option(
    "--status", type=click.Choice([s.value for s in FileStatus]), help="Only files in this state"
)
@click.option("--hash", "source_hash", metavar="BLAKE3", help="Only files with this content")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many")
@pass_app
def command(
    app: App,
    *,
    glob: str | None,
    root: str | None,
    tag: str | None,
    status: str | None,
    source_hash: str | None,
    limit: int | None,
) -> None:
    """List catalogued files with tags and hashes."""
    filters: dict[str, str | int | bool | None] = {
        "glob": glob,
        "root": None if root is None else os.path.abspath(root),
        "tag": tag,
        "status": status,
        "source_hash": source_hash,
    }
    given = {name: value for name, value in filters.items() if value is not None}
    files = [plain(row) for row in app.read("files", given, limit=limit)]

    def human() -> None:
        if not files:
            app.out.line(
                "No catalogued file matches"
                if given
                else "No files yet. Start with `casparian scan DIR`"
            )
            return
        app.out.table(
            ("file", "status", "bytes", "blake3", "tags", "message"),
            [
                (
                    f["display_path"] or f["root"],
                    f["status"],
                    f["size_bytes"],
                    short(f["source_hash"]),
                    f["tags"],
                    f["message"] or _relation(f),
                )
                for f in files
            ],
        )

    app.out.emit({"files": files}, human)


def _relation(file: Mapping[str, Any]) -> str:
    """What a link points to, whose companion a file is, or which companions it has."""
    if file["link_target"]:
        return f"-> {file['link_target']}"
    if file["companion_of"]:
        return f"companion of {file['companion_of']}"
    roles = ", ".join(companion["role"] for companion in file["companions"])
    return f"with {roles}" if roles else ""
