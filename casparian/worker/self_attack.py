"""The host's side of the self-attacks: bait, guests that take it, and what really came of it.

A guest that survives an attack goes on to the next one; one that is killed, or whose attack worked,
is replaced. What the host can see from outside (a file, a connection) counts more than what the guest
says: an attack that claims to have worked and left nothing on the host was contained. An attack
without an answer proves nothing: it is tried again, and then said so.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Self, TypeVar

import msgspec

from casparian.domain.isolation import ATTACKS, SUCCEEDED, repelled
from casparian.domain.parsers import ConfigValue, Limits, ParserKind
from casparian.guest.self_attack import (
    CHILD_EXIT_CODE,
    DONE,
    INPUT_BYTES,
    PLANTED,
    READABLE,
    VICTIM,
)
from casparian.protocol.frame import Opcode
from casparian.protocol.guest import Attacked, GuestJob, GuestSource, Ready
from casparian.worker import isolation
from casparian.worker.bridge import GuestClosed, HostBridge, Received
from casparian.worker.cancel import Cancellation
from casparian.worker.faults import Exit, GuestFault, JobFault
from casparian.worker.guest_process import Guests, Needs, Program
from casparian.worker.isolation import Measured

_MEMORY_MB: Final = 256
_LIMITS: Final = Limits(memory_mb=_MEMORY_MB, cpu_seconds=60)
_ANSWER_SECONDS: Final = 60.0
_TRIES: Final = 3
_EPOCH: Final = 1
_BAIT_MODE: Final = 0o644
_NO_ANSWER: Final = "unproven no answer"
_ZYGOTE_DIED: Final = "unproven the zygote died"
_ENDED_BY_OTHERS: Final = frozenset(
    {_NO_ANSWER, _ZYGOTE_DIED, f"unproven died of signal {signal.SIGKILL:d}"}
)


class Bait:
    """What attacks aim at: a directory that every user may write to, listeners, an input."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            # Others may pass the outer directory and cannot list it; the inner one is open to whoever knows its name.
            outer = tempfile.mkdtemp(prefix="casparian-bait-")
            stack.callback(shutil.rmtree, outer, ignore_errors=True)
            os.chmod(outer, 0o711)  # noqa: S103 - only the wall may stop a guest of another user
            self.directory = os.path.join(outer, secrets.token_hex(8))
            os.mkdir(self.directory)
            os.chmod(self.directory, 0o777)  # noqa: S103 - the same; nobody else knows its name
            self.lay()
            self.token = secrets.token_hex(8)
            self.unix_name = f"casparian-{secrets.token_hex(8)}"
            self._tcp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            self._udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            self._unix = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            self.tcp_port = self.udp_port = 0
            try:
                for listener in (self._tcp, self._udp):
                    listener.bind(("127.0.0.1", 0))
                self._tcp.listen(8)
                self.tcp_port = self._tcp.getsockname()[1]
                self.udp_port = self._udp.getsockname()[1]
            except (
                OSError
            ):  # a machine without a loopback interface: then the guest's word is all there is
                self.tcp_port = self.udp_port = 9
            self._unix.bind(f"\0{self.unix_name}")
            self._unix.listen(8)
            for listener in (self._tcp, self._udp, self._unix):
                listener.setblocking(False)
            self._close = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def lay(self) -> None:
        """Put the files as they were."""
        for name in (READABLE, VICTIM):
            path = os.path.join(self.directory, name)
            with open(path, "wb") as file:
                file.write(INPUT_BYTES)
            os.chmod(path, _BAIT_MODE)
        planted = os.path.join(self.directory, PLANTED)
        if os.path.lexists(planted):
            os.unlink(planted)

    def config(self) -> dict[str, ConfigValue]:
        """What a guest is told."""
        return {
            "directory": self.directory,
            "tcp_port": self.tcp_port,
            "udp_port": self.udp_port,
            "unix_name": self.unix_name,
            "host_pid": os.getpid(),
            "memory_bytes": _MEMORY_MB << 20,
            "token": self.token,
        }

    def open_input(self) -> int:
        """A descriptor as sources have."""
        return os.open(os.path.join(self.directory, READABLE), os.O_RDONLY | os.O_CLOEXEC)

    def effect(self, name: str) -> bool | None:
        """Whether the host sees what the attack wanted; `None` when it has no way to look."""
        look = _EFFECTS.get(name)
        return None if look is None else look(self)

    def planted(self) -> bool:
        """A file that was not there."""
        return os.path.lexists(os.path.join(self.directory, PLANTED))

    def removed(self) -> bool:
        """A file that was there."""
        return not os.path.lexists(os.path.join(self.directory, VICTIM))

    def changed(self) -> bool:
        """Another mode than the one that was given."""
        found = os.stat(os.path.join(self.directory, READABLE))
        return stat.S_IMODE(found.st_mode) != _BAIT_MODE

    def written(self) -> bool:
        """Other bytes than those that were written."""
        with open(os.path.join(self.directory, READABLE), "rb") as file:
            return file.read() != INPUT_BYTES

    def tcp_reached(self) -> bool:
        """A connection that waits."""
        return _accepted(self._tcp)

    def unix_reached(self) -> bool:
        """The same on the local socket."""
        return _accepted(self._unix)

    def udp_reached(self) -> bool:
        """A datagram with our token."""
        while True:
            try:
                data = self._udp.recv(1024)
            except OSError:
                return False
            if data == self.token.encode():
                return True


