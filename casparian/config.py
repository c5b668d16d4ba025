"""Settings of one home: defaults < `HOME/config.toml` < `CASPARIAN_*` variables < flags.

Rules:
  * An unknown key is an error that names the file, the key and the closest known one: a misspelt
    limit must not silently be no limit.
  * `[parsers."linux.syslog"]` holds settings of one parser. They are part of the materialization
    key, so changing one plans exactly the files of that parser again. Their names and types are the
    parser's own and are checked where the parser is known.
  * A relative `default_sink` in the file is relative to the home, in a variable or a flag to the
    working directory.

Writing (`config set`) edits lines and keeps comments: `casparian.config_file`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from casparian.errors import UsageError
from casparian.paths import Home

ConfigValue = str | int | float | bool
PREFIX: Final = "CASPARIAN_"
_PARSERS: Final = "parsers"


_SCALAR: Final = re.compile(
    r"""true\Z|false\Z|[+-]?\d{1,18}\Z|[+-]?\d{1,18}\.\d{1,18}\Z|"[^"\\\n]*"\Z|'[^'\n]*'\Z""",
    re.ASCII,
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting there is, with its effective value."""

    workers: Annotated[
        int, Meta(ge=0, le=256, description="Worker processes; 0 is one for each core")
    ] = 0
    hash_threads: Annotated[
        int, Meta(ge=0, le=256, description="Threads that hash evidence; 0 is one for each core")
    ] = 0
    idle_seconds: Annotated[
        int,
        Meta(ge=0, le=86_400, description="A sentinel started on demand stops after so long idle"),
    ] = 10
    default_sink: Annotated[
        str | None,
        Meta(
            description="Where tables go unless `--sink` says so; unset is `parquet:HOME/outputs`"
        ),
    ] = None
    mode: Annotated[
        Literal["append", "replace", "error"],
        Meta(description="Sink mode of `run` unless `--mode` says so"),
    ] = "append"
    quarantine_rows_max: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="More quarantined rows than this fail a job; unset is no limit"),
    ] = None
    quarantine_percent_max: Annotated[
        Annotated[float, Meta(ge=0, le=100)] | None,
        Meta(description="The same as a share of a job's rows, in percent"),
    ] = None
    min_isolation: Annotated[
        Literal["full", "reduced", "none"],
        Meta(
            description="Parsers run only when guests are confined at least so well; less than `full` is recorded"
        ),
    ] = "full"
    guest_user: Annotated[
        str,
        Meta(
            description="Whom guests become when a worker runs as root: a user's name, or UID:GID"
        ),
    ] = "nobody"
    wheelhouse: Annotated[
        str,
        Meta(
            description="Directories with the wheels that environments of parsers are made of, joined by `:`"
        ),
    ] = ""
    environment_mb_max: Annotated[
        int, Meta(ge=1, le=1 << 20, description="Largest environment of one parser, in MiB")
    ] = 2048
    environments_mb_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1 << 24,
            description="All environments together, in MiB; those used longest ago are removed first",
        ),
    ] = 8192
    approval_days: Annotated[
        int,
        Meta(ge=1, le=365, description="A request that nobody decided expires after so many days"),
    ] = 14
    parsers: Annotated[
        dict[str, dict[str, ConfigValue]],
        Meta(description="Settings of parsers: `parsers.NAME.KEY`"),
    ] = {}


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a value came from: `default`, `file`, `environment` or `flag`, and which one."""

    kind: Literal["default", "file", "environment", "flag"]
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.where}".rstrip()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Effective settings and the origin of each key (`workers`, `parsers.NAME.KEY`)."""

    settings: Settings
    origins: dict[str, Origin]
    unknown_variables: tuple[str, ...] = ()

    def items(self) -> Iterator[tuple[str, Any, Origin]]:
        """Each key with its value and origin; parser settings last, as `parsers.NAME.KEY`."""
        for name in SCALARS:
            yield name, getattr(self.settings, name), self.origins[name]
        for parser, options in sorted(self.settings.parsers.items()):
            for key, value in sorted(options.items()):
                name = parser_key(parser, key)
                yield name, value, self.origins[name]


SCALARS: Final = tuple(
    name for name in Settings.__struct_fields__ if name != _PARSERS
)  # settings that are one value
_TYPES: Final = {field.name: field.type for field in msgspec.structs.fields(Settings)}
_OTHER_VARIABLES: Final = frozenset({"CASPARIAN_HOME", "CASPARIAN_CORPUS"})


def parser_key(parser: str, key: str) -> str:
    """Flat name of a parser's setting."""
    return f"{_PARSERS}.{parser}.{key}"


def describe(name: str) -> str:
    """What a setting means, one line."""
    return _meta(_TYPES[name]).description or ""


