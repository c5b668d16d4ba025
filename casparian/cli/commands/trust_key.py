"""`casparian trust key`: make, list, show and carry keys; no sentinel is asked."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

import click

from casparian.cli import signing
from casparian.cli.app import App
from casparian.cli.framework import group, pass_app
from casparian.display import show
from casparian.errors import CasparianError, UsageError

if TYPE_CHECKING:
    from casparian.trust.keys import PublicKey

_SCHEMES: Final = ("ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ml-dsa-65")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_DIRECTORY_HELP: Final = "Where keys lie [default: $CASPARIAN_KEYS, else ~/.config/casparian/keys]"


@group("key")
def command() -> None:
    """Make, list, show, export and import keys."""


def _keys_option(function: Any) -> Any:
    return click.option("--keys", metavar="DIR", help=_DIRECTORY_HELP)(function)


@command.command("new")
@click.argument("name")
@click.option("--holder", metavar="TEXT", help="Whose key it is [default: NAME]")
@click.option(
    "--scheme", type=click.Choice(_SCHEMES), default="ed25519", show_default=True, help="Its kind"
)
@click.option("--passphrase-file", metavar="FILE", help="The passphrase, instead of a prompt")
@click.option("--dry-run", is_flag=True, help="Write nothing")
@_keys_option
@pass_app
def new(
    app: App,
    *,
    name: str,
    holder: str | None,
    scheme: str,
    passphrase_file: str | None,
    dry_run: bool,
    keys: str | None,
) -> None:
    """Make a key pair: NAME.key under a passphrase, and NAME.pub to give away.

    A person's keys count once: give all of them the same holder.
    """
    from casparian.trust.keys import PrivateKey

    path = _place(name, keys)
    if os.path.exists(path):
        from casparian.trust.refusals import refused

        raise refused("trust.key_exists", f"`{show(path)}` is there already")
    made = PrivateKey.generate(scheme, holder=holder or name)
    if not dry_run:
        passphrase = signing.secret_text(
            passphrase_file, f"new passphrase for {show(path)}", confirm=True
        )
        _write_pair(made, path, passphrase)
    _emit_key(app, made.public, made.holder, path, written=not dry_run)


@command.command("list")
@_keys_option
@pass_app
def list_keys(app: App, *, keys: str | None) -> None:
    """List the keys in your key directory."""
    folder = signing.keys_directory(keys)
    rows = [_described(os.path.join(folder, name)) for name in _key_files(folder)]

    def human() -> None:
        if not rows:
            app.out.line(f"No keys in `{show(folder)}`. `casparian trust key new NAME` makes one")
            return
        app.out.table(
            ("key", "holder", "kind", "keyid", "private", "problem"),
            [
                (r["name"], r["holder"], r["scheme"], r["keyid"], r["private"], r["problem"])
                for r in rows
            ],
        )

    app.out.emit({"directory": folder, "keys": rows}, human)


@command.command("show")
@click.argument("key", metavar="NAME|FILE")
@_keys_option
@pass_app
def show_key(app: App, *, key: str, keys: str | None) -> None:
    """Show a key: whose, of which kind, its id and public half."""
    path = signing.key_path(key, (signing.PRIVATE_SUFFIX, signing.PUBLIC_SUFFIX), keys)
    described = _described(path)
    if described["problem"] is not None:
        from casparian.trust.keys import import_public

        import_public(signing.read_file(path))  # raises the whole error
    raw = signing.read_file(path)
    document = {**described, "public": _public(raw)}

    def human() -> None:
        app.out.line(f"keyid   {described['keyid']}")
        app.out.line(f"holder  {show(described['holder'])}")
        app.out.line(f"kind    {described['scheme']}")
        app.out.line(f"file    {show(path)}{' (private)' if described['private'] else ''}")

    app.out.emit(document, human)


@command.command("export")
@click.argument("key", metavar="NAME|FILE")
@click.option("--out", metavar="FILE", help="Where to write it [default: stdout]")
@click.option("--dry-run", is_flag=True, help="Write nothing")
@_keys_option
@pass_app
def export(app: App, *, key: str, out: str | None, dry_run: bool, keys: str | None) -> None:
    """Write the public half of a key, for whoever makes the root or the policy."""
    from casparian.trust.keys import import_public

    path = signing.key_path(key, (signing.PRIVATE_SUFFIX, signing.PUBLIC_SUFFIX), keys)
    public, holder = import_public(signing.read_file(path))
    _give_public(app, public, holder, out, dry_run=dry_run)


@command.command("import")
@click.argument("file", type=click.Path())
@click.option("--name", help="What to call it here [default: the file's name]")
@click.option("--pem", is_flag=True, help="FILE is an unencrypted PEM private key (PKCS#8)")
@click.option("--holder", metavar="TEXT", help="Whose key it is, with --pem [default: NAME]")
@click.option("--passphrase-file", metavar="FILE", help="With --pem: the new passphrase")
@click.option("--dry-run", is_flag=True, help="Check only")
@_keys_option
@pass_app
def import_key(
    app: App,
    *,
    file: str,
    name: str | None,
    pem: bool,
    holder: str | None,
    passphrase_file: str | None,
    dry_run: bool,
    keys: str | None,
) -> None:
    """Take over a key file: a public one, a private one, or a PEM private key of another tool."""
    from casparian.trust.keys import PrivateKey, import_public

    called = name or os.path.basename(file).rsplit(".", 1)[0]
    raw = signing.read_file(file)
    if pem:
        made = PrivateKey.from_pem(raw, holder or called)
        path = _place(called, keys)
        if not dry_run:
            passphrase = signing.secret_text(
                passphrase_file, f"new passphrase for {show(path)}", confirm=True
            )
            _write_pair(made, path, passphrase)
        _emit_key(app, made.public, made.holder, path, written=not dry_run)
        return
    public, whose = import_public(raw)
    private = b'"casparian.private-key.v1"' in raw
    path = _place(called, keys, signing.PRIVATE_SUFFIX if private else signing.PUBLIC_SUFFIX)
    if not dry_run:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        signing.write_file(path, raw, new=True, private=private)
    _emit_key(app, public, whose, path, written=not dry_run)


@command.command("token")
@click.option("--pkcs11", required=True, metavar="LIB", help="The token's PKCS#11 library")
@click.option("--token", required=True, metavar="LABEL[/KEY]", help="Which token, and which key")
@click.option("--pin-file", metavar="FILE", help="Its PIN, instead of a prompt")
@click.option("--holder", required=True, metavar="TEXT", help="Whose token it is")
@click.option("--out", metavar="FILE", help="Where to write it [default: stdout]")
@click.option("--dry-run", is_flag=True, help="Write nothing")
@pass_app
def token_key(
    app: App,
    *,
    pkcs11: str,
    token: str,
    pin_file: str | None,
    holder: str,
    out: str | None,
    dry_run: bool,
) -> None:
    """Write the public half of a key on a hardware token."""
    from casparian.trust.tokens import open_token

    pin = signing.secret_text(pin_file, f"PIN of the token {show(token)}")
    public = open_token(pkcs11, token, pin).public
    _give_public(app, public, holder, out, dry_run=dry_run)


def _give_public(
    app: App, public: PublicKey, holder: str, out: str | None, *, dry_run: bool
) -> None:
    """Write or print the public half of a key."""
    from casparian.trust.keys import export_public

    raw = export_public(public, holder)
    if out is not None and not dry_run:
        signing.write_file(out, raw, new=True)

    def human() -> None:
        if out is None:
            app.out.line(raw.decode().rstrip("\n"))
        else:
            app.out.line(f"{'would write' if dry_run else 'wrote'} `{show(out)}`")

    app.out.emit(
        {"keyid": public.keyid, "holder": holder, "out": out, "public": raw.decode()}, human
    )


def _place(name: str, keys: str | None, suffix: str = signing.PRIVATE_SUFFIX) -> str:
    if not _NAME.match(name):
        raise UsageError(
            f"`{show(name)}` is no name for a key file",
            code="usage.key",
            hint="letters, digits, `.`, `-` and `_`",
        )
    return os.path.join(signing.keys_directory(keys), name + suffix)


def _write_pair(made: Any, path: str, passphrase: str) -> None:
    from casparian.trust.keys import export_public

    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    made.write(path, passphrase)
    public = path.removesuffix(signing.PRIVATE_SUFFIX) + signing.PUBLIC_SUFFIX
    signing.write_file(public, export_public(made.public, made.holder))


def _emit_key(app: App, public: Any, holder: str, path: str, *, written: bool) -> None:
    document = {
        "keyid": public.keyid,
        "holder": holder,
        "scheme": public.name,
        "file": path,
        "written": written,
    }

    def human() -> None:
        app.out.line(f"{'wrote' if written else 'would write'} `{show(path)}`")
        app.out.line(f"  keyid  {public.keyid}")
        app.out.line(f"  holder {show(holder)}, {public.name}")

    app.out.emit(document, human)


def _key_files(folder: str) -> list[str]:
    try:
        names = set(os.listdir(folder))
    except FileNotFoundError:
        return []
    private = {n for n in names if n.endswith(signing.PRIVATE_SUFFIX)}
    public = {
        n
        for n in names
        if n.endswith(signing.PUBLIC_SUFFIX)
        and n.removesuffix(signing.PUBLIC_SUFFIX) + signing.PRIVATE_SUFFIX not in private
    }
    return sorted(private | public)


def _described(path: str) -> dict[str, Any]:
    """A key file without its passphrase; one that is damaged is listed with its problem."""
    from casparian.trust.keys import import_public

    name, private = os.path.basename(path), path.endswith(signing.PRIVATE_SUFFIX)
    base = {"name": name.rsplit(".", 1)[0], "file": path, "private": private}
    try:
        public, holder = import_public(signing.read_file(path))
    except CasparianError as error:
        nothing = {"holder": None, "scheme": None, "keyid": None}
        return {**base, **nothing, "problem": error.message}
    known = {"holder": holder, "scheme": public.name, "keyid": public.keyid}
    return {**base, **known, "problem": None}


def _public(raw: bytes) -> str:
    from casparian.trust.keys import import_public

    return import_public(raw)[0].public
