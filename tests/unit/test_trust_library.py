"""Parsers by name, and the verdict on each."""

import shutil
from pathlib import Path

import pytest

from casparian import _native
from casparian.contracts.load import load_manifest
from casparian.domain.trust import TrustVerdict
from casparian.errors import CasparianError, ContractError, Refused, UsageError
from casparian.paths import Home, first_party_parsers
from casparian.trust import verdict
from casparian.trust.artifact import hash_artifact, read_signed
from casparian.trust.envelope import open_envelope
from casparian.trust.keys import PrivateKey
from casparian.trust.library import Origin, ParserLibrary, load_parser
from casparian.trust.statement import make_statement, read_payload

MANIFEST = """schema_version = 1
name = "{name}"
version = "1.0.0"
kind = "python"
entry = "parser.py:parse"
tags = ["text"]
unit = "line"
account = "lines"
"""
CONTRACT = """schema_version = 1
[outputs.events]
main = true
[[outputs.events.columns]]
name = "a"
type = "utf8"
"""


TWO_MAINS = (
    CONTRACT
    + """[outputs.more]
main = true
[[outputs.more.columns]]
name = "a"
type = "utf8"
"""
)


def parser(root: Path, folder: str, *, name: str | None = None, **files: str) -> Path:
    directory = root / folder
    directory.mkdir(parents=True)
    contents = {
        "parser.toml": MANIFEST.format(name=name or folder),
        "contract.toml": CONTRACT,
        "parser.py": "def parse(ctx): yield\n",
    } | {key.replace("_toml", ".toml"): value for key, value in files.items()}
    for file, text in contents.items():
        if text:
            (directory / file).write_text(text)
    return directory


def code(library: ParserLibrary, name: str) -> str:
    with pytest.raises(CasparianError) as raised:
        library.find(name)
    return raised.value.code


@pytest.fixture
def library(tmp_path: Path) -> ParserLibrary:
    return ParserLibrary(tmp_path / "ours", tmp_path / "home")


def test_a_library_without_folders_is_empty(library: ParserLibrary) -> None:
    assert library.list() == ()


def test_parsers_are_listed_ours_first_and_found_by_name(
    library: ParserLibrary, tmp_path: Path
) -> None:
    for root, name in (("home", "a.b"), ("ours", "z"), ("ours", "y")):
        parser(tmp_path / root, name)
    assert [(e.name, e.origin) for e in library.list()] == [
        ("y", Origin.FIRST_PARTY),
        ("z", Origin.FIRST_PARTY),
        ("a.b", Origin.HOME),
    ]
    found = library.find("a.b")
    assert found.label == "a.b@1.0.0"
    assert found.files == ("contract.toml", "parser.py", "parser.toml")
    assert library.find(str(tmp_path / "home" / "a.b")) == found


def test_an_unknown_name_offers_the_nearest(library: ParserLibrary, tmp_path: Path) -> None:
    parser(tmp_path / "ours", "windows.evtx")
    for wrong in ("windows.evt", "evtx", "Windows.Evtx"):
        with pytest.raises(UsageError) as raised:
            library.find(wrong)
        assert raised.value.code == "parser.unknown"
        assert raised.value.hint == "did you mean `windows.evtx`?"
    with pytest.raises(UsageError) as raised:
        library.find("qqq")
    assert "parser list" in (raised.value.hint or "")


def test_a_broken_parser_is_listed_with_its_error_and_hides_no_other(
    library: ParserLibrary, tmp_path: Path
) -> None:
    parser(tmp_path / "home", "good")
    parser(tmp_path / "home", "bad", parser_toml="schema_version = 1\nnmae = 3\n")
    parser(tmp_path / "home", "half", contract_toml="")
    parser(tmp_path / "home", "moved", name="elsewhere")
    entries = {entry.name: entry for entry in library.list()}
    assert entries["good"].artifact is not None
    assert {name: e.error.code for name, e in entries.items() if e.error} == {
        "bad": "manifest.key",
        "half": "parser.incomplete",
        "moved": "parser.folder_name",
    }
    assert code(library, "bad") == "manifest.key"
    assert code(library, "half") == "parser.incomplete"


def test_a_home_parser_never_takes_the_place_of_one_of_ours(
    library: ParserLibrary, tmp_path: Path
) -> None:
    parser(tmp_path / "home", "x", contract_toml=CONTRACT.replace("utf8", "int64"))
    assert library.find("x").contract.main.columns[0].type == "int64"
    parser(tmp_path / "ours", "x")
    assert library.find("x").contract.main.columns[0].type == "utf8"
    ours, theirs = library.list()
    assert ours.error is None
    assert theirs.error is not None
    assert theirs.error.code == "parser.duplicate"


def test_the_entry_must_be_in_the_folder(tmp_path: Path) -> None:
    directory = parser(tmp_path, "x")
    (directory / "parser.py").unlink()
    with pytest.raises(ContractError) as raised:
        load_parser(directory)
    assert raised.value.code == "manifest.entry"


