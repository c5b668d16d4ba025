"""How a build was made: an in-toto statement with the predicate of SLSA 1.0, in a DSSE envelope signed by the release key.

It says what a build on one's own machine can honestly say (level 1): from which commit, whether the working tree was clean, from
which locks and inputs, by hash. What makes it worth more is that anybody can build the same bytes from the same inputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from bundle.source import ROOT, Source, tracked
from casparian.trust import documents, envelope
from casparian.trust.keys import SigningKey

PREDICATE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "https://casparian.dev/appliance/v1"
BUILDER: Final = "https://casparian.dev/bundle/build/v1"
# What decides what is built, beside the sources: the locks of all packages and of the interpreter.
_LOCKS: Final = ("Cargo.lock", "requirements", "offline-wheels/locks", "bundle/python.toml", "bundle/prune.toml")  # fmt: skip


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What the statement is about."""

    version: str
    release: int
    kind: str
    source: Source
    tree: Mapping[str, Any]  # the document beside the tree
    inputs: Mapping[str, str]  # SHA-256 of wheels, packages, roots by name
    subjects: Mapping[str, str]  # SHA-256 of what was made by path


def make_provenance(built: Built, key: SigningKey) -> bytes:
    """The signed envelope."""
    return envelope.seal(documents.encode(_statement(built)), [key])


def _statement(built: Built) -> dict[str, Any]:
    locks = {
        path: hashlib.sha256((ROOT / path).read_bytes()).hexdigest()
        for path in tracked(ROOT, *_LOCKS)
        if not path.endswith((".in", ".md"))
    }
    return {
        "_type": envelope.STATEMENT_TYPE,
        "predicateType": PREDICATE,
        "subject": [_described(name, digest) for name, digest in sorted(built.subjects.items())],
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "kind": built.kind,
                    "release": built.release,
                    "version": built.version,
                },
                "internalParameters": {
                    "clean": not built.source.dirty,
                    "source_date": built.source.built,
                    "tree": _plain(built.tree),
                },
                "resolvedDependencies": [
                    {
                        "digest": {"gitCommit": built.source.commit},
                        "name": "source",
                    },
                    *(_described(name, digest) for name, digest in sorted(locks.items())),
                    *(_described(name, digest) for name, digest in sorted(built.inputs.items())),
                ],
            },
            "runDetails": {"builder": {"id": BUILDER, "version": {"casparian": built.version}}},
        },
    }


def _described(name: str, digest: str) -> dict[str, Any]:
    return {"digest": {"sha256": digest}, "name": name}


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree's document without what only names other files."""
    return {
        key: value for key, value in tree.items() if key not in ("packages", "libraries", "inside")
    }
