"""The level of a guest: a rule over what the host saw and what the self-attacks showed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian.appliance import doctor_isolation
from casparian.domain.isolation import (
    ATTACKS,
    SUCCEEDED,
    IsolationLevel,
    judge,
    outcomes_of,
    outcomes_text,
    repelled,
)
from casparian.guest import self_attack as guest_side
from casparian.worker import isolation, self_attack
from casparian.worker.faults import Exit, JobFault

CLAIMED = {"landlock": "abi 7", "namespaces": "net ipc uts mnt", "seccomp": "sealed x86_64"}
OBSERVED = {
    "seccomp": "filter",
    "no_new_privs": "yes",
    "capabilities": "none",
    "user": "uid 65534",
}
REPELLED = dict.fromkeys(ATTACKS, "denied EPERM") | {"fork": "killed SIGSYS"}
EVERY_ATTACK = tuple(f"attack:{name}" for name in ATTACKS)
FULL, REDUCED, NONE = IsolationLevel.FULL, IsolationLevel.REDUCED, IsolationLevel.NONE

# name -> (claimed, observed, outcomes), level, what is missing
RULE = {
    "everything stands": ((CLAIMED, OBSERVED, REPELLED), FULL, ()),
    "no Landlock": (
        (CLAIMED | {"landlock": "absent: ENOSYS"}, OBSERVED, REPELLED),
        FULL,
        ("landlock",),
    ),
    "no namespaces": (
        (CLAIMED | {"namespaces": "refused: EPERM"}, OBSERVED, REPELLED),
        FULL,
        ("namespaces",),
    ),
    "neither second wall": (({}, OBSERVED, REPELLED), FULL, ("landlock", "namespaces")),
    "no filter, whatever the guest says": (
        (CLAIMED, OBSERVED | {"seccomp": "no"}, REPELLED),
        REDUCED,
        ("seccomp",),
    ),
    "strict mode is not our filter": (
        (CLAIMED, OBSERVED | {"seccomp": "strict"}, REPELLED),
        REDUCED,
        ("seccomp",),
    ),
    "may gain privileges": (
        (CLAIMED, OBSERVED | {"no_new_privs": "no"}, REPELLED),
        REDUCED,
        ("no_new_privs",),
    ),
    "root": ((CLAIMED, OBSERVED | {"user": "uid 0"}, REPELLED), REDUCED, ("user",)),
    "a capability": (
        (CLAIMED, OBSERVED | {"capabilities": "CapEff 0000000000000400"}, REPELLED),
        REDUCED,
        ("capabilities",),
    ),
    "one attack worked": (
        (CLAIMED, OBSERVED, REPELLED | {"tcp_connect": SUCCEEDED}),
        REDUCED,
        ("attack:tcp_connect",),
    ),
    "one attack gave no answer": (
        (CLAIMED, OBSERVED, REPELLED | {"fork": "unproven no answer"}),
        REDUCED,
        ("attack:fork",),
    ),
    "one attack was left out": (
        (CLAIMED, OBSERVED, {k: v for k, v in REPELLED.items() if k != "execute"}),
        REDUCED,
        ("attack:execute",),
    ),
    "no attack at all": ((CLAIMED, OBSERVED, {}), REDUCED, EVERY_ATTACK),
    "attacks were not run": ((CLAIMED, OBSERVED, None), REDUCED, ("self_attacks",)),
    "the host saw nothing": (
        (CLAIMED, {}, REPELLED),
        NONE,
        ("seccomp", "no_new_privs", "capabilities", "user"),
    ),
    "a claim alone": (
        (CLAIMED | OBSERVED, {}, None),
        NONE,
        ("seccomp", "no_new_privs", "capabilities", "user", "self_attacks"),
    ),
    "no wall for system calls": (
        (CLAIMED, OBSERVED | {"seccomp": "no", "no_new_privs": "no"}, REPELLED),
        NONE,
        ("seccomp", "no_new_privs"),
    ),
}


@pytest.mark.parametrize("case", RULE)
def test_the_level_follows_from_what_the_host_saw(case: str) -> None:
    evidence, level, missing = RULE[case]
    verdict = judge(*evidence)
    assert (verdict.level, verdict.missing) == (level, missing)


@pytest.mark.parametrize("minimum", IsolationLevel)
@pytest.mark.parametrize("level", IsolationLevel)
def test_a_level_below_the_minimum_is_refused_and_says_what_is_missing(
    level: IsolationLevel, minimum: IsolationLevel
) -> None:
    order = [NONE, REDUCED, FULL]
    verdict = judge({}, OBSERVED if level is FULL else {}, REPELLED)
    verdict = type(verdict)(level=level, missing=("seccomp", *EVERY_ATTACK))
    if order.index(level) >= order.index(minimum):
        isolation.require(verdict, minimum)
        return
    with pytest.raises(JobFault) as caught:
        isolation.require(verdict, minimum)
    fault = caught.value
    assert (fault.code, fault.transient) == ("isolation.too_low", False)
    assert "seccomp" in fault.message
    assert f"`{minimum}`" in fault.message
    assert "min_isolation" in fault.message
    assert len(fault.message) < 1000


OUTCOMES = {
    # what the guest said, how it ended, what the host sees -> outcome
    "denied": (("denied EPERM", None, None), "denied EPERM"),
    "done": (("done", None, None), SUCCEEDED),
    "done, and the host sees it": (("done", None, True), SUCCEEDED),
    "done in a world of its own": (("done", None, False), "denied no effect on the host"),
    "a lie": (("denied EPERM", None, True), SUCCEEDED),
    "killed, but the effect is there": ((None, Exit(status=signal.SIGSYS), True), SUCCEEDED),
    "killed by the filter": ((None, Exit(status=signal.SIGSYS), False), "killed SIGSYS"),
    "killed by the filter, core flag": (
        (None, Exit(status=signal.SIGSYS | 0x80), None),
        "killed SIGSYS",
    ),
    "crashed": ((None, Exit(status=signal.SIGSEGV), None), "unproven died of signal 11"),
    "killed from outside": ((None, Exit(status=signal.SIGKILL), None), "unproven died of signal 9"),
    "became another program": ((None, Exit(status=93 << 8), None), SUCCEEDED),
    "ended": ((None, Exit(status=0), None), "unproven exit 0"),
    "zygote died": ((None, Exit(status=None), None), "unproven the zygote died"),
    "hung": ((None, None, None), "unproven no answer"),
    "hung and killed by us": (
        (None, Exit(status=signal.SIGKILL, killed=True), None),
        "unproven no answer",
    ),
    "a broken attack": (("unproven EINVAL", None, None), "unproven EINVAL"),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_what_the_host_sees_counts_more_than_what_the_guest_says(case: str) -> None:
    (said, end, effect), expected = OUTCOMES[case]
    assert self_attack.outcome_of(said, end, effect=effect) == expected


def test_only_a_wall_that_answered_repels() -> None:
    assert [repelled(text) for text in ("denied EPERM", "killed SIGSYS")] == [True, True]
    assert not any(repelled(text) for text in (SUCCEEDED, "unproven exit 0", "not run", ""))


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.dictionaries(
        st.sampled_from(sorted(ATTACKS)), st.sampled_from(sorted({v[1] for v in OUTCOMES.values()}))
    )
)
def test_the_receipts_line_reads_back(outcomes: dict[str, str]) -> None:
    assert outcomes_of(outcomes_text(outcomes)) == outcomes


def test_each_attack_has_code_and_each_code_has_an_attack() -> None:
    assert sorted(guest_side.NAMES) == sorted(ATTACKS)


def test_a_receipts_record_carries_level_walls_and_attacks() -> None:
    verdict, record = isolation.judged(CLAIMED, OBSERVED, REPELLED | {"fork": SUCCEEDED})
    assert record["level"] == verdict.level == "reduced"
    assert record["missing"] == "attack:fork"
    assert record["self_attacks"] == f"{len(ATTACKS) - 1} of {len(ATTACKS)} repelled"
    assert outcomes_of(record["self_attack_outcomes"])["fork"] == SUCCEEDED
    assert record["seccomp"] == "filter"
    assert record["guest_says_seccomp"] == "sealed x86_64"


def test_a_guest_cannot_claim_a_level() -> None:
    _, record = isolation.judged(CLAIMED | {"level": "full", "missing": "nothing"}, {}, {})
    assert record["level"] == "none"
    assert "seccomp" in record["missing"]


def test_root_in_any_of_its_user_ids_is_root() -> None:
    observed = isolation.observe(os.getpid())
    ids = Path("/proc/self/status").read_text(encoding="ascii").split("Uid:")[1].split()[:4]
    assert observed["user"] == ("uid 0" if "0" in ids else f"uid {ids[1]}")
    assert observed["capabilities"]


def test_the_bait_sees_each_effect(tmp_path: Path) -> None:
    """The attacks are carried out here, by this process, which nothing confines."""
    with self_attack.Bait() as bait:
        looked_at = sorted(name for name in ATTACKS if bait.effect(name) is not None)
        assert looked_at == [
            "change_mode",
            "create_file",
            "remove_file",
            "tcp_connect",
            "udp_send",
            "unix_connect",
            "write_input",
        ]
        for name in looked_at:
            bait.lay()
            assert bait.effect(name) is False, name
            path = os.path.join(bait.directory, guest_side.READABLE)
            descriptor = os.open(path, os.O_RDWR)
            assert guest_side.attack(name, bait.config(), descriptor) == "done"
            os.close(descriptor)
            assert bait.effect(name) is True, name
    assert not os.path.exists(os.path.dirname(bait.directory))


DOCTOR = {
    "full": (RULE["everything stands"][0], FULL, "ok", "ok"),
    "reduced, refused": (RULE["one attack worked"][0], FULL, "fail", "fail"),
    "reduced, accepted": (RULE["one attack worked"][0], REDUCED, "warn", "warn"),
    "root, refused": (RULE["root"][0], FULL, "fail", "ok"),
}


@pytest.mark.parametrize("case", DOCTOR)
def test_doctor_fails_where_policy_would_refuse(case: str) -> None:
    evidence, minimum, level_status, network_status = DOCTOR[case]
    claimed, observed, outcomes = evidence
    assert outcomes is not None
    _, record = isolation.judged(claimed, observed, outcomes)
    lines = {line.check: line for line in doctor_isolation.checks(record, minimum)}
    assert lines["isolation"].status == level_status
    assert (lines["isolation"].hint is None) == (level_status == "ok")
    network = lines["isolation: network"]
    assert network.status == network_status
    assert [row["attack"] for row in network.details] == ["tcp_connect", "udp_send", "unix_connect"]
    shown = {
        row["attack"]: row["outcome"]
        for line in lines.values()
        for row in line.details
        if "attack" in row
    }
    assert shown == dict(outcomes)
    assert lines["isolation: kernel"].message
