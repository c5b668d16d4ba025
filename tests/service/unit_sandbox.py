"""Run what a unit of the machine starts, under the unit's own restrictions, without systemd.

    unshare -m -n --propagation private python -m tests.service.unit_sandbox UNIT UID PATH… [-- COMMAND…]

Everything comes from the unit's text: a directive that is not known here is an error, so that none is left out unnoticed. Without
a command `ExecStart` is run. PATH is what UID must reach although it lies where only root may look (the program itself).

What is done otherwise than by systemd, or not at all, is in `NOT_DONE`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.service import filters
from tests.support import ordinary_user

NOT_DONE: Final = {
    "IPAddressDeny": "a BPF program of the control group; the network namespace has no other interface",
    "PrivateDevices": "the device controller; /dev is the same",
    "ProtectClock": "the devices of the clock; its calls are filtered",
    "ProtectHostname": "a UTS namespace; its calls need a capability",
    "ProtectKernelLogs": "/dev/kmsg; its calls are filtered",
    "ProtectKernelModules": "the folder of modules; its calls are filtered",
    "KeyringMode": "a session keyring",
    "RemoveIPC": "only at the end",
    "RestrictSUIDSGID": "a filter of modes",
    "LockPersonality": "a filter of `personality`",
}
_ELSEWHERE: Final = frozenset(
    {
        "Type", "NotifyAccess", "ExecStart", "ExecStop", "TimeoutStopSec", "TimeoutStartSec", "KillMode",
        "Restart", "RestartSec", "RestartPreventExitStatus", "User", "RuntimeDirectoryMode",
        "AmbientCapabilities", "SystemCallErrorNumber", "SystemCallArchitectures", "PrivateNetwork",
        "ProtectHome", "ProtectControlGroups", "ProtectKernelTunables", "NoNewPrivileges",
    }
)  # fmt: skip
_libc = ctypes.CDLL(None, use_errno=True)


def directives(text: str) -> dict[str, list[str]]:
    """The unit's `[Service]`."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def words(value: str) -> list[str]:
    """A command line or list of paths, as systemd reads what we write."""
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(value)]


def main() -> None:
    """Close in, drop, execute."""
    arguments = sys.argv[1:]
    command = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    if "--" in arguments:
        arguments = arguments[: arguments.index("--")]
    unit = directives(Path(arguments[0]).read_text())
    uid = int(arguments[1])
    reach = [Path(path).resolve() for path in arguments[2:]]
    for closed, inside in ordinary_user._closed_folders(reach).items():
        ordinary_user._uncover(closed, inside)
    known = _ELSEWHERE | NOT_DONE.keys()
    environment = {"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": os.environ.get("NOTIFY_SOCKET", "")}
    _run("ip", "link", "set", "lo", "up")
    _file_system(unit, uid)
    programs = []
    for key, values in unit.items():
        match key:
            case "ProtectSystem" | "ReadWritePaths" | "RuntimeDirectory":
                pass
            case "Environment":
                for value in values:
                    name, _, content = words(value)[0].partition("=")
                    environment[name] = content
            case "UMask":
                os.umask(int(values[0], 8))
            case "LimitNOFILE":
                hard = min(int(values[0]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            case "CapabilityBoundingSet":
                assert values == [""]
                for capability in range(64):
                    _libc.prctl(
                        24, capability, 0, 0, 0
                    )  # PR_CAPBSET_DROP; unknown ones are refused
            case "SystemCallFilter":
                programs.append(filters.allow_list(values))
            case "RestrictAddressFamilies":
                programs.append(filters.address_families(values[0].split()))
            case "RestrictNamespaces":
                programs.append(filters.namespaces(values[0].split()))
            case "MemoryDenyWriteExecute":
                programs.append(filters.no_executable_memory())
            case "RestrictRealtime":
                programs.append(filters.no_realtime())
            case _ if key not in known:
                raise SystemExit(f"{key} is not known here")
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    assert unit["NoNewPrivileges"] == ["yes"]
    assert _libc.prctl(38, 1, 0, 0, 0) == 0
    os.chdir("/")
    line = command or words(unit["ExecStart"][0])
    # The list of calls last: it does not have to allow the installation of the others.
    for program in sorted(programs, key=len):
        filters.install(program)
    os.execve(line[0], line, environment)


def _file_system(unit: dict[str, list[str]], uid: int) -> None:
    """`ProtectSystem=strict` and what goes with it."""
    assert unit["ProtectSystem"] == ["strict"]
    writable = words(unit["ReadWritePaths"][0])
    for path in writable:
        _run("mount", "--bind", path, path)
    _run("mount", "-t", "tmpfs", "none", "/run")
    runtime = Path("/run") / unit["RuntimeDirectory"][0]
    runtime.mkdir()
    os.chown(runtime, uid, uid)
    runtime.chmod(int(unit["RuntimeDirectoryMode"][0], 8))
    kept = ("/dev", "/proc", "/sys")
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in places:
        name = place.encode().decode("unicode_escape")
        if name in writable or name.startswith(kept):
            continue
        _run("mount", "-o", "remount,bind,ro", name)
    _run("mount", "--bind", str(runtime), str(runtime))
    _run("mount", "-o", "remount,bind,rw", str(runtime))
    for place in ("/proc/sys", "/sys"):  # kernel tunables, control groups
        _run("mount", "--rbind", place, place)
        _run("mount", "-o", "remount,bind,ro", place)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")


if __name__ == "__main__":
    main()
