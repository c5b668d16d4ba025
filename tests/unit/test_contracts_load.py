"""`contract.toml` and `parser.toml`: what they may say, and how each mistake is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casparian.contracts.load import load_contract, load_manifest
from casparian.contracts.settings import effective_config
from casparian.domain.contracts import Action
from casparian.domain.parsers import ConfigOption, ParserKind
from casparian.errors import CasparianError, ContractError, UsageError


def contract(columns: str, head: str = "main = true") -> str:
    return f"schema_version = 1\n[outputs.events]\n{head}\ncolumns = [{columns}]\n"


def column(**keys: str) -> str:
    return contract("{ " + ", ".join(f"{key} = {value}" for key, value in keys.items()) + " }")


def manifest(drop: str = "", **keys: str) -> str:
    values = {
        "name": '"x.y"',
        "version": '"1.2.3"',
        "kind": '"python"',
        "entry": '"parser.py:parse"',
        "tags": '["text"]',
        "unit": '"line"',
        "account": '"lines"',
    } | keys
    values.pop(drop, None)
    tables = values.pop("tables", "")
    return "schema_version = 1\n" + "".join(f"{k} = {v}\n" for k, v in values.items()) + tables


def test_a_contract_reads_back_as_written() -> None:
    read = load_contract(
        b"""schema_version = 1
