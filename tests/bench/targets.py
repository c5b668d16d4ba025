"""What each ratio should be: DESIGN's targets, in the order in which they are printed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """A ratio's target.

    Attributes:
        text: what the ratio is of, in words.
        wanted: the median should be at least this; at most, when less is better. None: told, not judged.
        stretch: better still.
        less_is_better: for times of ours over theirs, and memory.
    """

    text: str
    wanted: float | None = None
    stretch: float | None = None
    less_is_better: bool = False

    def verdict(self, median: float) -> str:
        """`met`, `stretch`, `missed` or `-`."""
        if self.wanted is None:
            return "-"

        def holds(limit: float) -> bool:
            return median <= limit if self.less_is_better else median >= limit

        if self.stretch is not None and holds(self.stretch):
            return "stretch"
        return "met" if holds(self.wanted) else "missed"


TARGETS: dict[str, Target] = {
    "evtx_to_arrow_vs_wheel_json": Target(
        text="event log → Arrow, one core: `evtx` wheel's JSON", wanted=3.0, stretch=4.5
    ),
    "evtx_to_arrow_vs_wheel_json_arrow": Target(
        text="event log → Arrow, one core: wheel → JSON → Arrow", wanted=15.0
    ),
    "dir_to_parquet_vs_jsonl_duckdb": Target(
        text="directory → committed Parquet, two cores: JSONL → DuckDB → Parquet",
        wanted=6.0,
        stretch=9.0,
    ),
    "small_files_vs_jsonl_duckdb": Target(
        text="one-chunk logs → committed Parquet, two cores: JSONL → DuckDB → Parquet", wanted=3.0
    ),
    "hive_vs_fastest_rust": Target(
        text="hive → Arrow, one core: the faster of regrs, regipy-rs", wanted=4.0
    ),
    "hive_vs_libregf": Target(text="hive → Arrow, one core: libregf", wanted=30.0),
    "rerun_vs_hashing": Target(
        text="rerun over unchanged files, our time over that of hashing them",
        wanted=1.25,
        less_is_better=True,
    ),
    "infer_vs_duckdb_csv": Target(
        text="types of a CSV from all rows, two cores: DuckDB's sniffer and reader over all rows",
        wanted=0.5,
        stretch=1.0,
    ),
    "infer_vs_duckdb_jsonl": Target(
        text="types of JSON Lines from all lines, two cores: DuckDB's sniffer and reader over all lines",
        wanted=0.5,
        stretch=1.0,
    ),
    "peak_rss_mb": Target(
        text="anonymous memory of the greatest process, MB", wanted=300.0, less_is_better=True
    ),
    "peak_rss_mb_guest": Target(
        text="anonymous memory of the greatest guest, MB", wanted=150.0, less_is_better=True
    ),
    "hash_vs_blake3": Target(text="BLAKE3 of files, one core: the blake3 package"),
    "query_vs_duckdb": Target(text="events by provider and id: DuckDB over the baseline's Parquet"),
    "evtx_to_arrow_vs_libevtx": Target(text="event log → Arrow, one core: libevtx"),
    "evtx_to_arrow_vs_python_evtx": Target(text="event log → Arrow, one core: python-evtx"),
    "evtx_to_arrow_vs_dissect": Target(text="event log → Arrow, one core: dissect.eventlog"),
    "delimited_vs_pyarrow": Target(text="CSV → typed Arrow, one core: pyarrow.csv"),
    "delimited_vs_duckdb": Target(text="CSV → typed Arrow, one core: DuckDB"),
    "hive_vs_python_registry": Target(text="hive → Arrow, one core: python-registry"),
}
"""By name of the ratio. The same with `_unrepeated` behind it is of real logs as they are."""


def target_of(name: str) -> Target:
    """The target of a ratio; that of unrepeated logs is the same."""
    return TARGETS[name.removesuffix("_unrepeated")]
