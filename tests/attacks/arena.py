"""Where hostile parsers are let loose: a whole system, run by an ordinary user or by root, and the things they are after.

A parser is tried end to end: `run` over a folder with its own evidence and an honest log. Around it stand a secret file, sockets
that listen, and a folder that everybody may write to; whether an attack had an effect is seen there, not in what the parser says.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from casparian import ids
from casparian.control.client import Client
from casparian.domain.outputs import Sink
from casparian.errors import SentinelUnreachable
from casparian.paths import Home
from casparian.protocol import control
from casparian.sinks.uri import parse_sink
from tests.support.small import syslog_lines

REPOSITORY: Final = Path(__file__).resolve().parents[2]
TRUSTING: Final = REPOSITORY / "tests" / "support" / "trusting_sentinel.py"
AS_USER: Final = REPOSITORY / "tests" / "support" / "ordinary_user.py"
ORDINARY_UID: Final = 4242
SECRET: Final = "the password is correct horse battery staple"
HONEST_ROWS: Final = 5
TABLE: Final = "loot"

MANIFEST: Final = """
schema_version = 1
name = "{name}"
version = "1.0.0"
kind = "python"
entry = "parser.py:parse"
tags = ["hostile"]
unit = "line"
account = "lines"
preload = {preload}

[limits]
memory_mb = {memory_mb}
cpu_seconds = {cpu_seconds}
idle_seconds = {idle_seconds}
wall_seconds = {wall_seconds}
rows_max = {rows_max}
output_mb_max = {output_mb_max}
"""
CONTRACT: Final = """
schema_version = 1

[outputs.loot]
main = true
columns = [ { name = "text", type = "utf8" } ]
"""
LIMITS: Final = {
    "memory_mb": 512,
    "cpu_seconds": 2,
    "idle_seconds": 5,
    "wall_seconds": 30,
    "rows_max": 100_000,
    "output_mb_max": 32,
}
PRELUDE: Final = """
import ctypes, errno, fcntl, mmap, os, re, resource, signal, socket, struct, subprocess, sys, threading, time
from casparian.sdk import Row

SECRET_FILE = {secret!r}
OPEN_FOLDER = {folder!r}
TCP_PORT = {tcp}
UDP_PORT = {udp}
ABSTRACT = {abstract!r}
INPUT = 4  # the first descriptor after the bridge

libc = ctypes.CDLL(None, use_errno=True)

