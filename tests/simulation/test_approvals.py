"""Approvals hold in every history, wrong products are found, and histories reach what they are about."""

from __future__ import annotations

import pytest

from casparian.protocol import control
from tests.simulation import approvals
from tests.simulation.invariants import Violation

SEEDS = 600


def test_no_effect_without_an_acceptance_in_any_history() -> None:
    reached: set[str] = set()
    for seed in range(SEEDS):
        try:
            world = approvals.history(seed)
        except Violation as error:
            pytest.fail(f"seed {seed}: {error}")
        reached |= {approval.state.value for approval in world.store.approvals.values()}
        reached |= {"booted again" for _ in range(world.boots - 3)}
        replies = [reply for client in world.clients.values() for _, reply in client.told]
        reached |= {reply.code for reply in replies if isinstance(reply, control.Failure)}
    assert reached >= {
        *("pending", "accepted", "rejected", "withdrawn", "superseded", "expired"),
        *("approval.voted", "approval.decided", "approval.expired", "booted again"),
    }


@pytest.mark.parametrize("wrong", [approvals.NO_QUEUE, approvals.APART])
def test_a_wrong_product_is_found(wrong: str) -> None:
    for seed in range(SEEDS):
        try:
            approvals.history(seed, wrong=wrong)
        except Violation:
            approvals.history(seed)  # the right one keeps it in the same history
            return
    pytest.fail(f"`{wrong}` was not found in {SEEDS} histories")
