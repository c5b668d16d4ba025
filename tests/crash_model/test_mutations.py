"""The model itself is tested: whatever is taken out of the protocol, or done in the wrong order, it notices."""

from __future__ import annotations

import pytest

from tests.crash_model.explore import explore
from tests.crash_model.mutations import MUTATIONS, Mutation


@pytest.mark.sampled(4)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_is_found_or_makes_no_difference(mutation: Mutation) -> None:
    report = explore(
        mutation.scenario,
        mutation.machine,
        drop_sync=mutation.drop_sync,
        crashes_max=mutation.crashes,
        first_crash=mutation.first_crash,
        stop_on=mutation.expect,
    )
    if mutation.expect is None:
        assert report.clean, report.examples
        assert mutation.why
    else:
        assert mutation.expect in report.violations, report.violations
