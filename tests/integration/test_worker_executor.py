"""Jobs that go well, or whose evidence does not: real guests, real files."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from worker_world import LINES, World, rows, strict

from casparian.domain.contracts import Action, Column, OutputContract
from casparian.domain.ledger import Ledger
from casparian.protocol.worker import Receipt
from casparian.worker.cancel import Cancellation, Cancelled
from casparian.worker.executor import Services


@pytest.fixture
def world(tmp_path: Path, services: Services) -> World:
    return World(tmp_path, services)


def ledger(receipt: Receipt, index: int = 0) -> Ledger:
    found = receipt.sources[index].ledger
    assert found is not None
    return found


def test_rows_quarantine_and_ledger_of_a_plain_job(world: World) -> None:
    world.source(b"one\ntwo\nbad three\n\nfour")
    world.source(b"five\n")
    receipt = world.run()
    assert receipt.code is None
    assert [source.code for source in receipt.sources] == [None, None]
    assert [row["text"] for row in rows(receipt, "lines")] == ["one", "two", "four", "five"]
    assert [row["_cf_ordinal"] for row in rows(receipt, "lines")] == [0, 1, 2, 0]
    (aside,) = rows(receipt, "quarantine")
    assert (aside["raw"], aside["reason"], aside["_cf_offset"]) == (b"bad three\n", "test.bad", 8)
    assert aside["table_name"] == "lines"
    found = ledger(receipt)
    assert (found.present, found.rows, found.quarantined, found.lost) == (4, 3, 1, 0)
    assert found.balanced
    assert receipt.sources[0].rows == {"lines": 3}
    assert receipt.sources[0].quarantined == 1
    assert {file.table: file.sources for file in receipt.files} == {
        "lines": (0, 1),
        "quarantine": (0,),
    }
    assert all(os.path.getsize(file.path) == file.size_bytes for file in receipt.files)
    assert sorted(map(str, world.staged())) == sorted(file.path for file in receipt.files)
    last = world.progress[-1]
    assert (last.sources_done, last.bytes_done, last.rows, last.quarantined) == (2, 28, 4, 1)


def test_receipt_says_what_confines_the_guest(world: World) -> None:
    world.source(b"one\n")
    isolation = world.run().isolation
    assert isolation["no_new_privs"] == "yes"
    assert "no_new_privs" in isolation["observed_by_host"]
    assert isolation["seccomp"] not in ("", "no")
    assert "fsize=0" in isolation["rlimits"]
    assert f"data={1024 << 20}" in isolation["rlimits"]


def test_empty_source_has_a_balanced_ledger_and_no_file(world: World) -> None:
    world.source(b"")
    receipt = world.run()
    assert receipt.files == ()
    assert ledger(receipt).balanced
    assert world.staged() == []


def test_parser_that_loses_a_line_makes_the_ledger_red(world: World) -> None:
    world.parser("""
        from casparian.sdk import Row
        def parse(ctx):
            offset = 0
            for number, line in enumerate(ctx.source):
                if number != 500:
                    yield "lines", Row(offset, len(line), {"number": number, "text": line.decode()})
                offset += len(line)
    """)
    world.source(b"".join(b"line %d\n" % n for n in range(1000)))
    found = ledger(world.run())
    assert (found.present, found.rows, found.lost, found.balanced) == (1000, 999, 1, False)
    assert [finding.code for finding in found.findings] == ["line.lost"]


def test_parser_cannot_hide_a_lost_line_by_doubling_another(world: World) -> None:
    world.parser("""
        from casparian.sdk import Row
        def parse(ctx):
            lines = ctx.source.read().splitlines(True)
            lines[7] = lines[6]
            offset = 0
            for number, line in enumerate(lines):
                at = offset - len(line) if number == 7 else offset
                yield "lines", Row(at, len(line), {"number": number})
                offset += len(line)
    """)
    world.source(b"".join(b"%04d\n" % n for n in range(100)))
    found = ledger(world.run())
    assert not found.balanced
    assert found.lost == 1
    assert [finding.code for finding in found.findings] == ["ledger.mismatch"]


def test_row_that_breaks_the_contract_is_quarantined_with_its_bytes(world: World) -> None:
    world.parser("""
        from casparian.sdk import Row
        def parse(ctx):
            yield "lines", [
                Row(0, 4, {"number": 1, "text": "one"}),
                Row(4, 4, {"text": "no number"}),
                Row(8, 6, {"number": "three"}),
            ]
    """)
    world.source(b"one\ntwo\nthree\n")
    receipt = world.run()
    aside = rows(receipt, "quarantine")
    assert sorted((row["reason"], row["field"], row["raw"]) for row in aside) == [
        ("contract.null", "number", b"two\n"),
        ("contract.type", "number", b"three\n"),
    ]
    found = ledger(receipt)
    assert (found.rows, found.quarantined, found.balanced) == (1, 2, True)


def test_rejected_row_of_a_derived_table_is_not_a_unit_of_the_ledger(world: World) -> None:
    words = OutputContract(
        table="words", columns=(Column(name="word", type="utf8", nullable=False),)
    )
    world.outputs = (LINES, words)
    world.parser("""
        from casparian.sdk import Row
        def parse(ctx):
            yield "words", [Row(0, 4, {"word": None}), Row(0, 4, {"word": 5}), Row(0, 4, {"word": "w"})]
            yield "lines", Row(0, 4, {"number": 1})
    """)
    world.source(b"one\n")
    receipt = world.run()
    assert receipt.sources[0].rows == {"lines": 1, "words": 1}
    assert {row["table_name"] for row in rows(receipt, "quarantine")} == {"words"}
    assert ledger(receipt).balanced


def test_contract_column_with_action_fail_excludes_the_source_only(world: World) -> None:
    world.source(b"one\ntwo\n")
    world.source(b"one\ntwo\nthree\n")
    world.source(b"one\n")
    world.outputs = (strict(LINES),)
    receipt = world.run()
    assert [source.code for source in receipt.sources] == [None, "contract.violation", None]
    assert not receipt.sources[1].transient
    assert len(rows(receipt, "lines")) == 3


def test_contract_column_with_action_fail_job_fails_every_source(world: World) -> None:
    world.source(b"one\ntwo\n")
    world.source(b"one\ntwo\nthree\n")
    column = msgspec.structs.replace(strict(LINES).columns[0], action=Action.FAIL_JOB)
    world.outputs = (msgspec.structs.replace(LINES, columns=(column, *LINES.columns[1:])),)
    receipt = world.run()
    assert (receipt.code, receipt.sources, receipt.files) == ("contract.violation", (), ())
    assert "source-1.log" in receipt.message
    assert not receipt.transient
    assert world.staged() == []


@pytest.mark.parametrize("sources", [1, 3])
def test_unique_column_sets_repeated_values_of_each_source_aside(
    world: World, sources: int
) -> None:
    column = msgspec.structs.replace(LINES.columns[1], unique=True)
    world.outputs = (msgspec.structs.replace(LINES, columns=(LINES.columns[0], column)),)
    for _ in range(sources):
        world.source(b"one\ntwo\none\n")
    receipt = world.run()
    assert [source.quarantined for source in receipt.sources] == [1] * sources
    aside = rows(receipt, "quarantine")
    assert {(row["reason"], row["field"], row["raw"]) for row in aside} == {
        ("contract.unique", "text", b"one\n")
    }
    assert len(rows(receipt, "lines")) == 2 * sources


def test_parsers_exception_names_type_text_and_line(world: World) -> None:
    world.parser("""
        def parse(ctx):
            if b"boom" in ctx.source.read():
                raise KeyError("no such thing")
            yield "lines", []
    """)
    world.source(b"boom\n")
    world.source(b"")
    receipt = world.run()
    assert [source.code for source in receipt.sources] == ["parser.exception", None]
    assert "KeyError" in receipt.sources[0].message
    assert "no such thing" in receipt.sources[0].message
    assert "parser.py line 4" in receipt.sources[0].message
    assert "Traceback" in receipt.guest_log


MISTAKES = {
    "an unknown output": 'yield "other", []',
    "an unknown column": 'yield "lines", {"@offset": 0, "@length": 1, "colour": 1}',
    "a row without a span": 'yield "lines", {"number": 1}',
    "data that is no data": 'yield "lines", 5',
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_of_a_parser_excludes_the_source(world: World, mistake: str) -> None:
    world.parser(f"def parse(ctx):\n    {MISTAKES[mistake]}\n")
    world.source(b"one\n")
    receipt = world.run()
    assert receipt.sources[0].code == "parser.output"
    assert world.staged() == []


@pytest.mark.parametrize(
    "code",
    ["def parse(:", "import no_such_module_anywhere\ndef parse(ctx): ...", "x = 1", "1 / 0"],
)
def test_parser_that_cannot_be_loaded_fails_the_job(world: World, code: str) -> None:
    world.parser(code)
    world.source(b"one\n")
    receipt = world.run()
    assert receipt.code == "parser.load"
    assert "Traceback" in receipt.guest_log
    assert not receipt.transient
    assert receipt.files == ()


def test_changed_parser_is_never_run(world: World, tmp_path: Path) -> None:
    world.source(b"one\n")
    dispatch = world.dispatch()
    (tmp_path / "parser" / "extra.py").write_text("X = 1\n")
    world.artifact_hash = dispatch.parser.artifact_hash
    receipt = world.run()
    assert receipt.code == "trust.artifact_changed"
    assert receipt.sources == ()


def test_missing_parser_folder_is_a_changed_artifact(world: World) -> None:
    world.source(b"one\n")
    parser = msgspec.structs.replace(world.dispatch().parser, directory="/nonexistent/parser")
    assert world.run(parser=parser).code == "trust.artifact_changed"


def replaced_by_link(path: Path) -> None:
    copy = path.with_name("copy")
    path.rename(copy)
    path.symlink_to(copy)


def replaced_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES: dict[str, tuple[Any, str]] = {
    "one byte differs": (lambda path: path.write_bytes(b"one\ntwO\n"), "source.changed"),
    "it grew": (lambda path: path.write_bytes(b"one\ntwo\nthree\n"), "source.changed"),
    "it shrank": (lambda path: path.write_bytes(b"one\n"), "source.changed"),
    "it is a link now": (replaced_by_link, "source.changed"),
    "it is a fifo now": (replaced_by_fifo, "source.changed"),
    "it is gone": (lambda path: path.unlink(), "source.unreadable"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_evidence_that_changed_since_the_dispatch_is_excluded(world: World, change: str) -> None:
    alter, code = CHANGES[change]
    first = world.source(b"one\ntwo\n")
    world.source(b"other\n")
    alter(first)
    receipt = world.run()
    assert [source.code for source in receipt.sources] == [code, None]
    assert receipt.sources[0].rows == {}
    assert [row["text"] for row in rows(receipt, "lines")] == ["other"]


def test_evidence_that_shrinks_while_it_is_read_is_excluded(world: World) -> None:
    """The parser waits until the host has cut the file, then goes on reading."""
    world.parser("""
        import os, time
        from casparian.sdk import Row
        def parse(ctx):
            yield "lines", Row(0, 5, {"number": 1})
            while os.fstat(ctx.source.fileno()).st_size == ctx.source.size:
                time.sleep(0.005)
            yield "lines", Row(5, 5, {"text": str(len(ctx.source.pread(10, 0)))})
    """)
    path = world.source(b"1234\n6789\n")
    world.source(b"")
    world.sources = world.sources[:1]
    seen = threading.Event()

    def cut(progress: Any) -> None:
        if not seen.is_set():
            os.truncate(path, 5)
            seen.set()

    world.progress = type("Hook", (), {"append": staticmethod(cut)})()  # type: ignore[assignment]
    receipt = world.run()
    assert seen.is_set()
    assert receipt.sources[0].code == "source.changed"
    assert world.staged() == []


def test_policy_limit_keeps_the_quarantine_and_nothing_else(world: World) -> None:
    world.source(b"good\nbad 1\nbad 2\n")
    assert world.run(quarantine_rows_max=2).code is None
    receipt = world.run(quarantine_rows_max=1, epoch=4)
    assert receipt.code == "quarantine.limit"
    assert {file.table for file in receipt.files} == {"quarantine"}
    assert len(rows(receipt, "quarantine")) == 2
    receipt = world.run(quarantine_percent_max=66.0, epoch=5)
    assert receipt.code == "quarantine.limit"
    assert world.run(quarantine_percent_max=67.0, epoch=6).code is None


def test_settings_and_path_reach_the_parser(world: World) -> None:
    world.parser(
        """
        from casparian.sdk import Row
        from . import util
        def parse(ctx):
            yield "lines", Row(0, 4, {"text": util.join(ctx)})
    """,
        util="""
        def join(ctx):
            return f"{ctx.display_path} {sorted(ctx.config.items())} {ctx.source.size}"
    """,
    )
    world.source(b"one\n", name="named.log")
    parser = msgspec.structs.replace(world.dispatch().parser, config={"b": 2, "a": "x"})
    contract = OutputContract(table="lines", main=True, columns=(Column(name="text", type="utf8"),))
    world.outputs = (contract,)
    receipt = world.run(parser=parser, outputs=world.dispatch().outputs)
    assert rows(receipt, "lines")[0]["text"] == "named.log [('a', 'x'), ('b', 2)] 4"


def test_256_sources_share_one_file_and_two_guests(world: World) -> None:
    for number in range(256):
        world.source(b"line of %d\n" % number * (number % 5))
    receipt = world.run()
    assert [source.code for source in receipt.sources] == [None] * 256
    assert len(rows(receipt, "lines")) == sum(number % 5 for number in range(256))
    assert len([file for file in receipt.files if file.table == "lines"]) == 1


def test_cancelled_before_it_begins_leaves_nothing(world: World) -> None:
    world.source(b"one\n")
    cancellation = Cancellation()
    cancellation.set()
    with pytest.raises(Cancelled):
        world.run(cancellation)
    assert world.staged() == []


def test_staging_that_cannot_be_written_fails_the_job(world: World, tmp_path: Path) -> None:
    world.source(b"one\n")
    (tmp_path / "out").write_text("a file where the sink's directory should be")
    receipt = world.run()
    assert receipt.code is not None
    assert receipt.code.startswith(("sink.", "staging."))
    assert receipt.files == ()


def test_no_descriptor_leaks_over_many_jobs(world: World) -> None:
    world.source(b"one\nbad\n")
    world.run()
    before = sorted(os.listdir("/proc/self/fd"))
    for epoch in range(10, 15):
        world.run(epoch=epoch)
    assert len(os.listdir("/proc/self/fd")) == len(before)
