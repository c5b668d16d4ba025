"""`casparian trust root`: the key ceremony, on machines that need no home and no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from casparian import clock
from casparian.cli import signing
from casparian.cli.app import App
from casparian.cli.framework import group, pass_app
from casparian.cli.output import plural
from casparian.cli.render import short
from casparian.cli.signing import KeySource
from casparian.display import show

if TYPE_CHECKING:
    from casparian.trust.root import Root

_DAY_NS = 86_400 * 1_000_000_000
_TEN_YEARS = 3_652


@group("root")
def command() -> None:
    """Make, sign and change the organisation's root of trust."""


@command.command("new")
@click.option("--organisation", required=True, metavar="TEXT", help="Its name")
@click.option(
    "--key",
    "keys",
    multiple=True,
    required=True,
    metavar="NAME|FILE",
    help="A holder's public key; once a holder",
)
@click.option(
    "--threshold", type=click.IntRange(min=1), required=True, help="Holders it takes to sign"
)
@click.option(
    "--policy-key",
    "policy_keys",
    multiple=True,
    required=True,
    metavar="NAME|FILE",
    help="Public key of somebody who may sign the policy",
)
@click.option(
    "--policy-threshold",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="People it takes to sign the policy",
)
@click.option(
    "--expires-days",
    type=click.IntRange(min=1),
    default=_TEN_YEARS,
    show_default=True,
    help="How long it counts",
)
@click.option("--out", default="root.json", show_default=True, metavar="FILE", help="Where to")
@click.option("--dry-run", is_flag=True, help="Write nothing")
@pass_app
def new(
    app: App,
    *,
    organisation: str,
    keys: tuple[str, ...],
    threshold: int,
    policy_keys: tuple[str, ...],
    policy_threshold: int,
    expires_days: int,
    out: str,
    dry_run: bool,
) -> None:
    """Make a root that nobody has signed yet."""
    from casparian.trust.root import make_root

    now_ns = clock.now_ns()
    raw = make_root(
        organisation=organisation,
        root=[signing.read_public(key) for key in keys],
        root_threshold=threshold,
        policy=[signing.read_public(key) for key in policy_keys],
        policy_threshold=policy_threshold,
        issued_ns=now_ns,
        expires_ns=now_ns + expires_days * _DAY_NS,
    )
    _finish(app, raw, None, out, new=True, dry_run=dry_run)


@command.command("sign")
@click.argument("root", type=click.Path())
@signing.key_options
@click.option("--previous", metavar="FILE", help="The version before it, to say what is missing")
@click.option("--out", metavar="FILE", help="Where to [default: the same file]")
@click.option("--dry-run", is_flag=True, help="Write nothing")
@pass_app
def sign(
    app: App, *, root: str, source: KeySource, previous: str | None, out: str | None, dry_run: bool
) -> None:
    """Add your signature to a root: look at its fingerprint first."""
    from casparian.trust.root import add_signature, read_root

    raw = signing.read_file(root)
    found = read_root(raw)
    if not app.out.json:
        app.out.say(f"signing {_title(found)}, fingerprint SHA256:{found.fingerprint}")
    key = signing.open_key(source)
    before = None if previous is None else read_root(signing.read_file(previous))
    known = set(found.root.keyids) | set(before.root.keyids if before else ())
    if before is not None or found.version == 1:
        _check_known(key.public.keyid, known, "root")
    signed = add_signature(raw, key, "the root")
    _finish(app, signed, before, out or root, new=False, dry_run=dry_run)


@command.command("add-key")
@click.argument("root", type=click.Path())
@click.argument("key", metavar="NAME|FILE")
@click.option("--policy", "for_policy", is_flag=True, help="A key that may sign the policy")
@click.option("--threshold", type=click.IntRange(min=1), help="The role's new threshold")
@click.option("--out", required=True, metavar="FILE", help="Where to write the next version")
@click.option("--dry-run", is_flag=True, help="Write nothing")
@pass_app
def add_key(
    app: App,
    *,
    root: str,
    key: str,
    for_policy: bool,
    threshold: int | None,
    out: str,
    dry_run: bool,
) -> None:
    """Make the next version of a root with one more key; old and new holders must sign it."""
    if for_policy:
        _next_version(
            app, root, out, dry_run=dry_run, add_policy=(key,), policy_threshold=threshold
        )
    else:
        _next_version(app, root, out, dry_run=dry_run, add=(key,), threshold=threshold)


@command.command("rotate")
@click.argument("root", type=click.Path())
@click.option("--add", multiple=True, metavar="NAME|FILE", help="A new holder's public key")
@click.option("--remove", multiple=True, metavar="KEYID", help="A holder's key to drop")
@click.option("--add-policy", multiple=True, metavar="NAME|FILE", help="A new policy key")
@click.option("--remove-policy", multiple=True, metavar="KEYID", help="A policy key to drop")
@click.option("--threshold", type=click.IntRange(min=1), help="Holders it takes from now on")
@click.option("--policy-threshold", type=click.IntRange(min=1), help="The same for the policy")
@click.option(
    "--expires-days",
    type=click.IntRange(min=1),
    default=_TEN_YEARS,
    show_default=True,
    help="How long it counts",
)
@click.option("--out", required=True, metavar="FILE", help="Where to write the next version")
@click.option("--dry-run", is_flag=True, help="Write nothing")
@pass_app
def rotate(app: App, *, root: str, out: str, dry_run: bool, **changes: Any) -> None:
    """Make the next version of a root with other keys; old and new holders must sign it."""
    _next_version(app, root, out, dry_run=dry_run, **changes)