def test_each_first_party_parser_loads_and_is_trusted(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    entries = ParserLibrary(first_party_parsers(), "/nonexistent").list()
    assert {entry.name for entry in entries} >= {"windows.evtx", "linux.syslog"}
    allowed = _native.first_party_parsers()
    for entry in entries:
        assert entry.error is None
        assert entry.artifact is not None
        # The native module may be older than a parser that is being edited; then it must say no.
        if allowed.get(entry.name) == entry.artifact.artifact_hash:
            found = verdict.verify(entry.artifact, home)
            assert (found.verdict, found.origin) == (TrustVerdict.VALID, Origin.FIRST_PARTY)
            assert found.keyids == (verdict.release_key().public.keyid,)
            assert found.development is _native.release_key()[1]
            # The short way for a home without trust says what all the checks say.
            files, _ = read_signed(entry.artifact.directory)
            assert found == verdict.verify_first_party(entry.name, files)
        else:
            with pytest.raises(Refused):
                verdict.verify(entry.artifact, home)


def test_the_build_signs_what_the_library_would(tmp_path: Path) -> None:
    """The build writes statements in Rust; they are byte for byte those of `make_statement`."""
    info = _native.build_info()
    for name, envelope in _native.first_party_statements().items():
        files, _ = read_signed(str(first_party_parsers() / name))
        if hash_artifact(files) != _native.first_party_parsers()[name]:
            continue  # it is being edited
        payload = open_envelope(envelope.encode(), name).payload
        said, _ = read_payload(payload)
        assert payload == make_statement(
            load_manifest(files["parser.toml"]),
            files,
            said.serial,
            int(info["source_date"]) * 1_000_000_000,
            min_runtime=info["version"],
        )
    public, development = _native.release_key()
    seed = b"casparian-development-only-key-1"
    assert (PrivateKey.from_seed(seed, "nobody").public.public == public) is development


def test_only_the_very_bytes_under_the_same_name_are_trusted(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    original = load_parser(first_party_parsers() / "linux.syslog")
    copy = tmp_path / "copy"
    shutil.copytree(original.directory, copy, ignore=shutil.ignore_patterns("__pycache__"))
    verdict.verify(load_parser(copy), home)  # where it lies does not matter

    (copy / "parser.py").write_bytes((copy / "parser.py").read_bytes() + b"\n")
    assert refusal(copy, home) == "trust.tampered"
    (copy / "parser.py").write_bytes((copy / "parser.py").read_bytes()[:-1])
    (copy / "more.py").write_text("")
    assert refusal(copy, home) == "trust.extra_file"
    (copy / "more.py").unlink()
    text = (copy / "parser.toml").read_text()
    (copy / "parser.toml").write_text(text.replace('"linux.syslog"', '"linux.other"', 1))
    assert refusal(copy, home) == "trust.unsigned"  # under another name it is nobody's
    assert refusal(parser(tmp_path, "own"), home) == "trust.unsigned"
    (tmp_path / "own" / "statement.dsse.json").write_text(
        _native.first_party_statements()["linux.syslog"]
    )
    assert refusal(tmp_path / "own", home) == "trust.no_root"


def refusal(directory: Path, home: Home) -> str:
    with pytest.raises(Refused) as raised:
        verdict.verify(load_parser(directory), home)
    assert raised.value.hint
    return raised.value.code


def test_a_verdict_is_about_the_bytes_that_were_read(tmp_path: Path) -> None:
    directory = parser(tmp_path, "own")
    artifact = load_parser(directory)
    (directory / "parser.py").write_text("def parse(ctx): raise SystemExit\n")
    with pytest.raises(Refused) as raised:
        verdict.verify(artifact, Home.at(tmp_path / "home"))
    assert raised.value.code == "trust.artifact_changed"


def test_two_main_tables_are_refused_where_a_unit_is_one_row_of_one_table(tmp_path: Path) -> None:
    directory = parser(tmp_path, "two.mains", contract_toml=TWO_MAINS)
    with pytest.raises(ContractError, match="2 main tables") as raised:
        load_parser(directory)
    assert raised.value.code == "contract.value"
    assert "main = true" in (raised.value.hint or "")


def test_units_of_several_kinds_have_a_main_table_each(tmp_path: Path) -> None:
    manifest = MANIFEST.format(name="two.mains").replace('unit = "line"', 'unit = "cell"')
    directory = parser(tmp_path, "two.mains", contract_toml=TWO_MAINS, parser_toml=manifest)
    contract = load_parser(directory).contract
    assert [output.table for output in contract.mains] == ["events", "more"]
    assert contract.main.table == "events"


def test_a_snapshot_stays_as_it_was_and_the_library_does_not(
    library: ParserLibrary, tmp_path: Path
) -> None:
    before = library.snapshot()
    parser(tmp_path / "home", "acme.late")
    assert before.list() == ()
    assert [entry.name for entry in library.list()] == ["acme.late"]
    assert before.snapshot().list() == ()
    with pytest.raises(UsageError):
        before.find("acme.late")
