"""Keys and signed documents as commands meet them: where keys lie, how one is opened, how a file is replaced."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from casparian.display import show
from casparian.errors import UsageError

if TYPE_CHECKING:
    from casparian.trust.keys import PublicKey, SigningKey

F = TypeVar("F", bound=Callable[..., Any])

KEYS_VARIABLE: Final = "CASPARIAN_KEYS"
PRIVATE_SUFFIX: Final = ".key"
PUBLIC_SUFFIX: Final = ".pub"
_BYTES_MAX: Final = (1 << 20) + 1  # what is longer is refused by whoever reads it


class KeySource(NamedTuple):
    """What a command line says about the key to sign with."""

    key: str | None
    passphrase_file: str | None
    pkcs11: str | None
    token: str | None
    pin_file: str | None

    @property
    def is_given(self) -> bool:
        """Whether a key is named at all: without one, a command that may sign only asks."""
        return any(value is not None for value in self)


def key_options(function: F) -> F:
    """The options of a command that signs; they arrive as one `source`."""
    options = (
        click.option(
            "--key", metavar="NAME|FILE", help="Private key: a file, or the name of one of yours"
        ),
        click.option(
            "--passphrase-file", metavar="FILE", help="Its passphrase, instead of a prompt"
        ),
        click.option(
            "--pkcs11", metavar="LIB", help="Sign with a hardware token: its PKCS#11 library"
        ),
        click.option(
            "--token", metavar="LABEL[/KEY]", help="Which token, and which key on it, by label"
        ),
        click.option("--pin-file", metavar="FILE", help="The token's PIN, instead of a prompt"),
    )

    def with_source(*arguments: Any, **named: Any) -> Any:
        source = KeySource(*(named.pop(name) for name in KeySource._fields))
        return function(*arguments, source=source, **named)

    with_source.__name__ = function.__name__
    with_source.__doc__ = function.__doc__
    if hasattr(function, "__click_params__"):
        with_source.__click_params__ = function.__click_params__  # type: ignore[attr-defined]  # where click keeps options
    decorated: Any = with_source
    for option in reversed(options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # it has other options than `function`, which click fills


def keys_directory(given: str | None = None) -> str:
    """Where a person's keys lie: as given, `CASPARIAN_KEYS`, else `~/.config/casparian/keys`."""
    chosen = given or os.environ.get(KEYS_VARIABLE)
    if chosen:
        return os.path.abspath(chosen)
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(config, "casparian", "keys")


def key_path(name_or_file: str, suffixes: tuple[str, ...], directory: str | None = None) -> str:
    """The file that a key's name or path means; of a name, the first suffix that there is a file of.

    Raises:
        UsageError: `usage.key`.
    """
    if os.path.isfile(name_or_file):
        return name_or_file
    if "/" not in name_or_file:
        folder = keys_directory(directory)
        for suffix in suffixes:
            candidate = os.path.join(folder, name_or_file + suffix)
            if os.path.isfile(candidate):
                return candidate
    raise UsageError(
        f"there is no key `{show(name_or_file)}`",
        code="usage.key",
        hint="`casparian trust key list` shows yours; `casparian trust key new NAME` makes one",
    )


def require(source: KeySource) -> None:
    """Refuse a command line that names no key, or two.

    Raises:
        UsageError: `usage.key`.
    """
    if (source.key is None) == (source.pkcs11 is None):
        raise UsageError(
            "a key is needed to sign: `--key FILE`, or `--pkcs11 LIB --token LABEL`",
            code="usage.key",
            hint="`casparian trust key list` shows yours",
        )


def open_key(source: KeySource) -> SigningKey:
    """The key to sign with, opened.

    Raises:
        UsageError: `usage.key`, none or two were named; `usage.passphrase`, nobody can be asked.
        Refused: `trust.passphrase`, `trust.key_damaged`, `trust.token`.
    """
    require(source)
    if source.pkcs11 is not None:
        from casparian.trust.tokens import open_token

        if source.token is None:
            raise UsageError("which token? `--token LABEL`", code="usage.key")
        pin = secret_text(source.pin_file, f"PIN of the token {show(source.token)}")
        return open_token(source.pkcs11, source.token, pin)
    from casparian.trust.keys import PrivateKey

    assert source.key is not None
    path = key_path(source.key, (PRIVATE_SUFFIX,))
    return PrivateKey.read(path, secret_text(source.passphrase_file, f"passphrase of {show(path)}"))


def secret_text(file: str | None, what: str, *, confirm: bool = False) -> str:
    """A secret: the first line of a file, or what is typed on a terminal.

    Raises:
        UsageError: `usage.passphrase`.
    """
    if file is not None:
        try:
            with open(file, encoding="utf-8") as stream:
                return stream.readline().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"`{show(file)}` cannot be read: {error}", code="usage.passphrase"
            ) from error
    if not sys.stdin.isatty():
        raise UsageError(
            f"the {what} is needed and nobody can be asked",
            code="usage.passphrase",
            hint="--passphrase-file FILE",
        )
    typed: str = click.prompt(what, hide_input=True, confirmation_prompt=confirm, err=True)
    return typed


def read_public(name_or_file: str) -> tuple[PublicKey, str]:
    """A public key and its holder, from a public or private key file."""
    from casparian.trust.keys import import_public

    return import_public(read_file(key_path(name_or_file, (PUBLIC_SUFFIX, PRIVATE_SUFFIX))))


def read_file(path: str) -> bytes:
    """A small file's bytes.

    Raises:
        UsageError: `usage.file`.
    """
    try:
        with open(path, "rb") as stream:
            return stream.read(_BYTES_MAX)
    except OSError as error:
        raise UsageError(
            f"`{show(path)}` cannot be read: {error.strerror}", code="usage.file", path=path
        ) from error


def write_file(path: str, raw: bytes, *, new: bool = False, private: bool = False) -> None:
    """Write a file whole or not at all.

    Args:
        path: where.
        raw: its bytes.
        new: refuse to replace another.
        private: readable by its owner only.

    Raises:
        UsageError: `usage.file`.
    """
    if new and os.path.exists(path):
        raise UsageError(
            f"`{show(path)}` is there already",
            code="usage.file",
            hint="name another file with `--out`",
            path=path,
        )
    folder, name = os.path.split(path)
    beside = os.path.join(folder, f".{name}.new")  # hidden: no part of a parser's folder
    mode = 0o600 if private else 0o666
    try:
        with open(beside, "wb", opener=lambda file, flags: os.open(file, flags, mode)) as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise UsageError(
            f"`{show(path)}` cannot be written: {error.strerror}", code="usage.file", path=path
        ) from error
