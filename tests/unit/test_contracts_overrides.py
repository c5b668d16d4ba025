"""A laboratory's contract can only be stricter than the parser's."""

from pathlib import Path

import pytest

from casparian.contracts.overrides import Override, effective, find_override
from casparian.domain.contracts import Action, Column, Contract, OutputContract
from casparian.errors import ContractError

EVENTS = OutputContract(
    table="events",
    main=True,
    columns=(
        Column(name="level", type="uint8", minimum=1, maximum=9),
        Column(name="host", type="utf8", pattern="[a-z]+"),
        Column(name="kind", type="utf8", allowed=("a", "b", "c")),
        Column(name="id", type="int64", nullable=False, action=Action.FAIL),
        Column(name="free", type="utf8"),
    ),
)
PARSER = Contract(
    outputs=(EVENTS, OutputContract(table="other", columns=(Column(name="x", type="utf8"),)))
)


def override(columns: str, table: str = "events", more: str = "") -> Override:
    text = f"schema_version = 1\n{more}[outputs.{table}]\ncolumns = [{columns}]\n"
    return Override(file="/lab/x.toml", raw=text.encode())


def test_without_an_override_the_parsers_contract_holds(tmp_path: Path) -> None:
    assert find_override(tmp_path, "x") is None
    assert effective(PARSER, None) is PARSER


def test_only_the_columns_that_are_listed_change() -> None:
    tightened = effective(
        PARSER,
        override(
            "{name='level', minimum=2, maximum=8, nullable=false}, {name='kind', allowed=['a']},"
            "{name='free', type='utf8', pattern='x+', action='fail'}, {name='host', pattern='[a-z]+'}"
        ),
    )
    level, host, kind, identifier, free = tightened.main.columns
    assert (level.minimum, level.maximum, level.nullable) == (2, 8, False)
    assert kind.allowed == ("a",)
    assert (free.pattern, free.action) == ("x+", Action.FAIL)
    assert (host, identifier) == (EVENTS.columns[1], EVENTS.columns[3])
    assert tightened.outputs[1] == PARSER.outputs[1]
    assert tightened.main.main


BAD = {
    "unknown table": (override("", table="evants"), "contract.key", "`events`"),
    "unknown column": (override("{name='levle', nullable=false}"), "contract.value", "`level`"),
    "unknown key": (override("{name='level', nulable=false}"), "contract.key", "`nullable`"),
    "listed twice": (override("{name='free'}, {name='free'}"), "contract.value", "second time"),
    "another type": (override("{name='level', type='uint16'}"), "contract.value", "uint8"),
    "null allowed": (override("{name='id', nullable=true}"), "contract.loosened", "null"),
    "lower minimum": (override("{name='level', minimum=0}"), "contract.loosened", "below"),
    "higher maximum": (override("{name='level', maximum=10}"), "contract.loosened", "above"),
    "another pattern": (override("{name='host', pattern='a+'}"), "contract.loosened", "narrower"),
    "one more value": (override("{name='kind', allowed=['a','d']}"), "contract.loosened", "`d`"),
    "softer action": (override("{name='id', action='quarantine'}"), "contract.loosened", "fails"),
    "empty range": (override("{name='level', minimum=9, maximum=2}"), "contract.value", "above"),
    "pattern of a number": (override("{name='id', pattern='1'}"), "contract.value", "utf8"),
    "main moved": (Override(file="/lab/x.toml", raw=b"schema_version = 1\n[outputs.events]\nmain = true\n"),
                   "contract.key", "main"),
    "no outputs": (Override(file="/lab/x.toml", raw=b"schema_version = 1\n"), "contract.key", "outputs"),
    "not TOML": (Override(file="/lab/x.toml", raw=b"\xff"), "contract.syntax", "UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "code", "named"), BAD.values(), ids=list(BAD))
def test_a_looser_or_broken_contract_is_refused(given: Override, code: str, named: str) -> None:
    with pytest.raises(ContractError) as raised:
        effective(PARSER, given)
    assert raised.value.code == code
    assert "`/lab/x.toml`" in raised.value.message
    assert named in f"{raised.value.message} {raised.value.hint}"


def test_a_file_of_the_home_is_found_by_the_parsers_name(tmp_path: Path) -> None:
    (tmp_path / "a.b.toml").write_bytes(b"x")
    found = find_override(tmp_path, "a.b")
    assert found == Override(file=str(tmp_path / "a.b.toml"), raw=b"x")
    assert find_override(tmp_path, "a") is None


def test_a_contract_that_cannot_be_read_is_never_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.toml").mkdir()
    with pytest.raises(ContractError) as raised:
        find_override(tmp_path, "x")
    assert raised.value.code == "contract.unreadable"
