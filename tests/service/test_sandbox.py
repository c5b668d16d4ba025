"""A real job in full isolation, under what a machine's unit restricts, as far as that can be had without systemd."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import casparian
from casparian.appliance.service.unit import Unit
from tests.service import filters, unit_sandbox
from tests.support.small import syslog_lines
from tests.support.world import World

UID = 4242
REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    os.getuid() != 0
    or os.uname().machine != "x86_64"
    or not filters.HEADER.exists()
    or not shutil.which("systemd-analyze")
    or not shutil.which("ip"),
    reason="needs root, x86_64, the C library's headers, iproute2 and systemd-analyze",
)


class Service:
    """A sentinel that was started as the unit says."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.unit = Unit(
            scope="system",
            program=(sys.executable, "-I", "-B", "-m", "casparian"),
            home=str(world.home),
            account="examiner",
        )
        self.file = folder / self.unit.name
        self.file.write_text(self.unit.text)
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(world.home / "notify"))
        os.chown(world.home / "notify", UID, UID)
        self.process = subprocess.Popen(self.command(), cwd=REPOSITORY, env=self._environment())

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "NOTIFY_SOCKET": str(self.world.home / "notify")}

    def command(self, *instead: str) -> list[str]:
        """What runs the unit's command, or another one, under the unit's restrictions."""
        reach = {Path(sys.prefix), Path(sys.base_prefix), Path(casparian.__file__).parent.parent}
        return [
            *("unshare", "-m", "-n", "--propagation", "private"),
            *(sys.executable, "-m", "tests.service.unit_sandbox", str(self.file), str(UID)),
            *(str(path) for path in [*reach, self.world.directory]),
            *(["--", *instead] if instead else []),
        ]

    def ready(self) -> str:
        """What it says when it serves."""
        self.notified.settimeout(0.5)
        while self.process.poll() is None:
            with contextlib.suppress(TimeoutError):
                return self.notified.recv(4096).decode()
        raise AssertionError(f"it ended with {self.process.returncode}: {self.world.logs()}")

    def inside(self, *code: str) -> subprocess.CompletedProcess[str]:
        """Python in the same surroundings."""
        command = self.command(sys.executable, "-I", "-c", *code)
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.fixture
def service() -> Iterator[Service]:
    with tempfile.TemporaryDirectory(prefix="casparian-service-") as folder:
        place = Path(folder)
        place.chmod(0o755)  # the evidence can be read by the service, as anywhere
        world = World(place)
        world.home.mkdir(mode=0o700)
        os.chown(world.home, UID, UID)
        world.file("messages", syslog_lines(host="a", count=50))
        made = Service(world, place)
        yield made
        if made.process.poll() is None:
            made.process.kill()
        made.process.wait()
        made.notified.close()


def test_a_job_runs_in_full_isolation_under_the_unit_and_the_unit_is_in_force(
    service: Service,
) -> None:
    world = service.world
    said = service.ready()
    assert said.splitlines()[0] == "READY=1", "it says so itself once it serves"

    status = Path(f"/proc/{service.process.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert int(fields["CapBnd"], 16) == 0
    assert fields["Uid"].split() == [str(UID)] * 4

    result = world.run()
    assert result["jobs"]["completed"] == 1
    assert world.query("SELECT count(*) FROM syslog_events")[0] == [50]
    (job,) = world.json("jobs", "list")["jobs"]
    log = json.dumps(world.json("jobs", "logs", str(job["job_id"])))
    assert '"level": "full"' in log, log[:3000]

    elsewhere = world.directory / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    world.file("more", syslog_lines(host="b", count=5))
    failed = world.run("--sink", f"parquet:{elsewhere}", code=None)
    completed = failed.get("jobs", {}).get("completed", 0)
    assert not completed, "only the home is writable"
    assert not list(elsewhere.rglob("*.parquet"))

    stop = unit_sandbox.words(
        unit_sandbox.directives(service.unit.text)["ExecStop"][0].replace("--timeout 90", "")
    )
    done = subprocess.run(stop, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert service.process.wait() == 0, "a drained service has not failed: it is not started again"
    assert service.notified.recv(4096) == b"STOPPING=1"


DENIED = {
    "a file elsewhere": "open('/var/tmp/casparian-was-here', 'w')",
    "the network": "import socket; socket.create_connection(('192.0.2.1', 9), 2)",
    "another family": "import socket; socket.socket(socket.AF_INET6)",
    "executable memory": "import mmap; mmap.mmap(-1, 4096, prot=7)",
    "a namespace of process ids": "import ctypes, os\n"
    "assert ctypes.CDLL(None).unshare(0x30000000) == 0",
    "a mount": "import ctypes\nassert ctypes.CDLL(None).mount(b'x', b'/mnt', b'tmpfs', 0, 0) == 0",
    "the clock": "import time; time.clock_settime(0, 0)",
    "realtime": "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    "another user": "import os; os.setuid(0)",
    "tracing": "import ctypes\nassert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0",
    "a tunable": "open('/proc/sys/vm/overcommit_memory', 'w')",
}


def test_the_sandbox_denies_what_it_says_and_its_temporary_folder_works(service: Service) -> None:
    script = (
        "import json, tempfile\n"
        "said = {'nothing': None}\n"
        f"for name, code in {DENIED!r}.items():\n"
        "    try:\n        exec(code)\n"
        "    except (OSError, AssertionError) as error:\n        said[name] = type(error).__name__\n"
        "with tempfile.TemporaryDirectory() as folder: print(folder)\n"
        "print(json.dumps(said))\n"
    )
    done = service.inside(script)
    assert done.returncode == 0, done.stderr
    folder, said = done.stdout.splitlines()
    assert folder.startswith("/run/casparian-")
    assert json.loads(said).keys() - {"nothing"} == DENIED.keys()
