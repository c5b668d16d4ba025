"""The case that the demonstration shows: believable, reproducible, and exactly described."""

import ast
import hashlib
import os
import re
import sys
import time
from pathlib import Path

import pytest

import casparian.demo
from casparian.demo.evtx_reference import read_log
from casparian.demo.story import tell
from casparian.demo.world import EvidenceKind, EvidenceSummary, build_evidence
from tests.factories import wheel
from tests.factories.hives import walk


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> EvidenceSummary:
    return build_evidence(tmp_path_factory.mktemp("case"))


def content(case: EvidenceSummary, path: str) -> bytes:
    return (case.directory / path).read_bytes()


def tree(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        + f" {path.stat().st_mtime_ns}"
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def test_every_file_on_disk_is_described_and_every_described_file_is_there(
    case: EvidenceSummary,
) -> None:
    found = {
        str(path.relative_to(case.directory))
        for path in case.directory.rglob("*")
        if path.is_symlink() or path.is_file()
    }
    assert found == {file.path for file in case.files}
    assert [file.path for file in case.files] == sorted(
        (file.path for file in case.files), key=os.fsencode
    )
    for file in case.files:
        if file.kind is not EvidenceKind.SYMLINK:
            assert len(content(case, file.path)) == file.size_bytes


def test_there_is_a_file_of_each_kind_and_of_each_state(case: EvidenceSummary) -> None:
    assert {file.kind for file in case.files} == set(EvidenceKind)
    findings = {code for file in case.files for code in file.findings}
    assert {"chunk.cut", "chunk.damaged", "file.chunk_count"} <= findings
    assert sum(file.slack_records for file in case.files) > 0
    assert sum(file.unparsable for file in case.files) > 0
    assert case.file("FIN-WS07/Windows/System32/winevt/Logs/System.evtx").records > 200


def test_no_event_of_the_story_is_lost_but_by_the_damage_that_is_described(
    case: EvidenceSummary,
) -> None:
    told = {name: len(events) for name, events in tell(case.seed, case.scale).logs.items()}
    logs = "FIN-WS07/Windows/System32/winevt/Logs"
    for name, path in {
        "Security": "Security",
        "System": "System",
        "ForwardedEvents": "ForwardedEvents",
    }.items():
        file = case.file(f"{logs}/{path}.evtx")
        assert (file.records, file.damaged) == (told[name], 0)
        assert len(wheel.facts(content(case, file.path), validate=False)) == told[name]
    sysmon = case.file(f"{logs}/Microsoft-Windows-Sysmon%4Operational.evtx")
    assert sysmon.records + sysmon.slack_records == told["Sysmon"]
    application = case.file(f"{logs}/Application.evtx")
    assert application.damaged == 1
    assert told["Application"] - 3 <= application.records - 1 < told["Application"]
    tasks = case.file(f"{logs}/Microsoft-Windows-TaskScheduler%4Operational.evtx")
    assert tasks.damaged == 1
    assert 0 < tasks.records < told["TaskScheduler"]


def test_the_copy_has_the_content_of_the_original(case: EvidenceSummary) -> None:
    (copy,) = (file for file in case.files if file.same_content_as)
    original = case.file(copy.same_content_as or "")
    assert content(case, copy.path) == content(case, original.path)
    assert original.path < copy.path
    assert case.records == sum(file.records for file in case.files) - copy.records


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    build_evidence(tmp_path / "one")
    build_evidence(tmp_path / "two")
    build_evidence(tmp_path / "other", seed=8)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert tree(tmp_path / "one") != tree(tmp_path / "other")


@pytest.mark.parametrize("seed", [0, 1, 2**64, -3])
def test_any_seed_makes_a_whole_case(tmp_path: Path, seed: int) -> None:
    case = build_evidence(tmp_path, seed=seed)
    assert sum(file.damaged for file in case.files) == 2


def test_scale_multiplies_the_noise_and_keeps_the_story(
    tmp_path: Path, case: EvidenceSummary
) -> None:
    larger = build_evidence(tmp_path, scale=3)
    assert 2.5 * case.records < larger.records < 3 * case.records
    assert larger.story == case.story


def test_building_takes_well_under_two_seconds(tmp_path: Path) -> None:
    started = time.process_time()
    build_evidence(tmp_path)
    assert time.process_time() - started < 2


def test_evidence_is_never_mixed_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        build_evidence(tmp_path)
    assert (tmp_path / "kept").read_text() == "mine"
    with pytest.raises(ValueError, match="at least 1"):
        build_evidence(tmp_path / "new", scale=0)


def test_the_story_can_be_read_in_the_logs_that_it_names(case: EvidenceSummary) -> None:
    logs = "FIN-WS07/Windows/System32/winevt/Logs"
    security = wheel.facts(content(case, f"{logs}/Security.evtx"))
    guesses = [dict(fact.payload) for fact in security if fact.event_id == "4625"]
    assert len(guesses) == 24
    assert {(fact["TargetUserName"], fact["IpAddress"]) for fact in guesses} == {
        ("t.bergman", "203.0.113.45")
    }
    system = wheel.facts(content(case, f"{logs}/System.evtx"), validate=False)
    assert [dict(f.payload)["ServiceName"] for f in system if f.event_id == "7045"] == [
        "Kestrel Update"
    ]
    assert [dict(f.payload)["LogFileCleared/Channel"] for f in system if f.event_id == "104"] == [
        "Microsoft-Windows-TaskScheduler/Operational"
    ]
    sysmon = wheel.facts(content(case, f"{logs}/Microsoft-Windows-Sysmon%4Operational.evtx"))
    assert [f.event_id for f in sysmon if "203.0.113.45" in dict(f.payload).values()] == ["3"]
    assert sum(f.event_id == "11" for f in sysmon) == 1
    auth = content(case, "gw01/var/log/auth.log").decode()
    assert len(re.findall(r"sudo: svc_backup : .*COMMAND=", auth)) == 3
    assert 'bytes_out="48113664"' in content(case, "gw01/var/log/messages").decode()
    assert [beat.time for beat in case.story] == sorted(beat.time for beat in case.story)


def test_all_names_and_addresses_are_reserved_for_examples(case: EvidenceSummary) -> None:
    for file in case.files:
        if file.kind in {EvidenceKind.SYSLOG, EvidenceKind.EVTX}:
            data = content(case, file.path)
            text = data.decode("utf-16-le", "ignore") + data.decode("latin-1")
            for address in re.findall(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])", text):
                assert address.startswith(("192.0.2.", "203.0.113.")), (file.path, address)
            for name in re.findall(r"[\w-]+\.(?:com|net|org|local)\b", text):
                assert name in {"example.org", "microsoft.com"}, (file.path, name)


