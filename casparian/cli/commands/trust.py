"""`casparian trust`: who decides what runs here, from the key ceremony to what a revocation touches."""

from __future__ import annotations

import os
import re
import secrets
import sys
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from casparian import clock, ids
from casparian.cli import signing
from casparian.cli.app import App
from casparian.cli.commands import trust_key, trust_policy, trust_root, trust_unsigned
from casparian.cli.framework import group, pass_app
from casparian.cli.render import short, time_text
from casparian.display import show
from casparian.errors import UsageError
from casparian.protocol import control

if TYPE_CHECKING:
    from casparian.trust.root import Root
    from casparian.trust.state import TrustState

_WORDS_ASKED: Final = 3
_YEARS_SOLO_NS: Final = 3_652 * 86_400 * 1_000_000_000
_ROOT_WARNING_NS: Final = 365 * 86_400 * 1_000_000_000  # its holders have to meet
_POLICY_WARNING_NS: Final = 30 * 86_400 * 1_000_000_000
_EVERYTHING: Final = ("parsers/*/*", "contracts/*", "settings/*", "quarantine/*")


@group("trust")
def command() -> None:
    """Decide who may sign what: keys, root, policy, revocation."""


for _word in (
    trust_key.command,
    trust_root.command,
    trust_policy.command,
    trust_unsigned.allow_unsigned,
):
    command.add_command(_word)


@command.command("init")
@click.option("--root", metavar="FILE|DIR", help="The organisation's root, or all its versions")
@click.option(
    "--fingerprint", metavar="SHA256:…", help="The root's fingerprint, or its twelve words"
)
@click.option("--policy", metavar="FILE", help="The policy, to import with it")
@click.option("--solo", metavar="NAME", help="For one person: make key, root and policy in one go")
@click.option("--keys", metavar="DIR", help="With --solo: where the key goes")
@click.option("--passphrase-file", metavar="FILE", help="With --solo: the new key's passphrase")
@click.option(
    "--out", metavar="DIR", help="With --solo: where root and policy go [default: DIR of the key]"
)
@click.option("--dry-run", is_flag=True, help="Change nothing")
@pass_app
def init(
    app: App,
    *,
    root: str | None,
    fingerprint: str | None,
    policy: str | None,
    solo: str | None,
    keys: str | None,
    passphrase_file: str | None,
    out: str | None,
    dry_run: bool,
) -> None:
    """Trust a root for the first time: compare its words with the printed card.

    Nothing is trusted because it came first: give the fingerprint, or type three of the card's words.
    """
    if (root is None) == (solo is None):
        raise UsageError(
            "which root? `--root FILE`, or `--solo NAME` to make one for yourself",
            code="usage.root",
            hint="casparian trust init --help",
        )
    if solo is not None:
        _solo(app, solo, keys, passphrase_file, out, dry_run=dry_run)
        return
    assert root is not None
    from casparian.trust.root import read_root
    from casparian.trust.words import check_fingerprint, fingerprint_text

    documents = _documents(root)
    roots = [read_root(raw) for raw in documents if _kind(raw) == "root"]
    if not roots:
        raise UsageError(f"`{show(root)}` holds no root", code="usage.root", hint=None)
    first = min(roots, key=lambda found: found.version)
    if policy is not None:
        documents = (*documents, signing.read_file(policy))
    if fingerprint is not None:
        check_fingerprint(first.fingerprint, fingerprint)
    else:
        _compare_words(app, first)
    _import(app, documents, fingerprint_text(first.fingerprint), dry_run=dry_run)


@command.command("import")
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Check only")
@pass_app
def import_(app: App, *, paths: tuple[str, ...], dry_run: bool) -> None:
    """Take over newer roots and policies; what is older, or another of the same version, is refused."""
    documents = tuple(dict.fromkeys(raw for path in paths for raw in _documents(path)))
    _import(app, documents, None, dry_run=dry_run)


