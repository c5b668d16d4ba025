"""Self-attacks in real guests, and the policy that stands on them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest
from worker_world import World, home_at, rows

from casparian.domain.isolation import ATTACKS, SUCCEEDED, IsolationLevel, outcomes_of, repelled
from casparian.worker import self_attack
from casparian.worker.cancel import Cancellation, Cancelled
from casparian.worker.executor import Services
from casparian.worker.faults import JobFault
from casparian.worker.guest_process import Needs
from casparian.worker.isolation import Measured


@pytest.fixture
def world(tmp_path: Path, services: Services) -> World:
    return World(tmp_path, services)


@pytest.fixture(scope="module")
def measured(services: Services) -> Measured:
    cancellation = Cancellation()
    found = services.measured(cancellation)
    cancellation.close()
    return found


def children(services: Services) -> list[str]:
    zygote = services.guests.zygote_pid
    return Path(f"/proc/{zygote}/task/{zygote}/children").read_text(encoding="ascii").split()


def test_every_attack_has_a_proven_outcome(measured: Measured) -> None:
    assert list(measured.outcomes) == list(ATTACKS)
    unproven = {
        name: outcome
        for name, outcome in measured.outcomes.items()
        if outcome != SUCCEEDED and not repelled(outcome)
    }
    assert unproven == {}


def test_attacks_agree_with_the_walls_that_the_host_sees(measured: Measured) -> None:
    """Under a filter nothing works; without one a plain `open` does, and the attack must say so."""
    worked = [name for name, outcome in measured.outcomes.items() if outcome == SUCCEEDED]
    if measured.observed["seccomp"] == "filter":
        assert worked == []
    else:
        assert {"open_file", "stat_path", "tcp_connect", "fork", "execute"} <= set(worked)
    assert measured.outcomes["write_input"] == "denied EBADF"
    assert repelled(measured.outcomes["allocate"])  # the memory limit stands everywhere


def test_level_is_full_exactly_when_nothing_but_a_second_wall_is_missing(
    measured: Measured,
) -> None:
    verdict = measured.verdict
    first = [wall for wall in verdict.missing if wall not in ("landlock", "namespaces")]
    assert (verdict.level is IsolationLevel.FULL) == (first == [])


def test_attacks_leave_nothing_behind(services: Services, measured: Measured) -> None:
    del measured
    zygote = services.guests.zygote_pid
    descriptors = len(os.listdir("/proc/self/fd"))
    cancellation = Cancellation()
    self_attack.measure(services.guests, cancellation)
    cancellation.close()
    assert children(services) == []
    assert services.guests.zygote_pid == zygote
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_they_run_once_for_a_worker(world: World, services: Services, measured: Measured) -> None:
    world.source(b"one\n")
    receipt = world.run()
    assert services.measured(Cancellation()) is measured
    assert outcomes_of(receipt.isolation["self_attack_outcomes"]) == measured.outcomes
    assert receipt.isolation["level"] == measured.verdict.level


def test_a_job_that_is_cancelled_meanwhile_ends_and_the_next_one_measures(tmp_path: Path) -> None:
    services = Services(home_at(tmp_path))
    try:
        cancellation = Cancellation()
        cancellation.set()
        with pytest.raises(Cancelled):
            services.measured(cancellation)
        assert children(services) == []
        assert services.measured(Cancellation()).outcomes
    finally:
        services.close()


def test_a_guest_that_somebody_kills_proves_nothing_and_is_tried_again(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    attack = self_attack._Attacker.attack

    def kill_first(
        self: self_attack._Attacker, index: int, name: str, bait: self_attack.Bait
    ) -> str:
        if len(killed) < 2:
            killed.append(self._process.pid)
            os.kill(self._process.pid, signal.SIGKILL)
        return attack(self, index, name, bait)

    monkeypatch.setattr(self_attack._Attacker, "attack", kill_first)
    found = self_attack.measure(services.guests, Cancellation())
    assert len(killed) == 2
    assert not [o for o in found.outcomes.values() if o.startswith("unproven")]


def test_guests_that_somebody_always_kills_are_a_passing_fault(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = self_attack._Attacker.attack

    def kill(self: self_attack._Attacker, index: int, name: str, bait: self_attack.Bait) -> str:
        os.kill(self._process.pid, signal.SIGKILL)
        return attack(self, index, name, bait)

    monkeypatch.setattr(self_attack._Attacker, "attack", kill)
    with pytest.raises(JobFault) as caught:
        self_attack.measure(services.guests, Cancellation())
    assert (caught.value.code, caught.value.transient) == ("guest.killed", True)
    assert children(services) == []


# -- the policy ------------------------------------------------------------------------------------


TELLTALE = """
    import os
    def parse(ctx):
        yield from ()
    print("the parser was loaded", flush=True)
"""


def lowered(services: Services, measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    """This worker's guests could reach the network."""
    worse = msgspec.structs.replace(
        measured, outcomes=measured.outcomes | {"tcp_connect": SUCCEEDED}
    )
    monkeypatch.setattr(services, "_measured", {(Needs(), False): worse})


def test_a_guest_below_the_minimum_never_sees_the_job(
    world: World, services: Services, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered(services, measured, monkeypatch)
    world.parser(TELLTALE)
    world.source(b"one\n")
    receipt = world.run(min_isolation=IsolationLevel.FULL)
    assert (receipt.code, receipt.transient) == ("isolation.too_low", False)
    assert "attack:tcp_connect" in receipt.message or "and" in receipt.message
    assert receipt.sources == ()
    assert receipt.files == ()
    assert "the parser was loaded" not in receipt.guest_log
    assert world.staged() == []
    assert receipt.isolation["level"] == "reduced"
    assert "attack:tcp_connect" in receipt.isolation["missing"]
    assert children(services) == []


@pytest.mark.parametrize("minimum", [IsolationLevel.REDUCED, IsolationLevel.NONE])
def test_the_same_guest_runs_when_the_policy_accepts_it_and_the_receipt_says_so(
    world: World,
    services: Services,
    measured: Measured,
    monkeypatch: pytest.MonkeyPatch,
    minimum: IsolationLevel,
) -> None:
    lowered(services, measured, monkeypatch)
    world.source(b"one\n")
    receipt = world.run(min_isolation=minimum)
    assert receipt.code is None
    assert [row["text"] for row in rows(receipt, "lines")] == ["one"]
    assert receipt.isolation["level"] == "reduced"


def test_a_guest_that_is_worse_than_the_ones_that_attacked_is_refused(
    world: World, services: Services, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attackers may have been confined: each guest of a job is looked at all the same."""
    best = Measured(
        claimed={"landlock": "abi 7"},
        observed={
            "seccomp": "filter",
            "no_new_privs": "yes",
            "capabilities": "none",
            "user": "uid 65534",
        },
        outcomes=dict.fromkeys(ATTACKS, "denied EPERM"),
    )
    monkeypatch.setattr(services, "_measured", {(Needs(), False): best})
    monkeypatch.setattr(
        "casparian.worker.isolation.observe", lambda _: best.observed | {"user": "uid 0"}
    )
    del measured
    world.source(b"one\n")
    receipt = world.run(min_isolation=IsolationLevel.FULL)
    assert receipt.code == "isolation.too_low"
    assert "user" in receipt.message
    assert world.staged() == []


def test_the_default_of_a_dispatch_is_full(world: World) -> None:
    world.source(b"one\n")
    fields = msgspec.structs.asdict(world.dispatch())
    del fields["min_isolation"]
    assert type(world.dispatch())(**fields).min_isolation is IsolationLevel.FULL
