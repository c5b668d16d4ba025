"""Outputs that a job has no task for until a row of them comes."""

from __future__ import annotations

from typing import Final

from casparian.contracts.wide import wide_contracts, wide_numbers
from casparian.domain.contracts import OutputContract
from casparian.protocol.identity import contract_hash
from casparian.protocol.worker import Dispatch, OutputTask


class SparseOutputs:
    """The wide tables of one job, by number. Nothing is made of those that no row comes for."""

    def __init__(self, dispatch: Dispatch) -> None:
        parser = dispatch.parser
        self._sparse: Final = dispatch.sparse
        self._allowed = (
            wide_numbers(parser.kind, parser.entry, parser.config)
            if dispatch.sparse is not None
            else frozenset()
        )

    def contract(self, number: int) -> OutputContract | None:
        """The contract of a table; `None` when the job has no such table."""
        if number not in self._allowed or self._sparse is None:
            return None
        listed = wide_contracts()[number]
        return self._sparse.tightened.get(listed.table, listed)

    def task(self, number: int) -> OutputTask:
        """What a table's stage needs to know."""
        contract = self.contract(number)
        assert contract is not None
        assert self._sparse is not None
        place = self._sparse.elsewhere.get(contract.table, self._sparse.place)
        return OutputTask(
            contract=contract,
            contract_hash=contract_hash(contract),
            sink=place.sink,
            stage=place.stage,
        )