@command.command("show")
@pass_app
def show_trust(app: App) -> None:
    """Show what is trusted in this home: root, policy, floors, the program's own key."""
    from casparian.trust import state as states
    from casparian.trust.documents import time_text as date_text
    from casparian.trust.verdict import release_key

    state = states.load(app.home.trust)
    own, now_ns = release_key(), states.now(state)
    document: dict[str, Any] = {
        "root": None if state.root is None else trust_root.describe(state.root),
        "policy": None if state.policy is None else trust_policy.describe(state.policy, state.root),
        "policy_problem": None
        if state.policy_problem is None
        else dict(zip(("code", "message"), state.policy_problem, strict=True)),
        "floors": msgspec.to_builtins(state.floors),
        "allow_unsigned": msgspec.to_builtins(state.allow_unsigned),
        "now": date_text(now_ns),
        "warnings": _ending(state, now_ns),
        "release_key": {
            "keyid": own.public.keyid,
            "development": own.development,
            "listed": None
            if state.policy is None
            else own.public.keyid in state.policy.release_keyids,
        },
    }

    def human() -> None:
        if document["root"] is None:
            app.out.line("No root of trust: only the program's own parsers run here")
            app.out.hint("casparian trust init --root FILE", "trust your organisation's root")
            app.out.hint("casparian trust init --solo NAME", "for one person: make one")
        else:
            for line in trust_root.lines(document["root"]):
                app.out.line(line)
        if document["policy"] is not None:
            for line in trust_policy.lines(document["policy"]):
                app.out.line(line)
        elif document["policy_problem"] is not None:
            app.out.line(f"NO POLICY IN FORCE: {show(document['policy_problem']['message'])}")
        elif document["root"] is not None:
            app.out.line("No policy in force")
            app.out.hint("casparian trust import policy.json", "bring it")
        for warning in document["warnings"]:
            app.out.say(f"warning: {warning}")
        kind = "DEVELOPMENT key: everybody has it" if own.development else "release key"
        app.out.line(f"this program's parsers: {short(own.public.keyid)} ({kind})")
        unsigned = state.allow_unsigned
        if unsigned is not None:
            app.out.line(
                f"UNSIGNED PYTHON PARSERS MAY RUN: {show(unsigned.reason)} "
                f"({show(', '.join(unsigned.by))}, approval {unsigned.approval_id})"
            )

    app.out.emit(document, human)


@command.command("log")
@click.option("--limit", type=click.IntRange(min=1), help="Only the newest so many")
@pass_app
def log(app: App, *, limit: int | None) -> None:
    """List every decision about trust and each change of the program, from the tape, oldest first."""
    rows = [
        {"seq": row["seq"], **msgspec.json.decode(row["entry"])} for row in app.read("trust_log")
    ]
    rows = rows[-limit:] if limit is not None else rows

    def human() -> None:
        if not rows:
            app.out.line("Nothing was decided about trust here yet")
            return
        app.out.table(
            ("entry", "at", "what", "by", "details"),
            [
                (
                    row["seq"],
                    time_text(row.get("at_ns") or row.get("at")),
                    row.get("kind"),
                    row.get("actor"),
                    _details(row),
                )
                for row in rows
            ],
        )

    app.out.emit({"entries": rows}, human)


@command.command("impact")
@click.argument("what", metavar="KEYID|ARTIFACT")
@pass_app
def impact(app: App, *, what: str) -> None:
    """List jobs and tables that rest on a key or a parser: what a revocation would touch."""
    text = what.casefold()
    if not re.fullmatch(r"[0-9a-f]{8,64}", text):
        raise UsageError(
            f"`{show(what)}` is neither a key's id nor an artifact's hash",
            code="usage.impact",
            hint="at least eight of its hexadecimal digits; `casparian trust show` lists keys",
        )
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for field in ("keyid", "artifact_hash"):
        for row in app.read("trust_impact", {field: text}):
            rows[row["job_id"], row["table_name"], row["sink"]] = row
    found = list(rows.values())

    def human() -> None:
        if not found:
            app.out.line(f"No living rows rest on {show(what)}")
            return
        app.out.table(
            ("job", "parser", "artifact", "table", "sources", "rows", "committed"),
            [
                (
                    r["job_id"],
                    f"{r['parser']}@{r['parser_version']}",
                    short(r["artifact_hash"]),
                    r["table_name"],
                    r["sources"],
                    r["rows"],
                    time_text(r["committed_at_ns"]),
                )
                for r in found
            ],
        )
        app.out.say("these rows stay, and can be proven; nothing new is made with what is revoked")

    app.out.emit({"what": text, "impact": found}, human)


