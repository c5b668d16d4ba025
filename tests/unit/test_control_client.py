"""The client of the Control API, against a peer that speaks the real protocol over a real socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import msgspec
import pytest
from fake_sentinel import STATUS, fake_sentinel, rows

from casparian.control import autostart
from casparian.control.client import Client, SentinelFaultError, is_answering, open_socket
from casparian.errors import (
    CasparianError,
    Conflict,
    ContractError,
    IntegrityError,
    ProtocolError,
    QuarantineLimit,
    Refused,
    SentinelUnreachable,
    UsageError,
)
from casparian.paths import Home
from casparian.protocol import control, frame

DISCOVERING = control.Discovering(files=1, files_total=2, size_bytes=3, size_bytes_total=4)
READ = control.Read(view="rules")
ADD = control.AddRule(request_id="r1", pattern="*.log", tag="syslog")


@pytest.fixture
def home(tmp_path):
    return Home.at(tmp_path / "home")


def test_events_arrive_in_order_before_the_reply(home):
    events = [DISCOVERING, msgspec.structs.replace(DISCOVERING, files=2)]
    seen = []
    with (
        fake_sentinel(home, lambda _: [*events, control.Done(message="ok", count=3)]),
        Client.connect(home) as client,
    ):
        reply = client.request(ADD, seen.append)
    assert seen == events
    assert reply == control.Done(message="ok", count=3)


def test_one_connection_serves_many_requests(home):
    with fake_sentinel(home, lambda _: [rows("rule_id", (1,))]) as sentinel:
        with Client.connect(home) as client:
            for _ in range(5):
                client.request(READ)
        assert sentinel.connections == 1
        assert len(sentinel.requests) == 5


FAILURES = {
    1: CasparianError,
    2: UsageError,
    3: SentinelUnreachable,
    4: Refused,
    5: ContractError,
    6: QuarantineLimit,
    7: IntegrityError,
    8: Conflict,
    70: SentinelFaultError,
}


@pytest.mark.parametrize("exit_code", FAILURES)
def test_a_failure_is_raised_as_the_error_of_its_exit_code(home, exit_code):
    failure = control.Failure(code="some.code", message="what", exit_code=exit_code, hint="do this")
    with (
        fake_sentinel(home, lambda _: [failure]),
        Client.connect(home) as client,
        pytest.raises(CasparianError) as caught,
    ):
        client.request(READ)
    assert type(caught.value) is FAILURES[exit_code]
    assert (caught.value.code, caught.value.message, caught.value.hint) == (
        "some.code",
        "what",
        "do this",
    )
    assert caught.value.exit_code == exit_code


def test_a_lost_connection_is_made_again_with_the_same_request_id(home):
    def hang_up_twice(_):
        return [None] if len(sentinel.requests) < 3 else [control.Done(message="ok")]

    with fake_sentinel(home, hang_up_twice) as sentinel, Client.connect(home) as client:
        assert client.request(ADD) == control.Done(message="ok")
        assert [request.request_id for request in sentinel.requests] == ["r1", "r1", "r1"]


def test_events_of_a_lost_attempt_do_not_end_the_request(home):
    def hang_up_after_an_event(_):
        return [DISCOVERING, None] if len(sentinel.requests) == 1 else [control.Done(message="ok")]

    with fake_sentinel(home, hang_up_after_an_event) as sentinel, Client.connect(home) as client:
        assert client.request(ADD) == control.Done(message="ok")


def test_a_sentinel_that_always_hangs_up_is_an_error_and_not_a_loop(home):
    with fake_sentinel(home, lambda _: [None]) as sentinel, Client.connect(home) as client:
        with pytest.raises(SentinelUnreachable) as caught:
            client.request(ADD)
        assert caught.value.code == "sentinel.lost"
        assert len(sentinel.requests) == 4


def test_a_shutdown_is_never_sent_twice(home):
    with fake_sentinel(home, lambda _: [None]) as sentinel, Client.connect(home) as client:
        with pytest.raises(SentinelUnreachable):
            client.request(control.Shutdown())
        assert len(sentinel.requests) == 1


def test_a_reply_of_the_wrong_kind_is_a_protocol_error(home):
    with (
        fake_sentinel(home, lambda _: [control.Done(message="ok")]),
        Client.connect(home) as client,
        pytest.raises(ProtocolError, match="Done where Rows"),
    ):
        client.ask(READ, control.Rows)


@pytest.mark.parametrize("change", [{"version": "99.0.0"}, {"protocol": 99}])
def test_a_sentinel_of_another_version_is_told_apart_from_none(home, change):
    other = msgspec.structs.replace(STATUS, **change)
    with fake_sentinel(home, lambda _: [], other), pytest.raises(SentinelUnreachable) as caught:
        Client.connect(home)
    assert caught.value.code == "sentinel.version"


def test_no_socket_and_a_dead_sentinels_socket_are_both_unreachable(home):
    with pytest.raises(SentinelUnreachable) as caught:
        open_socket(home)
    assert caught.value.code == "sentinel.unreachable"
    with fake_sentinel(home, lambda _: []):
        assert is_answering(home)
    assert home.socket.exists()
    assert not is_answering(home)


def test_a_home_deeper_than_a_socket_address_is_reached(tmp_path):
    deep = Home.at(tmp_path.joinpath(*["a-long-directory-name"] * 10))
    assert len(str(deep.socket)) > 150
    with fake_sentinel(deep, lambda _: [rows("rule_id")]), Client.connect(deep) as client:
        assert client.request(READ) == rows("rule_id")


def test_the_tick_runs_while_a_reply_is_awaited(home):
    ticked = []

    def slow(_):
        while not ticked:
            yield DISCOVERING
        yield control.Done(message="ok")

    with fake_sentinel(home, slow), Client.connect(home) as client:
        client.request(ADD, lambda _: None, on_tick=lambda: ticked.append(1))
    assert ticked


# -- starting ------------------------------------------------------------------------------------


def command_that(script: str):
    """Replacement of `processes.command` that runs a small script instead of a sentinel."""
    return lambda _role, home, *arguments: [
        sys.executable,
        "-c",
        script,
        str(home.root),
        *arguments,
    ]


def test_a_sentinel_that_ends_at_once_is_an_error_with_what_it_said(home, monkeypatch):
    script = "import sys; print('the database is\\x1b[31m broken'); sys.exit(9)"
    monkeypatch.setattr(autostart.processes, "command", command_that(script))
    with pytest.raises(SentinelUnreachable) as caught:
        autostart.connect(home)
    assert caught.value.code == "sentinel.start_failed"
    assert "code 9" in caught.value.message
    assert "the database is\\x1b[31m broken" in caught.value.message


LISTEN = """
import os, socket, sys
sys.path[:0] = {path!r}
from casparian.paths import Home
from fake_sentinel import FakeSentinel
home = Home.at(sys.argv[1])
home.socket.unlink(missing_ok=True)
open(home.root / "arguments", "w").write(" ".join(sys.argv[2:]))
FakeSentinel(home, lambda _: [])
"""


def test_a_sentinel_is_started_on_demand_over_a_stale_socket(home, monkeypatch):
    with fake_sentinel(home, lambda _: []):
        stale = home.socket
    started = []
    popen = subprocess.Popen

    def recorded(*arguments, **named):
        started.append(popen(*arguments, **named))
        return started[-1]

    here = os.path.dirname(__file__)
    root = os.path.dirname(os.path.dirname(here))
    monkeypatch.setattr(
        autostart.processes, "command", command_that(LISTEN.format(path=[root, here]))
    )
    monkeypatch.setattr(subprocess, "Popen", recorded)
    assert stale.exists()
    try:
        with autostart.connect(home, workers=3) as client:
            assert client.hello().workers == 2
        assert (home.root / "arguments").read_text() == "--on-demand --workers 3"
        assert len(started) == 1
        assert os.getsid(started[0].pid) == started[0].pid
    finally:
        for process in started:
            process.returncode = None
            process.kill()
            process.wait()


def test_stopping_where_nothing_runs_says_so(home):
    assert autostart.stop(home) is None


def test_a_socket_file_that_is_no_socket_is_unreachable(home):
    home.run.mkdir(parents=True)
    home.socket.write_text("not a socket")
    with pytest.raises(SentinelUnreachable):
        open_socket(home)


def test_garbage_from_a_peer_is_a_version_error_and_not_a_crash(home):
    home.run.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(home.socket)) if len(str(home.socket)) < 100 else pytest.skip("path too long")
    listener.listen()
    import threading

    def serve():
        channel, _ = listener.accept()
        channel.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        channel.recv(100)
        channel.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(SentinelUnreachable) as caught:
        Client.connect(home)
    assert caught.value.code == "sentinel.version"
    thread.join()
    listener.close()


def test_an_answer_about_the_connection_is_heard_even_when_nothing_could_be_sent(home):
    """The sentinel refuses a client before it reads: what it said on the way out is the error."""
    ours, theirs = socket.socketpair()
    failure = control.Failure(code="sentinel.busy", message="too many", exit_code=3, hint="wait")
    theirs.sendall(frame.encode(frame.Opcode.CONTROL_REPLY, control.encode(failure), number=0))
    theirs.close()
    with pytest.raises(SentinelUnreachable) as caught:
        Client.over(lambda: ours)
    assert (caught.value.code, caught.value.hint) == ("sentinel.busy", "wait")


def test_another_frame_version_names_both_and_says_to_restart(home):
    ours, theirs = socket.socketpair()
    theirs.sendall(frame._HEADER.pack(9, frame.Opcode.CONTROL_REPLY, 0, 1, 0))
    with pytest.raises(SentinelUnreachable, match="version 9, this is 1") as caught:
        Client.over(lambda: ours)
    theirs.close()
    assert caught.value.code == "sentinel.version"
    assert "restart the sentinel" in caught.value.hint


@pytest.mark.parametrize("opcode", [frame.Opcode.CONTROL_REQUEST, frame.Opcode.DISPATCH])
def test_a_frame_that_no_client_may_hear_is_a_version_error(home, opcode):
    ours, theirs = socket.socketpair()
    theirs.sendall(frame.encode(opcode, b"", number=1))
    with pytest.raises(SentinelUnreachable) as caught:
        Client.over(lambda: ours)
    theirs.close()
    assert caught.value.code == "sentinel.version"
