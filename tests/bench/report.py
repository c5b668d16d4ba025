"""What came out: on the screen and in `bench.json`."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.stages import Options, StageResult
from tests.bench.targets import TARGETS, target_of

SCHEMA_VERSION = 1

Document = dict[str, Any]


def document(results: list[StageResult], options: Options) -> Document:
    """Everything that was measured: machine, options, ratios, and the figures of each turn."""
    ratios = {}
    for result in results:
        if result.status == "measured":
            for name, turns in result.ratios.items():
                ratios[name] = _ratio(name, turns)
    wanted = {name for name, target in TARGETS.items() if target.wanted is not None}
    return {
        "schema_version": SCHEMA_VERSION,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "options": {
            key: value for key, value in asdict(options).items() if key not in {"work", "baselines"}
        },
        "ratios": {name: ratios[name] for name in sorted(ratios, key=_order)},
        "missing": sorted(wanted - set(ratios), key=_order),
        "stages": [_without_private(result.document()) for result in results],
    }


def _ratio(name: str, turns: list[float]) -> dict[str, Any]:
    target = target_of(name) if name.removesuffix("_unrepeated") in TARGETS else None
    median = statistics.median(turns)
    return {
        "min": round(min(turns), 3),
        "median": round(median, 3),
        "max": round(max(turns), 3),
        "turns": len(turns),
        "target": target.wanted if target else None,
        "stretch": target.stretch if target else None,
        "less_is_better": bool(target and target.less_is_better),
        "verdict": target.verdict(median) if target else "-",
    }


def _order(name: str) -> tuple[int, str]:
    names = list(TARGETS)
    plain = name.removesuffix("_unrepeated")
    return (names.index(plain) if plain in names else len(names), name)


def _without_private(stage: Document) -> Document:
    """Inputs by size and kind; where they lie on this machine is nobody's business."""
    if stage["input"]:
        stage["input"].pop("directory", None)
    return stage


def _machine() -> Document:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": os.getloadavg()[1],
    }


# -- screen ---------------------------------------------------------------------------------------


def print_stage(result: StageResult) -> None:
    """One stage: its contenders, and what is to be said of it."""
    size = (
        f", {result.input['size_bytes'] / 1e6:.0f} MB in {result.input['files']} files"
        if result.input
        else ""
    )
    print(f"\n{result.name}: {result.status}{size}")
    for note in result.notes:
        print(f"  note: {note}")
    if result.figures:
        print(f"  {'':24}{'records':>10}{'wall s':>28}{'CPU s':>28}{'MB/CPU s':>10}{'peak MB':>9}")
    for row in contenders(result.document()):
        print(
            f"  {row['name']:24}{row['records']:>10}{row['wall']:>28}{row['cpu']:>28}{row['pace']:>10}{row['peak']:>9}"
        )


def contenders(stage: Document) -> list[dict[str, str]]:
    """The contenders of a stage with their figures as text: median, least and greatest of the turns."""
    rows = []
    for name, figures in stage["figures"].items():
        cpu = [figure["cpu_seconds"] for figure in figures]
        megabytes = stage["input"]["size_bytes"] / 1e6
        peaks = [max(figure["peak_mb"].values(), default=0.0) for figure in figures]
        rows.append(
            {
                "name": name,
                "records": str(stage["found"].get(name, {}).get("records", "")),
                "wall": _spread([figure["seconds"] for figure in figures]),
                "cpu": _spread(cpu),
                "pace": f"{megabytes / max(statistics.median(cpu), 1e-9):.1f}",
                "peak": f"{max(peaks):.0f}" if max(peaks) else "",
            }
        )
    return rows


def _spread(values: list[float]) -> str:
    """Median, with the least and the greatest."""
    digits = 3 if statistics.median(values) < 1 else 2
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def print_ratios(found: Document) -> None:
    """All ratios beside their targets, and the targets that nothing was measured for."""
    print(f"\n{'ratio':46}{'min':>8}{'median':>8}{'max':>8}  {'target':12}verdict")
    for name, ratio in found["ratios"].items():
        print(
            f"{name:46}{ratio['min']:>8.2f}{ratio['median']:>8.2f}{ratio['max']:>8.2f}  {target_text(ratio):12}{ratio['verdict']}"
        )
    for name in found["missing"]:
        print(f"{name:46}{'':24}  {'':12}not measured")


def target_text(ratio: Document) -> str:
    """A ratio's target, the stretch in brackets."""
    if ratio["target"] is None:
        return "-"
    sign = "≤" if ratio["less_is_better"] else "≥"
    stretch = f" ({ratio['stretch']:g})" if ratio["stretch"] else ""
    return f"{sign} {ratio['target']:g}{stretch}"
