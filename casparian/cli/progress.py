"""Show a run while it works: a live bar on a terminal's stderr, plain lines elsewhere.

    plan   1 284 files · 214 new · 1 070 already done
     run   ███████████████░░░░  163/214 files  2.1 GiB  48 210 rows/s  37 set aside  0:41 left

In a pipe one line is written for each tenth of the bytes, and at least every thirty seconds.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Self

from casparian import clock
from casparian.cli.output import Output, plural
from casparian.display import show, size_text
from casparian.protocol import control

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_SECONDS: Final = 30
_TENTHS: Final = 10

REASONS: Final = {
    "new": "new",
    "parser_changed": "parser changed",
    "engine_changed": "engine changed",
    "environment_changed": "environment changed",
    "config_changed": "settings changed",
    "contract_changed": "contract changed",
    "schema_changed": "schema changed",
    "sink_setting_changed": "sink setting changed",
    "mode_changed": "mode changed",
    "lineage_changed": "lineage changed",
    "retry": "tried again",
    "forced": "asked for again",
    "done": "already done",
    "engine_accepted": "kept from an earlier engine",
    "duplicate_content": "of the same content",
    "failed_before": "failed before",
    "not_selected": "not selected",
    "exists": "refused: exists in the sink",
    "untrusted": "refused: parser not trusted",
    "circuit_open": "refused: parser failed too often",
    "no_parser": "without a parser",
    "companion": "read with another file",
    "read_error": "unreadable",
    "link": "linked",
    "special": "special",
    "running": "under way",
}


class RunProgress:
    """Draws the events of a scan or a run; use as a context manager."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started_ns = clock.monotonic_ns()
        self._running_since_ns = self._started_ns
        self._said_ns = self._started_ns
        self._said_tenth = 0
        self._reasons_said: set[str] = set()
        self.run_id: str | None = None
        self.planned: control.Planned | None = None

    def __enter__(self) -> Self:
        if self._out.live:
            self._bar = _live_bar(color=self._out.color)
            self._bar.start()
            self._task = self._bar.add_task(" scan", total=None, facts="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with contextlib.suppress(
                OSError
            ):  # the terminal went away; the work's end matters more
                self._bar.stop()
            self._bar = None

    def __call__(self, event: control.Event) -> None:
        """Show one event."""
        match event:
            case control.Discovering():
                self._discovering(event)
            case control.Planned():
                self._plan(event)
            case control.Preparing():
                self.note(f"prepare  environment {event.env_hash[:12]}: {show(event.message)}")
            case control.CommitWaits():
                self._commit_waits(event)
            case control.Progress():
                self._progress(event)

    def note(self, text: str) -> None:
        """Say something between two states of the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            self._out.say(text)

    def _discovering(self, event: control.Discovering) -> None:
        facts = (
            f"{event.files:,}/{event.files_total:,} files".replace(",", " ")
            + f"  {size_text(event.size_bytes)} of {size_text(event.size_bytes_total)} hashed"
        )
        self._draw(" scan", event.size_bytes, event.size_bytes_total, facts)

    def _plan(self, event: control.Planned) -> None:
        self.run_id = event.run_id
        self.planned = event
        self._running_since_ns = clock.monotonic_ns()
        self._said_tenth = 0
        self.note(plan_line(event))
        for parser, files in sorted(event.by_parser.items()):
            self.note(f"parser {show(parser)}  {plural(files, 'file')}")

    def _commit_waits(self, event: control.CommitWaits) -> None:
        if event.message not in self._reasons_said:  # each once, however many jobs meet it
            self._reasons_said.add(event.message)
            seconds = event.pause_ns / 1e9
            self.note(
                f"waiting  job {event.job_id} is read and cannot be committed: {show(event.message)}; "
                f"tried again in {seconds:.1f} s, and then ever more seldom"
            )

    def _progress(self, event: control.Progress) -> None:
        self.run_id = event.run_id
        elapsed_seconds = max((clock.monotonic_ns() - self._running_since_ns) / 1e9, 0.001)
        facts = [
            f"{event.files_done:,}/{event.files_total:,} files".replace(",", " "),
            size_text(event.bytes_done),
            f"{event.rows / elapsed_seconds:,.0f} rows/s".replace(",", " "),
        ]
        if event.quarantined:
            facts.append(f"{event.quarantined:,} set aside".replace(",", " "))
        left = _left_seconds(event.bytes_done, event.bytes_total, elapsed_seconds)
        if left is not None:
            facts.append(f"{duration_text(left)} left")
        self._draw("  run", event.bytes_done, event.bytes_total, "  ".join(facts))

    def _draw(self, label: str, done: int, total: int, facts: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, description=label, completed=done, total=total or None, facts=facts
            )
            return
        now_ns = clock.monotonic_ns()
        tenth = done * _TENTHS // total if total else 0
        if tenth > self._said_tenth or (now_ns - self._said_ns) / 1e9 >= _LINE_SECONDS:
            self._said_tenth, self._said_ns = tenth, now_ns
            percent = f"{done * 100 // total if total else 0:3d}%"
            self._out.say(f"{label.strip():<6} {percent}  {facts}")


class BytesProgress:
    """How many bytes of a known number are read; use as a context manager. Draws on a terminal only."""

    def __init__(self, out: Output, label: str) -> None:
        self._out = out
        self._label = f"{label:>5}"
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._out.live:
            self._bar = _live_bar(color=self._out.color)
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=None, facts="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.stop()
            self._bar = None

    def __call__(self, done: int, total: int) -> None:
        """Show one state, both in bytes."""
        if self._bar is not None and self._task is not None:
            facts = f"{size_text(done)} of {size_text(total)} read"
            self._bar.update(self._task, completed=done, total=total or None, facts=facts)


def plan_line(plan: control.Planned) -> str:
    """The plan in one line: what will be done, and why the rest will not."""
    parts = [plural(plan.files.seen, "file")]
    parts += [
        f"{files:,} {REASONS.get(reason, reason)}".replace(",", " ")
        for reason, files in sorted(plan.reasons.items(), key=lambda item: -item[1])
        if files
    ]
    if plan.jobs:
        parts.append(f"{plural(plan.jobs, 'job')} over {size_text(plan.size_bytes)}")
    return "plan   " + " · ".join(parts)


def duration_text(seconds: float) -> str:
    """`0.8s`, `41s`, `3m 12s`, `2h 05m`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def _left_seconds(done: int, total: int, elapsed_seconds: float) -> float | None:
    if not done or done >= total:
        return None
    return elapsed_seconds / done * (total - done)


def _live_bar(*, color: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[facts]}", markup=False),
        console=Console(stderr=True, no_color=not color, highlight=False),
        transient=True,
    )
