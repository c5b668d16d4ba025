"""`contract.toml` and `parser.toml`, from bytes to checked values.

    schema_version = 1
    [outputs.NAME]                main = true, doc = "…"
    [[outputs.NAME.columns]]      name, type, nullable, minimum, maximum, pattern, allowed, action,
    doc

Rules: at least one output is `main`, and exactly one unless the manifest's unit is `cell`
(`check_mains`); table names are plain identifiers that collide with nothing of ours; an entry stays
inside the parser's folder. No file access here: callers pass bytes.
"""

from __future__ import annotations

import re
from typing import Final, Literal, cast, get_args

from casparian.contracts import columns
from casparian.contracts.document import Table, quoted, read
from casparian.display import show
from casparian.domain.contracts import Contract, OutputContract
from casparian.domain.limits import BOUNDS
from casparian.domain.outputs import RESERVED_TABLES
from casparian.domain.parsers import (
    COMPANIONS_MAX,
    AccountName,
    ConfigOption,
    ConfigValue,
    Limits,
    ParserKind,
    ParserManifest,
    Unit,
    companion_role,
)
from casparian.errors import ContractError

CONTRACT_FILE: Final = "contract.toml"
MANIFEST_FILE: Final = "parser.toml"
OUTPUTS_MAX: Final = 64
COLUMNS_MAX: Final = 1_000
SEVERAL_MAINS: Final = ("cell",)  # units of more than one kind, each with a table of its own
_WRITE_MAIN: Final = "write `main = true` in the output whose rows are the units of the evidence"

_NAME: Final = re.compile(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*\Z")
_VERSION: Final = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z]+([.-][0-9A-Za-z]+)*)?\Z"
)
_TABLE: Final = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TAG: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_SUFFIX: Final = re.compile(r"[.-][A-Za-z0-9]{1,15}\Z")
_OPTION: Final = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_OPTION_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def load_contract(raw: bytes, *, file: str = CONTRACT_FILE) -> Contract:
    """Read a parser's contract.

    Args:
        raw: the file's bytes.
        file: its name, for errors.

    Raises:
        ContractError: names file, key, what was expected, and in its hint the closest known word.
    """
    document = read(raw, file=file, kind="contract")
    outputs_table = document.table("outputs")
    document.finish()
    outputs = (
        []
        if outputs_table is None
        else [_output(name, t) for name, t in outputs_table.named_tables()]
    )
    if not outputs or len(outputs) > OUTPUTS_MAX:
        raise document.error(
            "outputs",
            f"declares {len(outputs)} tables, expected 1 to {OUTPUTS_MAX}",
            "add `[outputs.NAME]`",
        )
    contract = Contract(outputs=tuple(outputs))
    if not contract.mains:
        raise document.error("outputs", "has no main table, expected one", _WRITE_MAIN)
    return contract


def check_mains(manifest: ParserManifest, contract: Contract, *, file: str = CONTRACT_FILE) -> None:
    """Refuse several main tables where a unit is one row of one table.

    Raises:
        ContractError: `contract.value`.
    """
    mains = [output.table for output in contract.mains]
    if len(mains) > 1 and manifest.unit not in SEVERAL_MAINS:
        raise ContractError(
            f"`{show(file)}`: `outputs` has {len(mains)} main tables ({quoted(mains)}),"
            f" expected exactly one where the unit is a {manifest.unit}",
            hint=_WRITE_MAIN,
            code="contract.value",
            file=file,
            key="outputs",
        )


def load_manifest(raw: bytes, *, file: str = MANIFEST_FILE) -> ParserManifest:
    """Read a parser's `parser.toml`.

    Raises:
        ContractError: as `load_contract`, with codes that begin with `manifest.`.
    """
    table = read(raw, file=file, kind="manifest")
    name = _matching(
        table, "name", _NAME, "lower-case words joined by `.`, `-` or `_`, like `linux.syslog`", 64
    )
    version = _matching(table, "version", _VERSION, "a version like `1.0.0`", 64)
    kind = ParserKind(table.choice("kind", [kind.value for kind in ParserKind]))
    manifest = ParserManifest(
        name=name,
        version=version,
        kind=kind,
        entry=_entry(table, kind),
        tags=_tags(table),
        companions=_companions(table),
        unit=cast("Unit", table.choice("unit", get_args(Unit))),
        account=cast("AccountName", table.choice("account", get_args(AccountName))),
        doc=table.text("doc", ""),
        config=_config(table.table("config")),
        limits=_limits(table.table("limits")),
        preload=_preload(table),
        environment=_environment(table.table("environment"), kind),
    )
    table.finish()
    return manifest


def _output(name: str, table: Table) -> OutputContract:
    problem = table_name_problem(name)
    if problem is not None:
        raise ContractError(
            f"`{show(table.file)}`: `{table.path}`: {problem}",
            code="contract.table",
            file=table.file,
            key=table.path,
        )
    main = table.boolean("main", default=False)
    doc = table.text("doc", "")
    rows = [columns.read_column(column) for column in table.tables("columns")]
    table.finish()
    if not rows or len(rows) > COLUMNS_MAX:
        raise table.error("columns", f"has {len(rows)} columns, expected 1 to {COLUMNS_MAX}")
    columns.check_names(table, (column.name for column in rows))
    return OutputContract(table=name, columns=tuple(rows), main=main, doc=doc)


