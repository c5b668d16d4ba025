"""Roots, policies and parsers that travel on a stick, with a home that has a sentinel."""

from __future__ import annotations

import pytest

from casparian.appliance.stick import acceptance
from casparian.control import autostart, stick_home
from casparian.control.client import is_answering
from casparian.trust import state as states
from casparian.trust.verdict import release_key as own_key
from tests.factories.laboratory import Laboratory, deploy
from tests.factories.sticks import OTHER_KEY, make_stick, release_key

RELEASE = own_key().public


@pytest.fixture
def laboratory(tmp_path):
    (tmp_path / "lab").mkdir()
    return Laboratory(tmp_path / "lab")


@pytest.fixture
def home(place, laboratory):
    """A home that trusts the laboratory's root and first policy; whatever sentinel a test needs is stopped at the end."""
    trusting(place.home, laboratory.root, laboratory.policy())
    yield place.home
    autostart.stop(place.home)


def trusting(home, *documents):
    """Bring documents into force as a sentinel's files have it, without one."""
    state = states.load(home.trust)
    for raw in documents:
        is_root = b'"_type":"root"' in raw
        now_ns = states.now(state)
        state = states.with_root(state, raw) if is_root else states.with_policy(state, raw, now_ns)
    states.save(home.trust, state)


def test_parsers_and_policy_alone_are_a_stick_too(place, laboratory, home, tmp_path):
    package = laboratory.signed(laboratory.parser())
    bad = laboratory.signed(laboratory.parser(name="acme.other"), keys=[laboratory.eve])
    stick = make_stick(
        tmp_path / "stick", kind="trust", release=1,
        parsers={package.name: package.read_bytes(), bad.name: bad.read_bytes()},
        roots=[laboratory.root], policy=laboratory.policy(2),
    )  # fmt: skip
    done = place.apply(stick, store=None)
    assert states.load(home.trust).policy.version == 2
    outcomes = {outcome.package: outcome for outcome in done.parsers}
    assert outcomes[package.name].outcome == "deployed"
    assert outcomes[bad.name].outcome == "refused"
    assert outcomes[bad.name].code == "trust.unknown_signer"
    assert outcomes[bad.name].hint
    assert not place.checklist.good
    again = place.apply(stick, store=None)
    assert {o.package: o.outcome for o in again.parsers} == {
        package.name: "present",
        bad.name: "refused",
    }
    assert "not newer" in again.trust


def test_a_retired_parser_stays_retired_when_its_stick_comes_again(
    place, laboratory, home, tmp_path
):
    from casparian import ids
    from casparian.protocol import control

    package = laboratory.signed(laboratory.parser())
    with autostart.connect(home) as client:
        deploy(client, package)
        client.ask(
            control.Retire(request_id=ids.new_request_id(), parser="acme.lines", version="1.0.0"),
            control.Done,
        )
    stick = make_stick(
        tmp_path / "stick", kind="trust", parsers={package.name: package.read_bytes()}
    )
    (outcome,) = place.apply(stick, store=None).parsers
    assert outcome.outcome == "present"


def test_a_check_of_such_a_stick_changes_nothing(place, laboratory, home, tmp_path):
    stick = make_stick(
        tmp_path / "stick", kind="trust", roots=[laboratory.root], policy=laboratory.policy(2)
    )
    assert place.checked(stick, store=None) is None
    assert states.load(home.trust).policy.version == 1


def test_without_a_root_nothing_is_trusted_because_it_came_first(place, laboratory, tmp_path):
    package = laboratory.signed(laboratory.parser())
    stick = make_stick(
        tmp_path / "stick", kind="trust", roots=[laboratory.root], policy=laboratory.policy(),
        parsers={package.name: package.read_bytes()},
    )  # fmt: skip
    done = place.apply(stick, store=None)
    assert states.load(place.home.trust).root is None
    (outcome,) = done.parsers
    assert (outcome.outcome, outcome.code) == ("refused", "trust.no_root")
    assert "trust init" in done.trust
    assert "trust init" in outcome.hint
    assert not is_answering(place.home)


def test_the_release_key_is_the_policys(place, laboratory, home, tmp_path):
    """Once a policy is in force the key that is compiled in counts only where it is listed."""
    stick = make_stick(tmp_path / "one")
    assert place.checked(stick) is None
    other = release_key(OTHER_KEY)
    foreign = make_stick(tmp_path / "two", key=other)
    assert place.checked(foreign) == "stick.key"
    policy = laboratory.policy(
        2,
        keys=[(laboratory.alice.public, "alice"), (other.public, "release")],
        release_keyids=[other.public.keyid],
    )
    trusting(home, policy)
    assert place.checked(foreign) is None
    assert place.refusal(stick) == "stick.key"


