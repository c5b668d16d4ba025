"""Build the loops, make their inputs, count, compare."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casparian.demo.evtx_writer import EventLog, System, event_data, forwarded_event, windows_event
from casparian.demo.evtx_writer import values as make
from tests.instructions.callgrind import self_costs

ROOT = Path(__file__).resolve().parents[2]
COUNTS = Path(__file__).with_name("counts.json")
TOLERANCE = 0.05
SHARE_KEPT = 0.005
"""Functions with less than this share of a loop are not kept by name."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A loop of `hot_loops` and the input that it is given."""

    name: str
    loop: str
    input: str


LOOPS = (
    Loop(name="decode of templates", loop="decode_evtx", input="templates"),
    Loop(name="decode of texts", loop="decode_evtx", input="texts"),
    Loop(name="decode without templates", loop="decode_evtx", input="forwarded"),
    Loop(name="account of records", loop="account_evtx", input="templates"),
    Loop(name="account of lines", loop="account_lines", input="lines"),
    Loop(name="blake3", loop="blake3", input="lines"),
)


class Incomparable(Exception):
    """There is nothing to compare with here; the reason."""


def toolchain() -> dict[str, str]:
    """What counts depend on beside the code: the compiler, valgrind, and the vector instructions of this processor.

    Raises:
        Incomparable: valgrind or cargo is missing.
    """
    for tool, package in (("valgrind", "apt install valgrind"), ("cargo", "https://rustup.rs")):
        if shutil.which(tool) is None:
            raise Incomparable(f"{tool} is missing ({package}): instructions cannot be counted")
    flags = next(
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")
    )
    return {
        "rustc": _output("rustc", "--version"),
        "valgrind": _output("valgrind", "--version"),
        # As far as valgrind lets a program see them.
        "vectors": " ".join(name for name in ("sse4_1", "avx", "avx2") if name in flags.split()),
    }


def _output(*command: str) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()


def build() -> str:
    """Build the loops as the wheel is built; gives the program."""
    command = ["cargo", "build", "--quiet", "--release", "--locked", "-p", "casparian-core"]
    told = _output(*command, "--example", "hot_loops", "--message-format", "json")
    programs = [message.get("executable") for message in map(json.loads, told.splitlines())
                if message.get("target", {}).get("name") == "hot_loops"]  # fmt: skip
    return next(program for program in programs if program)


def write_inputs(directory: Path) -> dict[str, str]:
    """Write each input; gives its SHA-256. The same bytes on every machine."""
    system = System(
        provider="Microsoft-Windows-Security-Auditing", event_id=4624, time_created=133_000_000_000_000_001,
        event_record_id=7, channel="Security", computer="ws07.example.org", user_sid="S-1-5-18",
    )  # fmt: skip

    def typical(number: int) -> Any:
        return windows_event(
            system,
            event_data(
                ("SubjectUserSid", make.sid(f"S-1-5-21-1-2-3-{1_000 + number % 50}")),
                ("TargetUserName", make.string(f"user{number % 70}")),
                ("LogonType", make.uint32(number % 12)),
                ("ProcessId", make.hex64(number * 4)),
                ("ProcessName", make.string("C:\\Windows\\System32\\svchost.exe")),
                ("When", make.filetime(133_000_000_000_000_000 + number)),
            ),
            record_id=number + 1,
        )

    def wordy(number: int) -> Any:
        plain = f"powershell.exe -NoProfile -Command Get-Item {number} " * 6
        other = f"Größe {number} – \U0001f4d3 naïve façade " * 3
        return windows_event(
            system,
            event_data(("Script", make.string(plain)), ("Path", make.string(other))),
            record_id=number + 1,
        )

    def sent_on(number: int) -> Any:
        fields = [("Name", f"value {number}"), (None, "unnamed")]
        return forwarded_event(system, fields, record_id=number + 1)

    logs = {
        "templates": EventLog(tuple(map(typical, range(3_000)))),
        "texts": EventLog(tuple(map(wordy, range(800)))),
        "forwarded": EventLog(tuple(map(sent_on, range(800)))),
    }
    contents = {name: log.build().data for name, log in logs.items()}
    line = "Mar 12 04:{:02}:{:02} gw01 sshd[{}]: Accepted publickey for ines from 10.0.0.{}\n"
    contents["lines"] = "".join(
        line.format(n // 60 % 60, n % 60, n, n % 256) for n in range(20_000)
    ).encode()
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        directory.joinpath(name).write_bytes(content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def count(program: str, loop: Loop, directory: Path) -> dict[str, int]:
    """Instructions of a loop by function, the total under the empty name."""
    written = directory / f"{loop.loop}-{loop.input}.callgrind"
    command = [
        "valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*hot_loops::measured*",
        f"--callgrind-out-file={written}", "--quiet", program, loop.loop, str(directory / loop.input),
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RUST")}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    with written.open(encoding="utf-8", errors="replace") as lines:
        costs = self_costs(lines)
    total = costs.total()
    kept = {name: cost for name, cost in costs.most_common() if cost >= total * SHARE_KEPT}
    return {"": total, **kept}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A loop then and now, in instructions; `grown` and `shrunk` beyond the tolerance."""

    loop: str
    before: int
    now: int
    functions: tuple[tuple[str, int, int], ...]

    @property
    def change(self) -> float:
        """Relative change; 0.05 is five per cent more."""
        return self.now / self.before - 1

    @property
    def grown(self) -> bool:
        """More than it may be."""
        return self.change > TOLERANCE

    @property
    def shrunk(self) -> bool:
        """So much less that the counts should be taken anew."""
        return self.change < -TOLERANCE

    def __str__(self) -> str:
        lines = [f"{self.loop:26}{self.before:>14,} → {self.now:>14,} {self.change:>+8.1%}"]
        if self.grown:
            lines += [
                f"    {then:>14,} → {now:>14,}  {name}"
                for name, then, now in self.functions[:8]
                if now > then
            ]
        return "\n".join(lines)


def compare(loop: str, before: dict[str, int], now: dict[str, int]) -> Verdict:
    """Hold counts against each other; the functions that grew most come first. A new one was nothing before."""
    names = (set(before) | set(now)) - {""}
    changes = [(name, before.get(name, 0), now.get(name, 0)) for name in names]
    changes.sort(key=lambda change: (change[1] - change[2], change[0]))
    return Verdict(loop=loop, before=before[""], now=now[""], functions=tuple(changes))
