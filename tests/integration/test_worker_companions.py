"""Sources with companions: opened, hashed and given to both guests beside the source; a fault of one is the source's."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec
import pytest
from worker_world import World, rows

from casparian.domain.parsers import COMPANIONS_MAX
from casparian.guest.bridge import Bridge
from casparian.guest.input import Input
from casparian.protocol import frame
from casparian.protocol.frame import Opcode
from casparian.protocol.guest import Companion, GuestSource
from casparian.worker.evidence import Evidence
from casparian.worker.executor import Services

PARSER = """
    import os
    from casparian.sdk import Row

    def parse(ctx):
        text = ctx.source.read()
        logs = ctx.source.companions
        for role in logs:
            try:
                os.write(logs[role].fileno(), b"forged")
                raise RuntimeError("the companion can be written to")
            except OSError:
                pass
        yield "lines", Row(0, len(text), {
            "number": len(logs),
            "text": text.decode() + repr({role: log.read() for role, log in sorted(logs.items())}),
        })
"""


@pytest.fixture
def world(tmp_path: Path, services: Services) -> World:
    world = World(tmp_path, services)
    world.parser(PARSER)
    return world


def test_a_parser_reads_companions_by_role_and_cannot_write_to_them(world: World) -> None:
    world.source(b"one", companions={"LOG1": b"first", "LOG2": b""})
    world.source(b"two")
    world.source(
        b"six", companions={f"L{n}": bytes([64 + n]) for n in range(1, COMPANIONS_MAX + 1)}
    )
    receipt = world.run()
    assert [source.code for source in receipt.sources] == [None, None, None]
    texts = [row["text"] for row in rows(receipt, "lines")]
    assert texts[:2] == ["one{'LOG1': b'first', 'LOG2': b''}", "two{}"]
    assert texts[2] == "six" + repr(
        {f"L{n}": bytes([64 + n]) for n in range(1, COMPANIONS_MAX + 1)}
    )
    assert all(source.ledger is not None and source.ledger.balanced for source in receipt.sources)


def test_a_companion_that_changed_or_went_away_takes_its_source_out_and_no_other(
    world: World,
) -> None:
    same_size = world.source(b"one", companions={"LOG1": b"first"})
    longer = world.source(b"two", companions={"LOG1": b"first"})
    gone = world.source(b"six", companions={"LOG1": b"first", "LOG2": b"second"})
    link = world.source(b"ten", companions={"LOG1": b"first"})
    world.source(b"fit", companions={"LOG1": b"first"})
    same_size.with_name(f"{same_size.name}.LOG1").write_bytes(b"FIRST")
    longer.with_name(f"{longer.name}.LOG1").write_bytes(b"first and more")
    gone.with_name(f"{gone.name}.LOG2").unlink()
    swapped = link.with_name(f"{link.name}.LOG1")
    swapped.rename(link.with_name("elsewhere"))
    swapped.symlink_to("elsewhere")
    receipt = world.run()
    assert [source.code for source in receipt.sources] == [
        "source.changed",
        "source.changed",
        "source.unreadable",
        "source.changed",
        None,
    ]
    assert ".LOG1" in receipt.sources[0].message
    assert ".LOG2" in receipt.sources[2].message
    assert [row["text"] for row in rows(receipt, "lines")] == ["fit{'LOG1': b'first'}"]
    assert not _open_below(world.directory)


def _open_below(directory: Path) -> list[str]:
    """Evidence that this process still holds open."""
    links = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if _is_open(n)]
    return [link for link in links if link.startswith(f"{directory}/source-")]


def _is_open(number: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{number}")


def test_a_companion_that_is_written_to_while_it_is_read_is_noticed(world: World) -> None:
    path = world.source(b"one", companions={"LOG1": b"first"})
    beside = path.with_name(f"{path.name}.LOG1")
    with Evidence(world.sources[0]) as evidence:
        assert evidence.size_bytes == 8
        assert evidence.verify() is None
        assert evidence.touched() is None
        os.utime(beside, ns=(1, 1))
        touched = evidence.touched()
        assert touched is not None
        assert (touched.code, touched.transient) == ("source.changed", True)
        beside.write_bytes(b"FIRST")
        changed = evidence.verify()
        assert changed is not None
        assert (changed.code, changed.transient) == ("source.changed", False)
        assert ".LOG1" in changed.message


def test_a_guest_refuses_other_descriptors_than_the_message_names() -> None:
    source = GuestSource(
        index=0, size_bytes=1, display_path="x", companions=(Companion(role="LOG", size_bytes=2),)
    )
    assert Input.of(source, [5, 6]).logs == [("LOG", 6, 2)]
    for descriptors in ([], [5], [5, 6, 7]):
        with pytest.raises(RuntimeError, match="expected 2 descriptors"):
            Input.of(source, descriptors)


def test_a_source_without_companions_costs_no_byte_more_on_the_bridge() -> None:
    source = GuestSource(index=0, size_bytes=1, display_path="x")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(source)) == {
        "index": 0,
        "size_bytes": 1,
        "display_path": "x",
    }


def test_all_descriptors_come_with_the_first_byte_of_the_frame(tmp_path: Path) -> None:
    host, guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    opened = [os.open(tmp_path, os.O_RDONLY) for _ in range(1 + COMPANIONS_MAX)]
    with host, guest:
        socket.send_fds(host, [frame.encode(Opcode.BRIDGE_SOURCE, b"payload")], opened)
        opcode, payload, received = Bridge(guest).receive()
    assert (opcode, payload, len(received)) == (Opcode.BRIDGE_SOURCE, b"payload", len(opened))
    for descriptor in (*opened, *received):
        os.close(descriptor)
