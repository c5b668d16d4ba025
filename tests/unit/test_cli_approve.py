"""`casparian approve` against a peer that speaks the real protocol, and lies where a test wants it to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from fake_sentinel import STATUS, fake_sentinel

from casparian.cli.app import Globals
from casparian.cli.commands.approve import command as approve
from casparian.cli.main import root, run
from casparian.paths import Home
from casparian.protocol import control
from casparian.protocol.identity import approval_content_hash
from casparian.trust.envelope import open_envelope
from tests.factories.trust import QUICK, key

FAR_NS = 4_000_000_000 * 1_000_000_000
COLUMNS = (
    *("approval_id", "kind", "subject", "scope", "content", "content_hash", "diff", "requested_by"),
    *("requested_at_ns", "expires_at_ns", "state", "ended_at_ns", "superseded_by"),
)
DIFF = ["parser p", "- rows_max = 5", "+ rows_max = 9"]


def row(**changes: Any) -> dict[str, Any]:
    """A request as an honest sentinel gives it."""
    values: dict[str, Any] = {
        "approval_id": "k7m2q9xd",
        "kind": "limits.raise",
        "subject": "p",
        "scope": "settings/limits.p",
        "content": '{"limits":{"rows_max":9},"parser":"p"}',
        "diff": json.dumps(DIFF),
        "requested_by": "examiner(1000)",
        "requested_at_ns": 1,
        "expires_at_ns": FAR_NS,
        "state": "pending",
        "ended_at_ns": None,
        "superseded_by": None,
    }
    values["content_hash"] = approval_content_hash(
        values["kind"], values["subject"], values["scope"], values["content"], DIFF
    )
    return values | changes


class Peer:
    """Rows it has, and decisions it was handed."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = rows
        self.decided: list[control.Decide] = []

    def __call__(self, request: control.Request) -> Iterator[control.Reply]:
        match request:
            case control.Read(view="approvals"):
                typed = str(request.filters.get("approval_id", ""))
                found = [r for r in self.rows if r["approval_id"].startswith(typed)]
                yield control.Rows(
                    columns=COLUMNS, rows=tuple(tuple(r[c] for c in COLUMNS) for r in found)
                )
            case control.Read():
                yield control.Rows(columns=(), rows=())
            case control.Decide():
                self.decided.append(request)
                yield control.Done(message="accepted", count=1, fields={"state": "accepted"})
            case _:
                raise AssertionError(request)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path / "home")


@pytest.fixture
def key_options(tmp_path: Path) -> tuple[str, ...]:
    key("alice").write(tmp_path / "alice.key", "secret", kdf=QUICK)
    (tmp_path / "passphrase").write_text("secret\n")
    return ("--key", str(tmp_path / "alice.key"), "--passphrase-file", str(tmp_path / "passphrase"))


def call(capfd: Any, home: Home, peer: Peer, *arguments: str) -> tuple[int, Any, str]:
    home.socket.unlink(missing_ok=True)  # of the call before
    for name in [name for name in os.environ if name.startswith("CASPARIAN_")]:
        del os.environ[name]
    with fake_sentinel(home, peer):
        code = run(["--home", str(home.root), "approve", *arguments, "--json"])
    out, err = capfd.readouterr()
    return code, json.loads(out), err


def test_what_is_signed_is_what_was_shown(
    capfd: Any, home: Home, key_options: tuple[str, ...]
) -> None:
    peer = Peer(row())
    code, document, _ = call(capfd, home, peer, "accept", "k7", *key_options, "--reason", "seen it")
    assert (code, document["state"]) == (0, "accepted")
    (decided,) = peer.decided
    envelope = open_envelope(decided.envelope, "the decision")
    (keyid,) = envelope.signatures
    public = key("alice").public
    assert keyid == public.keyid
    assert public.verifies(envelope.signatures[keyid], envelope.signed_bytes)
    assert json.loads(envelope.payload)["predicate"] | {"issued": ""} == {
        "approval_id": "k7m2q9xd",
        "kind": "limits.raise",
        "subject": "p",
        "content_hash": row()["content_hash"],
        "decision": "accept",
        "reason": "seen it",
        "issued": "",
        "home_id": STATUS.home_id,
    }


