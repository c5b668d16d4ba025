"""Honest parsers work sealed, and one zygote serves many jobs."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from worker_world import World, rows

from casparian.protocol.worker import Receipt
from casparian.worker.cancel import Cancellation
from casparian.worker.executor import Services
from casparian.worker.guest_process import GuestProcess, Guests


@pytest.fixture
def world(tmp_path: Path, services: Services) -> World:
    return World(tmp_path, services)


# What parsers do, each in a guest of its own; the expression gives the text of a row.
LIBRARY = {
    "a module of its own": "util.shout('x')",
    "a deeper module": "__import__('importlib').import_module('.util', __package__).shout('y')",
    "traceback": "trace()",
    "warnings": "warn()",
    "logging": "log()",
    "datetime": "str(datetime.datetime.strptime('2024-02-29 12:00 +0100', '%Y-%m-%d %H:%M %z'))",
    "time zones": "str(datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin')))",
    "local time": "time.strftime('%Z %a %b', time.localtime(0))",
    "regular expressions": "re.sub(r'(?i)[a-zäß]+', '!', 'Straße 12')",
    "decimal": "str(decimal.Decimal('1') / 3)[:6]",
    "sqlite in memory": "str(sqlite3.connect(':memory:').execute('SELECT upper(?), 1+1', ('a',)).fetchone())",
    "codecs": "bytes([0x82, 0xA0]).decode('shift_jis') + b'\\xe4'.decode('iso8859-15')",
    "unknown codec": "unknown_codec()",
    "compression": "gzip.decompress(gzip.compress(b'a')).decode() + lzma.decompress(lzma.compress(b'b')).decode()",
    "zip files": "zipped()",
    "hashes": "hashlib.md5(b'', usedforsecurity=False).hexdigest()[:6] + hashlib.sha3_256(b'').hexdigest()[:6]",
    "json, xml, csv": "json.dumps([1]) + ET.fromstring('<a>b</a>').text + next(csv.reader(['c,d']))[1]",
    "structures": "str(Point.from_buffer_copy(bytes([1, 0, 0, 0])).x)",
    "threads": "threaded()",
    "random": "str(len(os.urandom(8)) + len(secrets.token_bytes(3))) + str(uuid.uuid4().version)",
    "arrow compute": "str(pc.sum(pa.array([1, 2])).as_py()) + str(pa.table({'a': [2, 1]}).sort_by('a')['a'][0])",
    "arrow grouping": "str(pa.table({'a': [1, 1], 'b': [3, 4]}).group_by('a').aggregate([('b', 'sum')])['b_sum'][0])",
    "mapped evidence": "mapped(ctx)",
    "a file object": "open(ctx.source.fileno(), 'rb', closefd=False).read(3).decode()",
}
EXPECTED = {
    "a module of its own": "X!",
    "a deeper module": "Y!",
    "traceback": "parser.py",
    "warnings": "careful",
    "logging": "root",
    "datetime": "2024-02-29 12:00:00+01:00",
    "time zones": "2024-07-01 00:00:00+02:00",
    "local time": "UTC Thu Jan",
    "regular expressions": "! 12",
    "decimal": "0.3333",
    "sqlite in memory": "('A', 2)",
    "codecs": "あä",
    "unknown codec": "LookupError",
    "compression": "ab",
    "zip files": "inside",
    "hashes": "d41d8ca7ffc6",
    "json, xml, csv": "[1]bd",
    "structures": "1",
    "threads": "[0, 1, 4, 9]",
    "random": "114",
    "arrow compute": "31",
    "arrow grouping": "7",
    "mapped evidence": "one",
    "a file object": "one",
}
PARSER = """
import csv, ctypes, datetime, decimal, gzip, hashlib, io, json, logging, lzma, mmap, os, re, secrets, sqlite3, sys
import time, traceback, uuid, warnings, zipfile, zoneinfo
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
import pyarrow as pa
import pyarrow.compute as pc
from casparian.sdk import Row
from . import util

class Point(ctypes.LittleEndianStructure):
    _fields_ = [("x", ctypes.c_uint32)]

def trace():
    try:
        util.fail()
    except ValueError:
        text = traceback.format_exc()
    assert "raise ValueError" in text, text  # the line itself, from memory
    return "parser.py" if "parser:parser.py" in text and "parser:util.py" in text else text

def warn():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("careful")
    warnings.warn("on the log")
    return str(caught[0].message)

def log():
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().warning("x %s", 1)
    return out.getvalue().split()[2]

def unknown_codec():
    try:
        return b"x".decode("no-such-codec")
    except LookupError as error:
        return type(error).__name__

def zipped():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", "inside")
    return zipfile.ZipFile(out).read("a").decode()

def threaded():
    with ThreadPoolExecutor(2) as pool:
        return str(list(pool.map(lambda n: n * n, range(4))))