def test_the_dirty_log_has_more_chunks_than_its_header_knows(case: EvidenceSummary) -> None:
    data = content(case, "FIN-WS07/Windows/System32/winevt/Logs/System.evtx")
    assert int.from_bytes(data[42:44], "little") == 1
    assert len(read_log(data).chunks) > 1
    assert data[-65536:] == bytes(65536)


def test_links_are_relative_and_stay_in_the_case(case: EvidenceSummary) -> None:
    (link,) = (file for file in case.files if file.kind is EvidenceKind.SYMLINK)
    assert os.readlink(case.directory / link.path) == link.link_target == "syslog"


def test_the_factory_needs_nothing_but_the_standard_library() -> None:
    allowed = sys.stdlib_module_names | {"casparian"}
    for source in Path(casparian.demo.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in allowed, (source, name)
                if name.startswith("casparian"):
                    assert name.startswith("casparian.demo"), (source, name)


def test_the_hive_has_the_service_and_a_key_that_was_deleted(case: EvidenceSummary) -> None:
    hive = case.file("FIN-WS07/Windows/System32/config/SYSTEM")
    assert (hive.kind, hive.findings) == (EvidenceKind.REGISTRY, ())
    assert hive.slack_records == 2
    account = walk(content(case, hive.path))
    assert (account.present, account.declared) == (hive.records, hive.records)
    assert account.findings == []
    assert "kestrelsvc.exe /stage".encode("utf-16-le") in content(case, hive.path)
