"""Root file systems of rooms: Debian as its installer leaves the smallest one, or what this machine itself has of the same tools.

No Python and no compiler is in either: it is looked for, and found, means that there is no room.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.appliance.room import HOME, NAME, USER, RoomUnavailableError

SUITES: Final = ("bookworm", "trixie")  # Debian 12, the oldest supported one, and Debian 13
MIRROR: Final = "http://deb.debian.org/debian"

# All that installing and running the appliance may use.
_TOOLS: Final = (
    *("sh", "cat", "cp", "mv", "rm", "ln", "ls", "mkdir", "rmdir", "chmod", "mktemp", "touch"),
    *("head", "tail", "sort", "uniq", "cut", "tr", "wc", "tee", "comm", "dd", "env", "id", "stat"),
    *("date", "df", "du", "sync", "sleep", "kill", "printf", "echo", "test", "true", "false"),
    *("dirname", "basename", "readlink", "realpath", "uname", "expr", "od", "nproc", "seq"),
    *(
        "sha256sum",
        "tar",
        "find",
        "xargs",
        "grep",
        "sed",
        "awk",
        "cmp",
        "diff",
        "umount",
        "hostname",
    ),
    *("ssh-keygen", "getconf", "[", "whoami", "truncate", "ps"),
)
_OPTIONAL: Final = frozenset({"ps", "hostname", "awk", "diff", "cmp", "getconf"})
# What every wheel of the `manylinux` kind may take from the machine, beyond what the tools need.
_LIBRARIES: Final = (
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "librt.so.1",
    "libpthread.so.0",
    "libdl.so.2",
)

_PYTHON_OR_COMPILER: Final = re.compile(
    r"(python|pypy)[0-9.]*|libpython.*|pip[0-9.]*|cython.*"
    r"|(.*-)?(gcc|g\+\+|cpp|cc|c\+\+|clang|tcc|as|ld)(-[0-9.]+)?|rustc|cargo|go"
)


def debian(suite: str, cache: Path, *, mirror: str = MIRROR) -> Path:
    """The archive of a minimal Debian with `ssh-keygen`; made once.

    Raises:
        RoomUnavailableError: `debootstrap` is missing or failed.
    """
    archive = cache / f"{suite}.tar"
    if archive.exists():
        return archive
    if shutil.which("debootstrap") is None:
        raise RoomUnavailableError(
            "`debootstrap` is missing, which makes minimal Debian systems:\n"
            "  Debian, Ubuntu: apt install debootstrap    Fedora: dnf install debootstrap"
        )
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{suite}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    # In a mount namespace of its own: what it mounts in there is gone when it ends, however it ends.
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", "debootstrap"),
            *("--variant=minbase", "--include=openssh-client", suite, str(folder), mirror),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        log = folder / "debootstrap" / "debootstrap.log"
        details = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        raise RoomUnavailableError(
            f"debootstrap of {suite} failed:\n{done.stdout[-2000:]}\n{details}"
        )
    for waste in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(folder / waste, ignore_errors=True)
    furnish(folder)
    _check_bare(folder)
    partial = archive.with_suffix(".tar.partial")
    subprocess.run(["tar", "--numeric-owner", "-C", folder, "-cf", partial, "."], check=True)
    os.replace(partial, archive)
    shutil.rmtree(folder)
    return archive


def unpack(archive: Path, folder: Path) -> Path:
    """A root file system as the archive has it."""
    folder.mkdir(parents=True)
    subprocess.run(["tar", "--numeric-owner", "-C", folder, "-xpf", archive], check=True)
    _check_bare(folder)
    return folder


def of_this_machine(folder: Path) -> Path:
    """A root file system of copies of this machine's own tools and of the libraries that they need.

    Raises:
        RoomUnavailableError: a tool is missing here.
    """
    for name in ("usr/bin", "etc", "proc", "sys", "dev", "tmp", "run", "mnt", "var/tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "bin").symlink_to("usr/bin")
    copied: set[str] = set()
    for tool in _TOOLS:
        source = shutil.which(tool, path="/usr/bin:/bin:/usr/sbin:/sbin")
        if source is None:
            if tool in _OPTIONAL:
                continue
            raise RoomUnavailableError(f"`{tool}` is missing on this machine")
        shutil.copy(os.path.realpath(source), folder / "usr/bin" / tool)
        copied.update(_libraries_of(source))
    loaded = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    for library in _LIBRARIES:
        found = re.search(rf"{re.escape(library)} \(libc6,x86-64.*?=> (\S+)", loaded)
        if found is not None:
            copied.add(found[1])
    for path in sorted(copied):
        target = folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(path), target)
    zones = folder / "usr/share/zoneinfo"
    zones.mkdir(parents=True)
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")
    # Not read from the cache of the host, which names other libraries.
    subprocess.run(["ldconfig", "-r", str(folder)], check=True, capture_output=True)
    furnish(folder)
    _check_bare(folder)
    return folder


def furnish(root: Path) -> None:
    """Add the user, and the folders at which a room mounts things."""
    for name in (HOME, "/media", "/evidence", "/small", "/mnt", "/proc", "/sys", "/dev", "/run"):
        (root / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for file, line in (
        ("etc/passwd", f"{NAME}:x:{USER}:{USER}:{NAME}:{HOME}:/bin/sh\n"),
        ("etc/group", f"{NAME}:x:{USER}:\n"),
    ):
        with open(root / file, "a", encoding="ascii") as table:
            table.write(line)
    (root / "etc/resolv.conf").unlink(missing_ok=True)  # that of the machine it was made on


def _libraries_of(program: str) -> Iterator[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        found = re.search(r"(?:=> )?(/\S+) \(0x", line)
        if found is not None:
            yield found[1]


def _check_bare(root: Path) -> None:
    """Refuse a root file system in which a Python or a compiler is."""
    for folder, _, names in os.walk(root):
        if folder.startswith(f"{root}/usr/share"):  # documentation
            continue
        for name in names:
            path = os.path.join(folder, name)
            runs = os.access(path, os.X_OK) or name.startswith("lib")
            if runs and _PYTHON_OR_COMPILER.fullmatch(name):
                raise RoomUnavailableError(f"`{path}` is a Python or a compiler: no bare room")
