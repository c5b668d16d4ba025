"""A machine without a network, made of namespaces: what happens in it happens as on a machine that nobody has prepared.

  * no interface but a loopback that is down, no route, no name server
  * a root file system without Python and without compilers (`root_file_systems`), mounted read-only
  * an ordinary user (1000), whose home, a small disk and `/tmp` are all that can be written; `/tmp` refuses to execute
  * a stick at `/media/stick`, as a desktop mounts it: read-only here, nothing executes from it
  * the root is a real one (`pivot_root`): in a mere chroot the kernel refuses the user namespaces that confine our guests

The machine keeps running between commands, so that a sentinel does, until its power is cut.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

USER: Final = 1000
NAME: Final = "examiner"
HOME: Final = f"/home/{NAME}"
STICK: Final = "/media/stick"
EVIDENCE: Final = "/evidence"
SMALL_DISK: Final = "/small"  # for what must fail when a disk is full

_NAMESPACES: Final = ("--net", "--mount", "--pid", "--ipc", "--uts")
_UNSHARE: Final = ("unshare", *_NAMESPACES, "--fork", "--propagation", "private", "--kill-child")

# Run by the host's `sh` in the new namespaces: $1 root, $2 home, $3 media, $4 evidence, $5 size of the small disk in MiB.
_MACHINE: Final = r"""
root=$1
mount --bind "$root" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=755,nosuid,noexec,size=1m dev "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/full" c 1 7
mknod -m 666 "$root/dev/random" c 1 8
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 666 "$root/dev/tty" c 5 0
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec shm "$root/dev/shm"
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec tmp "$root/tmp"
mount -t tmpfs -o mode=755,nosuid,nodev run "$root/run"
mount -t tmpfs -o mode=755,uid=1000,gid=1000,nosuid,nodev,size="$5"m small "$root/small"
mount --bind "$2" "$root/home/examiner"
mount --bind "$3" "$root/media"
mount -o remount,bind,ro,nosuid,nodev,noexec "$root/media"
mount --bind "$4" "$root/evidence"
mount -o remount,bind,ro,nosuid,nodev,noexec "$root/evidence"
mount -o remount,bind,ro "$root"
hostname disconnected
cd "$root"
pivot_root . mnt
exec /bin/sh -c 'umount -l /mnt; echo running; exec sleep infinity' </dev/null
"""

_ENVIRONMENT: Final = {
    "HOME": HOME,
    "USER": NAME,
    "LOGNAME": NAME,
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "SHELL": "/bin/sh",
    "LANG": "C.UTF-8",
    "NO_COLOR": "1",
}


class Ran(NamedTuple):
    """How a command in the room ended."""

    code: int
    output: str  # both streams, in order


class RoomUnavailableError(Exception):
    """This machine cannot make rooms; the message says what is missing."""


class CommandFailedError(Exception):
    """A command in the room ended otherwise than it should."""


def why_not() -> str | None:
    """Why this machine cannot make rooms, or None."""
    if os.geteuid() != 0:
        return "rooms are made of mounts and namespaces, which needs root: run it with sudo"
    needed = ("unshare", "nsenter", "mount", "pivot_root", "mknod", "chroot", "hostname")
    for program in needed:
        if shutil.which(program) is None:
            return f"`{program}` is missing: apt install util-linux coreutils hostname"
    tried = subprocess.run(
        [*_UNSHARE, "sh", "-ec", "mount -t tmpfs none /mnt; mount -t proc proc /mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode != 0:
        reason = tried.stderr.strip().splitlines()[-1:] or ["no reason given"]
        return f"namespaces and mounts are not allowed here ({reason[0]}); in a container: `--privileged`"
    return None


class Room:
    """One machine. What lies in its user's home outlives a power cut; everything else does not."""

    def __init__(self, root: Path, work: Path, *, evidence: Path, small_disk_mib: int = 64) -> None:
        """A machine that is off.

        Args:
            root: its root file system, with the folders that `root_file_systems.furnish` makes.
            work: a folder for its user's home and its sticks.
            evidence: what is mounted at `EVIDENCE`.
            small_disk_mib: size of the disk at `SMALL_DISK`.
        """
        self.root = root
        self.home = work / "home"
        self.media = work / "media"
        self._evidence = evidence
        self._small_disk_mib = small_disk_mib
        self._process: subprocess.Popen[str] | None = None
        self._init = 0
        for folder in (self.home, self.media):
            folder.mkdir(parents=True, exist_ok=True)
        os.chown(self.home, USER, USER)

    # -- power -------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Start the machine."""
        assert self._process is None
        folders = (self.root, self.home, self.media, self._evidence)
        self._process = subprocess.Popen(
            [
                *(*_UNSHARE, "sh", "-euc", _MACHINE, "machine"),
                *(str(folder.resolve()) for folder in folders),
                str(self._small_disk_mib),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "running\n":
            _, reason = self._process.communicate()
            self._process = None
            raise RoomUnavailableError(f"the room did not start: {reason.strip()}")
        self._init = _only_child(self._process.pid)

    def power_cut(self) -> None:
        """Every process of the machine is gone at once."""
        assert self._process is not None
        os.kill(self._init, signal.SIGKILL)
        self._process.communicate()
        self._process = None

    @contextlib.contextmanager
    def powered(self) -> Iterator[Room]:
        """The machine, running."""
        self.power_on()
        try:
            yield self
        finally:
            if self._process is not None:
                self.power_cut()

    # -- the stick ---------------------------------------------------------------------------------

    def plug(self, stick: Path) -> None:
        """Put a stick in. Its files are those of `stick`: change none in place."""
        self.unplug()
        shutil.copytree(stick, self.media / "stick", copy_function=os.link, symlinks=True)

    def unplug(self) -> None:
        """Take the stick out: what is not open is gone at once."""
        with contextlib.suppress(FileNotFoundError):
            away = self.media.parent / "unplugged"
            os.rename(self.media / "stick", away)
            shutil.rmtree(away)

    # -- commands ----------------------------------------------------------------------------------

    def command(self, *arguments: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs `arguments` in the room, as its user, in its home."""
        assert self._process is not None
        variables = _ENVIRONMENT | dict(environment or {})
        return [
            *("nsenter", "--target", str(self._init), *_NAMESPACES, "--root"),
            *("--setuid", str(USER), "--setgid", str(USER)),
            *("/usr/bin/env", "-i", *(f"{name}={value}" for name, value in variables.items())),
            *("/bin/sh", "-c", 'cd && exec "$@"', "sh", *arguments),
        ]

    def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a command in the room; both streams are one."""
        return subprocess.Popen(
            self.command(*arguments, environment=environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # no terminal
            cwd="/",
        )

    def run(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        script: str = "",
        expect: int | None = 0,
    ) -> Ran:
        """Run a command in the room to its end.

        Args:
            arguments: program and arguments.
            environment: added to that of the user.
            script: given on standard input.
            expect: its exit code; None when any will do.

        Raises:
            CommandFailedError: it ended otherwise.
        """
        process = self.start(*arguments, environment=environment)
        output, _ = process.communicate(script)
        if expect is not None and process.returncode != expect:
            raise CommandFailedError(
                f"exit {process.returncode}, not {expect}, of `{' '.join(arguments)}`\n{output[-4000:]}"
            )
        return Ran(process.returncode, output)

    def sh(self, script: str, *, expect: int | None = 0) -> Ran:
        """Run a script of the room's `sh`; it ends at the first command that fails."""
        return self.run("/bin/sh", "-e", script=script, expect=expect)


def _only_child(pid: int) -> int:
    for _ in range(1000):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        if children:
            return int(children[0])
        time.sleep(0.01)
    raise RoomUnavailableError("the room's first process cannot be found")
