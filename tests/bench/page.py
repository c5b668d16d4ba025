"""The page of the documentation, and its plot: drawn from `bench.json`, with nothing but the standard library."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from tests.bench.report import Document, contenders, target_text
from tests.bench.targets import TARGETS

PLOT = "benchmark.svg"


def write_page(found: Document, page: Path) -> None:
    """Write the page in Markdown, and the plot beside it."""
    page.write_text(markdown(found), encoding="utf-8")
    page.with_name(PLOT).write_text(plot(found), encoding="utf-8")


INTRODUCTION = """# Benchmark

Written by `make bench PAGE=1`; do not edit. Ours and the baselines run in turn, on the same cores and the same files, and must
find the same records. A ratio is taken within each turn: above 1, ours is that many times faster. Ratios carry over to other
machines much better than seconds do.

```
make bench                                             every stage
make bench STAGES=evtx,directory RUNS=5 SIZE_MB=256    some of them
make bench DISSECT=1                                   beside dissect.eventlog (AGPL) as well
```
"""


def markdown(found: Document) -> str:
    """The page: how to repeat it, the ratios with their targets, the figures of each stage."""
    lines = [INTRODUCTION, _conditions(found), "", f"![ratios]({PLOT})", ""]
    lines += [
        "| ratio | of | min | median | max | target | verdict |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for name, ratio in found["ratios"].items():
        figures = f"{ratio['min']:.2f} | **{ratio['median']:.2f}** | {ratio['max']:.2f}"
        lines.append(
            f"| `{name}` | {_of(name)} | {figures} | {target_text(ratio)} | {ratio['verdict']} |"
        )
    lines += [f"| `{name}` | {_of(name)} | | | | | not measured |" for name in found["missing"]]
    for stage in found["stages"]:
        lines += ["", f"## {stage['name']}", "", _input_line(stage), ""]
        lines += [f"- {note}" for note in stage["notes"]]
        rows = contenders(stage)
        if rows:
            lines += [
                "",
                "| | records | wall s | CPU s | MB per CPU s | peak MB |",
                "|---|---:|---:|---:|---:|---:|",
            ]
        columns = ("name", "records", "wall", "cpu", "pace", "peak")
        lines += [f"| {' | '.join(row[column] for column in columns)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _conditions(found: Document) -> str:
    machine, options = found["machine"], found["options"]
    return (
        f"Measured {found['made_at']} on {machine['cores']} cores of {machine['cpu']}, {machine['system']}, Python"
        f" {machine['python']}, with a load of {machine['load_before']:.1f}; {options['runs']} turns,"
        f" {options['size_mb']} MB of large logs."
    )


def _of(name: str) -> str:
    plain = name.removesuffix("_unrepeated")
    text = TARGETS[plain].text if plain in TARGETS else ""
    return text + (", real logs as they are" if plain != name else "")


def _input_line(stage: Document) -> str:
    read = stage["input"]
    if not read:
        return f"{stage['status'].capitalize()}."
    made = f", made of {read['distinct_chunks']} distinct chunks" if read["distinct_chunks"] else ""
    size = f"{read['size_bytes'] / 1e6:.1f} MB in {read['files']} files"
    return f"{stage['status'].capitalize()}. {size} from the {read['origin']}{made}."


def plot(found: Document) -> str:
    """How many times faster, on a logarithmic scale: bar to the median, line from least to greatest, mark at the target."""
    rows = [
        (name, ratio)
        for name, ratio in found["ratios"].items()
        if not ratio["less_is_better"] and ratio["median"] > 0
    ]
    left, width, step, top = 330, 460, 24, 34
    greatest = max([10, *(max(ratio["max"], ratio["target"] or 1) for _, ratio in rows)])
    decades = math.ceil(math.log10(greatest))
    size = (left + width + 60, top + step * len(rows) + 12)

    def x(value: float) -> float:
        return round(left + width * (math.log10(max(value, 0.1)) + 1) / (decades + 1), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" font-family="sans-serif" font-size="12">',
        "<title>How many times faster: median, least to greatest, target</title>",
        f'<rect width="{size[0]}" height="{size[1]}" fill="#ffffff"/>',
    ]
    for decade in range(-1, decades + 1):
        at, colour = x(10.0**decade), "#555555" if decade == 0 else "#dddddd"
        parts.append(_line(at, at, top - 8, size[1] - 8, colour))
        parts.append(
            f'<text x="{at}" y="{top - 14}" text-anchor="middle" fill="#555555">{10.0**decade:g}×</text>'
        )
    for number, (name, ratio) in enumerate(rows):
        y = top + step * number
        start, end = sorted((x(1), x(ratio["median"])))
        reach = max(x(ratio["max"]), x(ratio["target"] or 0.1))
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect x="{start}" y="{y + 3}" width="{max(end - start, 1):.1f}" height="13" fill="#3b78b5"/>'
        )
        parts.append(_line(x(ratio["min"]), x(ratio["max"]), y + 9.5, y + 9.5, "#111111"))
        if ratio["target"]:
            parts.append(_line(x(ratio["target"]), x(ratio["target"]), y, y + 19, "#c0392b"))
        parts.append(f'<text x="{reach + 5}" y="{y + 13}">{ratio["median"]:.1f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(x1: float, x2: float, y1: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}" stroke="{colour}"/>'
