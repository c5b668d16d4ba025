"""No byte of a signed document can be changed, and no bytes at all make the program stumble."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian.errors import CasparianError
from casparian.trust import documents, package, state
from casparian.trust.decisions import (
    sign_decision,
    verify_decision,
)
from casparian.trust.keys import (
    PrivateKey,
    import_public,
)
from casparian.trust.origin import Origin
from casparian.trust.verify import (
    verify_parser,
)
from tests.factories.trust import (
    DECISION,
    EXPECTED,
    FILES,
    NOW,
    QUICK,
    Organisation,
    key,
    statement_for,
)


@pytest.fixture(scope="module")
def lab():
    return Organisation()


def verify(lab, files, statement, **more):
    trusted = more.pop("trusted", lab.state)
    values = {"origin": Origin.DEPLOYED, "deploying": True, "now_ns": NOW, **more}
    release = values.pop("release", lab.release_key)
    return verify_parser(trusted, files, statement, release, **values)


# --- every byte


def refused_with_every_flip(raw, check, *, stride=1, bits=(0, 5, 7)):
    """Flip bits of the bytes one after another; each time `check` must refuse."""
    for position in range(0, len(raw), stride):
        for bit in bits:
            flipped = bytearray(raw)
            flipped[position] ^= 1 << bit
            try:
                check(bytes(flipped))
            except CasparianError:
                continue
            near = raw[max(0, position - 20) : position + 20]
            pytest.fail(f"byte {position}, bit {bit} near {near!r} can be changed")


def test_no_byte_of_a_statement_can_be_changed(lab):
    raw = statement_for(FILES, lab.alice)
    refused_with_every_flip(raw, lambda flipped: verify(lab, FILES, flipped))


def test_no_byte_of_a_policy_can_be_changed(lab):
    raw = lab.policy(2)
    refused_with_every_flip(raw, lambda flipped: state.with_policy(lab.state, flipped, NOW))


def test_no_byte_of_a_root_can_be_changed(lab):
    refused_with_every_flip(
        lab.root_raw, lambda flipped: state.with_root(state.TrustState(), flipped)
    )


def test_no_byte_of_the_next_root_can_be_changed(lab):
    new = key("root 4", "holder 4")
    raw = lab.root(version=2, keys=[*lab.root_keys[:2], new], signers=[*lab.root_keys[:2], new])
    assert state.with_root(lab.state, raw).root.version == 2
    least = lab.root(version=2, keys=[*lab.root_keys[:2], new], signers=lab.root_keys[:2])
    refused_with_every_flip(
        least, lambda flipped: state.with_root(lab.state, flipped), stride=3, bits=(0, 5)
    )


def test_no_byte_of_a_package_can_be_changed(lab):
    raw = package.pack_bytes(FILES, statement_for(FILES, lab.alice))

    def check(flipped):
        verify(lab, *package.parse_package(flipped))

    check(raw)
    refused_with_every_flip(raw, check, bits=(0, 6))


def test_no_byte_of_a_decision_can_be_changed(lab):
    raw = sign_decision(DECISION, lab.alice)
    assert verify_decision(lab.state, raw, EXPECTED, NOW).holders == ("alice",)
    refused_with_every_flip(raw, lambda flipped: verify_decision(lab.state, flipped, EXPECTED, NOW))


def test_no_byte_of_a_key_file_can_be_changed():
    raw = key("alice").sealed("a passphrase", kdf=QUICK)
    assert PrivateKey.opened(raw, "a passphrase").public == key("alice").public
    refused_with_every_flip(
        raw[:-1], lambda flipped: PrivateKey.opened(flipped + b"\n", "a passphrase")
    )


# --- hypothesis: documents of any shape end as an error of ours, never as a fault of the program

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
READERS = {
    "root": lambda lab, raw: state.with_root(state.TrustState(), raw),
    "policy": lambda lab, raw: state.with_policy(lab.state, raw, NOW),
    "statement": lambda lab, raw: verify(lab, FILES, raw),
    "package": lambda lab, raw: package.parse_package(raw),
    "decision": lambda lab, raw: verify_decision(lab.state, raw, EXPECTED, NOW),
    "key": lambda lab, raw: PrivateKey.opened(raw, "x"),
    "public key": lambda lab, raw: import_public(raw),
}


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=60, deadline=None)
@given(raw=st.binary(max_size=2_000) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_refused(lab, reader, raw):
    with pytest.raises(CasparianError):
        READERS[reader](lab, raw)


def paths_in(document, before=()):
    """Every place in a document."""
    items = (
        document.items() if isinstance(document, dict)
        else enumerate(document) if isinstance(document, list) else ()
    )  # fmt: skip
    for name, value in items:
        yield (*before, name)
        yield from paths_in(value, (*before, name))


@pytest.mark.parametrize("kind", ["root", "policy", "statement"])
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_value_put_anywhere_is_refused(lab, kind, data):
    raw = {
        "root": lab.root_raw,
        "policy": lab.policy(2),
        "statement": statement_for(FILES, lab.alice),
    }[kind]
    document = json.loads(raw)
    path = data.draw(st.sampled_from(list(paths_in(document))))
    place = document
    for name in path[:-1]:
        place = place[name]
    old = place[path[-1]]
    value = data.draw(JSON.filter(lambda v: v != old))
    place[path[-1]] = value
    try:
        changed = documents.encode(document)
    except ValueError:  # NaN has no spelling
        return
    with pytest.raises(CasparianError):
        READERS[kind](lab, changed)


@settings(max_examples=100, deadline=None)
@given(
    files=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,8}(/[a-z][a-z0-9_]{0,8}){0,3}\.py", fullmatch=True),
        st.binary(max_size=1_500),
        min_size=1,
        max_size=6,
    )
)
def test_a_package_gives_back_what_was_packed(files):
    raw = package.pack_bytes(files, b"{}")
    assert package.parse_package(raw) == (files, b"{}")
    assert len(raw) % 512 == 0
