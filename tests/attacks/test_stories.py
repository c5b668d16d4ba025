"""Attacks that take more than one file, one parser or one moment."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from casparian import ids
from casparian.control import client as control_client
from casparian.errors import CasparianError
from casparian.protocol import control
from tests.attacks.arena import TABLE, Arena
from tests.attacks.catalogue import KILLED
from tests.support.world import CASPARIAN, wait_until

LINES = """
def attack(ctx):
    raise RuntimeError('unused')
def parse(ctx):
    {before}
    offset = 0
    for line in ctx.source.read().splitlines(True):
        yield "loot", Row(offset, len(line), {{"text": line.decode().strip()}})
        offset += len(line)
"""


def lines(before: str = "pass") -> str:
    """A parser of lines that does something else first."""
    return LINES.format(before=before)


@pytest.mark.parametrize("column", ["_cf_row_id", "_CF_job_id", "\uff3fcf_source", "_cf_"])
def test_60_forged_lineage_columns_are_refused_before_anything_runs(
    arena: Arena, column: str
) -> None:
    contract = f"""
schema_version = 1
[outputs.loot]
main = true
columns = [ {{ name = "{column}", type = "utf8" }} ]
"""
    with pytest.raises(CasparianError) as refused:
        arena.attack(lines(), contract=contract)
    assert refused.value.code.startswith("contract."), refused.value
    assert not arena.out(arena.last).exists() or arena.rows(arena.last, TABLE) == []


def test_63_evidence_swapped_under_the_parser(arena: Arena) -> None:
    """The file is changed between the hash of the plan and the parser's read: the source fails."""
    name = arena.new_name()
    arena.parser(name, lines("time.sleep(1.5)"), idle_seconds=10)
    root = arena.evidence(name)
    target = root / "hostile.hostile"

    def swap(event: control.Event) -> None:
        if isinstance(event, control.Planned):
            target.write_text("another content altogether, and longer than before\n" * 3)

    request = control.Run(
        request_id=ids.new_request_id(),
        evidence=os.fsencode(root),
        sinks={"": arena.sink(name)},
        selection=control.Selection(parsers=(name,)),
    )
    result = arena.client.ask(request, control.RunResult, on_event=swap)
    assert [p.code for p in result.problems] == ["source.changed"], result.problems
    assert arena.rows(name, TABLE) == []


def test_64_evidence_that_is_no_file(arena: Arena) -> None:
    """Fifos, devices and links are never opened as evidence: each has a row that says why."""
    name = arena.new_name()
    arena.parser(name, lines())
    root = arena.evidence(name)
    os.mkfifo(root / "fifo.hostile")
    (root / "link.hostile").symlink_to(arena.secret)
    (root / "device.hostile").symlink_to("/dev/zero")
    with (root / "sparse.hostile").open("wb") as file:
        file.truncate(1 << 30)
    verdict = arena.run(name, root)
    # One line of a gibibyte cannot become a row; its bytes stay addressable, nobody runs out of memory.
    texts = {row["text"] for row in arena.rows(name, TABLE) if len(row["text"] or "") < 100}
    assert f"first line of {name}" in texts, verdict
    plan = arena.read("plan", root=verdict.result.root)
    status = {f["display_path"]: f["status"] for f in arena.read("files", root=verdict.result.root)}
    assert {path for path in status if status[path] == "catalogued"} >= {"hostile.hostile"}
    for special in ("fifo.hostile", "link.hostile", "device.hostile"):
        assert status[special] != "catalogued", status
        assert all(item["job_id"] is None for item in plan if item["display_path"] == special)


def test_65_a_parser_that_turns_on_its_fifth_file(arena: Arena) -> None:
    name = arena.new_name()
    arena.parser(name, lines("if b'fifth' in ctx.source.pread(100, 0): os.fork()"))
    root = arena.directory / f"evidence-{name}"
    root.mkdir()
    for number, word in enumerate(["first", "second", "third", "fourth", "fifth", "sixth"]):
        (root / f"{number}.hostile").write_text(f"{word} file of {name}\n")
    result = arena.run(name, root).result
    assert [(p.path, p.code) for p in result.problems] == [("4.hostile", next(iter(KILLED)))]
    texts = sorted(row["text"] for row in arena.rows(name, TABLE))
    assert texts == sorted(
        f"{w} file of {name}" for w in ("first", "second", "third", "fourth", "sixth")
    )


def test_66_abort_while_the_parser_works(arena: Arena) -> None:
    """From the answer on nothing of the job can become visible, and its guest is gone."""
    name = arena.new_name()
    arena.parser(name, lines("time.sleep(20)"), idle_seconds=60)
    root = arena.evidence(name)
    told: list[str] = []

    def cancel(event: control.Event) -> None:
        if isinstance(event, control.Planned) and not told:
            told.append(event.run_id)
            with control_client.Client.connect(arena.home) as other:
                wait_until(lambda: _running(other, event.run_id))
                other.ask(
                    control.CancelJob(request_id=ids.new_request_id(), run_id=event.run_id),
                    control.Done,
                )

    request = control.Run(
        request_id=ids.new_request_id(),
        evidence=os.fsencode(root),
        sinks={"": arena.sink(name)},
        selection=control.Selection(parsers=(name,)),
    )
    result = arena.client.ask(request, control.RunResult, on_event=cancel)
    assert result.cancelled
    assert result.jobs.aborted == 1
    assert arena.rows(name, TABLE) == []
    wait_until(lambda: arena.stages() == [])