_EFFECTS: Final[dict[str, Callable[[Bait], bool]]] = {
    "create_file": Bait.planted,
    "remove_file": Bait.removed,
    "change_mode": Bait.changed,
    "write_input": Bait.written,
    "tcp_connect": Bait.tcp_reached,
    "udp_send": Bait.udp_reached,
    "unix_connect": Bait.unix_reached,
}


def _accepted(listener: socket.socket) -> bool:
    try:
        channel, _ = listener.accept()
    except OSError:
        return False
    channel.close()
    return True


def outcome_of(said: str | None, end: Exit | None, *, effect: bool | None) -> str:
    """What came of an attack.

    Args:
        said: the guest's answer; `None` when none came.
        end: how the guest ended instead of answering.
        effect: whether the host sees the effect; `None` when it cannot look.
    """
    if effect:
        return SUCCEEDED
    if said == DONE:
        return SUCCEEDED if effect is None else "denied no effect on the host"
    if said is not None:
        return said
    if end is None or end.killed:
        return _NO_ANSWER
    if end.status is None:
        return _ZYGOTE_DIED
    if os.WIFEXITED(end.status):
        code = os.WEXITSTATUS(end.status)
        return SUCCEEDED if code == CHILD_EXIT_CODE else f"unproven exit {code}"
    return (
        "killed SIGSYS"
        if os.WTERMSIG(end.status) == signal.SIGSYS
        else f"unproven died of signal {os.WTERMSIG(end.status)}"
    )