@command.command("card")
@click.argument("root", type=click.Path())
@click.option("--svg", metavar="FILE", help="Write the QR code as a picture")
@click.option("--dry-run", is_flag=True, help="Write nothing")
@pass_app
def card(app: App, *, root: str, svg: str | None, dry_run: bool) -> None:
    """Print a card to keep on paper: words, fingerprint and QR code of a root."""
    from casparian.trust import words
    from casparian.trust.root import read_root

    found = read_root(signing.read_file(root))
    content = words.qr_content(found.fingerprint)
    if svg is not None and not dry_run:
        signing.write_file(svg, words.qr_svg(content).encode())
    document = {
        "organisation": found.organisation,
        "version": found.version,
        "fingerprint": words.fingerprint_text(found.fingerprint),
        "words": list(words.words_of(found.fingerprint)),
        "qr": content,
        "svg": svg,
    }

    def human() -> None:
        app.out.line(words.card_text(show(found.organisation), found.version, found.fingerprint))
        app.out.line("")
        app.out.line(words.qr_text(content))

    app.out.emit(document, human)


def _solo(
    app: App,
    name: str,
    keys: str | None,
    passphrase_file: str | None,
    out: str | None,
    *,
    dry_run: bool,
) -> None:
    """One person is root holder, officer and lead examiner: one key, three documents, all in force."""
    from casparian.trust.keys import PrivateKey, export_public
    from casparian.trust.policy import ExaminerRole, make_policy
    from casparian.trust.refusals import refused
    from casparian.trust.root import add_signature, make_root, read_root
    from casparian.trust.verdict import release_key
    from casparian.trust.words import fingerprint_text, words_of

    folder = signing.keys_directory(keys)
    stem = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or "solo"
    path = os.path.join(folder, stem + signing.PRIVATE_SUFFIX)
    if os.path.exists(path):
        raise refused("trust.key_exists", f"`{show(path)}` is there already")
    key = PrivateKey.generate("ed25519", holder=name)
    me, now_ns = (key.public, name), clock.now_ns()
    root = make_root(
        organisation=name,
        root=[me],
        root_threshold=1,
        policy=[me],
        policy_threshold=1,
        issued_ns=now_ns,
        expires_ns=now_ns + _YEARS_SOLO_NS,
    )
    own = release_key()
    policy = make_policy(
        version=1,
        issued_ns=now_ns,
        expires_ns=now_ns + _YEARS_SOLO_NS,
        keys=[me, (own.public, "development" if own.development else "release")],
        roles=[
            ExaminerRole(
                name="lead examiner", keyids=(key.public.keyid,), threshold=1, paths=_EVERYTHING
            )
        ],
        release_keyids=[own.public.keyid],
    )
    root, policy = add_signature(root, key, "the root"), add_signature(policy, key, "the policy")
    fingerprint = read_root(root).fingerprint
    where = os.path.abspath(out or folder)
    files = {
        "key": path,
        "root": os.path.join(where, "root.json"),
        "policy": os.path.join(where, "policy.json"),
    }
    if not dry_run:
        passphrase = signing.secret_text(
            passphrase_file, f"new passphrase for {show(path)}", confirm=True
        )
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.makedirs(where, exist_ok=True)
        for file in (files["root"], files["policy"]):
            if os.path.exists(file):
                raise UsageError(
                    f"`{show(file)}` is there already", code="usage.file", hint="--out DIR"
                )
        key.write(path, passphrase)
        public = path.removesuffix(signing.PRIVATE_SUFFIX) + signing.PUBLIC_SUFFIX
        signing.write_file(public, export_public(key.public, name))
        signing.write_file(files["root"], root, new=True)
        signing.write_file(files["policy"], policy, new=True)
    document: dict[str, Any] = {
        "files": files,
        "keyid": key.public.keyid,
        "fingerprint": fingerprint_text(fingerprint),
        "words": list(words_of(fingerprint)),
        "development": own.development,
    }
    done = _ask_import(app, (root, policy), fingerprint_text(fingerprint), dry_run=dry_run)

    def human() -> None:
        for what, file in files.items():
            app.out.line(f"{what:<7} `{show(file)}`")
        app.out.line(f"words   {' '.join(document['words'])}")
        app.out.line(f"        {document['fingerprint']}")
        app.out.line(done.message)
        if own.development:
            app.out.say(
                "this program was built with the development key, which everybody has: the policy lists it"
            )
        app.out.hint(f"casparian trust card {files['root']}", "print the words and keep them")
        app.out.hint("casparian parser sign DIR --key " + stem, "sign a parser")

    app.out.emit({**document, "dry_run": dry_run, "message": done.message, **done.fields}, human)