def _running(client: control_client.Client, run_id: str) -> bool:
    rows = client.ask(control.Read(view="jobs", filters={"run_id": run_id}), control.Rows)
    states = [row[rows.columns.index("state")] for row in rows.rows]
    return "running" in states


def test_68_the_zygote_is_killed_in_the_middle_of_a_job(arena: Arena) -> None:
    """A fault from outside: tried again, committed once."""
    name = arena.new_name()
    arena.parser(name, lines("time.sleep(1.0)"), idle_seconds=30)
    root = arena.evidence(name)
    killed: list[int] = []

    def kill(event: control.Event) -> None:
        if isinstance(event, control.Planned) and not killed:
            with control_client.Client.connect(arena.home) as other:
                wait_until(lambda: _running(other, event.run_id))
            for pid, role in arena.processes().items():
                if role == "casparian.guest" and _parent_role(arena, pid) == "casparian.worker":
                    killed.append(pid)
                    os.kill(pid, signal.SIGKILL)

    request = control.Run(
        request_id=ids.new_request_id(),
        evidence=os.fsencode(root),
        sinks={"": arena.sink(name)},
        selection=control.Selection(parsers=(name,)),
    )
    result = arena.client.ask(request, control.RunResult, on_event=kill)
    assert killed
    assert result.jobs.completed == 1, result
    assert len(arena.rows(name, TABLE)) == 3


def _parent_role(arena: Arena, pid: int) -> str:
    try:
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return ""
    return arena.processes().get(parent, "")


def test_69_a_hundred_files_that_hang_do_not_starve_the_honest(arena: Arena) -> None:
    name = arena.new_name()
    arena.parser(
        name,
        lines("time.sleep(1_000) if b'hang' in ctx.source.pread(50, 0) else None"),
        idle_seconds=1,
    )
    root = arena.evidence(name)
    for number in range(6):
        (root / f"hang-{number}.hostile").write_text(f"hang {number} {name}\n")
    verdict = arena.run(name, root)
    codes = {p.code for p in verdict.result.problems}
    assert codes == {"limit.idle"}, verdict
    assert len(arena.rows(name, "syslog_events")) == 5
    assert len(arena.rows(name, TABLE)) == 3  # the one file of its own that does not hang


@pytest.mark.parametrize(
    "entry", ["../evil.py:parse", "/etc/passwd:parse", "parser.py:../x", "missing.py:parse"]
)
def test_70_an_entry_outside_of_the_artifact(arena: Arena, entry: str) -> None:
    name = arena.new_name()
    folder = arena.parser(name, lines())
    manifest = folder / "parser.toml"
    manifest.write_text(manifest.read_text().replace("parser.py:parse", entry))
    with pytest.raises(CasparianError) as refused:
        arena.run(name, arena.evidence(name))
    assert refused.value.code in {"manifest.entry", "manifest.value"}
    assert arena.rows(name, TABLE) == []


def test_70_a_module_named_like_the_standard_library(arena: Arena) -> None:
    """The parser's own `json.py` never takes the place of the real one."""
    verdict = arena.attack(
        lines("import json; assert json.loads('[1]') == [1]; assert not hasattr(json, 'EVIL')"),
        files={"json.py": "EVIL = True\nraise RuntimeError('the shadow was imported')\n"},
    )
    assert verdict.code is None, verdict


def test_74_escapes_in_the_log_do_not_reach_the_terminal(arena: Arena) -> None:
    verdict = arena.attack(
        lines(r"print('\x1b[2J\x1b]0;owned\x07 state completed \u202e reversed')")
    )
    assert verdict.code is None, verdict
    job_id = str(verdict.job["job_id"])
    shown = subprocess.run(
        [*CASPARIAN, "--home", str(arena.home.root), "jobs", "logs", job_id],
        capture_output=True,
        check=True,
    ).stdout
    assert b"owned" in shown
    assert b"\x1b" not in shown
    assert "\u202e".encode() not in shown


def test_a_killed_guest_flags_its_artifact_and_is_not_tried_again(arena: Arena) -> None:
    """A violation is permanent: the next run skips the file and says why."""
    first = arena.attack("os.fork()")
    assert first.code == "confinement.violation"
    name, root = arena.last, arena.directory / f"evidence-{arena.last}"
    again = arena.run(name, root)
    assert again.job == {}
    reasons = {
        i["reason"]: i["detail"]
        for i in arena.read("plan", root=again.result.root)
        if i["display_path"] == "hostile.hostile"
    }
    assert "failed_before" in reasons, reasons
    assert "confinement.violation" in reasons["failed_before"]