def test_a_key_is_named_as_everywhere(
    capfd: Any, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "config" / "casparian" / "keys"
    mine.mkdir(parents=True)
    key("alice").write(mine / "alice.key", "secret", kdf=QUICK)
    (tmp_path / "passphrase").write_text("secret\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    peer = Peer(row())
    options = ("--key", "alice", "--passphrase-file", str(tmp_path / "passphrase"))
    code, _, _ = call(capfd, home, peer, "accept", "k7", *options, "--reason", "seen it")
    assert code == 0
    (decided,) = peer.decided
    assert list(open_envelope(decided.envelope, "the decision").signatures) == [
        key("alice").public.keyid
    ]


LIES = {
    "another content": {"content": '{"limits":{"rows_max":9999},"parser":"p"}'},
    "another diff": {"diff": json.dumps([*DIFF[:2], "+ rows_max = 6"])},
    "a line more": {"diff": json.dumps([*DIFF, "harmless"])},
    "another subject": {"subject": "q"},
    "another kind": {"kind": "contract.promote"},
    "another scope": {"scope": "settings/other"},
    "another hash": {"content_hash": "0" * 64},
}


@pytest.mark.parametrize("what", LIES)
@pytest.mark.parametrize("verb", ["show", "accept"])
def test_what_does_not_fit_its_hash_is_neither_shown_as_good_nor_signed(
    capfd: Any, home: Home, key_options: tuple[str, ...], what: str, verb: str
) -> None:
    peer = Peer(row(**LIES[what]))
    more = (*key_options, "--reason", "seen it") if verb == "accept" else ()
    code, document, _ = call(capfd, home, peer, verb, "k7m2q9xd", *more)
    assert (code, document["error"]["code"]) == (7, "approval.altered")
    assert peer.decided == []


def test_a_beginning_that_fits_two_is_refused_and_a_whole_id_is_not(capfd: Any, home: Home) -> None:
    peer = Peer(row(), row(approval_id="k7aaaaaa"))
    code, document, _ = call(capfd, home, peer, "show", "k7")
    assert (code, document["error"]["code"]) == (2, "approval.ambiguous")
    code, document, _ = call(capfd, home, peer, "show", "K7M2Q9XD")
    assert (code, document["approval_id"]) == (0, "k7m2q9xd")


def test_a_beginning_means_the_one_that_waits(capfd: Any, home: Home) -> None:
    peer = Peer(row(), row(approval_id="k7aaaaaa", state="rejected"))
    code, document, _ = call(capfd, home, peer, "show", "k7")
    assert (code, document["approval_id"]) == (0, "k7m2q9xd")


def test_what_expired_is_shown_as_expired_before_anybody_recorded_it(
    capfd: Any, home: Home, key_options: tuple[str, ...]
) -> None:
    peer = Peer(row(expires_at_ns=5))
    _, document, _ = call(capfd, home, peer, "list")
    assert document["approvals"] == []
    _, document, _ = call(capfd, home, peer, "list", "--all")
    assert [r["state"] for r in document["approvals"]] == ["expired"]
    code, document, _ = call(capfd, home, peer, "accept", "k7", *key_options, "--reason", "x")
    assert (code, document["error"]["code"]) == (8, "approval.decided")
    assert peer.decided == []


@pytest.mark.parametrize("reason", [(), ("--reason", ""), ("--reason", "  ")])
def test_nothing_is_signed_without_a_reason(
    capfd: Any, home: Home, key_options: tuple[str, ...], reason: tuple[str, ...]
) -> None:
    peer = Peer(row())
    code, document, _ = call(capfd, home, peer, "accept", "k7", *key_options, *reason)
    assert (code, document["error"]["code"]) == (2, "approval.reason")
    assert peer.decided == []


def test_hostile_lines_of_a_diff_cannot_hide_on_the_terminal(capfd: Any, home: Home) -> None:
    diff = ["+ rows_max = 9\x1b[2K\r- nothing", "\u202eharmless"]
    fields = row()
    fields["diff"] = json.dumps(diff)
    fields["content_hash"] = approval_content_hash(
        fields["kind"], fields["subject"], fields["scope"], fields["content"], diff
    )
    with fake_sentinel(home, Peer(fields)):
        assert run(["--home", str(home.root), "approve", "show", "k7"]) == 0
    out, _ = capfd.readouterr()
    assert "\x1b" not in out
    assert "\r" not in out
    assert "\u202e" not in out


def completions(home: Home, typed: str) -> list[str]:
    context = click.Context(root)
    context.obj = Globals(home=str(home.root))
    items = approve.commands["accept"].params[0].shell_complete(context, typed)
    return [item.value for item in items]


def test_ids_of_what_waits_are_completed_and_no_sentinel_is_started_for_it(home: Home) -> None:
    assert completions(home, "k7") == []
    assert not home.root.exists()
    with fake_sentinel(home, Peer(row(), row(approval_id="aaaaaaaa"))):
        assert completions(home, "K7") == ["k7m2q9xd"]
    assert completions(home, "k7") == [], "a sentinel that is gone"
