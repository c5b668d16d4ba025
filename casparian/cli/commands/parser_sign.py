"""`casparian parser sign`, `pack` and `verify`: a parser's statement, made and examined; no sentinel is asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import click

from casparian import clock
from casparian.cli import signing
from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.cli.render import short
from casparian.cli.signing import KeySource
from casparian.display import show
from casparian.errors import CasparianError, ExitCode, UsageError

if TYPE_CHECKING:
    from casparian.trust.state import TrustState
    from casparian.trust.verify import Check

_DAY_NS: Final = 86_400 * 1_000_000_000
_MARKS: Final = {"passed": "✓", "warned": "!", "failed": "✗", "not reached": "·"}


@click.command("sign", cls=Command)
@click.argument("directory", metavar="DIR", type=click.Path())
@signing.key_options
@click.option(
    "--serial",
    type=click.IntRange(min=1),
    help="Above that of every earlier release [default: one above the statement's]",
)
@click.option(
    "--also", is_flag=True, help="Add your signature to the statement that is there, unchanged"
)
@click.option("--expires-days", type=click.IntRange(min=1), help="Deploy it so long only")
@click.option("--min-runtime", metavar="VERSION", help="Least version of this program")
@click.option("--note", default="", metavar="TEXT", help="For people; signed too")
@click.option("--dry-run", is_flag=True, help="Show what would be signed")
@pass_app
def sign(
    app: App,
    *,
    directory: str,
    source: KeySource,
    serial: int | None,
    also: bool,
    expires_days: int | None,
    min_runtime: str | None,
    note: str,
    dry_run: bool,
) -> None:
    """Sign a parser's folder: who reads your signature relies on you having read its code.

    The statement lists every file with its hashes and is written into DIR. Where two people are
    needed, the second one signs with `--also`.
    """
    from casparian.trust.artifact import STATEMENT_FILE, read_signed
    from casparian.trust.envelope import open_envelope
    from casparian.trust.library import parser_from_files
    from casparian.trust.statement import (
        add_signature,
        check_files,
        make_statement,
        read_payload,
    )
    from casparian.trust.statement import sign as seal

    files, old = read_signed(directory)
    artifact = parser_from_files(os.path.abspath(directory), files)
    if also:
        if old is None:
            raise UsageError(
                f"`{show(directory)}` has no statement yet",
                code="usage.statement",
                hint="leave out `--also`",
            )
        said, digests = read_payload(open_envelope(old, "the statement").payload)
        check_files(files, digests)
    else:
        now_ns = clock.now_ns()
        payload = make_statement(
            artifact.manifest,
            files,
            serial if serial is not None else _next_serial(old),
            now_ns,
            expires_ns=None if expires_days is None else now_ns + expires_days * _DAY_NS,
            note=note,
            **({} if min_runtime is None else {"min_runtime": min_runtime}),
        )
        said, digests = read_payload(payload)
    keyid = None
    if not dry_run:
        key = signing.open_key(source)
        keyid = key.public.keyid
        raw = add_signature(old, key) if also and old is not None else seal(payload, [key])
        signing.write_file(os.path.join(directory, STATEMENT_FILE), raw)
    document = {
        "parser": said.name,
        "version": said.version,
        "serial": said.serial,
        "artifact_hash": said.artifact_hash,
        "files": sorted(digests),
        "keyid": keyid,
        "statement": os.path.join(directory, STATEMENT_FILE),
        "dry_run": dry_run,
    }

    def human() -> None:
        word = "would sign" if dry_run else "signed"
        app.out.line(f"{word} {said.name}@{said.version}, serial {said.serial}")
        app.out.line(f"  artifact {said.artifact_hash}, {len(digests)} files")
        if keyid is not None:
            app.out.line(f"  by {keyid}")
            app.out.hint(f"casparian parser pack {directory}", "make one file of it")

    app.out.emit(document, human)


@click.command("pack", cls=Command)
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option("--out", default=".", show_default=True, metavar="FILE|DIR", help="Where to")
@click.option("--unsigned", is_flag=True, help="Also without a statement")
@click.option("--dry-run", is_flag=True, help="Write nothing")
@pass_app
def pack(app: App, *, directory: str, out: str, unsigned: bool, dry_run: bool) -> None:
    """Make one file of a signed parser: NAME-VERSION.casparian, for a USB stick."""
    from casparian.trust import package
    from casparian.trust.artifact import hash_artifact, read_signed

    files, statement = read_signed(directory)
    try:
        path = None if dry_run else package.pack(directory, out, unsigned=unsigned)
    except OSError as error:
        raise UsageError(
            f"`{show(out)}` cannot be written: {error.strerror}", code="usage.file", path=out
        ) from error
    size = len(package.pack_bytes(files, statement))
    document = {
        "package": path,
        "size_bytes": size,
        "artifact_hash": hash_artifact(files),
        "signed": statement is not None,
        "dry_run": dry_run,
    }

    def human() -> None:
        app.out.line(
            f"{'would write' if path is None else 'wrote'} `{show(path or out)}`, {size} bytes"
        )
        if path is not None:
            app.out.hint(f"casparian parser deploy {path}", "on the machine that is to run it")

    app.out.emit(document, human)


@click.command("verify", cls=Command)
@click.argument("path", metavar="DIR|PACKAGE", type=click.Path())
@click.option("--explain", is_flag=True, help="Every check, passed or not, and why")
@click.option("--root", metavar="FILE", help="Judge by this root instead of the home's trust")
@click.option("--policy", metavar="FILE", help="And this policy")
@pass_app
def verify(app: App, *, path: str, explain: bool, root: str | None, policy: str | None) -> int:
    """Say whether a parser could be deployed here, and by whose word."""
    from casparian.trust.verdict import release_key
    from casparian.trust.verify import explain_parser, verify_parser

    files, statement = _read(path)
    state = _state(app, root, policy)
    origin, statement = _origin(files, statement)
    arguments: dict[str, Any] = {"origin": origin, "deploying": origin.value == "deployed"}
    checks = explain_parser(state, files, statement, release_key(), **arguments)
    try:
        verified = verify_parser(state, files, statement, release_key(), **arguments)
    except CasparianError as error:
        if not explain:
            raise
        refusal: dict[str, Any] = {
            "verdict": "bad" if statement is not None else "unsigned",
            "path": path,
        }
        refusal["code"], refusal["message"] = error.code, error.message
        app.out.emit({**refusal, "checks": _plain(checks)}, lambda: _print(app, checks))
        return int(error.exit_code)
    document: dict[str, Any] = {
        "verdict": verified.verdict.value,
        "path": path,
        "origin": verified.origin.value,
        "parser": verified.name,
        "version": verified.version,
        "serial": verified.serial,
        "artifact_hash": verified.artifact_hash,
        "role": verified.role,
        "signers": list(verified.signers),
        "keyids": list(verified.keyids),
        "policy_version": verified.policy_version,
        "development": verified.development,
        "warnings": list(verified.warnings),
        "checks": _plain(checks),
    }

    def human() -> None:
        if explain:
            _print(app, checks)
        who = ", ".join(verified.signers) or "nobody"
        app.out.line(
            f"{verified.verdict.value}: {verified.name}@{verified.version}, signed by {show(who)}"
            f" ({', '.join(map(short, verified.keyids)) or 'no key'})"
        )
        for warning in verified.warnings:
            app.out.say(f"warning: {warning}")
        if verified.development:
            app.out.say("signed with the development key, which everybody has")

    app.out.emit(document, human)
    return int(ExitCode.DONE)


def _next_serial(old: bytes | None) -> int:
    """One above that of the statement that is there; whoever deploys refuses one that is too low."""
    from casparian.trust.envelope import open_envelope
    from casparian.trust.statement import read_payload

    if old is None:
        return 1
    said, _ = read_payload(open_envelope(old, "the statement").payload)
    return said.serial + 1


def _read(path: str) -> tuple[dict[str, bytes], bytes | None]:
    from casparian.trust.artifact import read_signed
    from casparian.trust.package import read_package

    if os.path.isdir(path):
        return read_signed(path)
    try:
        return read_package(path)
    except OSError as error:
        raise UsageError(
            f"`{show(path)}` cannot be read: {error.strerror}", code="usage.file", path=path
        ) from error


def _state(app: App, root: str | None, policy: str | None) -> TrustState:
    from casparian.trust import state as states

    if root is None:
        if policy is not None:
            raise UsageError(
                "a policy is judged by its root: `--root FILE`", code="usage.root", hint=None
            )
        return states.load(app.home.trust)
    state = states.with_root(states.TrustState(), signing.read_file(root))
    if policy is not None:
        state = states.with_policy(state, signing.read_file(policy), states.now(state))
    return state


def _origin(files: dict[str, bytes], statement: bytes | None) -> tuple[Any, bytes | None]:
    """Whether these are the program's own files, whose statement is compiled in; else as if to be deployed."""
    from casparian import _native
    from casparian.trust.artifact import hash_artifact
    from casparian.trust.origin import Origin

    artifact_hash = hash_artifact(files)
    for name, own in _native.first_party_parsers().items():
        if own == artifact_hash and statement is None:
            compiled = _native.first_party_statements()[name]
            return Origin.FIRST_PARTY, compiled.encode()
    return Origin.DEPLOYED, statement


def _plain(checks: tuple[Check, ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": check.name,
            "outcome": check.outcome.value,
            "detail": check.detail,
            "code": check.code,
            "hint": check.hint,
        }
        for check in checks
    ]


def _print(app: App, checks: tuple[Check, ...]) -> None:
    for check in checks:
        mark = _MARKS[check.outcome.value]
        detail = show(check.detail) or check.outcome.value
        app.out.line(f"{mark} {check.name:<11} {detail}")
        if check.outcome.value == "failed":
            app.out.line(f"  {'':<11} {check.code}; {check.hint or ''}".rstrip("; "))