def syscall(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def input_descriptor():
    for descriptor in range(4, 64):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        return descriptor
    raise RuntimeError("no input descriptor")

def parse(ctx):
    yield "loot", Row(0, 1, {{"text": "before the attack"}})
    stolen = attack(ctx)
    yield "loot", Row(1, 1, {{"text": repr(stolen)}})

"""
PRELOAD: Final = (
    "ctypes",
    "fcntl",
    "mmap",
    "resource",
    "signal",
    "socket",
    "subprocess",
    "threading",
)


class Verdict:
    """How a run with a hostile parser ended, as the system says it."""

    def __init__(
        self, result: control.RunResult, job: dict[str, Any], log: str, isolation: dict[str, str]
    ) -> None:
        self.result = result
        self.job = job
        self.log = log
        self.isolation = isolation

    @property
    def code(self) -> str | None:
        """Reason code of the hostile source; `None` when it was committed."""
        codes = [p.code for p in self.result.problems if p.path.startswith("hostile")]
        return codes[0] if codes else None

    def __repr__(self) -> str:
        return f"{self.job}\n{self.result.problems}\n{self.isolation}\n{self.log[-2000:]}"


class Arena:
    """One home whose sentinel lets every parser run.

    Args:
        uid: whom the system runs as.
    """

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.directory = Path(tempfile.mkdtemp(prefix="casparian-arena-"))
        self.home = Home.at(self.directory / "home")
        self.folder = self.directory / "everybody"
        for folder in (self.home.root, self.folder, self.directory / "out"):
            folder.mkdir()
        self.folder.chmod(0o777)
        self.secret = self.directory / "secret"
        self.secret.write_text(SECRET)
        self.directory.chmod(0o755)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.abstract_name = f"casparian-arena-{os.getpid()}-{uid}"
        self.abstract = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.abstract.bind("\0" + self.abstract_name)
        self.abstract.listen()
        for listener in (self.tcp, self.udp, self.abstract):
            listener.setblocking(False)
        for path in (self.home.root, self.secret, self.directory / "out"):
            os.chown(path, uid, uid)
        self._number = 0
        self._process = self._start()
        self.client = self._connect()
        self.client.ask(
            control.AddRule(request_id=ids.new_request_id(), pattern="*.hostile", tag="hostile"),
            control.Done,
        )
        self.attack("return 'warm'", cpu_seconds=20)  # workers and zygotes are there from now on

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(TRUSTING), "--home", str(self.home.root)]
        if self.uid != os.getuid():
            reach = {sys.prefix, sys.base_prefix, str(REPOSITORY), str(self.directory)}
            command = [
                *("/usr/bin/unshare", "-m", "--propagation", "private"),
                *(sys.executable, str(AS_USER), str(self.uid), *sorted(reach), "--", *command),
            ]
        with (self.directory / "sentinel.out").open("wb") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
            )

    def _connect(self) -> Client:
        for _ in range(600):
            with contextlib.suppress(SentinelUnreachable):
                return Client.connect(self.home)
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError("no sentinel: " + (self.directory / "sentinel.out").read_text())

    # -- one attack

    def parser(
        self, name: str, code: str, files: dict[str, str] | None = None, **changes: Any
    ) -> Path:
        """Write a parser whose `attack(ctx)` is this code (or a whole parser, when it defines `parse`)."""
        folder = self.home.parsers / name
        folder.mkdir(parents=True)
        limits = {**LIMITS, **{k: v for k, v in changes.items() if k in LIMITS}}
        preload = list(changes.get("preload", PRELOAD))
        (folder / "parser.toml").write_text(
            MANIFEST.format(name=name, preload=json.dumps(preload), **limits)
        )
        (folder / "contract.toml").write_text(changes.get("contract", CONTRACT))
        code = textwrap.dedent(code).strip("\n")
        if "def parse(" not in code and "def attack(" not in code:
            code = "def attack(ctx):\n" + textwrap.indent(code, "    ")
        prelude = PRELUDE.format(
            secret=str(self.secret),
            folder=str(self.folder),
            tcp=self.tcp.getsockname()[1],
            udp=self.udp.getsockname()[1],
            abstract=self.abstract_name,
        )
        if "def parse(" in code:
            prelude = prelude.partition("def parse(")[0]
        (folder / "parser.py").write_text(prelude + code + "\n")
        for file, text in (files or {}).items():
            (folder / file).write_text(textwrap.dedent(text))
        return folder

    def evidence(self, name: str) -> Path:
        """A folder with one file for the hostile parser and an honest log."""
        root = self.directory / f"evidence-{name}"
        (root / "honest").mkdir(parents=True)
        # Its content is like no other's: equal content is parsed once.
        (root / "hostile.hostile").write_text(f"first line of {name}\nsecond line\nthird line\n")
        (root / "honest" / "syslog").write_bytes(syslog_lines(host=f"h-{name}", count=HONEST_ROWS))
        return root

    def new_name(self) -> str:
        """A name for a parser that nobody had before; `last` gives it again."""
        self._number += 1
        return self.last

    def attack(self, code: str, *, files: dict[str, str] | None = None, **changes: Any) -> Verdict:
        """Let one hostile parser loose beside an honest one, to the end of the run."""
        name = self.new_name()
        self.parser(name, code, files, **changes)
        return self.run(name, self.evidence(name), **changes)

    def run(self, name: str, root: Path, **changes: Any) -> Verdict:
        """`run` over a folder with one hostile parser and the honest ones."""
        request = control.Run(
            request_id=ids.new_request_id(),
            evidence=os.fsencode(root),
            sinks={"": self.sink(name)},
            selection=control.Selection(parsers=(name, "linux.syslog")),
            retry_failed=bool(changes.get("retry_failed", False)),
        )
        result = self.client.ask(request, control.RunResult)
        jobs = [job for job in self.read("jobs", run_id=result.run_id) if name in job["parser"]]
        job = jobs[-1] if jobs else {}
        logs = self.read("job_log", job_id=job["job_id"]) if job else []
        isolation = json.loads(logs[-1]["isolation"] or "{}") if logs else {}
        return Verdict(result, job, logs[-1]["log"] if logs else "", isolation)

    def read(self, view: str, **filters: str | int) -> list[dict[str, Any]]:
        """A named read."""
        rows = self.client.ask(control.Read(view=view, filters={**filters}), control.Rows)
        return [dict(zip(rows.columns, row, strict=True)) for row in rows.rows]

    # -- what is seen from outside

    def out(self, name: str) -> Path:
        """Where the tables of one attack go."""
        return self.directory / "out" / name

    def sink(self, name: str) -> Sink:
        """The same as a sink."""
        return parse_sink(f"parquet:{self.out(name)}", base="/")

    def rows(self, name: str, table: str) -> list[dict[str, Any]]:
        """What lies under a table's final names, whatever the catalog says."""
        found: list[dict[str, Any]] = []
        for path in sorted(self.out(name).glob(f"{table}_*.parquet")):
            found += pq.read_table(path, columns=None).drop(["_cf_processed_at"]).to_pylist()
        return found

    @property
    def last(self) -> str:
        """Name of the parser that was tried last."""
        return f"attack.n{self._number}"

    def connections(self) -> int:
        """How often anybody reached one of the sockets since the last look."""
        reached = 0
        for listener in (self.tcp, self.abstract):
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()
                    reached += 1
        with contextlib.suppress(BlockingIOError):
            while True:
                self.udp.recv(65_536)
                reached += 1
        return reached

    def processes(self) -> dict[int, str]:
        """Processes of this home: pid and role."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if str(self.home.root).encode() in words:
                    found[int(entry.name)] = (
                        words[words.index(b"-m") + 1].decode() if b"-m" in words else "sentinel"
                    )
        return found

    def sentinel_pid(self) -> int:
        """The sentinel itself, below what started it."""
        return self.client.ask(control.Hello(), control.SentinelStatus).pid

    def stages(self) -> list[Path]:
        """Staging that is left, anywhere."""
        return [p for p in self.directory.rglob(".casparian-stage/*/*") if p.is_dir()]

    def close(self) -> None:
        """Stop everything."""
        self.client.close()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for listener in (self.tcp, self.udp, self.abstract):
            listener.close()
        shutil.rmtree(self.directory, ignore_errors=True)
