"""systemd's folders and `systemctl`: install, look at, start and remove the unit of a home.

Rules:
  * A file is written whole or not at all; writing what is there already changes nothing.
  * Without a running systemd the file is written all the same, and `todo` says what is left to do: an image may be prepared
    on another machine, and a chroot has no manager.
  * A file that does not carry our marks is never replaced or removed.
  * Whoever removes a unit leaves the home, its tables and its tape alone.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from typing import Final

import msgspec

from casparian.appliance.service import program
from casparian.appliance.service.unit import Scope, Unit, check_path, read_unit, unit_name
from casparian.domain.outputs import SinkKind
from casparian.errors import CasparianError, Conflict, UsageError
from casparian.paths import Home
from casparian.sinks.uri import parse_sink

SYSTEM_FOLDER: Final = "/etc/systemd/system"
_SHOWN: Final = ("LoadState", "ActiveState", "SubState", "UnitFileState", "MainPID", "StatusText")
_CALL_SECONDS_MAX: Final = 600  # `stop` waits for jobs


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one unit."""

    name: str
    scope: Scope
    path: str
    home: str
    installed: bool
    same: bool  # the file is what this program would write now
    manager: bool  # systemd answers
    state: dict[str, str] = {}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a change did, and what is left to the person."""

    name: str
    scope: Scope
    path: str
    changed: bool
    done: tuple[str, ...] = ()
    todo: tuple[str, ...] = ()


class Manager:
    """One of systemd's managers.

    Args:
        scope: of the machine, or of the calling user.
        folder: where its unit files lie; `None`: where that manager looks.
        systemctl: the program; `None`: as found on the search path, empty: there is none.
    """

    def __init__(
        self, scope: Scope, *, folder: str | None = None, systemctl: str | None = None
    ) -> None:
        self.scope = scope
        self.folder = folder or (SYSTEM_FOLDER if scope == "system" else _user_folder())
        found = shutil.which("systemctl") if systemctl is None else systemctl
        self._systemctl = found or ""
        self._foreign = folder is not None and systemctl is None  # an image of another machine

    @property
    def answers(self) -> bool:
        """Whether a manager runs that can be told anything."""
        if not self._systemctl or self._foreign:
            return False
        done = self._call("show", "--property=Version")
        return done.returncode == 0 and "Version=" in done.stdout

    def path_of(self, name: str) -> str:
        """Where the file of a unit lies."""
        return os.path.join(self.folder, name)

    def units(self) -> list[Unit]:
        """Units of ours that lie in the folder."""
        found = []
        for name in sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else ():
            if name.startswith("casparian-") and name.endswith(".service"):
                unit = self._read(name)
                if unit is not None and unit.name == name:
                    found.append(unit)
        return found

    def standing(self, unit: Unit) -> Standing:
        """What is known of a unit."""
        path = self.path_of(unit.name)
        answers = self.answers
        return Standing(
            name=unit.name,
            scope=self.scope,
            path=path,
            home=unit.home,
            installed=os.path.isfile(path),
            same=_text_of(path) == unit.text,
            manager=answers,
            state=self._state(unit.name) if answers else {},
        )

    def install(self, unit: Unit, *, start: bool = True, dry_run: bool = False) -> Outcome:
        """Write the unit, and have it run now and after each boot.

        Raises:
            Conflict: `service.foreign`.
            CasparianError: `service.permission`, `service.failed`.
        """
        path = self.path_of(unit.name)
        before = _text_of(path)
        if before is not None and read_unit(before, self.scope) is None:
            raise _foreign(path)
        changed = before != unit.text
        words = ["enable", "--now"] if start else ["enable"]
        commands = [["daemon-reload"], [*words, unit.name]]
        if dry_run:
            steps = tuple(self._typed(command) for command in commands)
            return self._outcome(unit.name, changed=changed, todo=steps)
        _make_home(unit)
        if changed:
            with _writing(path):
                os.makedirs(self.folder, mode=0o755, exist_ok=True)
                _replace(path, unit.text)
        return self._carry_out(unit.name, commands, changed=changed)

    def remove(self, name: str, *, dry_run: bool = False) -> Outcome:
        """Stop the unit (jobs that run finish first) and remove its file; a unit that is not there is no fault.

        Raises:
            Conflict: `service.foreign`.
            CasparianError: `service.permission`.
        """
        path = self.path_of(name)
        text = _text_of(path)
        if text is None:
            return self._outcome(name, changed=False)
        if read_unit(text, self.scope) is None:
            raise _foreign(path)
        stop = ["disable", "--now", name]
        if dry_run:
            return self._outcome(
                name,
                changed=True,
                todo=(self._typed(stop), f"rm {path}", self._typed(["daemon-reload"])),
            )
        answers = self.answers
        done = []
        if answers:
            self._checked(stop)
            done.append(self._typed(stop))
        else:  # as `disable` does it
            for target in ("multi-user.target.wants", "default.target.wants"):
                with _writing(path), contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.folder, target, name))
        with _writing(path):
            os.unlink(path)
        if answers:
            self._checked(["daemon-reload"])
        return self._outcome(name, changed=True, done=tuple(done))

    def start(self, name: str) -> bool:
        """Start an installed unit, and wait until its sentinel serves; whether a manager could be told."""
        if not os.path.isfile(self.path_of(name)) or not self.answers:
            return False
        return self._call("start", "--no-ask-password", name).returncode == 0

    def _read(self, name: str) -> Unit | None:
        text = _text_of(self.path_of(name))
        return None if text is None else read_unit(text, self.scope)

    def _carry_out(self, name: str, commands: list[list[str]], *, changed: bool) -> Outcome:
        if not self.answers:
            todo = tuple(self._typed(command) for command in commands)
            return self._outcome(name, changed=changed, todo=todo)
        for command in commands:
            self._checked(command)
        done = tuple(self._typed(command) for command in commands)
        return self._outcome(name, changed=changed, done=done)

    def _outcome(
        self, name: str, *, changed: bool, done: tuple[str, ...] = (), todo: tuple[str, ...] = ()
    ) -> Outcome:
        return Outcome(
            name=name,
            scope=self.scope,
            path=self.path_of(name),
            changed=changed,
            done=done,
            todo=todo,
        )

    def _state(self, name: str) -> dict[str, str]:
        properties = ",".join(_SHOWN)
        shown = self._call("show", f"--property={properties}", name).stdout
        pairs = (line.partition("=") for line in shown.splitlines())
        return {key: value for key, _, value in pairs if value}

    def _typed(self, arguments: list[str]) -> str:
        user = " --user" if self.scope == "user" else ""
        return f"systemctl{user} {' '.join(arguments)}"

    def _checked(self, arguments: list[str]) -> None:
        done = self._call(*arguments)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise CasparianError(
                f"`{self._typed(arguments)}` failed: {said[-1] if said else f'code {done.returncode}'}",
                code="service.failed",
                hint="`journalctl -e` and `HOME/logs` say more; the unit's file stays where it is",
            )

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        scope = ["--user"] if self.scope == "user" else []
        try:
            return subprocess.run(
                [self._systemctl, *scope, "--no-pager", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="backslashreplace",
                check=False,
                timeout=_CALL_SECONDS_MAX,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(arguments, 1, "", str(error))


def unit_for(
    home: Home,
    scope: Scope,
    *,
    account: str | None = None,
    writable: tuple[str, ...] = (),
    default_sink: str | None = None,
) -> Unit:
    """The unit of a home, for this program.

    Args:
        home: it need not exist yet.
        scope: whose manager.
        account: whom a machine's service runs as; `None`: the home's owner, else whoever asks.
        writable: folders beside the home that jobs write to.
        default_sink: of the home's settings, written to as well.

    Raises:
        UsageError: `service.path`, `service.account`.
    """
    folders = [os.path.abspath(path) for path in writable]
    if default_sink is not None:
        sink = parse_sink(default_sink, base=str(home.root))
        is_file = sink.kind is SinkKind.DUCKDB
        folders.append(os.path.dirname(sink.location) if is_file else sink.location)
    place = program.destination()
    if scope == "system":
        account = account or _owner(home)
        try:
            pwd.getpwnam(account)
        except KeyError:
            raise UsageError(
                f"this machine knows no user `{account}`",
                code="service.account",
                hint="`--account NAME`: whom the service runs as",
            ) from None
    command = program.stable_command()
    return Unit(
        scope=scope,
        program=(check_path(command[0]), *command[1:]),
        home=check_path(str(home.root)),
        account=account or "" if scope == "system" else "",
        writable=tuple(dict.fromkeys(check_path(path) for path in folders)),
        installation=str(place or ""),
    )


def _make_home(unit: Unit) -> None:
    """A unit cannot start where a folder that it may write to is not there."""
    with _writing(unit.home):
        try:
            os.makedirs(unit.home, mode=0o700)
        except FileExistsError:
            return
        if unit.account and os.getuid() == 0:
            entry = pwd.getpwnam(unit.account)
            os.chown(unit.home, entry.pw_uid, entry.pw_gid)


def restart_after(home: Home) -> bool:
    """Start the home's service again after an update: whether there is one, and it serves now.

    Whoever is refused by the manager (an update by an ordinary user, a service of the machine) gets `False`, and starts a
    sentinel of its own or leaves that to the next command.
    """
    name = unit_name(str(home.root))
    return any(manager.start(name) for manager in managers())


def managers() -> tuple[Manager, ...]:
    """The machine's manager and the calling user's."""
    return Manager("system"), Manager("user")


def _owner(home: Home) -> str:
    try:
        return pwd.getpwuid(os.stat(home.root).st_uid).pw_name
    except (OSError, KeyError):
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name


def _user_folder() -> str:
    settings = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(settings, "systemd", "user")


def _text_of(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except FileNotFoundError:
        return None


def _replace(path: str, text: str) -> None:
    temporary = f"{path}.new-{os.getpid()}"  # systemd reads only names that end as units do
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _foreign(path: str) -> Conflict:
    return Conflict(
        f"`{path}` is not a unit that Casparian wrote",
        code="service.foreign",
        hint="look at it; move it away if it is not needed",
    )


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CasparianError(
            f"`{path}` cannot be written: {error.strerror or error}",
            code="service.permission",
            hint="as root, or with `--user` for a service of your own",
        ) from error