def _compare_words(app: App, root: Root) -> None:
    """Show the words, and have a person type three of them from the printed card."""
    from casparian.trust.refusals import refused
    from casparian.trust.words import WORDS, fingerprint_text, words_of

    if not sys.stdin.isatty():
        raise UsageError(
            "the root's fingerprint must be compared, and nobody can be asked",
            code="usage.fingerprint",
            hint="--fingerprint SHA256:… from the printed card",
        )
    words = words_of(root.fingerprint)
    app.out.say(f"root of {show(root.organisation)}, version {root.version}")
    app.out.say(f"  {fingerprint_text(root.fingerprint)}")
    app.out.say(f"  {' '.join(words)}")
    app.out.say("compare them with the printed card, not with what came with the file")
    asked = sorted(secrets.SystemRandom().sample(range(WORDS), _WORDS_ASKED))
    for number in asked:
        typed: str = click.prompt(f"word {number + 1} of the card", err=True)
        if typed.strip().casefold() != words[number]:
            raise refused(
                "trust.words", f"word {number + 1} of the card is not the root's: it is not trusted"
            )


def _import(
    app: App, documents: tuple[bytes, ...], fingerprint: str | None, *, dry_run: bool
) -> None:
    done = _ask_import(app, documents, fingerprint, dry_run=dry_run)

    def human() -> None:
        app.out.line(f"{'would do: ' if dry_run else ''}{done.message}")
        for name, value in done.fields.items():
            app.out.say(f"  {name.replace('_', ' ')}: {show(str(value))}")
        if not dry_run:
            app.out.hint("casparian trust show", "see what is trusted now")

    app.out.emit({"dry_run": dry_run, "message": done.message, **done.fields}, human)


def _ask_import(
    app: App, documents: tuple[bytes, ...], fingerprint: str | None, *, dry_run: bool
) -> control.Done:
    request = control.ImportTrust(
        request_id=ids.new_request_id(),
        documents=documents,
        fingerprint=fingerprint,
        dry_run=dry_run,
    )
    with app.client() as client:
        return client.ask(request, control.Done)


def _documents(path: str) -> tuple[bytes, ...]:
    """The roots and policies in a file, or in a folder and its `root` folder."""
    if not os.path.isdir(path):
        return (signing.read_file(path),)
    found = []
    for folder in (path, os.path.join(path, "root")):
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        for name in names:
            if name in ("root.json", "policy.json") or name.endswith(".root.json"):
                found.append(signing.read_file(os.path.join(folder, name)))
    if not found:
        raise UsageError(
            f"`{show(path)}` holds neither roots nor a policy",
            code="usage.root",
            hint="files named `root.json`, `N.root.json` and `policy.json` are looked for",
        )
    return tuple(dict.fromkeys(found))


def _kind(raw: bytes) -> str:
    from casparian.trust.documents import decode

    signed = decode(raw, "the document").get("signed")
    kind = signed.get("_type") if isinstance(signed, dict) else None
    return str(kind)


def _ending(state: TrustState, now_ns: int) -> list[str]:
    """What is past its date, or will be before there is time for a ceremony."""
    from casparian.trust.documents import time_text as date_text

    found = []
    for what, document, early_ns in (
        ("root", state.root, _ROOT_WARNING_NS),
        ("policy", state.policy, _POLICY_WARNING_NS),
    ):
        if document is not None and document.expires_ns - early_ns <= now_ns:
            word = "expired" if document.expires_ns <= now_ns else "expires"
            found.append(f"the {what} {word} on {date_text(document.expires_ns)}")
    return found


def _details(row: dict[str, Any]) -> str:
    left_out = {"seq", "at", "at_ns", "kind", "actor"}
    return ", ".join(
        f"{name} {short(v) if isinstance(v, str) and len(v) == 64 else v}"
        for name, v in row.items()
        if name not in left_out and v not in (None, "", [])
    )