def mapped(ctx):
    with mmap.mmap(ctx.source.fileno(), ctx.source.size, access=mmap.ACCESS_READ) as view:
        return view[:3].decode()

def parse(ctx):
    yield "lines", Row(0, 4, {"number": 1, "text": EXPRESSION})
"""
UTIL = """
def shout(text):
    return text.upper() + "!"
def fail():
    raise ValueError("no")
"""


@pytest.mark.parametrize("use", LIBRARY)
def test_honest_parsers_work_sealed(world: World, use: str) -> None:
    world.parser(PARSER.replace("EXPRESSION", LIBRARY[use]), util=UTIL)
    world.source(b"one\n")
    receipt = world.run()
    assert receipt.sources[0].code is None, receipt
    assert [row["text"] for row in rows(receipt, "lines")] == [EXPECTED[use]]


def test_a_module_that_is_not_loaded_names_itself_and_the_way_out(world: World) -> None:
    world.parser("""
        def parse(ctx):
            import wave
            yield "lines", []
    """)
    world.source(b"one\n")
    message = world.run().sources[0].message
    assert "`wave` is not loaded" in message
    assert "`preload` in parser.toml" in message


def test_an_optional_module_may_be_absent(world: World) -> None:
    world.parser("""
        from casparian.sdk import Row
        try:
            import lz4.block
        except ImportError:
            lz4 = None
        def parse(ctx):
            yield "lines", Row(0, 4, {"text": str(lz4), "number": 1})
    """)
    world.source(b"one\n")
    assert [row["text"] for row in rows(world.run(), "lines")] == ["None"]


def preloading(world: World, *modules: str) -> Receipt:
    task = msgspec.structs.replace(world.dispatch().parser, preload=modules)
    return world.run(parser=task)


def test_preloaded_modules_can_be_imported(world: World) -> None:
    world.parser("""
        import wave, wsgiref.util
        from casparian.sdk import Row
        def parse(ctx):
            yield "lines", Row(0, 4, {"text": wave.__name__ + wsgiref.util.__name__, "number": 1})
    """)
    world.source(b"one\n")
    usual = world.services.guests
    usual.start()
    before = usual.zygote_pid
    receipt = preloading(world, "wsgiref.util", "wave")
    assert [row["text"] for row in rows(receipt, "lines")] == ["wavewsgiref.util"]
    assert usual.zygote_pid == before  # it has a zygote of its own
    again = world.run(epoch=4)
    assert (
        again.code == "parser.load" or again.sources[0].code is not None
    )  # which others do not share


@pytest.mark.parametrize(
    "module", ["no_such_module", "msgspec.json", "pyarrow.no_such", "msilib", "casparian.db"]
)
def test_a_module_that_cannot_be_preloaded_ends_the_job(world: World, module: str) -> None:
    world.source(b"one\n")
    receipt = preloading(world, module)
    assert receipt.code == "parser.preload"
    assert f"`{module}`" in receipt.message
    assert not receipt.transient
    assert world.run(epoch=4).code is None


def test_many_preload_sets_leave_few_zygotes(tmp_path: Path, services: Services) -> None:
    world = World(tmp_path, services)
    world.source(b"one\n")
    for epoch, module in enumerate(
        ["wave", "sched", "cmd", "symtable", "pyclbr", "netrc"], start=3
    ):
        task = msgspec.structs.replace(world.dispatch().parser, preload=(module,))
        assert world.run(parser=task, epoch=epoch).code is None
        for path in world.staged():
            path.unlink()
    home = str(services.guests._home.root)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in children]
    zygotes = [one for one in commands if b"casparian.guest" in one and os.fsencode(home) in one]
    assert 1 <= len(zygotes) <= 4


def fork(guests: Guests, cancellation: Cancellation) -> GuestProcess:
    return guests.fork(
        memory_bytes=1 << 30, cpu_seconds=60, log_bytes_max=4096, cancellation=cancellation
    )


def test_one_zygote_serves_many_jobs_and_says_how_each_guest_ended(services: Services) -> None:
    services.guests.start()
    zygote = services.guests.zygote_pid
    for _ in range(5):
        cancellation = Cancellation()
        guest = fork(services.guests, cancellation)
        guest.channel.close()  # it ends by itself
        ended = guest.wait(30)
        assert ended is not None
        assert ended.status == 0
        assert ended.memory_peak_bytes > 0
        guest.close()
        cancellation.close()
        assert services.guests.zygote_pid == zygote


def test_guests_die_with_their_zygote(services: Services) -> None:
    cancellation = Cancellation()
    guest = fork(services.guests, cancellation)
    zygote = services.guests.zygote_pid
    assert zygote is not None
    os.kill(zygote, 9)
    assert guest.wait(30) is not None
    guest.close()
    cancellation.close()
