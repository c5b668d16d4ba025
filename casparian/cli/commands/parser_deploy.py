"""`casparian parser deploy` and `retire`: what the sentinel keeps in its store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import click

from casparian import ids
from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.display import show
from casparian.errors import UsageError
from casparian.protocol import control


@click.command("deploy", cls=Command)
@click.argument("package", metavar="PACKAGE|DIR", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Verify only")
@pass_app
def deploy(app: App, *, package: str, dry_run: bool) -> None:
    """Put a signed parser into this home's store, where runs find it by its name.

    PACKAGE is a file that `casparian parser pack` made; of a signed folder DIR one is made on the way. The
    sentinel reads it once, verifies it against the policy in force, and keeps exactly the bytes that it verified.
    Versions stand side by side: the one with the highest serial runs, `run --parser NAME@VERSION` takes another.
    """
    from casparian.trust.artifact import hash_artifact
    from casparian.trust.package import read_package

    with _packed(package) as path:
        try:
            files, _ = read_package(path)
        except OSError as error:
            raise _unreadable(package, error) from error
        request = control.Deploy(
            request_id=ids.new_request_id(),
            path=os.fsencode(os.path.abspath(path)),
            artifact_hash=hash_artifact(files),
            dry_run=dry_run,
        )
        with app.client() as client:
            done = client.ask(request, control.Done)

    def human() -> None:
        would = "would be deployed" if dry_run else "is deployed"
        app.out.line(f"`{done.fields['parser']}@{done.fields['version']}` {would}")
        app.out.line(f"  artifact {done.fields['artifact_hash']}")
        app.out.line(f"  {show(str(done.fields['trust']))}")
        if not dry_run:
            app.out.hint(
                f"casparian run EVIDENCE --parser {done.fields['parser']}", "ingest with it"
            )

    app.out.emit({"dry_run": dry_run, **done.fields}, human)


@click.command("retire", cls=Command)
@click.argument("parser", metavar="NAME@VERSION")
@click.option("--dry-run", is_flag=True, help="Say what would happen")
@pass_app
def retire(app: App, *, parser: str, dry_run: bool) -> None:
    """Do not run a deployed version any more; its files stay, so that its rows can be proven.

    Jobs that are queued already go on. Deploying the same version again takes it back.
    """
    name, _, version = parser.partition("@")
    if not name or not version:
        raise UsageError(
            f"`{show(parser)}` names no version",
            code="parser.version",
            hint="write NAME@VERSION; `casparian parser list` shows them",
        )
    deployed = [
        row
        for row in app.read("deployments", {"parser": name, "version": version})
        if row["retired_at_ns"] is None
    ]
    if dry_run:
        message = f"`{parser}` would be retired" if deployed else f"`{parser}` is not deployed here"
        count = len(deployed)
    else:
        with app.client() as client:
            request = control.Retire(request_id=ids.new_request_id(), parser=name, version=version)
            done = client.ask(request, control.Done)
        message, count = done.message, done.count
    app.out.emit(
        {"dry_run": dry_run, "message": message, "count": count}, lambda: app.out.line(message)
    )


@contextmanager
def _packed(path: str) -> Iterator[str]:
    """A package as it is; of a folder, one in a private directory that is removed afterwards."""
    if not os.path.isdir(path):
        yield path
        return
    from casparian.trust.package import pack

    with tempfile.TemporaryDirectory(prefix="casparian-deploy-") as folder:
        yield pack(path, folder)


def _unreadable(path: str, error: OSError) -> UsageError:
    return UsageError(
        f"the package `{show(path)}` cannot be read: {error.strerror or error}",
        code="deploy.path",
        hint="`casparian parser pack DIR` makes one",
    )