def table_name_problem(name: str) -> str | None:
    """Why an output may not have this name, or `None`."""
    if not _TABLE.match(name):
        shown = show(name, width=60)
        return f"`{shown}` is not a table name: lower-case letters, digits and `_`, at most 63"
    if name in RESERVED_TABLES:
        return f"`{name}` is a table of the host"
    if name.startswith(("cf_", "scout_", "schema_")):
        return "names that begin with `cf_`, `scout_` or `schema_` are the host's"
    if name.endswith("__all"):
        return "names that end with `__all` are views over every version of a table"
    return None


def _matching(
    table: Table, key: str, form: re.Pattern[str], expected: str, characters_max: int
) -> str:
    value = table.text(key)
    if not form.match(value) or len(value) > characters_max:
        raise table.wrong(key, value, expected)
    return value


def _entry(table: Table, kind: ParserKind) -> str:
    value = table.text("entry")
    if kind is ParserKind.NATIVE:
        if not _IDENTIFIER.match(value):
            raise table.wrong("entry", value, "the name of a native entry, like `evtx`")
        return value
    if kind is ParserKind.EXECUTABLE:
        if not _is_inside(value):
            raise table.wrong("entry", value, "the path of a program in the parser's own folder")
        return value
    path, colon, function = value.partition(":")
    inside = _is_inside(path)
    if not (colon and inside and path.endswith(".py") and _IDENTIFIER.match(function)):
        raise table.wrong("entry", value, "`file.py:function`, a file of the parser's own folder")
    return value


def _is_inside(path: str) -> bool:
    """Whether a path names a file of the parser's own folder that can be part of an artifact."""
    return all(
        part and part[0] != "." and show(part) == part and "\\" not in part
        for part in path.split("/")
    )


def _environment(table: Table | None, kind: ParserKind) -> str:
    if table is None:
        return ""
    lock = table.text("lock")
    if not _is_inside(lock):
        raise table.wrong("lock", lock, "the path of a file in the parser's own folder")
    if kind is not ParserKind.PYTHON:
        raise table.error("lock", "is for parsers in Python: no other kind imports packages")
    table.finish()
    return lock


def _tags(table: Table) -> tuple[str, ...]:
    tags = table.texts("tags") or ()
    if not tags:
        raise table.error(
            "tags", "is empty or missing, expected at least one tag of files to take", code="key"
        )
    for tag in tags:
        if not _TAG.match(tag):
            raise table.wrong("tags", tag, "lower-case letters, digits, `.`, `-` and `_`")
    return tags


def _companions(table: Table) -> tuple[str, ...]:
    suffixes = table.texts("companions") or ()
    for suffix in suffixes:
        if not _SUFFIX.match(suffix):
            raise table.wrong(
                "companions", suffix, "what follows the source's name, like `.LOG1` or `-wal`"
            )
    roles = {companion_role(suffix) for suffix in suffixes}
    if len(roles) != len(suffixes):
        raise table.error("companions", "names one role twice: upper and lower case are the same")
    if len(suffixes) > COMPANIONS_MAX:
        raise table.error(
            "companions", f"has {len(suffixes)} suffixes, expected at most {COMPANIONS_MAX}"
        )
    return suffixes


def _preload(table: Table) -> tuple[str, ...]:
    modules = table.texts("preload") or ()
    for module in modules:
        if not all(_IDENTIFIER.match(part) for part in module.split(".")):
            raise table.wrong("preload", module, "the name of a Python module")
    return modules


def _config(table: Table | None) -> dict[str, ConfigOption]:
    if table is None:
        return {}
    options = {}
    for name, option in table.named_tables():
        if not _OPTION.match(name):
            raise table.error(name, "is not an option's name: lower-case letters, digits and `_`")
        options[name] = _option(option)
    return options


def _option(table: Table) -> ConfigOption:
    kind = table.choice("type", list(_OPTION_TYPES))
    default = table.raw("default")
    if default is None:
        raise table.error("default", f"is missing, expected a value of type `{kind}`", code="key")
    choices = table.raw("choices")
    if choices is not None and (not isinstance(choices, list) or not choices):
        raise table.wrong("choices", choices, "a list of values")
    for key, value in (("default", default), *(("choices", choice) for choice in choices or ())):
        if not is_of_type(kind, value):
            raise table.wrong(key, value, f"a value of type `{kind}`")
    if choices is not None and default not in choices:
        raise table.wrong("default", default, f"one of {quoted(map(str, choices))}")
    option = ConfigOption(
        type=cast("Literal['string', 'integer', 'number', 'boolean']", kind),
        default=cast("ConfigValue", default),
        doc=table.text("doc", ""),
        choices=None if choices is None else tuple(choices),
    )
    table.finish()
    return option


def is_of_type(kind: str, value: object) -> bool:
    """Whether a value is of an option's type; `true` is not a number."""
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _OPTION_TYPES[kind])


def _limits(table: Table | None) -> Limits:
    if table is None:
        return Limits()
    defaults = Limits()
    limits = Limits(
        **{
            name: table.integer(name, getattr(defaults, name), minimum=least, maximum=most)
            for name, (least, most) in BOUNDS.items()
        }
    )
    table.finish()
    return limits