def test_a_revoked_release_key_is_refused_whatever_was_typed(place, laboratory, home, tmp_path):
    stick = make_stick(tmp_path / "one")
    trusting(home, laboratory.policy(2, revoked_keys=[RELEASE.keyid]))
    assert place.checked(stick) == "stick.revoked_key"
    assert place.refusal(stick) == "stick.revoked_key"
    assert place.refusal(stick, fingerprint=stick.fingerprint) == "stick.revoked_key"
    assert place.store.names() == []


def test_a_policy_on_the_very_stick_that_revokes_its_key_is_taken_and_the_rest_refused(
    place, laboratory, home, tmp_path
):
    policy = laboratory.policy(2, revoked_keys=[RELEASE.keyid])
    package = laboratory.signed(laboratory.parser())
    stick = make_stick(
        tmp_path / "one",
        roots=[laboratory.root],
        policy=policy,
        parsers={package.name: package.read_bytes()},
    )
    assert place.checked(stick) == "stick.revoked_key"
    assert states.load(home.trust).policy.version == 1
    assert place.refusal(stick) == "stick.revoked_key"
    assert states.load(home.trust).policy.version == 2
    assert place.store.names() == []
    assert not list(home.artifacts.glob("*/parser.toml"))


def test_a_newer_policy_on_the_stick_may_name_its_new_key(place, laboratory, home, tmp_path):
    other = release_key(OTHER_KEY)
    policy = laboratory.policy(
        2,
        keys=[(laboratory.alice.public, "alice"), (other.public, "release")],
        release_keyids=[other.public.keyid],
    )
    stick = make_stick(tmp_path / "one", key=other, policy=policy)
    assert place.checked(stick) is None
    place.apply(stick)
    assert place.store.current == stick.name
    assert states.load(home.trust).policy.version == 2


def test_a_rollback_to_a_version_whose_key_was_revoked_since_is_refused(
    place, laboratory, home, tmp_path
):
    for n in (1, 2):
        place.apply(make_stick(tmp_path / f"s{n}", release=n))
    trusting(home, laboratory.policy(2, revoked_keys=[RELEASE.keyid]))
    with pytest.raises(Exception, match="revokes the key") as caught:
        place.roll_back()
    assert caught.value.code == "stick.revoked_key"


def test_a_policy_that_somebody_else_signed_stops_the_stick(place, laboratory, home, tmp_path):
    (tmp_path / "other").mkdir()
    other = Laboratory(tmp_path / "other")
    other.officer = other.eve
    stick = make_stick(tmp_path / "stick", policy=other.policy(5))
    assert place.refusal(stick) == "stick.trust"
    assert place.store.names() == []
    place.apply(stick, without_trust=True)
    assert place.store.current == stick.name
    assert states.load(home.trust).policy.version == 1


def test_two_policies_of_one_version_stop_the_stick(place, laboratory, home, tmp_path):
    stick = make_stick(tmp_path / "stick", policy=laboratory.policy(1, min_runtime="0.0.1"))
    assert place.refusal(stick) == "stick.trust"


def test_a_home_that_lost_its_policy_takes_no_stick(place, laboratory, home, tmp_path):
    autostart.stop(home)
    (home.trust / "policy.json").unlink()
    stick = make_stick(tmp_path / "stick")
    assert place.refusal(stick) == "stick.policy"
    state = acceptance.load(home)
    assert state.floors.policy_version == 1


def test_a_sentinel_that_runs_until_stopped_is_started_again_by_the_new_program(
    place, home, tmp_path, monkeypatch
):
    woken = []
    monkeypatch.setattr(stick_home.StickHome, "wake", lambda _self, program: woken.append(program))
    place.apply(make_stick(tmp_path / "one", release=1))
    assert woken == []  # a first installation has nothing to stop
    autostart.stop(home)
    autostart.start(home, on_demand=False).close()
    place.apply(make_stick(tmp_path / "two", release=2))
    assert woken == [f"{place.store.path}/current/bin/casparian"]
    assert not is_answering(home)
    bad = make_stick(tmp_path / "three", release=3)
    bad.write("README.txt", b"altered")
    assert place.refusal(bad) == "stick.sum"
    assert len(woken) == 1
