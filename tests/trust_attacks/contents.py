"""What a statement says, and whether the parser is what it says."""

from __future__ import annotations

import base64

from casparian.trust.decisions import decision_payload
from casparian.trust.statement import sign
from tests.factories.trust import DECISION, FILES, MANIFEST, payload_for, statement_for
from tests.trust_attacks.table import altered, attack, resigned, verify


@attack("one byte of a file", "trust.tampered")
def _(o, _):
    code = bytearray(FILES["parser.py"])
    code[3] ^= 1
    verify(o, {**FILES, "parser.py": bytes(code)}, statement_for(FILES, o.alice))


@attack("a byte appended to a file", "trust.tampered")
def _(o, _):
    files = {**FILES, "parser.py": FILES["parser.py"] + b"\n"}
    verify(o, files, statement_for(FILES, o.alice))


@attack("another payload under the signature", "trust.tampered")
def _(o, _):
    forged = payload_for(FILES, serial=99)

    def put(document):
        document["payload"] = base64.b64encode(forged).decode()

    verify(o, FILES, altered(statement_for(FILES, o.alice), put))


@attack("the statement of another parser", "trust.extra_file")
def _(o, _):
    other = {name: FILES[name] for name in ("parser.toml", "contract.toml", "parser.py")}
    verify(o, FILES, statement_for(other, o.alice))


@attack("the statement of another version", "trust.tampered")
def _(o, _):
    older = {**FILES, "parser.toml": MANIFEST.replace(b"1.2.0", b"1.1.0")}
    verify(o, FILES, statement_for(older, o.alice))


@attack("an extra file", "trust.extra_file")
def _(o, _):
    verify(o, {**FILES, "sitecustomize.py": b""}, statement_for(FILES, o.alice))


@attack("a missing file", "trust.missing_file")
def _(o, _):
    files = {name: FILES[name] for name in FILES if name != "data/map.json"}
    verify(o, files, statement_for(FILES, o.alice))


@attack("another parser's name in the statement", "trust.manifest")
def _(o, _):
    def rename(document):
        document["predicate"]["name"] = "evtx.other"

    verify(o, FILES, resigned(o, rename))


@attack("another entry in the statement", "trust.manifest")
def _(o, _):
    def point(document):
        document["predicate"]["entry"] = "contract.toml:parse"

    verify(o, FILES, resigned(o, point))


@attack("another artifact in the statement", "trust.manifest")
def _(o, _):
    def lie(document):
        document["predicate"]["artifact_hash"] = "0" * 64

    verify(o, FILES, resigned(o, lie))


@attack("only one of a file's hashes fits", "trust.tampered")
def _(o, _):
    def lie(document):
        document["subject"][0]["digest"]["sha256"] = "0" * 64

    verify(o, FILES, resigned(o, lie))


PATHS = {
    "up": "../x.py",
    "absolute": "/etc/x.py",
    "up inside": "a/../../x",
    "backslash": "a\\b.py",
    "drive": "C:x.py",
    "empty part": "a//b.py",
    "dot": "./a.py",
    "homoglyph": "pars\u0435r.py",
    "hidden": ".parser.py",
    "hidden folder": ".git/hooks",
    "trailing dot": "parser.py.",
    "trailing space": "parser.py ",
    "device of Windows": "aux.py",
    "nul": "a\x00b.py",
    "newline": "a\nb.py",
    "empty": "",
    "very long": "a" * 101,
    "tilde": "~/x.py",
}
for _name, _path in PATHS.items():

    def _with_path(o, _, path=_path):
        def put(document):
            document["subject"][0]["name"] = path

        verify(o, FILES, resigned(o, put))

    attack(f"path: {_name}", "trust.path")(_with_path)


@attack("two paths that differ in case", "trust.path")
def _(o, _):
    def add(document):
        document["subject"].append({**document["subject"][-1], "name": "PARSER.toml"})

    verify(o, FILES, resigned(o, add))


@attack("a path that is a file and a folder", "trust.path")
def _(o, _):
    def add(document):
        document["subject"].append({**document["subject"][-1], "name": "parser.toml/x"})

    verify(o, FILES, resigned(o, add))


@attack("a statement that lists itself", "trust.malformed")
def _(o, _):
    def add(document):
        document["subject"].append({**document["subject"][-1], "name": "statement.dsse.json"})

    verify(o, FILES, resigned(o, add))


NAMES = {
    "cyrillic": "evt\u0445.lab",
    "upper case": "EVTX.lab",
    "zero width": "evtx.lab\u200b",
    "space": "evtx lab",
    "full width": "\uff45vtx",
    "newline": "evtx.lab\n",
    "slash": "evtx/../lab",
    "two dots": "evtx..lab",
    "very long": "e" * 65,
}
for _name, _parser in NAMES.items():

    def _with_name(o, _, parser=_parser):
        def put(document):
            document["predicate"]["name"] = parser

        verify(o, FILES, resigned(o, put))

    attack(f"name: {_name}", "trust.name")(_with_name)


@attack("more files than a parser may have", "trust.too_large")
def _(o, _):
    def add(document):
        one = document["subject"][0]
        document["subject"] = [{**one, "name": f"f{n:05}"} for n in range(1_001)]

    verify(o, FILES, resigned(o, add))


@attack("a decision instead of a statement", "trust.malformed")
def _(o, _):
    verify(o, FILES, sign(decision_payload(DECISION), [o.alice]))


@attack("an unknown field in the statement", "trust.malformed")
def _(o, _):
    def add(document):
        document["predicate"]["allow"] = "everything"

    verify(o, FILES, resigned(o, add))


@attack("a serial that is true", "trust.malformed")
def _(o, _):
    def put(document):
        document["predicate"]["serial"] = True

    verify(o, FILES, resigned(o, put))


@attack("a key twice in the signed statement", "trust.malformed")
def _(o, _):
    payload = payload_for(FILES).replace(b'"serial":5', b'"serial":9,"serial":5')
    verify(o, FILES, sign(payload, [o.alice]))
