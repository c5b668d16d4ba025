"""Evidence that changes: settled files between the steps, moving files at any moment.

A step is one state of the settled evidence and one set of options. Whatever is killed within a step, once a run has ended in
peace the tables say what an undisturbed world says that went through the same steps. Moving files change and vanish while runs
are at work: of contents that were there only for a moment either all rows are in a table or none.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import blake3

from casparian.demo.world import build_evidence
from tests.support.small import small_log, syslog_lines

GROUPS = 4  # directories that one client may be told to keep to
_MOVING = 3
_FILES = 3  # logs of each kind in a group
_STEPS: tuple[tuple[str, ...], ...] = (
    (),
    ("--set", "linux.syslog.timezone=+01:00"),  # other keys for the same sources
    ("--set", "linux.syslog.timezone=+02:00"),
)


@dataclass
class History:
    """The evidence of one world.

    Args:
        root: its directory, made here.
        seed: of the contents; two histories of one seed go through the same steps.
        corpus: real logs to add, if there are any.
    """

    root: Path
    seed: int
    corpus: Path | None = None
    step: int = -1
    lines_of: dict[str, int] = field(default_factory=dict)  # hash of a moving content -> its lines
    _stirred: int = 0

    def advance(self) -> tuple[str, ...]:
        """Go to the next step; the options of its runs."""
        self.step += 1
        if self.step == 0:
            self._begin()
        else:
            self._change()
        for number in range(_MOVING):
            # All worlds of one seed hold the same moving contents when a step begins and when it ends.
            self._move(number, f"s{self.seed}.{self.step}")
        return _STEPS[self.step % len(_STEPS)]

    def settle(self) -> None:
        """Moving files as they are to be at the end of the step."""
        for number in range(_MOVING):
            if (self.step + number) % _MOVING == 2:
                self._moving(number).unlink(missing_ok=True)
            else:
                self._move(number, f"e{self.seed}.{self.step}")

    def stir(self, dice: random.Random) -> None:
        """Change or remove a moving file now, whatever reads it."""
        number = dice.randrange(_MOVING)
        if dice.random() < 0.3:
            self._moving(number).unlink(missing_ok=True)
        else:
            self._stirred += 1
            self._move(number, f"x{self.seed}.{self._stirred}.{dice.random()}")

    @property
    def moving_paths(self) -> dict[str, str | None]:
        """Display path of each moving file and the hash of its content now; `None` when it is not there."""
        found: dict[str, str | None] = {}
        for number in range(_MOVING):
            path = self._moving(number)
            name = str(path.relative_to(self.root))
            found[name] = blake3.blake3(path.read_bytes()).hexdigest() if path.exists() else None
        return found

    def _begin(self) -> None:
        build_evidence(self.root, seed=self.seed % 1000 + 1)
        for group in range(GROUPS):
            for number in range(_FILES):
                seed = self.seed % 997 * 100 + group * 10 + number
                self._write(f"g{group}/{number}.evtx", small_log(events=12, seed=seed))
                name = f"g{group}/h{number}/syslog"
                self._write(name, syslog_lines(host=f"m{seed}", count=40, bad=2))
        if self.corpus is not None:
            for number, log in enumerate(_smallest(self.corpus / "evtx", 6)):
                target = self.root / f"g{number % GROUPS}/real"
                target.mkdir(exist_ok=True)
                shutil.copyfile(log, target / f"{number}.evtx")

    def _change(self) -> None:
        """A file's bytes change, a file vanishes, a file comes: a different one in each step."""
        mark = f"{self.seed % 997}s{self.step}"
        group = self.step % GROUPS
        self._write(
            f"g{group}/h{self.step % _FILES}/syslog", syslog_lines(host=f"c{mark}", count=25, bad=1)
        )
        self._write(
            f"g{(group + 1) % GROUPS}/new{self.step}/syslog",
            syslog_lines(host=f"n{mark}", count=30),
        )
        (self.root / f"g{(group + 2) % GROUPS}/{self.step % _FILES}.evtx").unlink(missing_ok=True)

    def _move(self, number: int, mark: str) -> None:
        lines = 800
        content = syslog_lines(host=f"v{number}.{mark}", count=lines)
        self.lines_of[blake3.blake3(content).hexdigest()] = lines
        self._write(str(self._moving(number).relative_to(self.root)), content)

    def _moving(self, number: int) -> Path:
        return self.root / f"g{number % GROUPS}/moving{number}/syslog"

    def _write(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _smallest(directory: Path, count: int) -> list[Path]:
    found = sorted(directory.rglob("*.evtx"))
    return sorted(found, key=lambda path: path.stat().st_size)[:count]
