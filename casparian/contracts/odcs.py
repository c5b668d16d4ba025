"""A dataset's contract as an Open Data Contract Standard document (v3.1.0, YAML), and back.

Rules:
  * What the standard has a word for is said in it: table, columns, types, required and unique values, bounds, patterns,
    lists of values, documentation. A reader that knows only the standard learns all of that.
  * What it has no word for (layout, formats, null spellings, actions, meanings, sharing) is a custom property
    `casparian…`, as JSON text. Both together give back the very document: export, then import, is the identity.
  * A document by others is read as far as a dataset's contract needs: the properties of its one object; what is missing
    (how cells are cut) is refused, with what to add.

Standard: https://bitol-io.github.io/open-data-contract-standard/v3.1.0/ (Apache-2.0).
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from casparian.contracts.dataset import dataset_hash, dataset_of
from casparian.contracts.document import BYTES_MAX
from casparian.contracts.formats import element_type
from casparian.display import show
from casparian.domain.contracts import Action
from casparian.domain.datasets import Dataset, DatasetColumn
from casparian.errors import ContractError

API_VERSION: Final = "v3.1.0"
_PREFIX: Final = "casparian"
_DEPTH_MAX: Final = 32
_NODES_MAX: Final = 200_000
_PLAIN: Final = re.compile("[ -~\u00a1-\u1fff]*\\Z")

_LOGICAL: Final = (
    (re.compile(r"u?int(8|16|32|64)\Z"), "integer"),
    (re.compile(r"(float|decimal)"), "number"),
    (re.compile(r"bool\Z"), "boolean"),
    (re.compile(r"date32\Z"), "date"),
    (re.compile(r"time64\["), "time"),
    (re.compile(r"timestamp"), "timestamp"),
    (re.compile(r"list<"), "array"),
)


def export(dataset: Dataset, *, revision: int, status: str = "active") -> bytes:
    """The YAML document of one revision.

    Args:
        dataset: its contract.
        revision: its number: the document's version is `revision.0.0`.
        status: `active`, or `proposed` for what is not promoted.
    """
    import yaml

    document: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": f"urn:casparian:dataset:{dataset.table}:{dataset_hash(dataset)}",
        "name": dataset.table,
        "version": f"{revision}.0.0",
        "status": status,
        "schema": [
            {
                "name": dataset.table,
                "logicalType": "object",
                "physicalType": "table",
                **({"description": dataset.doc} if dataset.doc else {}),
                "properties": [_property(column) for column in dataset.columns],
            }
        ],
        "customProperties": _custom(
            {
                "Parser": dataset.parser,
                "Match": dataset.match,
                "Layout": dataset.layout,
                "Shared": dataset.shared,
            },
            {"Shared": False},
        ),
    }
    text: bytes = yaml.dump(
        document,
        Dumper=_dumper(),
        sort_keys=False,
        allow_unicode=True,
        encoding="utf-8",
        width=1 << 20,  # folded lines would have to be told from those of a text
    )
    return text


def read(raw: bytes, *, file: str = "contract") -> Dataset:
    """A dataset's contract from an ODCS document.

    Raises:
        ContractError: `contract.syntax` (not YAML, too large, aliases), `contract.odcs` (not what the standard has, or not enough
            for a dataset), or as `read_dataset`.
    """
    values = _load(raw, file)
    version = str(values.get("apiVersion", ""))
    if values.get("kind") != "DataContract" or not re.match(r"v3\.\d+\.\d+\Z", version):
        raise _wrong(file, "it is no `DataContract` of `apiVersion: v3.…`")
    objects = values.get("schema")
    if not isinstance(objects, list) or len(objects) != 1 or not isinstance(objects[0], dict):
        raise _wrong(
            file, "`schema` is not a list of exactly one object", "a dataset has one table"
        )
    table = objects[0]
    custom = _read_custom(values.get("customProperties"), file)
    missing = [name for name in ("Parser", "Match", "Layout") if name not in custom]
    if missing:
        raise _wrong(
            file,
            f"it has no custom property `{_PREFIX}{missing[0]}`",
            "the standard does not say how a file's cells are found: "
            f"add `{_PREFIX}Parser`, `{_PREFIX}Match` and `{_PREFIX}Layout`, as `contract export --odcs` writes them",
        )
    properties = table.get("properties")
    if not isinstance(properties, list):
        raise _wrong(file, "`schema[0].properties` is not a list")
    return dataset_of(
        {
            "schema_version": 1,
            "table": table.get("name"),
            "parser": custom["Parser"],
            "match": custom["Match"],
            "layout": custom["Layout"],
            "columns": [_read_property(entry, file) for entry in properties],
            "shared": custom.get("Shared", False),
            "doc": table.get("description", ""),
        },
        file=file,
    )


# -- columns --------------------------------------------------------------------------------------------------------------


def _property(column: DatasetColumn) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": column.name,
        "logicalType": _logical(column.type),
        "physicalType": column.type,
    }
    if column.doc:
        said["description"] = column.doc
    said["required"] = not column.nullable
    if column.unique:
        said["unique"] = True
    options = {
        "minimum": column.minimum,
        "maximum": column.maximum,
        "pattern": column.pattern,
    }
    said["logicalTypeOptions"] = {key: value for key, value in options.items() if value is not None}
    if not said["logicalTypeOptions"]:
        del said["logicalTypeOptions"]
    if said["logicalType"] == "array":
        said["items"] = {"logicalType": _logical(element_type(column.type))}
    if column.allowed is not None:
        said["quality"] = [_in_list(column.allowed)]
    custom = {
        "Source": column.source,
        "Format": column.format,
        "Zone": column.zone,
        "Null": column.null,
        "Action": column.action,
        "Meaning": column.meaning,
    }
    defaults = {
        "Source": column.name,
        "Format": None,
        "Zone": None,
        "Null": (),
        "Action": Action.QUARANTINE,
        "Meaning": None,
    }
    if found := _custom(custom, defaults):
        said["customProperties"] = found
    return said


def _in_list(allowed: tuple[str, ...]) -> dict[str, Any]:
    return {
        "metric": "invalidValues",
        "mustBe": 0,
        "arguments": {"validValues": list(allowed)},
    }


def _logical(kind: str) -> str:
    return next((name for form, name in _LOGICAL if form.match(kind)), "string")


_PLAIN_TYPES: Final = {
    "string": "utf8",
    "integer": "int64",
    "number": "float64",
    "boolean": "bool",
    "date": "date32",
    "time": "time64[us]",
}


def _read_property(entry: Any, file: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise _wrong(file, "a property is not an object")
    name = entry.get("name")
    options = entry.get("logicalTypeOptions") or {}
    custom = _read_custom(entry.get("customProperties"), file)
    if not isinstance(options, dict):
        raise _wrong(file, f"`logicalTypeOptions` of `{show(str(name))}` is not an object")
    known = {"minimum", "maximum", "pattern"}
    if other := sorted(set(options) - known):
        raise _wrong(
            file,
            f"`{show(str(name))}` has the option `{show(str(other[0]))}`, which no check here keeps",
            f"leave it out, or say it with {', '.join(sorted(known))}",
        )
    physical = entry.get("physicalType")
    kind = physical if physical is not None else _PLAIN_TYPES.get(str(entry.get("logicalType")))
    if not isinstance(kind, str):
        raise _wrong(
            file,
            f"`{show(str(name))}` has no `physicalType`",
            "name the column's type, like `timestamp[us, UTC]`",
        )
    return {
        "name": name,
        "source": custom.get("Source", name),
        "type": kind,
        "format": custom.get("Format"),
        "zone": custom.get("Zone"),
        "null": custom.get("Null", []),
        "nullable": not _flag(entry, "required", file),
        "minimum": options.get("minimum"),
        "maximum": options.get("maximum"),
        "pattern": options.get("pattern"),
        "allowed": _allowed(entry.get("quality"), name, file),
        "unique": _flag(entry, "unique", file) or _flag(entry, "primaryKey", file),
        "action": custom.get("Action", Action.QUARANTINE.value),
        "meaning": custom.get("Meaning"),
        "doc": entry.get("description", ""),
    }


def _flag(entry: dict[str, Any], key: str, file: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise _wrong(file, f"`{key}` of `{show(str(entry.get('name')))}` is neither true nor false")
    return value


def _allowed(quality: Any, name: Any, file: str) -> list[str] | None:
    """The one rule of quality that is a constraint here; any other would be dropped in silence, so it is refused."""
    if quality is None:
        return None
    rule = quality[0] if isinstance(quality, list) and len(quality) == 1 else None
    values = rule.get("arguments", {}).get("validValues") if isinstance(rule, dict) else None
    if not isinstance(values, list) or rule != _in_list(tuple(values)):
        raise _wrong(
            file,
            f"`quality` of `{show(str(name))}` is no list of valid values, which is all that is kept here",
            "leave other rules of quality out",
        )
    return values


# -- custom properties and YAML -------------------------------------------------------------------------------------------


def _custom(values: dict[str, Any], defaults: dict[str, Any]) -> list[dict[str, str]]:
    """What differs from the default, as JSON text: YAML has more ways to write a value than can be told apart."""
    return [
        {"property": f"{_PREFIX}{name}", "value": msgspec.json.encode(value).decode()}
        for name, value in values.items()
        if name not in defaults or value != defaults[name]
    ]


def _read_custom(entries: Any, file: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in entries if isinstance(entries, list) else []:
        name = str(entry.get("property", "")) if isinstance(entry, dict) else ""
        if not name.startswith(_PREFIX):
            continue  # others may say more of a contract; it changes nothing here
        key = name.removeprefix(_PREFIX)
        if key in found:
            raise _wrong(file, f"the custom property `{show(name)}` stands twice")
        try:
            found[key] = msgspec.json.decode(str(entry.get("value")))
        except msgspec.DecodeError as error:
            raise _wrong(file, f"the custom property `{show(name)}` is no JSON text") from error
    return found


def _load(raw: bytes, file: str) -> dict[str, Any]:
    import yaml

    try:
        if len(raw) > BYTES_MAX:
            raise ValueError(f"larger than {BYTES_MAX} bytes")
        depth = 0
        for count, event in enumerate(yaml.parse(raw, Loader=yaml.SafeLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEPTH_MAX:  # each level costs the scanner more than the one before
                raise ValueError(f"nested more than {_DEPTH_MAX} deep")
            aliased = isinstance(event, yaml.AliasEvent)  # a few of them can be made a bomb
            if aliased or count > _NODES_MAX:
                raise ValueError("it has an alias" if aliased else f"more than {_NODES_MAX} values")
        values = yaml.load(raw, Loader=_loader())  # noqa: S506 - a subclass of the safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ContractError(
            f"`{show(file)}` is not readable as YAML: {show(str(error), width=200)}",
            code="contract.syntax",
            file=file,
        ) from error
    if not isinstance(values, dict):
        raise _wrong(file, "it is not an object")
    return values


def _loader() -> Any:
    """The safe loader, except that a key that stands twice is an error."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            values = super().construct_mapping(node, deep=deep)
            if len(values) != len(node.value):
                raise yaml.constructor.ConstructorError(problem="a key stands twice")
            return dict(values)

    return Loader


def _dumper() -> Any:
    """The safe dumper, with quotes and escapes around texts that a plain style would not give back as they are."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: Any, value: str) -> Any:
        plain = _PLAIN.match(value) and value == value.strip()
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')

    Dumper.add_representer(str, text)
    return Dumper


def _wrong(file: str, why: str, hint: str | None = None) -> ContractError:
    return ContractError(
        f"`{show(file)}` is no contract of a dataset: {why}",
        hint=hint,
        code="contract.odcs",
        file=file,
    )
