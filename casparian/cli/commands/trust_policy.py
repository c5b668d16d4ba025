"""`casparian trust policy`: lead examiners, scopes, thresholds, revocations; a file that travels.

A policy that somebody has signed is never changed: an edit makes the next version, without signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from casparian.errors import UsageError

if TYPE_CHECKING:
    from casparian.trust.keys import PublicKey
    from casparian.trust.policy import ExaminerRole, Policy

_DAY_NS = 86_400 * 1_000_000_000
_YEAR = 366


@group("policy")
def command() -> None:
    """Say who may sign what, and what is revoked."""


def _role_options(function: Any) -> Any:
    options = (
        click.option("--role", metavar="NAME", help="A role of lead examiners"),
        click.option(
            "--key", "keys", multiple=True, metavar="NAME|FILE", help="Public key in that role"
        ),
        click.option(
            "--threshold", type=click.IntRange(min=1), help="People it takes [default: 1]"
        ),
        click.option(
            "--scope",
            "scopes",
            multiple=True,
            metavar="GLOB",
            help="What it covers: parsers/NAME/VERSION, contracts/TABLE, settings/NAME, quarantine/PARSER",
        ),
        click.option(
            "--release-key",
            "release_keys",
            multiple=True,
            metavar="NAME|FILE",
            help="A key whose word counts for the program's own parsers",
        ),
        click.option(
            "--own-release-key",
            is_flag=True,
            help="Let this very program's own parsers run (its release key)",
        ),
        click.option(
            "--expiry-mode",
            type=click.Choice(["install-only", "hard"]),
            help="Past a date: only nothing new, or nothing at all [default: install-only]",
        ),
        click.option(
            "--min-serial",
            "serials",
            multiple=True,
            metavar="PARSER=N",
            help="A parser's least serial",
        ),
        click.option("--min-runtime", metavar="VERSION", help="Least version of this program"),
        click.option(
            "--expires-days",
            type=click.IntRange(min=1),
            default=_YEAR,
            show_default=True,
            help="How long it counts",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command.command("new")
@_role_options
@click.option("--out", default="policy.json", show_default=True, metavar="FILE", help="Where to")
@click.option("--dry-run", is_flag=True, help="Write nothing")
@pass_app
def new(app: App, *, out: str, dry_run: bool, **given: Any) -> None:
    """Make a policy that nobody has signed yet, with a first role when one is named."""
    from casparian.trust.policy import make_policy

    now_ns = clock.now_ns()
    changes, people = _changes(None, **given)
    raw = make_policy(
        version=1,
        issued_ns=now_ns,
        expires_ns=now_ns + given["expires_days"] * _DAY_NS,
        keys=list(people.values()),
        **{"roles": (), **changes},
    )
    _finish(app, raw, out, new=True, dry_run=dry_run)


@command.command("edit")
@click.argument("policy", type=click.Path())
@_role_options
@click.option("--remove-role", multiple=True, metavar="NAME", help="A role to drop")
@click.option("--remove-release-key", multiple=True, metavar="KEYID", help="A release key to drop")
@click.option("--out", metavar="FILE", help="Where to [default: the same file]")
@click.option("--dry-run", is_flag=True, help="Write nothing")
@pass_app
def edit(
    app: App,
    *,
    policy: str,
    remove_role: tuple[str, ...],
    remove_release_key: tuple[str, ...],
    out: str | None,
    dry_run: bool,
    **given: Any,
) -> None:
    """Change a policy: add or replace a role, drop one, other keys, dates or limits."""
    from casparian.trust.policy import read_policy

    before = read_policy(signing.read_file(policy))
    changes, people = _changes(before, **given)
    roles = changes.get("roles", before.roles)
    unknown = set(remove_role) - {role.name for role in roles}
    if unknown:
        raise UsageError(
            f"the policy has no role `{show(min(unknown))}`",
            code="usage.role",
            hint="`casparian trust policy show FILE` lists them",
        )
    changes["roles"] = tuple(role for role in roles if role.name not in remove_role)
    dropped = {_keyid(prefix, before.release_keyids) for prefix in remove_release_key}
    release = changes.get("release_keyids", before.release_keyids)
    changes["release_keyids"] = [keyid for keyid in release if keyid not in dropped]
    raw = _amended(before, changes, people, given["expires_days"])
    _finish(app, raw, out or policy, new=False, dry_run=dry_run)


@command.command("revoke")
@click.argument("policy", type=click.Path())
@click.option(
    "--key", "keys", multiple=True, metavar="KEYID|NAME|FILE", help="A key that counts no more"
)
@click.option(
    "--artifact", "artifacts", multiple=True, metavar="HASH", help="A parser that runs no more"
)
@click.option(
    "--expires-days",
    type=click.IntRange(min=1),
    default=_YEAR,
    show_default=True,
    help="How long the policy counts",
)
@click.option("--out", metavar="FILE", help="Where to [default: the same file]")
@click.option("--dry-run", is_flag=True, help="Write nothing")
@pass_app
def revoke(
    app: App,
    *,
    policy: str,
    keys: tuple[str, ...],
    artifacts: tuple[str, ...],
    expires_days: int,
    out: str | None,
    dry_run: bool,
) -> None:
    """Revoke keys or parsers; the policy is the revocation list."""
    from casparian.trust.policy import read_policy

    if not keys and not artifacts:
        raise UsageError(
            "what is to be revoked? `--key` or `--artifact`", code="usage.revoke", hint=None
        )
    before = read_policy(signing.read_file(policy))
    revoked = [_keyid_of(key, before) for key in keys]
    changes = {
        "revoked_keys": [*before.revoked_keys, *revoked],
        "revoked_artifacts": [*before.revoked_artifacts, *artifacts],
    }
    raw = _amended(before, changes, _people_of(before), expires_days)
    _finish(app, raw, out or policy, new=False, dry_run=dry_run)


@command.command("sign")
@click.argument("policy", type=click.Path())
@signing.key_options
@click.option("--root", metavar="FILE", help="The root, to say what is missing")
@click.option("--out", metavar="FILE", help="Where to [default: the same file]")
@click.option("--dry-run", is_flag=True, help="Write nothing")
@pass_app
def sign(
    app: App, *, policy: str, source: KeySource, root: str | None, out: str | None, dry_run: bool
) -> None:
    """Add your signature to a policy: look at it first."""
    from casparian.trust.policy import read_policy
    from casparian.trust.root import add_signature

    raw = signing.read_file(policy)
    read_policy(raw)
    key = signing.open_key(source)
    signed = add_signature(raw, key, "the policy")
    _finish(app, signed, out or policy, new=False, dry_run=dry_run, root=root)


@command.command("show")
@click.argument("policy", type=click.Path())
@click.option("--root", metavar="FILE", help="The root, to check its signatures")
@pass_app
def show_policy(app: App, *, policy: str, root: str | None) -> None:
    """Show a policy: roles, scopes, keys, revocations, who has signed."""
    from casparian.trust.policy import read_policy

    _emit(app, read_policy(signing.read_file(policy)), policy, root)


def describe(policy: Policy, root: Any = None) -> dict[str, Any]:
    """A policy as plain values; with a root its signatures are verified."""
    from casparian.trust.documents import time_text
    from casparian.trust.policy import missing_policy_signatures
    from casparian.trust.words import fingerprint_text

    keys = {} if root is None else {k: root.keys[k] for k in root.policy.keyids}
    return {
        "version": policy.version,
        "fingerprint": fingerprint_text(policy.fingerprint),
        "issued": time_text(policy.issued_ns),
        "expires": time_text(policy.expires_ns),
        "expiry_mode": policy.expiry_mode.value,
        "roles": [
            {
                "name": role.name,
                "threshold": role.threshold,
                "scopes": list(role.paths),
                "keys": [_person(policy, keyid) for keyid in role.keyids],
            }
            for role in policy.roles
        ],
        "release_keys": [_person(policy, keyid) for keyid in policy.release_keyids],
        "revoked_keys": list(policy.revoked_keys),
        "revoked_artifacts": list(policy.revoked_artifacts),
        "min_serial": policy.min_serial,
        "min_runtime": policy.min_runtime,
        "signatures": [
            {
                "keyid": keyid,
                "holder": None if root is None else root.holders.get(keyid),
                "holds": keyid in keys and keys[keyid].verifies(signature, policy.payload)
                if root is not None
                else None,
            }
            for keyid, signature in policy.signatures.items()
        ],
        "missing": None if root is None else missing_policy_signatures(policy, root),
    }


def lines(document: dict[str, Any]) -> list[str]:
    """A described policy for people."""
    out = [
        f"policy version {document['version']}, from {document['issued']} to {document['expires']}",
        f"  {document['fingerprint']}",
    ]
    for role in document["roles"]:
        people = ", ".join(_named(person) for person in role["keys"])
        out.append(
            f"  {show(role['name'])}: {role['threshold']} of {show(people)} for {', '.join(role['scopes'])}"
        )
    release = ", ".join(_named(person) for person in document["release_keys"])
    out.append(f"  the program's own parsers: {show(release) or 'none run'}")
    for what in ("keys", "artifacts"):
        revoked = document[f"revoked_{what}"]
        if revoked:
            out.append(f"  revoked {what}: {', '.join(map(short, revoked))}")
    for name, serial in document["min_serial"].items():
        out.append(f"  {name}: serial {serial} or newer")
    if document["min_runtime"]:
        out.append(f"  needs version {document['min_runtime']} of this program")
    out.append(f"  past a date: {document['expiry_mode']}")
    for signature in document["signatures"]:
        mark = {True: "✓", False: "✗", None: "·"}[signature["holds"]]
        out.append(f"  {mark} signed by {show(signature['holder'] or short(signature['keyid']))}")
    if document["missing"]:
        out.append(f"  {plural(document['missing'], 'signature')} missing")
    return out


def _named(person: dict[str, Any]) -> str:
    revoked = ", revoked" if person["revoked"] else ""
    return f"{person['holder']} ({short(person['keyid'])}{revoked})"


def _person(policy: Policy, keyid: str) -> dict[str, Any]:
    return {
        "keyid": keyid,
        "holder": policy.holders[keyid],
        "scheme": policy.keys[keyid].name,
        "revoked": keyid in policy.revoked_keys,
    }


def _people_of(policy: Policy) -> dict[str, tuple[PublicKey, str]]:
    return {keyid: (key, policy.holders[keyid]) for keyid, key in policy.keys.items()}


def _changes(
    before: Policy | None,
    *,
    role: str | None,
    keys: tuple[str, ...],
    threshold: int | None,
    scopes: tuple[str, ...],
    release_keys: tuple[str, ...],
    own_release_key: bool,
    expiry_mode: str | None,
    serials: tuple[str, ...],
    min_runtime: str | None,
    expires_days: int,  # noqa: ARG001 - the caller's
) -> tuple[dict[str, Any], dict[str, tuple[PublicKey, str]]]:
    """What options change, as `make_policy` takes it, and everybody with their key."""
    from casparian.trust.policy import ExpiryMode

    people = {} if before is None else _people_of(before)
    changes: dict[str, Any] = {}
    if role is not None:
        old = () if before is None else before.roles
        made = _role(role, keys, threshold, scopes, old, people)
        changes["roles"] = (*(r for r in old if r.name != role), made)
    elif keys or scopes or threshold:
        raise UsageError("for which role? `--role NAME`", code="usage.role", hint=None)
    release = [] if before is None else list(before.release_keyids)
    added = [signing.read_public(key) for key in release_keys]
    if own_release_key:
        from casparian.trust.verdict import release_key

        own = release_key()
        added.append((own.public, "development" if own.development else "release"))
    for public, holder in added:
        people.setdefault(public.keyid, (public, holder))
        if public.keyid not in release:
            release.append(public.keyid)
    changes["release_keyids"] = release
    if expiry_mode is not None:
        changes["expiry_mode"] = ExpiryMode(expiry_mode)
    if min_runtime is not None:
        changes["min_runtime"] = min_runtime
    if serials:
        known = {} if before is None else before.min_serial
        changes["min_serial"] = {**known, **dict(map(_serial, serials))}
    return changes, people


def _role(
    name: str,
    keys: tuple[str, ...],
    threshold: int | None,
    scopes: tuple[str, ...],
    old: Sequence[ExaminerRole],
    people: dict[str, tuple[PublicKey, str]],
) -> ExaminerRole:
    """The role as options say it; what they leave out stays as it was."""
    from casparian.trust.policy import ExaminerRole

    was = next((role for role in old if role.name == name), None)
    keyids = []
    for key in keys:
        public, holder = signing.read_public(key)
        people[public.keyid] = (public, holder)
        keyids.append(public.keyid)
    if was is None and not (keyids and scopes):
        raise UsageError(
            f"the new role `{show(name)}` needs keys and a scope",
            code="usage.role",
            hint="--key NAME --scope 'parsers/*/*'",
        )
    return ExaminerRole(
        name=name,
        keyids=tuple(keyids) or (was.keyids if was else ()),
        threshold=threshold or (was.threshold if was else 1),
        paths=scopes or (was.paths if was else ()),
    )


def _amended(
    before: Policy,
    changes: dict[str, Any],
    people: dict[str, tuple[PublicKey, str]],
    expires_days: int,
) -> bytes:
    """The changed policy: the next version of one that somebody signed, the same version of a draft."""
    from casparian.trust.policy import make_policy

    now_ns = clock.now_ns()
    values: dict[str, Any] = {
        "roles": before.roles,
        "release_keyids": before.release_keyids,
        "revoked_keys": before.revoked_keys,
        "revoked_artifacts": before.revoked_artifacts,
        "min_serial": before.min_serial,
        "min_runtime": before.min_runtime,
        "expiry_mode": before.expiry_mode,
        **changes,
    }
    used = {keyid for role in values["roles"] for keyid in role.keyids}
    used |= set(values["release_keyids"])
    return make_policy(
        version=before.version + 1 if before.signatures else before.version,
        issued_ns=now_ns,
        expires_ns=now_ns + expires_days * _DAY_NS,
        keys=[person for keyid, person in people.items() if keyid in used],
        **values,
    )


def _serial(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    if not equals or not number.isdecimal():
        raise UsageError(
            f"`{show(text)}` is not like `windows.evtx=3`", code="usage.serial", hint=None
        )
    return name, int(number)


def _keyid(prefix: str, keyids: Sequence[str]) -> str:
    found = [keyid for keyid in keyids if keyid.startswith(prefix)]
    if len(found) != 1 or len(prefix) < 6:
        raise UsageError(
            f"`{show(prefix)}` is not the id of one key of this policy",
            code="usage.key",
            hint="`casparian trust policy show FILE` lists them; six digits suffice",
        )
    return found[0]


def _keyid_of(text: str, policy: Policy) -> str:
    """A key to revoke: its id (a part suffices when the policy lists it), or its file."""
    from casparian.trust.documents import HEX64

    if HEX64.match(text):
        return text
    try:
        return signing.read_public(text)[0].keyid
    except UsageError:
        return _keyid(text, tuple(policy.keys))


def _finish(
    app: App, raw: bytes, out: str, *, new: bool, dry_run: bool, root: str | None = None
) -> None:
    from casparian.trust.policy import read_policy

    if not dry_run:
        signing.write_file(out, raw, new=new)
    if not app.out.json:
        app.out.say(f"{'would write' if dry_run else 'wrote'} `{show(out)}`")
    _emit(app, read_policy(raw), out, root)


def _emit(app: App, policy: Policy, path: str, root: str | None) -> None:
    from casparian.trust.root import read_root

    found = None if root is None else read_root(signing.read_file(root))
    document = {"file": path, **describe(policy, found)}

    def human() -> None:
        for line in lines(document):
            app.out.line(line)
        if not policy.signatures:
            app.out.hint(f"casparian trust policy sign {path} --key KEY", "make it count")

    app.out.emit(document, human)
