"""The unit of one home's sentinel: its text, and reading one that lies there.

What the sandbox leaves open, and why (`docs/how-to/service.md` has the table):
  * namespaces and the calls for them, Landlock and seccomp: guests are confined by them, inside of what the unit does
  * AF_INET: a worker proves by its own bait that a guest cannot reach it; with `PrivateNetwork` there is nothing else to reach
  * all of /proc: a guest is not dumpable, and `ProtectProc=invisible` would hide it from the worker that asks the kernel about it
  * all files may be read: evidence can lie anywhere, and disks that are mounted later are seen
A user's own manager can only do what needs no privilege: those units have the short list.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Final, Literal

import msgspec

from casparian.errors import UsageError

Scope = Literal["system", "user"]
DRAIN_SECONDS: Final = 90  # for jobs that run, when the machine goes down or the unit is stopped
_STOP_SECONDS: Final = 120  # for each step of stopping; what is killed then is done again later
_NAME_BYTES_MAX: Final = 200
_MARK: Final = "X-Casparian-"
_PLAIN: Final = re.compile(r"[A-Za-z0-9:_.]")
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f]")


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """A sentinel as a service.

    Attributes:
        scope: of the machine, or of one user's own manager.
        program: how the program is called, absolute.
        home: absolute.
        account: whom a machine's service runs as.
        writable: folders beside the home that jobs write to, absolute: sinks elsewhere.
        installation: DEST of the appliance; empty for any other program.
    """

    scope: Scope
    program: tuple[str, ...]
    home: str
    account: str = ""
    writable: tuple[str, ...] = ()
    installation: str = ""

    @property
    def name(self) -> str:
        """The unit's file name: one for each home."""
        return unit_name(self.home)

    @property
    def text(self) -> str:
        """The file."""
        lines = [*_HEAD, *self._marks(), ""]
        lines += ["[Service]", *self._service()]
        lines += _USER_SANDBOX if self.scope == "user" else self._sandbox()
        target = "default.target" if self.scope == "user" else "multi-user.target"
        return "\n".join([*lines, "", "[Install]", f"WantedBy={target}", ""])

    def _marks(self) -> list[str]:
        """What `read_unit` finds again; systemd leaves such names alone."""
        marks = [("Home", self.home), ("Installation", self.installation)]
        return [f"{_MARK}{key}={_value(value)}" for key, value in marks if value]

    def _service(self) -> list[str]:
        command = " ".join(_argument(word) for word in (*self.program, "--home", self.home))
        lines = [
            "Type=notify",
            "NotifyAccess=main",
            f"ExecStart={command} sentinel serve",
            "# Jobs that run are finished first; what the time does not suffice for goes back to the queue.",
            f"ExecStop={command} --quiet sentinel drain --timeout {DRAIN_SECONDS}",
            f"TimeoutStopSec={_STOP_SECONDS}",
            "TimeoutStartSec=300",
            "KillMode=mixed",
            "Restart=on-failure",
            "RestartSec=5",
            "# A wrong setting or a damaged database does not become right by trying again.",
            "RestartPreventExitStatus=2 7",
            "LimitNOFILE=65536",
            "UMask=0077",
        ]
        if self.scope == "system":
            lines += [f"User={_value(self.account)}"]
        return lines

    def _sandbox(self) -> list[str]:
        runtime = self.name.removesuffix(".service")
        paths = " ".join(_path(path) for path in (self.home, *self.writable))
        lines = [
            *_SYSTEM_SANDBOX,
            f"ReadWritePaths={paths}",
            "# Bait for the self-attacks of guests; /tmp itself stays as it is for evidence that lies there.",
            f"RuntimeDirectory={_value(runtime)}",
            "RuntimeDirectoryMode=0711",
            f"Environment={_path(f'TMPDIR=/run/{runtime}')}",
        ]
        return lines if self.account == "root" else [*lines, *_ORDINARY_USER]


_HEAD: Final = (
    "# Written by `casparian service install`; changes belong into a drop-in: `systemctl edit`.",
    "[Unit]",
    "Description=Casparian sentinel",
    "After=local-fs.target",
    "StartLimitIntervalSec=300",
    "StartLimitBurst=10",
)
_NAMESPACES: Final = "RestrictNamespaces=user net ipc uts mnt"
_SYSCALLS: Final = (
    "SystemCallArchitectures=native",
    "# Beside what services need: what guests are confined with.",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=mount seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    "SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap",
    "SystemCallErrorNumber=EPERM",
)
_USER_SANDBOX: Final = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET",
    _NAMESPACES,
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    *_SYSCALLS,
)
_SYSTEM_SANDBOX: Final = (
    *_USER_SANDBOX,
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "PrivateNetwork=yes",
    "IPAddressDeny=any",
    "PrivateDevices=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "KeyringMode=private",
    "RemoveIPC=yes",
)
_ORDINARY_USER: Final = (
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
)


def unit_name(home: str) -> str:
    """File name of the unit of a home: readable, and another one for every home."""
    escaped = "".join(
        character if _PLAIN.match(character) else "-" if character == "/" else "_"
        for character in home.strip("/")[-60:]
    )
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
    return f"casparian-{escaped.lstrip('-.') or 'root'}-{digest}.service"


def read_unit(text: str, scope: Scope) -> Unit | None:
    """What a unit of ours is for, as far as it is marked in it; `None` for another's."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator and key.startswith(_MARK):
            found[key.removeprefix(_MARK)] = value.replace("%%", "%")
        elif separator and key == "User":
            found[key] = value
    if "Home" not in found:
        return None
    return Unit(
        scope=scope,
        program=(),
        home=found["Home"],
        account=found.get("User", ""),
        installation=found.get("Installation", ""),
    )


def check_path(path: str) -> str:
    """A path that a unit can hold.

    Raises:
        UsageError: `service.path`, it is not absolute, not UTF-8, or has a control character.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        good = False
    else:
        good = os.path.isabs(path) and not _FORBIDDEN.search(path) and path == path.strip()
    if good:
        return path
    raise UsageError(
        "a unit can only name absolute paths of printable text, without blanks at their ends",
        code="service.path",
        hint="put the home and the sinks where plain names lead to",
    )


def _value(text: str) -> str:
    """A value that is taken to its line's end."""
    return text.replace("%", "%%")


def _argument(text: str) -> str:
    """One word of a command line, or one assignment of `Environment=`."""
    return (
        '"'
        + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
        + '"'
    )


def _path(text: str) -> str:
    """One path of a list."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'