[outputs.events]
main = true
doc = "events"
[[outputs.events.columns]]
name = "level"
type = "uint8"
nullable = false
minimum = 0
maximum = 7
action = "fail"
doc = "how bad"
[[outputs.events.columns]]
name = "Host Name"
type = "utf8"
pattern = "[a-z]+"
[[outputs.events.columns]]
name = "kind"
type = "utf8"
allowed = ["a", "b"]
[outputs.other]
columns = [{ name = "x", type = "list<timestamp[ns, UTC]>" }]
"""
    )
    assert [output.table for output in read.outputs] == ["events", "other"]
    assert read.main.table == "events"
    level, host, kind = read.main.columns
    assert (level.nullable, level.minimum, level.maximum, level.action) == (
        False,
        0,
        7,
        Action.FAIL,
    )
    assert (host.pattern, host.nullable, host.action) == ("[a-z]+", True, Action.QUARANTINE)
    assert kind.allowed == ("a", "b")


# what is written -> code, and what the message and the hint must name
BAD_CONTRACTS = {
    "not TOML": ("x =\ny", "contract.syntax", "line 1"),
    "no version": ("[outputs.a]", "contract.key", "schema_version"),
    "another version": ("schema_version = 2", "contract.version", "version 1"),
    "version true": ("schema_version = true", "contract.version", "True"),
    "no output": ("schema_version = 1", "contract.value", "outputs"),
    "no main": (contract("{ name = 'a', type = 'utf8' }", ""), "contract.value", "no main table"),
    "no columns": (contract(""), "contract.value", "outputs.events.columns"),
    "unknown key": (
        column(name="'a'", type="'utf8'", nulable="false"),
        "contract.key",
        "`nullable`",
    ),
    "misspelt required key": (column(nmae="'a'", type="'utf8'"), "contract.key", "`nmae`"),
    "unknown type": (column(name="'a'", type="'unit32'"), "contract.type", "`uint32`"),
    "forbidden type": (column(name="'a'", type="'dictionary'"), "contract.type", "dictionary"),
    "key path": (
        contract("{ name = 'a', type = 'utf8' }, { name = 'b' }"),
        "contract.key",
        "outputs.events.columns[1].type",
    ),
    "text for a bool": (
        column(name="'a'", type="'utf8'", nullable="'no'"),
        "contract.value",
        "true or false",
    ),
    "bool for a number": (
        column(name="'a'", type="'int8'", minimum="true"),
        "contract.value",
        "minimum",
    ),
    "infinite bound": (
        column(name="'a'", type="'float64'", minimum="-inf"),
        "contract.value",
        "finite",
    ),
    "bound out of the type": (
        column(name="'a'", type="'uint8'", minimum="-1"),
        "contract.value",
        "uint8",
    ),
    "fraction for integers": (
        column(name="'a'", type="'int8'", maximum="1.5"),
        "contract.value",
        "1.5",
    ),
    "bound of a text": (column(name="'a'", type="'utf8'", maximum="1"), "contract.value", "utf8"),
    "empty range": (
        column(name="'a'", type="'int8'", minimum="2", maximum="1"),
        "contract.value",
        "above the maximum",
    ),
    "bad pattern": (
        column(name="'a'", type="'utf8'", pattern="'('"),
        "contract.value",
        "missing )",
    ),
    "unbalanced pattern": (
        column(name="'a'", type="'utf8'", pattern="'a)|(b'"),
        "contract.value",
        "RE2",
    ),
    "open quotation": (
        column(name="'a'", type="'utf8'", pattern=r"'\Qa'"),
        "contract.value",
        "RE2",
    ),
    "look-ahead": (column(name="'a'", type="'utf8'", pattern="'(?=a)'"), "contract.value", "RE2"),
    "pattern of a number": (
        column(name="'a'", type="'int8'", pattern="'a'"),
        "contract.value",
        "utf8",
    ),
    "allowed of a number": (
        column(name="'a'", type="'int8'", allowed="['a']"),
        "contract.value",
        "utf8",
    ),
    "allowed is empty": (
        column(name="'a'", type="'utf8'", allowed="[]"),
        "contract.value",
        "empty",
    ),
    "allowed twice": (
        column(name="'a'", type="'utf8'", allowed="['a', 'a']"),
        "contract.value",
        "twice",
    ),
    "unknown action": (
        column(name="'a'", type="'utf8'", action="'fial'"),
        "contract.value",
        "`fail`",
    ),
    "lineage name": (column(name="'_cf_x'", type="'utf8'"), "contract.reserved", "_cf_"),
    "lineage name, full width": (
        column(name="'\uff3fＣＦ_x'", type="'utf8'"),
        "contract.reserved",
        "_cf_",
    ),
    "host's name": (column(name="'@offset'", type="'utf8'"), "contract.reserved", "@offset"),
    "hidden character": (column(name="'a\u202eb'", type="'utf8'"), "contract.value", "u202e"),
    "empty name": (column(name="''", type="'utf8'"), "contract.value", "columns"),
    "names differ by case": (
        contract("{ name = 'Straße', type = 'utf8' }, { name = 'STRASSE', type = 'utf8' }"),
        "contract.value",
        "cannot tell apart",
    ),
    "names differ by form": (
        contract("{ name = 'é', type = 'utf8' }, { name = 'e\u0301', type = 'utf8' }"),
        "contract.value",
        "cannot tell apart",
    ),
    "the same name": (
        contract("{ name = 'a', type = 'utf8' }, { name = 'a', type = 'utf8' }"),
        "contract.value",
        "cannot tell apart",
    ),
    "reserved table": (
        contract("{ name = 'a', type = 'utf8' }").replace("events", "quarantine"),
        "contract.table",
        "table of the host",
    ),
    "view's name": (
        contract("{ name = 'a', type = 'utf8' }").replace("events", "x__all"),
        "contract.table",
        "__all",
    ),
    "upper-case table": (
        contract("{ name = 'a', type = 'utf8' }").replace("events", "Events"),
        "contract.table",
        "lower-case",
    ),
    "SQL for a table": (
        contract("{ name = 'a', type = 'utf8' }").replace("outputs.events", "outputs.'x; drop'"),
        "contract.table",
        "lower-case",
    ),
}


@pytest.mark.parametrize(("text", "code", "named"), BAD_CONTRACTS.values(), ids=list(BAD_CONTRACTS))
def test_a_broken_contract_names_file_key_and_remedy(text: str, code: str, named: str) -> None:
    with pytest.raises(ContractError) as raised:
        load_contract(text.encode(), file="/p/contract.toml")
    assert raised.value.code == code
    assert "`/p/contract.toml`" in raised.value.message
    assert named in f"{raised.value.message} {raised.value.hint}"


BAD_MANIFESTS = {
    "no name": (manifest("name"), "manifest.key", "name"),
    "name with a slash": (manifest(name='"../x"'), "manifest.value", "linux.syslog"),
    "upper-case name": (manifest(name='"X"'), "manifest.value", "lower-case"),
    "two-part version": (manifest(version='"1.0"'), "manifest.value", "1.0.0"),
    "unknown kind": (manifest(kind='"pyhton"'), "manifest.value", "`python`"),
    "entry leaves the folder": (manifest(entry='"../p.py:parse"'), "manifest.value", "own folder"),
    "absolute entry": (manifest(entry='"/p.py:parse"'), "manifest.value", "own folder"),
    "hidden entry": (manifest(entry='".p.py:parse"'), "manifest.value", "own folder"),
    "entry without function": (manifest(entry='"p.py"'), "manifest.value", "file.py:function"),
    "entry is an expression": (manifest(entry='"p.py:f()"'), "manifest.value", "file.py:function"),
    "native entry is a path": (
        manifest(kind='"native"', entry='"a/b"'),
        "manifest.value",
        "native",
    ),
    "no tags": (manifest(tags="[]"), "manifest.key", "tag"),
    "tags are a text": (manifest(tags='"evtx"'), "manifest.value", "list of strings"),
    "unknown unit": (manifest(unit='"row"'), "manifest.value", "`record`"),
    "unknown account": (manifest(account='"line"'), "manifest.value", "`lines`"),
    "unknown key": (manifest(tagz='["a"]'), "manifest.key", "`tags`"),
    "limit below its floor": (
        manifest(tables="[limits]\nmemory_mb = 0"),
        "manifest.value",
        "memory_mb",
    ),
    "wall limit below its floor": (
        manifest(tables="[limits]\nwall_seconds = 0"),
        "manifest.value",
        "limits.wall_seconds",
    ),
    "wall limit is a text": (
        manifest(tables="[limits]\nwall_seconds = '1h'"),
        "manifest.value",
        "limits.wall_seconds",
    ),
    "flood limit above its ceiling": (
        manifest(tables="[limits]\nlog_mb_max = 1048577"),
        "manifest.value",
        "limits.log_mb_max",
    ),
    "no rows at all": (
        manifest(tables="[limits]\nrows_per_kb_max = 0"),
        "manifest.value",
        "limits.rows_per_kb_max",
    ),
    "unknown limit": (manifest(tables="[limits]\nmemory = 9"), "manifest.key", "`memory_mb`"),
    "option without default": (
        manifest(tables="[config.a]\ntype = 'string'"),
        "manifest.key",
        "config.a.default",
    ),
    "default of another type": (
        manifest(tables="[config.a]\ntype = 'integer'\ndefault = true"),
        "manifest.value",
        "integer",
    ),
    "default is no choice": (
        manifest(tables="[config.a]\ntype = 'string'\ndefault = 'x'\nchoices = ['y']"),
        "manifest.value",
        "`y`",
    ),
    "preload is code": (manifest(preload='["os; x"]'), "manifest.value", "preload"),
}


@pytest.mark.parametrize(("text", "code", "named"), BAD_MANIFESTS.values(), ids=list(BAD_MANIFESTS))
def test_a_broken_manifest_names_file_key_and_remedy(text: str, code: str, named: str) -> None:
    with pytest.raises(ContractError) as raised:
        load_manifest(text.encode(), file="/p/parser.toml")
    assert raised.value.code == code
    assert "`/p/parser.toml`" in raised.value.message
    assert named in f"{raised.value.message} {raised.value.hint}"


def test_a_manifest_reads_back_as_written() -> None:
    read = load_manifest(
        manifest(
            preload='["zoneinfo", "xml.sax"]',
            tables="""[limits]