def load(
    home: Home,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, ConfigValue] | None = None,
) -> Config:
    """Effective settings of a home.

    Args:
        home: its `config.toml` may be absent; nothing is created.
        environ: variables to read instead of the process's own.
        flags: settings typed on the command line, by name; they win.

    Raises:
        UsageError: malformed TOML, an unknown key, or a value of the wrong type or range.
    """
    variables = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    parsers: dict[str, dict[str, ConfigValue]] = {}
    origins = {name: Origin(kind="default") for name in SCALARS}
    path = str(home.config_file)

    for name, value in flatten(read_file(home.config_file), path).items():
        origin = Origin(kind="file", where=path)
        if name.startswith(f"{_PARSERS}."):
            parser, key = split_parser_key(name)
            parsers.setdefault(parser, {})[key] = value
        else:
            values[name] = check(name, value, f"`{name}` in {path}")
        origins[name] = origin
    if isinstance(values.get("default_sink"), str):
        values["default_sink"] = _from_home(values["default_sink"], home)

    unknown = []
    for variable in sorted(v for v in variables if v.startswith(PREFIX)):
        name = variable[len(PREFIX) :].lower()
        if name in SCALARS:
            values[name] = check(name, variables[variable], f"variable {variable}", text=True)
            origins[name] = Origin(kind="environment", where=variable)
        elif variable not in _OTHER_VARIABLES:
            unknown.append(variable)

    for name, flag in (flags or {}).items():
        values[name] = check(name, flag, f"flag `--{name.replace('_', '-')}`")
        origins[name] = Origin(kind="flag")
    return Config(
        settings=Settings(**values, parsers=parsers),
        origins=origins,
        unknown_variables=tuple(unknown),
    )


def read_file(path: os.PathLike[str]) -> dict[str, Any]:
    """Raw tables of a TOML file; an absent file is empty."""
    try:
        with open(path, "rb") as handle:
            content = handle.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(
            f"{os.fspath(path)} cannot be read: {error.strerror}",
            code="config.unreadable",
            path=os.fspath(path),
        ) from error
    import tomllib  # lazily: every command pays for what is imported above

    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{os.fspath(path)} is not valid TOML: {error}",
            code="config.malformed",
            hint="correct the file, or move it away to go back to the defaults",
            path=os.fspath(path),
        ) from error


def flatten(tables: Mapping[str, Any], path: str) -> dict[str, ConfigValue]:
    """Flat keys of a configuration file; a parser's table may be quoted or not."""
    flat: dict[str, ConfigValue] = {}
    for name, value in tables.items():
        if name == _PARSERS and isinstance(value, dict):
            flat.update(_flatten_parsers(value, (), path))
        elif name in SCALARS:
            flat[name] = value
        else:
            raise unknown_key(name, path)
    return flat


def unknown_key(name: str, path: str) -> UsageError:
    """The error for a key that does not exist, with the closest one that does."""
    known = (*SCALARS, f"{_PARSERS}.NAME.KEY")
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    meant = f"did you mean `{close[0]}`?" if close else "`casparian config show` lists all keys"
    return UsageError(
        f"unknown setting `{name}` in {path}",
        code="config.unknown_key",
        hint=meant,
        key=name,
        path=path,
    )


def check(name: str, value: Any, where: str, *, text: bool = False) -> Any:
    """Value of a setting after its type and range were checked.

    Args:
        name: one of `SCALARS`.
        value: as found.
        where: names the place for the error message.
        text: the value is text that may spell a number, as variables and `config set` give it.
    """
    try:
        return msgspec.convert(value, _TYPES[name], strict=not text)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{where}: {str(error)[:1].lower()}{str(error)[1:]}",
            code="config.value",
            hint=describe(name),
            key=name,
        ) from error


def split_parser_key(name: str) -> tuple[str, str]:
    """Parser and key of `parsers.NAME.KEY`; a parser's name may hold dots, a key may not."""
    parser, _, key = name.removeprefix(f"{_PARSERS}.").rpartition(".")
    return parser, key


def scalar(text: str) -> ConfigValue:
    """Value that a text spells: a boolean, a number, a quoted TOML string, else the text itself."""
    if not _SCALAR.match(text):
        return text
    import tomllib

    try:
        value: ConfigValue = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:  # `007` is no number: it stays the text that was typed
        return text
    return value


def _flatten_parsers(
    table: Mapping[str, Any], parents: tuple[str, ...], path: str
) -> dict[str, ConfigValue]:
    flat: dict[str, ConfigValue] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            flat.update(_flatten_parsers(value, (*parents, name), path))
            continue
        key = ".".join((_PARSERS, *parents, name))
        if not parents:
            raise UsageError(
                f"`{key}` in {path} names no parser",
                code="config.unknown_key",
                hint=f'write it below a table such as [{_PARSERS}."linux.syslog"]',
                key=key,
                path=path,
            )
        if not isinstance(value, str | int | float | bool):
            raise UsageError(
                f"`{key}` in {path}: expected text, a number or a boolean",
                code="config.value",
                key=key,
                path=path,
            )
        flat[key] = value
    return flat


def _from_home(uri: str, home: Home) -> str:
    kind, colon, rest = uri.partition(":")
    if not colon or not rest or os.path.isabs(rest):
        return uri
    return f"{kind}:{os.path.join(home.root, rest)}"


def _meta(annotation: Any) -> Meta:
    found = [item for item in getattr(annotation, "__metadata__", ()) if isinstance(item, Meta)]
    return found[0] if found else Meta()
