"""The unit of life is the (job, source) pair, never the file."""

from __future__ import annotations

from casparian.domain.outputs import SinkKind
from casparian.sinks.retire import OutputFile, Rewrite, plan

A, B, C = (1, "a"), (1, "b"), (2, "a")


def _file(path: str, kind: SinkKind, *pairs: tuple[int, str]) -> OutputFile:
    return OutputFile(path=path, kind=kind, pairs=frozenset(pairs))


def test_a_parquet_file_goes_only_when_all_its_pairs_are_retired() -> None:
    file = _file("f.parquet", SinkKind.PARQUET, A, B)
    assert plan([file], [A]).delete == ()
    assert plan([file], [A]).rewrite == ()
    assert plan([file], [A, B, C]).delete == ("f.parquet",)


def test_a_csv_file_that_keeps_a_pair_is_rewritten_without_the_others() -> None:
    file = _file("f.csv", SinkKind.CSV, A, B)
    assert plan([file], [A, C]).rewrite == (Rewrite(path="f.csv", drop=frozenset({A})),)
    assert plan([file], [A, B]).delete == ("f.csv",)


def test_a_file_without_a_retired_pair_is_not_touched() -> None:
    files = [_file("f.csv", SinkKind.CSV, A), _file("g.parquet", SinkKind.PARQUET, B)]
    done = plan(files, [C])
    assert (done.delete, done.rewrite) == ((), ())