cpu_seconds = 5
wall_seconds = 7
rows_per_kb_max = 9
log_mb_max = 11
[config.zone]
type = "string"
default = "UTC"
choices = ["UTC", "CET"]
[config.factor]
type = "number"
default = 2
""",
        ).encode()
    )
    assert read.kind is ParserKind.PYTHON
    assert read.limits.cpu_seconds == 5
    assert (read.limits.wall_seconds, read.limits.rows_per_kb_max, read.limits.log_mb_max) == (
        7,
        9,
        11,
    )
    assert read.limits.memory_mb == 1024
    assert read.preload == ("zoneinfo", "xml.sax")
    assert read.config["zone"] == ConfigOption(type="string", default="UTC", choices=("UTC", "CET"))


def test_settings_are_the_defaults_and_what_was_given() -> None:
    options = {
        "zone": ConfigOption(type="string", default="UTC", choices=("UTC", "CET")),
        "factor": ConfigOption(type="number", default=2),
    }
    read = load_manifest(manifest().encode())
    read = type(read)(
        **{name: getattr(read, name) for name in read.__struct_fields__} | {"config": options}
    )
    assert effective_config(read, {}) == {"zone": "UTC", "factor": 2.0}
    assert effective_config(read, {"zone": "CET", "factor": 1}) == {"zone": "CET", "factor": 1.0}
    assert isinstance(effective_config(read, {"factor": 1})["factor"], float)
    for given_, named in (
        ({"zon": "UTC"}, "`zone`"),
        ({"zone": "XX"}, "`CET`"),
        ({"factor": True}, "number"),
    ):
        with pytest.raises(UsageError) as raised:
            effective_config(read, given_)
        assert raised.value.code == "parser.setting"
        assert named in f"{raised.value.message} {raised.value.hint}"


@given(st.binary(max_size=200))
def test_no_bytes_make_a_loader_fail_in_another_way(raw: bytes) -> None:
    for load in (load_contract, load_manifest):
        with pytest.raises(CasparianError):
            load(raw)


@given(st.text(max_size=60), st.sampled_from(["name", "type", "pattern", "allowed", "minimum"]))
def test_no_value_makes_a_loader_fail_in_another_way(text: str, key: str) -> None:
    import json

    value = json.dumps(text).replace("\x7f", "\\u007f")
    keys = {"name": "'a'", "type": "'utf8'", key: value}
    try:
        read = load_contract(column(**keys).encode("utf-8", "surrogatepass"))
    except ContractError:
        return
    assert [column.name for column in read.main.columns] == [text if key == "name" else "a"]


def test_companions_are_suffixes_and_none_by_default() -> None:
    assert load_manifest(manifest().encode()).companions == ()
    read = load_manifest(manifest(companions='[".LOG1", "-wal"]').encode())
    assert read.companions == (".LOG1", "-wal")


@pytest.mark.parametrize(
    "value",
    [
        '["LOG1"]',
        '["."]',
        '[".LOG1/.."]',
        '[".LOG 1"]',
        '[".log1", ".LOG1"]',
        '[".wal", "-wal"]',
        '[".a", ".b", ".c", ".d", ".e", ".f", ".g", ".h"]',
        '".LOG1"',
    ],
)
def test_companions_that_cannot_be_are_refused_by_name(value: str) -> None:
    with pytest.raises(ContractError, match="companions") as caught:
        load_manifest(manifest(companions=value).encode())
    assert caught.value.code.startswith("manifest.")
