"""The bytes of an envelope, and a parser's folder on disk."""

from __future__ import annotations

import os
import shutil

from casparian.trust.artifact import read_signed
from tests.factories.trust import FILES, statement_for
from tests.trust_attacks.table import altered, attack, verify

attack("white space in the envelope", "trust.malformed")(
    lambda o, _: verify(
        o, FILES, altered(statement_for(FILES, o.alice), lambda d: d, canonical=False)
    )
)
attack("a key twice in the envelope", "trust.malformed")(
    lambda o, _: verify(o, FILES, statement_for(FILES, o.alice)[:-1] + b',"payload":"e30="}')
)
attack("an unknown field in the envelope", "trust.malformed")(
    lambda o, _: verify(
        o, FILES, altered(statement_for(FILES, o.alice), lambda d: d.update(note="hello"))
    )
)
attack("half a million brackets", "trust.malformed")(lambda o, _: verify(o, FILES, b"[" * 500_000))
attack("two megabytes of envelope", "trust.too_large")(
    lambda o, _: verify(o, FILES, b"[" * (2 << 20))
)
attack("a number with four thousand digits", "trust.malformed")(
    lambda o, _: verify(o, FILES, b'{"payload":' + b"1" * 4_400 + b"}")
)
attack("NaN", "trust.malformed")(lambda o, _: verify(o, FILES, b'{"payload":NaN}'))


@attack("another payload type", "trust.malformed")
def _(o, _):
    def put(document):
        document["payloadType"] = "application/json"

    verify(o, FILES, altered(statement_for(FILES, o.alice), put))


@attack("base64 with spare bits", "trust.malformed")
def _(o, _):
    def spare(document):
        sig = document["signatures"][0]["sig"]  # 64 bytes: `..==`, four spare bits
        document["signatures"][0]["sig"] = sig[:-3] + chr(ord(sig[-3]) + 1) + "=="

    verify(o, FILES, altered(statement_for(FILES, o.alice), spare))


@attack("the other alphabet of base64", "trust.malformed")
def _(o, _):
    def put(document):
        document["payload"] = document["payload"][:-4] + "-_-_"

    verify(o, FILES, altered(statement_for(FILES, o.alice), put))


def folder(o, path):
    """A signed parser on disk."""
    made = path / "evtx.lab"
    for name, content in {**FILES, "statement.dsse.json": statement_for(FILES, o.alice)}.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    return made


def verify_folder(o, made):
    files, statement = read_signed(str(made))
    verify(o, files, statement)


@attack("a file that is a link", "artifact.special_file")
def _(o, path):
    made = folder(o, path)
    shutil.move(made / "parser.py", path / "elsewhere.py")
    os.symlink(path / "elsewhere.py", made / "parser.py")
    verify_folder(o, made)


@attack("a folder that is a link", "artifact.special_file")
def _(o, path):
    made = folder(o, path)
    shutil.move(made / "data", path / "data")
    os.symlink(path / "data", made / "data")
    verify_folder(o, made)


@attack("a statement that is a link", "artifact.special_file")
def _(o, path):
    made = folder(o, path)
    shutil.move(made / "statement.dsse.json", path / "s")
    os.symlink(path / "s", made / "statement.dsse.json")
    verify_folder(o, made)


@attack("a FIFO", "artifact.special_file")
def _(o, path):
    made = folder(o, path)
    os.mkfifo(made / "pipe")
    verify_folder(o, made)


@attack("a socket", "artifact.special_file")
def _(o, path):
    import socket

    made = folder(o, path)
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(made)  # a socket's path is short
        try:
            server.bind("s")
        finally:
            os.chdir(here)
        verify_folder(o, made)


@attack("an extra file on disk", "trust.extra_file")
def _(o, path):
    made = folder(o, path)
    (made / "data" / "conftest.py").write_bytes(b"")
    verify_folder(o, made)


@attack("a second statement below the first", "trust.extra_file")
def _(o, path):
    made = folder(o, path)
    shutil.copy(made / "statement.dsse.json", made / "data")
    verify_folder(o, made)