@command.command("show")
@click.argument("root", type=click.Path())
@click.option("--previous", metavar="FILE", help="The version before it")
@pass_app
def show_root(app: App, *, root: str, previous: str | None) -> None:
    """Show a root: its holders, who has signed, its fingerprint and words."""
    from casparian.trust.root import read_root

    before = None if previous is None else read_root(signing.read_file(previous))
    _emit(app, read_root(signing.read_file(root)), before, root)


def describe(root: Root, before: Root | None = None) -> dict[str, Any]:
    """A root as plain values; signatures are verified one by one."""
    from casparian.trust.documents import time_text
    from casparian.trust.root import missing_root_signatures
    from casparian.trust.words import fingerprint_text, words_of

    holders = {**(before.holders if before else {}), **root.holders}
    keys = {**(before.keys if before else {}), **root.keys}
    return {
        "organisation": root.organisation,
        "version": root.version,
        "fingerprint": fingerprint_text(root.fingerprint),
        "words": list(words_of(root.fingerprint)),
        "issued": time_text(root.issued_ns),
        "expires": time_text(root.expires_ns),
        "threshold": root.root.threshold,
        "holders": [_person(root, keyid) for keyid in root.root.keyids],
        "policy_threshold": root.policy.threshold,
        "policy": [_person(root, keyid) for keyid in root.policy.keyids],
        "signatures": [
            {
                "keyid": keyid,
                "holder": holders.get(keyid),
                "holds": keyid in keys and keys[keyid].verifies(signature, root.payload),
            }
            for keyid, signature in root.signatures.items()
        ],
        "missing": missing_root_signatures(root, before),
    }


def lines(document: dict[str, Any]) -> list[str]:
    """A described root for people."""
    out = [
        f"{document['organisation']}, root version {document['version']}",
        f"  {document['fingerprint']}",
        f"  {' '.join(document['words'])}",
        f"  from {document['issued']} to {document['expires']}",
        f"  {document['threshold']} of {len(document['holders'])} holders change it:",
        *(f"    {show(p['holder'])}  {p['scheme']}  {p['keyid']}" for p in document["holders"]),
        f"  {document['policy_threshold']} of {len(document['policy'])} sign the policy:",
        *(f"    {show(p['holder'])}  {p['scheme']}  {p['keyid']}" for p in document["policy"]),
    ]
    for signature in document["signatures"]:
        mark = "✓" if signature["holds"] else "✗"
        out.append(f"  {mark} signed by {show(signature['holder'] or signature['keyid'])}")
    if document["missing"]:
        out.append(f"  {plural(document['missing'], 'signature')} missing")
    return out


def _person(root: Root, keyid: str) -> dict[str, str]:
    return {"keyid": keyid, "holder": root.holders[keyid], "scheme": root.keys[keyid].name}


def _next_version(
    app: App,
    path: str,
    out: str,
    *,
    dry_run: bool,
    add: tuple[str, ...] = (),
    remove: tuple[str, ...] = (),
    add_policy: tuple[str, ...] = (),
    remove_policy: tuple[str, ...] = (),
    threshold: int | None = None,
    policy_threshold: int | None = None,
    expires_days: int = _TEN_YEARS,
) -> None:
    from casparian.trust.root import make_root, read_root

    before = read_root(signing.read_file(path))
    now_ns = clock.now_ns()
    raw = make_root(
        organisation=before.organisation,
        root=_people(before, before.root.keyids, add, remove),
        root_threshold=threshold or before.root.threshold,
        policy=_people(before, before.policy.keyids, add_policy, remove_policy),
        policy_threshold=policy_threshold or before.policy.threshold,
        issued_ns=now_ns,
        expires_ns=now_ns + expires_days * _DAY_NS,
        version=before.version + 1,
    )
    _finish(app, raw, before, out, new=True, dry_run=dry_run)


def _people(
    before: Root, keyids: tuple[str, ...], add: tuple[str, ...], remove: tuple[str, ...]
) -> list[Any]:
    from casparian.errors import UsageError

    dropped = set()
    for prefix in remove:
        found = [keyid for keyid in keyids if keyid.startswith(prefix)]
        if len(found) != 1 or len(prefix) < 6:
            raise UsageError(
                f"`{show(prefix)}` is not the id of one key of this role",
                code="usage.key",
                hint="`casparian trust root show FILE` lists them; six digits suffice",
            )
        dropped.add(found[0])
    kept = [(before.keys[k], before.holders[k]) for k in keyids if k not in dropped]
    return [*kept, *(signing.read_public(key) for key in add)]


def _check_known(keyid: str, known: set[str], what: str) -> None:
    if keyid not in known:
        from casparian.trust.refusals import refused

        raise refused(
            "trust.unknown_signer",
            f"the key {short(keyid)} is none of this {what}'s: its signature would not count",
            hint="sign with a holder's key; of a next version name the one before it with `--previous`",
        )


def _finish(
    app: App, raw: bytes, before: Root | None, out: str, *, new: bool, dry_run: bool
) -> None:
    from casparian.trust.root import read_root

    if not dry_run:
        signing.write_file(out, raw, new=new)
    if not app.out.json:
        app.out.say(f"{'would write' if dry_run else 'wrote'} `{show(out)}`")
    _emit(app, read_root(raw), before, out)


def _emit(app: App, root: Root, before: Root | None, path: str) -> None:
    document = {"file": path, **describe(root, before)}

    def human() -> None:
        for line in lines(document):
            app.out.line(line)
        if document["missing"]:
            app.out.hint(f"casparian trust root sign {path} --key KEY", "each holder in turn")

    app.out.emit(document, human)


def _title(root: Root) -> str:
    return f"version {root.version} of the root of {show(root.organisation)}"