class _Attacker:
    """One guest that attacks."""

    def __init__(
        self,
        guests: Guests,
        bait: Bait,
        cancellation: Cancellation,
        needs: Needs,
        program: Program | None,
    ) -> None:
        self._cancellation = cancellation
        self._process = guests.fork(
            memory_bytes=_LIMITS.memory_mb << 20,
            cpu_seconds=_LIMITS.cpu_seconds,
            log_bytes_max=_LIMITS.log_kb_max << 10,
            cancellation=cancellation,
            needs=needs,
            program=program,
        )
        self._bridge = HostBridge(self._process.channel, _EPOCH, cancellation)
        job = GuestJob(
            task="self_attack",
            parser_name="self_attack",
            kind=ParserKind.NATIVE,
            entry="",
            account="",
            config=bait.config(),
            outputs=(),
            files={},
            limits=_LIMITS,
        )
        try:
            self._bridge.send(Opcode.BRIDGE_JOB, job, idle_seconds=_ANSWER_SECONDS)
            answer = self._bridge.receive(_ANSWER_SECONDS)
            self.claimed = _decoded(answer, Opcode.BRIDGE_READY, Ready).isolation
            self.observed = isolation.observe(self._process.pid)
        except BaseException:
            self.close()
            raise

    def attack(self, index: int, name: str, bait: Bait) -> str:
        """Try one; the guest may be dead afterwards."""
        descriptor = bait.open_input()
        source = GuestSource(index=index, size_bytes=len(INPUT_BYTES), display_path=name)
        said, end = None, None
        try:
            self._bridge.send(
                Opcode.BRIDGE_SOURCE, source, idle_seconds=_ANSWER_SECONDS, descriptors=[descriptor]
            )
            answer = self._bridge.receive(_ANSWER_SECONDS)
            said = _decoded(answer, Opcode.BRIDGE_ATTACKED, Attacked).outcome
        except GuestClosed:
            end = self._process.wait(_ANSWER_SECONDS)
            self._cancellation.check()
        except GuestFault as fault:
            said = f"unproven {fault.code}"
        finally:
            os.close(descriptor)
        return outcome_of(said, end, effect=bait.effect(name))

    def close(self) -> None:
        """Kill and reap it."""
        self._process.close()
        self._cancellation.forget(self._process.kill)


def measure(
    guests: Guests,
    cancellation: Cancellation,
    needs: Needs = Needs(),  # noqa: B008 - a frozen value
    *,
    program: bool = False,
) -> Measured:
    """Run every attack in guests of this worker.

    Args:
        guests: where they come from.
        cancellation: of the job that waits.
        needs: what the guests of that job have loaded.
        program: that job's guest becomes a program: these attack from behind the same filters, with the one `execveat` spent.

    Raises:
        JobFault: the bait could not be laid (`isolation.unmeasured`), no guest could be had, or guests
            ended again and again without an answer.
        Cancelled: the job that waits for it was cancelled.
    """
    outcomes: dict[str, str] = {}
    first: _Attacker | None = None
    attacker: _Attacker | None = None
    with _bait() as bait:
        try:
            for index, name in enumerate(ATTACKS):
                for _ in range(_TRIES):
                    attacker = attacker or _attacker(
                        guests, bait, cancellation, needs, Program(None) if program else None
                    )
                    first = first or attacker
                    outcomes[name] = attacker.attack(index, name, bait)
                    if not outcomes[name].startswith("denied "):
                        attacker.close()
                        attacker = None
                        bait.lay()
                    if repelled(outcomes[name]) or outcomes[name] == SUCCEEDED:
                        break
                else:
                    if outcomes[name] in _ENDED_BY_OTHERS:
                        raise JobFault(
                            "guest.killed",
                            f"guests that attack themselves were killed from outside ({name})",
                            transient=True,
                        )
        finally:
            if attacker is not None:
                attacker.close()
    assert first is not None
    return Measured(claimed=first.claimed, observed=first.observed, outcomes=outcomes)


def _bait() -> Bait:
    try:
        return Bait()
    except OSError as error:
        raise JobFault(
            "isolation.unmeasured", f"the self-attacks could not be prepared: {error}"
        ) from error


def _attacker(
    guests: Guests,
    bait: Bait,
    cancellation: Cancellation,
    needs: Needs,
    program: Program | None,
) -> _Attacker:
    for attempt in range(1, _TRIES + 1):
        try:
            return _Attacker(guests, bait, cancellation, needs, program)
        except GuestFault as fault:
            cancellation.check()
            if attempt == _TRIES:
                raise JobFault(
                    "guest.fork", f"no guest could be confined: {fault.message}", transient=True
                ) from fault
    raise AssertionError("unreachable")


T = TypeVar("T")


def _decoded(answer: Received, opcode: Opcode, kind: type[T]) -> T:
    if answer.opcode is not opcode:
        raise GuestFault("bridge.protocol", f"the guest sent {answer.opcode.name}")
    try:
        return msgspec.msgpack.decode(answer.payload, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise GuestFault("bridge.protocol", f"the guest sent no {kind.__name__}") from error
